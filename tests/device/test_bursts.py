"""What comes is taken in whole or not at all, and neither store nor memory grows with it."""

import asyncio
from pathlib import Path

import pytest

from crdtmed.device.engine_types import (
    Disconnected,
    State,
)
from crdtmed.device.store_database import Connection
from crdtmed.limits import COMPACT_AFTER_UPDATES
from tests.device.world import (
    LOG,
    P1,
    TODAY,
    administer,
    device_in,
    equal,
    linked,
    relay_with,
    run,
    settle,
    until,
)


def test_a_burst_that_cannot_be_written_counts_for_nothing_and_comes_again(tmp_path: Path) -> None:
    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        async with device.engine() as engine, other.engine() as theirs:
            await engine.subscribe([P1])
            mine = await administer(engine, 1)
            async with linked(theirs.core, relay):
                for number in range(300):
                    await administer(theirs, number)
                await settle(theirs)

            def full(held: Connection) -> None:
                pages = held.execute("PRAGMA page_count").fetchone()[0]
                held.execute(f"PRAGMA max_page_count = {pages}")

            await engine.core.ports.database.run(full)
            told: list[object] = []
            engine.core.listeners.append(told.append)
            async with linked(engine.core, relay):
                await until(
                    lambda: any(isinstance(one, Disconnected) and one.code == "store_disk_full" for one in told)
                )
                assert [entry.ref for entry in await engine.statements(LOG)] == [mine.ref]
                assert await mine.state() is State.PENDING
                await engine.core.ports.database.run(lambda held: held.execute("PRAGMA max_page_count = 1000000"))
                assert await mine.settled() is State.ACCEPTED
                await settle(engine)
                await equal(engine, relay)
            assert len(await engine.statements(LOG)) == 301

    run(story())


@pytest.mark.parametrize("ends", ["cancelled", "raises"])
def test_a_burst_that_ends_midway_leaves_no_hole_in_the_base(tmp_path: Path, ends: str) -> None:
    """Found by the balance of a ward: two updates were in memory, not in the store, and later ones went on top."""

    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        async with device.engine() as engine, other.engine() as theirs:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
                await settle(engine)
            async with linked(theirs.core, relay):
                await administer(theirs, 1)
                await settle(theirs)
            database = engine.core.ports.database
            honest, reached = database.run, asyncio.Event()

            async def stuck(work: object) -> object:
                """Where the burst is written, it ends."""
                if "_commit" not in getattr(work, "__qualname__", ""):
                    return await honest(work)  # type: ignore[arg-type]  # whatever it is, it is handed on
                database.run = honest  # type: ignore[method-assign]  # once only
                reached.set()
                if ends == "raises":
                    raise RuntimeError("something else went wrong")
                await asyncio.Event().wait()
                return None

            database.run = stuck  # type: ignore[method-assign, assignment]  # in place of the real one
            async with linked(engine.core, relay):
                await reached.wait()
            async with linked(theirs.core, relay):
                for number in range(2, 5):
                    await administer(theirs, number)
                await settle(theirs)

            async def whole() -> bool:
                return len(await engine.statements(LOG)) == 4

            async with linked(engine.core, relay):
                await until(whole)
                await settle(engine)
        async with device.engine() as engine:
            assert len(await engine.statements(LOG)) == 4, "what the store has is whole"
            assert not [entry for entry in await engine.inbox() if entry.code == "base_damaged"]

    run(story())


def test_many_small_changes_become_one_snapshot(tmp_path: Path) -> None:
    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        async with device.engine() as engine, other.engine() as theirs:
            await engine.subscribe([P1])
            async with linked(engine.core, relay), linked(theirs.core, relay):
                for number in range(COMPACT_AFTER_UPDATES + 20):
                    await administer(theirs, number)
                    await settle(theirs)
                await until(lambda: relay.document(TODAY).position == engine.core.rows[TODAY].position)
            rows = await engine.core.ports.database.run(
                lambda held: held.execute("SELECT count(*) FROM base_update WHERE document = ?", (TODAY,)).fetchone()
            )
            assert rows[0] < COMPACT_AFTER_UPDATES
        async with device.engine() as engine:
            assert len(await engine.statements(LOG)) == COMPACT_AFTER_UPDATES + 20

    run(story())


def test_memory_holds_no_more_documents_than_its_limit_and_nothing_of_what_was_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many documents come at once, unverified, and go again once that is done; every one of them can be read."""
    monkeypatch.setattr("crdtmed.device.engine_core.LIVE_DOCUMENTS", 2)

    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        patients = [f"patient/p{number}" for number in range(1, 6)]
        for name in patients:
            relay.put_register(name, "patient", {"id": name})
        async with device.engine() as engine, other.engine() as theirs:
            async with linked(theirs.core, relay):
                for name in patients:
                    await administer(theirs, 1, f"{name}/log")
                await settle(theirs)
            await engine.subscribe(patients)
            async with linked(engine.core, relay):
                for name in patients:
                    await administer(engine, 2, f"{name}/log")
                await settle(engine)
                await until(lambda: engine.status().behind == 0)
                await engine.verify()
                engine.core.wake()
                await until(lambda: not engine.core.newly_verified)
                await until(lambda: len(engine.core.held) <= 2 + 1)
                assert not engine.core.found
                assert not engine.core.judged
                for name in patients:
                    assert len(await engine.statements(f"{name}/log")) == 2
                    assert len(await engine.registers(name)) == 1
                await engine.verify()
                engine.core.wake()
                await until(lambda: len(engine.core.held) <= 2 + 1)

    run(story())
