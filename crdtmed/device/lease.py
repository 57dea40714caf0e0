"""A device's lease: its files, the database key while it lasts, and the end of both.

What holds when is decided in `crdtmed.leasing`; here is what must be on disk, and in which order, so that a crash at
any point leaves a device that opens its database, or one that the relay can open again.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import msgspec

from crdtmed.codec import Undecodable
from crdtmed.contract import Role
from crdtmed.device.files import DeviceFiles, Tampered, destroy, read_signed, read_whole, write_signed, write_whole
from crdtmed.device.keyfile import DeviceKeys
from crdtmed.leasing import (
    MARK_TAG,
    NO_MARK,
    CannotStretch,
    Locked,
    LockReason,
    Mark,
    Open,
    Reading,
    Reckoning,
    advance,
    break_glass,
    decode_mark,
    encode_mark,
    lease_state,
    relay_time,
    start,
    take_over,
)
from crdtmed.limits import MAX_SIGNED_VALUE_BYTES
from crdtmed.sealing import CannotOpen, DatabaseKeys, lease_info, read_database_keys, wiped_body
from crdtmed.signed import Forged, Lease
from crdtmed.trust import Anchor, NotForHere, read_lease
from crdtmed.wire.frames import WIPED_TAG, Wiped


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose lease it is, and where it lies."""

    files: DeviceFiles
    keys: DeviceKeys
    device: str
    anchor: Anchor


@dataclass(frozen=True, slots=True, repr=False)
class Held:
    """What a running device knows of its lease.

    ``database`` are the keys that the lease carries, None while the cache is locked; ``lock`` is why it is, apart from
    the passing of time.
    """

    mark: Mark
    base: Reckoning | None
    database: DatabaseKeys | None
    lock: LockReason | None = None

    def __repr__(self) -> str:
        return f"Held(lease={self.mark.lease}, until_ms={self.mark.until_ms}, lock={self.lock})"


def _locked(mark: Mark, why: LockReason) -> Held:
    return Held(mark, None, None, why)


def opened(holder: Holder, lease: Lease) -> DatabaseKeys:
    """The database keys in a lease; raises `crdtmed.sealing.CannotOpen`."""
    info = lease_info(lease.device, lease.key_id, lease.serial, lease.until)
    return read_database_keys(holder.keys.open(lease.key, info, "the database key of the lease"))


def at_start(holder: Holder, reading: Reading) -> Held:
    """The lease as the files tell of it; whatever is wrong with them locks, and only the relay opens again."""
    try:
        body = read_signed(holder.files.mark, holder.keys.public, MARK_TAG, MAX_SIGNED_VALUE_BYTES)
        mark = decode_mark(body) if body is not None else None
        data = read_whole(holder.files.lease, MAX_SIGNED_VALUE_BYTES)
    except (Tampered, Undecodable):
        return _locked(NO_MARK, LockReason.MARK_DAMAGED)
    if mark is None:
        return _locked(NO_MARK, LockReason.NO_LEASE if data is None else LockReason.MARK_DAMAGED)
    base = start(mark, reading)
    if isinstance(base, Locked):
        return _locked(mark, base.why)
    if data is None:
        return _locked(mark, LockReason.LAPSED if mark.lease else LockReason.NO_LEASE)
    return _from_file(holder, mark, base, reading, data)


def _from_file(holder: Holder, mark: Mark, base: Reckoning, reading: Reading, data: bytes) -> Held:
    try:
        lease = read_lease(data, holder.anchor, holder.device)
        keys = opened(holder, lease)
    except (Forged, NotForHere, CannotOpen):
        return _locked(mark, LockReason.NO_LEASE)
    if lease.serial < mark.lease:
        return _locked(mark, LockReason.LEASE_OLDER)
    if lease.serial > mark.lease:  # the device stopped between the lease file and the mark
        mark = msgspec.structs.replace(
            mark, lease=lease.serial, until_ms=lease.until, emergency_ms=lease.emergency_ms, stretched=False
        )
    return expired(holder, Held(mark, base, keys), reading)


def state(held: Held, reading: Reading) -> Open | Locked:
    """Whether the cache may be open at ``reading``; after `Locked`, call `expired`."""
    if held.lock is not None or held.base is None:
        return Locked(held.lock or LockReason.NO_LEASE)
    return lease_state(held.mark, relay_time(held.base, reading))


def expired(holder: Holder, held: Held, reading: Reading) -> Held:
    """``held`` as it is at ``reading``: a lease that lapsed loses its sealed key, for good; else unchanged.

    Where the disk does not let the key go, the cache is locked all the same, and the next start tries again.
    """
    now = state(held, reading)
    if isinstance(now, Open) or held.lock is not None:
        return held
    with suppress(OSError):  # a disk that has become read-only must not keep the cache open
        holder.files.lease.unlink(missing_ok=True)
    return _locked(held.mark, now.why)


