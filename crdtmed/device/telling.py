"""A wiped device tells its relay so.  It has no key left; what it says was signed before."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from websockets.exceptions import WebSocketException

from crdtmed.device.link import Dial
from crdtmed.device.outbox import back_off
from crdtmed.limits import HANDSHAKE_TIMEOUT_MS
from crdtmed.wire import frames as wire

TELLINGS: Final = 60
"""How often it is tried; with the pauses in between that is most of an hour."""
HEARD: Final = "wiped"
"""The code with which the relay ends a conversation in which it put the wipe on record."""
_LOST: Final = (OSError, WebSocketException, TimeoutError, EOFError, wire.BadFrame)


async def tell(
    dial: Dial,
    told: wire.Wiped,
    fraction: Callable[[], float],
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> bool:
    """Tells the relay until it has heard; False where it never did.  ``fraction`` in 0..1 is the jitter of a pause."""
    said = wire.encode_frame(told)
    for attempt in range(TELLINGS):
        with suppress(*_LOST):
            if await _once(dial, said):
                return True
        await pause(back_off(attempt, fraction()) / 1_000)
    return False


async def _once(dial: Dial, said: bytes) -> bool:
    transport = await dial()
    try:
        await transport.send(said)
        data = await asyncio.wait_for(transport.recv(), HANDSHAKE_TIMEOUT_MS / 1_000)
        answer = wire.read_from_relay(data)
        return isinstance(answer, wire.Bye) and answer.code == HEARD
    finally:
        with suppress(*_LOST):
            await transport.close()
