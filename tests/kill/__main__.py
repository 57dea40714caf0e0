"""Kills relay and devices under load: ``python -m tests.kill --rounds 100``."""

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.kill.loop import run


def main() -> int:
    """Runs the loop; 1 where anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="crdtmed-kill-") as folder:
        outcome = asyncio.run(run(Path(folder), given.rounds, given.seed, lambda line: print(line, flush=True)))
    print(json.dumps({"seed": given.seed, **asdict(outcome)}))
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
