"""The relay of a history: the service as it runs in production, on virtual time, with power that can go.

Its threads are replaced by executors that run at once and tell of it a little later, its database lies in memory, and
it is killed, restarted, restored from a backup, or refused space on its disk.
"""

import asyncio
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from crdtmed.aggregates.alert_override_record import Card, Severity
from relay.admission.facts import KnowledgeAnswer, KnowledgeQuestion
from relay.batch import Batch
from relay.identity.service import open_identity
from relay.service import Service
from relay.storage.record import SqlRecord
from relay.storage.restore import new_epochs
from relay.storage.sqlite import backup, open_sqlite
from tests.simulation.disk import Disk, Power, PowerCut, copy_database, tear
from tests.simulation.helping import Helpers
from tests.simulation.network import Line, PeerOf, Tap, Weather
from tests.simulation.setting import SNAPSHOT, TERMS, ring, seal_to

COMMIT_S = 0.004
"""What a commit, a read or a check of signatures takes, in virtual seconds."""
LOOK_S = 10.0
"""How often the relay looks at its timers; production does so more often, which only costs a simulation its speed."""
OTHERS_S = 300.0
"""How often it looks for what other processes have written: here there are none."""


@dataclass(eq=False)
class Knowledge:
    """A knowledge base that is sometimes slow and sometimes down, and has something against penicillins."""

    random: Random
    trouble: float = 0.0
    snapshot: str | None = SNAPSHOT

    async def ask(self, question: KnowledgeQuestion) -> KnowledgeAnswer:
        """One critical card where a patient with that allergy is to get amoxicillin, else none."""
        await asyncio.sleep(self.random.random() * 0.5)
        if self.random.random() < self.trouble:
            return KnowledgeAnswer(question.position, question.digest, "", unavailable="it is down")
        cards: tuple[Card, ...] = ()
        allergic = bool(question.patient.allergies)
        if allergic and question.order.medication.code == "amox":
            cards = (Card("allergy-amox", Severity.CRITICAL, "allergy", "an allergy to penicillins", "the tests"),)
        return KnowledgeAnswer(question.position, question.digest, SNAPSHOT, cards)


class _Thread:
    """An executor of one of the relay's threads."""

    relay: "Relay"

    def __init__(self, workers: int, name: str) -> None:
        self.life = self.relay.life

    def submit(self, run: Callable[[], Any]) -> "Future[Any]":
        done: Future[Any] = Future()
        if self.life != self.relay.life:
            return done  # its process is no more
        result, error = None, None
        try:
            result = run()
        except PowerCut:
            self.relay.died()
            return done
        except Exception as raised:  # noqa: BLE001 - the service gets it
            error = raised
        self.relay.committed()
        asyncio.get_running_loop().call_later(COMMIT_S, self._told, done, result, error)
        return done

    def _told(self, done: "Future[Any]", result: Any, error: Exception | None) -> None:
        if self.life != self.relay.life:
            return  # it was killed before anybody heard of it
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    def shutdown(self) -> None:
        return


