"""Signatures checked by real processes beside the writer: they save it work, and leave nothing behind."""

import asyncio
import signal
from collections.abc import Callable

import pytest
import uvloop

from crdtmed.verdict import Status
from relay.checks import BULK, SHARE
from tests.relay.probe import Ended, Probe
from tests.relay.service.conftest import Running
from tests.relay.service.flushes import FIRST, Busy, awake, checks, gone, occupy, send, until
from tests.relay.service.stories import run


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
            refs = await occupy(busy, a)
            for count in (BULK, 3 * SHARE + 1, BULK):
                refs += await send(a, count)
            await until(lambda: len(checks(service)) == 3 and all(None not in each.found for each in checks(service)))
            # Whatever the writer checked itself from here on, it would find wrong.
            monkeypatch.setattr("relay.jobs.signed_by", lambda public, encoded: False)
            busy.may.set()
            assert {(await a.verdict(ref)).status for ref in refs} == {Status.ACCEPTED}
            assert service.timings.signatures == {"writer": FIRST, "verifiers": len(refs) - FIRST}
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
            refs = await occupy(busy, a)
            if killed:
                it.process.send_signal(signal.SIGSTOP)
            await send(b, 2 * SHARE, forged=SHARE + 5, client=8)
            refs += await send(a, 1) + await send(a, 1)
            if killed:
                await until(lambda: it.line.open > 0)
                it.process.kill()
                await until(lambda: it not in service.verifiers.all)
            else:
                await until(lambda: len(checks(service)) == 1 and None not in checks(service)[0].found)
            busy.may.set()
            with pytest.raises(Ended) as ended:
                await b.ended()
            assert ended.value.code == "bad_signature"
            assert {(await a.verdict(ref)).status for ref in refs} == {Status.ACCEPTED}
            assert service.timings.signatures["verifiers"] == (0 if killed else 2 * SHARE)

    run(story)
    assert len(list(running.world.record.statements())) == FIRST + 2
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
