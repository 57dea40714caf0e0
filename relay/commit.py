"""One commit of the relay: everything that is waiting, judged one after the other, in one transaction.

`commit_batch` is synchronous and has no threads in it; a service runs it on its one writer thread, a simulator inline.
Only after it has returned may anybody hear of what it did.
"""

from collections.abc import Sequence
from typing import assert_never

from crdtmed.documents import Document, open_segments
from crdtmed.limits import LARGE_BYTES, MAX_CLIENTS_PER_DOCUMENT
from crdtmed.reasons import SegmentClosed
from crdtmed.statement import same
from crdtmed.updates import ArrayInsert, DeviceUpdate, tombstoned
from crdtmed.verdict import Status, Verdict, encode_verdict
from relay.admission.room import large
from relay.applying import apply
from relay.batch import Batch
from relay.handing_back import hand_back
from relay.identity.port import Identity, RandomBytes
from relay.items import Gapped, HandBack, Item, Outcome, Push, Request, Task
from relay.judging import aim, judge, tell
from relay.live import Known, Live, LiveClient, LiveDocument
from relay.own_documents import put_registers
from relay.registers import COMPACT_AFTER, RegisterInvalid
from relay.storage.port import Record


class _Closes(Exception):
    def __init__(self, code: str, says: str) -> None:
        super().__init__(code)
        self.code = code
        self.says = says


def commit_batch(
    record: Record,
    live: Live,
    items: Sequence[Item],
    identity: Identity,
    now_ms: int,
    random: RandomBytes,
    begun: bool = False,
) -> Outcome:
    """Judges ``items`` in order and commits what follows; with an exception nothing of it happened.

    ``live`` is then dropped, and is to be used with this record alone.  ``random`` makes epochs and client ids.
    ``begun``: the transaction is open already (`Record.try_begin`).
    """
    if not begun:
        record.begin()
    try:
        return _committed(record, live, items, identity, now_ms, random)
    except RegisterInvalid:
        # No rule lets that happen.  If one does, it is one statement's doing, which must not take the others with it.
        record.begin()
        return _committed(record, live, items, identity, now_ms, random, careful=True)


def _committed(
    record: Record,
    live: Live,
    items: Sequence[Item],
    identity: Identity,
    now_ms: int,
    random: RandomBytes,
    careful: bool = False,
) -> Outcome:
    outcome = Outcome(now_ms)
    version = live.version
    try:
        outcome.external = _notice_others(record, live)
        batch = Batch(record, live, identity, now_ms, random, careful)
        _look_up(batch, items)
        for item in items:
            _one(batch, item, outcome)
        _finish(batch)
        record.commit()
    except BaseException:
        live.drop()
        # Nobody was told of another process's writes yet: the next commit notices them again.
        live.version = version
        record.rollback()
        raise
    outcome.changes = batch.changes
    outcome.alarms = len(batch.alarms)
    live.trim()
    return outcome


