"""Signing in without the relay: a grant that was issued ahead, opened by its user's PIN.

A PIN is short, so tries are counted, durably and before each one.  The count lies outside the database under the
device's signature; without it, or where it was changed, no PIN opens anything until its user has signed in online.
Whoever can put an older copy of that file back, or has the database open in hand, is held up only by what each guess
costs (`crdtmed.sealing.PIN_COST`).
"""

import threading
from typing import Annotated, Final

import msgspec

from crdtmed import sealing
from crdtmed.codec import Undecodable, decoder, encode
from crdtmed.device.files import Tampered, read_signed, write_signed
from crdtmed.device.lease import Holder
from crdtmed.ids import UserId
from crdtmed.limits import MAX_ATTEMPT_ENTRIES, MAX_PIN_CHARS, MAX_SIGNED_VALUE_BYTES, MIN_PIN_CHARS, PIN_ATTEMPTS
from crdtmed.sealing import PIN_COST, CannotOpen, Cost
from crdtmed.signed import Forged, Grant
from crdtmed.trust import NotForHere, covers, read_grant
from crdtmed.wire.frames import SealedGrant

ATTEMPTS_TAG: Final = b"crdtmed/pin-attempts/1"


class _Failed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    user: UserId
    tries: int


class _Attempts(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Tries that failed, by user; ``others`` is the count of everybody not named."""

    others: int
    failed: Annotated[tuple[_Failed, ...], msgspec.Meta(max_length=MAX_ATTEMPT_ENTRIES)]

    def of(self, user: str) -> int:
        return next((entry.tries for entry in self.failed if entry.user == user), self.others)

    def having(self, user: str, tries: int) -> "_Attempts":
        counts = {entry.user: entry.tries for entry in self.failed} | {user: tries}
        kept = tuple(_Failed(name, count) for name, count in sorted(counts.items()) if count != self.others)
        return _Attempts(self.others, kept)


_decode = decoder(_Attempts, MAX_SIGNED_VALUE_BYTES)
_ONE_AT_A_TIME: Final = threading.Lock()
"""Tries run in threads: two that read the same count would count as one."""


class PinRefused(ValueError):
    """A PIN opens no grant.

    ``code`` is ``wrong`` (``left`` tries remain), ``locked`` (sign in online), ``not_in_force`` (the grant has lapsed:
    sign in online) or ``not_for_here`` (the grant is not this device's, or not the identity service's).
    """

    def __init__(self, code: str, says: str, left: int = 0) -> None:
        super().__init__(f"{code}: {says}")
        self.code = code
        self.says = says
        self.left = left


def create_attempts(holder: Holder) -> None:
    """The file of counts for a device that was just enrolled."""
    _write(holder, _Attempts(0, ()))


def _write(holder: Holder, attempts: _Attempts) -> None:
    write_signed(holder.files.attempts, holder.keys, ATTEMPTS_TAG, encode(attempts))


def _read(holder: Holder) -> _Attempts:
    """The counts; where the file is missing or damaged, nobody has a try left."""
    try:
        body = read_signed(holder.files.attempts, holder.keys.public, ATTEMPTS_TAG, MAX_SIGNED_VALUE_BYTES)
        return _decode(body) if body is not None else _Attempts(PIN_ATTEMPTS, ())
    except (Tampered, Undecodable):
        return _Attempts(PIN_ATTEMPTS, ())


def reset(holder: Holder, user: str) -> None:
    """All tries again for a user who signed in online."""
    _count(holder, user, 0)


def _count(holder: Holder, user: str, tries: int) -> None:
    with _ONE_AT_A_TIME:
        _write(holder, _read(holder).having(user, tries))


def _count_try(holder: Holder, user: str) -> int:
    """How many tries in a row this one makes, durably counted; raises `PinRefused` where there is none left."""
    with _ONE_AT_A_TIME:
        attempts = _read(holder)
        tries = attempts.of(user) + 1
        if tries > PIN_ATTEMPTS:
            raise PinRefused("locked", f"the PIN of {user} is locked on this device: sign in online")
        _write(holder, attempts.having(user, tries))
    return tries


def open_grant(
    holder: Holder, sealed: SealedGrant, pin: str, now_ms: int, cost: Cost = PIN_COST
) -> tuple[Grant, bytes]:
    """The grant that ``pin`` opens, with its signed bytes, in force at ``now_ms``; raises `PinRefused`.

    Slow on purpose; call it in another thread.
    """
    if len(sealed.salt) != sealing.SALT_BYTES:
        raise PinRefused("not_for_here", "the sealed grant is malformed")
    tries = _count_try(holder, sealed.user)
    if not MIN_PIN_CHARS <= len(pin) <= MAX_PIN_CHARS:
        raise _wrong(sealed.user, tries)
    context = sealing.grant_context(holder.device, sealed.user, sealed.name)
    try:
        key = sealing.stretch(pin, sealed.salt, cost)
        data = sealing.unlock(key, sealed.nonce, sealed.sealed, context, "the grant")
    except CannotOpen:
        raise _wrong(sealed.user, tries) from None
    _count(holder, sealed.user, 0)
    try:
        grant = read_grant(data, holder.anchor, holder.device)
    except (Forged, NotForHere) as error:
        raise PinRefused("not_for_here", str(error)) from None
    if not covers(grant, now_ms):
        raise PinRefused("not_in_force", f"the grant of {grant.user} has lapsed, or does not begin yet: sign in online")
    return grant, data


def _wrong(user: str, tries: int) -> PinRefused:
    left = max(0, PIN_ATTEMPTS - tries)
    return PinRefused("wrong", f"this is not the PIN of {user}; {left} tries are left", left)
