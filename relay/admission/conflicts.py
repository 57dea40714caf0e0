"""From a reason to a decision: what is told again later, what is refused, what is kept in conflict, and where."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from msgspec import structs

from crdtmed.aggregates.conflict import ConflictRegister, QuarantineRegister, Resolve
from crdtmed.aggregates.content import Content, ContentError, embedded
from crdtmed.aggregates.dispensing_event import Dispense, QueueEntry
from crdtmed.aggregates.prescription import PrescriptionRegister, PrescriptionStatus
from crdtmed.contract import Kind
from crdtmed.reasons import RETRIES, Awaits, KeyReused, Reason, code_of
from crdtmed.verdict import Status
from relay.admission import claim
from relay.admission.effects import Alarm, Awaiting, Decision, Effect, Note, Put, Withdraw, also
from relay.admission.facts import FactsPort, Submission
from relay.admission.room import listed

IN_FORCE: Final = (PrescriptionStatus.ACTIVE, PrescriptionStatus.ON_HOLD)
"""The statuses in which a prescription stands in its site's queue while something is left to dispense."""


def turned_down(port: FactsPort, submission: Submission, reason: Reason) -> Decision:
    """What becomes of a statement that ``reason`` applies to.

    A retry is told again; a fact is always a conflict; an intention is a conflict where somebody can choose what to do
    about it, else it is refused.  A resolution that is none of a fact is refused: what it was about is still open, or
    resolved by somebody else.
    """
    code, signed, content = code_of(reason), submission.signed, submission.content
    if code in RETRIES:
        return Decision(Status.RETRY, reason, effects=tuple(_waiting(port, submission, reason)))
    actions = claim.actions(code, signed, content)
    vain = signed.statement.kind is Kind.RESOLVE and not isinstance(reason, KeyReused)
    if not claim.is_fact(signed, content) and (vain or not actions):
        return Decision(Status.REFUSED, reason)
    standing = _standing(port, submission)
    if standing is not None:
        return Decision(Status.CONFLICT, reason, standing.actions, claim.flags(submission))
    register = _register(submission, reason)
    effects = (*_kept(port, submission, register), *_requeued(port, submission))
    return Decision(Status.CONFLICT, reason, actions, claim.flags(submission), effects)


def _waiting(port: FactsPort, submission: Submission, reason: Reason) -> Iterable[Effect]:
    ref = submission.ref
    if isinstance(reason, Awaits) and port.awaited_since(ref) is None:
        yield Awaiting(ref, submission.received_at)


def _standing(port: FactsPort, submission: Submission) -> ConflictRegister | None:
    """The open conflict that a resolution leaves open: what it tells of is in front of people already."""
    if not isinstance(submission.content, Resolve):
        return None
    try:
        inner = embedded(submission.content)
    except ContentError:
        return None
    found = conflict(port, inner.statement.document, inner.statement.ref)
    return found if found is not None and found.open and found.statement == inner.encoded else None


def conflict(port: FactsPort, target: str, ref: str) -> ConflictRegister | None:
    """The conflict of the statement ``ref`` to ``target``."""
    home = claim.home(target)
    found = port.register(home, f"conflict/{ref}") if home is not None else None
    return found if isinstance(found, ConflictRegister) else None


def _register(submission: Submission, reason: Reason) -> ConflictRegister:
    statement, content = submission.statement, submission.content
    out = claim.handed_over(submission.signed, content)
    patient = claim.scope_id(statement.document, "patient")
    _, said = claim.innermost(submission.signed, content)
    if out and isinstance(said, Dispense):
        patient = patient or said.patient
    return ConflictRegister(
        ref=statement.ref,
        kind=statement.kind,
        statement=submission.signed.encoded,
        reason=reason,
        actions=claim.actions(code_of(reason), submission.signed, content),
        handed_over=out,
        open=True,
        received_at=submission.received_at,
        patient=patient,
        site=claim.scope_id(statement.document, "site"),
    )


