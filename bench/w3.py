"""W3, catch-up: an empty device pulls a log of 10,000 entries, and 1,000 patients of ten fields."""

import asyncio
import time
from pathlib import Path
from typing import Any, Final

from bench import ground, process, thin, world
from bench.process import Server, cpu_s, memory_mb
from crdtmed.aggregates.medication_administration import Administer, OfVerbal
from crdtmed.device.device import Device
from crdtmed.documents import log_of, segment, utc_date
from crdtmed.limits import PUSH_STATEMENTS
from crdtmed.updates import ItemId, write_array_update
from crdtmed.wire.frames import Push, Verdicts, encode_frame, read_from_relay

ENTRIES: Final = 10_000
PATIENTS: Final = 1_000
IN_FLIGHT: Final = 8
"""Pushes that wait for their verdicts while a log is filled."""


def account(number: int) -> Administer:
    """An administration on a spoken order, about 200 bytes of content with its statement."""
    subject = OfVerbal("Dr Example", f"spoken order {number:06}", "Amoxicillin 500 mg capsule", ground.ITEM)
    return Administer(subject, "given", 1_780_000_000_000 + number, "ward")


async def fill(server: Server, device: ground.Thin, patient: str, count: int) -> None:
    """Writes so many entries into a patient's log of today, each a signed statement, judged and committed."""
    log = log_of(f"patient/{patient}")
    name = segment(log, utc_date(int(time.time() * 1_000)))
    verdicts = 0
    heard = asyncio.Event()

    def told(data: bytes) -> None:
        nonlocal verdicts
        frame = read_from_relay(data)
        if isinstance(frame, Verdicts):
            verdicts += len(frame.verdicts)
            heard.set()

    line = await thin.join(server.port, device, (), told)
    client, clock = 7_000 + int(patient[1:]), 0
    while clock < count:
        size = min(PUSH_STATEMENTS, count - clock)
        values = [device.say(account(clock + at), log).encoded for at in range(size)]
        line.send(
            encode_frame(
                Push(name, write_array_update(client, clock, ItemId(client, clock - 1) if clock else None, values))
            )
        )
        clock += size
        while clock - verdicts > IN_FLIGHT * PUSH_STATEMENTS:
            await _heard(heard)
    while verdicts < count:
        await _heard(heard)
    line.close()


async def _heard(heard: asyncio.Event) -> None:
    heard.clear()
    async with asyncio.timeout(world.PATIENCE_S):
        await heard.wait()


async def pull(device: Device, server: Server, patients: list[str]) -> dict[str, float]:
    """An empty device holds these patients: until it can be read, and until every author is verified."""
    cpu, own = cpu_s(server.pid), time.process_time()
    began = time.perf_counter()
    await device.hold(patients=patients)
    await world.until_level(device)
    for patient in patients:
        await device.engine.registers(f"patient/{patient}")
    await device.engine.statements(f"patient/{patients[0]}/log")
    usable = time.perf_counter() - began
    await device.engine.verify()
    verified = time.perf_counter() - began
    if device.engine.status().unverified:
        raise world.TooLong(f"{device.engine.status().unverified} authors could not be verified")
    return {
        "usable_ms": usable * 1_000,
        "verified_ms": verified * 1_000,
        "cpu": cpu_s(server.pid) - cpu,
        "load_cpu": time.process_time() - own,
        "peak_mb": memory_mb(server.pid, "VmHWM"),
    }


async def entries(folder: Path) -> dict[str, Any]:
    """10,000 entries of one patient's log."""
    ground.build(folder / "relay")
    (writer,) = ground.enrol(folder / "relay", 1)
    codes = ground.codes(folder / "relay", 1)
    with process.relay(folder / "relay") as server:
        await fill(server, writer, "p0", ENTRIES)
        async with world.devices(server, folder, codes) as (device,):
            found = await pull(device, server, ["p0"])
            have = len(await device.engine.statements("patient/p0/log"))
            if have != ENTRIES:
                raise world.TooLong(f"{have} entries where {ENTRIES} were due")
            return found


async def documents(folder: Path) -> dict[str, Any]:
    """1,000 patients, each its document, its drafts and a week of its log."""
    ground.build(folder / "relay", PATIENTS)
    codes = ground.codes(folder / "relay", 1)
    with process.relay(folder / "relay") as server:
        async with world.devices(server, folder, codes) as (device,):
            names = [f"p{number}" for number in range(PATIENTS)]
            found = await pull(device, server, names)
            registers = [await device.engine.registers(f"patient/{name}") for name in names]
            if sum("patient" in one for one in registers) != PATIENTS:
                raise world.TooLong("not every patient came")
            return found
