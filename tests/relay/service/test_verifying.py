"""Signatures checked by real processes beside the writer: they save it work, and cost it nothing when they fail."""

import asyncio
import logging
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop

from crdtmed.statement import SignedStatement
from crdtmed.verdict import Status
from crdtmed.wire import frames
from relay import verifiers
from relay.checks import BULK, MAX_OPEN, SHARE, Check
from relay.jobs import Judge
from relay.service import Service
from relay.verifiers import ANSWER_S
from relay.writer import Committed, Writer
from tests.relay.probe import Ended, Probe
from tests.relay.service.conftest import Running

DRAFTS = "patient/p1/drafts"
FIRST = 20
"""Statements of the push that keeps the writer busy: too many for the loop, too few for another process."""


def run(story: Callable[[], Awaitable[None]], loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
    """Tells a story, within a minute."""

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await story()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(bounded())


async def until(reached: Callable[[], bool]) -> None:
    """Lets the loop go round until something holds."""
    while not reached():
        await asyncio.sleep(0)


@dataclass
class Busy:
    """A writer that stands before its first commit until it is let go."""

    came: threading.Event = field(default_factory=threading.Event)
    may: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Busy]:
    made, commit = Busy(), Writer.commit

    def held(self: Writer, judges: Sequence[Judge], begun: bool = False) -> list[Committed]:
        made.came.set()
        made.may.wait(60)
        return commit(self, judges, begun)

    monkeypatch.setattr(Writer, "commit", held)
    monkeypatch.setattr(verifiers, "RESTART_S", 0.0)
    yield made
    made.may.set()


def spoilt(said: SignedStatement) -> SignedStatement:
    """A statement that its author did not sign."""
    return SignedStatement(said.statement, bytes([said.encoded[0] ^ 1]) + said.encoded[1:])


async def send(probe: Probe, count: int, forged: int | None = None, client: int = 9) -> list[str]:
    """One push of so many doses; the references."""
    said = [probe.tablet.dose("p1", "rx1", str(number + 1)) for number in range(count)]
    if forged is not None:
        said[forged] = spoilt(said[forged])
    await probe.send(frames.Push(DRAFTS, probe.tablet.into_drafts(DRAFTS, client, *said)))
    return [each.statement.ref for each in said]


async def occupy(busy: Busy, probe: Probe) -> list[str]:
    """Keeps the writer busy with a push, until it is let go."""
    refs = await send(probe, FIRST)
    await until(busy.came.is_set)
    return refs


async def awake(service: Service) -> None:
    """Waits until every process has started and answers."""
    check = Check([(b"", b"")] * SHARE * MAX_OPEN * len(service.verifiers.all))
    await until(lambda: all(each.free for each in service.verifiers.all))
    service.hub.checks.append(check)
    service.verifiers.feed()
    await until(lambda: check.answered == len(check.pairs))


def checks(service: Service) -> list[Check]:
    """What waits for the writer in bulk."""
    return [judge.check for judge in service.hub.inbox if judge.check is not None]


def gone(pid: int) -> bool:
    """Whether there is no such process, not even one that nobody has asked how it ended."""
    return not Path(f"/proc/{pid}").exists()


# ---- while all goes well -------------------------------------------------------------------------------------------


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


# ---- processes that fail -------------------------------------------------------------------------------------------


