"""The network between devices and relay: delay, cuts that each end notices when it does, half-open lines, slow readers.

A line keeps the order of what it carries, as TCP does, and loses only what was under way when it broke.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from relay.connection import Connection
from relay.service import Service

KEEPALIVE_S = 20.0


class Tap(Protocol):
    """Hears everything that is said on the network, where it is said."""

    def to_relay(self, device: str, line: int, data: bytes, now_ms: int) -> None:
        """A device has said this."""

    def at_relay(self, device: str, data: bytes, now_ms: int) -> None:
        """This has reached the relay."""

    def to_device(self, device: str, line: int, data: bytes, now_ms: int) -> None:
        """The relay has said this."""


@dataclass(eq=False)
class Weather:
    """How the network of one device is: ``down`` refuses and ends lines, ``slow_s`` is what one message takes."""

    random: Random
    delay_s: float = 0.02
    jitter_s: float = 0.05
    slow_s: float = 0.0
    down: bool = False
    lines: list["Line"] = field(default_factory=list)

    def delay(self) -> float:
        """What the next message takes."""
        return self.delay_s + self.random.random() * self.jitter_s

    def break_all(self) -> None:
        """Every line of this device breaks."""
        for line in list(self.lines):
            line.cut(self.random.random() * 2 * KEEPALIVE_S)


@dataclass(eq=False)
class Line:
    """One connection; a `Transport` to the device, a `Peer` to the relay.

    ``lost_up`` and ``lost_down`` swallow what goes that way, as an asymmetric partition does.
    """

    number: int
    device: str
    weather: Weather
    service: Service
    tap: Tap
    now_ms: Callable[[], int]
    connection: Connection | None = None
    lost_up: bool = False
    lost_down: bool = False
    device_open: bool = True
    relay_open: bool = True
    paused: bool = False
    rising: deque[bytes] = field(default_factory=deque)
    held: deque[bytes] = field(default_factory=deque)
    falling: deque[bytes] = field(default_factory=deque)
    inbox: "asyncio.Queue[bytes | None]" = field(default_factory=asyncio.Queue)
    under_way: int = 0
    up_at: float = 0.0
    down_at: float = 0.0

    # ---- the device's end

    async def send(self, data: bytes) -> None:
        if not self.device_open:
            raise ConnectionError("the line is gone")
        self.tap.to_relay(self.device, self.number, data, self.now_ms())
        if not self.lost_up:
            loop = asyncio.get_running_loop()
            self.up_at = max(self.up_at, loop.time() + self.weather.delay())
            self.rising.append(data)
            loop.call_at(self.up_at, self._arrive)

    async def recv(self) -> bytes:
        data = await self.inbox.get()
        if data is None:
            self.inbox.put_nowait(None)
            raise ConnectionError("the line is gone")
        return data

    async def close(self) -> None:
        self.cut(self.weather.delay())

    def _arrive(self) -> None:
        # The first that was sent: a loop's timers of one moment come in any order.
        data = self.rising.popleft()
        if not self.lost_up:
            self.held.append(data)
            self._read()

    def _read(self) -> None:
        while self.held and not self.paused and self.relay_open and self.connection is not None:
            data = self.held.popleft()
            self.tap.at_relay(self.device, data, self.now_ms())
            self.service.received(self.connection, data)

    # ---- the relay's end

    def write(self, messages: list[bytes]) -> None:
        loop = asyncio.get_running_loop()
        for data in messages:
            self.tap.to_device(self.device, self.number, data, self.now_ms())
            if self.lost_down or not self.relay_open:
                continue
            self.under_way += len(data)
            self.down_at = max(self.down_at, loop.time()) + self.weather.slow_s
            self.down_at = max(self.down_at, loop.time() + self.weather.delay())
            self.falling.append(data)
            loop.call_at(self.down_at, self._reach)

    def _reach(self) -> None:
        data = self.falling.popleft()
        self.under_way -= len(data)
        if self.device_open and not self.lost_down:
            self.inbox.put_nowait(data)
        if self.relay_open and self.connection is not None:
            self.service.drained(self.connection)

    def waiting(self) -> int:
        return self.under_way

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        asyncio.get_running_loop().call_soon(self._read)

    def peer_close(self) -> None:
        """The relay is done with it; what it wrote still arrives."""
        loop = asyncio.get_running_loop()
        loop.call_at(max(self.down_at, loop.time()) + self.weather.delay(), self.cut, 0.0)

    # ---- how it ends

    def cut(self, lag_s: float) -> None:
        """It breaks: the device notices now, the relay after ``lag_s``; what is under way is lost."""
        if self.device_open:
            self.device_open = False
            self.inbox.put_nowait(None)
            if self in self.weather.lines:
                self.weather.lines.remove(self)
        self.lost_down = True
        if lag_s:
            self.lost_up = True
            asyncio.get_running_loop().call_later(lag_s, self._gone)
        else:
            self._gone()

    def _gone(self) -> None:
        self.lost_up = True
        if self.relay_open:
            self.relay_open = False
            if self.connection is not None:
                self.service.lost(self.connection)

    def relay_died(self, lag_s: float) -> None:
        """The relay's process is gone: nothing is read any more, and the device notices after ``lag_s``."""
        self.relay_open = False
        self.lost_up = self.lost_down = True
        asyncio.get_running_loop().call_later(lag_s, self.cut, 0.0)

    def half_open(self, up: bool, down: bool, lag_s: float = 2 * KEEPALIVE_S) -> None:
        """What goes these ways is swallowed from now on, until keepalive notices."""
        self.lost_up, self.lost_down = self.lost_up or up, self.lost_down or down
        asyncio.get_running_loop().call_later(lag_s, self.cut, 0.0)


@dataclass(frozen=True)
class PeerOf:
    """What the relay writes to."""

    line: Line

    def write(self, messages: list[bytes]) -> None:
        self.line.write(messages)

    def waiting(self) -> int:
        return self.line.waiting()

    def pause(self) -> None:
        self.line.pause()

    def resume(self) -> None:
        self.line.resume()

    def close(self, code: str, says: str) -> None:
        self.line.peer_close()
