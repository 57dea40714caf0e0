"""The link: keeps a conversation with the relay going whenever there is a network.

Reconnects with back-off and jitter, for as long as it runs: at once where a line was lost, and ever later where the
relay cannot be reached, or says goodbye before it was of any use.  It decides nothing else: bytes go between a
transport and the engine, bursts of frames as they come.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import WebSocketException

from crdtmed.device import engine_heal, engine_push, engine_relay, engine_verify
from crdtmed.device.engine_core import Core
from crdtmed.device.engine_types import Disconnected
from crdtmed.device.outbox import back_off
from crdtmed.device.session import Closed, Session, Stage
from crdtmed.device.store_database import StoreError
from crdtmed.limits import BURST_FRAMES, HANDSHAKE_TIMEOUT_MS, KEEPALIVE_MS, LAST_WORDS_MS, MAX_RELAY_FRAME_BYTES

CALM_S: Final = 0.05
"""So long nothing must have come before authors are verified in the background…"""
CALM_LOOKS: Final = 20
"""…or so often it was waited for, and then it is done all the same."""
_LOG: Final = logging.getLogger("crdtmed.link")
_LOG.setLevel(logging.INFO)  # at DEBUG websockets writes down the bytes of frames, a password among them
_LOST: Final = (OSError, WebSocketException, TimeoutError, EOFError)


class Transport(Protocol):
    """A connection to a relay.  Any method raises `OSError` or `EOFError` once it is gone."""

    async def send(self, data: bytes) -> None:
        """Sends one frame."""

    async def recv(self) -> bytes:
        """The next frame."""

    async def close(self) -> None:
        """Gives it up."""


Dial = Callable[[], Awaitable[Transport]]
"""Connects to the relay; raises `OSError` where that fails."""


class _Websocket:
    """A `Transport` over a websocket."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, data: bytes) -> None:
        await self._connection.send(data)

    async def recv(self) -> bytes:
        data = await self._connection.recv(decode=False)
        return data if isinstance(data, bytes) else data.encode()

    async def close(self) -> None:
        await self._connection.close()


def websocket(url: str) -> Dial:
    """Dials a relay's websocket at ``url``; whether a url may be dialled at all is judged elsewhere."""

    async def dial() -> Transport:
        connection = await connect_websocket(
            url,
            compression=None,
            max_size=MAX_RELAY_FRAME_BYTES,
            max_queue=BURST_FRAMES,
            ping_interval=KEEPALIVE_MS / 1_000,
            ping_timeout=KEEPALIVE_MS / 1_000,
            open_timeout=HANDSHAKE_TIMEOUT_MS / 1_000,
            close_timeout=1,
            proxy=None,
            logger=_LOG,
        )
        return _Websocket(connection)

    return dial


