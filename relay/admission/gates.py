"""The gates: what every statement has to pass before the rules of its own kind are asked.

One rule a function, in the order of `crdtmed.reasons.REASONS`; the first that applies is the one that is told.  Who may
say what, and what needs the relay, comes from `crdtmed.contract`.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from crdtmed import documents
from crdtmed.aggregates.conflict import QuarantineRegister, Resolve
from crdtmed.aggregates.content import ContentError, embedded
from crdtmed.aggregates.medication_administration import Administer, Correct
from crdtmed.aggregates.patient import PatientRegister
from crdtmed.aggregates.prescription import Hold, PrescriptionRegister, PrescriptionStatus, Stop
from crdtmed.contract import KINDS, Carrier, Kind, Nature, needs_challenge
from crdtmed.limits import AWAITS_MS, KEPT_PLACES, MAX_LONG_TEXT_CHARS, MAX_SHORT_TEXT_CHARS
from crdtmed.reasons import (
    AlreadyReentered,
    Awaits,
    ChallengeSpent,
    ContentInvalid,
    GrantNotInForce,
    GrantUnknown,
    NeedsChallenge,
    PatientNotInCare,
    Reason,
    Redo,
    ReferenceUnknown,
    Restamp,
    RoleMissing,
    SiteNotGranted,
    UserWithdrawn,
    WrongDocument,
)
from crdtmed.signed import Grant
from relay.admission import claim
from relay.admission.conflicts import prescription
from relay.admission.facts import ChallengeState, FactsPort, Submission

Rule = Callable[[FactsPort, Submission], Reason | None]


def wrong_document(port: FactsPort, submission: Submission) -> Reason | None:
    """The kind belongs to its target, the target to the document it was pushed in, a resolution to the log of what it
    resolves."""
    statement, content, pushed = submission.statement, submission.content, submission.document
    if not _belongs(statement.kind, statement.document, pushed):
        return WrongDocument(pushed or statement.document, KINDS[statement.kind].carrier.value)
    if isinstance(content, Resolve):
        expected = _log_of_embedded(content)
        if expected not in ("", statement.document):
            return WrongDocument(pushed or statement.document, expected)
    return None


@lru_cache(maxsize=KEPT_PLACES)
def _belongs(kind: Kind, target: str, pushed: str | None) -> bool:
    if not documents.carries(kind, target) or documents.is_request(kind) != (pushed is None):
        return False
    try:
        return pushed is None or documents.parse(pushed).target == target
    except documents.BadName:
        return False


def _log_of_embedded(content: Resolve) -> str:
    try:
        return f"{claim.scope(embedded(content).statement.document)}/log"
    except ContentError:
        return ""


def content_invalid(port: FactsPort, submission: Submission) -> Reason | None:
    """The content is what its kind needs, does not name itself, and enters again what was quarantined as its kind."""
    content, statement = submission.content, submission.statement
    if isinstance(content, ContentError):
        return _invalid(content.field, content.says)
    if isinstance(content, Resolve):
        try:
            embedded(content)
        except ContentError as error:
            return _invalid(error.field, error.says)
    if statement.ref in claim.waits_for(submission):
        return _invalid("", "names this very statement as one that came before it; name another, or none")
    again = claim.reenters(content)
    held = _quarantined(port, submission, again) if again is not None else None
    if held is None:
        if again is not None and port.statement(again) is not None:
            return _invalid("reenters", f"names {again}, which was not quarantined; leave it out")
        return None
    if held.kind is not statement.kind:
        return _invalid("reenters", f"names a {held.kind.label}, this is a {statement.kind.label}; enter it as that")
    return None


def _invalid(field: str, says: str) -> ContentInvalid:
    return ContentInvalid(field[:MAX_SHORT_TEXT_CHARS], says[:MAX_LONG_TEXT_CHARS])


def _quarantined(port: FactsPort, submission: Submission, ref: str) -> QuarantineRegister | None:
    home = claim.home(submission.statement.document)
    found = port.register(home, f"quarantine/{ref}") if home is not None else None
    return found if isinstance(found, QuarantineRegister) else None


def _grant(port: FactsPort, submission: Submission) -> Grant | None:
    return port.grant(submission.statement.grant, submission.statement.device)


def grant_unknown(port: FactsPort, submission: Submission) -> Reason | None:
    """The grant was issued to the author's device."""
    return None if _grant(port, submission) is not None else GrantUnknown(submission.statement.grant)


