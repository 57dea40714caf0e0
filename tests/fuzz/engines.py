"""How a target is fuzzed: guided by coverage where atheris is installed, else by the lines that Python tells of."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
MOST: Final = 4_096
"""Bytes of an input."""
SLOWEST_S: Final = 60
"""An input that takes longer hangs."""
GRACE_S: Final = 120
SMALL: Final = 512
"""Bytes of an input that is kept for the corpus."""


@dataclass(frozen=True)
class Fuzzed:
    """What a run of one target came to: inputs, what they reached (lines, or edges under atheris), what crashed it, and
    what it found on the way that reaches more than the inputs that it began with."""

    engine: str
    inputs: int
    reached: int
    crashes: tuple[bytes, ...]
    found: tuple[bytes, ...]


Engine = Callable[[str, float, list[bytes], int], Fuzzed]


def has_atheris() -> bool:
    """Whether atheris is installed."""
    return find_spec("atheris") is not None


def guided(name: str, seconds: float, corpus: list[bytes], seed: int) -> Fuzzed:
    """Fuzzes one target under atheris, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="crdtmed-fuzz-") as folder:
        inputs, crashes = Path(folder) / "inputs", Path(folder) / "crashes"
        inputs.mkdir()
        crashes.mkdir()
        for number, data in enumerate(corpus):
            (inputs / f"seed-{number}").write_bytes(data)
        command = [
            *(sys.executable, "-m", "tests.fuzz.guided", name, str(inputs)),
            *(f"-max_total_time={max(1, int(seconds))}", f"-max_len={MOST}", f"-timeout={SLOWEST_S}"),
            *(f"-seed={seed % (1 << 31) or 1}", f"-artifact_prefix={crashes}/", "-rss_limit_mb=4096"),
            "-print_final_stats=1",
        ]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds + GRACE_S,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise RuntimeError(f"{name} hangs: it went on {GRACE_S} s after its time") from late
        found = [path.read_bytes() for path in sorted(inputs.iterdir()) if not path.name.startswith("seed-")]
        crashed = tuple(path.read_bytes() for path in sorted(crashes.iterdir()))
        if done.returncode and not crashed:
            raise RuntimeError(f"{name}: atheris ended with {done.returncode}: {done.stderr[-2_000:]}")
        ran = re.findall(r"stat::number_of_executed_units:\s+(\d+)", done.stderr)
        reached = re.findall(r"\bcov: (\d+)", done.stderr)
        if crashed:
            print(done.stderr[-3_000:], flush=True)
    return Fuzzed(
        "atheris",
        int(ran[-1]) if ran else 0,
        int(reached[-1]) if reached else 0,
        crashed,
        tuple(data for data in found if len(data) <= SMALL),
    )
