"""``python -m bench``: every workload, peers in turn, round after round; a table, and one JSON file."""

import argparse
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from bench import peers, report
from bench.process import SPREAD, python
from bench.run import RUNS

ALL_CORES: Final = "+"
"""Behind a workload's name: every server has all cores, not one of its own."""
WORKS: Final = ("w1", "w1+", "w2", "w2+", "w2c", "w3", "w3b", "w5", "w5s", "w6")
ALONE: Final = ("w5", "w5s", "w6")
"""Ours alone has these; beside other peers they are measured in the first round only."""
OWN: Final = ("ours", "bare")
RUN_S: Final = 300.0
LIBRARIES: Final = ("cryptography", "msgspec", "pycrdt", "sqlalchemy", "starlette", "uvicorn", "uvloop", "websockets")


def main() -> int:
    """Runs what the command line asks for; 1 where a run failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="how often everything is measured, in turn")
    parser.add_argument(
        "--works",
        default=",".join(WORKS),
        help=f"workloads, separated by commas; with {ALL_CORES} behind it, every server has all cores",
    )
    parser.add_argument("--peers", default="", help=f"other peers, separated by commas: {','.join(peers.NAMES)}")
    parser.add_argument("--out", type=Path, default=Path("bench-results.json"), help="the JSON file")
    parser.add_argument(
        "--table", type=Path, help="print the tables of an earlier run's JSON file, and measure nothing"
    )
    asked = parser.parse_args()
    if asked.table is not None:
        _print(json.loads(asked.table.read_text(encoding="utf-8")))
        return 0
    names = [*OWN, *filter(None, asked.peers.split(","))]
    works = asked.works.split(",")
    unknown = {_plain(work) for work in works} - set(WORKS) | set(names) - {*OWN, *peers.NAMES}
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}: workloads are {', '.join(WORKS)}")
    if names[len(OWN) :]:
        peers.install()
    made: dict[str, Any] = {"machine": machine(), "versions": versions(names), "runs": []}
    for number in range(asked.rounds):
        for work in works:
            if number and work in ALONE and len(names) > len(OWN):
                continue
            for peer in names:
                if (peer, _plain(work)) in RUNS or peers.has(peer, _plain(work)):
                    made["runs"].append(one(peer, work, number))
                    asked.out.write_text(json.dumps(made, indent=1), encoding="utf-8")
    _print(made)
    failed = [run for run in made["runs"] if "error" in run]
    for run in failed:
        print(f"failed: {run['peer']} {run['work']} round {run['round']}: {run['error']}", file=sys.stderr)
    return 1 if failed else 0


def one(peer: str, work: str, number: int) -> dict[str, Any]:
    """One run, in a process and a folder of its own."""
    began = time.monotonic()
    made: dict[str, Any] = {"peer": peer, "work": work, "round": number, "load_before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        plain = _plain(work)
        own = (peer, plain) in RUNS
        argv = python("bench.run", peer, plain, folder) if own else peers.command(peer, plain, Path(folder))
        env = os.environ | ({SPREAD: "1"} if work != plain else {})
        try:
            ran = subprocess.run(argv, capture_output=True, text=True, timeout=RUN_S, check=True, env=env)  # noqa: S603 - commands of ours alone
            made["found"] = json.loads(ran.stdout.splitlines()[-1])
        except subprocess.CalledProcessError as error:
            made["error"] = error.stderr.strip()[-2_000:]
        except subprocess.TimeoutExpired:
            made["error"] = f"took more than {RUN_S:.0f} s"
    print(f"{peer} {work} round {number}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return made


def _plain(work: str) -> str:
    return work.removesuffix(ALL_CORES)


def machine() -> dict[str, Any]:
    """Where and when."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": os.getloadavg()[0],
    }


def versions(names: list[str]) -> dict[str, str]:
    """What ran."""
    own = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    return own | {name: version(name) for name in LIBRARIES} | peers.versions(names)


def _print(made: dict[str, Any]) -> None:
    about = made["machine"]
    print(
        f"{about['date']}, {about['cores']} cores ({about['cpu']}), {about['memory_gb']} GB, {about['system']}, "
        f"load before {about['load_before']:.1f}\n"
    )
    print("Every server on one core, the load on another; where it says all cores, on the load's too.\n")
    print(", ".join(f"{name} {number}" for name, number in made["versions"].items()) + "\n")
    print(report.table(made["runs"]) + "\n")
    print(report.goals(made["runs"]))


if __name__ == "__main__":
    sys.exit(main())
