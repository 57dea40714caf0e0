"""The patients that a device holds: withdrawn, dropped, taken up again, and brought by queues and days."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from crdtmed import clock
from crdtmed.aggregates.dispensing_event import QueueEntry
from crdtmed.device.engine_core import Core
from crdtmed.device.engine_types import Evicted, State
from crdtmed.device.store_database import Connection, InlineDatabase
from crdtmed.limits import DRIFT_MS
from crdtmed.signed import seal
from crdtmed.trust import Anchor
from crdtmed.wire import frames as wire
from tests.device.scripted_relay import IDENTITY, NOW, Line
from tests.device.world import (
    DRAFTS,
    LOG,
    P1,
    TODAY,
    Device,
    administer,
    device_in,
    linked,
    relay_with,
    run,
    settle,
    tablet_and_relay,
    until,
)


def test_a_patient_that_is_withdrawn_is_purged_and_what_was_said_is_sent(tmp_path: Path) -> None:
    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (_, relay, engine):
            async with linked(engine.core, relay):
                await administer(engine, 1)
                await settle(engine)
                assert len(await engine.statements(LOG)) == 1
            unsent = await administer(engine, 2)
            relay.evict[P1] = "patient_not_in_care"
            told: list[object] = []
            engine.core.listeners.append(told.append)
            async with linked(engine.core, relay):
                await until(lambda: any(isinstance(event, Evicted) and event.document == P1 for event in told))
                assert await unsent.settled() is State.ACCEPTED
                await settle(engine)
            assert not await engine.statements(LOG)
            assert not [name for name in engine.core.rows if name.startswith(P1)]
            assert engine.withdrawn == {P1: "patient_not_in_care"}
            relay.evict.clear()
            async with linked(engine.core, relay):
                await engine.subscribe([P1])

                async def back() -> bool:
                    return len(await engine.statements(LOG)) == 2

                await until(back)

    run(story())


def test_what_lapsed_with_the_last_grant_comes_back_when_somebody_signs_in(tmp_path: Path) -> None:
    """A tablet that stays connected over a long weekend: nobody connects it anew on Monday morning."""

    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (device, relay, engine):
            usual = relay.receive

            def receive(line: Line, frame: wire.ToRelay) -> None:
                if isinstance(frame, wire.SignIn):
                    relay.evict.clear()
                    line.say(wire.SignedIn(seal(device.grant(), IDENTITY)))
                else:
                    usual(line, frame)

            relay.receive = receive  # type: ignore[method-assign]  # the script knows nothing of users
            async with linked(engine.core, relay):
                await administer(engine, 1)
                await settle(engine)
                relay.evict[P1] = "patient_not_in_care"
                for line in relay.lines:
                    line.say(wire.Evicted(P1, "patient_not_in_care"))
                await until(lambda: bool(engine.withdrawn))
                conversation = engine.core.conversation
                await engine.sign_in("ann", "her word", None)

                async def back() -> bool:
                    return len(await engine.statements(LOG)) == 1

                await until(back)
                assert not engine.withdrawn
                assert engine.core.conversation == conversation

    run(story())


def test_a_patient_that_was_not_for_this_device_comes_with_the_queue(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        relay.put_register("patient/p7", "patient", {"id": "p7"})
        relay.evict["patient/p7"] = "patient_not_in_care"
        async with device.engine() as engine:
            await engine.subscribe(["site/w1", "patient/p7"])
            async with linked(engine.core, relay):
                await until(lambda: engine.status().behind == 0 and "patient/p7" in engine.withdrawn)
                relay.evict.clear()
                entry = QueueEntry("rx1", "p7", "item", "Amoxicillin", 20, "{tablet}", NOW)
                relay.put_register("site/w1", "queue/rx1", entry)
                await until(lambda: "patient/p7" in engine.core.rows)
                assert not engine.withdrawn

    run(story())


def test_a_dropped_patient_is_purged_and_widening_fills_everything_in(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            await engine.subscribe([P1, "patient/p2"])
            async with linked(engine.core, relay):
                await administer(engine, 1)
                await administer(engine, 2, "patient/p2/log")
                await settle(engine)
                await engine.unsubscribe([P1])
                assert not await engine.statements(LOG)
                assert len(await engine.statements("patient/p2/log")) == 1
                await until(lambda: not any(name.startswith(P1) for line in relay.lines for name in line.wants))
                await engine.subscribe([P1])

                async def back() -> bool:
                    return len(await engine.statements(LOG)) == 1

                await until(back)

    run(story())


def test_a_patient_that_is_dropped_while_its_base_is_being_written_is_gone_and_comes_back_whole(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        async with device.engine() as engine, other.engine() as theirs:
            await engine.subscribe([P1])
            database = engine.core.ports.database
            honest = database.run
            async with linked(engine.core, relay), linked(theirs.core, relay):
                await until(lambda: engine.status().connected and engine.status().behind == 0)

                async def crossing(work: Callable[[Connection], Any]) -> Any:
                    database.run = honest  # type: ignore[method-assign]  # once is enough
                    await engine.unsubscribe([P1])
                    return await honest(work)

                database.run = crossing  # type: ignore[method-assign]  # the next write meets a purge
                said = await administer(theirs, 1)
                await until(lambda: P1 not in engine.scopes)
                await settle(theirs)
                assert not await engine.statements(LOG)
                await engine.subscribe([P1])

                async def back() -> bool:
                    return [entry.ref for entry in await engine.statements(LOG)] == [said.ref]

                await until(back)
            assert not await engine.inbox()

    run(story())


def test_the_queue_of_a_site_brings_its_patients(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        entry = QueueEntry("rx1", "p7", "item", "Amoxicillin", 20, "{tablet}", NOW)
        relay.put_register("site/w1", "queue/rx1", entry)
        async with device.engine() as engine:
            await engine.subscribe(["site/w1"])
            async with linked(engine.core, relay):
                await until(lambda: "patient/p7" in engine.scopes)
                await until(lambda: any("patient/p7/drafts" in line.wants for line in relay.lines))
                relay.write_map("site/w1", {}, ["queue/rx1"])
                await until(lambda: relay.document("site/w1").position == engine.core.rows["site/w1"].position)
                assert "patient/p7" in engine.scopes
            async with linked(engine.core, relay):
                await until(lambda: engine.status().connected)
                await until(lambda: "patient/p7" not in engine.scopes)

    run(story())


def test_a_new_day_brings_its_segment(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            await engine.subscribe(["site/w1"])
            async with linked(engine.core, relay):
                await until(lambda: engine.status().connected and engine.status().behind == 0)
                device.now += 86_400_000
                relay.now += 86_400_000
                engine.core.wake()
                await until(lambda: any("site/w1/log/2026-09-22" in line.wants for line in relay.lines))

    run(story())


def test_a_log_that_came_whole_is_read_while_it_is_written(tmp_path: Path) -> None:
    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        async with other.engine() as theirs, linked(theirs.core, relay):
            for number in range(3):
                await administer(theirs, number)
            await settle(theirs)
        async with device.engine() as engine:
            database = engine.core.ports.database
            honest, read = database.run, list[bool]()

            async def watched(work: Any) -> object:
                done: object = await honest(work)
                if "_commit" in work.__qualname__ and TODAY in engine.core.held:
                    read.append(not engine.core.held[TODAY]._all_anew)
                return done

            database.run = watched  # type: ignore[method-assign, assignment]  # in place of the real one
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
                await until(lambda: bool(read))
                assert read[0]
                assert len(await engine.statements(LOG)) == 3

    run(story())


@given(st.lists(st.integers(0, 2 * DRIFT_MS), max_size=6), st.integers(0, 2 * DRIFT_MS))
def test_stamps_that_are_seen_together_count_as_one_after_the_other(ahead: list[int], last: int) -> None:
    stamps = [clock.stamp(NOW + ms - DRIFT_MS // 2) for ms in ahead]
    core = Core(
        Device("aaaaaaaa", Path()).ports(InlineDatabase(sqlite3.connect(":memory:"))),
        Anchor(b""),
        0,
        clock.stamp(NOW - last),
        7,
        {},
        set(),
    )
    expected = core.stamp
    for one in stamps:
        expected = clock.receive(expected, one, NOW)
    core.saw(stamps)
    assert core.stamp == expected


def test_a_document_that_is_refused_alone_is_asked_for_once_a_conversation(tmp_path: Path) -> None:
    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (_, relay, engine):
            relay.evict[DRAFTS] = "unknown_document"
            async with linked(engine.core, relay):
                await until(lambda: DRAFTS in engine.core.withdrawn)
                assert engine.withdrawn == {}
                for number in range(5):
                    assert await (await administer(engine, number)).settled() is State.ACCEPTED
        asked = [
            want.document
            for frame in map(wire.read_from_device, relay.frames_in)
            if isinstance(frame, wire.Subscribe)
            for want in frame.wants
        ]
        assert asked.count(DRAFTS) == 1

    run(story())