async def run(core: Core, dial: Dial, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    """Connects, converses, and connects again, until it is cancelled; ``pause`` waits for seconds.

    What goes wrong is told as `Disconnected`; a store that cannot be written is waited for, too.
    """
    verifying = asyncio.create_task(_verify(core, pause))
    attempts = 0
    try:
        while True:
            if await _once(core, dial):
                attempts = 0
            await pause(back_off(attempts, core.jitter()) / 1_000)
            attempts += 1
    finally:
        await _ended(verifying)


async def _once(core: Core, dial: Dial) -> bool:
    """One conversation; whether the next one may follow at once."""
    try:
        if core.unread:
            await engine_heal.read_anew(core)
        transport = await dial()
    except StoreError as error:
        core.tell(Disconnected(f"store_{error.code}", error.says))
        return False
    except _LOST as error:
        core.tell(Disconnected("unreachable", str(error) or type(error).__name__))
        return False
    session = engine_relay.begin(core)
    code, says, by_relay = "stopped", "the link was stopped", False
    try:
        code, says, by_relay = await _converse(core, session, transport)
    except _LOST as error:
        code, says = "lost", str(error) or type(error).__name__
    except StoreError as error:
        code, says = f"store_{error.code}", error.says
    except Exception as error:  # noqa: BLE001 - a fault here must not end syncing for good; it is told as an alarm
        code, says = "internal", f"{type(error).__name__}: {error}"
        with suppress(StoreError):
            await core.alarm("internal", f"a conversation ended with {says}")
    finally:
        lost = code == "lost" and session.relay_proved
        of_use = by_relay and code != "replaced" and engine_relay.is_of_use(core)
        with suppress(*_LOST):
            await transport.close()
        with suppress(StoreError):
            await engine_relay.lost(core, code, says, by_relay)
    # What this device had to end would end the same way at once, and so would what a relay in trouble ended.
    return lost or of_use


async def _converse(core: Core, session: Session, transport: Transport) -> tuple[str, str, bool]:
    """Carries bytes both ways until the session ends; gives why.  Raises what the transport raises."""
    awake = asyncio.Event()
    inbound: asyncio.Queue[bytes] = asyncio.Queue(BURST_FRAMES)
    before, core.wake = core.wake, awake.set
    reading = asyncio.create_task(_read(transport, inbound, awake))
    try:
        await _send(session, transport)
        while session.stage is not Stage.CLOSED:
            await _wait(core, awake, session)
            awake.clear()
            if not await _take_in(core, inbound) and reading.done():
                reading.result()
            if reading.done():
                awake.set()  # what it raised is raised when its last frames were taken in
            await engine_relay.tick(core)
            await engine_push.pump(core)
            try:
                await _send(session, transport)
            except _LOST:
                # The relay may have hung up with a word of why, or with verdicts, while this was on its way.
                await asyncio.wait([reading], timeout=LAST_WORDS_MS / 1_000)
                await _take_in(core, inbound)
                if session.end is None:
                    raise
        return _why(session)
    finally:
        core.wake = before
        await _ended(reading)


async def _take_in(core: Core, inbound: asyncio.Queue[bytes]) -> bool:
    """Takes in the frames that have come; whether there were any."""
    frames = [inbound.get_nowait() for _ in range(inbound.qsize())]
    if frames:
        await engine_relay.receive(core, frames)
    return bool(frames)


async def _ended(task: asyncio.Task[None]) -> None:
    """Stops a task.  What it raises is its own affair; that this one is cancelled meanwhile is not."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()


def _why(session: Session) -> tuple[str, str, bool]:
    end: Closed | None = session.end
    return (end.code, end.says, end.by_relay) if end is not None else ("left", "this device left", False)


async def _send(session: Session, transport: Transport) -> None:
    for data in session.drain():
        await transport.send(data)


async def _read(transport: Transport, inbound: asyncio.Queue[bytes], awake: asyncio.Event) -> None:
    try:
        while True:
            await inbound.put(await transport.recv())
            awake.set()
    finally:
        awake.set()


async def _wait(core: Core, awake: asyncio.Event, session: Session) -> None:
    """Until there is something to do; a relay that does not finish the handshake is given up."""
    due = max(0, engine_relay.next_due(core) - core.ports.now_ms()) / 1_000
    shaking = session.stage in (Stage.GREETING, Stage.PROVING)
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_MS / 1_000 if shaking else due):
            await awake.wait()
    except TimeoutError:
        if shaking:
            raise


async def _verify(core: Core, pause: Callable[[float], Awaitable[None]]) -> None:
    """Verifies authors whenever something came, as soon as no more comes: people wait for what is on its way."""

    seen = looks = 0

    async def calm() -> None:
        nonlocal seen, looks
        await asyncio.sleep(0)
        while core.bursts != seen and looks < CALM_LOOKS:
            seen, looks = core.bursts, looks + 1
            await pause(CALM_S)

    while True:
        await core.to_verify.wait()
        core.to_verify.clear()
        looks = 0
        with suppress(StoreError):
            await engine_verify.verify_all(core, calm)
        core.wake()
