"""Servers under measurement: each in a process and on a core of its own, with its counters read from ``/proc``.

With `SPREAD` in the environment a server has all cores, the load's with them.
"""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SERVER_CORE: Final = 0
LOAD_CORE: Final = 1
SPREAD: Final = "BENCH_SPREAD"
START_S: Final = 30.0
STOP_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs, and the folder that it keeps its files in."""

    pid: int
    port: int
    folder: Path


class NotStarted(RuntimeError):
    """A server did not listen in time; the message ends with what it wrote."""


def pin(core: int, pid: int = 0) -> None:
    """Keeps a process (this one for 0) on a core, if there are several."""
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(pid, {core})


def place_server() -> None:
    """Puts this process where servers are measured."""
    if os.environ.get(SPREAD):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    else:
        pin(SERVER_CORE)


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def free_port() -> int:
    """A port of loopback that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(argv: Sequence[str], folder: Path, port: int) -> Iterator[Server]:
    """Runs a server on the server's core, or all, until the block ends; raises `NotStarted`."""
    log = folder / "server.log"
    with log.open("ab") as out:
        child = subprocess.Popen(  # noqa: S603 - commands of the benchmark's own
            argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL, preexec_fn=place_server
        )
        try:
            _await(child, port, log)
            yield Server(child.pid, port, folder)
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _await(child: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and child.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.02)
    raise NotStarted(log.read_text(encoding="utf-8", errors="replace")[-2_000:])


def relay_command(folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """How the relay of a folder is started on a port, and with what in the environment."""
    return python("relay.cli", "--folder", str(folder), "serve"), {
        "CRDTMED_RELAY_LISTEN_PORT": str(port),
        "CRDTMED_RELAY_LOG_LEVEL": "warning",
    }


@contextlib.contextmanager
def relay(folder: Path, port: int | None = None) -> Iterator[Server]:
    """Runs the relay of a folder that was set up, as its operator would."""
    port = port or free_port()
    argv, environment = relay_command(folder, port)
    os.environ.update(environment)
    with running(argv, folder, port) as server:
        yield server


def family(pid: int) -> list[int]:
    """A process and all that it has started and that still run."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                found += family(int(child))
    return found


def cpu_s(pid: int) -> float:
    """Seconds that a process, its threads and its children have been on a core."""
    return sum(map(own_cpu_s, family(pid)))


def own_cpu_s(pid: int) -> float:
    """Seconds that a process and its threads have been on a core."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def memory_mb(pid: int, what: str = "VmRSS") -> float:
    """Resident memory of a process and its children in MB: ``VmRSS`` now, ``VmHWM`` at its peak."""
    return sum(_memory_mb(member, what) for member in family(pid))


def _memory_mb(pid: int, what: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def database_bytes(path: Path) -> int:
    """What the pages in use of an SQLite database take, whether they were checkpointed yet or not."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        ask = ("page_count", "freelist_count", "page_size")
        pages, free, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ask)
        return int((pages - free) * size)


def traffic(server: Server) -> tuple[int, int]:
    """Bytes of frames that a relay was sent and has sent, as it says itself."""
    ask = urllib.request.Request(f"http://127.0.0.1:{server.port}/metrics")
    with urllib.request.urlopen(ask, timeout=10) as answer:  # noqa: S310 - the server on loopback that this has started
        lines = answer.read().decode().splitlines()
    found = {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("crdtmed_bytes_total{")}
    return int(found['crdtmed_bytes_total{direction="in"}']), int(found['crdtmed_bytes_total{direction="out"}'])
