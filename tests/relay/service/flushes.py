"""Many pushes to a relay whose writer is kept busy, and the processes that check their signatures meanwhile."""

import asyncio
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from crdtmed.limits import MAX_OPEN
from crdtmed.statement import SignedStatement
from crdtmed.wire import frames
from relay.batch import Batch
from relay.checks import SHARE, Check
from relay.service import Service
from relay.verifiers import Verifier
from tests.relay.probe import Probe
from tests.relay.service.stories import DRAFTS

MANY = 40
"""Statements that are too many for the loop to verify and commit at once."""


async def until(reached: Callable[[], bool]) -> None:
    """Lets the loop go round until something holds."""
    while not reached():
        await asyncio.sleep(0)


@dataclass
class Busy:
    """A task that keeps the writer until it is let go."""

    came: threading.Event = field(default_factory=threading.Event)
    may: threading.Event = field(default_factory=threading.Event)
    task: asyncio.Future[None] | None = None


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


async def occupy(busy: Busy, service: Service) -> None:
    """Keeps the writer busy until it is let go."""

    def hold(batch: Batch) -> None:
        busy.came.set()
        busy.may.wait(60)

    busy.task = asyncio.ensure_future(service.write(hold))
    await until(busy.came.is_set)


async def stopped(busy: Busy, service: Service) -> Verifier:
    """The one process that verifies, which has begun and is stopped now; the writer is kept busy."""
    await until(lambda: service.verifiers.some)
    [it] = service.verifiers.all
    await occupy(busy, service)
    it.process.send_signal(signal.SIGSTOP)
    return it


async def awake(service: Service) -> None:
    """Waits until every process has started and answers."""
    check = Check([(b"", b"")] * SHARE * MAX_OPEN * len(service.verifiers.all))
    await until(lambda: all(each.free for each in service.verifiers.all))
    service.hub.checks.append(check)

    def answered() -> bool:
        service.verifiers.feed()  # which a pump does only where something waits
        return check.answered == len(check.pairs)

    await until(answered)


def checks(service: Service) -> list[Check]:
    """What waits for the writer."""
    return [judge.check for judge in service.hub.inbox if judge.check is not None]


def gone(pid: int) -> bool:
    """Whether there is no such process, not even one that nobody has asked how it ended."""
    return not Path(f"/proc/{pid}").exists()
