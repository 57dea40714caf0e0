"""W1, live: one document, 20 clients, 5 of them writing; and W4's bytes of a small change."""

import asyncio
import re
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from bench import ground, process, thin
from bench.line import Line, dial
from bench.process import Server, cpu_s, database_bytes, memory_mb
from crdtmed.aggregates.prescription_draft import DraftWrite, Group, Instructions, write_key
from crdtmed.updates import write_map_update
from crdtmed.wire.frames import Push, encode_frame
from crdtmed.wire.plain import plain

CLIENTS: Final = 20
WRITERS: Final = 5
WARM_UP: Final = 400
CHANGES: Final = 2_000
BURSTS: Final = 3
SERIAL: Final = 500
RATE: Final = 50
RATE_S: Final = 8
LIMIT_S: Final = 60.0
DRAFTS: Final = "patient/p0/drafts"
EACH: Final = (WARM_UP + CHANGES * BURSTS + SERIAL + RATE * RATE_S) // WRITERS
MARK: Final = re.compile(rb"~~(\d)(\d{6})")
"""Every change says who wrote it and which of theirs it is, in plain text, whatever stands around it."""


@lru_cache(maxsize=32)
def _marks(data: bytes) -> dict[bytes, bytes]:
    """The last mark of each writer in a message; many clients get the same one."""
    return dict(MARK.findall(plain(data)))


def text_of(writer: int, number: int) -> str:
    """The 40 characters of a change."""
    return f"~~{writer}{number:06}".ljust(40, ".")


@dataclass(slots=True)
class Tracker:
    """Who has what: a change is delivered when every client but its writer has it, or a later one of that writer's."""

    tops: list[list[int]] = field(default_factory=lambda: [[0] * CLIENTS for _ in range(WRITERS)])
    done: list[int] = field(default_factory=lambda: [0] * WRITERS)
    begun: list[list[float]] = field(default_factory=lambda: [[] for _ in range(WRITERS)])
    took: list[float] = field(default_factory=list)
    on_done: Callable[[int, int], None] = lambda writer, count: None

    def __post_init__(self) -> None:
        for writer in range(WRITERS):
            self.tops[writer][writer] = 1 << 60

    def hears(self, client: int) -> Callable[[bytes], None]:
        """What a client does with every message."""

        def heard(data: bytes) -> None:
            for writer, number in _marks(data).items():
                self._has(client, int(writer), int(number) + 1)

        return heard

    def _has(self, client: int, writer: int, count: int) -> None:
        top = self.tops[writer]
        if count <= top[client]:
            return
        was, top[client] = top[client], count
        if was != self.done[writer]:
            return
        least = min(top)
        if least > was:
            now = time.perf_counter()
            begun = self.begun[writer]
            self.took.extend([now - begun[number] for number in range(was, least)])
            self.done[writer] = least
            self.on_done(writer, least - was)


