"""A relay that was restored has forgotten: devices hand back whatever it lacks, whoever said it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crdtmed.contract import Kind
from crdtmed.device.engine_types import Disconnected, Standing, State
from crdtmed.device.store_database import Connection, StoreError
from crdtmed.reasons import Awaits, Redo
from crdtmed.verdict import Status
from tests.device.scripted_relay import Judgement
from tests.device.world import (
    LOG,
    P1,
    TODAY,
    administer,
    device_in,
    equal,
    linked,
    relay_with,
    retry,
    run,
    settle,
    stop,
    tablet_and_relay,
    until,
)


def test_what_a_restored_relay_lacks_is_handed_back_whoever_said_it(tmp_path: Path) -> None:
    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        relay.put_register(P1, "patient", {"id": "p1"})
        async with device.engine() as engine, other.engine() as theirs:
            await engine.subscribe([P1])
            await theirs.subscribe([P1])
            async with linked(engine.core, relay), linked(theirs.core, relay):
                refs = [(await administer(engine, number)).ref for number in range(5)]
                refs += [(await administer(theirs, number)).ref for number in range(5)]
                request = await engine.say(Kind.STOP, P1, stop())
                await settle(engine)
                await settle(theirs)

                async def all_here() -> bool:
                    return {entry.ref for entry in await engine.statements(LOG)} == set(refs)

                await until(all_here)
            # The other device is gone; the relay comes back as it was before most of it.
            async with linked(engine.core, relay):
                await until(lambda: engine.status().connected)
                await engine.statements(LOG)
                relay.restored(lambda ref: ref in refs[:2])
                await until(lambda: set(refs) <= relay.statements.keys())
                await until(lambda: request.ref in relay.statements)
                await until(lambda: engine.status().connected and engine.status().behind == 0)

                async def confirmed() -> bool:
                    shown = await engine.statements(LOG)
                    return {entry.ref for entry in shown if entry.standing is Standing.CONFIRMED} == set(refs)

                await until(confirmed)
                await equal(engine, relay)
                await until(lambda: not any(engine.core.handing.values()))
        assert len(relay.judged) == len(refs) + 1 + 8 + 1

    run(story())


def test_what_is_handed_back_and_judged_otherwise_comes_to_the_inbox(tmp_path: Path) -> None:
    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (_, relay, engine), linked(engine.core, relay):
            said = await administer(engine, 1)
            await settle(engine)
            await engine.statements(LOG)
            relay.judge = lambda one: Judgement(Status.CONFLICT, Redo(), ("redo", "discard"))
            relay.restored(lambda ref: False)
            await until(lambda: relay.judged.count(said.ref) == 2)

            async def told() -> bool:
                return [entry.code for entry in await engine.inbox()] == ["redo"]

            await until(told)
            assert await said.state() is State.CONFLICT
            assert not await engine.statements(LOG)

    run(story())


@pytest.mark.parametrize("status", [Status.ACCEPTED, Status.CONFLICT])
@pytest.mark.parametrize("earlier", [True, False], ids=["a base is held", "no base is held"])
def test_a_verdict_whose_change_never_came_is_no_reason_to_forget_what_a_restored_relay_lacks(
    tmp_path: Path, status: Status, earlier: bool
) -> None:
    """The relay said what became of it, died before the change was on the line, and was restored to before it."""

    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (_, relay, engine), linked(engine.core, relay):
            kept = [(await administer(engine, 1)).ref] if earlier else []
            await settle(engine)
            if status is Status.CONFLICT:
                relay.judge = lambda one: Judgement(status, Redo(), ("redo", "discard"))
            spread = relay.spread
            relay.spread = lambda first: None  # type: ignore[method-assign]  # that is the fault
            said = await administer(engine, 2)
            assert (await said.settled()).value == status.value
            assert [queued.signed.statement.ref for queued in engine.outbox()] == [said.ref]
            relay.spread = spread  # type: ignore[method-assign]  # and its end
            relay.judge = lambda one: Judgement()
            relay.restored(lambda ref: ref in kept)
            await until(lambda: relay.judged.count(said.ref) == 2)
            await until(lambda: not engine.outbox() and not any(engine.core.handing.values()))

            async def confirmed() -> bool:
                shown = await engine.statements(LOG)
                refs = {entry.ref for entry in shown if entry.standing is Standing.CONFIRMED}
                return refs == {*kept, said.ref} and len(shown) == len(refs)

            await until(confirmed)
            await equal(engine, relay)
            assert not await engine.inbox()

    run(story())


def test_what_was_handed_back_is_shown_and_kept_until_the_document_tells_of_it(tmp_path: Path) -> None:
    """The restored relay took it again, died before the change was on the line, and was restored to before that too."""

    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (device, relay, engine):
            async with linked(engine.core, relay):
                said = await administer(engine, 1)
                await settle(engine)
                await until(lambda: TODAY in engine.core.rows)
                spread = relay.spread
                relay.spread = lambda first: None  # type: ignore[method-assign]  # that is the fault
                relay.restored(lambda ref: False)
                await until(lambda: said.ref in engine.core.coming)
            assert [entry.standing for entry in await engine.statements(LOG)] == [Standing.TENTATIVE]
        relay.spread = spread  # type: ignore[method-assign]  # and its end
        relay.restored(lambda ref: False)
        async with device.engine() as engine:
            assert [entry.standing for entry in await engine.statements(LOG)] == [Standing.TENTATIVE]
            async with linked(engine.core, relay):
                await until(lambda: relay.judged.count(said.ref) == 3)
                await until(lambda: not any(engine.core.handing.values()))
                assert [entry.standing for entry in await engine.statements(LOG)] == [Standing.CONFIRMED]
                await equal(engine, relay)
            assert not await engine.inbox()

    run(story())


def test_what_is_to_be_handed_back_survives_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (device, relay, engine):
            async with linked(engine.core, relay):
                said = await administer(engine, 1)
                await settle(engine)
            relay.restored(lambda ref: False)
            heard = relay._hand_back
            relay._hand_back = lambda line, name, given: None  # type: ignore[method-assign]  # that is the fault
            async with linked(engine.core, relay):
                await until(lambda: bool(engine.core.handing))
                await until(lambda: engine.status().connected)
            relay._hand_back = heard  # type: ignore[method-assign]  # and its end
        async with device.engine() as engine:
            assert [entry.standing for entry in await engine.statements(LOG)] == [Standing.TENTATIVE]
            async with linked(engine.core, relay):
                await until(lambda: relay.judged.count(said.ref) == 2)
                await until(lambda: not any(engine.core.handing.values()))
                await equal(engine, relay)

    run(story())


def test_what_is_to_be_handed_back_outlives_a_disk_that_cannot_be_read_meanwhile(tmp_path: Path) -> None:
    """Found by the simulation: the device began from nothing, and wrote over the bases that it had to give back."""

    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (_, relay, engine):
            relay.put_register(P1, "patient", {"id": "p1"})
            async with linked(engine.core, relay):
                fact = await administer(engine, 1)
                request = await engine.say(Kind.STOP, P1, stop())
                await settle(engine)
                await until(lambda: {TODAY, P1} <= engine.core.rows.keys())
            relay.restored(lambda ref: False)
            database = engine.core.ports.database
            honest, told = database.run, list[object]()
            engine.core.listeners.append(told.append)

            async def broken(work: Callable[[Connection], Any]) -> Any:
                raise StoreError("disk", "the disk does not answer", "try again")

            database.run = broken  # type: ignore[method-assign]  # that is the fault
            async with linked(engine.core, relay):
                await until(lambda: engine.core.unread)
                await until(lambda: sum(isinstance(one, Disconnected) for one in told) > 2)
                database.run = honest  # type: ignore[method-assign]  # and its end
                await until(lambda: {fact.ref, request.ref} <= relay.statements.keys())
                await until(lambda: not any(engine.core.handing.values()))
                await equal(engine, relay)
            assert not engine.core.unread

    run(story())


def test_what_was_to_be_handed_back_by_a_burst_that_does_not_count_is_forgotten_with_it(tmp_path: Path) -> None:
    """Another device hands it back meanwhile: it is shown once, as confirmed, and not as tentative for ever."""

    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (_, relay, engine):
            async with linked(engine.core, relay):
                said = await administer(engine, 1)
                await settle(engine)
                await until(lambda: TODAY in engine.core.rows)
            encoded = relay.statements[said.ref]
            relay.restored(lambda ref: False)
            database = engine.core.ports.database
            honest, failed = database.run, list[int]()

            async def full(work: Callable[[Connection], Any]) -> Any:
                if engine.core.handing.get(LOG) and not failed:
                    failed.append(1)
                    relay.statements[said.ref] = encoded
                    relay.insert(TODAY, [encoded[0]], 99)
                    raise StoreError("disk", "the disk is full", "make room")
                return await honest(work)

            database.run = full  # type: ignore[method-assign]  # that is the fault
            async with linked(engine.core, relay):
                await until(lambda: bool(failed))
                await until(lambda: engine.status().connected and engine.core.rows[TODAY].epoch == relay.epoch)
                assert not any(engine.core.handing.values())
                assert [entry.standing for entry in await engine.statements(LOG)] == [Standing.CONFIRMED]
                await equal(engine, relay)

    run(story())


def test_what_is_handed_back_and_must_wait_is_handed_back_again_in_the_same_conversation(tmp_path: Path) -> None:
    """A correction comes back before what it corrects, which another device has: nobody else may bring it later."""

    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (device, relay, engine), linked(engine.core, relay):
            said = [await administer(engine, number) for number in range(3)]
            await settle(engine)
            await until(lambda: TODAY in engine.core.held)
            waiting, *others = said
            awaits = retry(Awaits("bbbbbbbb." + 16 * "b"))
            relay.judge = lambda one: awaits if one.ref == waiting.ref else Judgement()
            relay.restored(lambda ref: False)
            await until(lambda: bool(engine.core.hand_again))
            assert all(one.ref in relay.statements for one in others)
            conversation = engine.core.conversation
            relay.judge = lambda one: Judgement()
            given = len(relay.handed_back)
            device.now += 60_000
            engine.core.wake()
            await until(lambda: waiting.ref in relay.statements)
            await until(lambda: not any(engine.core.handing.values()))
            assert len(relay.handed_back) == given + 1, "it alone is handed back again"
            assert engine.core.conversation == conversation
            assert not engine.core.hand_again
            await equal(engine, relay)

    run(story())
