"""Hybrid logical stamps (Kulkarni et al., *Logical Physical Clocks*, 2014).

A stamp is one integer, ``milliseconds << 16 | counter``, so that stamps order as integers do and take nine bytes on
the wire.  Nothing here reads a clock: the caller hands in the time, in milliseconds since the Unix epoch.
"""

from typing import Final, NewType

from crdtmed.limits import DRIFT_MS

Stamp = NewType("Stamp", int)

COUNTER_BITS: Final = 16
MAX_COUNTER: Final = (1 << COUNTER_BITS) - 1
MAX_MS: Final = (1 << 47) - 1
MAX_STAMP: Final = (MAX_MS << COUNTER_BITS) | MAX_COUNTER


class StampError(ValueError):
    """A stamp is out of range; the message says which part and the range."""


def stamp(ms: int, counter: int = 0) -> Stamp:
    """The stamp of ``ms`` milliseconds and ``counter``; raises `StampError` when either is out of range."""
    if not 0 <= ms <= MAX_MS:
        raise StampError(f"milliseconds {ms} are outside 0..{MAX_MS}: check the clock")
    if not 0 <= counter <= MAX_COUNTER:
        raise StampError(f"counter {counter} is outside 0..{MAX_COUNTER}: use the next millisecond")
    return Stamp((ms << COUNTER_BITS) | counter)


def milliseconds(of: Stamp) -> int:
    """The physical part of a stamp, in milliseconds since the Unix epoch."""
    return of >> COUNTER_BITS


def counter(of: Stamp) -> int:
    """The logical part of a stamp."""
    return of & MAX_COUNTER


def next_stamp(last: Stamp, now_ms: int) -> Stamp:
    """The stamp of a local event at ``now_ms``: later than ``last``, and than the clock where the clock is ahead."""
    return Stamp(max(stamp(now_ms), last + 1))


def receive(last: Stamp, other: Stamp, now_ms: int, drift_ms: int = DRIFT_MS) -> Stamp:
    """What ``last`` becomes when ``other`` arrives at ``now_ms``.

    A stamp that is more than ``drift_ms`` ahead of the clock never moves it (`is_ahead`): a device with a wrong clock
    must not drag the others along.
    """
    if is_ahead(other, now_ms, drift_ms):
        return last
    return Stamp(max(last, other))


def is_ahead(other: Stamp, now_ms: int, drift_ms: int = DRIFT_MS) -> bool:
    """Whether ``other`` is further ahead of ``now_ms`` than ``drift_ms`` allows."""
    return milliseconds(other) > now_ms + drift_ms


def order(of: Stamp, device: str) -> tuple[int, str]:
    """The total order of statements: by stamp, ties by the author device."""
    return (of, device)
