"""What the relay wants again: with another time, a fresh challenge, later, elsewhere, or after something else."""

import asyncio
from pathlib import Path

import pytest

from crdtmed import statement
from crdtmed.aggregates.prescription import Sign
from crdtmed.contract import Kind
from crdtmed.device.engine_types import (
    State,
)
from crdtmed.reasons import Awaits, Busy, PatientMoved, Restamp, SegmentClosed
from crdtmed.statement import Statement
from crdtmed.verdict import Flag
from crdtmed.wire import frames as wire
from tests.device.scripted_relay import NOW, Judgement, Line
from tests.device.world import (
    P1,
    TODAY,
    administer,
    device_in,
    draft,
    linked,
    relay_with,
    retry,
    run,
    settle,
    stop,
    tablet_and_relay,
    until,
)


class Once:
    """Judges each statement so the first time it comes, and accepts it the second time."""

    def __init__(self, first: Judgement) -> None:
        self.first = first
        self.seen: dict[str, list[Statement]] = {}

    def __call__(self, one: Statement) -> Judgement:
        self.seen.setdefault(one.ref, []).append(one)
        return self.first if len(self.seen[one.ref]) == 1 else Judgement()


def test_a_restamp_is_signed_again_under_its_id_with_the_relays_time(tmp_path: Path) -> None:
    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (device, relay, engine):
            judge = relay.judge = Once(retry(Restamp(NOW)))
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
        async with tablet_and_relay(tmp_path) as (device, relay, engine):
            relay.judge = Once(retry(Busy(30_000)))
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
        async with tablet_and_relay(tmp_path) as (device, relay, engine):
            relay.now = NOW + 86_400_000 * 40  # the relay is in another month
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
        async with tablet_and_relay(tmp_path) as (_, relay, engine):
            judge = relay.judge = Once(retry(PatientMoved(4)))
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
        async with tablet_and_relay(tmp_path) as (device, relay, engine):
            held: set[str] = set()
            relay.judge = lambda one: retry(Awaits("bbbbbbbb.aaaaaaaaaaaaaaaa")) if one.ref in held else Judgement()
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
        async with tablet_and_relay(tmp_path) as (device, relay, engine):
            honest = relay.receive

            def cut(line: Line, frame: wire.ToRelay) -> None:
                if isinstance(frame, wire.Request):
                    relay.silent = True
                    line.cut()
                    raise ConnectionError("cut before it was judged")
                honest(line, frame)

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
        async with tablet_and_relay(tmp_path) as (device, relay, engine):
            held: set[str] = set()
            relay.judge = lambda one: retry(Awaits("bbbbbbbb.aaaaaaaaaaaaaaaa")) if one.ref in held else Judgement()
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
