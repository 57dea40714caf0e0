"""What the parts of the engine share: its ports and its memory of the store."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from crdtmed import clock
from crdtmed.clock import Stamp
from crdtmed.device import inbox, store
from crdtmed.device.engine_types import Alarm, Changed, Event, State
from crdtmed.device.outbox import Outbox
from crdtmed.device.replicas import Held, load
from crdtmed.device.session import Place, Session, Stage
from crdtmed.device.store import BaseRow
from crdtmed.device.store_database import Connection, Database
from crdtmed.documents import parse
from crdtmed.keys import Signer
from crdtmed.limits import LIVE_DOCUMENTS
from crdtmed.replica import ReplicaBroken
from crdtmed.signed import Grant, RelayKey, Revocation
from crdtmed.statement import SignedStatement
from crdtmed.trust import Anchor, Directory
from crdtmed.updates import ItemId, Malformed, Root
from crdtmed.verdict import Verdict
from crdtmed.wire.frames import ToDevice

T = TypeVar("T")
DIRECTORY: Final = "directory"
FORMULARY: Final = "formulary"
READER: Final = 1
"""The client id under which bases are held: it never writes, what is pushed has a client id of its own."""

Check = tuple[bytes, bytes, bytes, bytes]
"""Public key, domain tag, body, signature."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything that the engine does not decide by itself.

    ``now_ms`` is the device's wall clock; ``random_bytes(n)`` gives n bytes fit for keys; ``verify`` says of each
    signature whether it holds (in threads, where there are some); ``anchored`` is told of a new identity key to pin;
    ``lease_serial`` is that of the lease in force.
    """

    device: str
    signer: Signer
    database: Database
    now_ms: Callable[[], int]
    random_bytes: Callable[[int], bytes]
    verify: Callable[[Sequence[Check]], Awaitable[list[bool]]]
    anchored: Callable[[Anchor], None]
    lease_serial: Callable[[], int]


@dataclass(slots=True)
class Writer:
    """How this device writes one document: its client id, the clock that comes next, and the item to follow.

    ``current`` is False from the end of a conversation until the next one has brought the document up to date.
    """

    client: int
    clock: int
    last: ItemId | None
    current: bool = True


@dataclass(slots=True, eq=False)
class Core:
    """The engine's memory.

    ``number`` and ``stamp`` are the last ones given out; ``offset_ms`` is what the relay's clock is ahead of this
    device's; ``days`` how many days of logs are held; ``hand_again`` the references of what was
    handed back and is to be handed back once more at ``hand_again_at`` (device's clock, ms); ``coming`` the verdicts of
    what was handed back and no base has reached in this conversation; ``shown`` are views, each
    with the changes after which it must be made anew, and ``changes`` counts these; ``bursts`` counts those of the
    relay's frames.  ``queues`` are the patients in the queue of each site, by register; ``subset`` counts changes of
    the scopes asked for, ``wanted`` is what `crdtmed.device.engine_subset.wanted` gave last and for what, ``asked``
    what was last subscribed to in which conversation.  ``dirty`` are the documents of the burst that is being taken
    in: the store does not have them yet.  ``unread``: the store could not be read, and has to be before the next
    conversation begins.  ``welcomed_at`` (device's clock, ms; None before it was) and ``heard_final`` (whether a final
    verdict came) are of the conversation that is open.
    """

    ports: Ports
    anchor: Anchor
    number: int
    stamp: Stamp
    days: int
    rows: dict[str, BaseRow]
    scopes: set[str]
    outbox: Outbox = field(default_factory=Outbox)
    held: dict[str, Held] = field(default_factory=dict)
    directory: Directory | None = None
    head: int = 0
    grant: Grant | None = None
    session: Session | None = None
    relay: RelayKey | None = None
    offset_ms: int = 0
    pushes_in_flight: int = 1
    renew_ms: int = 60_000
    renew_at: int = 0
    renewals_unanswered: int = 0
    welcomed_at: int | None = None
    heard_final: bool = False
    revoked: bool = False
    writers: dict[str, Writer] = field(default_factory=dict)
    handing: dict[str, dict[str, SignedStatement]] = field(default_factory=dict)
    hand_again: set[str] = field(default_factory=set)
    hand_again_at: int = 0
    hand_attempts: int = 0
    coming: dict[str, Verdict] = field(default_factory=dict)
    found: set[str] = field(default_factory=set)
    withdrawn: dict[str, str] = field(default_factory=dict)
    queues: dict[str, dict[str, str]] = field(default_factory=dict)
    queue_patients: frozenset[str] = frozenset()
    subset: int = 0
    wanted: tuple[object, tuple[str, ...]] = (None, ())
    asked: tuple[int, tuple[str, ...]] | None = None
    bursts: int = 0
    inbox_open: int = 0
    saying: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiters: dict[str, list[asyncio.Future[State]]] = field(default_factory=dict)
    challenges: list[asyncio.Future[bytes]] = field(default_factory=list)
    answers: dict[str, list[asyncio.Future[ToDevice]]] = field(default_factory=dict)
    judged: set[str] = field(default_factory=set)
    newly_verified: set[str] = field(default_factory=set)
    dirty: set[str] = field(default_factory=set)
    unread: bool = False
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    hand_overs: int = 0
    number_of_digests: int = 0
    conversation: int = 0
    to_verify: asyncio.Event = field(default_factory=asyncio.Event)
    revocation: Revocation | None = None
    flush_total: int = 0
    sync_total: int = 0
    distrusted: set[str] = field(default_factory=set)
    listeners: list[Callable[[Event], None]] = field(default_factory=list)
    wake: Callable[[], None] = lambda: None
    shown: dict[str, tuple[Callable[[str], bool], object, object]] = field(default_factory=dict)
    changes: int = 0

    def tell(self, event: Event) -> None:
        """Hands an event to whoever listens."""
        for listener in tuple(self.listeners):
            listener(event)

    def changed(self, document: str) -> None:
        """Tells that views of a document or log changed; what was kept of them is made anew at the next look."""
        target = document if document.endswith("/log") else parse(document).target
        self.changes += 1
        for name in [name for name, (rests_on, *_) in self.shown.items() if rests_on(target)]:
            del self.shown[name]
        self.tell(Changed(target))

    def relay_now(self) -> int:
        """The relay's time as this device reckons it, in ms."""
        return self.ports.now_ms() + self.offset_ms

    def saw(self, stamps: Sequence[int]) -> None:
        """What is said from now on is later than these, but for those that are too far ahead to be believed."""
        now = self.relay_now()
        latest = max(stamps, default=0)
        # One that is not to be believed says nothing of the others.
        for stamp in stamps if clock.is_ahead(Stamp(latest), now) else (latest,):
            self.stamp = clock.receive(self.stamp, Stamp(stamp), now)

    def synced_at(self, name: str) -> int:
        """When a document that is held was last known to be up to date (device's clock, ms): now, while it is live."""
        live = self.session is not None and self.session.stage is Stage.OPEN and self.session.is_live(name)
        return self.ports.now_ms() if live else self.rows[name].synced_at

    def stands(self, document: str) -> Place | None:
        """Where a document stands: its base, else as the conversation has it; None where it is neither held nor wanted.

        ``live`` says whether the relay has answered for it in this conversation.
        """
        row = self.rows.get(document)
        if row is not None:
            return Place(row.epoch, row.position, self.session is not None and self.session.is_live(document))
        return self.session.places.get(document) if self.session is not None else None

    def jitter(self) -> float:
        """A random fraction in 0..1."""
        return int.from_bytes(self.ports.random_bytes(2), "big") / 65_535

    def new_writer(self, document: str) -> Writer:
        """How this device writes a document from now on; the last item of what is held comes before its first."""
        held = self.held.get(document)
        known = held.replica.state_vector if held is not None else {}
        client = _client_id(self.ports.random_bytes)
        while client in known:
            client = _client_id(self.ports.random_bytes)
        last = held.replica.last_item if held is not None and held.document.root is Root.ARRAY else None
        return Writer(client, 0, last)

    async def hold(self, document: str) -> Held | None:
        """The base of a document, loaded where it is not in memory; None where nothing is held.

        A base that does not load is dropped and comes anew from the relay; that is told as an alarm.
        """
        held = self.held.get(document)
        if held is not None or document not in self.rows:
            return held
        stored = await self.ports.database.run(lambda connection: store.load_base(connection, document))
        held = self.held.get(document)
        if held is not None or stored is None:
            return held
        try:
            held = load(READER, *stored)
        except (Malformed, ReplicaBroken) as error:
            await self.forget(document)
            await self.alarm("base_damaged", f"the base of {document} could not be read ({error}); it is taken anew")
            return None
        self.keep(document, held)
        return held

    def keep(self, document: str, held: Held) -> None:
        """Takes a base into memory; when there are too many, those go that have been there the longest."""
        self.held[document] = held
        self.trim(document)

    def trim(self, spared: str = DIRECTORY) -> None:
        """Back to the bound, but for what the store does not have as memory does: new updates, verified authors."""
        over = len(self.held) - LIVE_DOCUMENTS
        if over <= 0:
            return
        stay = self.dirty | self.newly_verified | {spared, DIRECTORY}
        idle = [name for name, held in self.held.items() if not held.unverified and name not in stay]
        for name in idle[:over]:
            del self.held[name]

    async def forget(self, document: str) -> None:
        """Purges the base of a document from memory and store; what was said about it stays."""
        self.held.pop(document, None)
        self.rows.pop(document, None)
        self.writers.pop(document, None)
        self.queues.pop(document, None)
        await self.ports.database.run(lambda connection: store.drop_base(connection, (document,)))
        if self.session is not None:
            self.session.refuse(document)

    async def alarm(self, code: str, says: str) -> None:
        """Puts an alarm into the inbox and tells it."""
        now = self.ports.now_ms()

        def work(connection: Connection) -> int:
            inbox.put(connection, code, says, now)
            return inbox.count(connection)

        self.inbox_open = await self.ports.database.run(work)
        self.tell(Alarm(code, says))

    def settle(self, ref: str, state: State) -> None:
        """Wakes whoever waits for a statement's outcome."""
        for waiter in self.waiters.pop(ref, ()):
            if not waiter.done():
                waiter.set_result(state)


async def to_its_end(work: Coroutine[None, None, T]) -> T:
    """Runs ``work`` whole, whoever stops waiting for it: memory and disk move together.

    What it raises when nobody waits any more was heard: whoever asked has gone, and nothing was done.
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return await asyncio.shield(task)


def _client_id(random_bytes: Callable[[int], bytes]) -> int:
    """Client ids have 32 bits: every byte of them is in every update."""
    return int.from_bytes(random_bytes(4), "big") + READER + 1
