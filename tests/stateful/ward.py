"""The hospital that the machine works in: made once, copied for every example, so that each begins with the same day.

A real relay on a SQLite file, real sockets on loopback, four real devices with encrypted stores of their own.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final

from crdtmed.device.device import Device
from crdtmed.device.engine_types import State
from crdtmed.device.keyfile import SoftwareKeys
from crdtmed.signed import Grant
from relay.operator import upkeep
from relay.operator.office import database_of, open_office
from relay.settings import Settings
from relay.storage.record import SqlRecord
from relay.storage.sqlite import open_sqlite
from tests.scenarios.hospital import Hospital, eventually, hospital, ordered
from tests.stateful.standing import Lot
from tests.stateful.words import Judged, read

CREW: Final = {
    "tablet-1": ("ana", "nia"),
    "tablet-2": ("ben", "nia"),
    "till-1": ("pia", "sam"),
    "till-2": ("qun", "sam"),
}
"""The devices, and who works on each."""
PATIENTS: Final = ("p1", "p2")
IMPORTED: Final = {("amox-500", "A1"): (21, "2099-12-31"), ("amox-500", "A2"): (42, "2099-06-30")} | {
    ("para-500", "P1"): (100, "2099-01-31")
}
"""What is in stock before anybody says anything."""


@dataclass(frozen=True)
class Template:
    """A hospital at rest: its files, the keys of its devices, and who may sign in where."""

    folder: Path
    keys: dict[str, SoftwareKeys]
    grants: dict[tuple[str, str], Grant]


async def make(folder: Path) -> Template:
    """A hospital with four devices that hold everything.

    There is one signed prescription, two dispenses of it that were short of stock, and two drafts that can be signed.
    """
    grants: dict[tuple[str, str], Grant] = {}
    async with hospital(folder) as it:
        for name, users in CREW.items():
            device = await it.device(name, users[0], patients=PATIENTS, sites=["pharm", "ward"])
            grants[name, users[0]] = _grant(device)
            grants[name, users[1]] = await device.sign_in(users[1], f"password-of-{users[1]}", f"pin-{users[1]}")
        doctor = it.devices["tablet-1"]
        doctor.use(grants["tablet-1", "ana"])
        order = await ordered(doctor, "p1", units=15, repeats=1)
        assert await (await doctor.sign(order)).settled() is State.ACCEPTED
        await it.synced()
        till = it.devices["till-1"]
        till.use(grants["till-1", "pia"])
        for handed_over in (True, False):
            short = await till.dispense("p1", order.prescription, lot="A1", quantity=25, handed_over=handed_over)
            assert await short.settled() is State.CONFLICT
        await ordered(doctor, "p1", units=30)
        await ordered(doctor, "p2")
        await it.synced()
        return Template(folder, dict(it.keys), grants)


def _grant(device: Device) -> Grant:
    assert device.grant is not None
    return device.grant


def lots() -> dict[tuple[str, str], Lot]:
    """The stock as it was imported."""
    return {lot: Lot(quantity, 0, expiry, 1) for lot, (quantity, expiry) in IMPORTED.items()}


@dataclass(frozen=True)
class Record:
    """The relay's record at one moment: statements in order, stock by lot, and the sums of its movements."""

    rows: tuple[Judged, ...]
    stock: dict[tuple[str, str], tuple[int, int]]
    sums: dict[tuple[str, str], tuple[int, int]]


