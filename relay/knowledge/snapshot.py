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

Ingredients and classes are the codes of the formulary's entries; an allergy is the code that the patient's record
has.  Other fields, other types, a severity that does not exist or a rule that contradicts itself make the file
unusable, and every such fault is told with its place.
"""

from typing import Annotated, Final, Literal

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


class Snapshot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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
