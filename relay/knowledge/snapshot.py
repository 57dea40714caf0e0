"""The snapshot file of rules that the embedded knowledge base reads: JSON, strict, with a name of its own.

::

    {"format": "crdtmed-knowledge/1",
     "snapshot": "2026-11",
     "source": "the hospital's formulary committee",
     "interactions": [{"between": ["warfarin", "aspirin"], "severity": "critical", "summary": "…"}],
     "allergy_classes": [{"allergy": "penicillin", "ingredients": ["amoxicillin"], "classes": [],
                          "severity": "critical", "summary": "…"}],
     "duplicate_classes": [{"class": "proton-pump-inhibitor", "severity": "warning", "summary": "…"}],
     "dose_ceilings": [{"ingredient": "paracetamol", "per_day": {"value": "4", "unit": "g"}, "severity": "critical",
                        "summary": "…"}]}

A rule may also have a ``detail``, a longer text.  Ingredients and classes are the codes of the formulary's entries; an
allergy is the code that the patient's record has.  Other fields, other types, a severity that does not exist or a rule
that contradicts itself make the file unusable, and every such fault is told with its place.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from crdtmed.aggregates.alert_override_record import Severity
from crdtmed.aggregates.elements import Code, LongText, Quantity, ShortText, quantity_problems
from crdtmed.limits import MAX_IMPORT_BYTES, MAX_INGREDIENTS, MAX_SNAPSHOT_RULES
from relay.knowledge.units import mass_unit

FORMAT: Final = "crdtmed-knowledge/1"

Codes = Annotated[tuple[Code, ...], msgspec.Meta(max_length=MAX_INGREDIENTS)]


class _Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every rule says: how grave it is, one line for people, and more where there is more."""


class Interaction(_Rule, frozen=True):
    """Two ingredients that do not go together."""

    between: tuple[Code, Code]
    severity: Severity
    summary: ShortText
    detail: LongText | None = None


class AllergyClass(_Rule, frozen=True):
    """An allergy, and the ingredients and classes that it speaks against."""

    allergy: Code
    severity: Severity
    summary: ShortText
    ingredients: Codes = ()
    classes: Codes = ()
    detail: LongText | None = None


class DuplicateClass(_Rule, frozen=True, rename={"of": "class"}):
    """A class of which one patient takes one medicine at a time."""

    of: Code
    severity: Severity
    summary: ShortText
    detail: LongText | None = None


class DoseCeiling(_Rule, frozen=True):
    """The most of an ingredient in a day; a mass, an amount of substance or units."""

    ingredient: Code
    per_day: Quantity
    severity: Severity
    summary: ShortText
    detail: LongText | None = None


R = TypeVar("R")


def _by(rules: Iterable[R], names: Callable[[R], Iterable[str]]) -> Mapping[str, tuple[R, ...]]:
    found: dict[str, list[R]] = defaultdict(list)
    for rule in rules:
        for name in dict.fromkeys(names(rule)):
            found[name].append(rule)
    return {name: tuple(held) for name, held in found.items()}


# `dict` gives instances a place for the indexes below, which are made once and are no fields.
class Snapshot(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """A snapshot of rules; ``snapshot`` is the name that prescriptions and overrides carry."""

    format: Literal["crdtmed-knowledge/1"]
    snapshot: Code
    source: ShortText
    interactions: tuple[Interaction, ...] = ()
    allergy_classes: tuple[AllergyClass, ...] = ()
    duplicate_classes: tuple[DuplicateClass, ...] = ()
    dose_ceilings: tuple[DoseCeiling, ...] = ()

    @property
    def rules(self) -> int:
        """How many rules it holds."""
        parts = (self.interactions, self.allergy_classes, self.duplicate_classes, self.dose_ceilings)
        return sum(len(part) for part in parts)

    @cached_property
    def interactions_of(self) -> Mapping[str, tuple[Interaction, ...]]:
        """The interactions that each ingredient takes part in."""
        return _by(self.interactions, lambda rule: rule.between)

    @cached_property
    def classes_of_allergy(self) -> Mapping[str, tuple[AllergyClass, ...]]:
        """What is said of each allergy."""
        return _by(self.allergy_classes, lambda rule: (rule.allergy,))

    @cached_property
    def duplicates_of(self) -> Mapping[str, tuple[DuplicateClass, ...]]:
        """What is said of two medicines of each class."""
        return _by(self.duplicate_classes, lambda rule: (rule.of,))

    @cached_property
    def ceilings_of(self) -> Mapping[str, tuple[DoseCeiling, ...]]:
        """The ceilings of each ingredient."""
        return _by(self.dose_ceilings, lambda rule: (rule.ingredient,))

    @cached_property
    def ingredients(self) -> frozenset[str]:
        """Every ingredient that some rule names."""
        named = (name for rule in self.allergy_classes for name in rule.ingredients)
        return frozenset((*self.interactions_of, *self.ceilings_of, *named))


class BadSnapshot(ValueError):
    """A file is no snapshot of rules; ``problems`` says what is wrong, each with its place in the file."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


_decode = msgspec.json.Decoder(Snapshot, strict=True).decode


def read_snapshot(data: bytes) -> Snapshot:
    """The snapshot in ``data``; raises `BadSnapshot` and nothing else."""
    if len(data) > MAX_IMPORT_BYTES:
        raise BadSnapshot((f"{len(data)} bytes, at most {MAX_IMPORT_BYTES} are read: split the rules by use",))
    try:
        snapshot = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadSnapshot((f"not a snapshot of format {FORMAT}: {error}",)) from None
    problems = tuple(_problems(snapshot))
    if problems:
        raise BadSnapshot(problems)
    return snapshot


def _problems(snapshot: Snapshot) -> list[str]:
    found: list[str] = []
    if snapshot.rules > MAX_SNAPSHOT_RULES:
        found.append(f"{snapshot.rules} rules, at most {MAX_SNAPSHOT_RULES} are read")
    for place, interaction in enumerate(snapshot.interactions):
        if interaction.between[0] == interaction.between[1]:
            found.append(f"interactions[{place}].between names {interaction.between[0]!r} twice; name two ingredients")
    for place, allergy in enumerate(snapshot.allergy_classes):
        if not (allergy.ingredients or allergy.classes):
            found.append(f"allergy_classes[{place}] names no ingredient and no class; it would never speak")
    for place, ceiling in enumerate(snapshot.dose_ceilings):
        at = f"dose_ceilings[{place}].per_day"
        found.extend(f"{problem.field} {problem.says}" for problem in quantity_problems(at, ceiling.per_day))
        if mass_unit(ceiling.per_day.unit) is None:
            found.append(
                f"{at}.unit is {ceiling.per_day.unit!r}: a ceiling is in g, mg, ug, ng, mol, mmol, meq or [iU]"
            )
    return found
