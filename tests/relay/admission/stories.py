"""Short stories in the ward of `memory_port`: what most tests of admission begin with."""

from typing import Any, Final

from msgspec import structs

from crdtmed.aggregates.alert_override_record import Card, Severity
from crdtmed.aggregates.conflict import Action, ConflictRegister, Resolve
from crdtmed.aggregates.content import Content
from crdtmed.aggregates.dispensing_event import Dispense, QueueEntry
from crdtmed.aggregates.draft_view import DraftView, draft_digest, draft_view
from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.medication_administration import Administer, OfPrescription, Subject
from crdtmed.aggregates.prescription import Amend, PrescriptionRegister, Sign
from crdtmed.aggregates.prescription_draft import (
    Dose,
    DraftWrite,
    GroupValue,
    Medication,
    Route,
    Substitution,
    Supply,
    Timing,
    group_of,
)
from crdtmed.aggregates.reconciliation_session import SessionRegister
from crdtmed.aggregates.stock_item import Receipt, StockRegister
from crdtmed.verdict import Status
from relay.admission.admit import question
from relay.admission.effects import Decision
from relay.admission.facts import KnowledgeAnswer, Submission, submitted
from tests.relay.admission.memory_port import NOW, Ward

TABLET: Final = "{tablet}"
ORDER: Final[tuple[GroupValue, ...]] = (
    Medication("para", "Paracetamol", "tablet", "500 mg"),
    Dose(Quantity("500", "mg")),
    Route("26643006", "oral"),
    Timing(frequency=3, period="1", period_unit="d"),
    Supply(10, TABLET, 1, "pharmacy"),
)
"""A complete order of 2 × 10 tablets."""

CRITICAL: Final = Card("c-1", Severity.CRITICAL, "interaction", "Do not combine", "embedded")
WARNING: Final = Card("w-1", Severity.WARNING, "duplicate-therapy", "Twice the same class", "embedded")


def drafted(ward: Ward, name: str = "rx-1", *extra: GroupValue, order: tuple[GroupValue, ...] = ORDER) -> DraftView:
    """A draft with the groups of ``order`` and more, written as one transaction, each having seen the ones before."""
    seen: list[str] = []
    for value in (*order, *extra):
        signed, decision = ward.do(DraftWrite(name, group_of(value), value), seen=seen)
        assert decision.status is Status.ACCEPTED, decision
        seen.append(signed.statement.ref)
    return viewed(ward, name)


def viewed(ward: Ward, name: str = "rx-1") -> DraftView:
    """The draft as the relay merges it."""
    return draft_view(ward.draft("p-1", name))


def answered(ward: Ward, submission: Submission, *cards: Card, unavailable: str | None = None) -> Submission:
    """The submission with what the knowledge base says to it, where there is something to ask."""
    asked = question(ward, submission)
    if asked is None:
        return submission
    snapshot = ward.snapshot or "" if unavailable is None else ""
    answer = KnowledgeAnswer(asked.position, asked.digest, snapshot, cards, unavailable)
    return structs.replace(submission, answer=answer)


def later(it: Submission, received_at: int) -> Submission:
    """The same as it arrives at another time."""
    return submitted(it.signed, it.content, it.document, received_at, it.challenge, it.handed_back, it.answer)


def asked(ward: Ward, content: Content, *cards: Card, **how: Any) -> tuple[str, Decision]:
    """Says something that the knowledge base is asked about; the reference and the decision."""
    submission = answered(ward, ward.say(content, **how), *cards)
    return submission.statement.ref, ward.submit(submission)


def signed(ward: Ward, name: str = "rx-1", *cards: Card, **how: Any) -> tuple[str, Decision]:
    """Signs a draft as it stands."""
    view = viewed(ward, name)
    return asked(ward, Sign(name, draft_digest(view)), *cards, seen=view.seen, **how)


