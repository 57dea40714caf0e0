"""A device of a history: the library as applications use it, over an encrypted store that runs inline.

It can be closed in order, lose its power between any two writes, have a wrong clock, a full disk, or an older copy of
its store put back.
"""

import asyncio
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from sqlcipher3 import dbapi2 as sqlcipher

from crdtmed import keys as signing
from crdtmed.device import store
from crdtmed.device.clocks import Clock
from crdtmed.device.device import Device
from crdtmed.device.engine_core import Check
from crdtmed.device.engine_types import DeviceError
from crdtmed.device.life import DeviceEvent, DeviceWiped
from crdtmed.device.link import Transport
from crdtmed.device.store_database import (
    CONNECT,
    Connection,
    InlineDatabase,
    StoreError,
    open_connection,
    rekey,
    transact,
)
from crdtmed.device.store_salvage import Salvaged, salvage
from crdtmed.signed import Grant
from tests.simulation.disk import Disk, Power, PowerCut, copy_database, tear
from tests.simulation.network import Weather
from tests.simulation.relay import Relay
from tests.simulation.setting import T0, keys_of


class Inline(InlineDatabase):
    """A store that runs in the loop's own thread."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.held = connection

    async def run(self, work: Callable[[Connection], Any]) -> Any:
        await asyncio.sleep(0)  # others come between, as they do where a store has a thread of its own
        return await super().run(work)

    async def rekey(self, key: bytes) -> None:
        rekey(self.held, key)


async def verify_inline(checks: Sequence[Check]) -> list[bool]:
    """Signatures, checked in the loop's own thread."""
    return [signing.verify(*check) for check in checks]


def _error(text: str, name: str) -> Exception:
    error: Any = sqlcipher.OperationalError(text)
    error.sqlite_errorname = name
    made: Exception = error
    return made


def _no_space() -> Exception:
    return _error("database or disk is full", "SQLITE_FULL")


def _failure() -> Exception:
    return _error("disk I/O error", "SQLITE_IOERR_READ")


