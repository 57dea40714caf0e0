"""Processes that check signatures and die, hang or talk nonsense: they cost nothing, and others take their place."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Sequence

import pytest
import uvloop

from crdtmed.limits import MAX_OPEN
from crdtmed.verdict import Status
from relay import pace, verifiers
from relay.checks import SHARE, Check, Part, check_here
from relay.verifiers import ANSWER_S
from tests.relay.probe import Ended, Probe
from tests.relay.service.conftest import Running
from tests.relay.service.flushes import MANY, Busy, awake, checks, gone, occupy, send, stopped, until
from tests.relay.service.stories import run


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of the processes passes as the test says and not otherwise."""
    monkeypatch.setattr("relay.service.TICK_S", 3_600.0)


def test_one_that_is_killed_in_the_middle_of_a_flush_costs_nothing_and_another_takes_its_place(
    running: Running, busy: Busy
) -> None:
    one = running.world.tablet()

    async def story() -> None:
        async with running.up(verifiers=1) as service, Probe(one, service) as a:
            await awake(service)
            [it] = service.verifiers.all
            await occupy(busy, service)
            refs = await send(a, SHARE)
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
            assert service.timings.signatures == {"writer": 2 * SHARE, "verifiers": SHARE}
            await awake(service)

    run(story)
    assert running.world.verify().findings == ()


def test_the_writer_waits_for_none_for_long_and_a_push_that_follows_a_flush_is_judged_after_it(
    running: Running, busy: Busy
) -> None:
    one, other = running.world.tablet(), running.world.tablet()

    async def story() -> None:
        async with running.up(verifiers=1) as service, Probe(one, service) as a, Probe(other, service) as b:
            await awake(service)
            it = await stopped(busy, service)
            flush = [await send(a, 2 * SHARE) for _ in range(1 + MAX_OPEN // 2)]
            [last] = await send(a, 1)
            [later] = await send(b, 1, client=8)
            await until(lambda: it.line.open == MAX_OPEN)
            busy.may.set()
            order = [*(refs[-1] for refs in flush), last, later]
            verdicts = [await (b if ref is later else a).verdict(ref) for ref in order]
            assert [verdict.position for verdict in verdicts] == list(range(1, len(order) + 1))
            assert {verdict.status for verdict in verdicts} == {Status.ACCEPTED}
            assert service.timings.signatures["verifiers"] == 0
            # It wakes up, and nobody is interested any more in what it has to say.
            it.process.send_signal(signal.SIGCONT)
            await awake(service)
            assert [it] == service.verifiers.all

    run(story)
    assert running.world.verify().findings == ()


@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize("helping", [False, True], ids=["waiting", "helping"])
def test_the_writer_goes_on_alone_whether_it_waits_or_checks_what_goes_on_coming(
    running: Running, busy: Busy, monkeypatch: pytest.MonkeyPatch, helping: bool
) -> None:
    monkeypatch.setattr(pace, "LATE_TIMES", 1)
    monkeypatch.setattr(verifiers, "MAX_OPEN", 1)
    one, checked = running.world.tablet(), 0

    async def story() -> None:
        async with running.up(verifiers=1) as service, Probe(one, service) as a:
            it = await stopped(busy, service)
            refs = await send(a, SHARE)
            await until(lambda: it.line.open == 1)

            def more(share: Sequence[Part]) -> None:
                """There is always something of which nobody was asked."""
                nonlocal checked
                checked += 1
                check_here(share)
                service.hub.checks.append(Check([(b"", b"")]))

            monkeypatch.setattr("relay.service.check_here", more)
            if helping:
                service.hub.checks.append(Check([(b"", b"")]))
            busy.may.set()
            assert {(await a.verdict(ref)).status for ref in refs} == {Status.ACCEPTED}
            assert service.timings.signatures == {"writer": SHARE, "verifiers": 0}
            assert bool(checked) is helping

    run(story)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("waiting", [False, True], ids=["at once", "while the writer waits"])
def test_a_relay_that_stops_waits_for_nobody(
    running: Running,
    busy: Busy,
    monkeypatch: pytest.MonkeyPatch,
    waiting: bool,
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    monkeypatch.setattr(pace, "LATE_TIMES", 1_000_000)
    one = running.world.tablet()

    async def story() -> None:
        async with running.up(verifiers=1) as service:
            a = Probe(one, service)
            await a.dial()
            await a.shake_hands()
            it = await stopped(busy, service)
            await send(a, 2 * SHARE)
            await until(lambda: it.line.open == 2)
            busy.may.set()
            if waiting:
                await until(lambda: "late" in service._timers)
        assert all(timer.cancelled() for timer in service._timers.values())

    run(story, loop)
    assert len(list(running.world.record.statements())) == 2 * SHARE
    assert running.world.verify().findings == ()


def test_only_what_is_waited_for_in_vain_counts(running: Running, busy: Busy) -> None:
    one = running.world.tablet()

    async def story() -> None:
        async with running.up(verifiers=1) as service, Probe(one, service) as a:
            await awake(service)

            def late() -> int:
                """So many times in vain, once more time has passed."""
                service._timers["late"] = asyncio.get_running_loop().call_later(3_600, lambda: None)
                service._waited("late")
                return service._pace.late

            assert late() == 0  # nothing waits
            await occupy(busy, service)
            refs = await send(a, SHARE)
            await until(lambda: len(checks(service)) == 1)
            assert late() == 0  # the writer has something to do
            service._pace.late = 2
            busy.may.set()
            assert {(await a.verdict(ref)).status for ref in refs} == {Status.ACCEPTED}
            assert service._pace.late == 0

    run(story)


# ---- that talk nonsense --------------------------------------------------------------------------------------------


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
            refs: list[str] = []
            await occupy(busy, service)
            for _ in range(3):
                refs += await send(a, MAX_OPEN * SHARE)  # enough to ask every one of them
            await send(b, MANY, forged=3, client=8)
            await until(lambda: ended() == 3 and not service.verifiers.all)
            busy.may.set()
            assert {(await a.verdict(ref)).status for ref in refs} == {Status.ACCEPTED}
            with pytest.raises(Ended, match="bad_signature"):
                await b.ended()
            assert service.timings.signatures["verifiers"] == 0
            assert ended() == 3

    run(story)
    assert running.world.verify().findings == ()


# ---- that answer nothing any more ----------------------------------------------------------------------------------


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
            it = await stopped(busy, service)
            refs = await send(a, 2 * SHARE)
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
            refs: list[str] = []
            await occupy(busy, service)
            for _ in range(3):
                refs += await send(a, MAX_OPEN * SHARE)  # enough to ask every one of them
            await until(lambda: len(codes(caplog)) == 3 and not service.verifiers.all)
            busy.may.set()
            assert {(await a.verdict(ref)).status for ref in refs} == {Status.ACCEPTED}

    run(story)
    assert codes(caplog) == ["unanswered"] * 3
    assert running.world.verify().findings == ()
