"""What the rules of a snapshot say of an order: a pure function from snapshot and question to cards.

A rule that cannot be applied speaks too: an item without ingredients, or a dose that cannot be held against a
ceiling, is a card, never a silent pass.
"""

from collections.abc import Iterable
from decimal import ROUND_CEILING, Decimal
from hashlib import sha256
from typing import Final

from crdtmed.aggregates.alert_override_record import Card, Severity
from crdtmed.aggregates.elements import Quantity, decimal
from crdtmed.aggregates.medication import MedicationRegister
from crdtmed.aggregates.prescription import PrescriptionStatus
from crdtmed.aggregates.prescription_draft import Dose, Timing
from crdtmed.limits import MAX_CARDS
from relay.admission.facts import KnowledgeQuestion
from relay.knowledge.snapshot import Snapshot
from relay.knowledge.units import in_base

HOURS: Final = {
    "s": Decimal(1) / 3600,
    "min": Decimal(1) / 60,
    "h": Decimal(1),
    "d": Decimal(24),
    "wk": Decimal(168),
    "mo": Decimal(672),
    "a": Decimal(8736),
}
"""Hours in a unit of time; a month and a year are taken short, so that a rate is never understated."""

_RANK: Final = {Severity.CRITICAL: 0, Severity.WARNING: 1, Severity.INFO: 2}
_IN_FORCE: Final = (PrescriptionStatus.ACTIVE, PrescriptionStatus.ON_HOLD)


def evaluate(snapshot: Snapshot, question: KnowledgeQuestion) -> tuple[Card, ...]:
    """The cards that the rules raise on the order, gravest first, each once, at most `MAX_CARDS`.

    Should there be more, critical ones are never the ones left out: a card that says so stands last, and it is
    critical itself if critical ones had to be left out.
    """
    medicine = question.medicines.get(question.order.medication.code)
    cards = {card.id: card for card in _cards(snapshot, question, medicine)}
    ranked = sorted(cards.values(), key=lambda card: (_RANK[card.severity], card.id))
    if len(ranked) <= MAX_CARDS:
        return tuple(ranked)
    kept, left = ranked[: MAX_CARDS - 1], ranked[MAX_CARDS - 1 :]
    says = f"{len(left)} more alerts than can be shown; review the order as a whole"
    return (*kept, _card(left[0].severity, "too-many-alerts", says, snapshot.source, ()))


def _cards(snapshot: Snapshot, question: KnowledgeQuestion, medicine: MedicationRegister | None) -> Iterable[Card]:
    if question.patient.allergies is None:
        says = "Allergies are not recorded: ask, and record them or that there are none known"
        yield _card(Severity.WARNING, "allergies-not-recorded", says, snapshot.source, (question.patient.id,))
    if medicine is None or not medicine.ingredients:
        says = "The formulary names no ingredients of this item: interactions, allergies and dose were not checked"
        yield _card(Severity.WARNING, "ingredients-unknown", says, snapshot.source, (question.order.medication.code,))
        return
    yield from _allergies(snapshot, question, medicine)
    others = [
        (other, question.medicines.get(other.groups.medication.code))
        for other in question.active
        if other.status in _IN_FORCE and other.id != question.prescription
    ]
    for other, entry in others:
        if entry is None or not entry.ingredients:
            name = other.groups.medication.display
            says = f"The formulary names no ingredients of {name}: it was not checked against this order"
            yield _card(Severity.WARNING, "ingredients-unknown", says[:200], snapshot.source, (other.id,))
        else:
            yield from _between(snapshot, medicine, entry, other.id)
    yield from _ceilings(snapshot, question, medicine)


