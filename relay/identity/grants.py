"""Signing in, and grants: for who is here, and ahead for a roster.

Checking a password is slow on purpose, so a sign-in has three steps: `begin` (a transaction that spends an attempt),
`SignInCheck.run` (no database), `finish` (a transaction).
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from crdtmed import ids, sealing
from crdtmed.codec import encode
from crdtmed.contract import Role
from crdtmed.limits import DRIFT_MS, GRANT_REISSUE_HOURS, MAX_PIN_CHARS, MIN_PIN_CHARS, SIGN_IN_ATTEMPTS
from crdtmed.signed import Grant, read, seal
from crdtmed.wire.frames import SealedGrant
from relay.identity import rows
from relay.identity.keyring import Keyring
from relay.identity.leases import HOUR_MS, Terms
from relay.identity.rows import GrantRow, UserRow

_NOBODY: Final = b"\x00" * sealing.SALT_BYTES


@dataclass(frozen=True, slots=True)
class SignInFailure:
    """``code`` is ``wrong``, ``locked``, ``withdrawn``, ``no_grant`` or ``pin_length``, as the frame `SignInFailed` has
    it."""

    code: str


@dataclass(frozen=True, slots=True, repr=False)
class SignInCheck:
    """A password that waits to be compared."""

    device: str
    user: str
    _password: str
    _pin: str | None
    _salt: bytes
    _hash: bytes | None
    _pin_salt: bytes
    _terms: Terms

    def run(self) -> "SignInChecked":
        """Compares; as slow for a user that does not exist."""
        found = sealing.stretch(self._password, self._salt, self._terms.login_cost)
        matched = self._hash is not None and hmac.compare_digest(found, self._hash)
        pin_key = None
        if matched and self._pin is not None:
            pin_key = sealing.stretch(self._pin, self._pin_salt, self._terms.pin_cost)
        return SignInChecked(self.device, self.user, matched, self._hash, self._pin_salt, pin_key)


@dataclass(frozen=True, slots=True, repr=False)
class SignInChecked:
    """What comparing found; ``pin_key`` is the new PIN, stretched, None where none was given."""

    device: str
    user: str
    matched: bool
    hash: bytes | None
    pin_salt: bytes
    pin_key: bytes | None


def begin(
    db: Any, terms: Terms, device: str, user: str, password: str, pin: str | None, random: Callable[[int], bytes]
) -> SignInCheck | SignInFailure:
    """The first step: spends one of the user's attempts."""
    if pin is not None and not MIN_PIN_CHARS <= len(pin) <= MAX_PIN_CHARS:
        return SignInFailure("pin_length")
    row = rows.user(db, user)
    pin_salt = random(sealing.SALT_BYTES)
    if row is None:
        return SignInCheck(device, user, password, pin, _NOBODY, None, pin_salt, terms)
    if row.attempts <= 0:
        return SignInFailure("locked")
    rows.set_user_attempts(db, user, row.attempts - 1)
    return SignInCheck(device, user, password, pin, row.salt, row.hash, pin_salt, terms)


def finish(
    db: Any, ring: Keyring, terms: Terms, checked: SignInChecked, now_ms: int, random: Callable[[int], bytes]
) -> bytes | SignInFailure:
    """The last step: the grant of a user whose password matched, and the PIN set."""
    row = rows.user(db, checked.user)
    if not checked.matched or row is None or row.hash != checked.hash:
        return SignInFailure("wrong")
    if row.withdrawn_at is not None:
        return SignInFailure("withdrawn")
    rows.set_user_attempts(db, row.user, SIGN_IN_ATTEMPTS)
    device = rows.device(db, checked.device)
    if not row.roles or not row.sites or device is None or device.revoked_at is not None:
        return SignInFailure("no_grant")
    if checked.pin_key is not None:
        rows.set_user_pin(db, row.user, checked.pin_salt, _lock_pin(ring.master, row.user, checked.pin_key, random))
    return _issue(db, ring, terms, row, checked.device, False, now_ms, random).data


