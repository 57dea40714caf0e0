"""What the rules of a snapshot say of an order: a pure function from snapshot and question to cards.

A rule that cannot be applied speaks too: an item without ingredients, or a dose that cannot be held against a
ceiling, is a card, never a silent pass.
"""

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from math import ceil
from typing import Final

from crdtmed.aggregates.alert_override_record import Card, Severity
from crdtmed.aggregates.elements import Quantity, decimal
from crdtmed.aggregates.medication import MedicationRegister
from crdtmed.aggregates.prescription import PrescriptionRegister, PrescriptionStatus, SignedGroups
from crdtmed.aggregates.prescription_draft import Dose, Timing
from crdtmed.limits import MAX_CARDS, MAX_SHORT_TEXT_CHARS
from relay.admission.facts import KnowledgeQuestion
from relay.knowledge.snapshot import DoseCeiling, Snapshot
from relay.knowledge.units import in_base

SECONDS: Final = {"s": 1, "min": 60, "h": 3_600, "d": 86_400, "wk": 604_800, "mo": 28 * 86_400, "a": 364 * 86_400}
"""Seconds in a unit of time; a month and a year are taken short, so that a rate is never understated."""

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


def not_recorded(question: KnowledgeQuestion, source: str) -> tuple[Card, ...]:
    """The card of a patient of whom nobody recorded allergies, nor that there are none: whoever judges the order."""
    if question.patient.allergies is not None:
        return ()
    says = "Allergies are not recorded: ask, and record them or that there are none known"
    return (_card(Severity.WARNING, "allergies-not-recorded", says, source, (question.patient.id,)),)


Other = tuple[PrescriptionRegister, MedicationRegister | None]


def _cards(snapshot: Snapshot, question: KnowledgeQuestion, medicine: MedicationRegister | None) -> Iterable[Card]:
    yield from not_recorded(question, snapshot.source)
    if medicine is None or not medicine.ingredients:
        says = "The formulary names no ingredients of this item: interactions, allergies and dose were not checked"
        yield _card(Severity.WARNING, "ingredients-unknown", says, snapshot.source, (question.order.medication.code,))
        return
    yield from _allergies(snapshot, question, medicine)
    others: list[Other] = [
        (other, question.medicines.get(other.groups.medication.code))
        for other in question.active
        if other.status in _IN_FORCE and other.id != question.prescription
    ]
    for other, entry in others:
        if entry is None or not entry.ingredients:
            name = other.groups.medication.display
            says = _cut(f"The formulary names no ingredients of {name}", ": it was not checked against this order")
            yield _card(Severity.WARNING, "ingredients-unknown", says, snapshot.source, (other.id,))
        else:
            yield from _between(snapshot, medicine, entry, other.id)
    for ingredient in medicine.ingredients:
        for rule in snapshot.ceilings_of.get(ingredient, ()):
            yield from _ceiling(snapshot, question, medicine, others, rule)


def _allergies(snapshot: Snapshot, question: KnowledgeQuestion, medicine: MedicationRegister) -> Iterable[Card]:
    for allergy in question.patient.allergies or ():
        rules = snapshot.classes_of_allergy.get(allergy.code, ())
        against = [
            rule
            for rule in rules
            if set(rule.ingredients) & set(medicine.ingredients) or set(rule.classes) & set(medicine.classes)
        ]
        # To a class, a rule says how grave it is; where none does, it is taken for grave.
        if allergy.code in medicine.ingredients or (allergy.code in medicine.classes and not against):
            says = _cut(f"Allergy recorded: {allergy.display}")
            yield _card(Severity.CRITICAL, "allergy", says, snapshot.source, (allergy.code, medicine.code))
        elif not rules and allergy.code not in snapshot.ingredients:
            says = _cut(f"No rule knows the recorded allergy {allergy.display}", ": check it against the order")
            yield _card(Severity.INFO, "allergy-unknown", says, snapshot.source, (allergy.code,))
        for rule in against:
            about = (allergy.code, medicine.code, rule.summary)
            yield _card(rule.severity, "allergy", rule.summary, snapshot.source, about, rule.detail)


def _between(snapshot: Snapshot, one: MedicationRegister, other: MedicationRegister, with_: str) -> Iterable[Card]:
    for ingredient in one.ingredients:
        for rule in snapshot.interactions_of.get(ingredient, ()):
            a, b = rule.between
            if (b if ingredient == a else a) in other.ingredients:
                about = (*sorted(rule.between), with_, rule.summary)
                yield _card(rule.severity, "interaction", rule.summary, snapshot.source, about, rule.detail)
    for class_ in one.classes:
        for same in snapshot.duplicates_of.get(class_, ()) if class_ in other.classes else ():
            about = (same.of, with_)
            yield _card(same.severity, "duplicate-therapy", same.summary, snapshot.source, about, same.detail)


