"""Dispenses: prescription, authorisation, unit, lot and stock in one decision; and counting what was handed over."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Final

from msgspec import structs

from crdtmed import documents
from crdtmed.aggregates.dispensing_event import Dispense
from crdtmed.aggregates.medication import MedicationRegister
from crdtmed.aggregates.prescription import PrescriptionRegister
from crdtmed.aggregates.prescription import PrescriptionStatus as Standing
from crdtmed.aggregates.stock_item import MovementType, StockRegister
from crdtmed.reasons import (
    ContentInvalid,
    ItemUnknown,
    LotExpired,
    LotUnknown,
    OverAuthorised,
    PrescriptionStatus,
    PrescriptionUnknown,
    Reason,
    StockShort,
    Superseded,
    UnitMismatch,
    WrongItem,
    WrongSite,
)
from relay.admission import claim
from relay.admission.conflicts import Requeue, prescription, queued, turned_down, with_reentry
from relay.admission.effects import Decision, Effect, Put, accept
from relay.admission.facts import FactsPort, Submission
from relay.admission.ledger import empty, fits, lot, taken


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be counted: a dispense as said, or as a resolution changes it.

    ``by`` is the statement that counts it; ``settles`` the conflicts that are closed with it.
    """

    site: str
    said: Dispense
    by: str
    received_at: int
    settles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Held:
    """What the registers hold of that, each None where there is none; looked up once for all the rules."""

    prescription: PrescriptionRegister | None
    item: MedicationRegister | None
    lot: StockRegister | None


Rule = Callable[[FactsPort, Wanted, Held], Reason | None]


def look_up(port: FactsPort, wanted: Wanted) -> Held:
    """What the registers hold of ``wanted`` now."""
    it = wanted.said
    return Held(
        prescription(port, it.patient, it.prescription),
        medicine(port, it.item),
        lot(port, wanted.site, it.item, it.lot),
    )


def medicine(port: FactsPort, code: str) -> MedicationRegister | None:
    """The formulary's entry for a code."""
    found = port.register("formulary", f"item/{code}")
    return found if isinstance(found, MedicationRegister) else None


def standing(register: PrescriptionRegister, at: int) -> Standing:
    """The status as of a time: a hold that has an end is over when it comes."""
    over = register.hold_until_ms is not None and register.hold_until_ms <= at
    return Standing.ACTIVE if register.status is Standing.ON_HOLD and over else register.status


def prescription_unknown(port: FactsPort, wanted: Wanted, held: Held) -> Reason | None:
    """The patient has this signed prescription."""
    return None if held.prescription is not None else PrescriptionUnknown(wanted.said.prescription)


def superseded(port: FactsPort, wanted: Wanted, held: Held) -> Reason | None:
    """It was not amended meanwhile."""
    register = held.prescription
    if register is None or register.status is not Standing.SUPERSEDED:
        return None
    return Superseded(register.id, register.successor or "")


def prescription_status(port: FactsPort, wanted: Wanted, held: Held) -> Reason | None:
    """It is active."""
    register = held.prescription
    if register is None or (now := standing(register, wanted.received_at)) is Standing.ACTIVE:
        return None
    return PrescriptionStatus(register.id, now)


def wrong_site(port: FactsPort, wanted: Wanted, held: Held) -> Reason | None:
    """This is the site that dispenses it."""
    register = held.prescription
    return WrongSite(register.site) if register is not None and register.site != wanted.site else None


def wrong_item(port: FactsPort, wanted: Wanted, held: Held) -> Reason | None:
    """The item is the medicine prescribed, or one like it where substitution is allowed."""
    register = held.prescription
    if register is None or wanted.said.item == (code := register.groups.medication.code):
        return None
    allowed = register.groups.substitution
    if allowed is not None and allowed.allowed and _alike(medicine(port, code), held.item):
        return None
    return WrongItem(wanted.said.item, code)


def _alike(one: MedicationRegister | None, other: MedicationRegister | None) -> bool:
    """Whether one may stand for the other: the same ingredients, form, strength and counting unit, all recorded."""
    if one is None or other is None or not one.ingredients:
        return False
    return (set(one.ingredients), one.form, one.strength, one.counting_unit) == (
        set(other.ingredients),
        other.form,
        other.strength,
        other.counting_unit,
    )


def over_authorised(port: FactsPort, wanted: Wanted, held: Held) -> Reason | None:
    """All that is dispensed stays within what is authorised; a key does not stop two pharmacists."""
    register = held.prescription
    if register is None or register.dispensed + wanted.said.quantity <= register.authorised:
        return None
    return OverAuthorised(register.authorised, register.dispensed, wanted.said.quantity)


