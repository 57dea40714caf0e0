"""How long a device waits before it connects again: hardly after a lost line, ever longer where the relay is no use."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from crdtmed.device.engine import Engine
from crdtmed.device.link import CALM_S
from crdtmed.limits import CONVERSATION_OF_USE_MS, RETRY_FIRST_MS, RETRY_MOST_MS
from crdtmed.wire import frames as wire
from tests.device.scripted_relay import Line, ScriptedRelay
from tests.device.world import administer, device_in, linked, relay_with, run, settle, tablet_and_relay, until

FIRST_S = RETRY_FIRST_MS / 1_000
MOST_S = RETRY_MOST_MS / 1_000


class Waits:
    """Waits for nothing, and writes down how many seconds were to be waited for before each new connection."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        if seconds != CALM_S:
            self.seconds.append(seconds)
        await asyncio.sleep(0)


def ends_with_goodbye(relay: ScriptedRelay, code: str, at: type[wire.ToRelay]) -> Callable[[], None]:
    """The relay says goodbye wherever a frame of that kind comes; gives what ends its trouble."""
    honest = relay.receive

    def receive(line: Line, frame: wire.ToRelay) -> None:
        if isinstance(frame, at):
            line.say(wire.Bye(code, "this relay has trouble of its own: try again"))
            line.cut()
        else:
            honest(line, frame)

    def over() -> None:
        relay.receive = honest  # type: ignore[method-assign]  # and its end

    relay.receive = receive  # type: ignore[method-assign]  # a relay that has trouble
    return over


async def lose(engine: Engine, relay: ScriptedRelay, waits: Waits) -> float:
    """The line of a connected device is lost; the seconds that it waits until it dials again."""
    await until(lambda: engine.status().connected and engine.status().behind == 0)
    before = len(waits.seconds)
    for line in list(relay.lines):
        line.cut()
    await until(lambda: len(waits.seconds) > before)
    return waits.seconds[before]


@pytest.mark.parametrize(
    ("code", "at"),
    [
        ("not_committed", wire.Push),
        ("not_committed", wire.Proof),
        ("not_read", wire.Subscribe),
        ("busy", wire.Hello),
    ],
    ids=lambda it: it if isinstance(it, str) else it.__name__,
)
def test_a_relay_that_is_of_no_use_is_asked_ever_less_often(tmp_path: Path, code: str, at: type[wire.ToRelay]) -> None:
    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (_, relay, engine):
            over = ends_with_goodbye(relay, code, at)
            waits = Waits()
            said = await administer(engine, 1)
            async with linked(engine.core, relay, pause=waits):
                await until(lambda: len(waits.seconds) >= 14)
                trouble = waits.seconds[:14]
                over()
                await said.settled()
                assert await lose(engine, relay, waits) <= FIRST_S, "it is of use again"
        for number, seconds in enumerate(trouble):
            due = min(MOST_S, FIRST_S * 2**number)
            assert due / 2 <= seconds <= due, (number, trouble)
        assert len(set(trouble[-6:])) == 6, "no two devices come at the same time for ever"

    run(story())


def test_a_lost_line_is_no_goodbye(tmp_path: Path) -> None:
    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (_, relay, engine):
            waits = Waits()
            async with linked(engine.core, relay, pause=waits):
                assert [await lose(engine, relay, waits) <= FIRST_S for _ in range(12)] == 12 * [True]

    run(story())


def test_a_relay_that_judges_a_little_before_each_goodbye_is_of_use(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        honest = relay._push

        def push(line: Line, name: str, data: bytes) -> None:
            honest(line, name, data)
            line.say(wire.Bye("not_committed", "the disk of this relay is full: try again"))
            line.cut()

        relay._push = push  # type: ignore[method-assign]  # it comes to one push in each conversation
        waits = Waits()
        async with device.engine() as engine:
            scopes = [f"patient/p{number}" for number in range(8)]
            await engine.subscribe(scopes)
            for scope in scopes:
                await administer(engine, 1, f"{scope}/log")
            async with linked(engine.core, relay, pause=waits):
                await settle(engine)
        assert len(waits.seconds) >= 7
        assert max(waits.seconds[:7]) <= FIRST_S

    run(story())


@pytest.mark.parametrize("lasts_ms", [CONVERSATION_OF_USE_MS - 1, CONVERSATION_OF_USE_MS])
def test_a_conversation_that_lasts_is_of_use_though_nothing_is_judged_in_it(tmp_path: Path, lasts_ms: int) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        over = ends_with_goodbye(relay, "not_committed", wire.Proof)
        waits = Waits()
        async with device.engine() as engine, linked(engine.core, relay, pause=waits):
            await until(lambda: len(waits.seconds) >= 6)
            over()
            await until(lambda: engine.status().connected)
            told = len(waits.seconds)
            device.now += lasts_ms
            for line in list(relay.lines):
                line.say(wire.Bye("not_committed", "the disk of this relay is full: try again"))
            await until(lambda: len(waits.seconds) > told)
        assert (waits.seconds[told] <= FIRST_S) == (lasts_ms >= CONVERSATION_OF_USE_MS)

    run(story())
