"""Resolutions: what a person chose to do about a statement in conflict.

A resolution is an entry of its own.  The statement that it embeds keeps its verdict for ever; what counts of it counts
through the resolution, under the resolution's reference.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from msgspec import structs

from crdtmed import documents
from crdtmed.aggregates.conflict import Action, ConflictRegister, Resolve
from crdtmed.aggregates.content import Content, embedded
from crdtmed.aggregates.dispensing_event import Dispense
from crdtmed.aggregates.medication_administration import Correct
from crdtmed.aggregates.prescription import Hold, PrescriptionRegister, Stop
from crdtmed.aggregates.prescription import PrescriptionStatus as Standing
from crdtmed.aggregates.stock_item import MovementType, Receipt
from crdtmed.contract import KINDS
from crdtmed.reasons import (
    ActionNotOffered,
    AlreadyResolved,
    ConflictUnknown,
    ContentInvalid,
    Reason,
    ReferenceUnknown,
    WrongDocument,
)
from crdtmed.statement import SignedStatement
from relay.admission import claim
from relay.admission.administrations import corrects_nothing
from relay.admission.conflicts import Requeue, closed, conflict, prescription, queued, reentered, turned_down
from relay.admission.dispensing import Wanted, counted, look_up, medicine, out_of_stock, short_of, too_many
from relay.admission.effects import Decision, Effect, accept
from relay.admission.facts import FactsPort, Submission
from relay.admission.prescriptions import PRIOR_RULES, Request, stopped_or_held, unmet
from relay.admission.stock import Received, booked, uncountable


@dataclass(frozen=True, slots=True)
class Resolving:
    """A resolution and what it is about.

    ``changes`` are the resolutions of the chain, this one first; ``register`` is the conflict.  ``bottom`` is the
    statement at the end of the chain, ``said`` its content with their lots and quantities applied to it, the outermost
    last.  ``settles`` are the conflicts of the chain that are open and are closed together.
    """

    by: str
    user: str
    target: str
    at: int
    received_at: int
    resolve: Resolve
    changes: tuple[Resolve, ...]
    register: ConflictRegister
    bottom: SignedStatement
    said: Content | None
    settles: tuple[ConflictRegister, ...]


Outcome = Reason | tuple[Effect, ...]
Carry = Callable[[FactsPort, Resolving], Outcome]


def resolve(port: FactsPort, submission: Submission) -> Decision:
    """Judges a resolution; one that cannot be carried out leaves the conflict open."""
    content = submission.content
    assert isinstance(content, Resolve), "the gates let nothing else through"
    inner = embedded(content)
    register = conflict(port, inner.statement.document, inner.statement.ref)
    if register is None or register.statement != inner.encoded:
        return turned_down(port, submission, ConflictUnknown(inner.statement.ref))
    if not register.open:
        return turned_down(port, submission, AlreadyResolved(register.resolved_by or register.ref))
    it = _resolving(port, submission, content, register)
    if content.action not in register.actions or _lacks(port, it):
        return turned_down(port, submission, ActionNotOffered(content.action, register.actions))
    outcome = _carried(port, it)
    if not isinstance(outcome, tuple):
        return turned_down(port, submission, outcome)
    return accept(*outcome, *(effect for each in it.settles for effect in closed(each, it.by)))


def _carried(port: FactsPort, it: Resolving) -> Outcome:
    """What the resolution does; what was said in a wrong document cannot count from there, and can only be closed."""
    carry, bottom = _deed(it.changes), it.bottom.statement
    if carry is close:
        return close(port, it)
    if not documents.carries(bottom.kind, bottom.document):
        return WrongDocument(bottom.document, KINDS[bottom.kind].carrier.value)
    outcome = carry(port, it)
    if not isinstance(outcome, tuple) or it.said is None:
        return outcome
    return (*outcome, *reentered(port, bottom.document, it.said, it.by))


def _deed(changes: tuple[Resolve, ...]) -> Carry:
    """What a chain of resolutions, the outermost first, comes to.

    To try a resolution again, or to confirm it, is to do what it says; confirmed, its dispense counts as given.
    """
    confirmed = False
    for change in changes:
        if change.action in CONFIRMS:
            confirmed = True
        elif change.action is not Action.TRY_AGAIN:
            carry = CARRY[change.action]
            return confirm if confirmed and carry is judge_again else carry
    return confirm if confirmed else judge_again


def _resolving(port: FactsPort, submission: Submission, content: Resolve, register: ConflictRegister) -> Resolving:
    bottom = submission.signed
    said: Content | None = None
    changes: list[Resolve] = []
    settles: list[ConflictRegister] = []
    for signed, each in claim.chain(submission.signed, content):
        found = conflict(port, signed.statement.document, signed.statement.ref)
        if found is not None and found.open and found.statement == signed.encoded:
            settles.append(found)
        if isinstance(each, Resolve):
            changes.append(each)
        bottom, said = signed, each
    for change in reversed(changes):
        said = _applied(change, said)
    return Resolving(
        by=submission.ref,
        user=claim.user(submission),
        target=submission.statement.document,
        at=submission.judged_at,
        received_at=submission.received_at,
        resolve=content,
        changes=tuple(changes),
        register=register,
        bottom=bottom,
        said=said,
        settles=tuple(settles),
    )


def _applied(change: Resolve, said: Content | None) -> Content | None:
    """A dispense with the lot and quantity that a resolution gives it."""
    if not isinstance(said, Dispense):
        return said
    lot = change.lot if change.lot is not None else said.lot
    quantity = change.quantity if change.quantity is not None else said.quantity
    return structs.replace(said, lot=lot, quantity=quantity)


def _lacks(port: FactsPort, it: Resolving) -> bool:
    """Whether the action needs more than the resolution says, or says what the action has no use for.

    A part is less than the whole.  What was given in another unit has to be told in the counting unit.
    """
    original = claim.readable(it.bottom)
    if not isinstance(original, Dispense):
        return it.resolve.lot is not None or it.resolve.quantity is not None
    quantity = it.resolve.quantity
    match it.resolve.action:
        case Action.DISPENSE_PART:
            return quantity is None or quantity >= original.quantity
        case Action.SWITCH_LOT:
            return quantity is not None and quantity > original.quantity
        case Action.CONFIRM_AS_GIVEN | Action.CONFIRM_AS_SEPARATE | Action.LOST:
            item = medicine(port, original.item)
            return quantity is None and item is not None and item.counting_unit != original.unit
    return False


def _wanted(it: Resolving, said: Dispense) -> Wanted:
    site = claim.scope_id(it.target, "site") or ""
    return Wanted(site, said, it.by, it.received_at, frozenset(each.ref for each in it.settles))


def _requeue(port: FactsPort, it: Resolving) -> tuple[Effect, ...]:
    """Takes the conflicts that are settled out of the queue, where nothing is dispensed."""
    if not isinstance(it.said, Dispense):
        return ()
    register = prescription(port, it.said.patient, it.said.prescription)
    if register is None:
        return ()
    wanted = _wanted(it, it.said)
    return queued(port, register, Requeue(wanted.site, it.received_at, drop=wanted.settles))


def close(port: FactsPort, it: Resolving) -> Outcome:
    """Nothing is counted: it was cancelled, discarded, came back, was said in error, or is done anew elsewhere."""
    return _requeue(port, it)


def lost(port: FactsPort, it: Resolving) -> Outcome:
    """It left the pharmacy and never reached the patient: out of stock, and not dispensed."""
    if not isinstance(it.said, Dispense):
        return close(port, it)
    wanted = _wanted(it, it.said)
    held = look_up(port, wanted)
    reason = too_many(wanted, held)
    if reason is not None:
        return reason
    return (*out_of_stock(wanted, held, MovementType.ADJUSTMENT), *_requeue(port, it))


def judge_again(port: FactsPort, it: Resolving) -> Outcome:
    """Tries the statement once more, as the resolution changes it, by all the rules of its kind."""
    match it.said:
        case Dispense():
            wanted = _wanted(it, it.said)
            held = look_up(port, wanted)
            return short_of(port, wanted, held) or counted(port, wanted, held)
        case Receipt():
            received = Received(claim.scope_id(it.target, "site") or "", it.said, it.by)
            return uncountable(port, received) or booked(port, received)
        case Correct():
            if port.statement(it.said.corrects) is None:
                return ReferenceUnknown(it.said.corrects)
            return corrects_nothing(port, it.target, it.said) or ()
    return ()


def confirm(port: FactsPort, it: Resolving) -> Outcome:
    """It happened, and it is counted, whether or not the books agree."""
    match it.said:
        case Dispense():
            wanted = _wanted(it, it.said)
            held = look_up(port, wanted)
            return too_many(wanted, held) or counted(port, wanted, held)
        case Receipt():
            received = Received(claim.scope_id(it.target, "site") or "", it.said, it.by, separate=True)
            return uncountable(port, received) or booked(port, received)
    return judge_again(port, it)


def stop_successor(port: FactsPort, it: Resolving) -> Outcome:
    """The stop or hold is carried out on the prescription that stands in the place of the one that was amended."""
    patient = claim.scope_id(it.target, "patient") or ""
    if not isinstance(it.said, Stop | Hold):
        return ContentInvalid("action", "stops nothing here")
    last = _successor(port, patient, it.said.prescription)
    name = last.id if last is not None else it.said.prescription
    said = structs.replace(it.said, prescription=name)
    wanted = Request(patient, said, it.by, it.user, (), it.at, it.received_at, None, last)
    return unmet(PRIOR_RULES, port, wanted) or stopped_or_held(port, wanted)


def _successor(port: FactsPort, patient: str, name: str) -> PrescriptionRegister | None:
    visited: set[str] = set()
    register = prescription(port, patient, name)
    while register is not None and register.status is Standing.SUPERSEDED and register.successor:
        if register.id in visited:
            return register
        visited.add(register.id)
        register = prescription(port, patient, register.successor)
    return register


CARRY: Final[Mapping[Action, Carry]] = {
    Action.SWITCH_LOT: judge_again,
    Action.DISPENSE_PART: judge_again,
    Action.TRY_AGAIN: judge_again,
    Action.CONFIRM_AS_GIVEN: confirm,
    Action.CONFIRM_AS_SEPARATE: confirm,
    Action.LOST: lost,
    Action.RETURNED: close,
    Action.CANCEL: close,
    Action.DISCARD: close,
    Action.DISCARD_AS_DUPLICATE: close,
    Action.ENTERED_IN_ERROR: close,
    Action.REDO: close,
    Action.START_AMENDMENT: close,
    Action.RESTART_SESSION: close,
    Action.STOP_SUCCESSOR: stop_successor,
}
"""What each action does; every action has one."""

CONFIRMS: Final = frozenset({Action.CONFIRM_AS_GIVEN, Action.CONFIRM_AS_SEPARATE})
"""A person's word that it happened."""
