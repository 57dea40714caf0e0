"""Devices of a test: real engines on real encrypted stores, with a clock and randomness that the test owns."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import TypeVar

from crdtmed import keys
from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.medication_administration import Administer, OfPrescription
from crdtmed.aggregates.prescription import Stop
from crdtmed.aggregates.prescription_draft import DraftWrite, Group, Instructions
from crdtmed.contract import Kind, Role
from crdtmed.device import link
from crdtmed.device.engine import Engine, Said, open_engine
from crdtmed.device.engine_core import Check, Core, Ports
from crdtmed.device.store_database import Database, open_database
from crdtmed.signed import Grant
from crdtmed.trust import Anchor
from crdtmed.verdict import Status
from tests.device.scripted_relay import IDENTITY, NOW, Judgement, ScriptedRelay

T = TypeVar("T")
KEY = bytes(range(32))
_RUN = count()
DRAFTS = "patient/p1/drafts"
TODAY = "patient/p1/log/2026-09"
LOG = "patient/p1/log"
P1 = "patient/p1"


@dataclass
class Device:
    """One device: where its store is, its key, its clock."""

    name: str
    path: Path
    now: int = NOW
    leases: int = 0
    anchored: list[Anchor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.signer = keys.SoftwareSigner.from_scalar(100 + sum(self.name.encode()))
        # Two instances over one store are two runs of one device: they never draw the same ids.
        self.random = Random(f"{self.name}{next(_RUN)}")

    def ports(self, database: Database) -> Ports:
        return Ports(
            device=self.name,
            signer=self.signer,
            database=database,
            now_ms=lambda: self.now,
            random_bytes=self.random.randbytes,
            verify=verify,
            anchored=self.anchored.append,
            lease_serial=lambda: self.leases,
        )

    def grant(self, *roles: Role) -> Grant:
        return Grant(
            f"ann/{self.name}", "ann", "Ann", self.name, roles or tuple(Role), ("w1",), 0, NOW + 10 * 86_400_000
        )

    @asynccontextmanager
    async def engine(self, key: bytes = KEY, **marks: int) -> AsyncIterator[Engine]:
        """The engine on this device's store, somebody with every role signed in."""
        database = await open_database(self.path, key)
        try:
            engine = await open_engine(self.ports(database), Anchor(IDENTITY.public), **marks)
            engine.use(self.grant())
            yield engine
        finally:
            await database.close()


async def verify(checks: Sequence[Check]) -> list[bool]:
    """Signatures checked in line."""
    return [keys.verify(*check) for check in checks]


def run(story: Coroutine[None, None, T]) -> T:
    """Runs a story; one that hangs fails."""

    async def bounded() -> T:
        async with asyncio.timeout(60):
            return await story

    return asyncio.run(bounded())


async def no_pause(seconds: float) -> None:
    """Reconnects at once, letting others run."""
    await asyncio.sleep(0)


@asynccontextmanager
async def linked(
    core: Core,
    relay: ScriptedRelay,
    dial: link.Dial | None = None,
    pause: Callable[[float], Awaitable[None]] = no_pause,
) -> AsyncIterator[None]:
    """Keeps a device connected for the length of a block."""
    task = asyncio.create_task(link.run(core, dial or relay.dial, pause))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool | Awaitable[bool]], rounds: int = 20_000) -> None:
    """Lets others run until something holds; fails after so many rounds."""
    for _ in range(rounds):
        held = condition()
        if await held if isinstance(held, Awaitable) else held:
            return
        await asyncio.sleep(0)
    for _ in range(2_000):
        held = condition()
        if await held if isinstance(held, Awaitable) else held:
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to hold")


async def settle(engine: Engine) -> None:
    """Until the outbox is empty."""
    await until(lambda: not engine.core.outbox.items)


def given(note: int) -> Administer:
    """An administration."""
    return Administer(OfPrescription("rx1"), "given", NOW + note, "w1", dose=Quantity("5", "mg"))


async def administer(engine: Engine, note: int, target: str = LOG) -> Said:
    """Records an administration."""
    return await engine.say(Kind.ADMINISTER, target, given(note))


async def draft(engine: Engine, text: str, seen: Sequence[str] = ()) -> Said:
    """Writes a draft's instructions."""
    content = DraftWrite("rx1", Group.INSTRUCTIONS, Instructions(text))
    return await engine.say(Kind.DRAFT_WRITE, DRAFTS, content, seen=seen)


def stop() -> Stop:
    """A request."""
    return Stop("rx1", "rash")


def device_in(tmp_path: Path, name: str = "aaaaaaaa") -> Device:
    return Device(name, tmp_path / f"{name}.db")


def relay_with(*devices: Device) -> ScriptedRelay:
    """A relay that knows these devices."""
    relay = ScriptedRelay()
    for device in devices:
        relay.enrol(device.name, device.signer.public)
    return relay


def retry(reason: object) -> Judgement:
    """It is to be said again, for this reason."""
    return Judgement(Status.RETRY, reason)  # type: ignore[arg-type]  # any reason of those that come with retry


@asynccontextmanager
async def tablet_and_relay(tmp_path: Path) -> AsyncIterator[tuple[Device, ScriptedRelay, Engine]]:
    """A device that holds p1 and a relay that knows it; the line between them is not up yet (`linked`)."""
    device = device_in(tmp_path)
    relay = relay_with(device)
    async with device.engine() as engine:
        await engine.subscribe([P1])
        yield device, relay, engine


async def equal(engine: Engine, relay: ScriptedRelay, names: tuple[str, ...] = (DRAFTS, TODAY)) -> None:
    """The device's bases are the relay's documents."""
    for name in names:
        held = await engine.core.hold(name)
        document = relay.document(name)
        if held is None:
            assert not document.updates
            continue
        assert held.replica.position == document.position
        assert held.replica.digest() == document.replica.digest()
