"""A relay and devices in one thread of virtual time: the production code of both, and a network that can fail.

Time passes only when nobody has anything to do: an event loop whose clock jumps to the next timer.  Devices keep their
real encrypted stores and run them inline; the relay keeps its real database.
"""

import asyncio
import selectors
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from crdtmed import keys as signing
from crdtmed.device import keeper
from crdtmed.device.clocks import Clock
from crdtmed.device.engine_core import Check
from crdtmed.device.enrolment import enrol
from crdtmed.device.files import DeviceFiles, write_whole
from crdtmed.device.keyfile import DeviceKeys, SoftwareKeys, new_keys
from crdtmed.device.life import DeviceWiped, Life, begin
from crdtmed.device.link import Transport
from crdtmed.device.store_database import Connection, InlineDatabase, open_connection, rekey
from crdtmed.leasing import Reading
from crdtmed.limits import KEEPALIVE_MS, MAX_BATCH_STATEMENTS
from crdtmed.wire.enrolment import encode_message, read_enrol
from relay.batch import Batch
from relay.commit import commit_batch
from relay.connection import Connection as HubConnection
from relay.hub import Hub
from relay.identity import directory, enrolment
from relay.identity.service import open_identity
from relay.items import Task
from relay.jobs import read_all, take, verified
from relay.live import Live
from relay.own_documents import write_directory
from relay.reading import Reader
from relay.storage.record import SqlRecord
from tests.relay.identity.setting import T0, TERMS, World, seeded, world

T = TypeVar("T")
KEEPALIVE_S = KEEPALIVE_MS / 1_000


class _Selector(selectors.DefaultSelector):
    """Waits for nothing; where no file is ready, the loop's clock jumps to its next timer."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("nobody has anything to do, and no timer runs: the test would wait for ever")
        if not ready and timeout is not None and timeout > 0:
            self.loop.virtual_s += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that is as fast as its work."""

    def __init__(self) -> None:
        self.virtual_s = 0.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.virtual_s


class Inline(InlineDatabase):
    """A device's store, run in the loop's own thread."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._open = connection

    async def rekey(self, key: bytes) -> None:
        rekey(self._open, key)


async def verify_inline(checks: Sequence[Check]) -> list[bool]:
    """Signatures, checked in the loop's own thread."""
    return [signing.verify(*check) for check in checks]


async def open_inline(path: Path, key: bytes, device: str, now_ms: int) -> tuple[Inline, None]:
    """Stands in for `crdtmed.device.store_salvage.open_or_salvage`."""
    connection = open_connection(path, key)
    connection.execute("PRAGMA synchronous = OFF")  # the disk takes no part in these histories
    return Inline(connection), None


@dataclass(eq=False)
class Line:
    """One connection between a device and the relay.  ``mute`` drops what the relay says, ``deaf`` what it hears.

    Like websockets' own keepalive, it notices a dead peer after a ping and the time to answer it.
    """

    net: "Net"
    inbox: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    connection: HubConnection | None = None
    gone: bool = False
    mute: bool = False
    deaf: bool = False

    # ---- the device's end: a Transport

    async def send(self, data: bytes) -> None:
        if self.gone:
            raise ConnectionError("gone")
        if not self.deaf and self.connection is not None:
            asyncio.get_running_loop().call_later(self.net.delay_s, self._arrive, data)

    async def recv(self) -> bytes:
        data = await self.inbox.get()
        if data is None:
            raise ConnectionError("gone")
        return data

    async def close(self) -> None:
        """What was sent before still arrives."""
        asyncio.get_running_loop().call_later(2 * self.net.delay_s, self.cut)

    def _arrive(self, data: bytes) -> None:
        if not self.gone and self.connection is not None and self.net.hub is not None:
            self.net.hub.received(self.connection, data, self.net.now_ms())
            self.net.pump()

    # ---- the relay's end: a Peer

    def write(self, messages: list[bytes]) -> None:
        for data in messages:
            if not self.gone and not self.mute and not self.net.lose(data):
                asyncio.get_running_loop().call_later(self.net.delay_s, self.inbox.put_nowait, data)

    def close_by_relay(self) -> None:
        asyncio.get_running_loop().call_later(2 * self.net.delay_s, self.cut)

    def cut(self) -> None:
        """The connection is gone, at both ends."""
        if self.gone:
            return
        self.gone = True
        self.inbox.put_nowait(None)
        self.net.lines.discard(self)
        if self.connection is not None and self.net.hub is not None:
            self.net.hub.lost(self.connection)
            self.net.pump()

    def half_open(self) -> None:
        """Nothing gets through any more; keepalive finds out."""
        self.mute = self.deaf = True
        asyncio.get_running_loop().call_later(2 * KEEPALIVE_S, self.cut)


@dataclass(eq=False)
class Peer:
    """What the hub writes to."""

    line: Line

    def write(self, messages: list[bytes]) -> None:
        self.line.write(messages)

    def waiting(self) -> int:
        return 0

    def pause(self) -> None:
        return

    def resume(self) -> None:
        return

    def close(self, code: str, says: str) -> None:
        self.line.close_by_relay()


