"""The lease of a device as pure functions: what time it is, whether the cache may be open, and until when.

All lease times are the relay's.  A device reckons them from what the relay last said and from its own clocks, and
always by the reading that makes the lease end sooner: a clock that was set back, at rest or while running, gains
nothing.  The *mark* is what survives a restart; it lies outside the database (`crdtmed.device.lease`), so that an
older copy of the database is noticed.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from crdtmed.codec import decoder, encode
from crdtmed.contract import Kind, Role, capability_of
from crdtmed.limits import BREAK_GLASS_WINDOW_S, CLOCK_BACK_MS, LEASE_WARNINGS_S, MAX_SIGNED_VALUE_BYTES
from crdtmed.signed import Count, Lease, Ms

MARK_TAG: Final = b"crdtmed/mark/1"


@dataclass(frozen=True, slots=True)
class Reading:
    """Both clocks of a device at one instant, in milliseconds: wall (Unix epoch) and monotonic (any origin)."""

    wall_ms: int
    monotonic_ms: int


class Mark(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The high-water mark.

    ``wall_ms`` is the device's wall clock when the mark was made and ``relay_ms`` the relay's time at that instant;
    ``lease`` the serial of the last lease taken over, ``until_ms`` its end, stretched or not, and ``stretched``
    whether it was; ``number`` the highest statement number given out, ``head`` the version of the newest directory
    head seen.
    """

    wall_ms: Ms
    relay_ms: Ms
    lease: Count
    until_ms: Ms
    emergency_ms: Ms
    stretched: bool
    number: Count
    head: Count
    version: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1


NO_MARK: Final = Mark(0, 0, 0, 0, 0, False, 0, 0)
"""Before the first lease."""

_decode_mark = decoder(Mark, MAX_SIGNED_VALUE_BYTES)


def encode_mark(mark: Mark) -> bytes:
    """The bytes that the device signs under `MARK_TAG`."""
    return encode(mark)


def decode_mark(data: bytes) -> Mark:
    """The mark in ``data``; raises `crdtmed.codec.Undecodable`."""
    return _decode_mark(data)


@dataclass(frozen=True, slots=True)
class Reckoning:
    """The relay's time at a reading of this run's clocks."""

    relay_ms: int
    reading: Reading


class LockReason(StrEnum):
    """Why a cache stays closed; each is undone by the relay, for a device in good standing."""

    NO_LEASE = "no_lease"
    LAPSED = "lapsed"
    CLOCK_SET_BACK = "clock_set_back"
    LEASE_OLDER = "lease_older"
    MARK_DAMAGED = "mark_damaged"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Open:
    """The cache may be open until ``until_ms`` (the relay's time), which is ``left_ms`` from now.

    ``warning_s`` is the nearest of `LEASE_WARNINGS_S` that has been reached, None before the first;
    ``may_break_glass`` whether a clinician may stretch the lease now.
    """

    until_ms: int
    left_ms: int
    warning_s: int | None
    may_break_glass: bool


@dataclass(frozen=True, slots=True)
class Locked:
    """The cache is closed, and why; the outbox in it is kept."""

    why: LockReason


def start(mark: Mark, reading: Reading) -> Reckoning | Locked:
    """The relay's time as a device that starts must reckon it.

    A wall clock that is behind the mark by more than `CLOCK_BACK_MS` (a clock discipline's small steps are allowed)
    locks.
    """
    if reading.wall_ms + CLOCK_BACK_MS < mark.wall_ms:
        return Locked(LockReason.CLOCK_SET_BACK)
    return Reckoning(mark.relay_ms + max(0, reading.wall_ms - mark.wall_ms), reading)


def relay_time(base: Reckoning, reading: Reading) -> int:
    """The relay's time at ``reading``: since ``base``, whichever of the two clocks went further counts."""
    since = base.reading
    return base.relay_ms + max(0, reading.wall_ms - since.wall_ms, reading.monotonic_ms - since.monotonic_ms)


def advance(mark: Mark, base: Reckoning, reading: Reading, *, number: int = 0, head: int = 0) -> Mark:
    """The mark to write at ``reading``; nothing in it ever falls."""
    return msgspec.structs.replace(
        mark,
        wall_ms=max(mark.wall_ms, reading.wall_ms),
        relay_ms=max(mark.relay_ms, relay_time(base, reading)),
        number=max(mark.number, number),
        head=max(mark.head, head),
    )


class OldLease(ValueError):
    """A lease is not newer than the one held, so it was replayed; the message says which."""


def take_over(mark: Mark, lease: Lease, relay_now_ms: int, reading: Reading) -> tuple[Mark, Reckoning]:
    """The mark and the reckoning after the relay gave ``lease`` and said that its time is ``relay_now_ms``.

    Being heard from the relay itself, its time is believed even where it is behind the mark: so a clock that was once
    far ahead does no lasting harm.  Raises `OldLease` for a serial that is not above the mark's.
    """
    if lease.serial <= mark.lease:
        raise OldLease(f"lease {lease.serial} is not newer than lease {mark.lease}, which this device has taken over")
    taken = msgspec.structs.replace(
        mark,
        wall_ms=reading.wall_ms,
        relay_ms=relay_now_ms,
        lease=lease.serial,
        until_ms=lease.until,
        emergency_ms=lease.emergency_ms,
        stretched=False,
    )
    return taken, Reckoning(relay_now_ms, reading)


def lease_state(mark: Mark, now_ms: int) -> Open | Locked:
    """Whether the cache may be open at ``now_ms`` by the relay's time (`relay_time`)."""
    if mark.lease == 0:
        return Locked(LockReason.NO_LEASE)
    left = mark.until_ms - now_ms
    if left <= 0:
        return Locked(LockReason.LAPSED)
    reached = [warning for warning in LEASE_WARNINGS_S if left <= warning * 1_000]
    return Open(mark.until_ms, left, min(reached, default=None), _in_window(mark, left))


def _in_window(mark: Mark, left_ms: int) -> bool:
    return not mark.stretched and mark.emergency_ms > 0 and 0 < left_ms <= BREAK_GLASS_WINDOW_S * 1_000


class CannotStretch(ValueError):
    """The lease may not be stretched; the message says why and what to do."""


def break_glass(mark: Mark, now_ms: int, roles: frozenset[Role]) -> Mark:
    """The mark with its lease stretched, once, by the hours that the lease itself grants.

    Only from an hour before the lapse to the lapse, and only for a role of the gate table; raises `CannotStretch`.
    """
    allowed = capability_of(Kind.BREAK_GLASS).roles
    if not roles & allowed:
        raise CannotStretch(f"only a {', '.join(sorted(allowed))} may break the glass: sign in as one")
    match lease_state(mark, now_ms):
        case Locked(why):
            raise CannotStretch(f"the cache is locked ({why}): only the relay can open it again")
        case Open(left_ms=left) if not _in_window(mark, left):
            used = mark.stretched or mark.emergency_ms == 0
            says = (
                "it was stretched already, or may not be" if used else f"it runs for another {left // 60_000} minutes"
            )
            raise CannotStretch(f"the lease cannot be stretched now: {says}")
        case _:
            return msgspec.structs.replace(mark, until_ms=mark.until_ms + mark.emergency_ms, stretched=True)
