"""The keeper of an open device goes on looking at the lease, whatever else fails."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from crdtmed.device import keeper, lease, life, signing_in
from crdtmed.device.engine_types import Alarm, DeviceError
from crdtmed.device.files import DeviceFiles
from crdtmed.device.life import CacheLocked, DeviceEvent
from crdtmed.device.store_database import Connection, StoreError
from tests.scenarios.hospital import PATIENCE_S, Hospital, play

HOUR_MS = 3_600_000


def fails_with(error: Exception) -> Callable[..., None]:
    """A function that always fails."""

    def failing(*_: object, **__: object) -> None:
        raise error

    return failing


def test_a_disk_that_cannot_be_written_does_not_keep_a_lapsed_cache_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(it: Hospital) -> None:
        nia = await it.device("tablet", "nia", patients=["p1"])
        await nia.disconnect()
        heard: list[DeviceEvent] = []
        nia._life.listeners.append(heard.append)
        monkeypatch.setattr(lease, "note", fails_with(OSError(28, "No space left on device")))
        it.ahead_ms += HOUR_MS
        assert await nia.until(lambda: any(isinstance(one, Alarm) for one in heard), PATIENCE_S)
        it.ahead_ms += 12 * HOUR_MS
        assert await nia.until(lambda: any(isinstance(one, CacheLocked) for one in heard), PATIENCE_S)
        assert not DeviceFiles(it.folder / "tablet").lease.exists()
        assert sum(isinstance(one, Alarm) for one in heard) == 1, "told once, not every second"
        monkeypatch.undo()

    play(tmp_path, story)


@pytest.mark.parametrize("online", [True, False])
def test_a_device_that_is_closed_while_its_disk_fails_gives_its_store_up_all_the_same(
    tmp_path: Path, online: bool
) -> None:
    """Found by the simulation: whoever opened it again was told that another process had it."""

    async def story(it: Hospital) -> None:
        nia = await it.device("tablet", "nia", patients=["p1"])
        if not online:
            await nia.disconnect()
        database = nia._life.database
        assert database is not None

        async def broken(work: Callable[[Connection], Any]) -> Any:
            raise StoreError("failed", "the disk does not answer", "try again")

        database.run = broken  # type: ignore[method-assign]  # that is the fault
        nia.engine.core.newly_verified.add("patient/p1/drafts")
        with suppress(StoreError):
            await nia.close()
        await it.reopen("tablet", connect=False)  # while the one before is still known

    play(tmp_path, story)


def test_a_relay_that_answers_nothing_does_not_stop_the_keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(it: Hospital) -> None:
        nia = await it.device("tablet", "nia", patients=["p1"])
        asked = asyncio.Event()

        async def never(_: object) -> int:
            asked.set()
            waiting: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            return await waiting

        monkeypatch.setattr(signing_in, "refresh_rosters", never)
        monkeypatch.setattr(keeper, "ROSTERS_S", 0.01)
        noted = asyncio.Event()
        monkeypatch.setattr(keeper, "note", lambda life: noted.set())
        nia._life.rosters_at = 0
        async with asyncio.timeout(PATIENCE_S):
            await asked.wait()
            noted.clear()
            nia._life.noted_at = 0
            await noted.wait()
        monkeypatch.undo()

    play(tmp_path, story)


def test_a_disk_that_was_made_read_only_does_not_keep_a_lapsed_cache_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Linux does to a file system with errors: the sealed key cannot be removed, but it need not be used."""

    async def story(it: Hospital) -> None:
        nia = await it.device("tablet", "nia", patients=["p1"])
        await nia.disconnect()
        heard: list[DeviceEvent] = []
        nia._life.listeners.append(heard.append)
        lies = DeviceFiles(it.folder / "tablet").lease
        unlink = Path.unlink

        def read_only(path: Path, missing_ok: bool = False) -> None:
            if path == lies:
                raise OSError(30, "Read-only file system")
            unlink(path, missing_ok)

        monkeypatch.setattr(Path, "unlink", read_only)
        it.ahead_ms += 13 * HOUR_MS
        assert await nia.until(lambda: any(isinstance(one, CacheLocked) for one in heard), PATIENCE_S)
        assert nia.status().report is None
        await nia.close()
        again = await it.reopen("tablet", connect=False)
        assert again.status().report is None, "the key that is still there opens nothing at the next start either"
        monkeypatch.undo()

    play(tmp_path, story)


def test_of_two_who_connect_at_once_one_line_remains_and_it_ends_with_the_device(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        nia = await it.device("tablet", "nia", patients=["p1"])
        before = asyncio.all_tasks()
        await asyncio.gather(*(nia.connect("ws://127.0.0.1:9") for _ in range(3)))
        begun = [task for task in asyncio.all_tasks() - before if "_link" in repr(task.get_coro())]
        assert begun == [nia._life.linking]

    play(tmp_path, story)


def test_a_device_that_is_closed_while_it_connects_stays_closed(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        nia = await it.device("tablet", "nia", patients=["p1"])
        connecting = asyncio.create_task(nia.connect())
        await asyncio.sleep(0)
        await nia.close()
        await connecting
        assert nia._life.linking is None
        with pytest.raises(DeviceError, match="closed"):
            await nia.connect()
        assert nia._life.engine is None

    play(tmp_path, story)


def test_who_disconnects_while_another_connects_stays_offline(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        nia = await it.device("tablet", "nia", patients=["p1"])
        connecting = asyncio.create_task(nia.connect())
        await asyncio.sleep(0)
        await nia.disconnect()
        await connecting
        assert nia._life.linking is None

    play(tmp_path, story)


def test_a_wipe_that_the_disk_refuses_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(it: Hospital) -> None:
        nia = await it.device("tablet", "nia", patients=["p1"])
        await nia.disconnect()
        of, files = nia._life, DeviceFiles(it.folder / "tablet")
        with monkeypatch.context() as patch:
            patch.setattr(lease, "destroy", fails_with(OSError(30, "Read-only file system")))
            patch.setattr(lease, "write_whole", fails_with(OSError(30, "Read-only file system")))
            of.wipe_at = 0
            assert await nia.until(lambda: of.engine is None, PATIENCE_S)
            assert await nia.until(lambda: of.wipe_at != 0, PATIENCE_S)
            assert files.lease.exists()
        of.wipe_at = 0
        assert await nia.until(lambda: of.wiped, PATIENCE_S)
        assert not files.lease.exists()
        assert not files.database.exists()

    play(tmp_path, story)


def test_a_device_that_is_closed_in_the_middle_of_its_wipe_finishes_it_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(it: Hospital) -> None:
        nia = await it.device("tablet", "nia", patients=["p1"])
        await nia.disconnect()
        begun = asyncio.Event()

        async def stopped(_: object) -> None:
            begun.set()
            await asyncio.get_running_loop().create_future()

        with monkeypatch.context() as patch:
            patch.setattr(life, "close_cache", stopped)
            nia._life.wipe_at = 0
            await asyncio.wait_for(begun.wait(), PATIENCE_S)
            await nia.close()
        with pytest.raises(DeviceError, match="revoked"):
            await it.reopen("tablet", connect=False)

    play(tmp_path, story)
