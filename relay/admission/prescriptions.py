"""Requests to a signed prescription: who it is about, whether its status allows it, and what it becomes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from msgspec import structs

from crdtmed.aggregates.content import Content, ContentError
from crdtmed.aggregates.draft_view import DraftView, drafts_view
from crdtmed.aggregates.prescription import Amend, Hold, PrescriptionRegister, Resume, Sign, Stop, with_status
from crdtmed.aggregates.prescription import PrescriptionStatus as Standing
from crdtmed.reasons import PrescriptionStatus, PrescriptionUnknown, Reason, Superseded
from relay.admission import claim
from relay.admission.conflicts import Requeue, prescription, queued, turned_down
from relay.admission.dispensing import standing
from relay.admission.effects import Decision, Effect, Put, accept
from relay.admission.facts import FactsPort, Submission

ALLOWED: Final = {
    Stop: frozenset({Standing.ACTIVE, Standing.ON_HOLD}),
    Hold: frozenset({Standing.ACTIVE}),
    Resume: frozenset({Standing.ON_HOLD}),
    Amend: frozenset({Standing.ACTIVE, Standing.ON_HOLD}),
}
"""The statuses in which a prescription can be stopped, held, resumed, amended."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a patient, with the draft that it signs (``view``) and the prescription that it changes
    (``prior``), as far as the relay has them.

    ``at`` is when it was said, as its gates were judged; ``by`` the statement whose word it is.
    """

    patient: str
    said: Content
    by: str
    user: str
    seen: tuple[str, ...]
    at: int
    received_at: int
    view: DraftView | None
    prior: PrescriptionRegister | None


Rule = Callable[[FactsPort, Request], Reason | None]


def request(port: FactsPort, submission: Submission) -> Request:
    """The request with what it is about."""
    statement, said = submission.statement, submission.content
    assert not isinstance(said, ContentError), "the gates let nothing else through"
    patient = claim.scope_id(statement.document, "patient")
    assert patient is not None, "the gates let nothing else through"
    view = prior = None
    if isinstance(said, Sign | Amend):
        view = drafts_view(port.draft(patient, said.prescription)).views.get(said.prescription)
    name = changed_name(said)
    if name is not None:
        prior = prescription(port, patient, name)
    at, user = submission.judged_at, claim.user(submission)
    return Request(patient, said, statement.ref, user, statement.seen, at, submission.received_at, view, prior)


def changed_name(said: Content) -> str | None:
    """The signed prescription that a request wants to change."""
    match said:
        case Amend(prior=name) | Stop(prescription=name) | Hold(prescription=name) | Resume(prescription=name):
            return name
    return None


def prior_unknown(port: FactsPort, it: Request) -> Reason | None:
    """The patient has the prescription that is to be changed."""
    name = changed_name(it.said)
    return PrescriptionUnknown(name) if name is not None and it.prior is None else None


def prior_superseded(port: FactsPort, it: Request) -> Reason | None:
    """It was not amended meanwhile."""
    if it.prior is None or it.prior.status is not Standing.SUPERSEDED:
        return None
    return Superseded(it.prior.id, it.prior.successor or "")


def prior_status(port: FactsPort, it: Request) -> Reason | None:
    """Its status allows the change."""
    if it.prior is None:
        return None
    allowed = next(statuses for kind, statuses in ALLOWED.items() if isinstance(it.said, kind))
    now = standing(it.prior, it.received_at)
    return PrescriptionStatus(it.prior.id, now) if now not in allowed else None


PRIOR_RULES: Final[tuple[Rule, ...]] = (prior_unknown, prior_superseded, prior_status)
"""What every request that changes a signed prescription has to meet, in order."""


def unmet(rules: tuple[Rule, ...], port: FactsPort, it: Request) -> Reason | None:
    """The first reason why a request cannot be carried out."""
    return next((reason for rule in rules if (reason := rule(port, it)) is not None), None)


def becomes(
    port: FactsPort, it: Request, prior: PrescriptionRegister, status: Standing, why: str | None
) -> tuple[Effect, ...]:
    """``prior`` takes the status that the request asked for, and its place in the queue follows."""
    until = it.said.until_ms if isinstance(it.said, Hold) else None
    after = with_status(prior, status, it.by, it.at, why, hold_until_ms=until)
    if isinstance(it.said, Amend):
        after = structs.replace(after, successor=it.said.prescription)
    return (Put(f"patient/{it.patient}", after), *in_queue(port, it, after))


def in_queue(port: FactsPort, it: Request, register: PrescriptionRegister) -> tuple[Effect, ...]:
    """The place of a prescription in the queue of the site that dispenses it."""
    return queued(port, register, Requeue(register.site, it.received_at))


def stop_or_hold(port: FactsPort, submission: Submission) -> Decision:
    """Judges a stop or a hold, which never wait for the knowledge base."""
    it = request(port, submission)
    reason = unmet(PRIOR_RULES, port, it)
    if reason is not None:
        return turned_down(port, submission, reason)
    return accept(*stopped_or_held(port, it))


def stopped_or_held(port: FactsPort, it: Request) -> tuple[Effect, ...]:
    """The effects of a stop or hold that meets `PRIOR_RULES`."""
    assert isinstance(it.said, Stop | Hold), "no other request comes here"
    assert it.prior is not None, "the rules let nothing else through"
    status = Standing.STOPPED if isinstance(it.said, Stop) else Standing.ON_HOLD
    return becomes(port, it, it.prior, status, it.said.reason)
