"""When the relay writes: a few at once, what comes soon after together, and the loop waits for no other process."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import relay.pace
import relay.service
from crdtmed.wire import frames
from relay.jobs import Judge
from relay.storage.record import SqlRecord
from relay.storage.sql import impatient
from relay.storage.sqlite import open_sqlite
from relay.writer import Committed, Writer
from tests.relay.probe import Probe
from tests.relay.service.conftest import Running
from tests.relay.service.stories import DRAFTS, run, write


@contextmanager
def writing(path: str | Path) -> Iterator[sqlite3.Connection]:
    """Another process in the middle of a transaction."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


def test_a_transaction_begins_only_where_nobody_else_writes(tmp_path: Path) -> None:
    path = str(tmp_path / "relay.sqlite")
    with closing(open_sqlite(path)) as connection:
        impatient(connection)
        record = SqlRecord(connection)
        with writing(path) as other:
            assert not record.try_begin()
            other.execute("ROLLBACK")
        assert record.try_begin()
        with pytest.raises(sqlite3.OperationalError, match="within a transaction"):
            connection.execute("BEGIN")
        record.rollback()


def test_a_transaction_that_may_wait_begins_when_the_other_one_is_over(tmp_path: Path) -> None:
    path = str(tmp_path / "relay.sqlite")
    with closing(open_sqlite(path)) as connection, ThreadPoolExecutor(1) as beside:
        impatient(connection)
        record = SqlRecord(connection)
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            begun = beside.submit(record.begin)
            assert not begun.done()
            other.execute("ROLLBACK")
            begun.result()
        record.rollback()


def test_it_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.storage.sql.LOCK_WAIT_MS", 5)
    path = str(tmp_path / "relay.sqlite")
    with closing(open_sqlite(path)) as connection, writing(path):
        impatient(connection)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            SqlRecord(connection).begin()


def test_the_loop_goes_on_while_another_process_writes(running: Running) -> None:
    one = running.world.tablet()

    async def story() -> None:
        async with running.up() as service, Probe(one, running.port) as a:
            await a.subscribe(DRAFTS)
            with writing(running.world.path) as other:
                (ref,) = await write(a, "5")
                while "write" not in service._busy:
                    await asyncio.sleep(0)
                await a.send(frames.AskDigest("directory"))
                await a.send(frames.Subscribe((frames.Want("directory", "", 0),)))
                await a.next_of(frames.Bases)  # read and sent while the writer waits
                assert ref not in a.verdicts
                other.execute("ROLLBACK")
            assert (await a.verdict(ref)).position == 1

    run(story)


@pytest.mark.parametrize("cores", [1, 2])
def test_on_a_single_core_the_loop_does_the_writing(
    running: Running, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    """Unless the disk is slow: then a thread waits for it, and the loop goes on."""
    monkeypatch.setattr(relay.service, "cores", lambda: cores)
    monkeypatch.setattr(relay.pace, "QUICK_S", 60.0)
    threads: list[str] = []
    commit = Writer.commit

    def noted(self: Writer, judges: Sequence[Judge], begun: bool = False) -> list[Committed]:
        threads.append(threading.current_thread().name)
        return commit(self, judges, begun)

    monkeypatch.setattr(Writer, "commit", noted)
    one = running.world.tablet()

    async def story() -> None:
        async with running.up() as service, Probe(one, running.port) as a:
            await a.subscribe(DRAFTS)
            for quick_s, count in ((60.0, 20), (60.0, 1), (-1.0, 1), (-1.0, 1)):
                monkeypatch.setattr(relay.pace, "QUICK_S", quick_s)
                doses = [one.dose("p1", "rx1") for _ in range(count)]
                await a.send(frames.Push(DRAFTS, one.into_drafts(DRAFTS, 9, *doses)))
                for dose in doses:
                    await a.verdict(dose.statement.ref)
            assert service.timings.failed == 0

    run(story)
    main = threading.current_thread().name
    assert [name == main for name in threads] == [cores == 1, True, True, False]


@pytest.mark.parametrize("quick_s", [relay.pace.QUICK_S, -1.0], ids=["quick disk", "slow disk"])
def test_what_arrives_soon_after_a_commit_is_committed_together(
    running: Running, monkeypatch: pytest.MonkeyPatch, quick_s: float
) -> None:
    monkeypatch.setattr(relay.pace, "QUICK_S", quick_s)
    monkeypatch.setattr(relay.pace, "GATHER_S", 0.2)
    tablets = [running.world.tablet() for _ in range(4)]

    async def story() -> None:
        async with running.up() as service:
            probes = [Probe(tablet, service) for tablet in tablets]
            for probe in probes:
                await probe.dial()
                await probe.shake_hands()
                await probe.subscribe(DRAFTS)
            (first,) = await write(probes[0], "5")
            await probes[0].verdict(first)
            before = service.timings.commits
            refs = [(await write(probe, "6", client=20 + at))[0] for at, probe in enumerate(probes)]
            for probe, ref in zip(probes, refs, strict=True):
                await probe.verdict(ref)
            assert service.timings.commits == before + 1
            await probes[0].until(lambda: len(probes[0].values(DRAFTS)) == 5)
            for probe in probes:
                await probe.leave()

    run(story)
    assert running.world.verify().findings == ()
