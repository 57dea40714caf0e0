"""The conversation as the engine has it: begun, taken in burst by burst, kept up, and ended."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from crdtmed.device import (
    engine_ask,
    engine_bases,
    engine_heal,
    engine_opened,
    engine_push,
    engine_revoked,
    engine_subset,
    engine_verdicts,
    engine_verify,
    inbox,
    store,
)
from crdtmed.device.engine_bases import Burst
from crdtmed.device.engine_core import Core
from crdtmed.device.engine_types import STATE_OF, Disconnected, LeaseCame, Progress
from crdtmed.device.replicas import Held
from crdtmed.device.session import BaseCame, Closed, Event, Opened, RunCame, Self, Session, Stage
from crdtmed.device.store_database import Connection, StoreError
from crdtmed.limits import CONVERSATION_OF_USE_MS, ONLINE_LEASE_S, RETRY_MOST_MS
from crdtmed.replica import ReplicaBroken
from crdtmed.verdict import Verdict
from crdtmed.wire import frames as wire


def begin(core: Core) -> Session:
    """A new conversation; what it wants to say is in `Session.drain`."""
    ports = core.ports
    own = Self(ports.device, ports.signer, core.anchor, ports.random_bytes(16), core.number, ports.lease_serial())
    core.session = Session(own)
    core.distrusted.clear()
    core.conversation += 1
    core.welcomed_at, core.heard_final = None, False
    return core.session


async def receive(core: Core, data: Sequence[bytes]) -> None:
    """Takes frames of the relay in: memory first, then one transaction, then whoever listens.

    Raises `StoreError` where the transaction fails; then nothing of the burst counts, and the conversation is over.
    So it is with whatever else ends it midway.
    """
    session = core.session
    if session is None:
        return
    burst, final = Burst(), list[Verdict]()
    core.bursts += 1
    try:
        for frame in data:
            for event in session.receive(frame, core.ports.now_ms()):
                await _take(core, burst, final, event)
        signed = await engine_bases.digests_are_signed(core, burst)
        if signed:
            await _commit(core, burst, final)
            core.heard_final = core.heard_final or bool(final)
            core.dirty.clear()
            core.trim()
    except BaseException as error:
        # Whatever it was, a cancellation too: memory may be ahead of the store, and later updates would leave a hole.
        says = "this device cannot write its store" if isinstance(error, StoreError) else "this device stopped midway"
        with suppress(StoreError):
            await _undo(core, "store", says)
        raise
    if not signed:
        await _undo(core, "forged", "the relay sent a document under a digest that it did not sign")
        await core.alarm("forged", "the relay sent a document under a digest that it did not sign; nothing was taken")
        return
    await _told(core, burst, final)


def is_of_use(core: Core) -> bool:
    """Whether the conversation has shown that it is of use: the relay judged something for good, or it lasts.

    Not that documents came: a relay whose disk is full can still read.
    """
    since = core.welcomed_at
    lasts = since is not None and core.ports.now_ms() - since >= CONVERSATION_OF_USE_MS
    return core.heard_final or lasts


async def lost(core: Core, code: str, says: str, by_relay: bool = False) -> None:
    """The conversation is over: what was under way is sent again in the next one."""
    session, core.session = core.session, None
    if session is None:
        return
    live = [name for name, place in session.places.items() if place.live and name in core.rows]
    # Memory first: a store that cannot be written just now must not leave anything under way for ever.
    flying = core.outbox.flying()
    core.outbox.all_again()
    for writer in core.writers.values():
        writer.current = False
    gone = ConnectionError(f"the conversation ended ({code})")
    for coming in core.challenges:
        if not coming.done():
            coming.set_exception(gone)
    for waiter in (one for ones in core.answers.values() for one in ones):
        if not waiter.done():
            waiter.set_exception(gone)
    core.challenges.clear()
    core.answers.clear()
    now = core.ports.now_ms()
    for name in live:
        core.rows[name] = replace(core.rows[name], synced_at=now)
    core.tell(Disconnected(code, says))
    if by_relay:
        await engine_heal.blame(core, code, says, flying)
    if by_relay and code == "replaced":
        await core.alarm("another_copy", "this device is connected from elsewhere too: its store or keys were copied")
    await core.ports.database.run(lambda connection: store.mark_synced(connection, live, now))


async def tick(core: Core) -> None:
    """What is due by the clock: the lease, the segments of a new day, what was verified meanwhile."""
    session = core.session
    if core.newly_verified:
        verified = engine_verify.verified_lately(core)
        await core.ports.database.run(lambda connection: engine_verify.keep_verified(verified, connection))
        core.trim()
    if session is None or session.stage is not Stage.OPEN:
        return
    now = core.ports.now_ms()
    if now >= core.renew_at or core.renew_at > now + 2 * core.renew_ms:
        if core.renewals_unanswered * core.renew_ms >= ONLINE_LEASE_S * 1_000:
            # What answers pings and renews no lease may be hiding a revocation.
            session.leave("silent", f"the relay has renewed no lease for {ONLINE_LEASE_S} s")
            return
        core.renew_at = now + core.renew_ms
        core.renewals_unanswered += 1
        session.say(wire.Renew(core.number, core.ports.lease_serial()))
        engine_opened.ask_a_digest(core)
    engine_subset.ask(core)
    await engine_opened.hand_back_again(core)


def next_due(core: Core) -> int:
    """When `tick` or a push is due next (device's clock, ms)."""
    now = core.ports.now_ms()
    due = [now + RETRY_MOST_MS]
    if core.session is not None and core.session.stage is Stage.OPEN:
        due.append(core.renew_at)
        if core.hand_again:
            due.append(core.hand_again_at)
        outbox = core.outbox.next_due(now)
        if outbox is not None:
            due.append(outbox)
    return min(due)


# ---- events ---------------------------------------------------------------------------------------------------


async def _take(core: Core, burst: Burst, final: list[Verdict], event: Event) -> None:
    match event:
        case BaseCame():
            await engine_bases.take_base(core, burst, event)
        case RunCame():
            await engine_bases.take_run(core, burst, event)
        case wire.Verdicts(now=now, verdicts=verdicts):
            core.offset_ms = now - core.ports.now_ms()
            final.extend(engine_verdicts.take(core, burst, verdicts))
        case wire.Gap(document=document, client=client):
            engine_push.landed(core, document, client)
        case Opened():
            await engine_opened.opened(core, burst, event)
        case wire.Evicted(document=document, code=code):
            burst.wholes.pop(document, None)
            burst.runs.pop(document, None)
            await engine_subset.evicted(core, document, code)
        case wire.LeaseGiven(now=now, lease=lease):
            core.renewals_unanswered = 0
            core.offset_ms = now - core.ports.now_ms()
            burst.events.append(LeaseCame(lease, now))
        case wire.DigestGiven(digest=digest):
            await engine_opened.compare(core, burst, digest)
        case wire.Revoked():
            engine_revoked.revoked(core, burst, event)
        case wire.HandedOver():
            engine_revoked.handed_over(core, burst)
        case Closed():
            pass  # whoever carries the bytes sees that the session is closed, and says `lost`
        case wire.Challenges() | wire.SignedIn() | wire.SignInFailed() | wire.Roster():
            _answer(core, event)


def _answer(core: Core, frame: wire.Challenges | wire.SignedIn | wire.SignInFailed | wire.Roster) -> None:
    """Hands an answer to whoever asked first."""
    if isinstance(frame, wire.Challenges):
        for value in frame.values:
            while core.challenges:
                coming = core.challenges.pop(0)
                if not coming.done():
                    coming.set_result(value)
                    break
        return
    engine_ask.answered(core, frame)


# ---- after the burst ------------------------------------------------------------------------------------------


async def _commit(core: Core, burst: Burst, final: list[Verdict]) -> None:
    leaving = engine_verdicts.leaving(core)
    await engine_bases.hand_back_astray(core, burst, leaving)
    coming = engine_verdicts.coming(core, burst)
    arrived = [ref for ref in core.coming | burst.judged_back if ref not in coming]
    core.coming = coming
    touched = burst.wholes or burst.runs or burst.synced or burst.lacking or final or leaving or arrived
    if not touched and not burst.alarms:
        return
    now = core.ports.now_ms()
    verified = engine_verify.verified_lately(core)
    # The store works on a thread of its own: it is handed what stands now, not what others may change meanwhile.
    rows = {name: core.rows[name] for name in (*burst.wholes, *burst.runs) if name in core.rows}
    head = core.head
    came = [core.held[name] for name in burst.wholes if name in core.held]
    loop = asyncio.get_running_loop()

    def work(connection: Connection) -> int | None:
        engine_bases.write(burst, rows, now, connection)
        engine_verify.keep_verified(verified, connection)
        told = engine_verdicts.write(core, final, connection)
        store.remove(connection, [item.said.number for item in leaving])
        store.drop_hand_back(connection, arrived)
        if burst.directory:
            store.keep_int(connection, store.HEAD, head)
            store.keep_bytes(connection, store.DIRECTORY, burst.directory)
        for alarm in burst.alarms:
            inbox.put(connection, alarm.code, alarm.says, now)
        count = inbox.count(connection) if told or burst.alarms else None
        if came:
            # Last of all: what is left is the disk's, and needs nothing of the interpreter.
            with suppress(RuntimeError):  # nobody waits for it any more where the loop has ended
                loop.call_soon_threadsafe(_read, came)
        return count

    inbox_open = await core.ports.database.run(work)
    core.inbox_open = core.inbox_open if inbox_open is None else inbox_open
    for shown in core.handing.values():
        for ref in arrived:
            shown.pop(ref, None)
    for item in leaving:
        core.judged.discard(item.ref)
        core.found.discard(item.ref)
        core.outbox.remove(item.ref)
        burst.changed[item.statement.document] = None


def _read(came: Sequence[Held]) -> None:
    """Reads documents that came whole, which is most of the work until they can be shown.

    Should the store fail meanwhile, what was read goes with the rest of memory.
    """
    for held in came:
        with suppress(ReplicaBroken):  # whoever looks meets it again
            held.read()


async def _told(core: Core, burst: Burst, final: list[Verdict]) -> None:
    for name, lacking in engine_bases.in_order(burst.lacking):
        engine_opened.hand_back(core, name, lacking)
    for verdict in final:
        core.settle(verdict.ref, STATE_OF[verdict.status])
    if burst.restamp:
        await engine_heal.restamp(core, burst.restamp)
    sites = [name for name in burst.changed if name in core.scopes and name.startswith("site/")]
    if sites:
        await engine_subset.follow_queues(core, sites)
    for event in (*burst.alarms, *burst.events):
        core.tell(event)
    for name in burst.changed:
        core.changed(name)
    _progress(core, burst, final)
    engine_revoked.notice(core)
    if burst.changed:
        core.to_verify.set()


def _progress(core: Core, burst: Burst, final: list[Verdict]) -> None:
    session = core.session
    if session is None:
        return
    behind = session.behind
    if core.sync_total and (burst.wholes or burst.runs or burst.synced):
        core.tell(Progress("sync", core.sync_total - min(behind, core.sync_total), core.sync_total))
        core.sync_total = core.sync_total if behind else 0
    if core.flush_total > 1 and final:
        waiting = len(core.outbox) - len(core.judged)
        core.tell(Progress("flush", max(0, core.flush_total - waiting), core.flush_total))
        core.flush_total = core.flush_total if waiting else 0


async def _undo(core: Core, code: str, says: str) -> None:
    """The burst does not count: memory goes back to what the store has, and the conversation ends."""
    if core.session is not None:
        core.session.leave(code, says)
    core.held.clear()
    core.dirty.clear()
    core.writers.clear()
    try:
        await engine_heal.read_anew(core)
    except StoreError:
        # Where the store stands cannot be read: nothing may go on from where memory had come to.
        core.rows, core.unread = {}, True
        raise
