"""Links that drop and cut, relays that forget, stores that were copied: nothing is lost, nothing is doubled."""

import asyncio
import gc
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from crdtmed import clock, statement
from crdtmed.aggregates.medication_administration import Correct
from crdtmed.aggregates.prescription import Sign
from crdtmed.codec import encode
from crdtmed.contract import Kind
from crdtmed.device.engine import Engine
from crdtmed.device.engine_types import (
    DeviceError,
    Disconnected,
    Evicted,
    LeaseCame,
    NotVerified,
    Revoked,
    Standing,
    State,
)
from crdtmed.device.link import Transport
from crdtmed.device.store import put_bases
from crdtmed.device.store_database import Connection, StoreError
from crdtmed.documents import map_digest
from crdtmed.limits import COMPACT_AFTER_UPDATES
from crdtmed.reasons import Awaits, Busy, PatientMoved, Redo, Restamp, SegmentClosed
from crdtmed.signed import DirectoryHead
from crdtmed.statement import Statement
from crdtmed.updates import ItemId
from crdtmed.verdict import Flag, Status
from crdtmed.wire import frames as wire
from tests.device.scripted_relay import NOW, Judgement, Line, ScriptedRelay
from tests.device.test_engine import relay_with
from tests.device.world import DRAFTS, LOG, P1, Device, administer, draft, given, linked, run, settle, stop, until

TODAY = "patient/p1/log/2026-09"


def device_in(tmp_path: Path, name: str = "aaaaaaaa") -> Device:
    return Device(name, tmp_path / f"{name}.db")


async def equal(engine: Engine, relay: ScriptedRelay, names: tuple[str, ...] = (DRAFTS, TODAY)) -> None:
    """The device's bases are the relay's documents."""
    for name in names:
        held = await engine.core.hold(name)
        document = relay.document(name)
        if held is None:
            assert not document.updates
            continue
        assert held.replica.position == document.position
        assert held.replica.digest() == document.replica.digest()


@pytest.mark.parametrize("seed", range(6))
def test_a_link_that_is_cut_at_random_moments_loses_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    async def story() -> None:
        random = Random(seed)
        device = device_in(tmp_path)
        relay = relay_with(device)

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

        async with device.engine() as engine:
            await engine.subscribe([P1])
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
        device = device_in(tmp_path)
        relay = relay_with(device)
        relay.judge = lambda one: Judgement(Status.CONFLICT, Redo(), ("redo",)) if one.number % 5 == 0 else Judgement()
        async with device.engine() as engine:
            await engine.subscribe([P1])
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
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
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
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
                for number in range(5):
                    await administer(engine, number)
                    await settle(engine)
                    for line in list(relay.lines):
                        line.cut()
                    await until(lambda: not engine.status().connected)
                    await until(lambda: engine.status().connected)
        assert len(relay.document(TODAY).replica.state_vector) == 1

    run(story())


# ---- retries --------------------------------------------------------------------------------------------------


class Once:
    """Judges each statement so the first time it comes, and accepts it the second time."""

    def __init__(self, first: Judgement) -> None:
        self.first = first
        self.seen: dict[str, list[Statement]] = {}

    def __call__(self, one: Statement) -> Judgement:
        self.seen.setdefault(one.ref, []).append(one)
        return self.first if len(self.seen[one.ref]) == 1 else Judgement()


def retry(reason: object) -> Judgement:
    return Judgement(Status.RETRY, reason)  # type: ignore[arg-type]  # any reason of those that come with retry


