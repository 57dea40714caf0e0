"""W2, a shift's end: a device with 2,000 queued dispenses and administrations connects; a second one waits for them."""

import asyncio
import time
from pathlib import Path
from typing import Any, Final

from bench import ground, process, world
from bench.process import cpu_s, database_bytes, memory_mb, own_cpu_s
from crdtmed.device.device import Device

EVENTS: Final = 2_000
PATIENTS: Final = 10
NAMES: Final = tuple(f"p{number}" for number in range(PATIENTS))
UNKNOWN_LOT: Final = "no-such-lot"


async def queue(device: Device, orders: dict[str, str], conflicts: int) -> None:
    """Says everything of the shift: dispenses and administrations in turn, every n-th dispense from no known lot."""
    every = EVENTS // conflicts if conflicts else 0
    for number in range(EVENTS):
        patient = NAMES[number // 2 % PATIENTS]
        if number % 2:
            account = await device.administration(patient, "given", prescription=orders[patient])
            await device.administer(patient, account)
        else:
            wrong = every and number % every == 0
            await device.dispense(patient, orders[patient], lot=UNKNOWN_LOT if wrong else ground.LOT, quantity=1)


async def entries(device: Device) -> int:
    """How many statements of the shift a device has in its bases."""
    logs = [f"patient/{name}/log" for name in NAMES] + ["site/pharm/log"]
    found = [await device.engine.statements(log) for log in logs]
    return sum(len(part) for part in found)


def clocks(device: Device) -> int:
    """How many statements have come to a device in logs, those included that turned out to be conflicts."""
    held = device.engine.core.held
    return sum(sum(base.replica.state_vector.values()) for name, base in held.items() if "/log/" in name)


async def measure(folder: Path, conflicts: int) -> dict[str, Any]:
    """One flush; ``conflicts`` of the events cannot be accepted."""
    ground.build(folder / "relay", PATIENTS)
    codes = ground.codes(folder / "relay", 2)
    expected = EVENTS - conflicts
    with process.relay(folder / "relay") as server:
        async with world.devices(server, folder, codes) as (first, second):
            for device in (first, second):
                await device.hold(patients=NAMES, sites=["pharm"])
                await world.until_level(device)
            orders = await world.sign_orders(first, NAMES, EVENTS)
            await first.flushed(world.PATIENCE_S)
            await first.disconnect()
            began = time.perf_counter()
            await queue(first, orders, conflicts)
            queued = time.perf_counter() - began
            disk, cpu, own = database_bytes(ground.database(folder / "relay")), cpu_s(server.pid), time.process_time()
            main = own_cpu_s(server.pid)
            up, down = process.traffic(server)
            began = time.perf_counter()
            told: dict[str, float] = {}

            async def durable() -> None:
                if not await first.until(
                    lambda: all(item.verdict is not None for item in first.outbox()), world.PATIENCE_S
                ):
                    raise world.TooLong(f"{len(first.outbox())} still in the outbox")
                told["durable"] = time.perf_counter() - began

            before = clocks(second)

            async def seen() -> None:
                if not await second.until(lambda: clocks(second) >= before + EVENTS, world.PATIENCE_S):
                    raise world.TooLong(f"{clocks(second) - before} of {EVENTS} came")
                if await entries(second) < expected:
                    raise world.TooLong(f"{await entries(second)} of {expected} can be read")
                told["second"] = time.perf_counter() - began

            await first.connect()
            await asyncio.gather(durable(), seen())
            found = {
                "queue_ms": queued / EVENTS * 1_000,
                "durable_ms": told["durable"] * 1_000,
                "second_ms": told["second"] * 1_000,
                "cpu": cpu_s(server.pid) - cpu,
                "main_cpu": own_cpu_s(server.pid) - main,
                "load_cpu": time.process_time() - own,
                "peak_mb": memory_mb(server.pid, "VmHWM"),
            }
            await first.flushed(world.PATIENCE_S)
            now_up, now_down = process.traffic(server)
            found |= {"up_event": (now_up - up) / EVENTS, "down_event": (now_down - down) / EVENTS}
            waiting = len(await first.conflicts())
            if waiting != conflicts:
                raise world.TooLong(f"{waiting} conflicts where {conflicts} were due")
    return found | {"disk_event": (database_bytes(ground.database(folder / "relay")) - disk) / EVENTS}


async def ours(folder: Path) -> dict[str, Any]:
    """Nothing goes wrong."""
    return await measure(folder, 0)


async def conflicts(folder: Path) -> dict[str, Any]:
    """5 % of the events are conflicts."""
    return await measure(folder, EVENTS // 20)
