"""Bases: what the relay admitted, taken in whole or as it goes on, and never half."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from crdtmed import documents, keys, statement
from crdtmed.aggregates.conflict import ConflictRegister, QuarantineRegister
from crdtmed.aggregates.content import ContentError
from crdtmed.aggregates.registers import decode_register
from crdtmed.codec import Undecodable
from crdtmed.device import engine_subset, store
from crdtmed.device.engine_core import DIRECTORY, READER, Check, Core
from crdtmed.device.engine_types import Alarm, Event
from crdtmed.device.outbox import Item, Phase
from crdtmed.device.replicas import Held, fresh
from crdtmed.device.session import BaseCame, RunCame
from crdtmed.device.store import BaseRow
from crdtmed.device.store_database import Connection
from crdtmed.documents import DocumentKind, is_request, map_digest
from crdtmed.limits import COMPACT_AFTER_UPDATES
from crdtmed.policies.server_authoritative import is_withdrawn
from crdtmed.replica import ReplicaBroken
from crdtmed.signed import TAGS, DirectoryHead, DocumentDigests, read
from crdtmed.statement import SignedStatement
from crdtmed.trust import HEAD, BadDirectory, Directory, follow, read_directory, rotations_in
from crdtmed.updates import Malformed
from crdtmed.verdict import Status, Verdict

NOTHING: Final = b"\x00\x00"
"""The update of a document that holds nothing."""


@dataclass(slots=True, eq=False)
class Burst:
    """What a burst of frames does: written in one transaction, told after it.

    ``wholes`` and ``runs`` are of documents, ``lacking`` what a new epoch does not have (document, reference, bytes),
    ``judged_back`` the final verdicts by reference, of what was handed back too, ``restamp`` references of statements
    to be signed again with corrected time, ``directory`` the digest of a directory that was verified.
    """

    wholes: dict[str, bytes] = field(default_factory=dict)
    runs: dict[str, tuple[int, list[bytes]]] = field(default_factory=dict)
    synced: set[str] = field(default_factory=set)
    lacking: list[tuple[str, str, bytes]] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    changed: dict[str, None] = field(default_factory=dict)
    judged_back: dict[str, Verdict] = field(default_factory=dict)
    restamp: list[str] = field(default_factory=list)
    directory: bytes = b""
    digests: list[Check] = field(default_factory=list)


async def take_base(core: Core, burst: Burst, came: BaseCame) -> None:
    """Takes a whole document in: merged where it continues what is held, else in its place.

    What cannot be read, or is not what its signed digest says, changes nothing and is asked for anew, once.
    """
    base, name = came.base, came.base.document
    held = await core.hold(name)
    row = core.rows.get(name)
    merges = held is not None and row is not None and row.epoch == base.epoch and row.position <= base.position
    target = held if merges and held is not None else fresh(READER, name)
    try:
        values = target.applied(target.replica.apply(base.update))
        if not _digest_holds(core, burst, target, came):
            raise Mismatch("it is not what its digest says")
    except (Malformed, ReplicaBroken, Mismatch) as error:
        if merges:
            core.held.pop(name, None)  # what it has become is not known; the store has what it was
        await _distrust(core, burst, name, str(error))
        return
    if held is not None and held is not target and row is not None and row.epoch == base.epoch:
        target.succeeds(held)
    if not merges and row is not None:
        await _keep_what_it_lacks(core, burst, name, held, target)
    target.replica.epoch, target.replica.position = base.epoch, base.position
    verified = row.verified if merges and row is not None else 0
    target.verified = verified
    core.distrusted.discard(name)
    core.dirty.add(name)
    core.keep(name, target)
    if not merges:
        core.writers.pop(name, None)
    core.rows[name] = BaseRow(name, base.epoch, base.position, verified, core.ports.now_ms())
    burst.wholes[name] = target.replica.snapshot() if merges else base.update
    burst.runs.pop(name, None)
    target.since_snapshot = 0
    _noticed(core, burst, target, values)
    if core.session is not None:
        core.session.took(name, base.epoch, base.position)


async def take_run(core: Core, burst: Burst, run: RunCame) -> None:
    """Takes updates in that continue a document."""
    name = run.document
    held = await core.hold(name)
    if not run.epoch:
        if name in core.rows:
            await _keep_what_it_lacks(core, burst, name, held, fresh(READER, name))
            await engine_subset.purge(core, [name])
        return
    if held is None:
        if run.first != 1:
            _ask_anew(core, name)
            return
        held = fresh(READER, name)
        held.replica.epoch = run.epoch
        core.dirty.add(name)
        core.keep(name, held)
        core.rows[name] = BaseRow(name, run.epoch, 0, 0, core.ports.now_ms())
        burst.wholes[name] = NOTHING
    row = core.rows[name]
    last = run.first + len(run.updates) - 1
    if not run.updates:
        burst.synced.add(name)
        core.rows[name] = BaseRow(name, row.epoch, row.position, row.verified, core.ports.now_ms())
        return
    values: list[bytes] = []
    core.dirty.add(name)
    try:
        for update in run.updates:
            values += held.applied(held.replica.apply(update))
    except (Malformed, ReplicaBroken) as error:
        core.held.pop(name, None)
        burst.runs.pop(name, None)
        await _distrust(core, burst, name, str(error))
        return
    held.replica.position = last
    held.since_snapshot += len(run.updates)
    core.rows[name] = BaseRow(name, row.epoch, last, held.verified, core.ports.now_ms())
    if held.since_snapshot >= COMPACT_AFTER_UPDATES or name in burst.wholes:
        burst.wholes[name] = held.replica.snapshot()
        burst.runs.pop(name, None)
        held.since_snapshot = 0
    else:
        burst.runs.setdefault(name, (run.first, []))[1].extend(run.updates)
    _noticed(core, burst, held, values)


def write(burst: Burst, rows: Mapping[str, BaseRow], now: int, connection: Connection) -> None:
    """Writes what the burst did to the bases in ``rows``; the caller's transaction carries it.

    A document that was purged meanwhile is not among them.
    """
    store.put_bases(connection, [(rows[name], snapshot) for name, snapshot in burst.wholes.items() if name in rows])
    for name, (first, updates) in burst.runs.items():
        if name in rows:
            store.add_updates(connection, name, first, updates, now)
    store.mark_synced(connection, burst.synced, now)
    for name, ref, data in burst.lacking:
        store.put_hand_back(connection, name, [(ref, data)])


class Mismatch(Exception):
    """A document is not what its digest says."""


def read_the_directory(core: Core, burst: Burst, held: Held, verified: bytes = b"") -> None:
    """Believes a directory whose every entry is signed and whose head is not older; else keeps the one before.

    ``verified`` is the digest of the one that was verified before this start: its signatures are not checked again.
    """
    entries = held.content()
    if HEAD not in entries:
        return  # nothing has come of it yet
    try:
        before = core.directory
        if before is None and verified and map_digest(entries) == verified:
            anchor = follow(core.anchor, rotations_in(entries))
            before = Directory(anchor, read(DirectoryHead, entries[HEAD]), {}, {}, (), None, entries)
        found = read_directory(entries, core.anchor, core.head, before)
    except BadDirectory as error:
        burst.alarms.append(Alarm(f"directory_{error.reason}", error.says))
        return
    core.directory = found
    core.head = found.head.version
    burst.directory = map_digest(entries)
    if found.anchor != core.anchor:
        core.anchor = found.anchor
        core.ports.anchored(found.anchor)


def _noticed(core: Core, burst: Burst, held: Held, values: Sequence[bytes]) -> None:
    """What follows from new ``values``: views change, own statements are found, waiting ones may go."""
    name = held.document.name
    burst.changed[name] = None
    burst.synced.discard(name)
    if name == DIRECTORY:
        read_the_directory(core, burst, held)
    if held.document.written_by_devices:
        for item in core.outbox.admitted(values):
            held.own(item.said.signed)
            if item.phase is not Phase.JUDGED:
                core.found.add(item.ref)
        if core.outbox.awaits_others:
            core.outbox.arrived(held.statements().keys())
    for trouble in held.troubles:
        burst.alarms.append(Alarm(trouble.code, trouble.says))
    held.troubles.clear()


def _digest_holds(core: Core, burst: Burst, held: Held, came: BaseCame) -> bool:
    """Whether a document is what its frame's list says; the list's signature is checked with the burst's others."""
    base, digest = came.base, came.digest
    if core.relay is None or digest is None:
        return False
    signature, body = came.digests[: keys.SIGNATURE_BYTES], came.digests[keys.SIGNATURE_BYTES :]
    check = (core.relay.public, TAGS[DocumentDigests], body, signature)
    if check not in burst.digests[-1:]:
        burst.digests.append(check)  # once for all documents of its frame
    return (digest.document, digest.epoch, digest.position, digest.content) == (
        base.document,
        base.epoch,
        base.position,
        held.replica.digest(),
    )


