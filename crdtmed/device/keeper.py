"""What is due on an open device: its link, its lease, the lock when that lapses, and the wipe when it was revoked."""

import asyncio
from contextlib import suppress
from typing import Final

from crdtmed.device import lease, link, locked, signing_in
from crdtmed.device.engine_types import Alarm, Connected, DeviceError, Disconnected, LeaseCame, Revoked
from crdtmed.device.life import CacheLocked, LeaseWarning, Life, close_cache, note, open_cache, wipe
from crdtmed.device.link import Dial
from crdtmed.device.store_database import StoreError, damage_marker
from crdtmed.device.telling import tell
from crdtmed.leasing import Locked, OldLease
from crdtmed.limits import LEASE_RENEWAL_S, WIPE_DEADLINE_S
from crdtmed.sealing import CannotOpen
from crdtmed.signed import Forged
from crdtmed.trust import NotForHere

LOOK_S: Final = 1.0
"""How often the keeper looks at the lease, in seconds of the machine's own clock."""
ROSTERS_MS: Final = 3_600_000
"""How often grants issued ahead are fetched while the relay is there."""
ROSTERS_S: Final = 30.0
"""How long a relay may take to answer that; the lease is not looked at meanwhile."""


def start(life: Life) -> None:
    """Begins to do what is due, until `close`."""
    life.keeper = asyncio.create_task(_keep(life))


async def close(life: Life) -> None:
    """Ends link and keeper, moves the high-water mark up, and gives the store up."""
    life.closed = True
    try:
        await disconnect(life)
        keeper, life.keeper = life.keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        if not life.wiped:
            with suppress(OSError):  # the mark that the disk has is merely older
                note(life)
    finally:
        await close_cache(life)  # whatever fails: a store that stays open could not be opened again


async def connect(life: Life, dial: Dial) -> None:
    """Keeps a conversation with the relay going from now on; one that is going on is ended first.

    Of several who connect, disconnect or close at once, the last one has its way.  Raises `DeviceError` ``closed``.
    """
    if life.closed:
        raise DeviceError("closed", "this device is closed", "open it again")
    life.dial = dial
    await _stop_link(life)
    if life.dial is not dial or life.linking is not None:
        return
    life.linking = asyncio.create_task(_link(life, dial))
    life.linking.add_done_callback(lambda task: _ended(life, task))


async def disconnect(life: Life) -> None:
    """Ends the conversation, and stays offline."""
    life.dial = None
    await _stop_link(life)


async def _stop_link(life: Life) -> None:
    linking, life.linking = life.linking, None
    if linking is not None:
        linking.cancel()
        await asyncio.wait([linking])  # what it failed of is told by `_ended`


async def _link(life: Life, dial: Dial) -> None:
    """A locked device asks for its key first."""
    if life.engine is None:
        await locked.ask_for_lease(life, dial)
    if life.engine is not None:
        await link.run(life.engine.core, dial)


def _ended(life: Life, task: asyncio.Task[None]) -> None:
    """A link that ended by an error, which it never should, is not silent."""
    if not task.cancelled() and (error := task.exception()) is not None:
        life.tell(Disconnected("internal", f"the link stopped: {type(error).__name__}: {error}"))


async def _keep(life: Life) -> None:
    """Does what is due, until the device is closed or wiped; what fails is told, and tried again at the next look."""
    told = ""
    while not life.wiped:
        came: LeaseCame | Revoked | Connected | None = None
        with suppress(TimeoutError):
            came = await asyncio.wait_for(life.todo.get(), LOOK_S)
        try:
            await _do_what_is_due(life, came)
        except (OSError, StoreError, DeviceError) as error:
            if str(error) != told:
                told = str(error)
                life.tell(Alarm("keeper", f"the device could not keep itself in order: {error}"))


async def _do_what_is_due(life: Life, came: LeaseCame | Revoked | Connected | None) -> None:
    if isinstance(came, LeaseCame):
        await _take_lease(life, came)
    elif isinstance(came, Connected):
        life.rosters_at = 0
    elif isinstance(came, Revoked):
        now = life.clock.monotonic_ms()
        due = now if came.handed_over else now + WIPE_DEADLINE_S * 1_000 // 2
        life.wipe_at = due if life.wipe_at is None else min(life.wipe_at, due)
    if life.wipe_at is not None and life.clock.monotonic_ms() >= life.wipe_at:
        await _wipe(life)
    elif not life.wiped:
        await look(life)


async def _take_lease(life: Life, came: LeaseCame) -> None:
    engine, database = life.engine, life.database
    if engine is None or database is None or life.held.database is None:
        return
    reading = life.clock.reading()
    try:
        life.held = await lease.take(life.holder, life.held, came.lease, came.relay_ms, reading, database.rekey)
    except (Forged, NotForHere, OldLease, CannotOpen) as error:
        await engine.core.alarm("lease_refused", f"the relay sent a lease that is not to be used: {error}")
    except (StoreError, OSError) as error:
        await engine.core.alarm("lease_not_kept", f"a lease could not be kept: {error}")
    else:
        life.warned_s = None


async def look(life: Life) -> None:
    """Locks the cache when the lease has lapsed, warns before, and moves the mark up every minute."""
    if life.engine is None:
        return
    state = life.lease_state()
    if isinstance(state, Locked):
        with suppress(OSError):  # a disk that is full or read-only must not keep the cache open
            note(life)
        life.held = lease.expired(life.holder, life.held, life.clock.reading())
        life.engine.use(None)
        await _stop_link(life)
        await close_cache(life)
        life.tell(CacheLocked(state.why))
        await _connect_again(life)
        return
    if damage_marker(life.files.database).exists():
        await _rescue(life)
        return
    if state.warning_s is not None and state.warning_s != life.warned_s:
        life.warned_s = state.warning_s
        life.tell(LeaseWarning(state.left_ms, state.until_ms))
    if abs(life.clock.wall_ms() - life.noted_at) >= LEASE_RENEWAL_S * 1_000:
        note(life)
    if abs(life.clock.wall_ms() - life.rosters_at) >= ROSTERS_MS and life.engine.status().connected:
        life.rosters_at = life.clock.wall_ms()
        # Offline again, a full disk, or a relay that does not answer: they are fetched the next time.
        with suppress(DeviceError, StoreError, TimeoutError):
            async with asyncio.timeout(ROSTERS_S):
                await signing_in.refresh_rosters(life.engine)


async def _rescue(life: Life) -> None:
    """The store met a damaged page: it is opened anew, which salvages what can still be read."""
    await _stop_link(life)
    await close_cache(life)
    with suppress(StoreError):  # the device is closed then; the next conversation tries again
        await open_cache(life)
    await _connect_again(life)


async def _connect_again(life: Life) -> None:
    """Back to the relay, unless the device was disconnected meanwhile."""
    if life.dial is not None:
        await connect(life, life.dial)


async def _wipe(life: Life) -> None:
    """Destroys everything, and sees to it that the relay hears of it."""
    dial = life.dial
    await _stop_link(life)
    try:
        told = await wipe(life)
    except OSError:
        life.wipe_at = life.clock.monotonic_ms() + LEASE_RENEWAL_S * 1_000
        raise
    if dial is not None:
        await tell(dial, told, life.jitter)