@dataclass(eq=False)
class Net:
    """The relay, killed and started at will, and the connections to it; ``full`` while its disk has no space left."""

    setting: World
    delay_s: float = 0.02
    up: bool = True
    full: bool = False
    hub: Hub | None = None
    lines: set[Line] = field(default_factory=set)
    lose: Callable[[bytes], bool] = lambda _: False

    def __post_init__(self) -> None:
        self.start()

    def now_ms(self) -> int:
        return T0 + int(asyncio.get_running_loop().time() * 1_000)

    def start(self) -> None:
        """The relay starts over its database."""
        self.record = SqlRecord(self.setting.db)
        self.live = Live()
        self.hub = Hub(self.setting.identity, self.setting.random)
        self.reader = Reader(self.record, self.setting.identity, self.now_ms, self.setting.random)

    def kill(self) -> None:
        """The relay is gone at once; what it committed stays."""
        hub, self.hub = self.hub, None
        assert hub is not None
        for line in list(self.lines):
            line.cut()

    def take_new_identity_key(self) -> None:
        """The relay is stopped, the operator rotates the identity key, and the relay starts with it."""
        self.kill()
        old, following = self.setting.ring, signing.SoftwareSigner.from_scalar(2_718_281)

        def rotate(batch: Batch) -> None:
            directory.rotate(batch.record.connection, old.identity, following, batch.now_ms)
            write_directory(batch)

        self.commit(rotate)
        ring = replace(old, identity=following)
        identity = open_identity(self.setting.db, ring, TERMS, self.now_ms())
        self.setting = replace(self.setting, ring=ring, identity=identity)
        self.start()

    async def dial(self) -> Transport:
        """A connection from a device."""
        await asyncio.sleep(self.delay_s)
        if not self.up or self.hub is None:
            raise ConnectionError("no relay")
        line = Line(self)
        line.connection = self.hub.opened(Peer(line), self.now_ms())
        self.lines.add(line)
        return line

    def commit(self, act: Callable[[Any], T], *, heard: bool = True) -> T:
        """A task in a commit; ``heard`` says whether the running relay notices, as it would its own."""
        now = self.now_ms()
        outcome = commit_batch(self.record, self.live, [Task(0, act)], self.setting.identity, now, self.setting.random)
        if heard and self.hub is not None:
            self.hub.now_ms = now
            self.hub.settled((), outcome)
            self.pump()
        result: T = outcome.results[0]
        return result

    def pump(self) -> None:
        """Runs what the hub wants done until nothing is left."""
        hub = self.hub
        while hub is not None and hub is self.hub and (hub.reads or hub.writes or hub.slow or hub.inbox):
            now = hub.now_ms = self.now_ms()
            while hub.reads:
                for read, result in read_all(self.reader, [hub.reads.popleft()]):
                    if isinstance(result, Exception):
                        raise result
                    read.then(result)
            while hub.slow:
                slow = hub.slow.popleft()
                slow.then(slow.run())
            while hub.writes:
                write = hub.writes.popleft()
                if self.full:
                    write.failed(OSError("database or disk is full"))
                else:
                    write.then(self.commit(write.run))
            if hub.inbox:
                judges = [verified(judge) for judge in take(hub.inbox, MAX_BATCH_STATEMENTS)]
                if self.full:
                    hub.failed(judges)
                    continue
                items = [judge.item for judge in judges]
                outcome = commit_batch(self.record, self.live, items, self.setting.identity, now, self.setting.random)
                hub.settled(judges, outcome)


@dataclass(eq=False)
class Tablet:
    """One device, with a clock that stands still while it sleeps."""

    net: Net
    folder: Path
    seed: int
    slept_s: float = 0.0
    asleep_since: float | None = None
    life: Life | None = None

    def clock(self) -> Clock:
        def monotonic() -> int:
            now = asyncio.get_running_loop().time()
            until = self.asleep_since if self.asleep_since is not None else now
            return int((until - self.slept_s) * 1_000)

        return Clock(self.net.now_ms, monotonic)

    def sleep(self) -> None:
        """The lid is closed."""
        self.asleep_since = asyncio.get_running_loop().time()

    def wake(self) -> None:
        """The lid is opened."""
        assert self.asleep_since is not None
        self.slept_s += asyncio.get_running_loop().time() - self.asleep_since
        self.asleep_since = None

    async def dial(self) -> Transport:
        """Nothing goes out of a device that sleeps."""
        if self.asleep_since is not None:
            await asyncio.sleep(5)
            raise ConnectionError("asleep")
        return await self.net.dial()

    async def enrolled(self) -> tuple[SoftwareKeys, str]:
        """Enrols it; its keys and id."""
        net, random = self.net, seeded(1_000 + self.seed)
        code = net.commit(lambda batch: enrolment.give_code(net.setting.db, TERMS, ("ward-a",), batch.now_ms, random))

        async def post(body: bytes) -> bytes:
            def act(batch: Any) -> bytes:
                answer = net.setting.identity.enrol(net.setting.db, read_enrol(body), batch.now_ms, random)
                write_directory(batch)
                return encode_message(answer)

            return net.commit(act)

        keys = new_keys(random)
        files = DeviceFiles(self.folder)
        clock = self.clock()

        def reading() -> Reading:
            return clock.reading()

        profile, _ = await enrol(files, keys, "ws://127.0.0.1", code.text, "tablet", post, reading)
        write_whole(files.keys, b"the key file")
        return keys, profile.device

    async def begin(self, keys: DeviceKeys, wiped: asyncio.Event) -> Life:
        """Switches it on and connects it; ``wiped`` is set once it is."""
        random = Random(self.seed).randbytes
        held = self.life = await begin(self.folder, keys, clock=self.clock(), random_bytes=random)
        held.listeners.append(lambda event: wiped.set() if isinstance(event, DeviceWiped) else None)
        keeper.start(held)
        await keeper.connect(held, self.dial)
        return held


def virtual_world(seed: int) -> World:
    """The identity service and database of one history."""
    return world(seed)
