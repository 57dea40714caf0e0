"""The lease as pure functions: no trick with clocks makes it longer."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crdtmed.codec import Undecodable
from crdtmed.contract import Role
from crdtmed.leasing import (
    NO_MARK,
    CannotStretch,
    Locked,
    LockReason,
    Mark,
    OldLease,
    Open,
    Reading,
    advance,
    break_glass,
    decode_mark,
    encode_mark,
    lease_state,
    relay_time,
    start,
    take_over,
)
from crdtmed.limits import BREAK_GLASS_WINDOW_S, CLOCK_BACK_MS, LEASE_WARNINGS_S
from crdtmed.signed import Lease

T0 = 1_800_000_000_000
HOUR = 3_600_000
NURSE = frozenset({Role.NURSE})


def lease(serial: int = 1, hours: int = 12, at: int = T0, emergency_hours: int = 4) -> Lease:
    return Lease("aaaaaaaa", serial, at, at + hours * HOUR, emergency_hours * HOUR, "a" * 16, b"")


def taken(wall_ms: int = T0, relay_ms: int = T0, hours: int = 12) -> Mark:
    mark, _ = take_over(NO_MARK, lease(hours=hours, at=relay_ms), relay_ms, Reading(wall_ms, 0))
    return mark


def test_a_lease_warns_then_lapses() -> None:
    mark = taken()
    far, near = (seconds * 1_000 for seconds in LEASE_WARNINGS_S)
    end = T0 + 12 * HOUR
    found = [lease_state(mark, at) for at in (T0, end - far - 1, end - far, end - near - 1, end - near, end - 1)]
    warnings = [state.warning_s if isinstance(state, Open) else None for state in found]
    assert warnings == [None, None, LEASE_WARNINGS_S[0], LEASE_WARNINGS_S[0], LEASE_WARNINGS_S[1], LEASE_WARNINGS_S[1]]
    assert lease_state(mark, end) == Locked(LockReason.LAPSED)
    assert lease_state(NO_MARK, T0) == Locked(LockReason.NO_LEASE)


def test_leases_are_reckoned_in_the_relays_time() -> None:
    """A device whose clock is a day off neither loses its lease nor keeps it longer."""
    for off in (-24 * HOUR, 24 * HOUR):
        mark, base = take_over(NO_MARK, lease(), T0, Reading(T0 + off, 5))
        later = Reading(T0 + off + 12 * HOUR - 1, 5 + 12 * HOUR - 1)
        assert isinstance(lease_state(mark, relay_time(base, later)), Open)
        assert isinstance(lease_state(mark, relay_time(base, Reading(later.wall_ms + 1, 0))), Locked)


def test_a_clock_behind_the_mark_locks_at_start_and_small_steps_do_not() -> None:
    mark = taken()
    assert start(mark, Reading(T0 - CLOCK_BACK_MS - 1, 0)) == Locked(LockReason.CLOCK_SET_BACK)
    found = start(mark, Reading(T0 - CLOCK_BACK_MS, 0))
    assert not isinstance(found, Locked)
    assert found.relay_ms == T0


def test_a_clock_set_back_while_running_gains_nothing() -> None:
    mark, base = take_over(NO_MARK, lease(), T0, Reading(T0, 1_000))
    assert relay_time(base, Reading(T0 - 5 * HOUR, 1_000 + 3 * HOUR)) == T0 + 3 * HOUR
    assert relay_time(base, Reading(T0 + 3 * HOUR, 1_000)) == T0 + 3 * HOUR  # suspended: monotonic stood still
    noted = advance(mark, base, Reading(T0 - 5 * HOUR, 1_000 + 3 * HOUR))
    assert (noted.wall_ms, noted.relay_ms) == (T0, T0 + 3 * HOUR)


class Machine:
    """A device in the world: true time, what its owner does to its clock, and what it believes."""

    def __init__(self, hours: int) -> None:
        self.ran = 0
        self.wall = T0
        self.monotonic = 0
        self.mark, _ = take_over(NO_MARK, lease(hours=hours), T0, Reading(T0, 0))

    def reading(self) -> Reading:
        return Reading(self.wall, self.monotonic)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["run", "set", "restart", "stretch"]),
        st.integers(-15 * HOUR, 15 * HOUR),
    ),
    max_size=30,
)


@given(STEPS, st.integers(4, 24))
@example([("restart", -CLOCK_BACK_MS - 1), ("run", 4 * HOUR), ("restart", 0)], 4)
def test_whatever_is_done_to_the_clock_the_cache_is_open_no_longer_than_leased(
    steps: list[tuple[str, int]], hours: int
) -> None:
    """The time that a device *ran* since it heard the relay never exceeds its lease while the cache is open.

    What it ran while it was locked, since its clock was set back, was no time with an open cache.
    """
    machine = Machine(hours)
    granted = hours * HOUR
    base = start(machine.mark, machine.reading())
    for what, amount in steps:
        if what == "run":
            machine.ran += 0 if isinstance(base, Locked) else abs(amount)
            machine.wall = max(0, machine.wall + abs(amount))
            machine.monotonic += abs(amount)
        elif what == "set":
            machine.wall = max(0, machine.wall + amount)
        elif what == "restart":
            if not isinstance(base, Locked):
                machine.mark = advance(machine.mark, base, machine.reading())
            machine.monotonic = 0
            machine.wall = max(0, machine.wall + amount)
            base = start(machine.mark, machine.reading())
        if isinstance(base, Locked):
            continue
        now = relay_time(base, machine.reading())
        if what == "stretch":
            try:
                machine.mark = break_glass(machine.mark, now, NURSE)
                granted += 4 * HOUR
            except CannotStretch:
                pass
        if isinstance(lease_state(machine.mark, now), Open):
            assert machine.ran < granted <= (hours + 4) * HOUR


@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)), min_size=1, max_size=10))
def test_a_mark_never_falls(readings: list[tuple[int, int]]) -> None:
    mark = taken()
    base = start(mark, Reading(T0, 0))
    assert not isinstance(base, Locked)
    for wall, monotonic in readings:
        after = advance(mark, base, Reading(wall, monotonic), number=wall % 100, head=monotonic % 100)
        assert after.wall_ms >= mark.wall_ms
        assert after.relay_ms >= mark.relay_ms
        assert after.number >= mark.number
        assert after.head >= mark.head
        assert (after.lease, after.until_ms) == (mark.lease, mark.until_ms)
        mark = after


def test_the_relay_is_believed_over_a_mark_that_a_wrong_clock_drove_up() -> None:
    mark = taken()
    base = start(mark, Reading(T0 + 1_000 * HOUR, 0))
    assert not isinstance(base, Locked)
    driven = advance(mark, base, Reading(T0 + 1_000 * HOUR, 0))
    assert start(driven, Reading(T0 + HOUR, 0)) == Locked(LockReason.CLOCK_SET_BACK)
    healed, base = take_over(driven, lease(2, at=T0 + HOUR), T0 + HOUR, Reading(T0 + HOUR, 0))
    assert isinstance(lease_state(healed, relay_time(base, Reading(T0 + HOUR, 0))), Open)
    assert not isinstance(start(healed, Reading(T0 + HOUR, 0)), Locked)


@pytest.mark.parametrize("serial", [0, 1, 4, 5])
def test_a_lease_that_is_not_newer_was_replayed(serial: int) -> None:
    mark, _ = take_over(NO_MARK, lease(5), T0, Reading(T0, 0))
    with pytest.raises(OldLease):
        take_over(mark, lease(serial), T0, Reading(T0, 0))


# ---- break-glass -------------------------------------------------------------------------------------------------


def test_the_glass_can_be_broken_once_from_an_hour_before_the_lapse_to_the_lapse() -> None:
    mark = taken()
    end = T0 + 12 * HOUR
    window = BREAK_GLASS_WINDOW_S * 1_000
    with pytest.raises(CannotStretch, match="another 60 minutes"):
        break_glass(mark, end - window - 1, NURSE)
    for at in (end - window, end - 1):
        assert break_glass(mark, at, NURSE).until_ms == end + 4 * HOUR
        before = lease_state(mark, at)
        assert isinstance(before, Open)
        assert before.may_break_glass
    with pytest.raises(CannotStretch, match="only the relay"):
        break_glass(mark, end, NURSE)
    stretched = break_glass(mark, end - 1, NURSE)
    assert isinstance(lease_state(stretched, end + 4 * HOUR - 1), Open)
    after = lease_state(stretched, end + 4 * HOUR - 1)
    assert isinstance(after, Open)
    assert not after.may_break_glass
    with pytest.raises(CannotStretch, match="already"):
        break_glass(stretched, end + 4 * HOUR - 1, NURSE)
    assert lease_state(stretched, end + 4 * HOUR) == Locked(LockReason.LAPSED)


def test_a_new_lease_may_be_stretched_again() -> None:
    mark = break_glass(taken(), T0 + 12 * HOUR - 1, NURSE)
    again, _ = take_over(mark, lease(2, at=T0 + 13 * HOUR), T0 + 13 * HOUR, Reading(T0, 0))
    assert (again.stretched, again.until_ms) == (False, T0 + 25 * HOUR)
    assert break_glass(again, again.until_ms - 1, NURSE).stretched


@pytest.mark.parametrize("role", list(Role))
def test_only_clinicians_break_the_glass(role: Role) -> None:
    at = T0 + 12 * HOUR - 1
    if role in (Role.PRESCRIBER, Role.PHARMACIST, Role.NURSE):
        assert break_glass(taken(), at, frozenset({role})).stretched
    else:
        with pytest.raises(CannotStretch, match="sign in"):
            break_glass(taken(), at, frozenset({role}))


def test_a_lease_without_emergency_hours_is_not_stretched() -> None:
    mark, _ = take_over(NO_MARK, lease(emergency_hours=0), T0, Reading(T0, 0))
    with pytest.raises(CannotStretch, match="may not be"):
        break_glass(mark, mark.until_ms - 1, NURSE)


# ---- what the mark is for ----------------------------------------------------------------------------------------


def test_a_mark_is_read_back_and_nothing_else_is() -> None:
    mark = taken()
    data = encode_mark(mark)
    assert decode_mark(data) == mark
    for bad in (b"", data[:-1], data + b"\x00", encode_mark(mark).replace(b"\x01", b"\x02")):
        with pytest.raises(Undecodable):
            decode_mark(bad)
