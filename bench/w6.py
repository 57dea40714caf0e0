"""W6, the device: writes, the view of a draft with 20 writers, and a store of 50 patients and 10,000 entries."""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from bench import ground, process, thin, w1, w3, world
from bench.process import Server
from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.prescription_draft import (
    Dose,
    DraftWrite,
    Group,
    GroupValue,
    Indication,
    Instructions,
    Route,
    write_key,
)
from crdtmed.device.device import Device
from crdtmed.device.files import DeviceFiles
from crdtmed.device.keyfile import open_key_file
from crdtmed.device.store_database import open_connection
from crdtmed.updates import write_map_update
from crdtmed.wire.frames import Push, encode_frame

PATIENTS: Final = 50
EACH: Final = 200
WRITERS: Final = 20
DRAFT: Final = "rx-of-twenty"
WRITES: Final = 500
VIEWS: Final = 100
OPENINGS: Final = 3


async def ours(folder: Path) -> dict[str, Any]:
    """All of W6; the store is opened in processes of their own."""
    ground.build(folder / "relay", PATIENTS)
    writers = ground.enrol(folder / "relay", WRITERS)
    codes = ground.codes(folder / "relay", 1)
    names = [f"p{number}" for number in range(PATIENTS)]
    with process.relay(folder / "relay") as server:
        for name in names:
            await w3.fill(server, writers[0], name, EACH)
        for number, writer in enumerate(writers):
            await _draft(server, writer, number)
        async with world.devices(server, folder, codes) as (device,):
            await device.hold(patients=names)
            await world.until_level(device)
            await device.engine.verify()
            await device.disconnect()
            found = await _views(device) | await _writes(device, folder)
    opened = [_opened(folder / "device0") for _ in range(OPENINGS)]
    return found | {key: statistics.median(one[key] for one in opened) for key in opened[0]}


async def _draft(server: Server, writer: ground.Thin, number: int) -> None:
    """One of twenty who write the same draft at once, none having seen another."""
    document = "patient/p1/drafts"
    groups: dict[Group, GroupValue] = {
        Group.DOSE: Dose(Quantity(str(number + 1), "mg")),
        Group.ROUTE: Route("26643006", "Oral"),
        Group.INSTRUCTIONS: Instructions(f"as writer {number} says"),
        Group.INDICATION: Indication(f"indication of writer {number}"),
    }
    entries = []
    for group, value in groups.items():
        content = DraftWrite(DRAFT, group, value)
        said = writer.say(content, document)
        entries.append((write_key(content, writer.id, said.statement.id), said.encoded))
    heard = asyncio.Event()
    line = await thin.join(server.port, writer, (), lambda _: heard.set())
    line.send(encode_frame(Push(document, write_map_update(9_000 + number, 0, entries))))
    async with asyncio.timeout(world.PATIENCE_S):
        await heard.wait()
    line.close()


async def _views(device: Device) -> dict[str, float]:
    """The view of the draft: each after a write to it, and each with nothing new."""
    draft = device.draft("p1", DRAFT)
    fresh: list[float] = []
    again: list[float] = []
    for number in range(VIEWS):
        await device.draft("p1", "rx-beside").set(instructions=Instructions(f"changed {number}"))
        for into in (fresh, again):
            began = time.perf_counter()
            view = await draft.view()
            into.append(time.perf_counter() - began)
    if len(view.seen) < WRITERS:
        raise world.TooLong(f"a draft of {WRITERS} writers shows {len(view.seen)} heads")
    return {"view_ms": statistics.median(fresh) * 1_000, "view_again_ms": statistics.median(again) * 1_000}


async def _writes(device: Device, folder: Path) -> dict[str, float]:
    """From the call to its return: then a write is in the encrypted outbox, synced, and every view shows it.

    In turn with bare commits of 300 bytes to the same disk, in SQLCipher with WAL and synchronous FULL.
    """
    connection = open_connection(folder / "commits.db", os.urandom(32))
    connection.execute("CREATE TABLE it (data BLOB)")
    took, commits = [], []
    for number in range(WRITES):
        began = time.perf_counter()
        await device.administer(f"p{number % PATIENTS}", w3.account(number))
        took.append(time.perf_counter() - began)
        began = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO it VALUES (?)", (os.urandom(300),))
        connection.execute("COMMIT")
        commits.append(time.perf_counter() - began)
    connection.close()
    took.sort()
    return {
        "write_p50_ms": w1.percentile(took, 0.5) * 1_000,
        "write_p99_ms": w1.percentile(took, 0.99) * 1_000,
        "commit_ms": statistics.median(commits) * 1_000,
    }


def _opened(device: Path) -> dict[str, float]:
    """A fresh process opens the store; what it measured."""
    ran = subprocess.run(  # noqa: S603 - this very module
        [sys.executable, "-m", "bench.w6", str(device)], capture_output=True, text=True, check=True, timeout=60
    )
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


async def _open(folder: Path) -> dict[str, float]:
    """Opens a store, shows a patient, then reads everything; the passphrase, slow on purpose, is stretched before."""
    keys = open_key_file(DeviceFiles(folder).keys, world.PASSPHRASE)
    before = process.memory_mb(os.getpid())
    began = time.perf_counter()
    async with await Device.open(folder, keys=keys) as device:
        opened = time.perf_counter() - began
        await device.patient("p1")
        shown = time.perf_counter() - began
        entries = 0
        for patient in device.patients:
            entries += len(await device.engine.statements(f"patient/{patient}/log"))
        read = time.perf_counter() - began
        if entries < PATIENTS * EACH:
            raise world.TooLong(f"{entries} entries where {PATIENTS * EACH} were due")
        memory = process.memory_mb(os.getpid())
    return {
        "open_ms": opened * 1_000,
        "shown_ms": shown * 1_000,
        "read_all_ms": read * 1_000,
        "memory_mb": memory,
        "memory_before_mb": before,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_open(Path(sys.argv[1])))))