def test_a_restamp_is_signed_again_under_its_id_with_the_relays_time(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        judge = relay.judge = Once(retry(Restamp(NOW)))
        async with device.engine() as engine:
            await engine.subscribe([P1])
            device.now = NOW + 9_000_000
            first = await draft(engine, "a")
            second = await draft(engine, "b")
            async with linked(engine.core, relay):
                await settle(engine)
                assert await first.state() is State.ACCEPTED
            stamps = [judge.seen[ref.ref][1].stamp for ref in (first, second)]
            assert stamps == sorted(stamps)
            assert NOW <= stamps[0] >> 16 <= NOW + 1_000
            for ref in (first, second):
                before, after = judge.seen[ref.ref]
                assert statement.same(before, after)
                assert before.number == after.number
                assert before.stamp > after.stamp
            third = await draft(engine, "c")
            assert engine.core.outbox.items[third.ref].statement.stamp >> 16 < NOW + 1_000

    run(story())


def test_after_a_suspect_clock_stamps_start_again(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        relay.judge = lambda one: Judgement(flags=(Flag.CLOCK_SUSPECT,))
        async with device.engine() as engine:
            device.now = NOW + 9_000_000
            await administer(engine, 1)
            async with linked(engine.core, relay):
                await settle(engine)
                said = await administer(engine, 2)
                assert engine.core.outbox.items[said.ref].statement.stamp >> 16 < NOW + 1_000

    run(story())


def test_awaits_delays_itself_alone_and_goes_when_what_it_waits_for_comes(tmp_path: Path) -> None:
    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        async with device.engine() as engine, other.engine() as theirs:
            await engine.subscribe([P1])
            await theirs.subscribe([P1])
            awaited = await administer(theirs, 9)

            def judge(one: Statement) -> Judgement:
                if one.ref == first.ref and awaited.ref not in relay.statements:
                    return retry(Awaits(awaited.ref))
                return Judgement()

            relay.judge = judge
            first = await administer(engine, 1)
            later = [await administer(engine, number) for number in range(2, 5)]
            async with linked(engine.core, relay):
                for said in later:
                    assert await said.settled() is State.ACCEPTED
                assert await first.state() is State.PENDING
                tried = relay.judged.count(first.ref)
                assert tried >= 1
                async with linked(theirs.core, relay):
                    # The device's clock stands still: only the arrival itself can let it go.
                    assert await first.settled() is State.ACCEPTED
                    await settle(theirs)
            assert relay.judged.count(first.ref) == tried + 1

    run(story())


def test_busy_holds_everything_back_until_its_time(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        relay.judge = Once(retry(Busy(30_000)))
        async with device.engine() as engine:
            await engine.subscribe([P1])
            first = await administer(engine, 1)
            async with linked(engine.core, relay):
                await until(lambda: first.ref in relay.judged)
                await until(lambda: engine.core.outbox.not_before > NOW)
                second = await administer(engine, 2)
                for _ in range(50):
                    await asyncio.sleep(0)
                assert second.ref not in relay.judged
                device.now += 70_000
                engine.core.wake()
                await until(lambda: second.ref in relay.judged)

    run(story())


def test_a_closed_segment_is_left_for_the_one_that_the_relay_names(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        relay.now = NOW + 86_400_000 * 40  # the relay is in another month
        async with device.engine() as engine:
            await engine.subscribe([P1])
            first = await administer(engine, 1)
            async with linked(engine.core, relay):
                await settle(engine)
            assert relay.statements[first.ref][1].document == "patient/p1/log/2026-10"
        relay.now = NOW + 813_100_000  # five minutes into a month, when the one before still takes entries
        relay.judge = Once(retry(SegmentClosed(TODAY)))
        async with device.engine() as engine:
            second = await administer(engine, 2)
            async with linked(engine.core, relay):
                await settle(engine)
            assert relay.statements[second.ref][1].document == TODAY

    run(story())


def test_a_patient_that_moved_is_signed_again_under_a_fresh_challenge(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        judge = relay.judge = Once(retry(PatientMoved(4)))
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
                await until(lambda: engine.status().connected)
                said = await engine.say(Kind.SIGN, P1, Sign("rx1", bytes(32)))
                assert await said.settled() is State.ACCEPTED
                before, after = judge.seen[said.ref]
                assert before.challenge != after.challenge
                assert statement.same(before, after)

    run(story())


def test_a_sign_that_waits_long_for_what_came_before_gets_a_fresh_challenge(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        held: set[str] = set()
        relay.judge = lambda one: retry(Awaits("bbbbbbbb.aaaaaaaaaaaaaaaa")) if one.ref in held else Judgement()
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
                await until(lambda: engine.status().connected)
                first = await administer(engine, 1)
                held.add(first.ref)
                said = await engine.say(Kind.SIGN, P1, Sign("rx1", bytes(32)))
                challenge = engine.core.outbox.items[said.ref].statement.challenge
                await until(lambda: first.ref in relay.judged)
                device.now += 50_000
                engine.core.wake()
                await until(lambda: engine.core.outbox.items[said.ref].statement.challenge != challenge)
                held.clear()
                device.now += 600_000
                engine.core.wake()
                assert await said.settled() is State.ACCEPTED
            sent = statement.decode(relay.statements[said.ref][0]).statement
            assert sent.challenge != challenge

    run(story())


@pytest.mark.parametrize("later_ms", [10_000, 100_000])
def test_what_needed_the_relay_and_was_cut_off_is_renewed_only_while_it_is_fresh(tmp_path: Path, later_ms: int) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        honest = relay.receive

        def cut(line: Line, frame: wire.ToRelay) -> None:
            if isinstance(frame, wire.Request):
                relay.silent = True
                line.cut()
                raise ConnectionError("cut before it was judged")
            honest(line, frame)

        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
                await until(lambda: engine.status().connected)
                relay.receive = cut  # type: ignore[method-assign]  # the link is cut just then
                said = await engine.say(Kind.SIGN, P1, Sign("rx1", bytes(32)))
                await until(lambda: not engine.status().connected)
                relay.receive = honest  # type: ignore[method-assign]  # and its end
                device.now += later_ms
                relay.now += later_ms
                relay.silent = False
                state = await said.settled()
            verdict = await said.verdict()
            assert verdict is not None
            assert (state, verdict.code) == (
                (State.ACCEPTED, "") if later_ms < 60_000 else (State.REFUSED, "challenge_spent")
            )

    run(story())


def test_a_request_waits_for_what_was_said_before_it_and_a_stop_does_not(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        held: set[str] = set()
        relay.judge = lambda one: retry(Awaits("bbbbbbbb.aaaaaaaaaaaaaaaa")) if one.ref in held else Judgement()
        async with device.engine() as engine:
            await engine.subscribe([P1])
            first = await administer(engine, 1)
            held.add(first.ref)
            from crdtmed.aggregates.reconciliation_session import Open

            opening = await engine.say(Kind.RECONCILIATION_OPEN, P1, Open("s1"))
            stopping = await engine.say(Kind.STOP, P1, stop())
            async with linked(engine.core, relay):
                assert await stopping.settled() is State.ACCEPTED
                assert opening.ref not in relay.judged
                held.clear()
                device.now += 600_000
                engine.core.wake()
                assert await opening.settled() is State.ACCEPTED

    run(story())


# ---- a relay that was restored --------------------------------------------------------------------------------


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
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
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
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
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


def test_what_is_to_be_handed_back_survives_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            await engine.subscribe([P1])
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
        device = device_in(tmp_path)
        relay = relay_with(device)
        relay.put_register(P1, "patient", {"id": "p1"})
        async with device.engine() as engine:
            await engine.subscribe([P1])
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
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            await engine.subscribe([P1])
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
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
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


# ---- stores that were copied ----------------------------------------------------------------------------------


def test_yesterdays_copy_of_the_store_is_told_heals_and_uses_no_number_twice(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        numbers: dict[int, set[str]] = {}

        def judge(one: Statement) -> Judgement:
            numbers.setdefault(one.number, set()).add(one.ref)
            return Judgement()

        relay.judge = judge
        async with device.engine() as engine:
            await engine.subscribe([P1])
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
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            await engine.subscribe([P1])
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


# ---- what nobody can read -------------------------------------------------------------------------------------


def test_a_statement_that_the_relay_cannot_read_is_set_aside_and_the_rest_arrives(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        poison: set[str] = set()
        honest = relay._push

        def push(line: Line, name: str, data: bytes) -> None:
            if any(ref.encode().partition(b".")[2] in data for ref in poison):
                line.say(wire.Bye("content_unreadable", "an update with a value that is none"))
                line.closed = True
                relay.lines.discard(line)
                return
            honest(line, name, data)

        relay._push = push  # type: ignore[method-assign]  # a relay that stumbles over one statement
        async with device.engine() as engine:
            await engine.subscribe([P1])
            said = [await administer(engine, number) for number in range(30)]
            poison.add(said[11].ref)
            async with linked(engine.core, relay):
                await settle(engine)
                await equal(engine, relay)
                more = await administer(engine, 99)
                assert await more.settled() is State.ACCEPTED
            inbox = await engine.inbox()
            assert [entry.code for entry in inbox] == ["set_aside"]
            assert inbox[0].statement is not None
            assert inbox[0].statement.statement.ref == said[11].ref
            assert await said[11].settled() is State.SET_ASIDE
            assert len(await engine.statements(LOG)) == 30
            assert not engine.core.outbox.careful

    run(story())


def test_a_base_that_is_not_what_its_digest_says_is_not_believed(tmp_path: Path) -> None:
    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        async with other.engine() as theirs, linked(theirs.core, relay):
            await administer(theirs, 1)
            await settle(theirs)
        honest = relay._digest
        relay._digest = lambda document: honest(relay.document(DRAFTS))  # type: ignore[method-assign]  # it lies
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):

                async def told() -> bool:
                    return "base_unreadable" in [entry.code for entry in await engine.inbox()]

                await until(told)
                assert not await engine.statements(LOG)
            relay._digest = honest  # type: ignore[method-assign]  # and stops lying
            async with linked(engine.core, relay):

                async def there() -> bool:
                    return len(await engine.statements(LOG)) == 1

                await until(there)

    run(story())


def test_a_base_whose_digest_the_relay_did_not_sign_is_not_believed(tmp_path: Path) -> None:
    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        async with other.engine() as theirs, linked(theirs.core, relay):
            await administer(theirs, 1)
            await settle(theirs)
        honest = relay._digest
        relay._digest = lambda document: bytes(64) + honest(document)[64:]  # type: ignore[method-assign]  # a digest that nobody signed
        async with device.engine() as engine:
            await engine.subscribe([P1])
            said = await administer(engine, 2)
            async with linked(engine.core, relay):

                async def told() -> bool:
                    return "forged" in [entry.code for entry in await engine.inbox()]

                await until(told)
            assert [entry.ref for entry in await engine.statements(LOG)] == [said.ref]
            assert not engine.core.rows
            relay._digest = honest  # type: ignore[method-assign]  # and its end
            async with linked(engine.core, relay):
                await settle(engine)
            assert len(await engine.statements(LOG)) == 2

    run(story())


def test_a_statement_of_another_document_does_not_count_and_is_told_once(tmp_path: Path) -> None:
    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        async with other.engine() as theirs:
            right, wrong = await administer(theirs, 1), await administer(theirs, 2, "patient/p2/log")
            values = {one.signed.statement.ref: one.signed.encoded for one in theirs.outbox()}
        relay.insert(TODAY, [values[right.ref], values[wrong.ref]])
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
                await until(lambda: TODAY in engine.core.rows)
                assert [entry.ref for entry in await engine.statements(LOG)] == [right.ref]

                async def alarmed() -> bool:
                    return [entry.code for entry in await engine.inbox()] == ["misplaced"]

                await until(alarmed)
                mine = await administer(engine, 3)
                await settle(engine)
                assert {entry.ref for entry in await engine.statements(LOG)} == {right.ref, mine.ref}
                assert len(await engine.inbox()) == 1

    run(story())


def test_a_forged_author_does_not_count_and_is_an_alarm(tmp_path: Path) -> None:
    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        async with other.engine() as theirs:
            good, bad = await administer(theirs, 1), await administer(theirs, 2)
            values = {one.signed.statement.ref: one.signed.encoded for one in theirs.outbox()}
        forged = bytes([values[bad.ref][0] ^ 1]) + values[bad.ref][1:]
        relay.insert(TODAY, [values[good.ref], forged])
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):

                async def alarmed() -> bool:
                    return [entry.code for entry in await engine.inbox()] == ["forged"]

                await until(alarmed)
                assert [entry.ref for entry in await engine.statements(LOG)] == [good.ref]

    run(story())


# ---- the subset -----------------------------------------------------------------------------------------------


def test_a_patient_that_is_withdrawn_is_purged_and_what_was_said_is_sent(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            await engine.subscribe([P1])
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
        from crdtmed.aggregates.dispensing_event import QueueEntry

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


# ---- out of service -------------------------------------------------------------------------------------------


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


# ---- what is found out ----------------------------------------------------------------------------------------


def test_a_burst_that_cannot_be_written_counts_for_nothing_and_comes_again(tmp_path: Path) -> None:
    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        async with device.engine() as engine, other.engine() as theirs:
            await engine.subscribe([P1])
            mine = await administer(engine, 1)
            async with linked(theirs.core, relay):
                for number in range(300):
                    await administer(theirs, number)
                await settle(theirs)

            def full(held: Connection) -> None:
                pages = held.execute("PRAGMA page_count").fetchone()[0]
                held.execute(f"PRAGMA max_page_count = {pages}")

            await engine.core.ports.database.run(full)
            told: list[object] = []
            engine.core.listeners.append(told.append)
            async with linked(engine.core, relay):
                await until(
                    lambda: any(isinstance(one, Disconnected) and one.code == "store_disk_full" for one in told)
                )
                assert [entry.ref for entry in await engine.statements(LOG)] == [mine.ref]
                assert await mine.state() is State.PENDING
                await engine.core.ports.database.run(lambda held: held.execute("PRAGMA max_page_count = 1000000"))
                assert await mine.settled() is State.ACCEPTED
                await settle(engine)
                await equal(engine, relay)
            assert len(await engine.statements(LOG)) == 301

    run(story())


@pytest.mark.parametrize("ends", ["cancelled", "raises"])
def test_a_burst_that_ends_midway_leaves_no_hole_in_the_base(tmp_path: Path, ends: str) -> None:
    """Found by the balance of a ward: two updates were in memory, not in the store, and later ones went on top."""

    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        async with device.engine() as engine, other.engine() as theirs:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
                await settle(engine)
            async with linked(theirs.core, relay):
                await administer(theirs, 1)
                await settle(theirs)
            database = engine.core.ports.database
            honest, reached = database.run, asyncio.Event()

            async def stuck(work: object) -> object:
                """Where the burst is written, it ends."""
                if "_commit" not in getattr(work, "__qualname__", ""):
                    return await honest(work)  # type: ignore[arg-type]  # whatever it is, it is handed on
                database.run = honest  # type: ignore[method-assign]  # once only
                reached.set()
                if ends == "raises":
                    raise RuntimeError("something else went wrong")
                await asyncio.Event().wait()
                return None

            database.run = stuck  # type: ignore[method-assign, assignment]  # in place of the real one
            async with linked(engine.core, relay):
                await reached.wait()
            async with linked(theirs.core, relay):
                for number in range(2, 5):
                    await administer(theirs, number)
                await settle(theirs)

            async def whole() -> bool:
                return len(await engine.statements(LOG)) == 4

            async with linked(engine.core, relay):
                await until(whole)
                await settle(engine)
        async with device.engine() as engine:
            assert len(await engine.statements(LOG)) == 4, "what the store has is whole"
            assert not [entry for entry in await engine.inbox() if entry.code == "base_damaged"]

    run(story())


def test_a_replica_that_differs_is_found_by_digest_and_taken_anew(tmp_path: Path) -> None:
    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        async with device.engine() as engine, other.engine() as theirs:
            await engine.subscribe([P1])
            async with linked(engine.core, relay), linked(theirs.core, relay):
                first = await administer(theirs, 1)

                async def here() -> bool:
                    return [entry.ref for entry in await engine.statements(LOG)] == [first.ref]

                await until(here)
                # The relay's document is changed behind everybody's back, its position is not.
                document = relay.document(TODAY)
                document.replica = type(document.replica).open(TODAY, 5)
                second = await administer(theirs, 2)
                await second.settled()

                async def alarmed() -> bool:
                    device.now += 61_000
                    engine.core.wake()
                    return "diverged" in [entry.code for entry in await engine.inbox()]

                await until(alarmed)

    run(story())


def test_an_older_directory_is_refused_and_the_newer_one_stays(tmp_path: Path) -> None:
    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device)
        old = relay.document("directory").replica.map()
        async with device.engine() as engine, linked(engine.core, relay):
            relay.enrol(other.name, other.signer.public)
            await until(lambda: engine.directory is not None and "bbbbbbbb" in engine.directory.certificates)
            head = engine.core.head
            relay.write_map("directory", old, ["device/bbbbbbbb"])

            async def alarmed() -> bool:
                return "directory_rolled_back" in [entry.code for entry in await engine.inbox()]

            await until(alarmed)
            assert engine.directory is not None
            assert "bbbbbbbb" in engine.directory.certificates
        async with device.engine() as engine:
            assert engine.core.head == head

    run(story())


def test_a_directory_that_was_verified_is_not_verified_again_at_the_next_start(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine, linked(engine.core, relay):
            await until(lambda: engine.directory is not None)
            await until(lambda: "directory" in engine.core.rows)
        async with device.engine() as engine:
            assert engine.directory is not None
            assert device.name in engine.directory.certificates
            row, snapshot = engine.core.rows["directory"], relay.document("directory").replica.snapshot()
            forged = relay.document("directory").replica.map()
            forged["device/aaaaaaaa"] = bytes(64) + forged["device/aaaaaaaa"][64:]
            del forged["head"]
            head = bytes(64) + encode(DirectoryHead(engine.core.head, NOW, map_digest(forged)))
            relay.document("directory").replica.set({**forged, "head": head})
            spoiled = relay.document("directory").replica.snapshot()
            assert spoiled != snapshot
            await engine.core.ports.database.run(lambda held: put_bases(held, [(row, spoiled)]))
        async with device.engine() as engine:
            assert engine.directory is None, "what is not what was verified is verified"

    run(story())


def test_the_age_of_the_cache_is_that_of_the_connection(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
                await administer(engine, 1)
                await settle(engine)
                device.now += 7_000
                assert engine.synced_at(LOG) == engine.status().synced_at == device.now
            last = device.now
            device.now += 50_000
            assert engine.synced_at(LOG) == last
        async with device.engine() as engine:
            assert engine.synced_at(LOG) == engine.status().synced_at == last
            assert engine.synced_at(DRAFTS) is None

    run(story())


def test_a_base_that_falls_back_under_its_epoch_brings_no_older_register(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        relay.put_register(P1, "patient", {"id": "p1"})
        first = relay.document(P1).updates[0]
        relay.put_register(P1, "patient", {"id": "p1", "allergies": ["penicillin"]})
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
                await until(lambda: P1 in engine.core.rows)
            fallen = relay.documents[P1] = type(relay.document(P1))(P1, relay.epoch)
            fallen.take(first)
            async with linked(engine.core, relay):

                async def told() -> bool:
                    return [entry.code for entry in await engine.inbox()] == ["rolled_back"]

                await until(told)
                assert (await engine.registers(P1))["patient"].version == 2

    run(story())


def test_a_document_that_is_refused_alone_is_asked_for_once_a_conversation(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        relay.evict[DRAFTS] = "unknown_document"
        async with device.engine() as engine:
            await engine.subscribe([P1])
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


def test_an_old_directory_is_shown_as_stale(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            assert engine.status().directory_stale
            async with linked(engine.core, relay):
                await until(lambda: engine.directory is not None)
            assert not engine.status().directory_stale
            device.now += 2 * 86_400_000
            assert engine.status().directory_stale

    run(story())


def test_a_revocation_that_stands_in_the_directory_alone_is_noticed(tmp_path: Path) -> None:
    async def story() -> None:
        from crdtmed.signed import Revocation

        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            told: list[object] = []
            engine.core.listeners.append(told.append)
            async with linked(engine.core, relay):
                await until(lambda: engine.directory is not None)
                relay.put_entries({f"revoked/{device.name}": Revocation(device.name, NOW, "lost", False)})
                await until(lambda: any(isinstance(one, Disconnected) and one.code == "revoked" for one in told))
                assert engine.status().revoked
                assert not engine.status().user

    run(story())


def test_nothing_is_done_to_a_document_whose_authors_cannot_be_verified(tmp_path: Path) -> None:
    async def story() -> None:
        device, stranger = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device)
        async with stranger.engine() as theirs:
            said = await administer(theirs, 1)
            relay.insert(TODAY, [theirs.outbox()[0].signed.encoded])
        correction = Correct(said.ref, "entered-in-error", "wrong patient")
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):

                async def here() -> bool:
                    return len(await engine.statements(LOG)) == 1

                await until(here)
                with pytest.raises(NotVerified):
                    await engine.say(Kind.CORRECT, LOG, correction, seen=[said.ref])
                await administer(engine, 2)
                relay.enrol(stranger.name, stranger.signer.public)
                await until(lambda: engine.directory is not None and "bbbbbbbb" in engine.directory.certificates)
                done = await engine.say(Kind.CORRECT, LOG, correction, seen=[said.ref])
                assert await done.settled() is State.ACCEPTED

    run(story())


def test_the_same_key_says_the_same_thing_once(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            await engine.subscribe([P1])
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


def test_the_lease_is_asked_for_again_in_time(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            leases: list[int] = []
            engine.core.listeners.append(
                lambda event: leases.append(event.relay_ms) if isinstance(event, LeaseCame) else None
            )
            async with linked(engine.core, relay):
                await until(lambda: len(leases) == 1)
                device.now += 61_000
                relay.now += 61_000
                engine.core.wake()
                await until(lambda: leases == [NOW, NOW + 61_000])

    run(story())


def test_many_small_changes_become_one_snapshot(tmp_path: Path) -> None:
    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        async with device.engine() as engine, other.engine() as theirs:
            await engine.subscribe([P1])
            async with linked(engine.core, relay), linked(theirs.core, relay):
                for number in range(COMPACT_AFTER_UPDATES + 20):
                    await administer(theirs, number)
                    await settle(theirs)
                await until(lambda: relay.document(TODAY).position == engine.core.rows[TODAY].position)
            rows = await engine.core.ports.database.run(
                lambda held: held.execute("SELECT count(*) FROM base_update WHERE document = ?", (TODAY,)).fetchone()
            )
            assert rows[0] < COMPACT_AFTER_UPDATES
        async with device.engine() as engine:
            assert len(await engine.statements(LOG)) == COMPACT_AFTER_UPDATES + 20

    run(story())


def test_memory_holds_no_more_documents_than_its_limit_and_nothing_of_what_was_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many documents come at once, unverified, and go again once that is done; every one of them can be read."""
    monkeypatch.setattr("crdtmed.device.engine_core.LIVE_DOCUMENTS", 2)

    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        patients = [f"patient/p{number}" for number in range(1, 6)]
        for name in patients:
            relay.put_register(name, "patient", {"id": name})
        async with device.engine() as engine, other.engine() as theirs:
            async with linked(theirs.core, relay):
                for name in patients:
                    await administer(theirs, 1, f"{name}/log")
                await settle(theirs)
            await engine.subscribe(patients)
            async with linked(engine.core, relay):
                for name in patients:
                    await administer(engine, 2, f"{name}/log")
                await settle(engine)
                await until(lambda: engine.status().behind == 0)
                await engine.verify()
                engine.core.wake()
                await until(lambda: not engine.core.newly_verified)
                await until(lambda: len(engine.core.held) <= 2 + 1)
                assert not engine.core.found
                assert not engine.core.judged
                for name in patients:
                    assert len(await engine.statements(f"{name}/log")) == 2
                    assert len(await engine.registers(name)) == 1
                await engine.verify()
                engine.core.wake()
                await until(lambda: len(engine.core.held) <= 2 + 1)

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