def test_one_that_is_killed_in_the_middle_of_a_flush_costs_nothing_and_another_takes_its_place(
    running: Running, busy: Busy
) -> None:
    one = running.world.tablet()

    async def story() -> None:
        async with running.up(verifiers=1) as service, Probe(one, service) as a:
            await awake(service)
            [it] = service.verifiers.all
            refs = await occupy(busy, a)
            refs += await send(a, SHARE)
            await until(lambda: [each.answered for each in checks(service)] == [SHARE])
            it.process.send_signal(signal.SIGSTOP)
            refs += await send(a, 2 * SHARE)
            await until(lambda: it.line.open == 2)
            it.process.kill()
            await until(lambda: it not in service.verifiers.all and len(service.verifiers.all) == 1)
            assert (it.process.returncode, gone(it.process.pid)) == (-signal.SIGKILL, True)
            busy.may.set()
            assert {(await a.verdict(ref)).status for ref in refs} == {Status.ACCEPTED}
            # What it had answered before counts; what it was asked about was verified by the writer.
            assert service.timings.signatures == {"writer": FIRST + 2 * SHARE, "verifiers": SHARE}
            await awake(service)

    run(story)
    assert running.world.verify().findings == ()


def test_the_writer_waits_for_none_and_a_push_that_follows_a_flush_is_judged_after_it(
    running: Running, busy: Busy
) -> None:
    one, other = running.world.tablet(), running.world.tablet()

    async def story() -> None:
        async with running.up(verifiers=1) as service, Probe(one, service) as a, Probe(other, service) as b:
            await awake(service)
            [it] = service.verifiers.all
            first = await occupy(busy, a)
            it.process.send_signal(signal.SIGSTOP)
            flush = [await send(a, 2 * SHARE) for _ in range(3)]
            [last] = await send(a, 1)
            [later] = await send(b, 1, client=8)
            await until(lambda: it.line.open == MAX_OPEN)
            busy.may.set()
            order = [first[0], *(refs[-1] for refs in flush), last, later]
            verdicts = [await (b if ref is later else a).verdict(ref) for ref in order]
            assert [verdict.position for verdict in verdicts] == [1, 2, 3, 4, 5, 6]
            assert {verdict.status for verdict in verdicts} == {Status.ACCEPTED}
            assert service.timings.signatures["verifiers"] == 0
            # It wakes up, and nobody is interested any more in what it has to say.
            it.process.send_signal(signal.SIGCONT)
            await awake(service)
            assert [it] == service.verifiers.all

    run(story)
    assert running.world.verify().findings == ()


_TALK = "import socket; line = socket.socket(fileno=0); line.recv(9); "
YES = bytes([0xDC, 0, SHARE]) + b"\xc3" * SHARE
"""An array of MessagePack: so many times true."""


def says(content: bytes) -> Sequence[str]:
    """A program that says the same whatever it is asked, and listens on."""
    frame = len(content).to_bytes(4, "big") + content
    return (sys.executable, "-c", f"{_TALK}line.sendall({frame!r})\nwhile line.recv(9): pass")


@pytest.mark.parametrize(
    "command",
    [
        says(b"\x92\x02" + YES),
        says(b"\x92\x01\x91\xc3"),
        says(b"\x92\x01" + YES.replace(b"\xc3", b"\x01")),
        says(b"yes, all of them"),
        (sys.executable, "-c", f"{_TALK}line.sendall(b'\\xff' * 9); line.recv(9)"),
        (sys.executable, "-c", "raise SystemExit(1)"),
        ("/no/such/program",),
    ],
    ids=["of another", "too few", "no booleans", "no frame", "endless", "ends", "does not start"],
)
def test_one_that_talks_nonsense_or_does_not_start_is_tried_a_few_times_and_done_without(
    running: Running,
    busy: Busy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    command: Sequence[str],
) -> None:
    monkeypatch.setattr(verifiers, "COMMAND", command)
    monkeypatch.setattr(verifiers, "RESTARTS", 2)
    caplog.set_level(logging.WARNING)
    good, bad = running.world.tablet(), running.world.tablet()

    def ended() -> int:
        return [record.message for record in caplog.records].count("verifier_ended")

    async def story() -> None:
        async with running.up(verifiers=1) as service, Probe(good, service) as a, Probe(bad, service) as b:
            refs = await occupy(busy, a)
            for _ in range(3):
                refs += await send(a, MAX_OPEN * SHARE)  # enough to ask every one of them
            await send(b, BULK, forged=3, client=8)
            await until(lambda: ended() == 3 and not service.verifiers.all)
            busy.may.set()
            assert {(await a.verdict(ref)).status for ref in refs} == {Status.ACCEPTED}
            with pytest.raises(Ended, match="bad_signature"):
                await b.ended()
            assert service.timings.signatures["verifiers"] == 0
            assert ended() == 3

    run(story)
    assert running.world.verify().findings == ()


