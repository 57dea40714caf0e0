"""Whether everything that the relay holds follows from its statements: what a sceptic, or a restored backup, asks.

Documents are made again from the statements and folded once more, update by update, in pycrdt; every signature is
checked; registers are compared with the documents that carry them, the ledger with its sums and with what each
statement moves by its own words, and what was dispensed of an order with what was accepted for it
(`relay.storage.verify_ledger`).  Nothing here uses what admission used to decide.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from crdtmed.aggregates.conflict import ConflictRegister
from crdtmed.aggregates.content import ContentError
from crdtmed.aggregates.prescription import PrescriptionRegister
from crdtmed.aggregates.registers import decode_register
from crdtmed.aggregates.stock_item import StockRegister
from crdtmed.codec import Undecodable
from crdtmed.documents import DocumentKind, parse
from crdtmed.policies.server_authoritative import NIL
from crdtmed.reasons import KeyReused
from crdtmed.replica import Replica, ReplicaBroken
from crdtmed.signed import Certificate, Forged, Register, unseal
from crdtmed.statement import BadStatement, SignedStatement, decode, verify
from crdtmed.updates import Malformed
from crdtmed.verdict import decode_verdict
from relay.registers import load_replica
from relay.storage import verify_ledger
from relay.storage.port import Record
from relay.storage.rebuild import RecordBroken, base, updates
from relay.storage.rows import STATUS_OF, DocumentRow, Place, StatementRow
from relay.storage.verify_finding import Finding


@dataclass(frozen=True, slots=True)
class Verified:
    """What was looked at, and what was wrong."""

    statements: int
    documents: int
    registers: int
    movements: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Keys:
    """Whose signatures count: certificates of devices, the relay's public keys past and present."""

    certificate: Callable[[str], Certificate | None]
    relays: tuple[bytes, ...]


def verify_record(record: Record, keys: Keys) -> Verified:
    """Looks at everything; run it in a transaction, so that it sees one moment.  Takes time, changes nothing."""
    findings: list[Finding] = []
    accepted: dict[str, SignedStatement] = {}
    conflicts: dict[str, str] = {}
    refs: set[str] = set()
    count = 0
    for row in record.statements():
        count += 1
        if row.ref in refs:
            findings.append(Finding("statement_twice", row.ref, "it is on record more than once; an id is judged once"))
        refs.add(row.ref)
        findings.extend(_statement(row, keys, accepted, conflicts))
    names = record.documents()
    for name in names:
        row_ = record.document(name)
        assert row_ is not None
        findings.extend(_document(record, row_, keys))
    registers = 0
    orders: dict[tuple[str, str], PrescriptionRegister] = {}
    for name in names:
        for each in _registers(record, name, accepted, conflicts, orders):
            if isinstance(each, Finding):
                findings.append(each)
            else:
                registers += each
    counts, unreadable = verify_ledger.counts_of(accepted)
    movements, wrong = verify_ledger.ledger(record, accepted, counts)
    findings += [*unreadable, *wrong, *verify_ledger.dispensed(accepted, counts, orders)]
    return Verified(count, len(names), registers, movements, tuple(findings))


def _statement(
    row: StatementRow, keys: Keys, accepted: dict[str, SignedStatement], conflicts: dict[str, str]
) -> Iterator[Finding]:
    try:
        signed = decode(row.encoded)
    except BadStatement as bad:
        yield Finding("statement_unreadable", row.ref, bad.says)
        return
    statement = signed.statement
    certificate = keys.certificate(statement.device)
    if certificate is None or not verify(signed, certificate.signing):
        yield Finding("statement_forged", row.ref, "its signature is not that of its author's certificate")
    if (statement.ref, statement.number) != (row.ref, row.number):
        yield Finding("statement_misfiled", row.ref, f"its bytes say {statement.ref}, number {statement.number}")
    if row.verdict is not None:
        try:
            verdict = decode_verdict(row.verdict)
        except Undecodable as error:
            yield Finding("verdict_unreadable", row.ref, error.says)
            return
        if verdict.status is not STATUS_OF[row.place] or verdict.ref != row.ref:
            yield Finding(
                "verdict_contradicts", row.ref, f"the verdict says {verdict.status}, its row {row.place.name}"
            )
        if row.place is Place.CONFLICT:
            conflicts[row.ref] = verdict.code
    if row.place in (Place.ACCEPTED, Place.CLOSED):
        accepted[row.ref] = signed


