"""The operator at work: commands in this process, and a relay that serves in a process of its own."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest

from relay import cli
from relay.identity.keyring import new_secrets, write_secrets
from tests.relay.world import World, seeded

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command came to."""

    status: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """Its answer, of a command that was asked for JSON and did what it should."""
        assert self.status == 0, self
        return json.loads(self.out)

    @property
    def line(self) -> str:
        """The one line of a command that could not."""
        assert (self.status, self.out) == (1, ""), self
        [line] = self.err.splitlines()
        assert line.startswith("crdtmed-relay: ")
        return line.removeprefix("crdtmed-relay: ")


class Desk:
    """Commands on the relay of ``folder``."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._capsys = capsys
        self._patch = patch

    def run(self, *argv: object, stdin: str = "") -> Ran:
        """Runs a command."""
        self._patch.setattr(sys, "stdin", io.StringIO(stdin))
        self._capsys.readouterr()
        try:
            status = cli.main(["--folder", str(self.folder), *map(str, argv)])
        except SystemExit as left:
            status = left.code if isinstance(left.code, int) else 1
        out, err = self._capsys.readouterr()
        return Ran(status, out, err)

    def json(self, *argv: object, stdin: str = "") -> Any:
        """The answer of a command that works."""
        return self.run("--json", *argv, stdin=stdin).value


def world_in(folder: Path, seed: int = 7) -> World:
    """A world on the database of a relay's folder, with the keys file that goes with it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_secrets(folder / "relay.keys", new_secrets("relay-1", seeded(seed)), None, os.urandom)
    return World(folder / "relay.sqlite", seed)


@dataclass(slots=True)
class Served:
    """A relay in a process of its own."""

    process: "subprocess.Popen[str]"
    port: int = 0
    lines: list[str] = field(default_factory=list)
    reader: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where its HTTP side is."""
        return f"http://127.0.0.1:{self.port}"

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tells it to stop; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Waits for its end; its exit status."""
        status = self.process.wait(PATIENCE_S)
        if self.reader is not None:
            self.reader.join(PATIENCE_S)
        if self.process.stderr is not None:
            self.process.stderr.close()
        return status

    @property
    def log(self) -> list[dict[str, Any]]:
        """What it logged, line by line."""
        return [json.loads(line) for line in self.lines if not line.startswith("crdtmed-relay: ")]


def start(folder: Path, *more: object, **environment: str) -> Served:
    """Starts a relay on ``folder`` and waits until it listens, or has ended."""
    ready = folder.parent / f"{folder.name}.port"
    ready.unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "relay.cli", "--folder", folder, *map(str, more), "serve", "--port-file", ready],
        cwd=ROOT,
        env={**os.environ, "CRDTMED_RELAY_LISTEN_PORT": "0", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    served = Served(process)
    assert process.stderr is not None
    for line in process.stderr:
        served.lines.append(line.rstrip("\n"))
        if "listening on" in line:
            served.port = int(ready.read_text())
            served.reader = threading.Thread(target=_read_on, args=(process.stderr, served.lines), daemon=True)
            served.reader.start()
            break
    return served


def _read_on(stream: IO[str], lines: list[str]) -> None:
    lines.extend(line.rstrip("\n") for line in stream)


@contextmanager
def served(folder: Path, *more: object, **environment: str) -> Iterator[Served]:
    """A relay that serves for as long as the block lasts."""
    it = start(folder, *more, **environment)
    try:
        assert it.port, it.lines
        yield it
    except BaseException as error:
        error.add_note("the relay's last words:\n" + "\n".join(it.lines[-20:]))
        raise
    finally:
        it.stop()


def write(folder: Path, name: str, text: str) -> Path:
    """A file beside the relay's folder."""
    path = folder.parent / name
    path.write_text(text, encoding="utf-8")
    return path
