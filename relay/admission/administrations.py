"""Administrations and corrections: never refused for clinical state, since they tell what happened."""

from collections.abc import Iterable
from typing import Final

from crdtmed.aggregates.medication_administration import Administer, Correct, OfPrescription
from crdtmed.contract import Kind
from crdtmed.reasons import ContentInvalid, Reason
from crdtmed.verdict import Flag, Status
from relay.admission import claim
from relay.admission.conflicts import prescription, turned_down, with_reentry
from relay.admission.effects import Decision
from relay.admission.facts import FactsPort, Submission

CORRECTABLE: Final = frozenset({Kind.ADMINISTER, Kind.CORRECT})
"""What a correction may name, itself or through the resolution that stands for it."""


def flags(port: FactsPort, patient: str, said: Administer) -> Iterable[Flag]:
    """What stands beside an administration: that nobody had signed an order for it."""
    subject = said.subject
    if not isinstance(subject, OfPrescription) or prescription(port, patient, subject.prescription) is None:
        yield Flag.NO_SIGNED_ORDER


def administer(port: FactsPort, submission: Submission) -> Decision:
    """Admits an administration, marked where no signed order stands behind it."""
    said = submission.content
    assert isinstance(said, Administer), "the gates let nothing else through"
    return with_reentry(port, submission, _marked(port, submission, said))


def correct(port: FactsPort, submission: Submission) -> Decision:
    """Admits a correction of an entry of the same patient's log."""
    said = submission.content
    assert isinstance(said, Correct), "the gates let nothing else through"
    reason = corrects_nothing(port, submission.statement.document, said)
    if reason is not None:
        return with_reentry(port, submission, turned_down(port, submission, reason))
    return with_reentry(port, submission, _marked(port, submission, said.administration))


def corrects_nothing(port: FactsPort, log: str, said: Correct) -> Reason | None:
    """What a correction names is an administration or a correction in this log."""
    stored = port.statement(said.corrects)
    if stored is not None and stored.signed.statement.document == log:
        kind, _ = claim.innermost(stored.signed, claim.readable(stored.signed))
        if kind in CORRECTABLE:
            return None
    return ContentInvalid("corrects", "names no administration of this patient; name the entry that is wrong")


def _marked(port: FactsPort, submission: Submission, said: Administer | None) -> Decision:
    patient = claim.scope_id(submission.statement.document, "patient")
    assert patient is not None, "the gates let nothing else through"
    marks = tuple(flags(port, patient, said)) if said is not None else ()
    return Decision(Status.ACCEPTED, flags=marks)
