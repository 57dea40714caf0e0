"""The relay as a running thing: one thread that verifies and writes, one that reads, and the loop between them.

Where much waits, other processes check its signatures (`relay.verifiers`), as far as they are quick enough
(`relay.pace`).
`Service` is everything but the sockets (`relay.app`): it runs the hub's jobs on threads and brings their results back
to the loop.  Nothing is told to anybody before the commit that it belongs to has returned.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from crdtmed.limits import MAX_BATCH_STATEMENTS
from relay.batch import Batch
from relay.checks import check_here, next_share, next_unasked
from relay.commit import commit_batch
from relay.connection import Connection, Peer
from relay.executors import Here, Ran, cores
from relay.hub import Hub
from relay.identity.keyring import Keyring
from relay.identity.leases import Terms
from relay.identity.port import RandomBytes
from relay.identity.service import open_identity
from relay.items import Task
from relay.jobs import Judge, Read, Slow, Write, read_all, take, unchecked, verified_elsewhere
from relay.knowledge.port import KnowledgeBase
from relay.live import Live
from relay.logs import NAME, event
from relay.own_documents import write_directory
from relay.pace import FEW, FEW_ALONE, LATE_S, Pace, Step, is_more
from relay.reading import Reader
from relay.results import did_read, did_slow, did_write, fail, log_judged, looked, settle
from relay.storage.record import SqlRecord
from relay.storage.sql import impatient
from relay.storage.sqlite import open_sqlite
from relay.timings import Timings
from relay.verifiers import Verifiers
from relay.writer import Committed, Writer

LOG: Final = logging.getLogger(NAME)
POLL_S: Final = 0.25
TICK_S: Final = 1.0
READS_A_HOP: Final = 64

T = TypeVar("T")


class Service:
    """A relay on the database at ``path``; `start` it on a loop, then hand it connections.

    ``now`` gives milliseconds since the Unix epoch, ``random`` cryptographic bytes; so many processes of ``verifiers``
    check signatures where much waits.
    """

    def __init__(
        self,
        path: Path,
        ring: Keyring,
        terms: Terms,
        knowledge: KnowledgeBase,
        now: Callable[[], int],
        random: RandomBytes,
        verifiers: int = 0,
    ) -> None:
        self.now: Final = now
        self.random: Final = random
        self.knowledge: Final = knowledge
        self.timings: Final = Timings()
        self._connection = open_sqlite(path)
        impatient(self._connection)
        record = SqlRecord(self._connection)
        record.begin()
        self.identity: Final = open_identity(self._connection, ring, terms, now())
        record.commit()
        self._writer = Writer(record, Live(), self.identity, now, random)
        commit_batch(record, self._writer.live, [Task(0, write_directory)], self.identity, now(), random)
        self._reading = open_sqlite(path, read_only=True)
        self._reader = Reader(SqlRecord(self._reading), self.identity, now, random)
        self.hub: Final = Hub(self.identity, random, shared=verifiers > 0)
        self.verifiers: Final = Verifiers(verifiers, self.hub.checks, self._pump_soon)
        self._threads: dict[str, Executor] = {
            name: ThreadPoolExecutor(1, f"relay-{name}") for name in ("write", "read", "slow")
        }
        self._here: Final = Here()
        self._pace: Final = Pace(FEW if cores() > 1 else FEW_ALONE)
        self._busy: set[str] = set()
        self._pumping = False
        self._tasks_last = False
        self._asking: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._idle = asyncio.Event()
        self._stopping = False

    # ---- life -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begins to work on the running loop."""
        self._loop = asyncio.get_running_loop()
        await self.verifiers.start()
        self._tick()
        self._poll()

    async def stop(self) -> None:
        """Says goodbye to everybody, finishes what is under way, and closes the database."""
        self._stopping = True
        self.hub.stop()
        for timer in self._timers.values():
            timer.cancel()
        for task in self._asking:
            task.cancel()
        while self._busy or self.hub.inbox or self.hub.writes:
            self._idle.clear()
            self.pump()
            await self._idle.wait()
        self.verifiers.stop()
        for pool in self._threads.values():
            pool.shutdown()
        self._reading.close()
        self._connection.close()

    # ---- connections, for the sockets ---------------------------------------------------------------------------

    def opened(self, peer: Peer) -> Connection | None:
        """A new connection."""
        return self.hub.opened(peer, self.now())

    def received(self, connection: Connection, data: bytes) -> None:
        """A message came; whatever else came with it is worked on together."""
        self.hub.received(connection, data, self.now())
        self._pump_soon()

    def wrote(self, connection: Connection) -> None:
        """Something was written that is no message: an answer to a ping."""
        self.hub.wrote(connection)

    def drained(self, connection: Connection) -> None:
        """What was written has left."""
        self.hub.drained(connection, self.now())
        self.pump()

    def lost(self, connection: Connection) -> None:
        """The connection is gone."""
        self.hub.lost(connection)

    # ---- work of others -----------------------------------------------------------------------------------------

    async def write(self, act: Callable[[Batch], T]) -> T:
        """Runs ``act`` in a commit of the writer's; raises what it raises, with nothing written."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.hub.writes.append(Write(act, settle(future), fail(future)))
        self.pump()
        return await future

    async def read(self, act: Callable[[Reader], T]) -> T:
        """Runs ``act`` beside the writer."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.hub.reads.append(Read(act, settle(future), fail(future)))
        self.pump()
        return await future

    async def slow(self, act: Callable[[], T]) -> T:
        """Runs something slow, one at a time; raises what it raises."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.hub.slow.append(Slow(act, settle(future), fail(future)))
        self.pump()
        return await future

    # ---- the pump -----------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Gives every idle thread what waits for it."""
        self._pumping = False
        hub = self.hub
        while hub.notes:
            name, fields = hub.notes.popleft()
            event(name, logging.INFO, **fields)
        while hub.asks:
            ask = hub.asks.popleft()
            task = asyncio.ensure_future(self._ask(ask.question, ask.then))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        if hub.reads and "read" not in self._busy:
            reads = [hub.reads.popleft() for _ in range(min(READS_A_HOP, len(hub.reads)))]
            self._run("read", lambda: read_all(self._reader, reads), did_read)
        if hub.slow and "slow" not in self._busy:
            slow = hub.slow.popleft()
            self._run("slow", slow.run, lambda result, error: did_slow(slow, result, error))
        self._pump_writer()
        self._ask_others()  # about what the writer has not just taken

    def _pump_writer(self) -> None:
        hub = self.hub
        if "write" in self._busy:
            return
        if hub.inbox and (self._tasks_last or not hub.writes) and self._pump_inbox():
            self._tasks_last = False
        elif hub.writes:
            # In turn with what is judged: whoever asks for leases without an end must not keep statements waiting.
            self._tasks_last = True
            writes = list(hub.writes)
            hub.writes.clear()
            self._run("write", lambda: self._writer.tasks(writes), partial(did_write, self.hub))

    def _pump_inbox(self) -> bool:
        """Takes some of what waits to be judged; whether it is time to."""
        hub = self.hub
        if self._gathering():
            return False
        match self._step():
            case Step.ALL | Step.CHECKED as step:
                self._take(take(hub.inbox, MAX_BATCH_STATEMENTS, done=step is Step.CHECKED))
                return True
            case Step.HELP:
                self._pump_later("late", LATE_S)
                check_here(next_share(hub.checks))
                self._pump_soon()
            case Step.WAIT:
                self._pump_later("late", LATE_S)
                self._pump_later("patience", self._pace.patience_s(self._now_s()))
        return False

    def _now_s(self) -> float:
        assert self._loop is not None
        return self._loop.time()

    def _step(self) -> Step:
        if self._stopping or not self.verifiers.some:
            return Step.ALL
        self._ask_others()
        return self._pace.step(self.hub.inbox, self._now_s(), next_unasked(self.hub.checks) is not None)

    def _take(self, judges: list[Judge]) -> None:
        count = sum([judge.statements for judge in judges])
        self.timings.verified(count, sum(map(verified_elsewhere, judges)))
        self._pace.took()
        if self._pace.here(count, sum(map(unchecked, judges))):
            self._at_once(judges)
        else:
            self._judge(judges)

    def _ask_others(self) -> None:
        """Asks other processes about what waits, where that is worth while; what was taken is dropped either way."""
        if next_unasked(self.hub.checks) is not None and is_more(self.hub.inbox, FEW):
            self.verifiers.feed()

    def _gathering(self) -> bool:
        """Whether the writer waits for company; the pump is called again when it has waited."""
        left = self._pace.gathers_s(self._now_s(), self.hub.inbox_bytes)
        if left <= 0 or self._stopping:
            return False
        self._pump_later("gather", left)
        return True

    def _pump_later(self, name: str, after_s: float) -> None:
        """Pumps after that time, once; not where it is over."""
        assert self._loop is not None
        if after_s > 0 and name not in self._timers:
            self._timers[name] = self._loop.call_later(after_s, self._waited, name)

    def _waited(self, name: str) -> None:
        del self._timers[name]
        if name == "late":
            self._pace.waited(self._now_s(), in_vain="write" not in self._busy and bool(self.hub.inbox))
        self.pump()

    def _judge(self, judges: list[Judge]) -> None:
        # One thread verifies and commits: two would hand the interpreter's lock to and fro for every signature.
        self._run(
            "write",
            lambda: self._writer.verify_and_commit(judges),
            lambda result, error: self._did_commit(judges, result, error),
        )

    def _at_once(self, judges: list[Judge]) -> None:
        """A few statements, on the loop itself, unless another process is writing."""

        def then(done: list[Committed] | None, error: BaseException | None) -> None:
            if done is None and error is None:
                self._judge(judges)
            else:
                self._did_commit(judges, done, error)

        self._run("write", lambda: self._writer.at_once(judges), then, here=True)

    def _run(
        self, name: str, run: Callable[[], Any], then: Callable[[Any, BaseException | None], None], here: bool = False
    ) -> None:
        self._busy.add(name)

        def done(future: Future[Any] | asyncio.Future[Any] | Ran[Any]) -> None:
            self._busy.discard(name)
            self.hub.now_ms = self.now()
            error = future.exception()
            try:
                then(None if error is not None else future.result(), error)
            finally:
                self._pump_soon()
                self._idle.set()

        future = self._here.submit(run) if here else self._threads[name].submit(run)
        if isinstance(future, Ran) or future.done():
            done(future)
        else:
            asyncio.wrap_future(future).add_done_callback(done)

    def _pump_soon(self) -> None:
        """Pumps when all that has arrived with this was taken in."""
        if not self._pumping:
            assert self._loop is not None
            self._pumping = True
            self._loop.call_soon(self.pump)

    async def _ask(self, question: Any, then: Callable[[Any], None]) -> None:
        answer = await self.knowledge.ask(question)
        then(answer)
        self.pump()

    # ---- back on the loop ---------------------------------------------------------------------------------------

    def _did_commit(self, judges: Sequence[Judge], done: list[Committed] | None, error: BaseException | None) -> None:
        for each in done or [Committed(judges, None, error, 0.0)]:
            outcome = each.outcome
            statements = sum([judge.statements for judge in each.judges])
            self._pace.committed(self._now_s(), None if outcome is None else each.took_s, statements)
            if outcome is None:
                self.timings.failed += 1
                LOG.error("a commit failed", exc_info=each.error)
                self.hub.failed(each.judges)
                continue
            began = time.monotonic()
            self.hub.settled(each.judges, outcome)
            self.timings.commit.observe(each.took_s)
            self.timings.fan_out.observe(time.monotonic() - began)
            log_judged(outcome)
            for key, count in outcome.judged.items():
                self.timings.judged[key] = self.timings.judged.get(key, 0) + count

    # ---- timers -------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        assert self._loop is not None
        self.hub.tick(self.now())
        self.pump()
        self.verifiers.tick(TICK_S)
        self._timers["tick"] = self._loop.call_later(TICK_S, self._tick)

    def _poll(self) -> None:
        assert self._loop is not None
        if "write" not in self._busy and not self._stopping:
            self._run("write", self._writer.look, partial(looked, self.hub))
        self._timers["poll"] = self._loop.call_later(POLL_S, self._poll)
