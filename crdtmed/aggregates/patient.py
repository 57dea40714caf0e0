"""What a patient's document says of the patient: the register that the relay keeps (FHIR Patient,
AllergyIntolerance)."""

from collections.abc import Iterable
from typing import Annotated, Final

from msgspec import Meta, Struct, msgpack

from crdtmed.aggregates.elements import (
    Code,
    DateText,
    Model,
    Problem,
    ShortText,
    Version,
    date_problems,
    text_problems,
)
from crdtmed.aggregates.reconciliation_session import HomeMedication, home_problems
from crdtmed.ids import ScopeId
from crdtmed.limits import MAX_ALLERGIES, MAX_CARE_SITES, MAX_HOME_MEDICATIONS, MAX_IDENTIFIERS


class Identifier(Model, frozen=True):
    """Patient.identifier: a value within a naming system (a URI)."""

    system: ShortText
    value: ShortText


class Allergy(Model, frozen=True):
    """AllergyIntolerance.code: a substance or a class of substances, with what it did."""

    code: Code
    display: ShortText
    reaction: ShortText | None = None


class PatientRegister(Model, frozen=True):
    """A patient as the relay holds it.

    ``allergies`` None means that nobody recorded any answer; an empty tuple means *no known allergies*, which
    somebody did record.  ``care_sites`` are the sites whose staff may open the patient.
    """

    id: ScopeId
    identifiers: Annotated[tuple[Identifier, ...], Meta(min_length=1, max_length=MAX_IDENTIFIERS)]
    name: ShortText
    birth_date: DateText
    care_sites: Annotated[tuple[ScopeId, ...], Meta(max_length=MAX_CARE_SITES)]
    version: Version
    allergies: Annotated[tuple[Allergy, ...], Meta(max_length=MAX_ALLERGIES)] | None = None
    home_medications: Annotated[tuple[HomeMedication, ...], Meta(max_length=MAX_HOME_MEDICATIONS)] = ()


class PatientLabel(Model, frozen=True):
    """The identifiers that every view of a patient shows, at least two independent ones: identifier, name,
    birth date."""

    id: ScopeId
    identifier: ShortText
    name: ShortText
    birth_date: DateText


def label_of(register: PatientRegister) -> PatientLabel:
    """What a view shows of a patient: the first identifier, the name and the birth date."""
    return PatientLabel(register.id, register.identifiers[0].value, register.name, register.birth_date)


class _InCare(Struct, frozen=True, gc=False):
    care_sites: tuple[str, ...]


_IN_CARE: Final = msgpack.Decoder(_InCare | None)


def care_sites_of(register: bytes) -> tuple[str, ...] | None:
    """The care sites alone of a patient's register that the relay has kept; None where it is withdrawn.

    Raises `msgspec.MsgspecError` where the bytes are none.
    """
    found = _IN_CARE.decode(register)
    return None if found is None else found.care_sites


def patient_problems(register: PatientRegister) -> tuple[Problem, ...]:
    """What is wrong with a patient's register."""
    return tuple(_problems(register))


def _problems(register: PatientRegister) -> Iterable[Problem]:
    yield from text_problems("name", register.name)
    yield from date_problems("birth_date", register.birth_date)
    for place, identifier in enumerate(register.identifiers):
        yield from text_problems(f"identifiers.{place}.value", identifier.value)
    if len(set(register.care_sites)) != len(register.care_sites):
        yield Problem("care_sites", "names a site twice; name each once")
    yield from home_problems("home_medications", register.home_medications)
