"""An open device: its lease, its cache while that lasts, its link, and the end of all three.

Whoever holds an open device holds a `Life`; `crdtmed.device.keeper` does what is due on it.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from crdtmed import keys as signing
from crdtmed import leasing
from crdtmed.device import lease
from crdtmed.device.clocks import SYSTEM, Clock
from crdtmed.device.engine import Engine, open_engine
from crdtmed.device.engine_core import Check, Ports
from crdtmed.device.engine_types import Connected, DeviceError, Event, LeaseCame, Revoked
from crdtmed.device.enrolment import Profile, holder_of, read_profile, write_profile
from crdtmed.device.files import DeviceFiles
from crdtmed.device.keyfile import DeviceKeys
from crdtmed.device.link import Dial
from crdtmed.device.store_database import SqlcipherDatabase, StoreError
from crdtmed.device.store_salvage import Salvaged, open_or_salvage
from crdtmed.leasing import Locked, LockReason
from crdtmed.trust import Anchor
from crdtmed.wire.frames import Wiped

_FEW: Final = 4


@dataclass(frozen=True, slots=True)
class CacheLocked:
    """The cache is closed; what is queued in it is kept.  The relay opens it again for a device in good standing."""

    why: LockReason


@dataclass(frozen=True, slots=True)
class CacheOpened:
    """The cache is open again."""


@dataclass(frozen=True, slots=True)
class LeaseWarning:
    """The lease ends soon, as no relay was there to renew it; both in ms."""

    left_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class DeviceWiped:
    """Keys and cache are destroyed: this device was revoked."""


DeviceEvent = Event | CacheLocked | CacheOpened | LeaseWarning | DeviceWiped


@dataclass(slots=True, eq=False)
class Life:
    """What an open device has.

    ``engine`` is None while the cache is locked; ``dial`` is set while it connects.  ``known`` is the same engine, also
    while it is locked: what was said before a lock can be asked about after it, and who was signed in still is.
    """

    files: DeviceFiles
    keys: DeviceKeys
    profile: Profile
    clock: Clock
    random_bytes: Callable[[int], bytes]
    days: int
    held: lease.Held
    engine: Engine | None = None
    database: SqlcipherDatabase | None = None
    dial: Dial | None = None
    linking: asyncio.Task[None] | None = None
    keeper: asyncio.Task[None] | None = None
    todo: "asyncio.Queue[LeaseCame | Revoked | Connected]" = field(default_factory=asyncio.Queue)
    listeners: list[Callable[[DeviceEvent], None]] = field(default_factory=list)
    noted_at: int = 0
    rosters_at: int = 0
    warned_s: int | None = None
    wipe_at: int | None = None
    wiped: bool = False
    closed: bool = False
    known: Engine | None = None

    @property
    def holder(self) -> lease.Holder:
        """What lease and PINs are opened with."""
        return holder_of(self.files, self.keys, self.profile)

    def tell(self, event: DeviceEvent) -> None:
        """Hands an event to whoever listens, and to the keeper what is its work."""
        if isinstance(event, LeaseCame | Revoked | Connected):
            self.todo.put_nowait(event)
        for listener in tuple(self.listeners):
            listener(event)

    def anchored(self, anchor: Anchor) -> None:
        """A new identity key is pinned."""
        self.profile = Profile(
            self.profile.device, self.profile.label, self.profile.url, self.profile.certificate, anchor
        )
        write_profile(self.files, self.keys, self.profile)

    def jitter(self) -> float:
        """Something in 0..1."""
        return int.from_bytes(self.random_bytes(2), "big") / 65_535

    def lease_state(self) -> leasing.Open | Locked:
        """Whether the cache may be open now, and for how long."""
        return lease.state(self.held, self.clock.reading())


async def begin(
    folder: Path,
    keys: DeviceKeys,
    *,
    clock: Clock = SYSTEM,
    random_bytes: Callable[[int], bytes] = os.urandom,
    days: int = 7,
) -> Life:
    """An enrolled device, open as far as its lease allows.

    Raises `crdtmed.device.enrolment.EnrolmentFailed` where it is not enrolled, `StoreError` where its store cannot be
    opened.
    """
    files = DeviceFiles(folder)
    if lease.finish_wipe(files, random_bytes):
        raise DeviceError("wiped", "this device was revoked, and its keys and cache are gone", "enrol it anew")
    profile = read_profile(files, keys)
    held = lease.at_start(holder_of(files, keys, profile), clock.reading())
    life = Life(files, keys, profile, clock, random_bytes, days, held)
    if held.database is not None:
        await open_cache(life)
    return life


async def open_cache(life: Life) -> None:
    """Opens the store with the keys of the lease, under the current one when this returns; raises `StoreError`."""
    held = life.held
    assert held.database is not None, "there are keys to open it with"
    path, device, now = life.files.database, life.profile.device, life.clock.wall_ms()
    renewed = False
    try:
        database, salvaged = await open_or_salvage(path, held.database.current, device, now)
    except StoreError as error:
        if error.code != "wrong_key" or held.database.previous is None:
            raise
        database, salvaged = await open_or_salvage(path, held.database.previous, device, now)
        renewed = True
    try:
        if renewed:
            await database.rekey(held.database.current)
        lease.settle(life.holder, held)
        ports = Ports(
            device=life.profile.device,
            signer=life.keys,
            database=database,
            now_ms=life.clock.wall_ms,
            random_bytes=life.random_bytes,
            verify=_verify,
            anchored=life.anchored,
            lease_serial=lambda: life.held.mark.lease,
        )
        engine = await open_engine(
            ports, life.profile.anchor, days=life.days, high_number=held.mark.number, high_head=held.mark.head
        )
    except BaseException:
        await database.close()
        raise
    engine.core.listeners.append(life.tell)
    if held.base is not None:
        reading = life.clock.reading()
        engine.core.offset_ms = leasing.relay_time(held.base, reading) - reading.wall_ms
    if life.known is not None:
        engine.core.waiters = life.known.core.waiters  # whoever waits goes on waiting
        engine.core.grant = life.known.core.grant
        life.known.core = engine.core
        engine = life.known
    life.engine, life.database, life.known = engine, database, engine
    if salvaged is not None:
        await engine.core.alarm("store_salvaged", salvage_says(salvaged))
    life.tell(CacheOpened())


def salvage_says(of: Salvaged) -> str:
    """What people need to know of a rescue."""
    return (
        f"the store was damaged: {of.outbox} statements that wait for the relay were saved, {of.unreadable} parts "
        f"could not be read, and what the relay has comes anew; the damaged file is kept as {of.damaged.name}"
    )


async def _verify(checks: Sequence[Check]) -> list[bool]:
    """Each signature checked: a few at once, many in threads, since checking leaves the interpreter lock."""
    if len(checks) <= _FEW:
        return [signing.verify(*check) for check in checks]
    half = (len(checks) + 1) // 2
    parts = [asyncio.to_thread(_all, checks[:half]), asyncio.to_thread(_all, checks[half:])]
    first, second = await asyncio.gather(*parts)
    return first + second


def _all(checks: Sequence[Check]) -> list[bool]:
    return [signing.verify(*check) for check in checks]


async def close_cache(life: Life) -> None:
    """Gives the store up; what is queued stays in it."""
    engine, life.engine, life.database = life.engine, None, None
    if engine is not None:
        await engine.close()


def note(life: Life) -> None:
    """Moves the high-water mark on disk up: clocks, numbers, the directory's head."""
    engine = life.engine
    number, head = (engine.core.number, engine.core.head) if engine is not None else (0, 0)
    life.held = lease.note(life.holder, life.held, life.clock.reading(), number=number, head=head)
    life.noted_at = life.clock.wall_ms()


async def wipe(life: Life) -> Wiped:
    """Destroys keys, lease and cache; what to tell the relay.

    Raises `OSError` where a file cannot be destroyed; then it is to be called again.
    """
    lease.begin_wipe(life.files)  # before anything can stop it
    engine = life.known
    number = max(life.held.mark.number, engine.core.number if engine is not None else 0)
    await close_cache(life)
    life.held = replace(life.held, database=None, lock=LockReason.REVOKED)
    told = lease.wipe(life.holder, life.clock.wall_ms(), number, life.random_bytes)
    life.wiped = True
    life.dial = None
    life.tell(DeviceWiped())
    return told
