"""Prescription drafts: ten clinical groups that are written whole, never split (FHIR MedicationRequest,
intent *order*).

A write replaces one group of one draft.  Merging is in `crdtmed.policies.lww_diff`, the view in
`crdtmed.aggregates.draft_view`.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from crdtmed.aggregates.elements import (
    TIME_UNIT_MS,
    Code,
    DecimalText,
    ItemCode,
    LongText,
    Model,
    Problem,
    Quantity,
    Range,
    ShortText,
    UcumUnit,
    Units,
    decimal,
    decimal_problems,
    quantity_problems,
    range_problems,
    text_problems,
    time_problems,
)
from crdtmed.ids import ScopeId
from crdtmed.limits import MAX_FREQUENCY, MAX_QUANTITY_UNITS, MAX_REPEATS, MAX_TIMES_PER_DAY


class Group(StrEnum):
    """The clinical groups of a draft; each is one value that has one author."""

    MEDICATION = "medication"
    DOSE = "dose"
    ROUTE = "route"
    TIMING = "timing"
    DURATION = "duration"
    SUPPLY = "supply"
    INSTRUCTIONS = "instructions"
    INDICATION = "indication"
    SUBSTITUTION = "substitution"
    STATUS = "status"


REQUIRED: Final = (Group.MEDICATION, Group.DOSE, Group.ROUTE, Group.TIMING, Group.SUPPLY)
"""What a draft must have before it can be signed."""

SHORTEST_STEP_MS: Final = 60_000
"""Doses are not ordered more often than once a minute, in milliseconds."""

TimeUnit = Literal["s", "min", "h", "d", "wk", "mo", "a"]


class Medication(Model, frozen=True, tag_field="group", tag="medication"):
    """MedicationRequest.medicationCodeableConcept: the formulary's code, with form and strength as the
    prescriber saw them."""

    code: ItemCode
    display: ShortText
    form: ShortText | None = None
    strength: ShortText | None = None


class Dose(Model, frozen=True, tag_field="group", tag="dose"):
    """Dosage.doseAndRate: exactly one of a quantity and a range."""

    quantity: Quantity | None = None
    range: Range | None = None


class Route(Model, frozen=True, tag_field="group", tag="route"):
    """Dosage.route."""

    code: Code
    display: ShortText


class MaxPerPeriod(Model, frozen=True):
    """Dosage.maxDosePerPeriod: at most so many doses, or so much, in any stretch of ``period`` (a time)."""

    period: Quantity
    doses: Annotated[int, Meta(ge=1, le=MAX_FREQUENCY)] | None = None
    quantity: Quantity | None = None


class Timing(Model, frozen=True, tag_field="group", tag="timing"):
    """Dosage.timing.repeat and Dosage.asNeeded, as one value.

    Either ``frequency`` doses in each ``period`` ``period_unit`` (``times`` of the day where they are fixed:
    local to the site, as many as ``frequency``, and then the period is whole days), or ``count`` doses in all
    (1 = once), or only ``as_needed``.  ``max_dose`` is Dosage.maxDosePerAdministration; ``min_interval`` is a
    time between two doses.
    """

    frequency: Annotated[int, Meta(ge=1, le=MAX_FREQUENCY)] | None = None
    period: DecimalText | None = None
    period_unit: TimeUnit | None = None
    times: Annotated[tuple[Annotated[str, Meta(max_length=5)], ...], Meta(max_length=MAX_TIMES_PER_DAY)] = ()
    count: Annotated[int, Meta(ge=1, le=MAX_FREQUENCY)] | None = None
    as_needed: bool = False
    as_needed_reason: ShortText | None = None
    max_dose: Quantity | None = None
    max_per_period: MaxPerPeriod | None = None
    min_interval: Quantity | None = None


class Duration(Model, frozen=True, tag_field="group", tag="duration"):
    """Timing.repeat.boundsDuration: how long the order runs."""

    value: DecimalText
    unit: TimeUnit


class Supply(Model, frozen=True, tag_field="group", tag="supply"):
    """MedicationRequest.dispenseRequest: ``quantity`` counting units at a time, 1 + ``repeats`` times, at
    ``site``.

    ``site`` is None while nobody has chosen the dispensing site; a prescription cannot be signed so.
    """

    quantity: Units
    unit: UcumUnit
    repeats: Annotated[int, Meta(ge=0, le=MAX_REPEATS)] = 0
    site: ScopeId | None = None


class Instructions(Model, frozen=True, tag_field="group", tag="instructions"):
    """Dosage.patientInstruction."""

    text: LongText


class Indication(Model, frozen=True, tag_field="group", tag="indication"):
    """MedicationRequest.reasonCode."""

    text: ShortText
    code: Code | None = None


class Substitution(Model, frozen=True, tag_field="group", tag="substitution"):
    """MedicationRequest.substitution."""

    allowed: bool
    reason: ShortText | None = None


class DraftStatus(Model, frozen=True, tag_field="group", tag="status"):
    """MedicationRequest.status of a draft; ``entered-in-error`` sets it aside for ever being signed."""

    status: Literal["draft", "entered-in-error"]


GroupValue = (
    Medication | Dose | Route | Timing | Duration | Supply | Instructions | Indication | Substitution | DraftStatus
)

TYPES: Final[Mapping[Group, type]] = MappingProxyType(
    {
        Group.MEDICATION: Medication,
        Group.DOSE: Dose,
        Group.ROUTE: Route,
        Group.TIMING: Timing,
        Group.DURATION: Duration,
        Group.SUPPLY: Supply,
        Group.INSTRUCTIONS: Instructions,
        Group.INDICATION: Indication,
        Group.SUBSTITUTION: Substitution,
        Group.STATUS: DraftStatus,
    }
)
"""The type of value that each group holds."""


class DraftWrite(Model, frozen=True):
    """One write of one group of the draft ``prescription``; a value of None clears the group."""

    prescription: ScopeId
    group: Group
    value: GroupValue | None = None


def _dose(value: Dose) -> Iterable[Problem]:
    if (value.quantity is None) == (value.range is None):
        yield Problem("dose", "must have exactly one of quantity and range")
    if value.quantity is not None:
        yield from quantity_problems("dose.quantity", value.quantity)
    if value.range is not None:
        yield from range_problems("dose.range", value.range)


_HH_MM = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


def _times(value: Timing) -> Iterable[Problem]:
    for place, at in enumerate(value.times):
        if not _HH_MM.fullmatch(at):
            yield Problem(f"timing.times.{place}", f"is {at!r}: not a time of day; write it as HH:MM, 00:00 to 23:59")
    if list(value.times) != sorted(set(value.times)):
        yield Problem("timing.times", "must be in order, each time once")
    if value.times and len(value.times) != value.frequency:
        yield Problem(
            "timing.times",
            f"names {len(value.times)} times where frequency is {value.frequency}; make them agree",
        )
    if value.times and (value.period_unit != "d" or "." in (value.period or ".")):
        yield Problem("timing.times", "needs a period of whole days; leave the times out or write the period in d")


def _period(value: Timing) -> Iterable[Problem]:
    if value.period is None:
        return
    wrong = tuple(decimal_problems("timing.period", value.period))
    yield from wrong
    if wrong or value.period_unit is None or value.frequency is None:
        return
    if decimal(value.period) * TIME_UNIT_MS[value.period_unit] < SHORTEST_STEP_MS * value.frequency:
        yield Problem("timing.frequency", "is more than once a minute; correct it, or the period")


def _timing(value: Timing) -> Iterable[Problem]:
    rate = (value.frequency, value.period, value.period_unit)
    if any(part is not None for part in rate) and None in rate:
        yield Problem("timing", "needs frequency, period and period_unit together")
    if value.frequency is None and value.count is None and not value.as_needed:
        yield Problem("timing", "says neither how often, nor how many times, nor as needed; write one of them")
    yield from _period(value)
    yield from _times(value)
    if value.as_needed_reason is not None and not value.as_needed:
        yield Problem("timing.as_needed_reason", "is given where as_needed is not; set as_needed or leave it out")
    yield from text_problems("timing.as_needed_reason", value.as_needed_reason)
    if value.max_dose is not None:
        yield from quantity_problems("timing.max_dose", value.max_dose)
    if value.min_interval is not None:
        yield from time_problems("timing.min_interval", value.min_interval)
    if value.max_per_period is not None:
        yield from time_problems("timing.max_per_period.period", value.max_per_period.period)
        if value.max_per_period.doses is None and value.max_per_period.quantity is None:
            yield Problem("timing.max_per_period", "needs a number of doses or a quantity")
        if value.max_per_period.quantity is not None:
            yield from quantity_problems("timing.max_per_period.quantity", value.max_per_period.quantity)


def _supply(value: Supply) -> Iterable[Problem]:
    if authorised(value) > MAX_QUANTITY_UNITS:
        yield Problem("supply.quantity", f"times 1 + repeats is more than {MAX_QUANTITY_UNITS} units; correct it")


def _medication(value: Medication) -> Iterable[Problem]:
    yield from text_problems("medication.display", value.display)
    yield from text_problems("medication.form", value.form)
    yield from text_problems("medication.strength", value.strength)


def _indication(value: Indication) -> Iterable[Problem]:
    return text_problems("indication.text", value.text)


_PROBLEMS: Final[Mapping[type, Callable[[Any], Iterable[Problem]]]] = MappingProxyType(
    {
        Medication: _medication,
        Dose: _dose,
        Route: lambda value: text_problems("route.display", value.display),
        Timing: _timing,
        Duration: lambda value: decimal_problems("duration.value", value.value),
        Supply: _supply,
        Instructions: lambda value: text_problems("instructions.text", value.text),
        Indication: _indication,
        Substitution: lambda value: text_problems("substitution.reason", value.reason),
        DraftStatus: lambda value: (),
    }
)


def group_of(value: GroupValue) -> Group:
    """The group that a value belongs to."""
    return next(group for group, of in TYPES.items() if of is type(value))


def value_problems(value: GroupValue) -> tuple[Problem, ...]:
    """What is wrong with a group's value; fields are named from the group on (``dose.quantity.value``)."""
    return tuple(_PROBLEMS[type(value)](value))