def prescribed(ward: Ward, name: str = "rx-1", *extra: GroupValue, order: tuple[GroupValue, ...] = ORDER) -> str:
    """A signed, active prescription; the reference of its signature."""
    drafted(ward, name, *extra, order=order)
    ref, decision = signed(ward, name)
    assert decision.status is Status.ACCEPTED, decision
    return ref


def amended(ward: Ward, name: str, prior: str) -> tuple[str, Decision]:
    """Drafts the order anew under ``name`` and signs it in the place of ``prior``."""
    view = drafted(ward, name)
    return asked(ward, Amend(name, draft_digest(view), prior, "dose"), seen=view.seen)


def substitutable() -> Substitution:
    """Another product may be dispensed."""
    return Substitution(allowed=True)


def receipt(quantity: int = 30, lot: str = "L1", note: str = "N-1", **changes: Any) -> Receipt:
    """A delivery of paracetamol."""
    said: dict[str, Any] = {"item": "para", "expiry": "2027-01-31", "unit": TABLET, "occurred_at": NOW}
    return Receipt(supplier="Acme", delivery_note=note, lot=lot, quantity=quantity, **(said | changes))


def stocked(ward: Ward, quantity: int = 30, lot: str = "L1", **changes: Any) -> str:
    """A lot on the shelf of the pharmacy; the reference of its receipt."""
    signed, decision = ward.do(receipt(quantity, lot, note=f"N-{ward.made}", **changes))
    assert decision.status is Status.ACCEPTED, decision
    return signed.statement.ref


def dispense(quantity: int = 10, lot: str = "L1", out: bool = False, **changes: Any) -> Dispense:
    """A dispense of paracetamol on rx-1."""
    said: dict[str, Any] = {"prescription": "rx-1", "patient": "p-1", "item": "para", "unit": TABLET}
    return Dispense(lot=lot, quantity=quantity, handed_over=out, **({"occurred_at": NOW} | said | changes))


def administer(subject: Subject | None = None, **changes: Any) -> Administer:
    """A dose given on rx-1."""
    said: dict[str, Any] = {"status": "given", "occurred_at": NOW, "site": "ward", "dose": Quantity("500", "mg")}
    return Administer(subject or OfPrescription("rx-1"), **(said | changes))


def in_conflict(ward: Ward, ref: str, home: str = "site/pharmacy") -> ConflictRegister:
    """The register of a conflict."""
    found = ward.register(home, f"conflict/{ref}")
    assert isinstance(found, ConflictRegister), f"{home} has no conflict of {ref}"
    return found


def resolution(ward: Ward, ref: str, action: Action, home: str = "site/pharmacy", **more: Any) -> Resolve:
    """A resolution of a conflict."""
    return Resolve(in_conflict(ward, ref, home).statement, action, **more)


def stock(ward: Ward, lot: str = "L1", site: str = "pharmacy", item: str = "para") -> StockRegister:
    """The register of a lot."""
    found = ward.register(f"site/{site}", f"stock/{item}/{lot}")
    assert isinstance(found, StockRegister), f"{site} has no {item}/{lot}"
    return found


def prescription(ward: Ward, name: str = "rx-1") -> PrescriptionRegister:
    """The register of a signed prescription of p-1."""
    found = ward.register("patient/p-1", f"prescription/{name}")
    assert isinstance(found, PrescriptionRegister), f"p-1 has no prescription {name}"
    return found


def queue(ward: Ward, name: str = "rx-1", site: str = "pharmacy") -> QueueEntry | None:
    """The queue entry of a prescription."""
    found = ward.register(f"site/{site}", f"queue/{name}")
    assert found is None or isinstance(found, QueueEntry)
    return found


def session(ward: Ward, name: str) -> SessionRegister:
    """The register of a reconciliation session of p-1."""
    found = ward.register("patient/p-1", f"session/{name}")
    assert isinstance(found, SessionRegister), f"p-1 has no session {name}"
    return found
