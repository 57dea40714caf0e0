"""A locked device asks its relay for the key of its cache: a conversation that only renews the lease."""

import asyncio
from contextlib import suppress

from websockets.exceptions import WebSocketException

from crdtmed.device import lease
from crdtmed.device.life import Life, open_cache, wipe
from crdtmed.device.link import Dial, Transport
from crdtmed.device.outbox import back_off
from crdtmed.device.session import Opened, Self, Session, Stage
from crdtmed.device.store_database import StoreError
from crdtmed.device.telling import tell
from crdtmed.leasing import OldLease
from crdtmed.limits import HANDSHAKE_TIMEOUT_MS
from crdtmed.sealing import CannotOpen
from crdtmed.signed import Forged, Revocation, unseal
from crdtmed.trust import Anchor, NotForHere
from crdtmed.wire import frames as wire

_LOST = (OSError, WebSocketException, TimeoutError, EOFError)


async def ask_for_lease(life: Life, dial: Dial) -> bool:
    """Asks until the relay has given a lease and the cache is open; False where the device was revoked and wiped."""
    attempts = 0
    while not life.wiped:
        with suppress(*_LOST, StoreError, Forged, NotForHere, OldLease, CannotOpen):
            await _ask_once(life, dial)
        if life.engine is not None:
            return True
        await asyncio.sleep(back_off(attempts, life.jitter()) / 1_000)
        attempts += 1
    return False


async def _ask_once(life: Life, dial: Dial) -> None:
    transport = await dial()
    mark = life.held.mark
    own = Self(life.profile.device, life.keys, life.profile.anchor, life.random_bytes(16), mark.number, mark.lease)
    session = Session(own)
    try:
        while session.stage is not Stage.CLOSED and life.engine is None:
            await _send(session, transport)
            data = await asyncio.wait_for(transport.recv(), HANDSHAKE_TIMEOUT_MS / 1_000)
            for event in session.receive(data, life.clock.wall_ms()):
                if isinstance(event, Opened):
                    await _opened(life, event)
                    session.leave("renewed", "the device opens its cache, and comes again")
                elif isinstance(event, wire.Revoked):
                    await _revoked(life, event, session.anchor, dial)
                    return
        await _send(session, transport)
    finally:
        with suppress(*_LOST):
            await transport.close()


async def _send(session: Session, transport: Transport) -> None:
    for data in session.drain():
        await transport.send(data)


async def _opened(life: Life, event: Opened) -> None:
    if event.anchor != life.profile.anchor:
        life.anchored(event.anchor)
    welcome = event.welcome
    fresh = lease.receive(life.holder, life.held, welcome.lease, welcome.now, life.clock.reading())
    lease.keep(life.holder, welcome.lease)
    life.held = fresh
    await open_cache(life)


async def _revoked(life: Life, frame: wire.Revoked, anchor: Anchor, dial: Dial) -> None:
    """Only what the identity key says is believed.  What is queued cannot be handed over: its key is gone."""
    revocation = unseal(Revocation, frame.revocation, anchor.identity)
    if revocation.device == life.profile.device:
        await tell(dial, await wipe(life), life.jitter)