@dataclass(eq=False)
class Tablet:
    """One device.  ``device`` is None while it is off; ``number`` counts what its disk was copied to."""

    name: str
    id: str
    root: Path
    random: Random
    now_ms: Callable[[], int]
    relay: Relay
    weather: Weather
    skew_ms: int = 0
    drift: float = 0.0
    device: Device | None = None
    power: Power = field(default_factory=Power)
    full: bool = False
    fails: bool = False
    number: int = 0
    booted_ms: int = 0
    on_ms: int = 0
    grants: dict[str, Grant] = field(default_factory=dict)
    wiped_at: int | None = None
    lost: bool = False
    copies: list[Path] = field(default_factory=list)
    copied_at: list[int] = field(default_factory=list)
    booting: bool = False
    starts: int = 0
    opened: Callable[["Tablet"], None] = lambda tablet: None

    @property
    def folder(self) -> Path:
        """Where its files are now."""
        return self.root / (self.name if not self.number else f"{self.name}-{self.number}")

    @property
    def works(self) -> bool:
        """Whether it runs and its cache is open."""
        return self.device is not None and self.power.on and self.device._life.engine is not None

    def clock(self) -> Clock:
        """Its clocks: the wall clock as somebody set it, the other from when it was switched on."""

        def wall() -> int:
            now = self.now_ms()
            return max(1, now + self.skew_ms + int((now - T0) * self.drift))

        return Clock(wall, lambda: self.now_ms() - self.booted_ms)

    # ---- on and off

    def connect(self, path: str) -> Connection:
        """The store's file on this device's disk."""
        return Disk(CONNECT(path), self.power, lambda: self.full, _no_space, lambda: self.fails, _failure)

    async def on(self) -> None:
        """Switches it on; what it cannot open stays off."""
        if self.device is not None or self.wiped_at is not None or self.lost or self.booting:
            return
        self.booting = True
        self.starts += 1
        self.booted_ms = self.now_ms() - 1_000
        self.power = Power(self._leave, self._about)
        draw = Random(f"{self.random.getrandbits(64)}").randbytes
        try:
            device = await Device.open(self.folder, keys=keys_of(self.name), clock=self.clock(), random_bytes=draw)
        except (PowerCut, StoreError, OSError) as error:
            self.lost = isinstance(error, StoreError) and error.code == "wrong_key"
            return
        except DeviceError as error:
            if error.code != "wiped":
                raise
            self.wiped_at = self.now_ms()
            return
        finally:
            self.booting = False
        self.device = device
        device._life.listeners.append(partial(self._heard, self.power))
        if self.works:
            self.opened(self)
        await device.connect(dial=self.dial)

    def _heard(self, power: Power, event: DeviceEvent) -> None:
        # What a dying process does after the power went is not on the disk that is left.
        if isinstance(event, DeviceWiped) and power.on and self.wiped_at is None:
            self.wiped_at = self.now_ms()

    async def dial(self) -> Transport:
        """Connects to the relay."""
        power = self.power
        line = await self.relay.dial(self.id, self.weather)
        if power is not self.power or not power.on:
            raise ConnectionError("the device is off")
        return line

    async def off(self) -> None:
        """Switches it off in order."""
        device, self.device = self.device, None
        if device is not None:
            self._count()
            with suppress(StoreError, PowerCut):
                await device.close()

    def cut(self) -> None:
        """Its power goes."""
        self.power.torn = False
        self.power.cut()

    def _about(self) -> None:
        """A commit is about to be torn: the files as they are before it."""
        shutil.copytree(self.folder, self.root / f"{self.name}-{self.number + 1}")

    def _count(self) -> None:
        self.on_ms += self.now_ms() - self.booted_ms

    def _leave(self) -> None:
        """What is on the disk at the moment when the power goes; the rest of its process is cleared away."""
        before = self.folder
        self.number += 1
        if self.power.torn:
            tear(before / "device.db", self.folder / "device.db", self.random)
        else:
            shutil.copytree(before, self.folder)
        device, self.device = self.device, None
        self.weather.break_all()
        if device is not None:
            self._count()
            life = device._life
            life.dial = None
            for task in (life.linking, life.keeper, *(life.engine.core.tasks if life.engine is not None else ())):
                if task is not None:
                    task.cancel()

    # ---- its disk

    def copy(self) -> None:
        """Somebody keeps a copy of the store's file."""
        if (self.folder / "device.db").exists():
            goal = self.root / f"{self.name}-copy-{len(self.copies)}"
            goal.mkdir()
            copy_database(self.folder / "device.db", goal / "device.db")
            self.copies.append(goal)
            self.copied_at.append(self.now_ms())

    def put_back(self) -> bool:
        """The last copy takes the place of the store's file; the device is off."""
        assert self.device is None
        if not self.copies:
            return False
        copy_database(self.copies[-1] / "device.db", self.folder / "device.db")
        return True

    # ---- people

    def use(self, user: str) -> bool:
        """Hands the device to a user who signed in before."""
        if not self.works or user not in self.grants:
            return False
        assert self.device is not None
        self.device.use(self.grants[user])
        return True

    @property
    def engine(self) -> Any:
        """Its engine."""
        assert self.device is not None
        return self.device.engine


@contextmanager
def seams(tablets: Sequence[Tablet], renewal_s: int) -> Iterator[None]:
    """The device's ports, as far as it has no arguments for them.

    It looks at its lease less often than in production, which only costs a simulation its speed.
    """

    async def opening(path: Path, key: bytes, device: str, now_ms: int) -> tuple[Inline, Salvaged | None]:
        tablet = next(each for each in tablets if each.folder == path.parent)
        try:
            connection = open_connection(path, key, tablet.connect)
            try:
                transact(connection, lambda made: store.open_store(made, device))
            except StoreError:
                connection.close()
                raise
        except StoreError as error:
            if error.code != "damaged":
                raise
            rescued = salvage(path, key, device, path.with_name(f"{path.name}.damaged-{now_ms}"), tablet.connect)
            return Inline(open_connection(path, key, tablet.connect)), rescued
        return Inline(connection), None

    with (
        patch("crdtmed.device.life.open_or_salvage", opening),
        patch("crdtmed.device.life._verify", verify_inline),
        patch("crdtmed.device.keeper.LOOK_S", min(60.0, renewal_s / 4)),
        patch("crdtmed.device.keeper.LEASE_RENEWAL_S", renewal_s),
    ):
        yield