def write_problems(write: DraftWrite) -> tuple[Problem, ...]:
    """What is wrong with a draft write."""
    if write.value is None:
        return ()
    if TYPES[write.group] is not type(write.value):
        return (
            Problem(
                "value",
                f"belongs to group {group_of(write.value)}, the write names {write.group}; make them agree",
            ),
        )
    return value_problems(write.value)


def authorised(supply: Supply) -> int:
    """How many counting units may be dispensed in all: quantity times (1 + repeats)."""
    return supply.quantity * (1 + supply.repeats)


def incomplete(groups: Collection[Group] | Mapping[Group, object]) -> tuple[str, ...]:
    """The required groups that are missing, in the order of `REQUIRED`.

    Of a mapping, groups whose value is None count as missing, since None clears a group; and a supply without
    a dispensing site gives ``supply.site``.
    """
    values = groups if isinstance(groups, Mapping) else dict.fromkeys(groups, True)
    missing = tuple(str(group) for group in REQUIRED if values.get(group) is None)
    supply = values.get(Group.SUPPLY)
    return (*missing, "supply.site") if isinstance(supply, Supply) and supply.site is None else missing


def write_key(write: DraftWrite, device: str, statement: str) -> str:
    """The key of a write in the drafts document: ``<prescription>/<group>/<author device>/<statement id>``.

    It is unique for ever, so that no write overwrites another.
    """
    return f"{write.prescription}/{write.group}/{device}/{statement}"