def _ceiling(
    snapshot: Snapshot,
    question: KnowledgeQuestion,
    medicine: MedicationRegister,
    others: Iterable[Other],
    rule: DoseCeiling,
) -> Iterable[Card]:
    """The order, and what else the patient has of the ingredient, held against a ceiling."""
    ceiling = in_base(decimal(rule.per_day.value), rule.per_day.unit)
    assert ceiling is not None, "a snapshot with a ceiling in another unit is not read"
    limit = f"{rule.per_day.value} {rule.per_day.unit} of {rule.ingredient}"
    amount = _amount(medicine, question.order, ceiling[1])
    if amount is None:
        says = _cut(f"The dose could not be held against the daily limit of {limit}", ": check it")
        about = (rule.ingredient, medicine.code, limit)
        yield _card(Severity.WARNING, "dose-not-comparable", says, snapshot.source, about)
    elif amount > ceiling[0]:
        about = (rule.ingredient, medicine.code, rule.summary)
        yield _card(rule.severity, "dose-ceiling", rule.summary, snapshot.source, about, rule.detail)
        return
    total = amount or Decimal(0)
    counted: list[str] = []
    for other, entry in others:
        if entry is None or rule.ingredient not in entry.ingredients:
            continue
        more = _amount(entry, other.groups, ceiling[1])
        if more is None:
            says = _cut(f"Another order has {rule.ingredient} in a dose that could not be counted", ": check it")
            yield _card(Severity.WARNING, "dose-not-comparable", says, snapshot.source, (rule.ingredient, other.id))
        else:
            total += more
            counted.append(other.id)
    if counted and total > ceiling[0]:
        says = _cut(f"Together with other orders in force: {rule.summary}")
        named = (rule.ingredient, medicine.code, rule.summary, *sorted(counted))
        yield _card(rule.severity, "dose-ceiling", says, snapshot.source, named, rule.detail)


def _amount(medicine: MedicationRegister, order: SignedGroups, base: str) -> Decimal | None:
    """The most of its one ingredient in a day, in ``base``; None where that cannot be told."""
    if len(medicine.ingredients) > 1:
        return None
    return min((amount for amount, unit in daily_amounts(order.dose, order.timing) if unit == base), default=None)


def daily_amounts(dose: Dose, timing: Timing) -> tuple[tuple[Decimal, str], ...]:
    """Bounds of what the order lets a patient have in a day, each in a base unit; none where nothing can be told.

    Each part of the timing is a bound of its own, and the least of them holds.  Of a range the upper end counts; what
    is needed only sometimes counts as if it were needed always.
    """
    quantity = dose.quantity or (dose.range.high if dose.range else None)
    found: list[tuple[Decimal, str] | None] = []
    limit = timing.max_per_period
    if limit is not None and limit.quantity is not None:
        found.append(in_base(decimal(limit.quantity.value) * _most(1, limit.period), limit.quantity.unit))
    if quantity is not None:
        doses = []
        if limit is not None and limit.doses is not None:
            doses.append(_most(limit.doses, limit.period))
        if timing.count is not None:
            doses.append(timing.count)
        if timing.frequency is not None and timing.period is not None and timing.period_unit is not None:
            doses.append(_at_rate(timing, timing.frequency, Quantity(timing.period, timing.period_unit)))
        if timing.min_interval is not None:
            doses.append(_most(1, timing.min_interval))
        found += [in_base(decimal(quantity.value) * number, quantity.unit) for number in doses]
    return tuple(each for each in found if each is not None)


def _days(period: Quantity) -> Fraction:
    return Fraction(decimal(period.value)) * SECONDS[period.unit] / SECONDS["d"]


def _most(times: int, period: Quantity) -> int:
    """So many in any stretch of ``period``: the most in a day; of a longer period all may fall on one day."""
    return times * max(1, ceil(1 / _days(period)))


def _at_rate(timing: Timing, times: int, period: Quantity) -> int:
    """So many in each ``period``: at fixed times of the day all of them fall on one day, and as needed they may.

    Else they are scheduled evenly: over more than a day they fall on days of their own as far as they can, so that one
    in a week is one, and three in two days are two.
    """
    days = _days(period)
    return _most(times, period) if days < 1 or timing.times or timing.as_needed else ceil(times / days)


def _cut(says: str, step: str = "") -> str:
    """What a card says, as much of it as its one line holds, and whole what to do."""
    return says[: MAX_SHORT_TEXT_CHARS - len(step)] + step


def _card(
    severity: Severity, kind: str, summary: str, source: str, about: tuple[str, ...], detail: str | None = None
) -> Card:
    """The card's id follows from what it is about and how grave it is, so that an override still fits when the question
    is asked again, and so that of two rules on one thing neither takes the other's place."""
    name = sha256("\x00".join((kind, severity, summary, detail or "", *about)).encode()).hexdigest()[:16]
    return Card(f"{kind}.{name}", severity, kind, summary, source, detail)