def _issue(
    db: Any,
    ring: Keyring,
    terms: Terms,
    user: UserRow,
    device: str,
    ahead: bool,
    now_ms: int,
    random: Callable[[int], bytes],
) -> GrantRow:
    """A new grant, kept.  It begins a drift earlier, for the stamps of devices whose clocks are that much behind."""
    grant = Grant(
        id=f"{user.user}/{ids.to_text(random(5))}",
        user=user.user,
        name=user.name,
        device=device,
        roles=tuple(Role(role) for role in user.roles.split()),
        sites=tuple(user.sites.split()),
        not_before=max(0, now_ms - DRIFT_MS),
        not_after=now_ms + terms.grant_hours * HOUR_MS,
    )
    row = GrantRow(
        grant.id, user.user, device, int(ahead), grant.not_before, grant.not_after, seal(grant, ring.identity)
    )
    rows.add_grant(db, row)
    return row


def _pin_context(user: str) -> bytes:
    return encode(("crdtmed/pin/1", user))


def _lock_pin(master: bytes, user: str, pin_key: bytes, random: Callable[[int], bytes]) -> bytes:
    nonce = random(sealing.NONCE_BYTES)
    return nonce + sealing.lock(master, nonce, pin_key, _pin_context(user))


def _unlock_pin(master: bytes, user: str, wrapped: bytes) -> bytes:
    nonce, locked = wrapped[: sealing.NONCE_BYTES], wrapped[sealing.NONCE_BYTES :]
    return sealing.unlock(master, nonce, locked, _pin_context(user), f"the PIN of {user}")


def roster(
    db: Any, ring: Keyring, terms: Terms, device: str, site: str, now_ms: int, random: Callable[[int], bytes]
) -> tuple[SealedGrant, ...]:
    """Grants issued ahead for the people on a site's roster, each under its user's PIN.

    Only for a device in service that was enrolled for the site; who has set no PIN yet is left out.
    """
    row = rows.device(db, device)
    if row is None or row.revoked_at is not None or site not in row.sites.split():
        return ()
    sealed = []
    for user in rows.roster(db, site):
        if user.pin_salt is None or user.pin_wrapped is None or site not in user.sites.split():
            continue
        issued = _ahead(db, ring, terms, user, device, now_ms, random)
        nonce = random(sealing.NONCE_BYTES)
        key = _unlock_pin(ring.master, user.user, user.pin_wrapped)
        context = sealing.grant_context(device, user.user, user.name)
        sealed.append(
            SealedGrant(user.user, user.name, user.pin_salt, nonce, sealing.lock(key, nonce, issued.data, context))
        )
    return tuple(sealed)


def _ahead(
    db: Any, ring: Keyring, terms: Terms, user: UserRow, device: str, now_ms: int, random: Callable[[int], bytes]
) -> GrantRow:
    """The grant held already where it is fresh and still says what the user may, else a new one."""
    fresh_ms = min(GRANT_REISSUE_HOURS, terms.grant_hours / 2) * HOUR_MS
    held = rows.grant_ahead(db, device, user.user, int(now_ms + terms.grant_hours * HOUR_MS - fresh_ms))
    if held is not None:
        grant = read(Grant, held.data)
        if (" ".join(grant.roles), " ".join(grant.sites), grant.name) == (user.roles, user.sites, user.name):
            return held
    return _issue(db, ring, terms, user, device, True, now_ms, random)


def sites_open(db: Any, device: str, now_ms: int) -> frozenset[str]:
    """The sites that grants in force open on a device; those of users withdrawn meanwhile open nothing."""
    open_sites: set[str] = set()
    for row in rows.grants_in_force(db, device, now_ms):
        user = rows.user(db, row.user)
        if user is not None and user.withdrawn_at is None:
            open_sites.update(read(Grant, row.data).sites)
    return frozenset(open_sites)
