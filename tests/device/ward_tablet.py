"""A ward's tablet as a process of its own, for tests that kill it: ``folder port seed``.

It prints what it shows after each start, then says one administration after the other and prints each reference once
it is durable, for as long as it is let live.
"""

import asyncio
import sys
from pathlib import Path
from random import Random

from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.medication_administration import Administer, OfVerbal
from crdtmed.contract import Kind
from crdtmed.device.device import Device
from tests.scenarios.hospital import PASSPHRASE

LOG = "patient/p1/log"


def given(number: int, now_ms: int) -> Administer:
    """An administration on a word of mouth."""
    subject = OfVerbal("Ana Prescriber", "night round", "Paracetamol 500 mg tablet")
    return Administer(subject, "given", now_ms - number, "ward", dose=Quantity("500", "mg"))


async def live(folder: Path, port: int, seed: int) -> None:
    """Opens, connects, shows, and goes on saying."""
    random = Random(seed)
    async with await Device.open(folder, PASSPHRASE) as device:
        await device.unlock("nia", "pin-nia")
        shown = [entry.ref for entry in await device.engine.statements(LOG)]
        print("shown", *shown, flush=True)
        await device.connect(f"ws://127.0.0.1:{port}")
        for number in range(100_000):
            said = await device.engine.say(Kind.ADMINISTER, LOG, given(number, device.engine.core.relay_now()))
            print("said", said.ref, flush=True)
            if random.random() < 0.2:
                await asyncio.sleep(random.random() / 50)


if __name__ == "__main__":
    asyncio.run(live(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
