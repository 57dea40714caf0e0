"""The device's engine: what is said is durable at once, and travels whenever there is a relay.

An application holds a `crdtmed.device.device.Device`, which puts clinical verbs on top of this.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from crdtmed import documents
from crdtmed.aggregates.content import Content
from crdtmed.clock import Stamp
from crdtmed.contract import Kind
from crdtmed.device import (
    engine_ask,
    engine_bases,
    engine_heal,
    engine_say,
    engine_subset,
    engine_verify,
    inbox,
    store,
)
from crdtmed.device.engine_core import DIRECTORY, Core, Ports
from crdtmed.device.engine_types import (
    SETTLED,
    STATE_OF,
    Entry,
    Queued,
    Report,
    Standing,
    State,
    Utterance,
)
from crdtmed.device.inbox import InboxEntry
from crdtmed.device.outbox import Phase, scope_of
from crdtmed.device.store_database import StoreError
from crdtmed.signed import Grant, Register
from crdtmed.trust import Anchor, Directory
from crdtmed.verdict import Status, Verdict
from crdtmed.wire import frames as wire


@dataclass(frozen=True, slots=True)
class Said:
    """A statement of this device and what becomes of it; good after a restart too (`Engine.said`)."""

    ref: str
    engine: "Engine"

    async def verdict(self) -> Verdict | None:
        """The relay's last word on it, None while there is none."""
        return await self.engine.verdict(self.ref)

    async def state(self) -> State:
        """What has become of it so far."""
        return await self.engine.state(self.ref)

    async def settled(self) -> State:
        """What has become of it, once that is final; waits as long as that takes."""
        return await self.engine.settled(self.ref)