async def digests_are_signed(core: Core, burst: Burst) -> bool:
    """Whether the relay signed the lists of digests of the whole burst; many are checked at once."""
    return not burst.digests or all(await core.ports.verify(burst.digests))


async def _distrust(core: Core, burst: Burst, name: str, why: str) -> None:
    """Asks for a document anew; the second time in a conversation it is an alarm, and the conversation ends."""
    if core.session is None:
        return
    if name in core.distrusted:
        burst.alarms.append(Alarm("base_unreadable", f"the relay sent {name} twice as it cannot be: {why}"))
        core.session.leave("base_unreadable", f"{name}: {why}")
        return
    core.distrusted.add(name)
    core.session.refuse(name)


def _ask_anew(core: Core, name: str) -> None:
    if core.session is not None:
        core.session.refuse(name)


async def _keep_what_it_lacks(core: Core, burst: Burst, name: str, old: Held | None, new: Held) -> None:
    """After a new epoch: what the old base held and the new one lacks, and own statements that are in no base.

    Those are accepted requests and the writes of drafts that were closed since.  Facts that the relay kept as
    conflicts, or in quarantine, are in registers; each goes back to the log that it names.  The relay judges all of
    them as new; until then they are shown as tentative.
    """
    target = new.document.target
    kept = await core.ports.database.run(lambda connection: store.requests_of(connection, name))
    if new.document.written_by_devices:
        has = new.statements()
        lost = {ref: signed for ref, signed in old.statements().items() if ref not in has} if old is not None else {}
        lost |= {ref: statement.decode(data) for ref, data in kept if ref not in has}
        _hand(core, burst, name, target, lost)
        return
    burst.lacking += [(name, ref, data) for ref, data in kept]
    if old is not None:
        for signed in _set_apart(old, new):
            at = name if is_request(signed.statement.kind) else _segment_now(core, signed.statement.document)
            burst.lacking.append((at, signed.statement.ref, signed.encoded))


