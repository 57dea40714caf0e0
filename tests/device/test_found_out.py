"""What a device finds out by itself: bursts that do not count, replicas that differ, directories that are old."""

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crdtmed import clock
from crdtmed.aggregates.medication_administration import Correct
from crdtmed.codec import encode
from crdtmed.contract import Kind
from crdtmed.device.engine_types import (
    DeviceError,
    Disconnected,
    LeaseCame,
    NotVerified,
    Revoked,
    State,
)
from crdtmed.device.store import put_bases
from crdtmed.device.store_database import Connection, StoreError
from crdtmed.documents import map_digest
from crdtmed.limits import COMPACT_AFTER_UPDATES
from crdtmed.reasons import Awaits
from crdtmed.signed import DirectoryHead, Revocation
from crdtmed.wire import frames as wire
from tests.device.scripted_relay import NOW
from tests.device.test_engine import relay_with
from tests.device.test_retries import retry
from tests.device.world import (
    DRAFTS,
    LOG,
    P1,
    TODAY,
    administer,
    device_in,
    equal,
    given,
    linked,
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


def test_a_replica_that_differs_is_found_by_digest_and_taken_anew(tmp_path: Path) -> None:
    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        async with device.engine() as engine, other.engine() as theirs:
            await engine.subscribe([P1])
            async with linked(engine.core, relay), linked(theirs.core, relay):
                first = await administer(theirs, 1)

                async def here() -> bool:
                    return [entry.ref for entry in await engine.statements(LOG)] == [first.ref]

                await until(here)
                # The relay's document is changed behind everybody's back, its position is not.
                document = relay.document(TODAY)
                document.replica = type(document.replica).open(TODAY, 5)
                second = await administer(theirs, 2)
                await second.settled()

                async def alarmed() -> bool:
                    device.now += 61_000
                    engine.core.wake()
                    return "diverged" in [entry.code for entry in await engine.inbox()]

                await until(alarmed)

    run(story())


def test_an_older_directory_is_refused_and_the_newer_one_stays(tmp_path: Path) -> None:
    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device)
        old = relay.document("directory").replica.map()
        async with device.engine() as engine, linked(engine.core, relay):
            relay.enrol(other.name, other.signer.public)
            await until(lambda: engine.directory is not None and "bbbbbbbb" in engine.directory.certificates)
            head = engine.core.head
            relay.write_map("directory", old, ["device/bbbbbbbb"])

            async def alarmed() -> bool:
                return "directory_rolled_back" in [entry.code for entry in await engine.inbox()]

            await until(alarmed)
            assert engine.directory is not None
            assert "bbbbbbbb" in engine.directory.certificates
        async with device.engine() as engine:
            assert engine.core.head == head

    run(story())