class Engine:
    """One device's replicas, outbox and conversation.  All methods belong to one event loop."""

    def __init__(self, core: Core) -> None:
        self.core = core

    # ---- saying -------------------------------------------------------------------------------------------

    def use(self, grant: Grant | None) -> None:
        """Who is signed in from now on; None for nobody."""
        self.core.grant = grant

    async def say(
        self, kind: Kind, target: str, content: Content, *, seen: Sequence[str] = (), key: str | None = None
    ) -> Said:
        """Says one thing; see `say_together`.

        ``key`` is its id, the idempotency key; fresh where None.  What was said under it before, if it is the same, is
        not said again.
        """
        if key is not None:
            before = await engine_say.said_before(self.core, Utterance(kind, target, content, tuple(seen), key))
            if before is not None:
                return Said(before, self)
        return (await self.say_together([Utterance(kind, target, content, tuple(seen), key)]))[0]

    async def say_together(self, utterances: Sequence[Utterance]) -> tuple[Said, ...]:
        """Says several things in one transaction; durable in the outbox and visible when it returns.

        Raises `NotAllowed`, `NeedsRelay` (at once, where the relay is needed and not there), `DeviceError`,
        `ContentError`, `BadStatement` or `StoreError`; then nothing was said.
        """
        refs = await engine_say.say(self.core, utterances)
        return tuple(Said(one, self) for one in refs)

    def new_id(self) -> str:
        """A fresh statement id, for an `Utterance` that others of its transaction name."""
        return engine_say.new_id(self.core)

    def said(self, ref: str) -> Said:
        """The handle of a statement of this device."""
        return Said(ref, self)

    async def verdict(self, ref: str) -> Verdict | None:
        """The relay's last word on a statement of this device, None while there is none."""
        item = self.core.outbox.items.get(ref)
        if item is not None:
            return item.verdict
        return await self.core.ports.database.run(lambda connection: store.verdict_of(connection, ref))

    async def state(self, ref: str) -> State:
        """What has become of a statement of this device so far."""
        verdict = await self.verdict(ref)
        if verdict is not None:
            return STATE_OF[verdict.status]
        if ref in self.core.outbox.items:
            return State.PENDING
        entry = await self.core.ports.database.run(lambda connection: inbox.entry_of(connection, ref))
        return State.SET_ASIDE if entry is not None else State.UNKNOWN

    async def settled(self, ref: str) -> State:
        """What has become of a statement, once that is final; waits as long as that takes."""
        waiter: asyncio.Future[State] = asyncio.get_running_loop().create_future()
        self.core.waiters.setdefault(ref, []).append(waiter)
        try:
            state = await self.state(ref)
            return state if state in SETTLED else await waiter
        finally:
            waiting = self.core.waiters.get(ref)
            if waiting is not None and waiter in waiting:
                waiting.remove(waiter)

    # ---- reading ------------------------------------------------------------------------------------------

    async def statements(self, target: str) -> tuple[Entry, ...]:
        """What was said in a document or log: admitted, and of this device's outbox, each once.

        A log is read across the segments that are held.  What was refused is not in it; what is in conflict is, with
        its verdict, until the base tells of it.
        """
        bases = [held for name in self._documents_of(target) if (held := await self.core.hold(name)) is not None]
        found = [entry for held in bases for entry in held.entries()]
        for held in bases:
            self.core.saw(held.new_stamps())
        shown = [held.statements() for held in bases]
        tentative: dict[str, Entry] = {}
        for item in self.core.outbox.of(target):
            if item.verdict is None or item.verdict.status is not Status.REFUSED:
                tentative[item.statement.ref] = Entry(item.said.signed, Standing.TENTATIVE, item.verdict)
        for ref, signed in self.core.handing.get(target, {}).items():
            tentative.setdefault(ref, Entry(signed, Standing.TENTATIVE))
        found += [entry for ref, entry in tentative.items() if not any(ref in base for base in shown)]
        return tuple(found)

    async def registers(self, document: str) -> Mapping[str, Register]:
        """The relay's registers in a document, by key, withdrawn ones (nil) included.

        The same object until something changes, so that what is computed from it can be kept.  Empty where nothing is
        held.
        """
        held = await self.core.hold(document)
        return held.registers() if held is not None else {}

    @property
    def directory(self) -> Directory | None:
        """The directory as last verified; None before the first sync."""
        return self.core.directory

    def synced_at(self, target: str) -> int | None:
        """When a document, or the newest held segment of a log, was last up to date (ms); None for never."""
        times = [self.core.synced_at(name) for name in self._documents_of(target) if name in self.core.rows]
        return max(times, default=None)

    def _documents_of(self, target: str) -> list[str]:
        if not target.endswith("/log"):
            return [target] if target in self.core.rows or target in self.core.held else []
        within = f"{target}/"
        return sorted([name for name in self.core.rows if name.startswith(within)])

    # ---- what is held -------------------------------------------------------------------------------------

    async def subscribe(self, scopes: Sequence[str]) -> None:
        """Holds these patients and sites (``patient/<id>``, ``site/<id>``) from now on, also after a restart.

        Raises `BadName` or `StoreError`.
        """
        await engine_subset.subscribe(self.core, scopes)

    async def unsubscribe(self, scopes: Sequence[str]) -> None:
        """Holds these no more: their cache is purged, what was said about them is still sent."""
        await engine_subset.unsubscribe(self.core, scopes)

    @property
    def scopes(self) -> tuple[str, ...]:
        """The patients and sites that are held: those asked for, and the patients in the queues of the sites."""
        queued = {documents.patient(patient) for patient in self.core.queue_patients}
        return tuple(sorted(self.core.scopes | queued))

    @property
    def withdrawn(self) -> Mapping[str, str]:
        """The scopes asked for that the relay does not give, and its code for why."""
        return {name: code for name, code in self.core.withdrawn.items() if scope_of(name) == name}

    # ---- outbox and inbox ---------------------------------------------------------------------------------

    def outbox(self) -> tuple[Queued, ...]:
        """What was said and is in no base yet, in order."""
        items = sorted(self.core.outbox.items.values(), key=lambda item: item.said.number)
        return tuple(Queued(item.said.signed, item.said.said_at, item.attempts, item.verdict) for item in items)

    async def inbox(self, *, closed: bool = False) -> tuple[InboxEntry, ...]:
        """What a person must look at, oldest first; with ``closed`` what was done too."""
        return tuple(await self.core.ports.database.run(lambda connection: inbox.entries(connection, closed=closed)))

    async def dismiss(self, entry: int) -> bool:
        """Marks an entry of the inbox as done; False where there is no such open entry."""
        was_open = await self.core.ports.database.run(lambda connection: inbox.close(connection, entry))
        self.core.inbox_open -= was_open
        return was_open

    # ---- how it stands ------------------------------------------------------------------------------------

    def status(self) -> Report:
        """How the device stands, from memory."""
        return engine_ask.report(self.core)

    # ---- the relay ----------------------------------------------------------------------------------------

    async def sign_in(self, user: str, password: str, pin: str | None) -> bytes:
        """The signed `Grant` of a user who signs in with the relay; see `engine_ask.sign_in`."""
        return await engine_ask.sign_in(self.core, user, password, pin)

    async def roster(self, site: str) -> tuple[wire.SealedGrant, ...]:
        """The grants issued ahead for a site on this device; see `engine_ask.roster`."""
        return await engine_ask.roster(self.core, site)

    def send(self, frame: wire.ToRelay) -> None:
        """Sends a frame in the conversation that is open; without one it does nothing."""
        if self.core.session is not None:
            self.core.session.say(frame)
            self.core.wake()

    def leave(self, code: str, says: str) -> None:
        """Ends the conversation that is open."""
        if self.core.session is not None:
            self.core.session.leave(code, says)
            self.core.wake()

    async def keep(self, kind: str, name: str, data: bytes | None) -> None:
        """Keeps bytes in the store under a kind and a name (grants, rosters); None forgets them."""
        await self.core.ports.database.run(lambda connection: store.put_thing(connection, kind, name, data))

    async def kept(self, kind: str) -> dict[str, bytes]:
        """Everything kept under a kind, by name."""
        return await self.core.ports.database.run(lambda connection: store.things(connection, kind))

    async def verify(self) -> None:
        """Verifies every author that can be verified, of the documents in memory."""
        await engine_verify.verify_all(self.core)

    async def close(self) -> None:
        """Gives the store up, once what was verified is written down.  The link is closed before."""
        try:
            if self.core.newly_verified:
                verified = engine_verify.verified_lately(self.core)
                await self.core.ports.database.run(lambda connection: engine_verify.keep_verified(verified, connection))
        except StoreError:
            pass  # it is verified again the next time; a store that stays open could not be opened then
        finally:
            await self.core.ports.database.close()


