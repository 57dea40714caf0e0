"""One run: ``python -m bench.run PEER WORK FOLDER`` measures a workload in a fresh folder and prints JSON."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import uvloop

from bench import w1, w2, w3, w5, w6
from bench.process import LOAD_CORE, pin

Run = Callable[[Path], Awaitable[dict[str, Any]]]

RUNS: Final[dict[tuple[str, str], Run]] = {
    ("ours", "w1"): w1.ours,
    ("bare", "w1"): w1.bare,
    ("ours", "w2"): w2.ours,
    ("ours", "w2c"): w2.conflicts,
    ("ours", "w3"): w3.entries,
    ("ours", "w3b"): w3.documents,
    ("ours", "w5"): w5.crowd,
    ("ours", "w5s"): w5.stores,
    ("ours", "w6"): w6.ours,
}


async def run(peer: str, work: str, folder: Path) -> dict[str, Any]:
    """What a workload measured of a peer."""
    return await RUNS[peer, work](folder)


if __name__ == "__main__":
    pin(LOAD_CORE)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run(sys.argv[1], sys.argv[2], Path(sys.argv[3])))))