def _kept(port: FactsPort, submission: Submission, register: ConflictRegister) -> Iterable[Effect]:
    """Where a conflict is kept: in the site's document and the patient's, as far as it has them and they have room.

    A reused id may stand for a conflict already, which must not be overwritten: then the statement is kept as a note.
    """
    homes = _homes(register)
    if isinstance(register.reason, KeyReused) and any(_taken(port, home, register) for home in homes):
        yield Note("variant", f"{register.ref}/{sha256(register.statement).hexdigest()}", register.statement)
        homes = ()
    for home in homes:
        yield from listed(port, home, register, submission.statement.device)
    unknown = register.patient is not None and port.register(f"patient/{register.patient}", "patient") is None
    if unknown or not _homes(register):
        says = f"{register.kind.label} {register.ref} is in conflict ({code_of(register.reason)}) where nobody looks"
        yield Alarm("conflict_unseen", submission.statement.device, says)


def _taken(port: FactsPort, home: str, register: ConflictRegister) -> bool:
    found = port.register(home, f"conflict/{register.ref}")
    return isinstance(found, ConflictRegister) and found.statement != register.statement


def _homes(register: ConflictRegister) -> tuple[str, ...]:
    of = (("site", register.site), ("patient", register.patient))
    return tuple(f"{word}/{name}" for word, name in of if name is not None)


def closed(register: ConflictRegister, by: str) -> tuple[Effect, ...]:
    """The effects that close a conflict, resolved by the statement ``by``."""
    done = structs.replace(register, open=False, resolved_by=by)
    return tuple(Put(home, done) for home in _homes(register))


def _requeued(port: FactsPort, submission: Submission) -> tuple[Effect, ...]:
    kind, said = claim.innermost(submission.signed, submission.content)
    site = claim.scope_id(submission.statement.document, "site")
    if kind is not Kind.DISPENSE or not isinstance(said, Dispense) or site is None:
        return ()
    register = prescription(port, said.patient, said.prescription)
    if register is None:
        return ()
    return queued(port, register, Requeue(site, submission.received_at, add=submission.ref))


def prescription(port: FactsPort, patient: str, name: str) -> PrescriptionRegister | None:
    """The signed prescription of that id and patient."""
    found = port.register(f"patient/{patient}", f"prescription/{name}")
    return found if isinstance(found, PrescriptionRegister) else None


@dataclass(frozen=True, slots=True)
class Requeue:
    """A change of the dispenses of a prescription that are in open conflict, said at ``site``."""

    site: str
    at: int
    add: str | None = None
    drop: frozenset[str] = frozenset()


def queued(port: FactsPort, register: PrescriptionRegister, change: Requeue) -> tuple[Effect, ...]:
    """The queue entry of a prescription as it has to be once its register is ``register``.

    It stands in the queue of its site while something is left to dispense, or a dispense of it there waits for a
    decision.  Another site has its conflict registers, and no entry.
    """
    home, key = f"site/{register.site}", f"queue/{register.id}"
    found = port.register(home, key)
    entry = found if isinstance(found, QueueEntry) and found.patient == register.patient else None
    requeued = [ref for ref in (entry.requeued if entry else ()) if ref not in change.drop]
    if change.add is not None and change.site == register.site and change.add not in requeued:
        requeued.append(change.add)
    left = register.status in IN_FORCE and register.dispensed < register.authorised
    if not left and not requeued:
        return (Withdraw(home, key),) if entry is not None else ()
    wanted = QueueEntry(
        prescription=register.id,
        patient=register.patient,
        item=register.groups.medication.code,
        display=register.groups.medication.display,
        authorised=register.authorised,
        unit=register.unit,
        since_at=entry.since_at if entry is not None else change.at,
        dispensed=register.dispensed,
        requeued=tuple(requeued),
    )
    return (Put(home, wanted),) if wanted != entry else ()


def with_reentry(port: FactsPort, submission: Submission, decision: Decision) -> Decision:
    """``decision`` by the rules of a kind, with the quarantine closed of what the statement enters again.

    A conflict closes it too: what was quarantined is in front of people now.  Refused or told to come again, it is not.
    """
    if decision.status not in (Status.ACCEPTED, Status.CONFLICT):
        return decision
    effects = reentered(port, submission.statement.document, submission.content, submission.ref)
    return also(decision, *effects) if effects else decision


def reentered(port: FactsPort, target: str, content: Content | ContentError, by: str) -> tuple[Effect, ...]:
    """The effects that close the quarantine of what a content to ``target`` enters again, by the statement ``by``."""
    again = claim.reenters(content)
    home = None if again is None else claim.home(target)
    found = None if home is None else port.register(home, f"quarantine/{again}")
    if home is None or not isinstance(found, QuarantineRegister) or not found.open:
        return ()
    return (Put(home, structs.replace(found, open=False, reentered_by=by)),)
