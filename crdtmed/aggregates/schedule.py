"""When a timing falls due: scheduled instants, from `Timing` and a time zone that is handed in."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from typing import Final

from crdtmed.aggregates.elements import TIME_UNIT_MS, decimal
from crdtmed.aggregates.prescription_draft import SHORTEST_STEP_MS, Timing
from crdtmed.clock import MAX_MS
from crdtmed.limits import MAX_SLOTS

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MS: Final = 86_400_000
_LOCAL: Final = ("d", "wk")
_MONTHS: Final = {"mo": 1, "a": 12}


def slots(timing: Timing, start_ms: int, tz: tzinfo, window: tuple[int, int]) -> tuple[int, ...]:
    """The scheduled instants of an order that starts at ``start_ms``, from ``window[0]`` up to before ``window[1]``.

    Milliseconds since the epoch, ascending.  With ``times``: those times of the local day, every ``period`` days from
    the local day of the start on, none before the start.  Without: from the start on, ``frequency`` times in each
    period at equal distances: of elapsed time for s, min and h, of local time for d and wk (so that 08:00 stays 08:00
    when clocks change), by the calendar for mo and a, where only one dose a period has a date.  ``count`` ends it; a
    lone count of one is due at the start.  A local time that a change of clocks skips falls after the gap; one that
    comes twice is the first.

    Empty for as-needed orders and for those whose instants the order leaves open.  Raises `ValueError` where more
    than `MAX_SLOTS` would be due, or more than one a minute.
    """
    first, end = max(window[0], start_ms), min(window[1], MAX_MS)
    if timing.as_needed or first >= end:
        return ()
    found: set[int] = set()
    for number, at in _numbered(timing, start_ms, tz, first):
        # Local instants may step back where clocks change, never by a day.
        if at >= end + _DAY_MS or (timing.count is not None and number >= timing.count):
            break
        if first <= at < end:
            found.add(at)
        if len(found) > MAX_SLOTS:
            raise ValueError(f"more than {MAX_SLOTS} doses are due in this window; ask for a shorter one")
    return tuple(sorted(found))


def _numbered(timing: Timing, start_ms: int, tz: tzinfo, first: int) -> Iterator[tuple[int, int]]:
    """Scheduled instants with their number, ascending, from at or before the first one that is not before ``first``."""
    if timing.frequency is None or timing.period is None or timing.period_unit is None:
        return iter([(0, start_ms)] if timing.count == 1 else [])
    period = decimal(timing.period)
    if timing.times:
        return _at_times(timing.times, int(period), start_ms, tz, first)
    if timing.period_unit in _MONTHS:
        months = period * _MONTHS[timing.period_unit]
        whole = timing.frequency == 1 and months == int(months)
        return _monthly(int(months), start_ms, tz, first) if whole else iter(())
    step = period * TIME_UNIT_MS[timing.period_unit] / timing.frequency
    if step < SHORTEST_STEP_MS:
        raise ValueError(f"{timing.frequency} times in {timing.period} {timing.period_unit} is more than once a minute")
    return _even(step, start_ms, tz if timing.period_unit in _LOCAL else UTC, first)


def _at_times(times: tuple[str, ...], days: int, start_ms: int, tz: tzinfo, first: int) -> Iterator[tuple[int, int]]:
    start_day = _local(start_ms, tz).date()
    skipped = sum(_instant(_clock(start_day, at), tz) < start_ms for at in times)
    turn = max(0, (_local(first, tz).date() - start_day).days // days - 1)
    while (day := _plus_days(start_day, turn * days)) is not None:
        for place, text in enumerate(times):
            number = turn * len(times) + place - skipped
            if number >= 0:
                yield number, _instant(_clock(day, text), tz)
        turn += 1


def _even(step: Decimal, start_ms: int, tz: tzinfo, first: int) -> Iterator[tuple[int, int]]:
    start = _local(start_ms, tz).replace(tzinfo=None)
    # One local day earlier than the window, since a change of clocks moves instants by some hours.
    number = max(0, int((first - start_ms - _DAY_MS) / step))
    while True:
        ahead = int(number * step)
        if start_ms + ahead > MAX_MS:
            return
        yield number, _instant(start + timedelta(milliseconds=ahead), tz) if number else start_ms
        number += 1


def _monthly(months: int, start_ms: int, tz: tzinfo, first: int) -> Iterator[tuple[int, int]]:
    start = _local(start_ms, tz).replace(tzinfo=None)
    until = _local(first, tz)
    number = max(0, ((until.year - start.year) * 12 + until.month - start.month) // months - 1)
    while True:
        year, month = divmod(start.year * 12 + start.month - 1 + number * months, 12)
        if year > 6_000:
            return
        last = (date(year + (month == 11), (month + 1) % 12 + 1, 1) - timedelta(days=1)).day
        at = start.replace(year=year, month=month + 1, day=min(start.day, last))
        yield number, _instant(at, tz) if number else start_ms
        number += 1


def _plus_days(day: date, days: int) -> date | None:
    return day + timedelta(days=days) if day.toordinal() + days < date(6_000, 1, 1).toordinal() else None


def _clock(day: date, text: str) -> datetime:
    return datetime.combine(day, time.fromisoformat(text))


def _local(ms: int, tz: tzinfo) -> datetime:
    return (_EPOCH + timedelta(milliseconds=ms)).astimezone(tz)


def _instant(local: datetime, tz: tzinfo) -> int:
    return (local.replace(tzinfo=tz) - _EPOCH) // timedelta(milliseconds=1)
