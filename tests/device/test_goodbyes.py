"""What the relay says before it hangs up, and what a device makes of it."""

from pathlib import Path

import pytest

from crdtmed.wire import frames as wire
from tests.device.scripted_relay import Line
from tests.device.test_engine import relay_with
from tests.device.world import P1, administer, device_in, linked, run, settle


@pytest.mark.parametrize("code", ["not_committed", "not_read"])
def test_a_relay_that_has_trouble_of_its_own_blames_no_statement(tmp_path: Path, code: str) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
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
        async with device.engine() as engine:
            await engine.subscribe([P1])
            await administer(engine, 1)
            async with linked(engine.core, relay):
                await settle(engine)
            assert not await engine.inbox(), "nothing was set aside"
        assert goodbyes == 6

    run(story())