# ---- processes that answer nothing any more ------------------------------------------------------------------------


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of the processes passes as the test says and not otherwise."""
    monkeypatch.setattr("relay.service.TICK_S", 3_600.0)


def codes(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Why processes ended, as the log has it."""
    return [each.__dict__["fields"]["code"] for each in caplog.records if each.message == "verifier_ended"]


@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_one_that_hangs_is_killed_and_another_takes_its_place(
    running: Running,
    busy: Busy,
    caplog: pytest.LogCaptureFixture,
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    one = running.world.tablet()

    async def story() -> None:
        async with running.up(verifiers=1) as service, Probe(one, service) as a:
            await awake(service)
            [it] = service.verifiers.all
            refs = await occupy(busy, a)
            it.process.send_signal(signal.SIGSTOP)
            refs += await send(a, 2 * SHARE)
            await until(lambda: it.line.open == 2)
            service.verifiers.tick(ANSWER_S)  # it was asked just before
            service.verifiers.tick(ANSWER_S)
            await until(lambda: it not in service.verifiers.all and len(service.verifiers.all) == 1)
            assert (it.process.returncode, gone(it.process.pid)) == (-signal.SIGKILL, True)
            # What waits for the writer still is not asked about again; what comes from now on is.
            assert [each.answered for each in checks(service)] == [0]
            await awake(service)
            busy.may.set()
            assert {(await a.verdict(ref)).status for ref in refs} == {Status.ACCEPTED}
            assert service.timings.signatures == {"writer": len(refs), "verifiers": 0}

    run(story, loop)
    assert codes(caplog) == ["unanswered"]
    assert running.world.verify().findings == ()


@pytest.mark.usefixtures("by_hand")
def test_one_that_answers_in_the_end_or_has_no_question_is_left_alone(running: Running) -> None:
    async def story() -> None:
        async with running.up(verifiers=1) as service:
            [it] = service.verifiers.all
            for _ in range(3):
                await awake(service)
                for _ in range(3):
                    service.verifiers.tick(ANSWER_S)
                it.process.send_signal(signal.SIGSTOP)
                service.hub.checks.append(Check([(b"", b"")]))
                service.verifiers.feed()
                for _ in range(2):
                    service.verifiers.tick(ANSWER_S * 2 / 3)
                it.process.send_signal(signal.SIGCONT)
            await awake(service)
            assert [it] == service.verifiers.all

    run(story)


def test_the_relay_lets_that_time_pass_and_goes_on_without_those_that_hang_again_and_again(
    running: Running, busy: Busy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(verifiers, "COMMAND", (sys.executable, "-c", "import signal; signal.pause()"))
    monkeypatch.setattr(verifiers, "RESTARTS", 2)
    monkeypatch.setattr(verifiers, "ANSWER_S", 0.0)
    monkeypatch.setattr("relay.service.TICK_S", 0.0)
    one = running.world.tablet()

    async def story() -> None:
        async with running.up(verifiers=1) as service, Probe(one, service) as a:
            refs = await occupy(busy, a)
            for _ in range(3):
                refs += await send(a, MAX_OPEN * SHARE)  # enough to ask every one of them
            await until(lambda: len(codes(caplog)) == 3 and not service.verifiers.all)
            busy.may.set()
            assert {(await a.verdict(ref)).status for ref in refs} == {Status.ACCEPTED}

    run(story)
    assert codes(caplog) == ["unanswered"] * 3
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
