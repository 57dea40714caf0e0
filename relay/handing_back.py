"""What a device hands back after a restore: statements that the relay lacks, judged as new.

Those that belong in a document that devices write are inserted there by the relay itself, as one more client of it.
"""

from dataclasses import dataclass

from crdtmed.reasons import DeviceRevoked
from crdtmed.statement import same
from crdtmed.updates import ArrayInsert, DeviceUpdate, ItemId, MapInsert, Root, tombstoned
from crdtmed.verdict import Status, Verdict, encode_verdict
from relay.batch import Batch
from relay.items import HandBack, Outcome
from relay.judging import aim, judge, tell
from relay.live import LiveClient, LiveDocument
from relay.quarantine import quarantine
from relay.storage.rebuild import draft_head


def hand_back(batch: Batch, back: HandBack, outcome: Outcome) -> None:
    """Every statement the relay lacks, judged as new; those accepted are written by the relay itself."""
    for ref in back.forged:
        batch.alarm("forged_statement", back.device, f"it handed back {ref}, which its author did not sign")
    writer: _Writer | None = None
    for said in back.said:
        statement = said.signed.statement
        stored = batch.statement(statement.ref)
        if stored is not None and same(stored.signed.statement, statement):
            tell(outcome, back.connection, encode_verdict(stored.verdict))
        elif batch.revoked(statement.device):
            # Whoever has its key may claim any time, so what counts is when it arrived.
            quarantine(batch, said.signed)
            refused = Verdict(statement.ref, Status.REFUSED, batch.now_ms, reason=DeviceRevoked(statement.device))
            tell(outcome, back.connection, encode_verdict(refused))
        elif not back.document.written_by_devices:
            target = batch.open(aim(statement.document))
            judge(batch, back.connection, said, None, target, 0, None, outcome, handed_back=True)
        else:
            live = batch.open(back.document.name)
            writer = writer or _writer(batch, live)
            clock = batch.take_clocks(writer.client, 1)
            place = (writer.client, clock)
            kept = judge(
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