def _allergies(snapshot: Snapshot, question: KnowledgeQuestion, medicine: MedicationRegister) -> Iterable[Card]:
    for allergy in question.patient.allergies or ():
        if allergy.code in medicine.ingredients:
            says = f"Allergy recorded: {allergy.display}"[:200]
            yield _card(Severity.CRITICAL, "allergy", says, snapshot.source, (allergy.code, medicine.code))
        for rule in snapshot.allergy_classes:
            if rule.allergy == allergy.code and (
                set(rule.ingredients) & set(medicine.ingredients) or set(rule.classes) & set(medicine.classes)
            ):
                about = (allergy.code, medicine.code, rule.summary)
                yield _card(rule.severity, "allergy", rule.summary, snapshot.source, about, rule.detail)


def _between(snapshot: Snapshot, one: MedicationRegister, other: MedicationRegister, with_: str) -> Iterable[Card]:
    for rule in snapshot.interactions:
        a, b = rule.between
        if (a in one.ingredients and b in other.ingredients) or (b in one.ingredients and a in other.ingredients):
            about = (*sorted(rule.between), with_)
            yield _card(rule.severity, "interaction", rule.summary, snapshot.source, about, rule.detail)
    for same in snapshot.duplicate_classes:
        if same.of in one.classes and same.of in other.classes:
            about = (same.of, with_)
            yield _card(same.severity, "duplicate-therapy", same.summary, snapshot.source, about, same.detail)


def _ceilings(snapshot: Snapshot, question: KnowledgeQuestion, medicine: MedicationRegister) -> Iterable[Card]:
    for rule in snapshot.dose_ceilings:
        if rule.ingredient not in medicine.ingredients:
            continue
        about = (rule.ingredient, medicine.code)
        amount = daily_amount(question.order.dose, question.order.timing)
        ceiling = in_base(decimal(rule.per_day.value), rule.per_day.unit)
        if len(medicine.ingredients) > 1 or amount is None or ceiling is None or amount[1] != ceiling[1]:
            limit = f"{rule.per_day.value} {rule.per_day.unit}"
            says = f"The dose could not be held against the daily limit of {limit} of {rule.ingredient}: check it"
            yield _card(Severity.WARNING, "dose-not-comparable", says[:200], snapshot.source, about)
        elif amount[0] > ceiling[0]:
            yield _card(rule.severity, "dose-ceiling", rule.summary, snapshot.source, about, rule.detail)


def daily_amount(dose: Dose, timing: Timing) -> tuple[Decimal, str] | None:
    """The most that the order lets a patient have in a day, in a base unit; None where that cannot be told.

    Of a range the upper end counts; what is needed only sometimes counts as if it were needed always.
    """
    quantity = dose.quantity or (dose.range.high if dose.range else None)
    if quantity is None:
        return None
    limit = timing.max_per_period
    if limit is not None and limit.quantity is not None:
        return _per_day(limit.quantity, Decimal(1), limit.period)
    if limit is not None and limit.doses is not None:
        return _per_day(quantity, Decimal(limit.doses), limit.period)
    if timing.count is not None:
        return in_base(decimal(quantity.value) * timing.count, quantity.unit)
    if timing.frequency is not None and timing.period is not None and timing.period_unit is not None:
        return _per_day(quantity, Decimal(timing.frequency), Quantity(timing.period, timing.period_unit))
    if timing.min_interval is not None:
        return _per_day(quantity, Decimal(1), timing.min_interval)
    return None


def _per_day(quantity: Quantity, times: Decimal, period: Quantity) -> tuple[Decimal, str] | None:
    """Over a longer period than a day, the doses fall on days of their own as far as they can: once a week is one."""
    days = decimal(period.value) * HOURS[period.unit] / 24
    doses = times / days if days <= 1 else (times / days).to_integral_value(ROUND_CEILING)
    return in_base(decimal(quantity.value) * doses, quantity.unit)


def _card(
    severity: Severity, kind: str, summary: str, source: str, about: tuple[str, ...], detail: str | None = None
) -> Card:
    """The card's id follows from what it is about, so that an override still fits when the question is asked again."""
    name = sha256("\x00".join((kind, *about)).encode()).hexdigest()[:16]
    return Card(f"{kind}.{name}", severity, kind, summary, source, detail)
