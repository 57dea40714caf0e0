"""The websocket end of a connection, as uvicorn's protocol for upgrades: bytes to messages and back.

websockets' sans-I/O protocol does the handshake, the control frames and whatever else is not a message in one frame
(`relay.messages`).  What the relay sends goes to the transport as it is: a server's frames are not masked, so that one
encoding serves every subscriber, and there is no task and no queue for a connection that is idle.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, cast

from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from crdtmed.limits import HIGH_WATER_BYTES, KEEPALIVE_MS, LOW_WATER_BYTES, MAX_FRAME_BYTES
from relay.connection import Connection
from relay.messages import Messages
from relay.service import Service

PATH: Final = "/sync"
CLOSE_S: Final = 5.0
"""How long a peer may take to read what was written before its end."""
_LOG: Final = logging.getLogger("crdtmed.relay.socket")
_LOG.setLevel(logging.WARNING)  # below it websockets tells of every handshake, at DEBUG the bytes of frames, too
KEEPALIVE_S: Final = KEEPALIVE_MS / 1_000


def message(payload: bytes) -> bytes:
    """A binary websocket message of a server (RFC 6455, 5.2: final, not masked)."""
    size = len(payload)
    if size < 126:
        return bytes((0x82, size)) + payload
    if size < 65_536:
        return b"\x82\x7e" + size.to_bytes(2, "big") + payload
    return b"\x82\x7f" + size.to_bytes(8, "big") + payload


class SyncProtocol(asyncio.Protocol):
    """One websocket; `relay.connection.Peer` towards the relay."""

    __slots__ = (
        "_close_timer",
        "_connection",
        "_messages",
        "_parts",
        "_protocol",
        "_service",
        "_size",
        "_state",
        "_timer",
        "_transport",
        "_unheard",
    )

    def __init__(self, service: Service, state: ServerState) -> None:
        self._service = service
        self._state = state
        self._protocol = ServerProtocol(max_size=MAX_FRAME_BYTES, logger=_LOG)
        self._messages: Messages | None = None
        self._connection: Connection | None = None
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._unheard = 0

    # ---- asyncio's side -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(HIGH_WATER_BYTES, LOW_WATER_BYTES)
        self._state.connections.add(self)  # type: ignore[arg-type]  # uvicorn's type lists its own protocols only
        self._keep_alive()

    def data_received(self, data: bytes) -> None:
        self._unheard = 0
        if self._messages is not None:
            taken, data = self._messages.take(data, self._protocol.current_size is None)
            for payload in taken:
                self._message(payload)
        if data:
            self._others(data)

    def _others(self, data: bytes) -> None:
        """What is not a message in one frame, or comes behind something that is not."""
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._upgrade(event)
            elif isinstance(event, Frame):
                self._frame(event)
        self._send_protocol()
        if self._protocol.close_expected() and self._transport is not None:
            self._transport.close()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._timer, self._close_timer):
            if timer is not None:
                timer.cancel()
        self._state.connections.discard(self)
        connection, self._connection = self._connection, None
        self._transport = None
        if connection is not None:
            self._service.lost(connection)

    def resume_writing(self) -> None:
        if self._connection is not None:
            self._service.drained(self._connection)

    def shutdown(self) -> None:
        """uvicorn stops; the service has said goodbye already."""
        self.close("closing", "the relay stops")

    # ---- the relay's side ---------------------------------------------------------------------------------------

    def write(self, messages: list[bytes]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join([message(payload) for payload in messages]))

    def waiting(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self, code: str, says: str) -> None:
        self._connection = None
        transport = self._transport
        if transport is None or self._close_timer is not None:
            return
        if self._protocol.state.name == "OPEN":
            self._protocol.send_close(CloseCode.NORMAL_CLOSURE, code[:120])
            self._send_protocol()
        # A peer that reads nothing more would keep the socket open for ever.
        self._close_timer = asyncio.get_running_loop().call_later(CLOSE_S, transport.abort)
        transport.close()

    # ---- frames -------------------------------------------------------------------------------------------------

    def _upgrade(self, request: Request) -> None:
        if request.path.partition("?")[0] != PATH:
            self._protocol.send_response(self._protocol.reject(404, f"websockets are spoken at {PATH}\n"))
            return
        response = self._protocol.accept(request)
        self._protocol.send_response(response)
        self._send_protocol()
        if response.status_code == 101:
            # uvicorn hands over the request alone, so that what comes next begins with a frame.
            self._messages = Messages(MAX_FRAME_BYTES)
            self._connection = self._service.opened(self)

    def _frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.BINARY and frame.fin and not self._parts:
            self._message(bytes(frame.data))
        elif frame.opcode in (Opcode.BINARY, Opcode.CONT):
            self._parts.append(bytes(frame.data))
            if frame.fin:
                whole, self._parts = b"".join(self._parts), []
                self._message(whole)
        elif frame.opcode is Opcode.TEXT:
            self._message(b"")  # no frame of ours is text: the session says so

    def _message(self, data: bytes) -> None:
        if self._connection is not None:
            self._service.received(self._connection, data)

    def _send_protocol(self) -> None:
        out = b"".join(self._protocol.data_to_send())
        if out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(out)
            if self._connection is not None:
                self._service.wrote(self._connection)

    def _keep_alive(self) -> None:
        """A ping where nothing was heard, and the end where nothing answered it."""
        if self._transport is None:
            return
        if self._unheard >= 2:
            self._transport.abort()
            return
        if self._unheard == 1 and self._protocol.state.name == "OPEN":
            self._protocol.send_ping(b"")
            self._send_protocol()
        self._unheard += 1
        self._timer = asyncio.get_running_loop().call_later(KEEPALIVE_S, self._keep_alive)


def sync_protocol(service: Service) -> Callable[..., SyncProtocol]:
    """What uvicorn makes for every upgrade."""

    def make(config: Config, server_state: ServerState, app_state: dict[str, Any]) -> SyncProtocol:
        return SyncProtocol(service, server_state)

    return make
