"""A websocket client that costs the load next to nothing, so that what is measured is the server.

It masks with zeros and hands every message to one callable; nothing is queued.  It is for servers of the benchmark
alone: what it does not check, a client of the world has to.
"""

import asyncio
import base64
import os
from collections.abc import Callable
from typing import Final, cast

_PLAIN: Final = 0x80
_BINARY: Final = 0x82
_PING: Final = 0x89
_PONG: Final = 0x8A
_CLOSE: Final = 0x88
_TEXT: Final = 0x81


class Line(asyncio.Protocol):
    """One connection.  ``on_message`` gets the bytes of every message; ``up`` and ``down`` count bytes on the wire."""

    def __init__(self, host: str, path: str) -> None:
        self.on_message: Callable[[bytes], None] = lambda _: None
        self.on_lost: Callable[[], None] = lambda: None
        self.up = 0
        self.down = 0
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ask = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n"
        ).encode()
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._parts: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not instances of it
        self._transport.write(self._ask)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(f"not taken: {self._rest[:200]!r}"))
        self.on_lost()

    def data_received(self, data: bytes) -> None:
        self.down += len(data)
        data = self._rest + data if self._rest else data
        at = 0
        if not self.opened.done():
            end = data.find(b"\r\n\r\n")
            if end < 0 or not data.startswith(b"HTTP/1.1 101"):
                self._rest = data
                return
            self.opened.set_result(None)
            at = end + 4
        self._rest = data[self._frames(data, at) :]

    def _frames(self, data: bytes, at: int) -> int:
        """Takes every whole frame from ``at`` on; where the rest begins."""
        have = len(data)
        while at + 2 <= have:
            size, body = data[at + 1], at + 2
            if size == 126:
                body += 2
                size = int.from_bytes(data[at + 2 : body], "big")
            elif size == 127:
                body += 8
                size = int.from_bytes(data[at + 2 : body], "big")
            end = body + size
            if body > have or end > have:
                break
            self._frame(data[at], data[body:end])
            at = end
        return at

    def _frame(self, head: int, payload: bytes) -> None:
        if head in (_BINARY, _TEXT) and not self._parts:
            self.on_message(payload)
        elif head == _PING:
            self._write(_PONG, payload)
        elif head == _CLOSE:
            self._write(_CLOSE, payload)
        elif head != _PONG:
            self._parts.append(payload)
            if head & _PLAIN:
                whole, self._parts = b"".join(self._parts), []
                self.on_message(whole)

    def send(self, payload: bytes) -> None:
        """Sends a binary message."""
        self._write(_BINARY, payload)

    def _write(self, head: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            frame = bytes((head, 0x80 | size, 0, 0, 0, 0)) + payload
        elif size < 65_536:
            frame = bytes((head, 0xFE)) + size.to_bytes(2, "big") + b"\0\0\0\0" + payload
        else:
            frame = bytes((head, 0xFF)) + size.to_bytes(8, "big") + b"\0\0\0\0" + payload
        self.up += len(frame)
        if self._transport is not None:
            self._transport.write(frame)

    def close(self) -> None:
        """Hangs up."""
        if self._transport is not None:
            self._transport.close()


async def dial(port: int, path: str) -> Line:
    """An open connection; raises `OSError`."""
    loop = asyncio.get_running_loop()
    _, line = await loop.create_connection(lambda: Line(f"127.0.0.1:{port}", path), "127.0.0.1", port)
    await line.opened
    return line