@dataclass(slots=True)
class Room:
    """The clients of a run and what each writer will say, ready to be sent."""

    server: Server
    lines: list[Line]
    says: list[list[bytes]]
    tracker: Tracker

    def write(self, writer: int) -> None:
        """A writer's next change."""
        begun = self.tracker.begun[writer]
        begun.append(time.perf_counter())
        self.lines[writer].send(self.says[writer][len(begun) - 1])

    async def burst(self, total: int, in_flight: int) -> float:
        """So many changes with so many in flight for each writer; seconds until all have them all."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        left = [total // WRITERS] * WRITERS
        waiting = [total]

        def go_on(writer: int, count: int) -> None:
            for _ in range(min(count, left[writer])):
                left[writer] -= 1
                self.write(writer)

        def delivered(writer: int, count: int) -> None:
            waiting[0] -= count
            go_on(writer, count)
            if not waiting[0] and not over.done():
                over.set_result(None)

        self.tracker.on_done = delivered
        began = time.perf_counter()
        for writer in range(WRITERS):
            go_on(writer, in_flight)
        async with asyncio.timeout(LIMIT_S):
            await over
        return time.perf_counter() - began

    async def steadily(self, total: int) -> list[float]:
        """So many changes at `RATE` a second; seconds that each took to the last receipt, ascending."""
        self.tracker.took.clear()
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def delivered(writer: int, count: int) -> None:
            if len(self.tracker.took) == total and not over.done():
                over.set_result(None)

        self.tracker.on_done = delivered
        began = time.perf_counter()
        for number in range(total):
            await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
            self.write(number % WRITERS)
        async with asyncio.timeout(LIMIT_S):
            await over
        return sorted(self.tracker.took)

    def wire(self) -> tuple[int, int]:
        """Bytes up and down so far, of all clients."""
        return sum(line.up for line in self.lines), sum(line.down for line in self.lines)


def percentile(ascending: list[float], part: float) -> float:
    """The value below which ``part`` of them are."""
    return ascending[min(len(ascending) - 1, int(part * len(ascending)))]


async def measure(room: Room) -> dict[str, float]:
    """All of W1 in a room."""
    pid = room.server.pid
    found = {"idle_mb": memory_mb(pid)}
    await room.burst(WARM_UP, 10)
    await asyncio.sleep(0.3)
    bursts = []
    for _ in range(BURSTS):
        (up, down), cpu, own = room.wire(), cpu_s(pid), time.process_time()
        took = await room.burst(CHANGES, 50)
        own = time.process_time() - own
        await asyncio.sleep(0.3)
        bursts.append((took, cpu_s(pid) - cpu, own / took, room.wire()[0] - up, room.wire()[1] - down))
    middle = [statistics.median(column) for column in zip(*bursts, strict=True)]
    found["rate_250"] = CHANGES / middle[0]
    found["cpu_250"] = middle[1] / CHANGES * 1_000
    found["load_busy_250"] = middle[2]
    found["up_merged"] = middle[3] / CHANGES
    found["down_merged"] = middle[4] / CHANGES / CLIENTS
    cpu = cpu_s(pid)
    found["rate_5"] = SERIAL / await room.burst(SERIAL, 1)
    await asyncio.sleep(0.3)
    found["cpu_5"] = (cpu_s(pid) - cpu) / SERIAL * 1_000
    (up, down), cpu = room.wire(), cpu_s(pid)
    took_each = await room.steadily(RATE * RATE_S)
    found["p50_ms"] = percentile(took_each, 0.5) * 1_000
    found["p99_ms"] = percentile(took_each, 0.99) * 1_000
    found["cpu_50s"] = (cpu_s(pid) - cpu) / len(took_each) * 1_000
    found["up_change"] = (room.wire()[0] - up) / len(took_each)
    found["down_change"] = (room.wire()[1] - down) / len(took_each) / CLIENTS
    found["peak_mb"] = memory_mb(pid, "VmHWM")
    found["load_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def pushes(device: ground.Thin, writer: int) -> list[bytes]:
    """Everything that a writer says: a draft's instructions, each write having seen the one before."""
    prescription = f"rx{writer}"
    made = []
    seen: tuple[str, ...] = ()
    for number in range(EACH):
        content = DraftWrite(prescription, Group.INSTRUCTIONS, Instructions(text_of(writer, number)))
        said = device.say(content, DRAFTS, seen)
        seen = (said.statement.ref,)
        key = write_key(content, device.id, said.statement.id)
        made.append(encode_frame(Push(DRAFTS, write_map_update(1_000 + writer, number, [(key, said.encoded)]))))
    return made


async def ours(folder: Path) -> dict[str, Any]:
    """Our relay: every change signed, judged, and committed before anybody hears of it."""
    ground.build(folder)
    devices = ground.enrol(folder, CLIENTS)
    database = ground.database(folder)
    says = [pushes(devices[writer], writer) for writer in range(WRITERS)]
    tracker = Tracker()
    disk = database_bytes(database)
    with process.relay(folder) as server:
        lines = [await thin.join(server.port, one, [DRAFTS], tracker.hears(at)) for at, one in enumerate(devices)]
        found = await measure(Room(server, lines, says, tracker))
    return found | {"disk_change": (database_bytes(database) - disk) / (EACH * WRITERS)}


async def bare(folder: Path) -> dict[str, Any]:
    """The yardstick, with the very same bytes."""
    (folder / "setup").mkdir()
    ground.build(folder / "setup")
    says = [pushes(one, writer) for writer, one in enumerate(ground.enrol(folder / "setup", WRITERS))]
    tracker, port = Tracker(), process.free_port()
    with process.running(process.python("bench.bare", str(port)), folder, port) as server:
        lines = [await dial(server.port, "/sync") for _ in range(CLIENTS)]
        for at, line in enumerate(lines):
            line.on_message = tracker.hears(at)
        return await measure(Room(server, lines, says, tracker))
