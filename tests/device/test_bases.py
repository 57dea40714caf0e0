"""Bases: a whole document counts where the signed list of its frame says exactly what it is."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from crdtmed.signed import DigestOf, DocumentDigests, seal
from tests.device.scripted_relay import RELAY, Document
from tests.device.test_engine import relay_with
from tests.device.world import LOG, P1, Device, administer, linked, run, settle, until

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