def receive(holder: Holder, held: Held, data: bytes, relay_now_ms: int, reading: Reading) -> Held:
    """What a lease from the relay says; nothing is on disk yet.

    Raises `Forged`, `NotForHere`, `crdtmed.leasing.OldLease` or `CannotOpen`.
    """
    lease = read_lease(data, holder.anchor, holder.device)
    mark, base = take_over(held.mark, lease, relay_now_ms, reading)
    return Held(mark, base, opened(holder, lease))


def keep(holder: Holder, data: bytes) -> None:
    """The lease is durable; it counts once its mark is too (`settle`)."""
    write_whole(holder.files.lease, data)


def settle(holder: Holder, held: Held) -> None:
    """The database is under the current key: the mark says from now on that this lease was taken over.

    That is also what the relay is told, which then forgets the key before.
    """
    _write(holder, held.mark)


async def take(
    holder: Holder,
    held: Held,
    data: bytes,
    relay_now_ms: int,
    reading: Reading,
    rekey: Callable[[bytes], Awaitable[None]],
) -> Held:
    """Takes a lease over while the database is open under ``held.database.current``; raises as `receive` does.

    ``rekey`` brings the database under another key, and is called where the lease carries one.  The order is such that
    a crash at any point leaves the database under a key that a lease on disk carries; or, where the relay itself no
    longer knows the key in use (it was restored from a backup), under the key that its next lease will carry.
    """
    assert held.database is not None, "the database is open"
    under = held.database.current
    fresh = receive(holder, held, data, relay_now_ms, reading)
    assert fresh.database is not None
    carried = under in (fresh.database.current, fresh.database.previous)
    if carried:
        keep(holder, data)
    if under != fresh.database.current:
        await rekey(fresh.database.current)
    if not carried:
        keep(holder, data)
    settle(holder, fresh)
    return fresh


def _write(holder: Holder, mark: Mark) -> None:
    write_signed(holder.files.mark, holder.keys, MARK_TAG, encode_mark(mark))


def note(holder: Holder, held: Held, reading: Reading, *, number: int = 0, head: int = 0) -> Held:
    """Moves the mark on disk up: call it every minute or so, and before the device stops."""
    if held.base is None:
        return held
    mark = advance(held.mark, held.base, reading, number=number, head=head)
    _write(holder, mark)
    return replace(held, mark=mark)


def stretch(holder: Holder, held: Held, reading: Reading, roles: frozenset[Role]) -> Held:
    """Break-glass: the lease runs longer, once, durable when this returns.

    Raises `crdtmed.leasing.CannotStretch`.  That it happened is to be said as a statement.
    """
    if held.base is None or held.lock is not None:
        raise CannotStretch(f"the cache is locked ({held.lock}): only the relay can open it again")
    mark = break_glass(held.mark, relay_time(held.base, reading), roles)
    _write(holder, mark)
    return replace(held, mark=mark)


def wipe(holder: Holder, at_ms: int, last_number: int, random_bytes: Callable[[int], bytes]) -> Wiped:
    """Destroys keys, lease and database, in that order; what to send the relay, if it can still be reached.

    Raises `OSError` as `finish_wipe` does; then it may be called again.  The database must be closed.  After the first
    two steps nothing on the device opens the database any more, not even with the relay's help; a wipe that is cut
    short is finished by `finish_wipe`.
    """
    signature = holder.keys.sign(WIPED_TAG, wiped_body(holder.device, at_ms, last_number))
    begin_wipe(holder.files)
    _destroy_all(holder.files, random_bytes)
    return Wiped(holder.device, at_ms, last_number, signature)


def begin_wipe(files: DeviceFiles) -> None:
    """From now on the next start finishes the wipe, whatever stops it."""
    with suppress(OSError):  # on a full disk nothing can be written, and everything can be destroyed
        write_whole(files.wiping, b"")


def finish_wipe(files: DeviceFiles, random_bytes: Callable[[int], bytes]) -> bool:
    """Finishes a wipe that was begun; whether there was one.

    Raises `OSError` where a file cannot be destroyed; all others are, and the next start tries again.
    """
    if not files.wiping.exists():
        return False
    _destroy_all(files, random_bytes)
    return True


def _destroy_all(files: DeviceFiles, random_bytes: Callable[[int], bytes]) -> None:
    failed: list[OSError] = []
    for path in (*files.in_order_of_destruction, *files.others):
        try:
            destroy(path, random_bytes)
        except OSError as error:
            failed.append(error)
    if failed:
        raise failed[0]
    files.wiping.unlink(missing_ok=True)
