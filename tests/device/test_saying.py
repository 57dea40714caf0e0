"""What is said is said once under its key, is later than what was seen, and is durable or was not said at all."""

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crdtmed import clock
from crdtmed.contract import Kind
from crdtmed.device.engine_types import (
    DeviceError,
    State,
)
from crdtmed.device.store_database import Connection, StoreError
from tests.device.scripted_relay import NOW
from tests.device.world import (
    LOG,
    P1,
    administer,
    device_in,
    given,
    linked,
    relay_with,
    run,
    settle,
    tablet_and_relay,
    until,
)


def test_the_same_key_says_the_same_thing_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (_, relay, engine):
            key = engine.new_id()
            first = await engine.say(Kind.ADMINISTER, LOG, given(1), key=key)
            again = await engine.say(Kind.ADMINISTER, LOG, given(1), key=key)
            assert first.ref == again.ref
            with pytest.raises(DeviceError, match="key_reused"):
                await engine.say(Kind.ADMINISTER, LOG, given(2), key=key)
            async with linked(engine.core, relay):
                await settle(engine)
            assert (await engine.say(Kind.ADMINISTER, LOG, given(1), key=key)).ref == first.ref
            with pytest.raises(DeviceError, match="key_reused"):
                await engine.say(Kind.ADMINISTER, LOG, given(2), key=key)
            assert not engine.outbox()
        assert len(relay.judged) == 1

    run(story())


def test_what_is_said_is_later_than_what_was_seen_but_for_clocks_that_run_ahead(tmp_path: Path) -> None:
    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        async with device.engine() as engine, other.engine() as theirs:
            await engine.subscribe([P1])
            other.now += 60_000
            near = await administer(theirs, 1)
            async with linked(engine.core, relay), linked(theirs.core, relay):
                theirs.core.offset_ms = 0

                async def seen(ref: str) -> bool:
                    return ref in [entry.ref for entry in await engine.statements(LOG)]

                await until(lambda: seen(near.ref))
                said = await administer(engine, 2)
                stamps = {entry.ref: entry.statement.stamp for entry in await engine.statements(LOG)}
                assert stamps[said.ref] > stamps[near.ref]
                theirs.core.stamp = clock.stamp(NOW + 10_000_000)
                far = await administer(theirs, 3)
                await until(lambda: seen(far.ref))
                said = await administer(engine, 4)
                stamps = {entry.ref: entry.statement.stamp for entry in await engine.statements(LOG)}
                assert stamps[said.ref] < stamps[far.ref]

    run(story())


def test_a_store_that_fails_when_nobody_waits_any_more_ends_no_task_unheard(tmp_path: Path) -> None:
    """Somebody gave up waiting for what they said; then the disk failed: nothing was said, and nothing is logged."""

    async def story() -> None:
        unheard: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context["message"]))
        device = device_in(tmp_path)
        async with device.engine() as engine:
            database = engine.core.ports.database
            honest, begun, go_on = database.run, asyncio.Event(), asyncio.Event()

            async def slow_and_broken(work: Callable[[Connection], Any]) -> Any:
                begun.set()
                await go_on.wait()
                raise StoreError("failed", "the disk does not answer", "try again")

            database.run = slow_and_broken  # type: ignore[method-assign]  # that is the fault
            saying = asyncio.create_task(administer(engine, 1))
            await begun.wait()
            saying.cancel()
            await asyncio.wait([saying])
            del saying  # it holds what it waited for
            go_on.set()
            for _ in range(10):
                await asyncio.sleep(0)
            gc.collect()  # a task that nobody asked for its exception tells so when it goes
            database.run = honest  # type: ignore[method-assign]  # and its end
            assert not engine.core.outbox.items
            assert (await (await administer(engine, 2)).state()) is State.PENDING
        assert unheard == []

    run(story())