def _finish(batch: Batch) -> None:
    """Writes everything that was gathered; the transaction can be committed after it.

    Raises `RegisterInvalid`.
    """
    for document, entries in batch.staged.items():
        if entries:
            put_registers(batch, document, entries)
    for lot, sums in batch.sums.items():
        batch.record.put_stock(*lot, *sums)
    batch.record.add_movements(batch.moved, batch.now_ms)
    batch.record.flush()
    batch.record.advance_clients((client.row, client.clock) for client in batch.advanced.values())
    for name, change in batch.changes.items():
        live = batch.live.documents[name]
        batch.record.advance(live.id, change.first + len(change.updates) - 1)
        if live.replica is not None and live.unfolded >= COMPACT_AFTER:
            snapshot = live.replica.snapshot()
            batch.record.keep_snapshot(live.id, snapshot, live.position, COMPACT_AFTER // 2)
            live.unfolded = 0
            if len(snapshot) > LARGE_BYTES:
                apply(batch, tuple(large(batch, name, len(snapshot))))


def _notice_others(record: Record, live: Live) -> bool:
    """Whether another process has committed since the last batch; then nothing in memory is good any more."""
    version = record.others()
    if live.version == version:
        return False
    first, live.version = live.version is None, version
    live.drop()
    return not first


def _look_up(batch: Batch, items: Sequence[Item]) -> None:
    """Hardly anything is said twice: which of the pushed statements are new is asked once a device, not once each."""
    ids: dict[str, list[str]] = {}
    for item in items:
        if isinstance(item, Push):
            ids.setdefault(item.device, []).extend([said.signed.statement.id for said in item.said])
    for device, named in ids.items():
        batch.expect(device, named)


def _one(batch: Batch, item: Item, outcome: Outcome) -> None:
    if isinstance(item, Task):
        outcome.results[item.key] = item.act(batch)
        # It may have changed who is in service, and what they may.
        batch.live.known = Known()
        return
    if item.connection in outcome.closes:
        return
    if batch.revoked(item.device):
        # It was in flight when the device was revoked; the session hands over what it still has.
        outcome.closes[item.connection] = ("revoked", "this device is out of service")
        return
    try:
        match item:
            case Push():
                _push(batch, item, outcome)
            case Request():
                _request(batch, item, outcome)
            case HandBack():
                hand_back(batch, item, outcome)
            case _:
                assert_never(item)
    except _Closes as closes:
        outcome.closes[item.connection] = (closes.code, closes.says)


# ---- pushes and requests ---------------------------------------------------------------------------------------------


def _push(batch: Batch, push: Push, outcome: Outcome) -> None:
    document, update = push.document, push.update
    closed = _closed_segment(batch, document)
    if closed is not None:
        for said in push.said:
            ref = said.signed.statement.ref
            stored = batch.statement(ref)
            verdict = (
                encode_verdict(stored.verdict)
                if stored is not None and same(stored.signed.statement, said.signed.statement)
                else encode_verdict(Verdict(ref, Status.RETRY, batch.now_ms, reason=SegmentClosed(closed)))
            )
            tell(outcome, push.connection, verdict)
        return
    live = batch.open(document.name)
    client = _client(batch, live, push)
    if isinstance(client, Gapped):
        outcome.gaps.setdefault(push.connection, []).append(client)
        return
    first = batch.take_clocks(client, update.length)
    position = live.position + 1
    kept: list[bool] = []
    for offset, said in enumerate(push.said):
        place = (client, first + offset)
        kept.append(judge(batch, push.connection, said, document.name, live, position, place, outcome))
    fanned = push.raw if all(kept) else tombstoned(update, kept)
    batch.changed(live, fanned)


def _closed_segment(batch: Batch, document: Document) -> str | None:
    """The segment to push into, where ``document`` is one of a log that takes no entries now."""
    if document.segment is None:
        return None
    taking = open_segments(document.target, batch.now_ms)
    return None if document.name in taking else taking[0]


def _client(batch: Batch, live: LiveDocument, push: Push) -> LiveClient | Gapped:
    """The client of an update, bound to its device, with the update continuing it."""
    update = push.update
    author = batch.author(push.device)
    client = live.clients.get(update.client)
    if client is not None and client.author != author:
        raise _Closes("foreign_client", f"client {update.client} of {live.name} is not this device's")
    due = 0 if client is None else client.clock
    if update.clock != due:
        return Gapped(live.name, update.client, due)
    if client is not None:
        return client
    if len(live.clients) >= MAX_CLIENTS_PER_DOCUMENT:
        raise _Closes("too_many_clients", f"{live.name} has {len(live.clients)} clients, no more are taken")
    origin = _origin(live, update)
    return batch.bind(live, update.client, author, origin)


def _origin(live: LiveDocument, update: DeviceUpdate) -> tuple[int, int] | None:
    insert = update.inserts[0]
    if not isinstance(insert, ArrayInsert) or insert.origin is None:
        return None
    known = live.clients.get(insert.origin.client)
    if known is None or insert.origin.clock >= known.clock:
        raise _Closes("dangling_origin", f"an entry of {live.name} follows one that is not there")
    return (insert.origin.client, insert.origin.clock)


def _request(batch: Batch, request: Request, outcome: Outcome) -> None:
    target = batch.open(aim(request.said.signed.statement.document))
    judge(batch, request.connection, request.said, None, target, target.position, None, outcome)
