"""Revocation: out of service, without a key, and what is known of the wipe."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from crdtmed import keys, sealing
from crdtmed.limits import MAX_SHORT_TEXT_CHARS
from crdtmed.signed import Revocation, read
from crdtmed.trust import REVOKED
from crdtmed.wire.frames import WIPED_TAG
from relay.identity import directory, rows
from relay.identity.keyring import Keyring
from relay.identity.leases import OutOfService


def revoke(db: Any, ring: Keyring, device: str, reason: str, now: bool, now_ms: int) -> bytes:
    """Takes a device out of service and forgets its database key; the signed revocation, which the directory holds.

    ``now`` skips the hand-over of its outbox.  Once more does nothing, but that ``now`` may still be added.  Raises
    `OutOfService` for a device that was never enrolled.
    """
    row = rows.device(db, device)
    if row is None:
        raise OutOfService(f"there is no device {device}")
    held = revocation(db, device)
    if held is not None and (held[0].now or not now):
        return held[1]
    since = held[0].at if held is not None else now_ms
    rows.set_revoked(db, device, since)
    value = Revocation(device, since, reason.strip()[:MAX_SHORT_TEXT_CHARS], now)
    return directory.put(db, ring.identity, value, now_ms)


def revocation(db: Any, device: str) -> tuple[Revocation, bytes] | None:
    """The revocation of a device with its signed bytes; None while it is in service."""
    data = rows.entry(db, REVOKED + device)
    return (read(Revocation, data), data) if data is not None else None


def may_hand_over(db: Any, device: str) -> bool:
    """Whether a revoked device may still hand its outbox into quarantine."""
    held = revocation(db, device)
    row = rows.device(db, device)
    return held is not None and not held[0].now and row is not None and row.wiped_at is None


def wiped(db: Any, device: str, at_ms: int, last_number: int, signature: bytes, now_ms: int) -> bool:
    """Records that a revoked device confirmed its wipe; False where it is in service, or did not sign this.

    The first confirmation counts; it is dated by the relay's clock.
    """
    row = rows.device(db, device)
    if row is None or row.revoked_at is None:
        return False
    if not keys.verify(row.signing, WIPED_TAG, sealing.wiped_body(device, at_ms, last_number), signature):
        return False
    if row.wiped_at is None:
        rows.set_wiped(db, device, now_ms, last_number)
    return True


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """A device as the operator sees it.

    ``last_number`` is the highest number it is known to have given out, ``unseen`` the runs (first, last) of numbers
    below that which nobody has.
    """

    device: str
    label: str
    sites: tuple[str, ...]
    enrolled_at: int
    leased_at: int
    revoked_at: int | None
    now: bool
    handed_over: int
    wiped_at: int | None
    last_number: int
    unseen: tuple[tuple[int, int], ...]


def status(db: Any, device: str, seen: Iterable[int]) -> DeviceStatus:
    """What is known of a device; ``seen`` are the numbers of its statements that the relay has, in any order.

    Raises `OutOfService` for a device that was never enrolled.
    """
    row = rows.device(db, device)
    if row is None:
        raise OutOfService(f"there is no device {device}")
    held = revocation(db, device)
    numbers = sorted(set(seen))
    last = max(row.number_seen, row.wiped_number or 0, numbers[-1] if numbers else 0)
    return DeviceStatus(
        device=device,
        label=row.label,
        sites=tuple(row.sites.split()),
        enrolled_at=row.enrolled_at,
        leased_at=row.leased_at,
        revoked_at=row.revoked_at,
        now=held is not None and held[0].now,
        handed_over=row.handed_over,
        wiped_at=row.wiped_at,
        last_number=last,
        unseen=unseen(numbers, last),
    )


def unseen(numbers: Iterable[int], last: int) -> tuple[tuple[int, int], ...]:
    """The runs (first, last) in 1..``last`` that ``numbers``, ascending, lacks."""
    runs = []
    due = 1
    for number in numbers:
        if number > last:
            break
        if number > due:
            runs.append((due, number - 1))
        due = number + 1
    if due <= last:
        runs.append((due, last))
    return tuple(runs)
