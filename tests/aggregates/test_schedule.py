"""Scheduled instants: against the clock on the wall, across changes of clocks, and as one series however it is cut."""

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from crdtmed.aggregates.prescription_draft import Timing
from crdtmed.aggregates.schedule import slots
from crdtmed.clock import MAX_MS
from tests.aggregates.contents import timings
from tests.strategies import DAY_MS, START_MS

BERLIN = ZoneInfo("Europe/Berlin")


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp() * 1000)


def shown(timing: Timing, start: str, until: str, since: str | None = None) -> list[str]:
    window = (ms(since) if since else 0, ms(until))
    found = slots(timing, ms(start), BERLIN, window)
    return [datetime.fromtimestamp(at / 1000, BERLIN).strftime("%m-%d %H:%M%z") for at in found]


def test_times_of_the_day_stay_when_clocks_change_and_none_is_before_the_start() -> None:
    assert shown(Timing(2, "1", "d", ("08:00", "20:00")), "2026-03-28T09:00", "2026-03-30T09:00") == [
        "03-28 20:00+0100",
        "03-29 08:00+0200",
        "03-29 20:00+0200",
        "03-30 08:00+0200",
    ]


def test_a_time_that_is_skipped_falls_after_the_gap_and_one_that_comes_twice_is_the_first() -> None:
    daily = Timing(1, "1", "d", ("02:30",))
    assert shown(daily, "2026-03-28T01:00", "2026-03-30T03:00") == [
        "03-28 02:30+0100",
        "03-29 03:30+0200",
        "03-30 02:30+0200",
    ]
    assert shown(daily, "2026-10-24T12:00", "2026-10-26T12:00") == ["10-25 02:30+0200", "10-26 02:30+0100"]


def test_every_other_day_counts_from_the_day_of_the_start() -> None:
    timing = Timing(1, "2", "d", ("08:00",))
    assert shown(timing, "2026-01-01T09:00", "2026-01-08T00:00") == [
        "01-03 08:00+0100",
        "01-05 08:00+0100",
        "01-07 08:00+0100",
    ]
    assert shown(timing, "2026-01-01T09:00", "2026-02-03T00:00", "2026-02-01T00:00") == ["02-02 08:00+0100"]


def test_hours_run_on_and_days_keep_to_the_wall() -> None:
    assert shown(Timing(1, "12", "h"), "2026-03-28T09:00", "2026-03-30T09:00") == [
        "03-28 09:00+0100",
        "03-28 21:00+0100",
        "03-29 10:00+0200",
        "03-29 22:00+0200",
    ]
    assert shown(Timing(2, "1", "d"), "2026-03-28T09:00", "2026-03-30T08:00") == [
        "03-28 09:00+0100",
        "03-28 21:00+0100",
        "03-29 09:00+0200",
        "03-29 21:00+0200",
    ]


def test_months_keep_their_day_or_end() -> None:
    assert shown(Timing(1, "1", "mo"), "2026-01-31T09:00", "2026-05-01T00:00") == [
        "01-31 09:00+0100",
        "02-28 09:00+0100",
        "03-31 09:00+0200",
        "04-30 09:00+0200",
    ]
    assert shown(Timing(1, "1", "a"), "2024-02-29T09:00", "2026-12-31T00:00", "2025-01-01T00:00") == [
        "02-28 09:00+0100",
        "02-28 09:00+0100",
    ]
    assert shown(Timing(1, "1.5", "mo"), "2026-01-31T09:00", "2026-05-01T00:00") == []
    assert shown(Timing(2, "1", "mo"), "2026-01-31T09:00", "2026-05-01T00:00") == []


def test_a_count_ends_it_wherever_the_window_is() -> None:
    timing = Timing(2, "1", "d", ("08:00", "20:00"), count=3)
    assert shown(timing, "2026-01-01T12:00", "2026-02-01T00:00") == [
        "01-01 20:00+0100",
        "01-02 08:00+0100",
        "01-02 20:00+0100",
    ]
    assert shown(timing, "2026-01-01T12:00", "2026-02-01T00:00", "2026-01-02T12:00") == ["01-02 20:00+0100"]
    assert shown(Timing(count=1), "2026-01-01T12:00", "2026-02-01T00:00") == ["01-01 12:00+0100"]
    assert shown(Timing(count=2), "2026-01-01T12:00", "2026-02-01T00:00") == []


def test_the_first_dose_is_at_the_start_also_in_an_hour_that_comes_twice() -> None:
    second = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN)
    start = round(second.timestamp() * 1000)
    assert slots(Timing(1, "1", "d"), start, BERLIN, (0, start + DAY_MS))[0] == start
    assert slots(Timing(1, "1", "mo"), start, BERLIN, (0, start + DAY_MS)) == (start,)


def test_as_needed_has_no_slots() -> None:
    assert slots(Timing(2, "1", "d", as_needed=True), 0, UTC, (0, DAY_MS)) == ()


def test_local_times_across_a_gap_are_one_series_however_it_is_cut() -> None:
    timing, start, end = Timing(32, "1", "d"), ms("2026-03-29T00:00"), ms("2026-03-29T05:00")
    whole = slots(timing, start, BERLIN, (start, end))
    assert len(whole) == 7
    for cut in whole:
        parts = slots(timing, start, BERLIN, (start, cut)) + slots(timing, start, BERLIN, (cut, end))
        assert parts == whole


def test_too_many_are_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match="more than 10000 doses"):
        slots(Timing(1, "1", "min"), 0, UTC, (0, 30 * DAY_MS))
    with pytest.raises(ValueError, match="more than once a minute"):
        slots(Timing(61, "1", "h"), 0, UTC, (0, DAY_MS))


def test_the_end_of_time_is_no_error() -> None:
    for timing in (
        Timing(1, "999999999999999999", "a"),
        Timing(1, "999999999999", "d", ("08:00",)),
        Timing(1, "1", "mo"),
    ):
        assert len(slots(timing, 0, BERLIN, (MAX_MS - DAY_MS, MAX_MS))) <= 1
        assert len(slots(timing, MAX_MS, BERLIN, (0, 2 * MAX_MS))) <= 1


@given(
    timings().filter(lambda timing: not timing.as_needed),
    st.integers(0, 400 * DAY_MS),
    st.lists(st.integers(0, 40 * DAY_MS), min_size=1, max_size=3),
)
def test_a_window_shows_what_its_parts_show(timing: Timing, start: int, cuts: list[int]) -> None:
    begin = START_MS + start
    edges = [begin - DAY_MS, *sorted(begin + cut for cut in cuts), begin + 41 * DAY_MS]
    try:
        whole = slots(timing, begin, BERLIN, (edges[0], edges[-1]))
    except ValueError:
        reject()  # a law of what can be shown; a week of every minute cannot
    parts = [at for window in pairwise(edges) for at in slots(timing, begin, BERLIN, window)]
    assert list(whole) == parts
    assert list(whole) == sorted(set(whole))
    assert all(begin <= at < edges[-1] for at in whole)
    if timing.times:
        times = {datetime.fromtimestamp(at / 1000, BERLIN).strftime("%H:%M") for at in whole}
        assert times <= set(timing.times)
