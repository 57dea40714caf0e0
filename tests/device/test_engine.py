"""The engine against a relay that keeps its word: durable, visible, sent, judged, and gone from the outbox."""

import asyncio
from pathlib import Path

import pytest

from crdtmed import statement
from crdtmed.contract import Kind, Role
from crdtmed.device.engine_types import (
    Connected,
    LeaseCame,
    NeedsRelay,
    NotAllowed,
    Standing,
    State,
)
from crdtmed.reasons import DraftClosed
from crdtmed.verdict import Status
from tests.device.scripted_relay import NOW, Judgement
from tests.device.world import (
    DRAFTS,
    LOG,
    P1,
    Device,
    administer,
    device_in,
    draft,
    linked,
    relay_with,
    run,
    settle,
    tablet_and_relay,
    until,
)


def test_what_is_said_offline_is_there_after_a_restart_and_reaches_the_relay_once(tmp_path: Path) -> None:
    async def story() -> None:
        device = Device("aaaaaaaa", tmp_path / "a.db")
        relay = relay_with(device)
        async with device.engine() as engine:
            said = await administer(engine, 1)
            await draft(engine, "with food")
            assert await said.state() is State.PENDING
        async with device.engine() as engine:
            entries = await engine.statements(LOG)
            assert [(entry.ref, entry.standing) for entry in entries] == [(said.ref, Standing.TENTATIVE)]
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
                assert await engine.settled(said.ref) is State.ACCEPTED
                await settle(engine)
                entries = await engine.statements(LOG)
                assert [(entry.ref, entry.standing) for entry in entries] == [(said.ref, Standing.CONFIRMED)]
                assert len(await engine.statements(DRAFTS)) == 1
        assert len(relay.judged) == 2
        async with device.engine() as engine:
            assert await engine.state(said.ref) is State.ACCEPTED
            assert [entry.standing for entry in await engine.statements(LOG)] == [Standing.CONFIRMED]
            assert not engine.outbox()

    run(story())


def test_another_device_sees_it_and_verifies_its_author(tmp_path: Path) -> None:
    async def story() -> None:
        one, two = Device("aaaaaaaa", tmp_path / "a.db"), Device("bbbbbbbb", tmp_path / "b.db")
        relay = relay_with(one, two)
        async with one.engine() as first, two.engine() as second:
            await first.subscribe([P1])
            await second.subscribe([P1])
            async with linked(first.core, relay), linked(second.core, relay):
                said = await administer(first, 1)

                async def seen() -> bool:
                    return [entry.ref for entry in await second.statements(LOG)] == [said.ref]

                await until(seen)
                await until(lambda: second.status().unverified == 0)
                assert not await second.inbox()

    run(story())


def test_what_needs_the_relay_says_so_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        from crdtmed.aggregates.prescription import Sign

        device = Device("aaaaaaaa", tmp_path / "a.db")
        relay = relay_with(device)
        async with device.engine() as engine:
            sign = Sign("rx1", bytes(32))
            with pytest.raises(NeedsRelay):
                await engine.say(Kind.SIGN, P1, sign)
            assert not engine.outbox()
            async with linked(engine.core, relay):
                await until(lambda: engine.status().connected)
                said = await engine.say(Kind.SIGN, P1, sign)
                assert await said.settled() is State.ACCEPTED
            with pytest.raises(NeedsRelay):
                await engine.say(Kind.SIGN, P1, sign)

    run(story())


def test_what_needs_the_relay_is_not_asked_of_one_that_has_not_proved_itself_yet(tmp_path: Path) -> None:
    async def story() -> None:
        from crdtmed.aggregates.prescription import Sign

        device = Device("aaaaaaaa", tmp_path / "a.db")
        relay = relay_with(device)
        relay.receive = lambda line, frame: None  # type: ignore[method-assign]  # it hears, and never answers
        async with device.engine() as engine, linked(engine.core, relay):
            await until(lambda: len(relay.frames_in) == 1)
            asking = asyncio.ensure_future(engine.say(Kind.SIGN, P1, Sign("rx1", bytes(32))))
            await until(lambda: asking.done() or bool(engine.core.challenges))
            assert not engine.core.challenges, "nobody stands and waits for it"
            with pytest.raises(NeedsRelay):
                await asking
            assert not engine.outbox()

    run(story())


def test_nobody_signed_in_or_without_the_role_says_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        device = Device("aaaaaaaa", tmp_path / "a.db")
        async with device.engine() as engine:
            engine.use(device.grant(Role.PHARMACIST))
            with pytest.raises(NotAllowed, match="role_missing"):
                await administer(engine, 1)
            engine.use(None)
            with pytest.raises(NotAllowed, match="not_signed_in"):
                await administer(engine, 1)
            assert engine.status().last_number == 0

    run(story())


def test_with_a_grant_that_is_over_nothing_new_is_ordered_but_what_happened_is_written_down(tmp_path: Path) -> None:
    async def story() -> None:
        device = Device("aaaaaaaa", tmp_path / "a.db")
        async with device.engine() as engine:
            await draft(engine, "while it is in force")
            device.now = device.grant().not_after + 1
            with pytest.raises(NotAllowed, match="grant_not_in_force"):
                await draft(engine, "a moment later")
            said = await administer(engine, 1)
            assert [queued.signed.statement.ref for queued in engine.outbox()][-1] == said.ref
            assert engine.status().last_number == 2

    run(story())


def test_a_conflict_and_a_refusal_in_a_flush_go_to_the_inbox_and_the_rest_arrives(tmp_path: Path) -> None:
    async def story() -> None:
        device = Device("aaaaaaaa", tmp_path / "a.db")
        relay = relay_with(device)
        wrong = {f"text {number}" for number in (3, 17, 18, 40)}

        def judge(one: statement.Statement) -> Judgement:
            text = bytes(one.content)
            if any(word.encode() + b"\xa5" in text or text.endswith(word.encode()) for word in wrong):
                return Judgement(Status.CONFLICT, DraftClosed("rx1"), ("discard", "start_amendment"))
            return Judgement()

        relay.judge = judge
        async with device.engine() as engine:
            refs = [(await draft(engine, f"text {number}")).ref for number in range(60)]
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
                await settle(engine)
                inbox = await engine.inbox()
                assert [entry.code for entry in inbox] == ["draft_closed"] * 4
                assert engine.status().inbox == 4
                assert all(entry.actions == ("discard", "start_amendment") for entry in inbox)
                assert {entry.statement.statement.ref for entry in inbox if entry.statement} == {
                    refs[number] for number in (3, 17, 18, 40)
                }
                held = await engine.core.hold(DRAFTS)
                assert held is not None
                assert held.replica.digest() == relay.document(DRAFTS).replica.digest()
                assert len(await engine.statements(DRAFTS)) == 56
                assert await engine.state(refs[17]) is State.CONFLICT
        assert len(relay.judged) == 60

    run(story())


def test_events_tell_of_the_connection_and_of_changes(tmp_path: Path) -> None:
    async def story() -> None:
        device = Device("aaaaaaaa", tmp_path / "a.db")
        relay = relay_with(device)
        async with device.engine() as engine:
            told: list[object] = []
            engine.core.listeners.append(told.append)
            async with linked(engine.core, relay):
                await until(lambda: any(isinstance(event, Connected) for event in told))

    run(story())


def test_the_age_of_the_cache_is_that_of_the_connection(tmp_path: Path) -> None:
    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (device, relay, engine):
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
