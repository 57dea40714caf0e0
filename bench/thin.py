"""Thin clients: the handshake and frames by hand, so that the load does not hide the server."""

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any

from bench.ground import Thin
from bench.line import Line, dial
from crdtmed.wire import frames

Places = dict[str, tuple[str, int]]
"""Documents, and the epoch and position at which each stands."""


class Refused(RuntimeError):
    """The relay ended the conversation; the message is its reason."""


async def join(
    port: int, thin: Thin, documents: Sequence[str], on_message: Callable[[bytes], None] | None = None
) -> Line:
    """A device that is connected, and has what there is of ``documents``; then every message goes to ``on_message``.

    Raises `Refused` or `OSError`.
    """
    return await join_from(port, thin, dict.fromkeys(documents, ("", 0)), on_message)


async def join_from(port: int, thin: Thin, places: Places, on_message: Callable[[bytes], None] | None = None) -> Line:
    """The same for a device that stands somewhere already; ``places`` is moved to where it then stands."""
    line = await dial(port, "/sync")
    inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
    line.on_message = inbox.put_nowait
    line.on_lost = lambda: inbox.put_nowait(None)
    nonce = os.urandom(16)
    line.send(frames.encode_frame(frames.Hello(frames.PROTOCOL, thin.id, nonce)))
    challenge = await _next(inbox, frames.Challenge)
    body = frames.handshake_body(thin.id, nonce, challenge.nonce, thin.relay_public)
    line.send(frames.encode_frame(frames.Proof(thin.signer.sign(frames.DEVICE_PROOF_TAG, body), 0, 0)))
    await _next(inbox, frames.Welcome)
    if places:
        wants = tuple(frames.Want(document, *place) for document, place in places.items())
        line.send(frames.encode_frame(frames.Subscribe(wants)))
        missing = set(places)
        while missing:
            came = _places(await _next(inbox, frames.ToDevice))
            places.update(came)
            missing -= came.keys()
    if on_message is not None:
        line.on_message = on_message
    return line


def _places(frame: frames.ToDevice) -> Places:
    match frame:
        case frames.Bases(documents=documents):
            return {state.document: (state.epoch, state.position) for state in documents}
        case frames.Changes(runs=runs):
            return {run.document: (run.epoch, run.first + len(run.updates) - 1) for run in runs}
        case frames.Evicted(document=document, code=code):
            raise Refused(f"{document}: {code}")
    return {}


async def _next(inbox: "asyncio.Queue[bytes | None]", of: Any) -> Any:
    """The next frame of a type, or of one of several."""
    async with asyncio.timeout(60):
        while True:
            data = await inbox.get()
            if data is None:
                raise Refused("the connection was lost")
            frame = frames.read_from_relay(data)
            if isinstance(frame, frames.Bye):
                raise Refused(f"{frame.code}: {frame.says}")
            if isinstance(frame, of):
                return frame
