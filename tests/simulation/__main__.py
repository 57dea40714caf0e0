"""Plays many histories on all cores: ``python -m tests.simulation --seeds 500``.

``--from`` is the first seed; ``--seed N`` plays one and prints it, ``--keep 3,7`` with nothing but these operations.
The last line of the output is JSON.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.simulation.history import Result, play
from tests.simulation.many import many
from tests.simulation.plan import plan
from tests.simulation.shrink import shrunk


@dataclass
class Totals:
    """What all histories had."""

    seeds: int = 0
    device_hours: float = 0.0
    moves: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    signatures: Counter[str] = field(default_factory=Counter)
    failures: list[int] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Counts one history."""
        self.seeds += 1
        self.device_hours += result.device_hours
        self.moves += result.moves
        self.faults += result.faults
        self.verdicts += result.reasons
        self.signatures += result.signatures
        if result.complaints:
            self.failures.append(result.seed)

    def json(self, took_s: float) -> str:
        """One line."""
        return json.dumps(
            {
                "seeds": self.seeds,
                "device_hours": round(self.device_hours, 1),
                "moves": self.moves,
                "faults": dict(sorted(self.faults.items())),
                "signatures": dict(sorted(self.signatures.items())),
                "verdicts": dict(sorted(self.verdicts.items())),
                "failures": sorted(self.failures),
                "seconds": round(took_s, 1),
            }
        )


def main() -> int:
    """Plays what the arguments name; 1 where a history failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=200, help="how many histories")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, default=100_000.0, help="begin no more histories after this time")
    parser.add_argument("--seed", type=int, help="play this one, and print what happened")
    parser.add_argument("--keep", help="with --seed: nothing happens but these operations, by number")
    parser.add_argument("--brief", action="store_true", help="histories of two devices and half an hour at most")
    parser.add_argument("--no-shrink", action="store_true", help="do not look for the shortest history")
    given = parser.parse_args()
    if given.seed is not None:
        return replay(given.seed, given.keep, given.brief)
    began, totals = time.monotonic(), Totals()
    again = "python -m tests.simulation --brief" if given.brief else "python -m tests.simulation"
    seeds = range(given.first, given.first + given.seeds)
    for result in many(seeds, given.workers, 60 * given.minutes, given.brief):
        totals.add(result)
        if result.complaints:
            _tell(result, again)
        if totals.seeds % 50 == 0:
            rate = totals.seeds / (time.monotonic() - began)
            print(
                f"{totals.seeds} of {given.seeds} histories, {totals.device_hours:.0f} device-hours, "
                f"{totals.moves} moves, {len(totals.failures)} failed, {rate:.1f} a second",
                flush=True,
            )
    for seed in () if given.no_shrink else totals.failures[:3]:
        kept, complaints = shrunk(seed, brief=given.brief)
        print(f"seed {seed}: shortest history found has {len(kept)} operations: {complaints[0][:500]}")
        numbers = ",".join(map(str, sorted(kept))) or "none"
        print(f"  replay: {again} --seed {seed} --keep {numbers}")
    print(totals.json(time.monotonic() - began), flush=True)
    return 1 if totals.failures else 0


def _tell(result: Result, again: str) -> None:
    print(f"seed {result.seed} failed; replay: {again} --seed {result.seed}")
    for complaint in result.complaints[:5]:
        print(f"  {complaint[:600]}", flush=True)


def replay(seed: int, keep: str | None, brief: bool = False) -> int:
    """Plays one history and prints it."""
    of = plan(seed, brief=brief)
    if keep is not None:
        of = of.only(frozenset(int(part) for part in keep.split(",") if part.strip().isdigit()))
    result = play(of, log=True)
    for line in result.log:
        print(line[:400])
    print(f"trace {result.trace}")
    for complaint in result.complaints:
        print(f"!! {complaint}")
    return 1 if result.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
