"""Many histories at once, in processes of their own."""

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.simulation.history import Result, play
from tests.simulation.plan import plan

AT_ONCE = 400
"""Histories that workers are begun for."""


def one(seed: int, brief: bool = False) -> Result:
    """The history of a seed."""
    return play(plan(seed, brief=brief))


def many(seeds: range, workers: int, until_s: float, brief: bool = False) -> Iterator[Result]:
    """The histories of many seeds, as they end; none is begun after ``until_s`` seconds."""
    began = time.monotonic()
    for start in range(0, len(seeds), AT_ONCE):
        if time.monotonic() - began > until_s:
            return
        # Fresh workers each time.  A pool that replaces its own (`max_tasks_per_child`) may think that those which have
        # just ended are idle, and hands out nothing any more (CPython issue 115634).
        with ProcessPoolExecutor(workers) as pool:
            for done in as_completed([pool.submit(one, seed, brief) for seed in seeds[start : start + AT_ONCE]]):
                yield done.result()
