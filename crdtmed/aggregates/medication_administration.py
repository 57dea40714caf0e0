"""Administrations and their corrections (FHIR MedicationAdministration); the view is in
`crdtmed.aggregates.mar_view`."""

from collections.abc import Iterable
from typing import Literal

from crdtmed.aggregates.elements import (
    Instant,
    ItemCode,
    LongText,
    Model,
    Problem,
    Quantity,
    ShortText,
    quantity_problems,
    text_problems,
)
from crdtmed.aggregates.prescription_draft import Route
from crdtmed.ids import Ref, ScopeId


class OfPrescription(Model, frozen=True, tag_field="of", tag="prescription"):
    """Given on a signed prescription (MedicationAdministration.request)."""

    prescription: ScopeId


class OfDraft(Model, frozen=True, tag_field="of", tag="draft"):
    """Given on a draft that nobody had signed."""

    prescription: ScopeId


class OfVerbal(Model, frozen=True, tag_field="of", tag="verbal"):
    """Given on a spoken order: who ordered it, why it was spoken, and the medicine, since no order names
    it."""

    prescriber: ShortText
    reason: ShortText
    display: ShortText
    item: ItemCode | None = None


Subject = OfPrescription | OfDraft | OfVerbal


class Administer(Model, frozen=True):
    """One administration, given or not.

    ``slot_at`` is the scheduled instant it answers; ``occurred_at`` when it happened, as the person said;
    ``site`` where; ``reenters`` the quarantined statement that is entered again.
    """

    subject: Subject
    status: Literal["given", "not-given"]
    occurred_at: Instant
    site: ScopeId
    status_reason: ShortText | None = None
    dose: Quantity | None = None
    route: Route | None = None
    slot_at: Instant | None = None
    note: LongText | None = None
    reenters: Ref | None = None


class Correct(Model, frozen=True):
    """Corrects the administration or correction ``corrects``: with what is right instead, or as entered in
    error."""

    corrects: Ref
    status: Literal["amended", "entered-in-error"]
    reason: ShortText
    administration: Administer | None = None
    reenters: Ref | None = None


def administer_problems(administer: Administer) -> tuple[Problem, ...]:
    """What is wrong with an administration."""
    return tuple(_administer_problems(administer))


def _administer_problems(it: Administer) -> Iterable[Problem]:
    if it.status == "not-given" and it.status_reason is None:
        yield Problem("status_reason", "is missing where the medicine was not given; say why")
    if it.status == "given" and it.status_reason is not None:
        yield Problem("status_reason", "is a reason for not giving, where the medicine was given; use note")
    if it.status == "not-given" and it.dose is not None:
        yield Problem("dose", "is stated where the medicine was not given; leave it out, or correct the status")
    if it.dose is not None:
        yield from quantity_problems("dose", it.dose)
    if it.route is not None:
        yield from text_problems("route.display", it.route.display)
    yield from text_problems("status_reason", it.status_reason)
    yield from text_problems("note", it.note)
    if isinstance(it.subject, OfVerbal):
        yield from text_problems("subject.prescriber", it.subject.prescriber)
        yield from text_problems("subject.reason", it.subject.reason)
        yield from text_problems("subject.display", it.subject.display)


def correct_problems(correct: Correct) -> tuple[Problem, ...]:
    """What is wrong with a correction."""
    return tuple(_correct_problems(correct))


def _correct_problems(it: Correct) -> Iterable[Problem]:
    yield from text_problems("reason", it.reason)
    if (it.status == "amended") != (it.administration is not None):
        yield Problem("administration", "goes with amended, and never with entered-in-error; make them agree")
    if it.administration is not None:
        if it.administration.reenters is not None:
            yield Problem("administration.reenters", "belongs to the correction itself; move it there")
        for problem in _administer_problems(it.administration):
            yield Problem(f"administration.{problem.field}", problem.says)