def test_a_directory_that_was_verified_is_not_verified_again_at_the_next_start(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine, linked(engine.core, relay):
            await until(lambda: engine.directory is not None)
            await until(lambda: "directory" in engine.core.rows)
        async with device.engine() as engine:
            assert engine.directory is not None
            assert device.name in engine.directory.certificates
            row, snapshot = engine.core.rows["directory"], relay.document("directory").replica.snapshot()
            forged = relay.document("directory").replica.map()
            forged["device/aaaaaaaa"] = bytes(64) + forged["device/aaaaaaaa"][64:]
            del forged["head"]
            head = bytes(64) + encode(DirectoryHead(engine.core.head, NOW, map_digest(forged)))
            relay.document("directory").replica.set({**forged, "head": head})
            spoiled = relay.document("directory").replica.snapshot()
            assert spoiled != snapshot
            await engine.core.ports.database.run(lambda held: put_bases(held, [(row, spoiled)]))
        async with device.engine() as engine:
            assert engine.directory is None, "what is not what was verified is verified"

    run(story())


def test_the_age_of_the_cache_is_that_of_the_connection(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
                await administer(engine, 1)
                await settle(engine)
                device.now += 7_000
                assert engine.synced_at(LOG) == engine.status().synced_at == device.now
            last = device.now
            device.now += 50_000
            assert engine.synced_at(LOG) == last
        async with device.engine() as engine:
            assert engine.synced_at(LOG) == engine.status().synced_at == last
            assert engine.synced_at(DRAFTS) is None

    run(story())


def test_a_base_that_falls_back_under_its_epoch_brings_no_older_register(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        relay.put_register(P1, "patient", {"id": "p1"})
        first = relay.document(P1).updates[0]
        relay.put_register(P1, "patient", {"id": "p1", "allergies": ["penicillin"]})
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
                await until(lambda: P1 in engine.core.rows)
            fallen = relay.documents[P1] = type(relay.document(P1))(P1, relay.epoch)
            fallen.take(first)
            async with linked(engine.core, relay):

                async def told() -> bool:
                    return [entry.code for entry in await engine.inbox()] == ["rolled_back"]

                await until(told)
                assert (await engine.registers(P1))["patient"].version == 2

    run(story())


def test_a_document_that_is_refused_alone_is_asked_for_once_a_conversation(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        relay.evict[DRAFTS] = "unknown_document"
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
                await until(lambda: DRAFTS in engine.core.withdrawn)
                assert engine.withdrawn == {}
                for number in range(5):
                    assert await (await administer(engine, number)).settled() is State.ACCEPTED
        asked = [
            want.document
            for frame in map(wire.read_from_device, relay.frames_in)
            if isinstance(frame, wire.Subscribe)
            for want in frame.wants
        ]
        assert asked.count(DRAFTS) == 1

    run(story())


def test_an_old_directory_is_shown_as_stale(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            assert engine.status().directory_stale
            async with linked(engine.core, relay):
                await until(lambda: engine.directory is not None)
            assert not engine.status().directory_stale
            device.now += 2 * 86_400_000
            assert engine.status().directory_stale

    run(story())


def test_a_revocation_that_stands_in_the_directory_alone_is_noticed(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            told: list[object] = []
            engine.core.listeners.append(told.append)
            async with linked(engine.core, relay):
                await until(lambda: engine.directory is not None)
                relay.put_entries({f"revoked/{device.name}": Revocation(device.name, NOW, "lost", False)})
                await until(lambda: any(isinstance(one, Disconnected) and one.code == "revoked" for one in told))
                assert engine.status().revoked
                assert not engine.status().user
            # Nothing waits for the relay, so that nothing has to be handed over before the keys are destroyed.
            (out,) = [one for one in told if isinstance(one, Revoked)]
            assert (out.revocation.device, out.handed_over) == (device.name, True)

    run(story())


@pytest.mark.parametrize("now", [False, True])
def test_a_relay_that_has_forgotten_a_revocation_does_not_take_it_back(tmp_path: Path, now: bool) -> None:
    """It was restored before it could tell; what the directory said stands, since the identity key has signed it."""

    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        relay.judge = lambda one: retry(Awaits("bbbbbbbb." + 16 * "b"))
        async with device.engine() as engine:
            told: list[object] = []
            engine.core.listeners.append(told.append)
            async with linked(engine.core, relay):
                await until(lambda: engine.directory is not None)
            await administer(engine, 1)
            relay.put_entries({f"revoked/{device.name}": Revocation(device.name, NOW, "lost", now)})
            async with linked(engine.core, relay):
                await until(lambda: any(isinstance(one, Revoked) for one in told))
            relay.restored(lambda ref: True)
            async with linked(engine.core, relay):
                await until(lambda: engine.status().connected)
            assert [one.handed_over for one in told if isinstance(one, Revoked)] == [now]
            assert engine.status().revoked

    run(story())


def test_nothing_is_done_to_a_document_whose_authors_cannot_be_verified(tmp_path: Path) -> None:
    async def story() -> None:
        device, stranger = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device)
        async with stranger.engine() as theirs:
            said = await administer(theirs, 1)
            relay.insert(TODAY, [theirs.outbox()[0].signed.encoded])
        correction = Correct(said.ref, "entered-in-error", "wrong patient")
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):

                async def here() -> bool:
                    return len(await engine.statements(LOG)) == 1

                await until(here)
                with pytest.raises(NotVerified):
                    await engine.say(Kind.CORRECT, LOG, correction, seen=[said.ref])
                await administer(engine, 2)
                relay.enrol(stranger.name, stranger.signer.public)
                await until(lambda: engine.directory is not None and "bbbbbbbb" in engine.directory.certificates)
                done = await engine.say(Kind.CORRECT, LOG, correction, seen=[said.ref])
                assert await done.settled() is State.ACCEPTED

    run(story())


def test_the_same_key_says_the_same_thing_once(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            await engine.subscribe([P1])
            key = engine.new_id()
            first = await engine.say(Kind.ADMINISTER, LOG, given(1), key=key)
            again = await engine.say(Kind.ADMINISTER, LOG, given(1), key=key)
            assert first.ref == again.ref
            with pytest.raises(DeviceError, match="key_reused"):
                await engine.say(Kind.ADMINISTER, LOG, given(2), key=key)
            async with linked(engine.core, relay):
                await settle(engine)
            assert (await engine.say(Kind.ADMINISTER, LOG, given(1), key=key)).ref == first.ref
            with pytest.raises(DeviceError, match="key_reused"):
                await engine.say(Kind.ADMINISTER, LOG, given(2), key=key)
            assert not engine.outbox()
        assert len(relay.judged) == 1

    run(story())


def test_what_is_said_is_later_than_what_was_seen_but_for_clocks_that_run_ahead(tmp_path: Path) -> None:
    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        async with device.engine() as engine, other.engine() as theirs:
            await engine.subscribe([P1])
            other.now += 60_000
            near = await administer(theirs, 1)
            async with linked(engine.core, relay), linked(theirs.core, relay):
                theirs.core.offset_ms = 0

                async def seen(ref: str) -> bool:
                    return ref in [entry.ref for entry in await engine.statements(LOG)]

                await until(lambda: seen(near.ref))
                said = await administer(engine, 2)
                stamps = {entry.ref: entry.statement.stamp for entry in await engine.statements(LOG)}
                assert stamps[said.ref] > stamps[near.ref]
                theirs.core.stamp = clock.stamp(NOW + 10_000_000)
                far = await administer(theirs, 3)
                await until(lambda: seen(far.ref))
                said = await administer(engine, 4)
                stamps = {entry.ref: entry.statement.stamp for entry in await engine.statements(LOG)}
                assert stamps[said.ref] < stamps[far.ref]

    run(story())


def test_the_lease_is_asked_for_again_in_time(tmp_path: Path) -> None:
    async def story() -> None:
        device = device_in(tmp_path)
        relay = relay_with(device)
        async with device.engine() as engine:
            leases: list[int] = []
            engine.core.listeners.append(
                lambda event: leases.append(event.relay_ms) if isinstance(event, LeaseCame) else None
            )
            async with linked(engine.core, relay):
                await until(lambda: len(leases) == 1)
                device.now += 61_000
                relay.now += 61_000
                engine.core.wake()
                await until(lambda: leases == [NOW, NOW + 61_000])

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


def test_a_store_that_fails_when_nobody_waits_any_more_ends_no_task_unheard(tmp_path: Path) -> None:
    """Somebody gave up waiting for what they said; then the disk failed: nothing was said, and nothing is logged."""

    async def story() -> None:
        unheard: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context["message"]))
        device = device_in(tmp_path)
        async with device.engine() as engine:
            database = engine.core.ports.database
            honest, begun, go_on = database.run, asyncio.Event(), asyncio.Event()

            async def slow_and_broken(work: Callable[[Connection], Any]) -> Any:
                begun.set()
                await go_on.wait()
                raise StoreError("failed", "the disk does not answer", "try again")

            database.run = slow_and_broken  # type: ignore[method-assign]  # that is the fault
            saying = asyncio.create_task(administer(engine, 1))
            await begun.wait()
            saying.cancel()
            await asyncio.wait([saying])
            del saying  # it holds what it waited for
            go_on.set()
            for _ in range(10):
                await asyncio.sleep(0)
            gc.collect()  # a task that nobody asked for its exception tells so when it goes
            database.run = honest  # type: ignore[method-assign]  # and its end
            assert not engine.core.outbox.items
            assert (await (await administer(engine, 2)).state()) is State.PENDING
        assert unheard == []

    run(story())
