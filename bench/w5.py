"""W5, scale: 1,000 connected devices, and a restart; a store of 1 million statements against one of 10 thousand."""

import asyncio
import os
import shutil
import statistics
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from bench import ground, process, thin, w3, world
from bench.line import Line
from bench.process import Server, cpu_s, memory_mb
from crdtmed.documents import log_of, segment, utc_date
from crdtmed.ids import DEVICE_BYTES, device_id
from crdtmed.updates import ItemId, write_array_update
from crdtmed.wire import frames
from relay.storage.sqlite import open_sqlite

DEVICES: Final = 1_000
DIALLING: Final = 64
PATIENTS: Final = 100
EACH: Final = 100
COPIES: Final = 99
"""So often 10,000 statements are multiplied."""
IDLE_S: Final = 12.0
RENEW_S: Final = 60.0
RETRY_S: Final = 0.1
ROUNDS: Final = 5
PUSHES: Final = 1_000
JOINS: Final = 30


async def crowd(folder: Path) -> dict[str, Any]:
    """1,000 devices that hold one patient, the formulary and the directory, and have nothing to say."""
    ground.build(folder, PATIENTS)
    devices = ground.enrol(folder, DEVICES)
    everything = ["directory", "formulary", *(f"patient/p{number}" for number in range(PATIENTS))]
    port = process.free_port()
    with process.relay(folder, port) as server:
        places = dict.fromkeys(everything, ("", 0))
        (await thin.join_from(port, devices[0], places)).close()
        held = [_share(places, number) for number in range(DEVICES)]
        before = memory_mb(server.pid)
        lines = await _all(port, devices, held)
        await asyncio.sleep(1.0)
        memory = (memory_mb(server.pid) - before) * 1_024 / DEVICES
        idle = await _idle(server, lines)
        peak = memory_mb(server.pid, "VmHWM")
    began = time.perf_counter()
    with process.relay(folder, port) as server:
        listening = time.perf_counter() - began
        lines = await _all(port, devices, held)
        back = time.perf_counter() - began
        cpu = cpu_s(server.pid)
        for line in lines:
            line.close()
    return {
        "idle_kb": memory,
        "idle_cpu_ms": idle,
        "listening_ms": listening * 1_000,
        "back_ms": back * 1_000,
        "back_cpu": cpu,
        "peak_mb": peak,
    }


def _share(places: thin.Places, number: int) -> thin.Places:
    return {name: places[name] for name in ("directory", "formulary", f"patient/p{number % PATIENTS}")}


async def _all(port: int, devices: list[ground.Thin], held: list[thin.Places]) -> list[Line]:
    """Everybody connects, as many at once as a load of one process can, again until it is taken."""
    few = asyncio.Semaphore(DIALLING)

    async def one(device: ground.Thin, places: thin.Places) -> Line:
        while True:
            async with few:
                try:
                    return await thin.join_from(port, device, dict(places), lambda _: None)
                except (OSError, thin.Refused):
                    await asyncio.sleep(RETRY_S)

    async with asyncio.timeout(world.PATIENCE_S):
        return await asyncio.gather(*map(one, devices, held))


async def _idle(server: Server, lines: list[Line]) -> float:
    """CPU of a device that only renews its lease, as every device does once a minute: milliseconds a minute."""
    renew = frames.encode_frame(frames.Renew(0, 0))
    began, cpu = time.perf_counter(), cpu_s(server.pid)
    count = int(DEVICES * IDLE_S / RENEW_S)
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number * IDLE_S / count - time.perf_counter()))
        lines[number].send(renew)
    await asyncio.sleep(max(0.0, began + IDLE_S - time.perf_counter()))
    took = time.perf_counter() - began
    return (cpu_s(server.pid) - cpu) / DEVICES * 1_000 * 60 / took


# ---- stores of two sizes ------------------------------------------------------------------------------------------


