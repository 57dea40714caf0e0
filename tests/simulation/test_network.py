"""The simulated network does what a real one does, and no more."""

import asyncio
from random import Random
from types import SimpleNamespace
from typing import Any, cast

from relay.connection import Connection
from tests.simulation.loop import VirtualLoop
from tests.simulation.network import Line, Weather


class _Heard:
    """A relay, and a tap, that only hear."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.pause_at: Line | None = None

    def received(self, _: Any, data: bytes) -> None:
        self.heard.append(data)
        if self.pause_at is not None:
            self.pause_at.pause()
            asyncio.get_running_loop().call_later(0.5, self.pause_at.resume)

    def drained(self, _: Any) -> None:
        pass

    def to_relay(self, *_: Any) -> None:
        pass

    to_device = at_relay = to_relay


def test_a_line_keeps_the_order_of_what_it_carries_also_where_it_all_comes_at_one_moment() -> None:
    said = [bytes([number]) for number in range(60)]

    async def story() -> tuple[list[bytes], list[bytes]]:
        both = _Heard()
        weather = Weather(Random(3), delay_s=0.1, jitter_s=0.0)
        line = Line(1, "aaaaaaaa", weather, cast(Any, both), cast(Any, both), lambda: 0)
        line.connection = cast(Connection, SimpleNamespace(id=1))
        both.pause_at = line
        for data in said:
            await line.send(data)
            line.write([data])
        await asyncio.sleep(60)
        return both.heard, [await line.recv() for _ in said]

    loop = VirtualLoop()
    try:
        up, down = loop.run_until_complete(story())
    finally:
        loop.close()
    assert up == said
    assert down == said
