"""Hybrid logical stamps: rising on every device, following what is received, never dragged along by a wrong clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed import clock
from crdtmed.clock import MAX_COUNTER, MAX_MS, Stamp, StampError
from crdtmed.limits import DRIFT_MS
from tests.strategies import stamps

TIMES = st.integers(0, MAX_MS)


@given(TIMES, st.integers(0, MAX_COUNTER))
def test_a_stamp_is_its_parts(ms: int, counter: int) -> None:
    made = clock.stamp(ms, counter)
    assert (clock.milliseconds(made), clock.counter(made)) == (ms, counter)
    assert made == ms << 16 | counter <= clock.MAX_STAMP


@given(TIMES, st.integers(0, MAX_COUNTER), TIMES, st.integers(0, MAX_COUNTER))
def test_stamps_order_by_time_and_then_by_counter(ms: int, counter: int, other_ms: int, other_counter: int) -> None:
    one, other = clock.stamp(ms, counter), clock.stamp(other_ms, other_counter)
    assert (one < other) == ((ms, counter) < (other_ms, other_counter))


@pytest.mark.parametrize(
    ("ms", "counter", "words"),
    [
        (-1, 0, "milliseconds -1"),
        (MAX_MS + 1, 0, "milliseconds"),
        (0, -1, "counter -1"),
        (0, MAX_COUNTER + 1, "counter"),
    ],
)
def test_what_is_out_of_range_is_named(ms: int, counter: int, words: str) -> None:
    with pytest.raises(StampError, match=words):
        clock.stamp(ms, counter)


@given(stamps(), st.lists(TIMES, min_size=1, max_size=20))
def test_stamps_rise_whatever_the_clock_does(last: Stamp, times: list[int]) -> None:
    for now in times:
        made = clock.next_stamp(last, now)
        assert made > last
        assert made >= clock.stamp(now)
        assert made in (clock.stamp(now), last + 1)
        last = made


def test_a_full_counter_goes_on_in_the_next_millisecond() -> None:
    assert clock.next_stamp(clock.stamp(5, MAX_COUNTER), 5) == clock.stamp(6, 0)


@given(stamps(), stamps(), TIMES)
def test_a_received_stamp_moves_the_clock_forward_or_not_at_all(last: Stamp, other: Stamp, now: int) -> None:
    moved = clock.receive(last, other, now)
    if clock.milliseconds(other) > now + DRIFT_MS:
        assert moved == last
        assert clock.is_ahead(other, now)
    else:
        assert moved == max(last, other)
        assert not clock.is_ahead(other, now)


@pytest.mark.parametrize(("ahead", "expected"), [(0, False), (DRIFT_MS, False), (DRIFT_MS + 1, True)])
def test_the_drift_limit_is_the_last_that_is_taken(ahead: int, expected: bool) -> None:
    now = 1_000_000
    assert clock.is_ahead(clock.stamp(now + ahead, MAX_COUNTER), now) is expected


def test_another_drift_limit_can_be_named() -> None:
    assert clock.is_ahead(clock.stamp(12), 10, 1)
    assert clock.receive(clock.stamp(0), clock.stamp(12), 10, 1) == clock.stamp(0)
    assert clock.receive(clock.stamp(0), clock.stamp(12), 10, 2) == clock.stamp(12)


@given(stamps(), stamps(), st.lists(TIMES, min_size=1, max_size=5))
def test_what_is_said_after_hearing_something_is_stamped_later(last: Stamp, heard: Stamp, times: list[int]) -> None:
    now = times[0]
    if not clock.is_ahead(heard, now):
        assert clock.next_stamp(clock.receive(last, heard, now), now) > heard


@given(stamps(), stamps(), st.sampled_from("ab"), st.sampled_from("ab"))
def test_the_order_is_total_by_stamp_and_then_device(one: Stamp, other: Stamp, device: str, second: str) -> None:
    a, b = clock.order(one, device), clock.order(other, second)
    assert (a < b) + (a > b) + ((one, device) == (other, second)) == 1
    assert (a < b) == (one < other or (one == other and device < second))