async def stores(folder: Path) -> dict[str, Any]:
    """10,000 statements that went through admission; the same a hundred times, multiplied in SQL; in turn."""
    small, large = folder / "small", folder / "large"
    ground.build(small, PATIENTS)
    devices = ground.enrol(small, 1 + ROUNDS + JOINS)
    with process.relay(small) as server:
        for number in range(PATIENTS):
            await w3.fill(server, devices[0], f"p{number}", EACH)
    shutil.copytree(small, large)
    multiply(ground.database(large))
    found: dict[str, list[dict[str, float]]] = {"small": [], "large": []}
    for turn in range(ROUNDS):
        for name in ("small", "large"):
            found[name].append(await _store(folder / name, devices, turn))
    middle = {
        name: {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        for name, rounds in found.items()
    }
    ratios = {f"{key}_ratio": middle["large"][key] / middle["small"][key] for key in middle["small"]}
    return ratios | {f"{key}_{name}": value for name, of in middle.items() for key, value in of.items()}


def multiply(database: Path) -> None:
    """Copies every log with its entries `COPIES` times, each under other patients and devices."""
    with closing(open_sqlite(database)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("CREATE TEMP TABLE original (document INTEGER PRIMARY KEY)")
        connection.execute("INSERT INTO original SELECT id FROM document WHERE name LIKE 'patient/%/log/%'")
        tops = {
            table: connection.execute(f"SELECT max(id) + 1 FROM {table}").fetchone()[0]  # noqa: S608 - two names from below
            for table in ("document", "client")
        }
        connection.execute("BEGIN IMMEDIATE")
        for copy in range(1, COPIES + 1):
            (author,) = connection.execute(
                "INSERT INTO author (device) VALUES (?) RETURNING id",
                (device_id(os.urandom(DEVICE_BYTES)),),
            ).fetchone()
            document, client = copy * tops["document"], copy * tops["client"]
            ids = {"document": document, "client": client, "clients": tops["client"]}
            for sql in _COPY:
                connection.execute(sql, ids | {"copy": copy, "author": author})
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


_COPY: Final = (
    "INSERT INTO document (id, name, position, floor, snapshot, snapshot_position) "
    "SELECT id + :document, replace(name, '/log/', 'x' || :copy || '/log/'), position, floor, snapshot, "
    "snapshot_position FROM document WHERE id IN original",
    "INSERT INTO epoch (document, since, epoch) "
    "SELECT document + :document, since, epoch FROM epoch WHERE document IN original",
    "INSERT INTO client (id, document, client, author, origin_client, origin_clock, clock, words) "
    "SELECT id + :client, document + :document, client, :author, origin_client, origin_clock, clock, words "
    "FROM client WHERE document IN original AND id < :clients",
    "INSERT INTO statement (author, sid, number, target, position, client, clock, received_at, status, verdict, data) "
    "SELECT :author, sid, number, target + :document, position, client + :client, clock, received_at, status, verdict, "
    "data FROM statement WHERE target IN original",
)


async def _store(folder: Path, devices: list[ground.Thin], turn: int) -> dict[str, float]:
    """One round on one store: start-up, subscribing, admission."""
    began = time.perf_counter()
    with process.relay(folder) as server:
        start = time.perf_counter() - began
        starting = cpu_s(server.pid)
        joins = []
        today = segment(log_of("patient/p1"), utc_date(int(time.time() * 1_000)))
        for device in devices[1 + ROUNDS :]:
            began = time.perf_counter()
            (await thin.join(server.port, device, [today])).close()
            joins.append(time.perf_counter() - began)
        cpu = cpu_s(server.pid)
        rate = await _admission(server, devices[1 + turn])
        return {
            "start": start,
            "start_cpu": starting,
            "subscribe": statistics.median(joins),
            "admit": (cpu_s(server.pid) - cpu) / PUSHES,
            "admit_rate": rate,
        }


async def _admission(server: Server, device: ground.Thin) -> float:
    """Entries pushed one by one, as they come during a shift; how many a second."""
    log = log_of("patient/p2")
    name = segment(log, utc_date(int(time.time() * 1_000)))
    client = int.from_bytes(os.urandom(4), "big") + 2
    verdicts, heard = 0, asyncio.Event()

    def told(data: bytes) -> None:
        nonlocal verdicts
        frame = frames.read_from_relay(data)
        if isinstance(frame, frames.Verdicts):
            verdicts += len(frame.verdicts)
            heard.set()

    line = await thin.join(server.port, device, (), told)
    said = [device.say(w3.account(number), log).encoded for number in range(PUSHES)]
    began = time.perf_counter()
    for clock, value in enumerate(said):
        origin = ItemId(client, clock - 1) if clock else None
        line.send(frames.encode_frame(frames.Push(name, write_array_update(client, clock, origin, [value]))))
        while clock - verdicts > 50:
            heard.clear()
            async with asyncio.timeout(world.PATIENCE_S):
                await heard.wait()
    while verdicts < PUSHES:
        heard.clear()
        async with asyncio.timeout(world.PATIENCE_S):
            await heard.wait()
    line.close()
    return PUSHES / (time.perf_counter() - began)
