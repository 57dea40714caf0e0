"""A device that is out of service hands over what it has, and says nothing more."""

from pathlib import Path

import pytest

from crdtmed import statement
from crdtmed.device.engine_types import Revoked
from crdtmed.wire import frames as wire
from tests.device.scripted_relay import NOW
from tests.device.world import administer, device_in, linked, relay_with, run, until


@pytest.mark.parametrize("now", [False, True])
def test_a_revoked_device_hands_over_and_says_nothing_more(tmp_path: Path, now: bool) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            unsent = [await administer(engine, number) for number in range(3)]
            told: list[object] = []
            engine.core.listeners.append(told.append)
            relay.revoke(device.name, now)
            async with linked(engine.core, relay):
                await until(lambda: any(isinstance(event, Revoked) and event.handed_over for event in told))
                with pytest.raises(Exception, match="revoked"):
                    await administer(engine, 9)
                engine.send(wire.Wiped(device.name, NOW, engine.status().last_number, bytes(64)))
                await until(lambda: bool(relay.wiped))
            given = {statement.decode(data).statement.ref for data in relay.handed_over}
            assert given == (set() if now else {said.ref for said in unsent})
            assert not relay.judged

    run(story())


def test_a_revocation_that_the_identity_key_did_not_sign_is_an_alarm_and_nothing_else(tmp_path: Path) -> None:
    async def story() -> None:
        from crdtmed.signed import Revocation, seal
        from tests.device.scripted_relay import RELAY

        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            await administer(engine, 1)
            relay.revocation = seal(Revocation(device.name, NOW, "lost", False), RELAY)
            async with linked(engine.core, relay):

                async def told() -> bool:
                    return [entry.code for entry in await engine.inbox()] == ["forged"]

                await until(told)
            assert not engine.status().revoked
            assert not relay.handed_over

    run(story())


@pytest.mark.parametrize("before_the_welcome", [False, True])
def test_a_revocation_that_is_not_believed_does_not_leave_the_device_on_a_line_that_renews_nothing(
    tmp_path: Path, before_the_welcome: bool
) -> None:
    async def story() -> None:
        from crdtmed.signed import Revocation, seal
        from tests.device.scripted_relay import IDENTITY

        device = device_in(tmp_path)
        relay = relay_with(device)
        anothers = seal(Revocation("bbbbbbbb", NOW, "lost", False), IDENTITY)
        async with device.engine() as engine:
            if before_the_welcome:
                relay.revocation = anothers
            async with linked(engine.core, relay):
                await until(lambda: bool(relay.lines))
                (line,) = relay.lines
                if not before_the_welcome:
                    await until(lambda: engine.status().connected)
                    line.say(wire.Revoked(anothers, True))
                await until(lambda: line.closed)
                relay.revocation = None
                await until(lambda: engine.status().connected)
            assert not engine.status().revoked
            assert not relay.handed_over

    run(story())
