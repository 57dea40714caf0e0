"""Stores that are older than they were, or exist twice: told, healed, and no number is used twice."""

import shutil
from pathlib import Path

from crdtmed import statement
from crdtmed.statement import Statement
from crdtmed.verdict import Flag
from tests.device.scripted_relay import Judgement
from tests.device.world import (
    LOG,
    Device,
    administer,
    device_in,
    equal,
    linked,
    relay_with,
    run,
    settle,
    tablet_and_relay,
    until,
)


def test_yesterdays_copy_of_the_store_is_told_heals_and_uses_no_number_twice(tmp_path: Path) -> None:
    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (device, relay, engine):
            numbers: dict[int, set[str]] = {}

            def judge(one: Statement) -> Judgement:
                numbers.setdefault(one.number, set()).add(one.ref)
                return Judgement()

            relay.judge = judge
            unsent = await administer(engine, 1)
        shutil.copy(device.path, tmp_path / "yesterday.db")
        async with device.engine() as engine, linked(engine.core, relay):
            for number in range(2, 12):
                await administer(engine, number)
            await settle(engine)
        shutil.copy(tmp_path / "yesterday.db", device.path)
        async with device.engine() as engine:
            fresh = [(await administer(engine, number)).ref for number in range(20, 25)]
            async with linked(engine.core, relay):
                await settle(engine)
                await equal(engine, relay)
            codes = [entry.code for entry in await engine.inbox()]
            assert codes == ["store_older"]
            assert len(await engine.statements(LOG)) == 11 + 5
            assert engine.status().last_number >= 11 + 5
        assert unsent.ref in relay.statements
        assert set(fresh) <= relay.statements.keys()
        assert all(len(refs) == 1 for refs in numbers.values())
        assert len(relay.statements) == 16

    run(story())


def test_a_mark_outside_the_store_tells_of_an_old_copy_even_offline(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        async with device.engine() as engine:
            old = await administer(engine, 1)
        async with device.engine(high_number=40) as engine:
            assert [entry.code for entry in await engine.inbox()] == ["store_older"]
            said = await administer(engine, 2)
            numbers = [one.signed.statement.number for one in engine.outbox()]
            assert numbers == [41, 42]
            assert [one.signed.statement.ref for one in engine.outbox()] == [old.ref, said.ref]
        async with device.engine(high_number=42) as engine:
            assert len(await engine.inbox()) == 1

    run(story())


def test_numbers_go_on_after_everything_was_sent_and_the_device_restarted(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        for turn in range(3):
            async with device.engine() as engine, linked(engine.core, relay):
                await administer(engine, turn)
                await settle(engine)
                assert engine.status().last_number == turn + 1
                assert not await engine.inbox()
        numbers = [statement.decode(data).statement.number for data, _ in relay.statements.values()]
        assert numbers == [1, 2, 3]

    run(story())


def test_a_number_that_was_given_out_twice_is_told(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        relay.judge = lambda one: Judgement(flags=(Flag.NUMBER_REUSED,) if one.number == 2 else ())
        async with device.engine() as engine:
            for number in range(4):
                await administer(engine, number)
            async with linked(engine.core, relay):
                await settle(engine)
            assert [entry.code for entry in await engine.inbox()] == ["store_older"]

    run(story())


def test_a_second_machine_with_the_same_store_is_told_and_neither_loses_anything(tmp_path: Path) -> None:
    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (device, relay, engine):
            await administer(engine, 1)
        shutil.copy(device.path, tmp_path / "clone.db")
        clone = Device("aaaaaaaa", tmp_path / "clone.db")
        async with device.engine() as one, clone.engine() as two:
            refs = [(await administer(one, number)).ref for number in range(10, 14)]
            refs += [(await administer(two, number)).ref for number in range(20, 26)]
            async with linked(one.core, relay):
                await settle(one)
            async with linked(two.core, relay):
                await settle(two)
            async with linked(one.core, relay):
                await until(lambda: one.status().last_number >= two.status().last_number)
                refs.append((await administer(one, 30)).ref)
                await settle(one)
            assert "store_older" in [entry.code for entry in (*await one.inbox(), *await two.inbox())]
        assert set(refs) <= relay.statements.keys()
        assert len(relay.statements) == len(refs) + 1
        numbers = [statement.decode(data).statement.number for data, _ in relay.statements.values()]
        assert len(set(numbers)) >= len(numbers) - 4  # what both gave out before either knew

    run(story())


def test_two_copies_that_are_connected_at_once_are_told(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine():
            pass
        shutil.copy(device.path, tmp_path / "clone.db")
        clone = Device("aaaaaaaa", tmp_path / "clone.db")
        async with device.engine() as one, clone.engine() as two, linked(one.core, relay):
            await until(lambda: one.status().connected)
            async with linked(two.core, relay):

                async def told() -> bool:
                    return "another_copy" in [entry.code for entry in await one.inbox()]

                await until(told)

    run(story())
