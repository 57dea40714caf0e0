"""The way in: one statement, judged once.  Gates first, then the rules of its kind."""

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import structs

from crdtmed.aggregates.patient import PatientRegister
from crdtmed.aggregates.prescription import Amend, PrescriptionRegister, Resume
from crdtmed.aggregates.prescription import PrescriptionStatus as Standing
from crdtmed.contract import Kind
from crdtmed.reasons import KeyReused
from crdtmed.verdict import Flag, Status
from relay.admission import claim
from relay.admission.administrations import administer, correct
from relay.admission.conflicts import turned_down
from relay.admission.dispensing import dispense, medicine, standing
from relay.admission.drafts import write
from relay.admission.effects import Alarm, Decision, accept, also
from relay.admission.facts import FactsPort, KnowledgeQuestion, Submission
from relay.admission.gates import GATES_OF, first_reason
from relay.admission.overrides import override
from relay.admission.prescriptions import request, stop_or_hold, unmet
from relay.admission.reconciliation import complete, open_session, record
from relay.admission.resolutions import resolve
from relay.admission.signing import RULES, checked, sign_or_resume
from relay.admission.stock import adjust, receive


def _break_glass(port: FactsPort, submission: Submission) -> Decision:
    statement = submission.statement
    says = f"{claim.user(submission)} stretched the lease of {statement.device}, statement {statement.ref}"
    return accept(Alarm("break_glass", statement.device, says))


JUDGE: Final[Mapping[Kind, Callable[[FactsPort, Submission], Decision]]] = {
    Kind.DRAFT_WRITE: write,
    Kind.SIGN: sign_or_resume,
    Kind.STOP: stop_or_hold,
    Kind.HOLD: stop_or_hold,
    Kind.RESUME: sign_or_resume,
    Kind.AMEND: sign_or_resume,
    Kind.DISPENSE: dispense,
    Kind.RECEIPT: receive,
    Kind.ADJUST: adjust,
    Kind.ADMINISTER: administer,
    Kind.CORRECT: correct,
    Kind.OVERRIDE: override,
    Kind.RECONCILIATION_OPEN: open_session,
    Kind.RECONCILIATION_RECORD: record,
    Kind.RECONCILIATION_COMPLETE: complete,
    Kind.RESOLVE: resolve,
    Kind.BREAK_GLASS: _break_glass,
}
"""Who judges a kind once the gates have let it through; every kind has one."""


def admit(port: FactsPort, submission: Submission) -> Decision:
    """Judges a statement that the relay has not judged before; its signature is verified already.

    What is the same as a statement on record (`crdtmed.statement.same`) gets the recorded verdict word for word and
    never comes here; something else under a recorded reference is ``key_reused``.

    The decision depends on nothing but the statement, what came with it and what ``port`` answers.
    """
    stored = port.statement(submission.ref)
    if stored is not None:
        decision = turned_down(port, submission, KeyReused(stored.signed.encoded))
    else:
        reason = first_reason(GATES_OF[submission.statement.kind], port, submission)
        if reason is not None:
            decision = turned_down(port, submission, reason)
        else:
            decision = JUDGE[submission.statement.kind](port, submission)
            if decision.status is Status.ACCEPTED and (flags := claim.flags(submission)):
                decision = structs.replace(decision, flags=(*flags, *decision.flags))
    return _alarmed(port, submission, decision)


def _alarmed(port: FactsPort, submission: Submission, decision: Decision) -> Decision:
    """The same number on two statements means that the device, or its store, exists twice.

    That is told once, with the verdict that stays: what is to come again may do so a thousand times before.
    """
    if decision.status is Status.RETRY:
        return decision
    statement = submission.statement
    holder = port.number_holder(statement.device, statement.number)
    if holder is None or holder == statement.ref:
        return decision
    says = f"number {statement.number} of {statement.device} is that of {holder} and of {statement.ref}"
    flagged = structs.replace(decision, flags=(*decision.flags, Flag.NUMBER_REUSED))
    return also(flagged, Alarm("number_reused", statement.device, says))


def question(port: FactsPort, submission: Submission) -> KnowledgeQuestion | None:
    """What to ask the knowledge base before the transaction opens; None where it has no say.

    That is so for other kinds than sign, amend and resume, and where something else stands in the way already.
    """
    if submission.statement.kind not in (Kind.SIGN, Kind.AMEND, Kind.RESUME):
        return None
    gates = GATES_OF[submission.statement.kind]
    if port.statement(submission.ref) is not None or first_reason(gates, port, submission) is not None:
        return None
    it = request(port, submission)
    home = f"patient/{it.patient}"
    register = port.register(home, "patient")
    if unmet(RULES[type(it.said)], port, it) is not None or not isinstance(register, PatientRegister):
        return None
    name, digest, order = checked(it)
    aside = it.prior.id if it.prior is not None and isinstance(it.said, Amend | Resume) else None
    active = tuple(
        beside
        for each in port.registers(home, "prescription")
        if isinstance(each, PrescriptionRegister)
        and each.id != aside
        and (beside := _beside(each, submission.received_at)) is not None
    )
    codes = {order.medication.code, *(each.groups.medication.code for each in active)}
    found = {code: medicine(port, code) for code in sorted(codes)}
    medicines = {code: item for code, item in found.items() if item is not None}
    return KnowledgeQuestion(register, port.position(home), name, digest, order, active, medicines)


def _beside(register: PrescriptionRegister, at: int) -> PrescriptionRegister | None:
    """A prescription as the knowledge base is told of it beside another; None where it is not in force.

    On hold with an end counts: nobody asks again when the end comes.
    """
    now = standing(register, at)
    if now is Standing.ON_HOLD:
        return register if register.hold_until_ms is not None else None
    return structs.replace(register, status=now) if now is Standing.ACTIVE else None
