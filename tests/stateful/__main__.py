"""A long search of the state machine: ``python -m tests.stateful --examples 500 --steps 30``."""

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
import time
import traceback
from pathlib import Path

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.stateful.machine import Machine
from tests.stateful.ward import make


def main() -> int:
    """Searches; 1 where something does not follow, with the steps that lead to it."""
    parser = argparse.ArgumentParser(prog="python -m tests.stateful")
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--shrink", action="store_true", help="look for the shortest steps that fail; takes long")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    phases = [Phase.generate, Phase.shrink] if given.shrink else [Phase.generate]
    search = settings(
        max_examples=given.examples,
        stateful_step_count=given.steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=phases,
        report_multiple_bugs=False,
    )
    started, failed = time.monotonic(), ""
    with tempfile.TemporaryDirectory(prefix="crdtmed-stateful-") as folder:
        Machine.template = asyncio.run(make(Path(folder) / "template"))
        Machine.base = Path(folder)
        try:
            run_state_machine_as_test(seed(given.seed)(Machine), settings=search)
        except Exception as error:  # noqa: BLE001 - whatever fails is what was searched for; it is told, with its steps
            failed = "\n".join(traceback.format_exception(error)[-60:])
    print(failed)
    told = {"seed": given.seed, "examples": Machine.examples, "steps": Machine.steps, "outcomes": Machine.judged}
    told["slowest_settling_s"] = round(Machine.slowest_s, 1)
    print(json.dumps({**told, "seconds": round(time.monotonic() - started), "failed": bool(failed)}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
