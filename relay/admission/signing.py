"""Sign, amend and resume: a draft must be the one that the prescriber saw, and the knowledge base has the last word."""

import hashlib
from collections.abc import Callable, Iterable
from typing import Final

from crdtmed.aggregates.alert_override_record import AlertsRegister, Severity, open_cards
from crdtmed.aggregates.dispensing_event import QueueEntry
from crdtmed.aggregates.draft_view import DraftView, draft_digest, unseen_groups
from crdtmed.aggregates.prescription import Amend, PrescriptionRegister, Resume, Sign, SignedGroups, signed_groups
from crdtmed.aggregates.prescription import PrescriptionStatus as Standing
from crdtmed.aggregates.prescription_draft import DraftStatus, DraftWrite, Group, Supply, authorised, incomplete
from crdtmed.codec import encode
from crdtmed.limits import MAX_CARDS, MAX_LONG_TEXT_CHARS
from crdtmed.reasons import (
    AlertsOpen,
    DraftChanged,
    DraftClosed,
    DraftIncomplete,
    DraftUnknown,
    DraftUnsettled,
    ItemUnknown,
    KnowledgeUnavailable,
    OpenAlert,
    PatientMoved,
    Reason,
    SnapshotNotInForce,
    UnitMismatch,
)
from relay.admission import claim
from relay.admission.conflicts import prescription, turned_down
from relay.admission.dispensing import medicine
from relay.admission.effects import CloseDraft, Decision, Effect, Put, accept, also
from relay.admission.facts import FactsPort, KnowledgeAnswer, Submission
from relay.admission.prescriptions import PRIOR_RULES, Request, Rule, becomes, in_queue, request, unmet

ORDER_TAG: Final = b"crdtmed/order-digest/1"


def draft_closed(port: FactsPort, it: Request) -> Reason | None:
    """The draft was neither signed nor set aside, and no other patient's prescription has its id in the queue."""
    assert isinstance(it.said, Sign | Amend)
    name, values = it.said.prescription, it.view.values if it.view is not None else {}
    status, supply = values.get(Group.STATUS), values.get(Group.SUPPLY)
    aside = isinstance(status, DraftStatus) and status.status == "entered-in-error"
    entry = (
        port.register(f"site/{supply.site}", f"queue/{name}") if isinstance(supply, Supply) and supply.site else None
    )
    taken = isinstance(entry, QueueEntry) and entry.patient != it.patient
    closed = prescription(port, it.patient, name) is not None
    return DraftClosed(name) if aside or taken or closed else None


def draft_unknown(port: FactsPort, it: Request) -> Reason | None:
    """The patient has this draft."""
    assert isinstance(it.said, Sign | Amend)
    return DraftUnknown(it.said.prescription) if it.view is None else None


def draft_changed(port: FactsPort, it: Request) -> Reason | None:
    """The draft is the one that the prescriber saw."""
    assert isinstance(it.said, Sign | Amend)
    if it.view is None or draft_digest(it.view) == it.said.digest:
        return None
    return DraftChanged(tuple(_differing(port, it, it.view)))


def _differing(port: FactsPort, it: Request, view: DraftView) -> Iterable[str]:
    """The groups with a head that the prescriber had not seen, or without one that they had; all where none is."""
    heads = {ref for group in view.groups.values() for ref in group.heads}
    gone = {_group_of(port, ref) for ref in it.seen if ref not in heads}
    unseen = unseen_groups(view, it.seen)
    found = [str(group) for group in Group if group in unseen or group in gone]
    return found or [str(group) for group in view.groups]


def _group_of(port: FactsPort, ref: str) -> Group | None:
    stored = port.statement(ref)
    said = claim.readable(stored.signed) if stored is not None else None
    return said.group if isinstance(said, DraftWrite) else None


