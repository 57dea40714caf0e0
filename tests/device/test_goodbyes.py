"""What the relay says before it hangs up: it is heard, and no statement is blamed that it does not blame."""

from pathlib import Path

import pytest

from crdtmed.device.engine_types import Disconnected
from crdtmed.wire import frames as wire
from tests.device.scripted_relay import Line
from tests.device.world import administer, device_in, linked, relay_with, run, settle, tablet_and_relay, until


@pytest.mark.parametrize("code", ["not_committed", "not_read"])
def test_a_relay_that_has_trouble_of_its_own_blames_no_statement(tmp_path: Path, code: str) -> None:
    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (_, relay, engine):
            goodbyes = 0
            honest = relay._push

            def push(line: Line, name: str, data: bytes) -> None:
                nonlocal goodbyes
                if goodbyes == 6:
                    honest(line, name, data)
                    return
                goodbyes += 1
                line.say(wire.Bye(code, "the disk of this relay has trouble: try again"))
                line.cut()

            relay._push = push  # type: ignore[method-assign]  # a relay whose disk has trouble for a while
            await administer(engine, 1)
            async with linked(engine.core, relay):
                await settle(engine)
            assert not await engine.inbox(), "nothing was set aside"
        assert goodbyes == 6

    run(story())


def test_a_goodbye_is_heard_though_more_was_being_sent_when_it_came(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)

        def push(line: Line, name: str, data: bytes) -> None:
            line.say(wire.Bye("not_committed", "the disk of this relay is full: try again"))
            line.cut()

        relay._push = push  # type: ignore[method-assign]  # a relay whose disk is full
        async with device.engine() as engine:
            told: list[Disconnected] = []
            engine.core.listeners.append(lambda it: told.append(it) if isinstance(it, Disconnected) else None)
            scopes = ["patient/p1", "patient/p2", "patient/p3"]
            await engine.subscribe(scopes)
            for scope in scopes:
                await administer(engine, 1, f"{scope}/log")
            async with linked(engine.core, relay):
                await until(lambda: len(told) > 0)
            assert told[0].code == "not_committed"

    run(story())