async def hand_back_astray(core: Core, burst: Burst, leaving: Sequence[Item]) -> None:
    """What the relay judged before it was restored, and has in its document no more: it goes back like the rest.

    The verdict came, and what it told of did not: neither base nor registers of this device ever had it.
    """
    for item in leaving:
        verdict = item.verdict
        if verdict is None or verdict.status is Status.REFUSED or is_request(item.statement.kind):
            continue
        place = core.stands(verdict.document)
        if place is None or place.epoch == verdict.epoch:
            continue
        held = await core.hold(verdict.document)
        if held is None or item.ref not in held.statements():
            _hand(core, burst, verdict.document, item.statement.document, {item.ref: item.said.signed})


def _segment_now(core: Core, target: str) -> str:
    """Where a statement that names a log is handed back: today's segment; drafts are their own document."""
    if not target.endswith("/log"):
        return target
    return documents.segment(target, documents.utc_date(core.relay_now()))


def _set_apart(old: Held, new: Held) -> Iterator[SignedStatement]:
    """The statements in registers of conflicts and of quarantine that the new base does not have."""
    if old.document.kind not in (DocumentKind.PATIENT, DocumentKind.SITE):
        return
    has = new.registers()
    for key, register in old.registers().items():
        word = key.partition("/")[0]
        if word not in ("conflict", "quarantine") or key in has or is_withdrawn(register):
            continue
        try:
            value = decode_register(old.document.kind, key, bytes(register.value))
            assert isinstance(value, ConflictRegister | QuarantineRegister)
            yield statement.decode(value.statement)
        except (ContentError, Undecodable, statement.BadStatement):
            continue  # nobody could read it before either, and the views have said so


def _hand(core: Core, burst: Burst, name: str, target: str, lost: dict[str, SignedStatement]) -> None:
    burst.lacking += [(name, ref, signed.encoded) for ref, signed in lost.items()]
    shown = core.handing.setdefault(target, {})
    shown.update({ref: signed for ref, signed in lost.items() if not is_request(signed.statement.kind)})


def in_order(rows: Sequence[tuple[str, str, bytes]]) -> Iterator[tuple[str, list[bytes]]]:
    """What is to be handed back (document, reference, bytes), as runs of one document.

    In the order of its stamps: a sign comes after the draft and the override that it rests on, a dispense after the
    sign.
    """
    said = sorted((statement.decode(data).statement.order, name, data) for name, _, data in rows)
    for name, run in itertools.groupby(said, lambda one: one[1]):
        yield name, [data for _, _, data in run]
