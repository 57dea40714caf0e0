"""Signatures checked by real processes beside the writer: they save it work, and leave nothing behind."""

import asyncio
import signal
from collections.abc import Callable

import pytest
import uvloop

from crdtmed.verdict import Status
from relay import pace
from relay.checks import SHARE, next_unasked
from tests.relay.probe import Ended, Probe
from tests.relay.service.conftest import Running
from tests.relay.service.flushes import MANY, Busy, awake, checks, gone, occupy, send, stopped, until
from tests.relay.service.stories import run, write


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_flush_is_verified_by_other_processes_while_the_writer_is_busy(
    running: Running,
    busy: Busy,
    monkeypatch: pytest.MonkeyPatch,
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    one = running.world.tablet()

    async def story() -> None:
        async with running.up(verifiers=2) as service, Probe(one, service) as a:
            pids = [each.process.pid for each in service.verifiers.all]
            refs: list[str] = []
            await occupy(busy, service)
            for count in (MANY, 3 * SHARE + 1, 1):
                refs += await send(a, count)
            await until(lambda: len(checks(service)) == 3 and all(None not in each.found for each in checks(service)))
            # Whatever the writer checked itself from here on, it would find wrong.
            monkeypatch.setattr("relay.jobs.signed_by", lambda public, encoded: False)
            busy.may.set()
            assert {(await a.verdict(ref)).status for ref in refs} == {Status.ACCEPTED}
            assert service.timings.signatures == {"writer": 0, "verifiers": len(refs)}
            assert len(pids) == 2
        assert all(map(gone, pids))

    run(story, loop)
    assert running.world.verify().findings == ()


def test_one_that_is_told_to_stop_waits_for_the_relay_to_hang_up(running: Running, busy: Busy) -> None:
    async def story() -> None:
        async with running.up(verifiers=1) as service:
            await awake(service)
            [it] = service.verifiers.all
            for number in (signal.SIGTERM, signal.SIGINT):
                it.process.send_signal(number)
            await awake(service)
            assert [it] == service.verifiers.all

    run(story)


# ---- the writer meanwhile ------------------------------------------------------------------------------------------


def test_what_many_devices_say_at_once_is_verified_by_another_process(
    running: Running, busy: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    tablets = [running.world.tablet() for _ in range(3)]

    async def story() -> None:
        async with (
            running.up(verifiers=1) as service,
            Probe(tablets[0], service) as a,
            Probe(tablets[1], service) as b,
            Probe(tablets[2], service) as c,
        ):
            await awake(service)
            await occupy(busy, service)
            said = [(probe, await write(probe, *"12345", client=at)) for at, probe in enumerate((a, b, c), 3)]
            await until(lambda: len(checks(service)) == 15 and all(each.done for each in checks(service)))
            monkeypatch.setattr("relay.jobs.signed_by", lambda public, encoded: False)
            busy.may.set()
            for probe, refs in said:
                assert [(await probe.verdict(ref)).status for ref in refs] == [Status.ACCEPTED] * 5
            assert service.timings.signatures == {"writer": 0, "verifiers": 15}

    run(story)
    assert running.world.verify().findings == ()


def test_a_few_statements_are_verified_where_they_are_committed_and_nothing_of_them_is_kept(running: Running) -> None:
    one = running.world.tablet()

    async def story() -> None:
        async with running.up(verifiers=1) as service, Probe(one, service) as a:
            await awake(service)
            for number in range(30):
                [ref] = await write(a, str(number + 1))
                assert (await a.verdict(ref)).status is Status.ACCEPTED
            assert service.timings.signatures == {"writer": 30, "verifiers": 0}
            service.pump()
            assert len(service.hub.checks) == 0

    run(story)


def test_the_writer_checks_what_nobody_can_be_asked_about_before_it_waits(
    running: Running, busy: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.verifiers.MAX_OPEN", 1)
    one = running.world.tablet()

    async def story() -> None:
        async with running.up(verifiers=1) as service, Probe(one, service) as a:
            it = await stopped(busy, service)
            refs = await send(a, SHARE) + await send(a, 2 * SHARE)
            await until(lambda: it.line.open == 1 and len(checks(service)) == 2)
            first, second = checks(service)
            busy.may.set()
            await until(lambda: second.done)
            assert (first.done, second.here, service.timings.commits) == (False, 2 * SHARE, 0)
            it.process.send_signal(signal.SIGCONT)
            assert {(await a.verdict(ref)).status for ref in refs} == {Status.ACCEPTED}
            assert service.timings.signatures == {"writer": 2 * SHARE, "verifiers": SHARE}

    # However slowly the test goes, the writer does not go on alone.
    monkeypatch.setattr(pace, "LATE_TIMES", 1_000_000)
    run(story)
    assert running.world.verify().findings == ()


# ---- forged statements ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("killed", [False, True], ids=["told by another process", "found by the writer"])
def test_a_forged_statement_in_the_middle_of_a_flush_ends_the_connection(
    running: Running, busy: Busy, killed: bool
) -> None:
    good, bad = running.world.tablet(), running.world.tablet()

    async def story() -> None:
        async with running.up(verifiers=1) as service, Probe(good, service) as a, Probe(bad, service) as b:
            await awake(service)
            [it] = service.verifiers.all
            await occupy(busy, service)
            if killed:
                it.process.send_signal(signal.SIGSTOP)
            await send(b, 2 * SHARE, forged=SHARE + 5, client=8)
            refs = await send(a, 1) + await send(a, 1)
            await until(lambda: len(checks(service)) == 3 and not next_unasked(service.hub.checks))
            if killed:
                it.process.kill()
                await until(lambda: it not in service.verifiers.all)
            await until(lambda: all(each.done for each in checks(service)))
            busy.may.set()
            with pytest.raises(Ended) as ended:
                await b.ended()
            assert ended.value.code == "bad_signature"
            assert {(await a.verdict(ref)).status for ref in refs} == {Status.ACCEPTED}
            assert service.timings.signatures["verifiers"] == (0 if killed else 2 * SHARE + 2)

    run(story)
    assert len(list(running.world.record.statements())) == 2
    assert running.world.verify().findings == ()


# ---- none is left --------------------------------------------------------------------------------------------------


def test_one_that_is_stopped_leaves_none_even_where_they_were_just_started(running: Running, busy: Busy) -> None:
    async def story() -> None:
        async with running.up(verifiers=3) as service:
            held = [each.process for each in service.verifiers.all]
            held[0].kill()
            await until(lambda: held[0].returncode is not None)
        assert [process.returncode for process in held] == [-signal.SIGKILL] * 3
        assert all(gone(process.pid) for process in held)
        assert service.verifiers.all == []

    run(story)