def item_unknown(port: FactsPort, wanted: Wanted, held: Held) -> Reason | None:
    """The formulary has the item."""
    return None if held.item is not None else ItemUnknown(wanted.said.item)


def unit_mismatch(port: FactsPort, wanted: Wanted, held: Held) -> Reason | None:
    """The unit is the item's counting unit."""
    item = held.item
    if item is None or wanted.said.unit == item.counting_unit:
        return None
    return UnitMismatch(wanted.said.unit, item.counting_unit)


def lot_unknown(port: FactsPort, wanted: Wanted, held: Held) -> Reason | None:
    """The site has had the lot."""
    return None if held.lot is not None else LotUnknown(wanted.said.item, wanted.said.lot)


def lot_expired(port: FactsPort, wanted: Wanted, held: Held) -> Reason | None:
    """The lot had not expired when it was dispensed; it is good through the day of its expiry (UTC)."""
    of = held.lot
    if of is None or of.expiry is None:
        return None
    late = documents.utc_date(wanted.said.occurred_at) > date.fromisoformat(of.expiry)
    return LotExpired(of.lot, of.expiry) if late else None


def stock_short(port: FactsPort, wanted: Wanted, held: Held) -> Reason | None:
    """Enough of the lot is on hand."""
    of = held.lot
    if of is None or of.on_hand >= wanted.said.quantity:
        return None
    return StockShort(of.on_hand, wanted.said.quantity)


RULES: Final[tuple[Rule, ...]] = (
    prescription_unknown,
    superseded,
    prescription_status,
    wrong_site,
    wrong_item,
    over_authorised,
    item_unknown,
    unit_mismatch,
    lot_unknown,
    lot_expired,
    stock_short,
)
"""What a dispense has to meet, in the order in which it is asked."""


def short_of(port: FactsPort, wanted: Wanted, held: Held) -> Reason | None:
    """The first reason why ``wanted`` cannot be dispensed."""
    for rule in RULES:
        reason = rule(port, wanted, held)
        if reason is not None:
            return reason
    return None


def dispense(port: FactsPort, submission: Submission) -> Decision:
    """Judges a dispense: admitted with its stock and its prescription's count, or in conflict and requeued."""
    said, site = submission.content, claim.scope_id(submission.statement.document, "site")
    assert isinstance(said, Dispense), "the gates let nothing else through"
    assert site is not None, "the gates let nothing else through"
    wanted = Wanted(site, said, submission.ref, submission.received_at)
    held = look_up(port, wanted)
    reason = short_of(port, wanted, held)
    if reason is not None:
        return with_reentry(port, submission, turned_down(port, submission, reason))
    return with_reentry(port, submission, accept(*counted(port, wanted, held)))


def too_many(wanted: Wanted, held: Held) -> Reason | None:
    """Why not even a person's word can be counted: the registers cannot hold the number."""
    it, register = wanted.said, held.prescription
    of = held.lot or empty(it.item, it.lot, it.unit, None)
    total = register.dispensed if register is not None else 0
    if fits(of.shortage + max(0, it.quantity - of.on_hand)) and fits(total + it.quantity):
        return None
    return ContentInvalid("quantity", "is more than the books can hold; correct it")


def counted(port: FactsPort, wanted: Wanted, held: Held) -> tuple[Effect, ...]:
    """Counts ``wanted``: stock lowered as far as it goes and the rest a shortage, prescription and queue updated.

    Within `RULES` there is no rest; a person who confirms what was given goes beyond them.
    """
    register = held.prescription
    stock = out_of_stock(wanted, held, MovementType.DISPENSE)
    if register is None:
        return stock
    after = structs.replace(register, dispensed=register.dispensed + wanted.said.quantity)
    change = Requeue(wanted.site, wanted.received_at, drop=wanted.settles)
    return (*stock, Put(f"patient/{after.patient}", after), *queued(port, after, change))


def out_of_stock(wanted: Wanted, held: Held, kind: MovementType) -> tuple[Effect, ...]:
    """Takes ``wanted`` out of its lot, whoever got it; a lot that nobody received begins with a shortage."""
    it = wanted.said
    unit = it.unit if held.item is None else held.item.counting_unit
    of = held.lot or empty(it.item, it.lot, unit, None)
    return taken(wanted.site, of, wanted.by, it.quantity, kind)
