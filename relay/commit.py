"""One commit of the relay: everything that is waiting, judged one after the other, in one transaction.

`commit_batch` is synchronous and has no threads in it; a service runs it on its one writer thread, a simulator inline.
Only after it has returned may anybody hear of what it did.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from crdtmed.documents import Document, open_segments
from crdtmed.limits import MAX_CLIENTS_PER_DOCUMENT, RETRY_FIRST_MS
from crdtmed.reasons import Busy, DeviceRevoked, SegmentClosed
from crdtmed.statement import same
from crdtmed.updates import ArrayInsert, DeviceUpdate, ItemId, MapInsert, Root, tombstoned
from crdtmed.verdict import FINAL, Status, Verdict, encode_verdict
from relay.admission.admit import admit
from relay.admission.effects import Decision
from relay.admission.facts import Submission, submitted
from relay.applying import apply
from relay.batch import Batch
from relay.identity.port import Identity, RandomBytes
from relay.items import Gapped, HandBack, Item, Outcome, Push, Request, Task
from relay.live import Known, Live, LiveClient, LiveDocument
from relay.quarantine import quarantine
from relay.registers import RegisterInvalid
from relay.session_events import Said
from relay.storage.port import Record
from relay.storage.rebuild import draft_head


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
        batch.finish()
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
                _hand_back(batch, item, outcome)
            case _:
                assert_never(item)
    except _Closes as closes:
        outcome.closes[item.connection] = (closes.code, closes.says)


# ---- pushes -------------------------------------------------------------------------------------------------------


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
            _tell(outcome, push.connection, verdict)
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
        kept.append(_judge(batch, push.connection, said, document.name, live, position, place, outcome))
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


def _judge(
    batch: Batch,
    connection: int,
    said: Said,
    document: str | None,
    target: LiveDocument,
    position: int,
    place: tuple[LiveClient, int] | None,
    outcome: Outcome,
    handed_back: bool = False,
) -> bool:
    """Judges one statement, records and answers it; whether its value stays in the document."""
    statement = said.signed.statement
    ref = statement.ref
    stored = batch.statement(ref)
    if stored is not None and same(stored.signed.statement, statement):
        outcome.judged["known", ""] += 1
        _tell(outcome, connection, encode_verdict(stored.verdict))
        _lost(batch, target, position, place)
        return False
    submission = submitted(said.signed, said.content, document, batch.now_ms, said.challenge, handed_back, said.answer)
    decision = _decide(batch, submission)
    if place is None:
        position = batch.position(target.name)
    verdict = Verdict(
        ref,
        decision.status,
        batch.now_ms,
        target.name,
        target.epoch,
        position,
        decision.reason,
        tuple(map(str, decision.actions)),
        decision.flags,
    )
    code = verdict.code
    outcome.judged[decision.status, code] += 1
    outcome.told.append((ref, target.name, decision.status, code))
    if decision.status in FINAL and stored is None:
        _tell(outcome, connection, batch.keep(said.signed, verdict, target, position, place))
    else:
        _tell(outcome, connection, encode_verdict(verdict))
        _lost(batch, target, position, place)
    return decision.status is Status.ACCEPTED


def _lost(batch: Batch, target: LiveDocument, position: int, place: tuple[LiveClient, int] | None) -> None:
    """A clock that holds no statement of its own."""
    if place is not None:
        batch.record.add_tombstone(target.id, position, place[0].row, place[1], 1)


def _decide(batch: Batch, submission: Submission) -> Decision:
    """Admission's decision with its effects applied; where the database will not have them, nothing was done."""
    decision = admit(batch, submission)
    if decision.effects:
        try:
            apply(batch, decision.effects)
        except Exception as error:  # noqa: BLE001 - one statement must not take the batch with it; the operator sees why
            ref = submission.ref
            batch.alarm("not_applied", submission.statement.device, f"{ref}: {type(error).__name__}: {error}")
            return Decision(Status.RETRY, Busy(RETRY_FIRST_MS))
    return decision


def _tell(outcome: Outcome, connection: int, verdict: bytes) -> None:
    outcome.verdicts.setdefault(connection, []).append(verdict)


# ---- requests and what is handed back --------------------------------------------------------------------------------


def _request(batch: Batch, request: Request, outcome: Outcome) -> None:
    target = batch.open(_aim(request.said.signed.statement.document))
    _judge(batch, request.connection, request.said, None, target, target.position, None, outcome)


def _aim(target: str) -> str:
    """The document that a request is filed under: a log has none of its own, so that it is its scope's."""
    return target.removesuffix("/log")


def _hand_back(batch: Batch, back: HandBack, outcome: Outcome) -> None:
    """Every statement the relay lacks, judged as new; those accepted are written by the relay itself."""
    for ref in back.forged:
        batch.alarm("forged_statement", back.device, f"it handed back {ref}, which its author did not sign")
    live = batch.open(back.document.name)
    writer: _Writer | None = None
    for said in back.said:
        statement = said.signed.statement
        stored = batch.statement(statement.ref)
        if stored is not None and same(stored.signed.statement, statement):
            _tell(outcome, back.connection, encode_verdict(stored.verdict))
        elif batch.revoked(statement.device):
            # Whoever has its key may claim any time, so what counts is when it arrived.
            quarantine(batch, said.signed)
            refused = Verdict(statement.ref, Status.REFUSED, batch.now_ms, reason=DeviceRevoked(statement.device))
            _tell(outcome, back.connection, encode_verdict(refused))
        elif not live.document.written_by_devices:
            target = batch.open(_aim(statement.document))
            _judge(batch, back.connection, said, None, target, 0, None, outcome, handed_back=True)
        else:
            writer = writer or _writer(batch, live)
            clock = batch.take_clocks(writer.client, 1)
            place = (writer.client, clock)
            kept = _judge(
                batch, back.connection, said, live.name, live, live.position + 1, place, outcome, handed_back=True
            )
            batch.changed(live, _written(live, writer, clock, said.signed.encoded, kept))


@dataclass(frozen=True, slots=True)
class _Writer:
    """The relay as a client of a document that devices write."""

    number: int
    client: LiveClient
    origin: ItemId | None


def _writer(batch: Batch, live: LiveDocument) -> _Writer:
    number = batch.fresh_client(live)
    last = next(((client, known.clock - 1) for client, known in live.clients.items() if known.clock), None)
    origin = None if live.document.root is Root.MAP else last
    return _Writer(number, batch.bind(live, number, None, origin), None if origin is None else ItemId(*origin))


def _written(live: LiveDocument, writer: _Writer, clock: int, value: bytes, kept: bool) -> bytes:
    """The update in which the relay itself inserts a statement, or what holds its clock."""
    insert: MapInsert | ArrayInsert
    if live.document.root is Root.MAP:
        insert = MapInsert(clock, draft_head(value)[1] if kept else "-", value)
    else:
        insert = ArrayInsert(clock, ItemId(writer.number, clock - 1) if clock else writer.origin, (value,))
    return tombstoned(DeviceUpdate(live.document.root, writer.number, clock, (insert,)), (kept,))
