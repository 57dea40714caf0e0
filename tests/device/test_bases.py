"""Bases: a whole document counts where its signed digest says exactly what it is, and as long as it stays that."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from crdtmed.signed import DigestOf, DocumentDigests, seal
from tests.device.scripted_relay import RELAY, Document
from tests.device.world import (
    LOG,
    P1,
    TODAY,
    Device,
    administer,
    device_in,
    linked,
    relay_with,
    run,
    settle,
    tablet_and_relay,
    until,
)

WRONG: dict[str, dict[str, Any]] = {
    "content": {"content": bytes(32)},
    "position": {"position": 99},
    "epoch": {"epoch": "z" * 16},
    "document": {"document": "patient/p9/drafts"},
}


@pytest.mark.parametrize("wrong", list(WRONG))
def test_a_base_that_the_list_describes_otherwise_is_not_believed(tmp_path: Path, wrong: str) -> None:
    async def story() -> None:
        device, other = (Device(name, tmp_path / f"{name}.db") for name in ("aaaaaaaa", "bbbbbbbb"))
        relay = relay_with(device, other)
        async with other.engine() as theirs, linked(theirs.core, relay):
            await administer(theirs, 1)
            await settle(theirs)

        def lies(document: Document) -> bytes:
            of = DigestOf(document.name, document.epoch, document.position, document.replica.digest())
            return seal(DocumentDigests(relay.now, (msgspec.structs.replace(of, **WRONG[wrong]),)), RELAY)

        honest, relay._digest = relay._digest, lies  # type: ignore[method-assign]  # it signs what is not so
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):

                async def told() -> bool:
                    return "base_unreadable" in [entry.code for entry in await engine.inbox()]

                await until(told)
                assert not await engine.statements(LOG)
            relay._digest = honest  # type: ignore[method-assign]  # and says again what is
            async with linked(engine.core, relay):

                async def there() -> bool:
                    return len(await engine.statements(LOG)) == 1

                await until(there)

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

                async def anew() -> bool:
                    return [entry.ref for entry in await engine.statements(LOG)] == [second.ref]

                await until(anew)

    run(story())


def test_a_base_that_falls_back_under_its_epoch_brings_no_older_register(tmp_path: Path) -> None:
    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (_, relay, engine):
            relay.put_register(P1, "patient", {"id": "p1"})
            first = relay.document(P1).updates[0]
            relay.put_register(P1, "patient", {"id": "p1", "allergies": ["penicillin"]})
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