def _document(record: Record, row: DocumentRow, keys: Keys) -> Iterator[Finding]:
    document = parse(row.name)
    try:
        if document.written_by_devices:
            yield from _folded(record, row)
        else:
            replica = load_replica(record, document, 1)
            if document.kind is not DocumentKind.DIRECTORY:
                yield from _signed(record, replica, keys)
    except (RecordBroken, Malformed, ReplicaBroken) as error:
        yield Finding("document_broken", row.name, str(error))


def _folded(record: Record, row: DocumentRow) -> Iterator[Finding]:
    """The base that devices get, and the updates one by one, make one document: what was accepted, and no more."""
    document = parse(row.name)
    clients = record.clients(row.id)
    statements = record.statements_of(row.id, 0, row.position)
    found = record.slots_of(row)
    whole = base(document.root, clients, found)
    replica = Replica.open(row.name, 1)
    changes = record.changes(row.id, 0, row.position)
    for update in updates(document.root, clients, found, changes, 0, row.position):
        replica.apply(update)
    if replica.digest() != whole.digest:
        yield Finding("document_differs", row.name, "folded update by update it differs from its base")
    if Replica.load(row.name, 1, whole.update, row.epoch, row.position).digest() != whole.digest:
        yield Finding("document_differs", row.name, "its base does not hold what it says")
    kept = sorted(each.encoded for each in statements if each.place is Place.ACCEPTED and each.client is not None)
    if sorted(replica.values()) != kept:
        yield Finding("document_differs", row.name, "it does not hold exactly what was accepted into it")


def _signed(record: Record, replica: Replica, keys: Keys) -> Iterator[Finding]:
    """A relay's document holds exactly the registers of the table, each signed by a relay key."""
    name = replica.document.name
    table = {row.key: row for row in record.registers(name)}
    held = replica.map()
    for key in sorted(table.keys() ^ held.keys()):
        yield Finding("register_missing", f"{name} {key}", "it is in the table or in the document, and not in both")
    for key in sorted(table.keys() & held.keys()):
        register = _unsealed(held[key], keys)
        row = table[key]
        if register is None:
            yield Finding("register_forged", f"{name} {key}", "no relay key signed it")
        elif (register.document, register.key, register.version, bytes(register.value)) != (
            name,
            key,
            row.version,
            row.value,
        ):
            yield Finding("register_differs", f"{name} {key}", "the document and the table say different things")


def _unsealed(data: bytes, keys: Keys) -> Register | None:
    for public in keys.relays:
        try:
            return unseal(Register, data, public)
        except Forged:
            continue
    return None


def _registers(
    record: Record,
    name: str,
    accepted: dict[str, SignedStatement],
    conflicts: dict[str, str],
    orders: dict[tuple[str, str], PrescriptionRegister],
) -> Iterator[Finding | int]:
    """Every register can be read, and names statements that have the verdict it needs; signed prescriptions are put
    into ``orders``."""
    document = parse(name)
    for row in record.registers(name):
        where = f"{name} {row.key}"
        yield 1
        if row.value == NIL:
            continue
        try:
            value = decode_register(document.kind, row.key, row.value)
        except ContentError as error:
            yield Finding("register_unreadable", where, str(error))
            continue
        if isinstance(value, PrescriptionRegister):
            orders[document.scope_id or "", value.id] = value
        if isinstance(value, PrescriptionRegister) and value.signed_by not in accepted:
            yield Finding("register_unfounded", where, f"{value.signed_by}, which signed it, was not accepted")
        if isinstance(value, ConflictRegister):
            if value.ref not in conflicts and not isinstance(value.reason, KeyReused):
                yield Finding("register_unfounded", where, "that statement is in no conflict")
            if value.resolved_by is not None and value.resolved_by not in accepted:
                yield Finding("register_unfounded", where, f"{value.resolved_by}, which resolved it, was not accepted")
        if isinstance(value, StockRegister):
            sums = record.stock(document.scope_id, value.item, value.lot)
            if (value.on_hand, value.shortage) != sums:
                yield Finding("stock_differs", where, f"it says {value.on_hand} and {value.shortage}, the sums {sums}")