async def open_engine(
    ports: Ports, anchor: Anchor, *, days: int = 7, high_number: int = 0, high_head: int = 0
) -> Engine:
    """The engine of the store behind ``ports.database``; ``days`` is how many days of logs it holds.

    ``high_number`` and ``high_head`` are the marks that are kept outside the store: the highest number given out, and
    the newest head of the directory seen.  A store below them is an older copy: it is told, and takes higher numbers.

    Raises `StoreError`.
    """
    with suppress(StoreError):  # a store that cannot be written opens all the same; there is time
        await ports.database.run(lambda connection: store.forget_old(connection, ports.now_ms()))
    opened = await ports.database.run(lambda connection: store.open_store(connection, ports.device))
    core = Core(
        ports=ports,
        anchor=anchor,
        number=opened.number,
        stamp=Stamp(opened.stamp),
        days=days,
        rows=opened.bases,
        scopes=set(opened.scopes),
        head=max(opened.head, high_head),
    )
    for said in opened.outbox:
        item = core.outbox.add(said, opened.verdicts.get(said.ref))
        if item.phase is Phase.JUDGED:
            core.judged.add(said.ref)
    core.handing = engine_heal.shown(await ports.database.run(store.hand_backs))
    held = await core.hold(DIRECTORY)
    if held is not None:
        digest = await ports.database.run(lambda connection: store.kept_bytes(connection, store.DIRECTORY))
        engine_bases.read_the_directory(core, engine_bases.Burst(), held, digest)
    if high_number > core.number:
        await engine_heal.number_above(
            core,
            high_number,
            f"this store goes up to statement {core.number}, and {high_number} was given out: "
            "it is an older copy; what is unsent was numbered anew",
        )
    core.inbox_open = await ports.database.run(inbox.count)
    return Engine(core)
