"""A device as a process of its own, under load: ``python -m tests.kill.device_process FOLDER USER SEED PORT_FILE``.

Every line it prints is a word to whoever called it: ``opened`` and how much its outbox holds, ``said`` once a
statement is durable, ``verdict`` when one came.  It says one thing after the other until a line comes in; then it
waits until everything has settled, and tells what it holds.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.medication_administration import OfVerbal
from crdtmed.aggregates.prescription_draft import Dose, Instructions
from crdtmed.device.device import Device
from crdtmed.device.engine import Said
from crdtmed.device.engine_types import VerdictCame
from crdtmed.device.link import Transport, websocket
from crdtmed.device.store_database import StoreError
from tests.kill.words import tell
from tests.scenarios.hospital import PASSPHRASE
from tests.stateful.ward import at, level, until

Saying = Callable[[Device, Random, int], Awaitable[Said | tuple[Said, ...]]]


async def _draft(device: Device, chance: Random, number: int) -> tuple[Said, ...]:
    """One of three drafts that every prescriber works on."""
    draft = device.draft("p1", f"shared{chance.randrange(3)}aaaaaaa")
    if chance.random() < 0.5:
        return await draft.set(dose=Dose(Quantity(str(250 + number), "mg")))
    return await draft.set(instructions=Instructions(f"note {number}"))


async def _administer(device: Device, chance: Random, number: int) -> Said:
    order = OfVerbal("Dr Ana", "night round", "Paracetamol 500 mg tablet")
    given = await device.administration("p1", "given", verbal=order, dose=Quantity("500", "mg"), note=str(number))
    return await device.administer("p1", given)


async def _receive(device: Device, chance: Random, number: int) -> Said:
    """A delivery: of four notes in all, so that some look like one delivery twice."""
    return await device.receive(
        "pharm",
        supplier="Wholesale",
        delivery_note=f"LS-{chance.randrange(4)}",
        item="amox-500",
        lot=f"N{chance.randrange(2)}",
        quantity=chance.randrange(1, 9),
        expiry=date(2099, 1, 31),
    )


async def _dispense(device: Device, chance: Random, number: int) -> Said:
    """From lots that run short, for a prescription that ends."""
    (order,) = (await device.patient("p1")).prescriptions
    return await device.dispense(
        "p1",
        order.register.id,
        lot=chance.choice(("A1", "A2", "N0", "N1")),
        quantity=chance.randrange(1, 4),
        handed_over=chance.random() < 0.5,
    )


WORK: dict[str, tuple[Saying, ...]] = {
    "ana": (_draft, _draft, _administer),
    "ben": (_draft, _draft, _administer),
    "pia": (_receive, _dispense, _dispense),
    "qun": (_receive, _dispense, _dispense),
}


async def live(folder: Path, user: str, seed: int, port_file: Path) -> None:
    """Opens, connects, and goes on saying."""

    async def dial() -> Transport:
        return await websocket(f"ws://127.0.0.1:{int(port_file.read_text())}/sync")()

    async with await Device.open(folder, PASSPHRASE) as device:
        tell("opened", str(len(device.outbox())))
        verdicts = asyncio.create_task(_tell_verdicts(device))
        await device.unlock(user, f"pin-{user}")
        await device.connect(dial=dial)
        stop = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
        await _load(device, user, Random(seed), stop)
        await _settle(device, port_file)
        verdicts.cancel()
        tell("settled", json.dumps(await _holds(device)))


async def _tell_verdicts(device: Device) -> None:
    async for event in device.changes():
        if isinstance(event, VerdictCame) and event.verdict.status in ("accepted", "conflict", "refused"):
            tell("verdict", event.verdict.ref, str(event.verdict.status), event.verdict.code)


async def _load(device: Device, user: str, chance: Random, stop: "asyncio.Task[str]") -> None:
    number = 0
    while not stop.done():
        number += 1
        said = await chance.choice(WORK[user])(device, chance, number)
        for one in said if isinstance(said, tuple) else (said,):
            tell("said", one.ref)
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(stop), chance.random() / 20)


async def _settle(device: Device, port_file: Path) -> None:
    """Everything is sent, and everything has come; then the line that says so is asked to go on."""
    await until(device, lambda: level(device))
    tell("flushed")
    await asyncio.to_thread(sys.stdin.readline)  # until everybody has
    places: dict[str, Any] = json.loads(port_file.with_name("places").read_text())
    await until(device, lambda: at(device, places))


async def _holds(device: Device) -> dict[str, Any]:
    """What this device shows: each document's content as a digest, the stock, and what is open."""
    view = await device.site("pharm")
    return {
        "documents": {name: held.replica.digest().hex() for name, held in device.engine.core.held.items()},
        "stock": {one.lot: [one.confirmed, one.shortage] for one in view.stock},
        "open": sorted(one.ref for one in await device.conflicts()),
        "record": len((await device.patient("p1")).record.entries),
    }


if __name__ == "__main__":
    try:
        asyncio.run(live(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])))
    except StoreError as error:
        tell("unreadable", error.code, error.says)
        sys.exit(1)
