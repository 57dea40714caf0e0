"""The other peers: installed from their registries beside the repository's own files, and driven by scripts here."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
PLACE: Final = HERE.parent.parent / ".bench"
"""Where they are installed; git does not track it."""
NAMES: Final = ("jazz", "hocuspocus", "pycrdt")
WORKS: Final = ("w1", "w2", "w3", "w3b")
INSTALL_S: Final = 600.0


def install() -> None:
    """Installs every peer at the versions of ``package.json`` and ``requirements.txt``; does nothing where they are.

    Raises `subprocess.CalledProcessError` where npm or pip fails.
    """
    PLACE.mkdir(exist_ok=True)
    wanted = (HERE / "package.json").read_text() + (HERE / "requirements.txt").read_text()
    stamp = PLACE / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    (PLACE / "package.json").write_text((HERE / "package.json").read_text())
    commands: Sequence[Sequence[str]] = (
        ("npm", "install", "--no-audit", "--no-fund", "--loglevel=error"),
        (sys.executable, "-m", "venv", "venv"),
        ("venv/bin/python", "-m", "pip", "install", "--quiet", "-r", str(HERE / "requirements.txt")),
    )
    for command in commands:
        subprocess.run(command, cwd=PLACE, check=True, timeout=INSTALL_S)  # noqa: S603 - no words of others
    stamp.write_text(wanted)


def has(peer: str, work: str) -> bool:
    """Whether the peer is driven through the workload."""
    return peer in NAMES and work in WORKS


def command(peer: str, work: str, folder: Path) -> list[str]:
    """The command of one run: the load on its core; it starts the server on the other."""
    # Modules are looked for beside the script, so that it runs from where they are installed.
    for script in HERE.glob("*.mjs"):
        (PLACE / script.name).write_text(script.read_text())
    return ["taskset", "-c", "1", "node", str(PLACE / "load.mjs"), peer, work, str(folder), str(HERE)]


def versions(names: Sequence[str]) -> dict[str, str]:
    """The versions of the peers that run."""
    if not set(names) & set(NAMES):
        return {}
    asked = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)  # noqa: S607 - npm finds it the same way
    found = {"node": asked.stdout.strip()}
    pinned: dict[str, str] = json.loads((HERE / "package.json").read_text())["dependencies"]
    lines = (HERE / "requirements.txt").read_text().split()
    return found | pinned | dict(line.split("==", 1) for line in lines)
