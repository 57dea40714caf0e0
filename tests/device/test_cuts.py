"""Links that drop and cut: nothing is lost, nothing is doubled, and every client is continued or given up."""

import asyncio
from pathlib import Path
from random import Random

import pytest

from crdtmed.device.link import Transport
from crdtmed.reasons import Redo
from crdtmed.statement import Statement
from crdtmed.updates import ItemId
from crdtmed.verdict import Status
from crdtmed.wire import frames as wire
from tests.device.scripted_relay import Judgement
from tests.device.world import (
    DRAFTS,
    LOG,
    P1,
    TODAY,
    administer,
    device_in,
    draft,
    equal,
    linked,
    relay_with,
    run,
    settle,
    tablet_and_relay,
    until,
)


@pytest.mark.parametrize("seed", range(6))
def test_a_link_that_is_cut_at_random_moments_loses_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    async def story() -> None:
        random = Random(seed)
        async with tablet_and_relay(tmp_path) as (_, relay, engine):

            def judge(one: Statement) -> Judgement:
                return Judgement(Status.CONFLICT, Redo(), ("redo",)) if one.number % 20 == 3 else Judgement()

            relay.judge = judge
            cuts = 0

            async def dial() -> Transport:
                nonlocal cuts
                line = await relay.dial()
                if cuts < 25:
                    cuts += 1
                    if random.random() < 0.5:
                        line.cut_after = random.randrange(12)
                    else:
                        line.cut_after_in = random.randrange(12)
                return line

            refs = []
            async with linked(engine.core, relay, dial):
                for number in range(120):
                    target = random.choice([LOG, DRAFTS])
                    said = await (administer(engine, number) if target == LOG else draft(engine, f"t{number}"))
                    refs.append(said.ref)
                    if random.random() < 0.3:
                        await asyncio.sleep(0.001)
                await settle(engine)
                await until(lambda: cuts >= 25 or not engine.core.outbox.items)
                await until(lambda: engine.status().connected and engine.status().behind == 0)
                await equal(engine, relay)
            shown = {entry.ref for name in (LOG, DRAFTS) for entry in await engine.statements(name)}
            conflicts = {entry.statement.statement.ref for entry in await engine.inbox() if entry.statement}
            assert len(conflicts) == 6
            assert shown | conflicts == set(refs)
            assert not shown & conflicts
        assert sorted(relay.judged) == sorted(refs)

    run(story())


def test_a_flush_of_2000_is_few_frames_and_conflicts_cost_no_more(tmp_path: Path) -> None:
    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (_, relay, engine):
            relay.judge = lambda one: (
                Judgement(Status.CONFLICT, Redo(), ("redo",)) if one.number % 5 == 0 else Judgement()
            )
            for number in range(2_000):
                await administer(engine, number)
            async with linked(engine.core, relay):
                await settle(engine)
                await equal(engine, relay, (TODAY,))
            assert len(await engine.inbox()) == 400
            assert len(await engine.statements(LOG)) == 1_600
        pushes = [frame for frame in relay.frames_in if isinstance(wire.read_from_device(frame), wire.Push)]
        assert len(pushes) == 16
        assert len(relay.judged) == 2_000

    run(story())


def test_a_gap_makes_a_new_client_and_nothing_is_lost(tmp_path: Path) -> None:
    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (_, relay, engine), linked(engine.core, relay):
            await administer(engine, 1)
            await settle(engine)
            writer = engine.core.writers[TODAY]
            writer.clock += 5
            writer.last = ItemId(writer.client, writer.clock - 1)
            refs = [(await administer(engine, number)).ref for number in range(2, 6)]
            await settle(engine)
            assert set(refs) < {entry.ref for entry in await engine.statements(LOG)}
            await equal(engine, relay)
        assert len(relay.judged) == 5

    run(story())


def test_after_a_restart_a_new_client_writes_and_the_old_ones_statements_stay(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        for turn in range(3):
            async with device.engine() as engine:
                await engine.subscribe([P1])
                async with linked(engine.core, relay):
                    await administer(engine, turn)
                    await draft(engine, f"turn {turn}")
                    await settle(engine)
                    await equal(engine, relay)
        assert len(relay.document(TODAY).replica.state_vector) == 3
        assert len(relay.judged) == 6

    run(story())


def test_a_reconnection_continues_its_client(tmp_path: Path) -> None:
    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (_, relay, engine), linked(engine.core, relay):
            for number in range(5):
                await administer(engine, number)
                await settle(engine)
                for line in list(relay.lines):
                    line.cut()
                await until(lambda: not engine.status().connected)
                await until(lambda: engine.status().connected)
        assert len(relay.document(TODAY).replica.state_vector) == 1

    run(story())