def draft_incomplete(port: FactsPort, it: Request) -> Reason | None:
    """Every group that signing needs is there, and a site is chosen that dispenses it."""
    if it.view is None:
        return None
    missing = set(incomplete(it.view.values))
    supply = it.view.values.get(Group.SUPPLY)
    if isinstance(supply, Supply) and supply.site is None:
        missing.add(str(Group.SUPPLY))
    return DraftIncomplete(tuple(str(group) for group in Group if group in missing)) if missing else None


def draft_unsettled(port: FactsPort, it: Request) -> Reason | None:
    """Nothing is concurrent or under review."""
    unsettled = it.view.unsettled if it.view is not None else ()
    return DraftUnsettled(tuple(str(group) for group in unsettled)) if unsettled else None


def item_unknown(port: FactsPort, it: Request) -> Reason | None:
    """The formulary has the medicine, so that somebody can dispense it."""
    order = _order(it)
    if order is None or medicine(port, order.medication.code) is not None:
        return None
    return ItemUnknown(order.medication.code)


def unit_mismatch(port: FactsPort, it: Request) -> Reason | None:
    """The supply is counted as the formulary counts the medicine."""
    order = _order(it)
    item = medicine(port, order.medication.code) if order is not None else None
    if order is None or item is None or order.supply.unit == item.counting_unit:
        return None
    return UnitMismatch(order.supply.unit, item.counting_unit)


def _order(it: Request) -> SignedGroups | None:
    return signed_groups(it.view.values) if it.view is not None and not incomplete(it.view.values) else None


_DRAFT: Final[tuple[Rule, ...]] = (draft_closed, draft_unknown, draft_changed, draft_incomplete, draft_unsettled)
_SUPPLY: Final[tuple[Rule, ...]] = (item_unknown, unit_mismatch)

RULES: Final[dict[type, tuple[Rule, ...]]] = {
    Sign: (*_DRAFT, *_SUPPLY),
    Amend: (*_DRAFT, *PRIOR_RULES, *_SUPPLY),
    Resume: PRIOR_RULES,
}
"""What each request has to meet before the knowledge base is asked, in order."""


def checked(it: Request) -> tuple[str, bytes, SignedGroups]:
    """What the knowledge base looks at where the request meets `RULES`: the prescription, its digest and order."""
    if isinstance(it.said, Sign | Amend):
        order = _order(it)
        assert order is not None, "the rules let nothing else through"
        return it.said.prescription, it.said.digest, order
    assert it.prior is not None, "the rules let nothing else through"
    return it.prior.id, order_digest(it.prior.groups), it.prior.groups


def order_digest(groups: SignedGroups) -> bytes:
    """SHA-256 that names a signed order to the knowledge base, as `draft_digest` names a draft."""
    return hashlib.sha256(ORDER_TAG + encode(groups)).digest()


Answered = Callable[[FactsPort, Request, KnowledgeAnswer | None], Reason | None]


def snapshot_not_in_force(port: FactsPort, it: Request, answer: KnowledgeAnswer | None) -> Reason | None:
    """The snapshot that answered is still the one in force."""
    now = port.snapshot_in_force()
    if answer is None or answer.unavailable is not None or now in (None, answer.snapshot):
        return None
    return SnapshotNotInForce(now or "")


def knowledge_unavailable(port: FactsPort, it: Request, answer: KnowledgeAnswer | None) -> Reason | None:
    """There is an answer, and it makes sense: no silence passes for consent."""
    if answer is None:
        return None
    if answer.unavailable is not None:
        return KnowledgeUnavailable(answer.unavailable[:MAX_LONG_TEXT_CHARS])
    if len(answer.cards) > MAX_CARDS:
        return KnowledgeUnavailable(f"it raised {len(answer.cards)} cards, at most {MAX_CARDS} are read")
    return None


def patient_moved(port: FactsPort, it: Request, answer: KnowledgeAnswer | None) -> Reason | None:
    """The answer is to this very order, and nothing changed in the patient's document since it was asked for.

    Where nothing was asked, something that stood in the way then is gone by now.
    """
    position = port.position(f"patient/{it.patient}")
    if answer is not None and (answer.position, answer.digest) == (position, checked(it)[1]):
        return None
    return PatientMoved(position)