def user_withdrawn(port: FactsPort, submission: Submission) -> Reason | None:
    """The relay first heard of it before the user was withdrawn, whatever time it claims."""
    name = claim.user(submission)
    at = port.user_withdrawn_at(name)
    if at is None:
        return None
    first = port.awaited_since(submission.ref)
    heard = submission.received_at if first is None else first
    return UserWithdrawn(name, at) if at <= heard else None


def grant_not_in_force(port: FactsPort, submission: Submission) -> Reason | None:
    """The grant was in force as of the stamp, or of the arrival where the stamp is ahead."""
    grant, at = _grant(port, submission), submission.judged_at
    if grant is None or grant.not_before <= at <= grant.not_after:
        return None
    return GrantNotInForce(grant.not_before, grant.not_after, at)


def role_missing(port: FactsPort, submission: Submission) -> Reason | None:
    """The grant holds a role that may say this."""
    grant, needed = _grant(port, submission), claim.roles(submission.signed, submission.content)
    return RoleMissing(tuple(sorted(needed))) if grant is not None and needed.isdisjoint(grant.roles) else None


def site_not_granted(port: FactsPort, submission: Submission) -> Reason | None:
    """The grant covers the site whose log this is, and the site where it says that it happened."""
    grant = _grant(port, submission)
    if grant is None:
        return None
    outside = (site for site in _sites(submission) if site not in grant.sites)
    site = next(outside, None)
    return SiteNotGranted(site) if site is not None else None


def _sites(submission: Submission) -> Iterable[str]:
    site = claim.scope_id(submission.statement.document, "site")
    if site is not None:
        yield site
    match submission.content:
        case Administer(site=where) | Correct(administration=Administer(site=where)):
            yield where


def patient_not_in_care(port: FactsPort, submission: Submission) -> Reason | None:
    """The patient whose document this is, is in the care of one of the grant's sites."""
    grant = _grant(port, submission)
    patient = claim.scope_id(submission.statement.document, "patient")
    if grant is None or patient is None or in_care(port, grant, patient):
        return None
    return PatientNotInCare(patient)


def in_care(port: FactsPort, grant: Grant, patient: str) -> bool:
    """Whether staff of the grant's sites may open the patient.

    So they may at the patient's care sites, and at a site whose dispensing queue has a prescription of the patient.
    """
    document = f"patient/{patient}"
    register = port.register(document, "patient")
    if not isinstance(register, PatientRegister):
        return False
    if not set(register.care_sites).isdisjoint(grant.sites):
        return True
    return any(
        isinstance(each, PrescriptionRegister)
        and each.status in (PrescriptionStatus.ACTIVE, PrescriptionStatus.ON_HOLD)
        and each.site in grant.sites
        for each in port.registers(document, "prescription")
    )


def needs_the_relay(port: FactsPort, submission: Submission) -> Reason | None:
    """What needs the relay carries a challenge.  What a restored relay is handed back cannot: see `redo`."""
    wanted = needs_challenge(submission.statement.kind) and not submission.handed_back
    return NeedsChallenge() if wanted and submission.challenge is ChallengeState.ABSENT else None


def challenge_spent(port: FactsPort, submission: Submission) -> Reason | None:
    """The challenge is one of this connection, fresh, and used once."""
    wanted = needs_challenge(submission.statement.kind) and not submission.handed_back
    return ChallengeSpent() if wanted and submission.challenge is ChallengeState.SPENT else None


