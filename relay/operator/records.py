"""What the relay holds, for those who ask: conflicts, quarantine, alarms, and who said what about whom."""

from collections.abc import Iterator
from dataclasses import dataclass

from crdtmed.aggregates.conflict import ConflictRegister, QuarantineRegister
from crdtmed.aggregates.content import ContentError, decode_content
from crdtmed.clock import Stamp, milliseconds
from crdtmed.contract import KINDS, Kind
from crdtmed.ids import split_ref
from crdtmed.reasons import code_of
from crdtmed.statement import BadStatement, decode
from crdtmed.verdict import decode_verdict
from relay.batch import stored_verdict
from relay.identity import rows
from relay.operator.office import Office
from relay.operator.people import Report
from relay.operator.standing import standing_registers


@dataclass(frozen=True, slots=True)
class Asked:
    """What an audit is narrowed to; None does not narrow.  Times are milliseconds."""

    patient: str | None = None
    device: str | None = None
    user: str | None = None
    since: int | None = None
    until: int | None = None


def conflicts(office: Office, every: bool = False) -> list[Report]:
    """Conflicts that wait for a person, oldest first; ``every`` gives the resolved ones too."""
    found = [
        {
            "ref": value.ref,
            "document": document,
            "reason": code_of(value.reason),
            "actions": [str(action) for action in value.actions],
            "handed_over": value.handed_over,
            "received_at": value.received_at,
            "resolved_by": value.resolved_by,
        }
        for document, value in standing_registers(office.record, "conflict")
        if isinstance(value, ConflictRegister) and (every or value.open)
    ]
    return sorted(found, key=lambda it: (it["received_at"], it["ref"], it["document"]))


def quarantine(office: Office) -> list[Report]:
    """What came in the name of revoked devices, by device and in the order of arrival."""
    found = []
    open_refs = {
        value.ref
        for _, value in standing_registers(office.record, "quarantine")
        if isinstance(value, QuarantineRegister) and value.open
    }
    for row in rows.devices(office.record.connection):
        for ref, data, received_at in office.record.quarantine_of(row.device):
            try:
                said = decode(data).statement
                about = {"kind": said.kind.label, "document": said.document, "user": said.user}
            except BadStatement:
                about = {"kind": "unreadable", "document": "", "user": ""}
            found.append(
                {"ref": ref, "device": row.device, "received_at": received_at, "open": ref in open_refs, **about}
            )
    return found


def alarms(office: Office) -> list[Report]:
    """What the relay noticed that somebody should look into."""
    return [
        {"number": number, "at": at, "kind": kind, "device": device, "says": says}
        for number, at, kind, device, says in office.record.alarms()
    ]


def audit(office: Office, asked: Asked) -> Iterator[Report]:
    """Who said what about whom, when it was received and what the verdict was; never what the content was."""
    for row in office.record.statements():
        said = decode(row.encoded).statement
        device, _ = split_ref(said.ref)
        patient = _patient(said.document, said.kind, bytes(said.content))
        if (
            (asked.patient is not None and patient != asked.patient)
            or (asked.device is not None and device != asked.device)
            or (asked.user is not None and said.user != asked.user)
            or (asked.since is not None and row.received_at < asked.since)
            or (asked.until is not None and row.received_at > asked.until)
        ):
            continue
        verdict = decode_verdict(stored_verdict(office.record, row))
        yield {
            "ref": said.ref,
            "user": said.user,
            "device": device,
            "kind": said.kind.label,
            "aggregate": _aggregate(said.kind),
            "document": said.document,
            "patient": patient,
            "number": said.number,
            "said_at": milliseconds(Stamp(said.stamp)),
            "received_at": row.received_at,
            "verdict": verdict.status.value,
            "reason": verdict.code,
            "flags": [str(flag) for flag in verdict.flags],
        }


def _patient(document: str, kind: Kind, content: bytes) -> str | None:
    """Whom a statement is about: its document says, or, of a dispense, its content."""
    scope, _, rest = document.partition("/")
    if scope == "patient":
        return rest.partition("/")[0]
    try:
        found = decode_content(kind, content)
    except ContentError:
        return None
    return getattr(found, "patient", None)


def _aggregate(kind: Kind) -> str:
    aggregate = KINDS[kind].aggregate
    return aggregate.value if aggregate is not None else ""
