"""The directory: an older one is refused, a stale one is shown, and what it says of this device stands."""

from pathlib import Path

import pytest

from crdtmed.codec import encode
from crdtmed.device.engine_types import (
    Disconnected,
    Revoked,
)
from crdtmed.device.store import put_bases
from crdtmed.documents import map_digest
from crdtmed.reasons import Awaits
from crdtmed.signed import DirectoryHead, Revocation
from tests.device.scripted_relay import NOW
from tests.device.world import (
    administer,
    device_in,
    linked,
    relay_with,
    retry,
    run,
    until,
)


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
