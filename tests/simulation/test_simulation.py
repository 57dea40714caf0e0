"""Fixed seeds of the simulated hospital, some fresh ones, and that a seed is a history, to the byte."""

import os
import secrets
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from tests.simulation.helping import ALONE
from tests.simulation.history import play
from tests.simulation.plan import plan

FIXED = 24
"""Whole histories of every run of the tests; `make simulate` plays more."""
BRIEF = 300
"""Brief ones, at a fifth of the cost: other people, other troubles, other limits every time."""
HELPED = 60
"""Brief ones in which other processes check signatures, or not."""
FRESH, FRESH_BRIEF = 2, 10


@pytest.mark.parametrize("seed", range(FIXED))
def test_a_fixed_history_holds(seed: int) -> None:
    result = play(plan(seed))
    assert not result.complaints, "\n".join(result.complaints)


@pytest.mark.parametrize("first", range(0, BRIEF, 10))
def test_fixed_brief_histories_hold(first: int) -> None:
    for seed in range(first, first + 10):
        result = play(plan(seed, brief=True))
        assert not result.complaints, f"--brief --seed {seed}:\n" + "\n".join(result.complaints)


@pytest.mark.parametrize(("seed", "kept"), [(5010, {30, 47, 48}), (90004419, {0, 1, 56, 57, 59}), (96000059, None)])
def test_what_once_failed_holds(seed: int, kept: set[int] | None) -> None:
    """A disk that is full while a statement is signed again under a fresh challenge; a reconciliation that is opened
    anew twice, the second time without having seen the first; a challenge that is back at the relay in its last second,
    when the knowledge base has still to be asked."""
    whole = replace(plan(seed), help=ALONE)
    result = play(whole if kept is None else whole.only(frozenset(kept)))
    assert not result.complaints, "\n".join(result.complaints)


def test_processes_that_check_signatures_take_part_with_all_their_troubles() -> None:
    checked: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for seed in range(HELPED):
        whole = plan(seed, brief=True)
        result = play(whole)
        checked += result.signatures
        faults += result.faults
        assert whole.help.processes or not result.signatures["verifiers"]
    assert checked["verifiers"] > 50
    assert checked["writer"] > 50
    kinds = ("late", "hangs", "dies", "garbles", "not_started")
    assert all(faults[f"verifier_{kind}"] for kind in kinds), faults


def test_fresh_histories_hold() -> None:
    for brief in (*[False] * FRESH, *[True] * FRESH_BRIEF):
        seed = secrets.randbelow(1 << 40)
        result = play(plan(seed, brief=brief))
        assert not result.complaints, f"{'--brief ' * brief}--seed {seed}:\n" + "\n".join(result.complaints)


@pytest.mark.parametrize("seed", [7, 8, 14])
def test_a_seed_repeats_to_the_byte(seed: int) -> None:
    """In other processes too, whatever order Python gives to sets there."""
    code = (
        "from tests.simulation.history import play; from tests.simulation.plan import plan; "
        f"print(play(plan({seed})).trace)"
    )
    traces = {play(plan(seed)).trace}
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300, check=True
        )
        traces.add(done.stdout.strip())
    assert len(traces) == 1
