"""What a device asks the relay for a person: the answer goes to who asked, and to nobody else."""

import asyncio
from pathlib import Path

import pytest

from crdtmed.contract import Role
from crdtmed.device.engine_types import NotAllowed
from crdtmed.signed import Grant, read, seal
from crdtmed.wire import frames as wire
from tests.device.scripted_relay import IDENTITY, Line
from tests.device.world import Device, linked, relay_with, run, until


def test_answers_in_another_order_and_for_who_has_gone_reach_nobody_else(tmp_path: Path) -> None:
    """A person who is signed in with somebody else's grant would act in their name."""

    async def story() -> None:
        device = Device("aaaaaaaa", tmp_path / "a.db")
        relay = relay_with(device)
        heard: list[tuple[Line, wire.SignIn]] = []
        usual = relay.receive

        def receive(line: Line, frame: wire.ToRelay) -> None:
            if isinstance(frame, wire.SignIn):
                heard.append((line, frame))
            else:
                usual(line, frame)

        def granted(user: str) -> wire.SignedIn:
            return wire.SignedIn(
                seal(Grant(f"{user}/aaaaaaaa", user, user, device.name, (Role.NURSE,), ("w1",), 0, 1), IDENTITY)
            )

        relay.receive = receive  # type: ignore[method-assign]  # the script knows nothing of users
        async with device.engine() as engine, linked(engine.core, relay):
            await until(lambda: engine.status().connected)
            gone, ben, ann = (
                asyncio.ensure_future(engine.sign_in(user, "secret", None)) for user in ("zoe", "ben", "ann")
            )
            await until(lambda: len(heard) == 3)
            gone.cancel()
            line = heard[0][0]
            for frame in (granted("zoe"), granted("ann"), wire.SignInFailed("ben", "wrong")):
                line.say(frame)
            assert read(Grant, await ann).user == "ann"
            with pytest.raises(NotAllowed, match="wrong"):
                await ben
            assert gone.cancelled()
            assert not engine.core.answers

    run(story())