def restamp(port: FactsPort, submission: Submission) -> Reason | None:
    """An intention whose stamp is ahead is signed again with corrected time; a fact is admitted and marked."""
    if not submission.ahead or claim.is_fact(submission.signed, submission.content):
        return None
    return Restamp(submission.received_at)


def awaits(port: FactsPort, submission: Submission) -> Reason | None:
    """What it names has arrived and is judged; for a day there is hope."""
    missing = _missing(port, submission)
    return Awaits(missing) if missing is not None and not _given_up(port, submission) else None


def reference_unknown(port: FactsPort, submission: Submission) -> Reason | None:
    """What it names did not arrive within a day."""
    missing = _missing(port, submission)
    return ReferenceUnknown(missing) if missing is not None else None


def _missing(port: FactsPort, submission: Submission) -> str | None:
    names = claim.waits_for(submission)
    if not names:
        return None
    content, patient = submission.content, claim.scope_id(submission.statement.document, "patient")
    if isinstance(content, Stop | Hold) and patient is not None and prescription(port, patient, content.prescription):
        return None  # a stop waits for the sign of its own prescription alone, and that is there
    for ref in names:
        if port.statement(ref) is None and _quarantined(port, submission, ref) is None:
            return ref
    return None


def _given_up(port: FactsPort, submission: Submission) -> bool:
    since = port.awaited_since(submission.ref)
    return since is not None and submission.received_at - since >= AWAITS_MS


def redo(port: FactsPort, submission: Submission) -> Reason | None:
    """What needed the relay, and is handed back to one that was restored, is for its author to do again."""
    return Redo() if submission.handed_back and needs_challenge(submission.statement.kind) else None


def already_reentered(port: FactsPort, submission: Submission) -> Reason | None:
    """A quarantined fact is entered again once."""
    again = claim.reenters(submission.content)
    held = _quarantined(port, submission, again) if again is not None else None
    if held is None or held.open or held.reentered_by is None:
        return None
    return AlreadyReentered(held.reentered_by)


_OF_A_SITE: Final = (Carrier.SITE_LOG, Carrier.SCOPE_LOG)
_OF_A_PATIENT: Final = (Carrier.DRAFTS, Carrier.PATIENT_LOG, Carrier.SCOPE_LOG, Carrier.PATIENT_REQUEST)

GATES: Final[tuple[Rule, ...]] = (
    wrong_document,
    content_invalid,
    grant_unknown,
    user_withdrawn,
    grant_not_in_force,
    role_missing,
    site_not_granted,
    patient_not_in_care,
    needs_the_relay,
    challenge_spent,
    restamp,
    redo,
    awaits,
    reference_unknown,
    already_reentered,
)
"""Every gate, in the order in which they are asked."""

_ONLY: Final[Mapping[Rule, Callable[[Kind], bool]]] = {
    site_not_granted: lambda kind: KINDS[kind].carrier in _OF_A_SITE or kind in (Kind.ADMINISTER, Kind.CORRECT),
    patient_not_in_care: lambda kind: KINDS[kind].carrier in _OF_A_PATIENT,
    needs_the_relay: needs_challenge,
    challenge_spent: needs_challenge,
    restamp: lambda kind: KINDS[kind].nature is not Nature.FACT,
    redo: needs_challenge,
    already_reentered: lambda kind: kind in claim.REENTERING_KINDS,
}

GATES_OF: Final[Mapping[Kind, tuple[Rule, ...]]] = MappingProxyType(
    {kind: tuple(rule for rule in GATES if rule not in _ONLY or _ONLY[rule](kind)) for kind in Kind}
)
"""Of the gates those that can have a reason against a kind, once it is in a document of its carrier."""


def first_reason(rules: Iterable[Rule], port: FactsPort, submission: Submission) -> Reason | None:
    """The reason of the first rule that has one."""
    for rule in rules:
        reason = rule(port, submission)
        if reason is not None:
            return reason
    return None