@dataclass(eq=False)
class Relay:
    """The relay: running (``service``) or not.  ``life`` counts its starts, ``restores`` how often it was restored,
    ``signatures`` by whom they were checked, in the lives that have ended."""

    folder: Path
    random: Random
    now_ms: Callable[[], int]
    tap: Tap
    knowledge: Knowledge
    helpers: Helpers
    looks: Callable[["Relay"], None] = lambda relay: None
    signatures: Counter[str] = field(default_factory=Counter)
    service: Service | None = None
    life: int = 0
    restores: int = 0
    restore_at: list[int] = field(default_factory=list)
    power: Power = field(default_factory=Power)
    full: bool = False
    files: int = 0
    lines: list[Line] = field(default_factory=list)
    numbers: int = 0
    backups: list[Path] = field(default_factory=list)
    connection: Any = None

    @property
    def path(self) -> Path:
        """Where its database is now."""
        return self._path(self.files)

    def _path(self, number: int) -> Path:
        return self.folder / ("relay.sqlite" if not number else f"relay-{number}.sqlite")

    # ---- life

    @contextmanager
    def seams(self) -> Iterator[None]:
        """The service's ports, as far as it has no arguments for them."""
        thread = type("_RelayThread", (_Thread,), {"relay": self})
        with (
            patch("relay.service.ThreadPoolExecutor", thread),
            patch("relay.service.Here", lambda: thread(1, "here")),
            patch("relay.service.open_sqlite", self._open),
            patch("relay.service.open_identity", partial(open_identity, seal_to=seal_to)),
            patch("relay.service.POLL_S", OTHERS_S),
            patch("relay.service.TICK_S", LOOK_S),
            self.helpers.seams(),
        ):
            yield

    def _open(self, path: Path, read_only: bool = False) -> Any:
        made = open_sqlite(path, read_only)
        if read_only:
            return made
        made.execute("PRAGMA synchronous = OFF")  # a power cut is simulated here, not waited for
        self.connection = made
        no_space = partial(sqlite3.OperationalError, "database or disk is full")
        return Disk(made, self.power, lambda: self.full, no_space)

    async def start(self) -> None:
        """Starts it over its database."""
        if self.service is not None:
            return
        self.life += 1
        self.power = Power(self._leave, self._about)
        try:
            service = Service(
                self.path,
                ring(),
                TERMS,
                self.knowledge,
                self.now_ms,
                self.random.randbytes,
                self.helpers.help.processes,
            )
        except sqlite3.OperationalError:
            assert self.full, "only a full disk keeps it from starting"
            return
        self.service = service
        await service.start()

    def kill(self) -> None:
        """It is gone at once; what it committed stays."""
        self.power.torn = False
        self.power.cut()
        self.died()

    def _about(self) -> None:
        """A commit is about to be torn: the files as they are before it."""
        copy_database(self.path, self._path(self.files + 1))

    def _leave(self) -> None:
        """The files as the power left them."""
        before = self.path
        self.files += 1
        if self.power.torn:
            tear(before, self.path, self.random)
        else:
            copy_database(before, self.path)

    def died(self) -> None:
        """Its process is no more."""
        service, self.service = self.service, None
        if service is None:
            return
        self.life += 1
        for timer in service._timers.values():
            timer.cancel()
        for task in service._asking:
            task.cancel()
        service.verifiers.stop()  # their lines hang up, and they end
        self.signatures.update(service.timings.signatures)
        for line in list(self.lines):
            line.relay_died(self.random.choice((0.05, 0.05, 5.0, 40.0)))
        self.lines.clear()
        for connection in (service._reading, self.connection):
            with suppress(sqlite3.Error):
                connection.close()

    async def stop(self) -> None:
        """It is stopped in order."""
        service = self.service
        if service is None:
            return
        await service.stop()
        if self.service is service:
            self.service = None
            self.life += 1
            self.signatures.update(service.timings.signatures)
            for line in list(self.lines):
                line.relay_died(0.05)
            self.lines.clear()

    # ---- connections

    async def dial(self, device: str, weather: Weather) -> Line:
        """A connection from a device."""
        await asyncio.sleep(weather.delay())
        service = self.service
        if service is None or weather.down:
            raise ConnectionError("no relay")
        self.numbers += 1
        line = Line(self.numbers, device, weather, service, self.tap, self.now_ms)
        line.connection = service.opened(PeerOf(line))
        weather.lines.append(line)
        self.lines = [each for each in self.lines if each.relay_open] + [line]
        return line

    # ---- what the operator does

    def committed(self) -> None:
        """Something may have been committed."""
        self.looks(self)

    async def write(self, act: Callable[[Batch], Any]) -> Any:
        """Something that the operator does, where the relay runs."""
        service = self.service
        if service is None:
            return None
        async with asyncio.timeout(600):
            return await service.write(act)

    def take_backup(self) -> None:
        """A backup of the database as it is now."""
        if self.service is not None and not self.full:
            goal = self.folder / f"backup-{len(self.backups)}.sqlite"
            backup(self.connection, goal)
            self.backups.append(goal)

    def restore(self) -> bool:
        """The last backup takes the place of the database; the relay does not run."""
        assert self.service is None
        if not self.backups:
            return False
        self.files += 1
        shutil.copyfile(self.backups[-1], self.path)
        connection = open_sqlite(self.path)
        new_epochs(SqlRecord(connection), self.now_ms(), self.random.randbytes)
        connection.close()
        self.restores += 1
        self.restore_at.append(self.now_ms())
        return True

    def reading(self) -> sqlite3.Connection:
        """A connection of its own that only reads, for those who look over the relay's shoulder."""
        return sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)
