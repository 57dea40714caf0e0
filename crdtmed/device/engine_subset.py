"""What a device holds: the documents of the patients and sites that it works with, and no others."""

from collections.abc import Container, Iterable, Sequence

from crdtmed import documents
from crdtmed.aggregates.dispensing_event import QueueEntry
from crdtmed.codec import Undecodable, decoder
from crdtmed.device import store
from crdtmed.device.engine_core import DIRECTORY, FORMULARY, Core
from crdtmed.device.engine_types import Evicted
from crdtmed.device.outbox import scope_of
from crdtmed.device.replicas import Held
from crdtmed.device.session import Stage
from crdtmed.documents import DocumentKind, parse
from crdtmed.limits import MAX_REGISTER_BYTES
from crdtmed.policies.server_authoritative import is_withdrawn

QUEUE = "queue/"
_decode_queue = decoder(QueueEntry, MAX_REGISTER_BYTES)


def documents_of(scope: str, relay_ms: int, days: int) -> tuple[str, ...]:
    """The documents of a patient or a site: its head, a patient's drafts, and the logs of the last ``days`` days."""
    head = parse(scope)
    drafts = (documents.drafts(head.scope_id),) if head.kind is DocumentKind.PATIENT else ()
    return (scope, *drafts, *documents.recent_segments(documents.log_of(scope), relay_ms, days))


def wanted(core: Core) -> tuple[str, ...]:
    """Every document that this device wants now: the directory first, since the rest is verified by it.

    The same object until that changes.
    """
    now = core.relay_now()
    of = (documents.utc_date(now), core.days, core.subset, core.queue_patients)
    if core.wanted[0] != of:
        scopes = sorted(core.scopes | {documents.patient(patient) for patient in core.queue_patients})
        names = (name for scope in scopes for name in documents_of(scope, now, core.days))
        core.wanted = (of, tuple(dict.fromkeys((DIRECTORY, FORMULARY, *names))))
    return core.wanted[1]


def wants(core: Core, names: Iterable[str]) -> list[tuple[str, str, int]]:
    """Each with where its base stands."""
    found = []
    for name in names:
        row = core.rows.get(name)
        found.append((name, row.epoch, row.position) if row is not None else (name, "", 0))
    return found


async def subscribe(core: Core, scopes: Sequence[str]) -> None:
    """Holds these patients and sites from now on, also after a restart; raises `BadName`, `StoreError`."""
    for scope in scopes:
        documents.log_of(scope)
    now = core.ports.now_ms()
    await core.ports.database.run(lambda connection: store.subscribe(connection, scopes, now))
    core.scopes.update(scopes)
    core.subset += 1
    ask_again(core, scopes)


async def unsubscribe(core: Core, scopes: Sequence[str]) -> None:
    """Holds these no more: their cache is purged, what was said about them is still sent."""
    await core.ports.database.run(lambda connection: store.unsubscribe(connection, scopes))
    core.scopes.difference_update(scopes)
    core.subset += 1
    await purge_unwanted(core)


async def purge_unwanted(core: Core) -> None:
    """Purges every base that is wanted no more, and tells the relay."""
    keep = set(wanted(core))
    gone = [name for name in (core.rows.keys() | core.held.keys()) if name not in keep]
    await purge(core, sorted(gone))
    if core.session is not None:
        unwanted = sorted(name for name in core.session.places if name not in keep)
        if unwanted:
            core.session.unsubscribe(unwanted)
            core.wake()


async def purge(core: Core, names: Sequence[str]) -> None:
    """Purges these bases from memory and store."""
    if not names:
        return
    for name in names:
        core.held.pop(name, None)
        core.rows.pop(name, None)
        core.writers.pop(name, None)
        core.queues.pop(name, None)
    await core.ports.database.run(lambda connection: store.drop_base(connection, names))
    for name in names:
        core.changed(name)


def ask(core: Core) -> None:
    """Subscribes to what is wanted and not subscribed to yet: new scopes, and the segments of a new day."""
    session = core.session
    if session is None or session.stage is not Stage.OPEN:
        return
    names = wanted(core)
    asked, core.asked = core.asked, (core.conversation, names)
    if asked is not None and asked[0] == core.conversation and asked[1] is names:
        return  # nothing has changed since
    missing = [
        name
        for name in names
        if name not in session.places and name not in core.withdrawn and scope_of(name) not in core.withdrawn
    ]
    if missing:
        session.subscribe(wants(core, missing))
        core.sync_total = max(core.sync_total, session.behind)
        core.wake()


def ask_again(core: Core, scopes: Container[str] | None = None) -> None:
    """Asks once more for what the relay did not give of these patients and sites, None for all: now it may."""
    for name in [name for name in core.withdrawn if scopes is None or scope_of(name) in scopes]:
        del core.withdrawn[name]
        core.asked = None
    ask(core)


async def evicted(core: Core, name: str, code: str) -> None:
    """The relay says that a document is not for this device: its cache goes, and with a head its whole scope."""
    try:
        document = parse(name)
    except documents.BadName:
        return
    if name in (DIRECTORY, FORMULARY):
        return
    names = [name]
    core.withdrawn[name] = code
    if document.name == document.scope:
        prefix = f"{name}/"
        names += [one for one in (core.rows.keys() | core.held.keys()) if one.startswith(prefix)]
        if core.session is not None:
            core.session.unsubscribe([one for one in core.session.places if one.startswith(prefix)])
    await purge(core, sorted(set(names)))
    core.tell(Evicted(name, code))


async def follow_queues(core: Core, sites: Sequence[str] | None = None) -> None:
    """Holds the patients whose prescriptions wait in the queues of the sites that are held.

    ``sites`` are those that changed, None for all.  A patient that leaves the queue is kept until the device connects
    anew, so that nothing vanishes under somebody's hands.
    """
    came: set[str] = set()
    for scope in sorted(core.scopes) if sites is None else sites:
        held = await core.hold(scope) if scope.startswith("site/") else None
        if held is None:
            core.queues.pop(scope, None)
        else:
            came |= await _follow(core, scope, held)
    if core.session is not None and core.session.places:
        if not came <= core.queue_patients:
            core.queue_patients |= came
    else:
        core.queue_patients = frozenset(patient for queue in core.queues.values() for patient in queue.values())
    # What is to be dispensed here opens a patient that was not for this device before.
    ask_again(core, {documents.patient(patient) for patient in came})


async def _follow(core: Core, scope: str, held: Held) -> set[str]:
    """Brings the queue of a site up to date; gives the patients that came into it."""
    changed = held.changed_keys()
    if changed is None:
        core.queues[scope] = {}
        changed = set(held.registers())
    queue = core.queues.setdefault(scope, {})
    came: set[str] = set()
    for key in sorted(changed):
        register = held.register(key) if key.startswith(QUEUE) else None
        queue.pop(key, None)
        if register is not None and not is_withdrawn(register):
            try:
                queue[key] = _decode_queue(bytes(register.value)).patient
                came.add(queue[key])
            except Undecodable as error:
                await core.alarm("unreadable", f"{scope} {key}: {error.says}")
    return came