def alerts_open(port: FactsPort, it: Request, answer: KnowledgeAnswer | None) -> Reason | None:
    """Every critical card is overridden."""
    if answer is None:
        return None
    cards = open_cards(_alerts(port, it, answer))
    shown = tuple(OpenAlert(card.id, card.summary, card.source) for card in cards)
    return AlertsOpen(answer.snapshot, shown) if shown else None


KNOWLEDGE_RULES: Final[tuple[Answered, ...]] = (
    snapshot_not_in_force,
    knowledge_unavailable,
    patient_moved,
    alerts_open,
)
"""What the knowledge base's answer has to meet, in order."""


def _alerts(port: FactsPort, it: Request, answer: KnowledgeAnswer) -> AlertsRegister:
    """The answer's cards, with the overrides that were given for this digest under this snapshot."""
    name, digest, _ = checked(it)
    old = port.register(f"patient/{it.patient}", f"alerts/{name}")
    given: tuple[tuple[str, str], ...] = ()
    if isinstance(old, AlertsRegister) and (old.digest, old.snapshot) == (digest, answer.snapshot):
        given = old.overridden
    return AlertsRegister(name, digest, answer.snapshot, answer.cards, given)


def _kept(port: FactsPort, it: Request, answer: KnowledgeAnswer) -> tuple[Effect, ...]:
    home, alerts = f"patient/{it.patient}", _alerts(port, it, answer)
    old = port.register(home, f"alerts/{alerts.prescription}")
    return (Put(home, alerts),) if alerts != old and (alerts.cards or old is not None) else ()


def sign_or_resume(port: FactsPort, submission: Submission) -> Decision:
    """Judges a sign, an amendment or a resumption, with the knowledge base's answer."""
    it, answer = request(port, submission), submission.answer
    reason = unmet(RULES[type(it.said)], port, it)
    if reason is not None:
        return turned_down(port, submission, reason)
    reason = next((found for rule in KNOWLEDGE_RULES if (found := rule(port, it, answer)) is not None), None)
    if reason is not None:
        decision = turned_down(port, submission, reason)
        raised = answer if isinstance(reason, AlertsOpen) else None
        return also(decision, *_kept(port, it, raised)) if raised is not None else decision
    assert answer is not None, "patient_moved lets nothing else through"
    kept = _kept(port, it, answer)
    if isinstance(it.said, Resume):
        assert it.prior is not None, "the rules let nothing else through"
        return accept(*kept, *becomes(port, it, it.prior, Standing.ACTIVE, it.said.reason))
    return accept(*kept, *_signed(port, it, answer))


def _signed(port: FactsPort, it: Request, answer: KnowledgeAnswer) -> tuple[Effect, ...]:
    """The draft becomes an active prescription, in the place of the one that it amends."""
    name, _, order = checked(it)
    assert order.supply.site is not None, "the rules let nothing else through"
    critical = {card.id for card in answer.cards if card.severity is Severity.CRITICAL}
    register = PrescriptionRegister(
        id=name,
        patient=it.patient,
        status=Standing.ACTIVE,
        groups=order,
        prescriber=it.user,
        signed_by=it.by,
        signed_at=it.at,
        snapshot=answer.snapshot,
        authorised=authorised(order.supply),
        unit=order.supply.unit,
        site=order.supply.site,
        overrides=tuple(ref for alert, ref in _alerts(port, it, answer).overridden if alert in critical),
        prior=it.prior.id if it.prior is not None else None,
    )
    amended: tuple[Effect, ...] = ()
    if isinstance(it.said, Amend) and it.prior is not None:
        amended = becomes(port, it, it.prior, Standing.SUPERSEDED, it.said.reason)
    opened = (Put(f"patient/{it.patient}", register), CloseDraft(it.patient, name))
    return (*amended, *opened, *in_queue(port, it, register))