@dataclass(eq=False)
class Ward:
    """A copy of the template that lives.  ``wanted`` are the devices that shall be online; the relay may be down."""

    template: Template
    folder: Path
    it: Hospital = field(init=False)
    wanted: set[str] = field(default_factory=lambda: set(CREW))
    up: bool = False

    def __post_init__(self) -> None:
        shutil.copytree(self.template.folder, self.folder)
        self.it = Hospital(self.folder, Settings(folder=self.folder / "relay"))
        self.it.keys = dict(self.template.keys)

    def device(self, name: str) -> Device:
        """A device that is open."""
        return self.it.devices[name]

    def reachable(self, name: str) -> bool:
        """Whether a device and the relay can speak."""
        return self.up and name in self.wanted

    async def open(self, name: str, user: str | None = None) -> None:
        """Opens a device from its store, with somebody signed in; online where that is wanted."""
        device = await Device.open(self.folder / name, keys=self.it.keys[name], clock=self.it.clock)
        self.it.devices[name] = device
        device.use(self.template.grants[name, user or CREW[name][0]])
        if name in self.wanted:
            await self.connect(name)

    async def close(self, name: str) -> None:
        """Closes a device."""
        await self.it.devices.pop(name).close()

    async def connect(self, name: str) -> None:
        """Puts a device online; it is there when this returns, if the relay is."""
        self.wanted.add(name)
        device = self.device(name)
        await device.connect(f"ws://127.0.0.1:{self.it.port}")
        if self.up:
            await until(device, lambda: connected(device))

    async def disconnect(self, name: str) -> None:
        """Takes a device offline."""
        self.wanted.discard(name)
        await self.device(name).disconnect()

    async def start(self) -> None:
        """Starts the relay; whoever shall be online connects by itself, or is told to."""
        await self.it.start_relay()
        self.up = True
        for name in sorted(self.wanted & set(self.it.devices)):
            await self.connect(name)

    async def stop(self) -> None:
        """Stops the relay; every device has noticed when this returns."""
        self.up = False
        await self.it.stop_relay()
        for device in self.it.devices.values():
            await until(device, partial(_apart, device))

    async def settle(self) -> None:
        """Everybody who can reach the relay has sent everything, and has everything."""
        names = sorted(name for name in self.it.devices if self.reachable(name))
        for name in names:
            await until(self.device(name), partial(level, self.device(name)))
        places = self.it.places()
        for name in names:
            await until(self.device(name), partial(at, self.device(name), places))

    async def end(self) -> None:
        """Closes everything, whatever state it is in."""
        for name in list(self.it.devices):
            await self.close(name)
        await self.it.serving.aclose()
        await asyncio.to_thread(shutil.rmtree, self.folder)

    def proved(self) -> None:
        """The relay's own proof of its record finds nothing wrong."""
        with open_office(self.it.settings) as office:
            found = upkeep.verify(office)
        assert found["sound"], found["findings"]

    def record(self) -> Record:
        """What the relay has on record now, at one moment."""
        with closing(open_sqlite(database_of(self.it.settings), read_only=True)) as connection:
            connection.execute("BEGIN")
            found = SqlRecord(connection)
            rows = tuple(Judged(row.id, read(row.encoded), int(row.place), row.verdict) for row in found.statements())
            stock = {(item, lot): (here, short) for _, item, lot, here, short in found.all_stock()}
            moves = [(item, lot, kind, delta) for _, _, item, lot, kind, delta, _, _ in found.movements()]
        return Record(rows, stock, _summed(moves))


def _summed(moves: Iterable[tuple[str, str, str, int]]) -> dict[tuple[str, str], tuple[int, int]]:
    sums: dict[tuple[str, str], list[int]] = {}
    for item, lot, kind, delta in moves:
        sums.setdefault((item, lot), [0, 0])[kind.startswith("shortage")] += delta
    return {lot: (here, short) for lot, (here, short) in sums.items()}


async def until(device: Device, holds: Callable[[], bool]) -> None:
    """Waits until ``holds()``; raises `TimeoutError` where it takes too long."""

    async def held() -> bool:
        return holds()

    await eventually(device, held)


def _apart(device: Device) -> bool:
    return not connected(device)


def level(device: Device) -> bool:
    """Everything was sent, and everything that was asked for has come."""
    report = device.status().report
    return report is not None and report.connected and report.behind == 0 and not device.outbox()


def at(device: Device, places: Mapping[str, Sequence[object]]) -> bool:
    """Whether a device stands where the relay's documents do (epoch and position): all those of what it holds."""
    rows, scopes = device.engine.core.rows, {*device.engine.scopes, "directory", "formulary"}
    due = {name: tuple(place) for name, place in places.items() if "/".join(name.split("/")[:2]) in scopes and place[1]}
    return all(name in rows and (rows[name].epoch, rows[name].position) == place for name, place in due.items())


def connected(device: Device) -> bool:
    """Whether a device is in conversation with the relay."""
    report = device.status().report
    return report is not None and report.connected


def somebody(name: str, *roles: str) -> str:
    """Who on a device holds one of these roles, by first name."""
    holders = {"prescriber": ("ana", "ben"), "nurse": ("nia",), "pharmacist": ("pia", "qun"), "supervisor": ("sam",)}
    return next(user for user in CREW[name] if any(user in holders[role] for role in roles))


def day(text: str) -> date:
    """A date."""
    return date.fromisoformat(text)


def new_folder(base: Path) -> Path:
    """A folder that nobody has used."""
    return base / os.urandom(8).hex()
