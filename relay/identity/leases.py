"""Database keys and leases: made here, kept locked under the master key, and given out only sealed to the device."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from crdtmed import ids, sealing
from crdtmed.codec import encode
from crdtmed.limits import (
    EMERGENCY_LEASE_HOURS,
    GRANT_HOURS,
    MAX_EMERGENCY_LEASE_HOURS,
    MAX_GRANT_HOURS,
    MAX_OFFLINE_LEASE_HOURS,
    MIN_OFFLINE_LEASE_HOURS,
    OFFLINE_LEASE_HOURS,
)
from crdtmed.sealing import LOGIN_COST, PIN_COST, Cost, DatabaseKeys
from crdtmed.signed import Lease, seal
from relay.identity import rows
from relay.identity.keyring import Keyring
from relay.identity.rows import DeviceRow

HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator may choose; raises `ValueError` outside the limits.

    ``offline_lease_hours`` is how long a cache opens without the relay, ``emergency_lease_hours`` by how much a
    clinician may stretch that once (0: not at all), ``grant_hours`` how long a grant lasts.
    """

    offline_lease_hours: int = OFFLINE_LEASE_HOURS
    emergency_lease_hours: int = EMERGENCY_LEASE_HOURS
    grant_hours: int = GRANT_HOURS
    login_cost: Cost = LOGIN_COST
    pin_cost: Cost = PIN_COST

    def __post_init__(self) -> None:
        for name, least, most in (
            ("offline_lease_hours", MIN_OFFLINE_LEASE_HOURS, MAX_OFFLINE_LEASE_HOURS),
            ("emergency_lease_hours", 0, MAX_EMERGENCY_LEASE_HOURS),
            ("grant_hours", 1, MAX_GRANT_HOURS),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}: choose {least} to {most}")


class OutOfService(ValueError):
    """The device was revoked, or never enrolled; there is no lease for it."""


class RotationPending(ValueError):
    """The device has not yet said that it took over the last key; another one would lock it out."""


def hpke_seal(sealing_public: bytes, secret: bytes, info: bytes) -> bytes:
    """``secret`` sealed to a device's X25519 key; draws its own randomness."""
    return sealing.SUITE.encrypt(secret, X25519PublicKey.from_public_bytes(sealing_public), info=info)


def _context(device: str, key_id: str) -> bytes:
    return encode(("crdtmed/wrapped-key/1", device, key_id))


def _wrap(master: bytes, key: bytes, device: str, key_id: str, random: Callable[[int], bytes]) -> bytes:
    nonce = random(sealing.NONCE_BYTES)
    named = key_id.encode("ascii")
    return named + nonce + sealing.lock(master, nonce, key, _context(device, key_id))


def _unwrap(master: bytes, wrapped: bytes, device: str) -> bytes:
    key_id, rest = wrapped[:16].decode("ascii"), wrapped[16:]
    nonce, locked = rest[: sealing.NONCE_BYTES], rest[sealing.NONCE_BYTES :]
    return sealing.unlock(master, nonce, locked, _context(device, key_id), f"the database key of device {device}")


def _with_new_key(row: DeviceRow, master: bytes, random: Callable[[int], bytes]) -> DeviceRow:
    key_id = ids.to_text(random(10))
    wrapped = _wrap(master, random(sealing.KEY_BYTES), row.device, key_id, random)
    return replace(row, key_id=key_id, key_since=row.lease_serial + 1, wrapped=wrapped, wrapped_before=row.wrapped)


def issue(
    db: Any,
    ring: Keyring,
    terms: Terms,
    device: str,
    now_ms: int,
    random: Callable[[int], bytes],
    seal_to: Callable[[bytes, bytes, bytes], bytes] = hpke_seal,
) -> bytes:
    """A new lease for a device in good standing; raises `OutOfService`.

    Serials rise with time, so that they go on rising where the database was restored from a backup.
    """
    row = rows.device(db, device)
    if row is None or row.revoked_at is not None:
        raise OutOfService(f"device {device} is not in service")
    if row.wrapped is None:
        row = _with_new_key(row, ring.master, random)
    assert row.wrapped is not None
    previous = _unwrap(ring.master, row.wrapped_before, device) if row.wrapped_before is not None else None
    held = DatabaseKeys(_unwrap(ring.master, row.wrapped, device), previous)
    serial = max(row.lease_serial + 1, now_ms)
    until = now_ms + terms.offline_lease_hours * HOUR_MS
    sealed = seal_to(row.sealing, encode(held), sealing.lease_info(device, row.key_id, serial, until))
    rows.set_lease(db, replace(row, lease_serial=serial, leased_at=now_ms))
    emergency = terms.emergency_lease_hours * HOUR_MS
    return seal(Lease(device, serial, now_ms, until, emergency, row.key_id, sealed), ring.identity)


def marks(db: Any, device: str, last_number: int, lease: int) -> tuple[str, ...]:
    """Notes the high-water marks that a device reports; what they give away, for the operator.

    A mark that fell, or a lease that it had already been past, means an older copy of the device's files or a second
    device with the same keys.  A lease that carried a new key and was taken over ends the time of the key before.
    """
    row = rows.device(db, device)
    if row is None:
        raise OutOfService(f"device {device} is not enrolled")
    alarms = tuple(_alarms(row, last_number, lease))
    confirmed = row.key_since <= lease <= row.lease_serial
    rows.set_marks(
        db,
        replace(
            row,
            lease_seen=max(row.lease_seen, lease),
            lease_passed=row.lease_serial if lease < row.lease_serial else row.lease_passed,
            number_seen=max(row.number_seen, last_number),
            wrapped_before=None if confirmed else row.wrapped_before,
        ),
    )
    return alarms


def _alarms(row: DeviceRow, last_number: int, lease: int) -> Iterable[str]:
    twice = "an older copy of its files, or a second device with its keys"
    if last_number < row.number_seen:
        yield f"its last statement was number {row.number_seen}, and now it says {last_number}: {twice}"
    if lease < row.lease_seen:
        yield f"it had taken over lease {row.lease_seen}, and now it says {lease}: {twice}"
    elif row.lease_seen < lease <= row.lease_passed:
        yield f"it took over lease {lease}, although it had come without it before: a second device with its keys"
    if lease > row.lease_serial:
        yield f"it says it took over lease {lease}, and the last one given was {row.lease_serial}"


def rotate_key(db: Any, ring: Keyring, device: str, random: Callable[[int], bytes]) -> None:
    """Another database key for the device, from its next lease on.

    Until the device has said that it took over such a lease, leases carry the key before as well, since its database
    may be under either.  Raises `OutOfService`, or `RotationPending`.
    """
    row = rows.device(db, device)
    if row is None or row.revoked_at is not None:
        raise OutOfService(f"device {device} is not in service")
    if row.wrapped_before is not None:
        raise RotationPending(f"device {device} has not taken over its last key yet: wait until it was online")
    rows.set_lease(db, _with_new_key(row, ring.master, random))
