"""When the writer takes what waits, as values: a few at once, much when it is checked, and never nothing for ever."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed.documents import parse
from crdtmed.limits import MAX_BATCH_STATEMENTS
from relay.checks import Check
from relay.items import HandBack
from relay.jobs import Judge, checked, take
from relay.pace import (
    ALONE_S,
    ENOUGH_BYTES,
    FEW,
    FEW_ALONE,
    GATHER_S,
    JUDGE_S,
    LATE_TIMES,
    MANY,
    PATIENCE_S,
    QUICK_S,
    Pace,
    Step,
    is_more,
)

NOW = 100.0
SOON = Pace(FEW, committed_s=NOW - PATIENCE_S / 2)
"""A commit has just been."""


def item(statements: int, asked: int | None = None, waited_for: int = 0) -> Judge:
    """Something that waits: of its signatures so many were asked about (None: all of them), and of so many there is no
    answer yet."""
    check = Check([(b"", b"")] * statements) if statements else None
    if check is not None:
        check.asked, check.open = statements if asked is None else asked, waited_for
    return Judge(HandBack(1, "abcdefgh", parse("patient/p1/drafts"), ()), {}, statements, 0, check)


NEW = item(1, asked=0)
ASKED = item(1, waited_for=1)
CHECKED = item(1)
DEAD = item(32, waited_for=0)
"""Asked about, of a process that has died."""


@pytest.mark.parametrize(
    ("inbox", "unasked", "step"),
    [
        ([NEW], True, Step.ALL),
        ([NEW] * FEW, True, Step.ALL),
        ([item(0)], False, Step.ALL),
        ([item(0)] * FEW, False, Step.ALL),
        ([NEW] * (FEW + 1), True, Step.HELP),
        ([item(FEW + 1, asked=0)], True, Step.HELP),
        ([ASKED], False, Step.WAIT),
        ([ASKED] + [NEW] * FEW, True, Step.HELP),
        ([ASKED] * (FEW + 1), False, Step.WAIT),
        ([CHECKED], False, Step.CHECKED),
        ([CHECKED] * (FEW + 1), False, Step.CHECKED),
        ([DEAD], False, Step.CHECKED),
        ([CHECKED] * FEW + [ASKED], False, Step.WAIT),
        ([CHECKED] * (MANY - 1) + [ASKED], False, Step.WAIT),
        ([CHECKED] * MANY + [ASKED], False, Step.CHECKED),
        ([item(MANY), ASKED], False, Step.CHECKED),
        ([ASKED] + [CHECKED] * MANY, False, Step.WAIT),
    ],
)
def test_what_the_writer_does_soon_after_a_commit(inbox: list[Judge], unasked: bool, step: Step) -> None:
    assert SOON.step(deque(inbox), NOW, unasked) is step


@pytest.mark.parametrize(
    ("inbox", "step"), [([CHECKED] * FEW + [ASKED], Step.CHECKED), ([ASKED] + [CHECKED] * FEW, Step.WAIT)]
)
def test_later_what_is_checked_at_the_front_is_enough(inbox: list[Judge], step: Step) -> None:
    assert Pace(FEW, committed_s=NOW - PATIENCE_S).step(deque(inbox), NOW, unasked=False) is step


def test_who_waited_in_vain_again_and_again_goes_on_alone_for_a_while() -> None:
    inbox, it = deque([ASKED] * (FEW + 1)), Pace(FEW)
    for _ in range(3):
        for _ in range(LATE_TIMES - 1):
            it.waited(NOW, in_vain=True)
        it.took()
        for _ in range(LATE_TIMES - 1):
            it.waited(NOW, in_vain=True)
        it.waited(NOW, in_vain=False)
    assert it.step(inbox, NOW, unasked=False) is Step.WAIT
    for _ in range(LATE_TIMES):
        it.waited(NOW, in_vain=True)
    assert it.step(inbox, NOW, unasked=False) is Step.ALL
    assert it.step(inbox, NOW + ALONE_S * 0.99, unasked=True) is Step.ALL
    assert it.step(inbox, NOW + ALONE_S, unasked=False) is Step.WAIT
    it.waited(NOW + ALONE_S, in_vain=True)  # from the beginning again
    assert it.step(inbox, NOW + ALONE_S, unasked=False) is Step.WAIT


def test_a_commit_waits_for_company_after_another_one_and_not_with_enough() -> None:
    it = Pace(FEW)
    assert it.gathers_s(NOW, 0) <= 0
    it.committed(NOW, 0.0, 1)
    assert it.gathers_s(NOW, 0) == pytest.approx(GATHER_S)
    assert it.gathers_s(NOW, ENOUGH_BYTES) <= 0
    assert it.gathers_s(NOW + 1.01 * GATHER_S, 0) <= 0


@pytest.mark.parametrize(
    ("few", "count", "unchecked", "here"),
    [
        (FEW, FEW, FEW, True),
        (FEW, FEW + 1, FEW + 1, False),
        (FEW, FEW + 1, FEW, True),
        (FEW, MAX_BATCH_STATEMENTS, 0, True),
        (FEW, MAX_BATCH_STATEMENTS + 1, 0, False),
        (FEW_ALONE, FEW_ALONE, FEW_ALONE, True),
        (FEW_ALONE, FEW_ALONE + 1, 0, False),
    ],
)
def test_what_the_loop_judges_itself(few: int, count: int, unchecked: int, here: bool) -> None:
    assert Pace(few).here(count, unchecked) is here
    assert not Pace(few, quick=False).here(count, unchecked)


def test_a_disk_is_quick_again_as_soon_as_a_commit_was() -> None:
    it = Pace(FEW)
    for took_s, count, quick in ((QUICK_S * 2, 1, False), (None, 1, False), (QUICK_S * 2, 200, True), (0.0, 1, True)):
        it.committed(NOW, took_s, count)
        assert it.quick is quick
    assert QUICK_S * 2 <= QUICK_S + JUDGE_S * 200


items = st.builds(
    lambda size, asked, share: item(size, min(size, asked), min(size, asked) * share // 2),
    st.integers(0, 40),
    st.integers(0, 80),
    st.integers(0, 2),
)


@given(st.lists(items, min_size=1, max_size=12), st.floats(0, 1), st.booleans())
def test_there_is_always_something_to_do_or_to_wait_for(inbox: list[Judge], ago_s: float, free: bool) -> None:
    waiting = deque(inbox)
    unasked = free and any(it.check is not None and it.check.asked < len(it.check.pairs) for it in inbox)
    step = Pace(FEW, committed_s=NOW - ago_s).step(waiting, NOW, unasked)
    count, every = checked(waiting, 1_000)
    assert every is all(it.check is None or it.check.done for it in inbox)
    taken = take(deque(inbox), MAX_BATCH_STATEMENTS, done=step is Step.CHECKED)
    assert taken == inbox[: len(taken)]
    if step is Step.CHECKED:
        assert taken
        assert all(it.check is None or it.check.done for it in taken)
    elif step is Step.ALL:
        assert not is_more(waiting, FEW)
    elif step is Step.HELP:
        assert unasked
    else:
        assert not every
        assert not unasked
        assert count < MANY
