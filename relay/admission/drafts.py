"""Draft writes: admitted while the draft is open; what they mean together is for the merge."""

from crdtmed.aggregates.prescription_draft import DraftWrite
from crdtmed.reasons import DraftClosed, Reason
from relay.admission import claim
from relay.admission.conflicts import prescription, turned_down
from relay.admission.effects import Decision, accept
from relay.admission.facts import FactsPort, Submission


def draft_closed(port: FactsPort, patient: str, name: str) -> Reason | None:
    """The draft was not signed meanwhile."""
    return DraftClosed(name) if prescription(port, patient, name) is not None else None


def write(port: FactsPort, submission: Submission) -> Decision:
    """Judges one write of one group of a draft."""
    said, patient = submission.content, claim.scope_id(submission.statement.document, "patient")
    assert isinstance(said, DraftWrite), "the gates let nothing else through"
    assert patient is not None, "the gates let nothing else through"
    reason = draft_closed(port, patient, said.prescription)
    return turned_down(port, submission, reason) if reason is not None else accept()
