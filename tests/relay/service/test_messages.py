"""What is read straight off a line is what the library would have read, however the line cuts it."""

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

from hypothesis import example, given
from hypothesis import strategies as st
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from crdtmed.limits import MAX_FRAME_BYTES
from relay.messages import Messages
from relay.service import Service
from relay.socket import sync_protocol

REQUEST = (
    b"GET /sync HTTP/1.1\r\nHost: ward\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@dataclass
class Desk:
    """A service that only keeps what it is given."""

    heard: list[bytes] = field(default_factory=list)

    def opened(self, peer: object) -> object:
        return self

    def received(self, connection: object, data: bytes) -> None:
        self.heard.append(data)

    def wrote(self, connection: object) -> None:
        pass

    def lost(self, connection: object) -> None:
        pass


@dataclass
class Wire:
    """A transport that only keeps what is written to it."""

    written: bytes = b""
    closed: bool = False

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        pass


def frame(head: int, payload: bytes, mask: bytes | None = b"\x01\x02\x03\x04") -> bytes:
    """A frame as a client writes it; without a mask as none should."""
    masked = 0 if mask is None else 0x80
    size = len(payload)
    if size < 126:
        length = bytes((masked | size,))
    elif size < 65_536:
        length = bytes((masked | 126,)) + size.to_bytes(2, "big")
    else:
        length = bytes((masked | 127,)) + size.to_bytes(8, "big")
    if mask is None:
        return bytes((head,)) + length + payload
    return bytes((head,)) + length + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def as_socket(pieces: list[bytes]) -> tuple[list[bytes], bytes, bool]:
    """What the relay's socket hears of a client's bytes, what it writes, and whether it hangs up."""

    async def run() -> tuple[list[bytes], bytes, bool]:
        desk, wire = Desk(), Wire()
        make = sync_protocol(cast(Service, desk))
        socket = make(cast(Any, None), ServerState(), {})
        socket.connection_made(cast(asyncio.Transport, wire))
        socket.data_received(REQUEST)
        wire.written = b""
        for piece in pieces:
            if not wire.closed:
                socket.data_received(piece)
        socket.connection_lost(None)
        return desk.heard, wire.written, wire.closed

    return asyncio.run(run())


def as_library(pieces: list[bytes]) -> tuple[list[bytes], bytes, bool]:
    """The same of the library alone, in which every frame is an event."""
    protocol = ServerProtocol(max_size=MAX_FRAME_BYTES)
    protocol.receive_data(REQUEST)
    (request,) = protocol.events_received()
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    protocol.data_to_send()
    heard: list[bytes] = []
    parts: list[bytes] = []
    written, closed = b"", False
    for piece in pieces:
        if closed:
            break
        protocol.receive_data(piece)
        for event in protocol.events_received():
            assert isinstance(event, Frame)
            if event.opcode is Opcode.TEXT:
                heard.append(b"")
            elif event.opcode in (Opcode.BINARY, Opcode.CONT):
                parts.append(bytes(event.data))
                if event.fin:
                    heard.append(b"".join(parts))
                    parts = []
        written += b"".join(protocol.data_to_send())
        closed = protocol.close_expected()
    return heard, written, closed


def frames() -> st.SearchStrategy[list[bytes]]:
    """What clients send, and now and then what none should."""
    payload = st.binary(max_size=200) | st.sampled_from([bytes(125), bytes(126), bytes(65_535), bytes(65_536)])
    masks = st.binary(min_size=4, max_size=4)
    message = st.builds(frame, st.just(0x82), payload, masks)
    control = st.builds(frame, st.sampled_from([0x89, 0x8A, 0x88]), st.binary(max_size=20), masks)
    part = st.builds(frame, st.sampled_from([0x01, 0x02, 0x00, 0x80]), payload, masks)
    wrong = (
        st.builds(frame, st.sampled_from([0x81, 0xC2, 0x83, 0x8B, 0xA2]), st.binary(max_size=20), masks)
        | st.builds(frame, st.just(0x82), payload, st.none())
        | st.just(b"\x82\xff" + (MAX_FRAME_BYTES + 1).to_bytes(8, "big"))
        | st.binary(max_size=12)
    )
    return st.lists(message | message | message | control | part | wrong, max_size=8)


@given(made=frames(), cuts=st.lists(st.integers(0, 400), max_size=12))
@example(made=[frame(0x82, b"a"), frame(0x02, b"b"), frame(0x89, b""), frame(0x80, b"c"), frame(0x82, b"d")], cuts=[])
@example(made=[frame(0x02, b"b"), frame(0x82, b"in between"), frame(0x80, b"c")], cuts=[7])
@example(made=[frame(0x01, b"b"), frame(0x82, b"in between")], cuts=[7])
@example(made=[frame(0x89, b"x"), frame(0x82, b"behind a ping")], cuts=[3, 8, 9])
@example(made=[frame(0x82, bytes(65_536)), frame(0x82, b"behind a long one")], cuts=[1, 5, 13, 14, 15])
@example(made=[frame(0x82, frame(0x82, b"inner") * 2, bytes(4)), frame(0x82, b"behind it")], cuts=[6, 17])
@example(made=[frame(0x88, b""), frame(0x82, b"behind the end")], cuts=[6])
def test_the_line_is_read_as_the_library_reads_it(made: list[bytes], cuts: list[int]) -> None:
    data = b"".join(made)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[first:last] for first, last in pairwise(places)]
    assert as_socket(pieces)[0] == as_library(pieces)[0]
    # Of a head that is cut off the library may know already that it is wrong: once more has come, both do.
    pieces.append(bytes(14))
    assert as_socket(pieces) == as_library(pieces)


def test_most_messages_never_reach_the_library() -> None:
    messages = Messages(1_000)
    assert messages.take(frame(0x82, b"one") + frame(0x82, b"two"), True) == ([b"one", b"two"], b"")


def test_a_message_that_is_too_long_is_left_to_the_library() -> None:
    long = frame(0x82, bytes(11))
    assert Messages(10).take(long, True) == ([], long)
    assert Messages(11).take(long, True) == ([bytes(11)], b"")


def test_of_a_cut_off_head_no_more_is_kept_than_a_head_has() -> None:
    messages = Messages(MAX_FRAME_BYTES)
    whole = frame(0x82, bytes(70_000))
    for size in range(14):
        held = Messages(MAX_FRAME_BYTES)
        assert held.take(whole[:size], True) == ([], b"")
        assert held.held == whole[:size]
    assert messages.take(whole[:20], True) == ([], whole[:20])
    assert (messages.owed, messages.held) == (len(whole) - 20, b"")
