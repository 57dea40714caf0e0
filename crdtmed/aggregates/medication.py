"""The formulary: medicines as the system operator imported them (FHIR MedicationKnowledge), and offline
search."""

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta

from crdtmed.aggregates.elements import (
    Code,
    Gtin,
    ItemCode,
    Model,
    Problem,
    ShortText,
    UcumUnit,
    Units,
    Version,
    text_problems,
)
from crdtmed.limits import MAX_INGREDIENTS, MAX_PACKS


class Pack(Model, frozen=True):
    """A package by its GTIN-14, with the counting units it holds."""

    gtin: Gtin
    units: Units


Codes = Annotated[tuple[Code, ...], Meta(max_length=MAX_INGREDIENTS)]


class MedicationRegister(Model, frozen=True):
    """A medicine of the formulary; stock and supply count it in ``counting_unit`` (UCUM: ``{tablet}``,
    ``mL``)."""

    code: ItemCode
    display: ShortText
    counting_unit: UcumUnit
    version: Version
    form: ShortText | None = None
    strength: ShortText | None = None
    ingredients: Codes = ()
    classes: Codes = ()
    packs: Annotated[tuple[Pack, ...], Meta(max_length=MAX_PACKS)] = ()


def medication_problems(register: MedicationRegister) -> tuple[Problem, ...]:
    """What is wrong with a medicine of the formulary."""
    return tuple(_problems(register))


def _problems(register: MedicationRegister) -> Iterable[Problem]:
    yield from text_problems("display", register.display)
    yield from text_problems("form", register.form)
    yield from text_problems("strength", register.strength)
    if len({pack.gtin for pack in register.packs}) != len(register.packs):
        yield Problem("packs", "names a GTIN twice; each package once")


def by_gtin(formulary: Iterable[MedicationRegister], gtin: str) -> tuple[tuple[MedicationRegister, Pack], ...]:
    """The medicines with a package of this GTIN, in the order of their codes; a scan that finds two must be
    asked about."""
    found = [(medicine, pack) for medicine in formulary for pack in medicine.packs if pack.gtin == gtin]
    return tuple(sorted(found, key=lambda pair: pair[0].code))


def search(formulary: Iterable[MedicationRegister], text: str, most: int = 50) -> tuple[MedicationRegister, ...]:
    """The medicines that ``text`` finds, best first, at most ``most``.

    Each word of ``text`` must begin a word of the name, form, strength or code, without regard to case.
    Names that begin with the text come first, then by name and code; so the order does not depend on that of
    ``formulary``.
    """
    wanted = text.casefold().split()
    if not wanted:
        return ()
    found = [medicine for medicine in formulary if _finds(_words(medicine), wanted)]
    start = " ".join(wanted)
    found.sort(key=lambda it: (not it.display.casefold().startswith(start), it.display.casefold(), it.code))
    return tuple(found[:most])


def _words(medicine: MedicationRegister) -> tuple[str, ...]:
    parts = (medicine.display, medicine.form or "", medicine.strength or "", medicine.code)
    return tuple(" ".join(parts).casefold().split())


def _finds(words: tuple[str, ...], wanted: list[str]) -> bool:
    return all(any(word.startswith(start) for word in words) for start in wanted)
