"""The day itself, played as ``make run`` plays it, in a process of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def play(*words: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Runs the day and gives what it said."""
    return subprocess.run(
        [sys.executable, "-m", "crdtmed.ward", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_a_small_ward_has_a_day_with_a_clean_balance(tmp_path: Path) -> None:
    done = play("--beds", "2", "--folder", str(tmp_path / "day"))
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "7 devices are enrolled",
        "Ada confirms and signs: accepted",
        "the sign is refused (alerts_open)",
        "Quentin unlocks Pia's till with his PIN, offline",
        "entered-in-error, entered-in-error",
        "into quarantine and is wiped",
        "lost 0, doubled 0",
        "the balance is clean",
    ):
        assert words in done.stdout, done.stdout
    assert not _processes(tmp_path)


def test_ctrl_c_leaves_no_process_and_stores_that_open(tmp_path: Path) -> None:
    folder = tmp_path / "day"
    process = subprocess.Popen(
        [sys.executable, "-m", "crdtmed.ward", "--beds", "2", "--folder", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "Ada writes" in line:
            process.send_signal(signal.SIGINT)
            break
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 130, rest
    assert "can be opened again" in rest
    assert "Traceback" not in rest
    assert not _processes(tmp_path)
    # The relay of that folder starts again, and everything in it is sound.
    environment = {**os.environ, "CRDTMED_RELAY_FOLDER": str(folder / "relay")}
    verify = subprocess.run(
        [sys.executable, "-m", "relay.cli", "verify"], env=environment, capture_output=True, text=True, check=False
    )
    assert "sound: True" in verify.stdout, verify.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--beds", "0"], "choose 1 to 200"),
        (["--orders", "nowhere"], "neither medication.csv"),
        (["--folder", str(ROOT / "crdtmed")], "is not empty"),
    ],
)
def test_a_wrong_call_gets_one_clear_line(words: list[str], says: str) -> None:
    done = play(*words)
    assert done.returncode == 1
    assert says in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def _processes(folder: Path) -> list[str]:
    """Processes whose environment names the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in environment:
                found.append(entry.name)
    return found
