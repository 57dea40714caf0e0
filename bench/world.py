"""Real devices for the benchmark, as an application would hold them."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from bench import ground
from bench.process import Server
from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.prescription_draft import Dose, Medication, Route, Supply, Timing
from crdtmed.device.device import Device
from crdtmed.device.engine_types import State

PASSPHRASE: Final = "a passphrase of the bench"  # noqa: S105 - a secret of nobody's
PATIENCE_S: Final = 120.0
ORDER: Final = Medication(ground.ITEM, "Amoxicillin 500 mg capsule", "capsule", "500 mg")


class TooLong(RuntimeError):
    """A device did not get where it should; the message says how it stands."""


@contextlib.asynccontextmanager
async def devices(server: Server, folder: Path, codes: Sequence[str]) -> AsyncIterator[list[Device]]:
    """A device for each code, enrolled, connected, with the user signed in; they hold nothing yet."""
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for number, code in enumerate(codes):
            where = folder / f"device{number}"
            await Device.enrol(
                where, PASSPHRASE, url=f"ws://127.0.0.1:{server.port}", code=code, label=f"bench {number}"
            )
            device = await stack.enter_async_context(await Device.open(where, PASSPHRASE))
            await device.connect()
            await until_level(device)
            await device.sign_in(ground.USER, ground.PASSWORD)
            made.append(device)
        yield made


async def until_level(device: Device) -> None:
    """Waits until everything that a device holds is up to date."""
    if not await device.connected(PATIENCE_S):
        raise TooLong(f"not up to date: {device.status().report}")


async def sign_orders(device: Device, patients: Sequence[str], units: int) -> dict[str, str]:
    """A signed prescription for each patient; prescriptions by patient."""
    found = {}
    for patient in patients:
        draft = device.draft(patient)
        await draft.set(
            medication=ORDER,
            dose=Dose(Quantity("500", "mg")),
            route=Route("26643006", "Oral"),
            timing=Timing(frequency=3, period="1", period_unit="d"),
            supply=Supply(units, "{capsule}", 0, "pharm"),
        )
        said = await device.sign(draft)
        if await said.settled() is not State.ACCEPTED:
            raise TooLong(f"not signed: {await said.verdict()}")
        found[patient] = draft.prescription
    return found
