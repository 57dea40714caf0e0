"""Doses, strengths and timing as text that is hard to misread (ISMP, *List of Error-Prone Abbreviations*).

No zero after the point at the end, a zero before it, commas in thousands, a space before the unit, ``mL`` and
``mcg``, *units* spelt out, *per* and *to* where others put a slash or a dash, English words where others
abbreviate. Numbers stay digits. Amounts come in as canonical decimal strings with a UCUM unit; nothing is
rounded or converted.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from crdtmed.limits import MAX_DECIMAL_CHARS

_DECIMAL = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]*[1-9])?")


class Amount(NamedTuple):
    """A canonical decimal (``0.5``; not ``.5``, ``5.0`` or ``1e3``) and a UCUM unit."""

    value: str
    unit: str


_TIMES = {
    "s": ("second", "seconds"),
    "min": ("minute", "minutes"),
    "h": ("hour", "hours"),
    "d": ("day", "days"),
    "wk": ("week", "weeks"),
    "mo": ("month", "months"),
    "a": ("year", "years"),
}
_SYMBOLS = ("kg", "g", "mg", "L", "dL", "mL", "mol", "mmol", "cm", "mm", "kcal", "MBq")
_COUNTED = """
    ampoule ampule application bag blister bottle capsule cartridge dose drop enema film implant inhalation injection
    lozenge pack pellet pen puff ring sachet spray strip syringe tablet tube unit vial wafer
"""
_UNITS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        **_TIMES,
        **{symbol: (symbol, symbol) for symbol in _SYMBOLS},
        "ug": ("mcg", "mcg"),
        "ng": ("nanogram", "nanograms"),
        "uL": ("microliter", "microliters"),
        "umol": ("micromole", "micromoles"),
        "nmol": ("nanomole", "nanomoles"),
        "meq": ("mEq", "mEq"),
        "m2": ("square meter", "square meters"),
        "U": ("unit", "units"),
        "[iU]": ("unit", "units"),
        "k[iU]": ("thousand units", "thousand units"),
        "M[iU]": ("million units", "million units"),
        "[drp]": ("drop", "drops"),
        **{f"{{{word}}}": (word, f"{word}s") for word in _COUNTED.split()},
        "{patch}": ("patch", "patches"),
        "{suppository}": ("suppository", "suppositories"),
        "{pessary}": ("pessary", "pessaries"),
    }
)
KNOWN_UNITS: Final = frozenset(_UNITS)
"""The UCUM units that have a text here; several may be joined by ``/`` (``mg/kg/h``); ``%`` has one too."""


@dataclass(frozen=True)
class _Way:
    verb: str
    place: str


# SNOMED CT codes of routes of administration.
_ROUTES: Final[Mapping[str, _Way]] = MappingProxyType(
    {
        "26643006": _Way("Take", "by mouth"),
        "37839007": _Way("Place", "under the tongue"),
        "54471007": _Way("Place", "inside the cheek"),
        "447694001": _Way("Inhale", "into the lungs"),
        "46713006": _Way("Use", "in the nose"),
        "54485002": _Way("Use", "in the eye"),
        "10547007": _Way("Use", "in the ear"),
        "6064005": _Way("Apply", "to the skin"),
        "448598008": _Way("Apply", "to the skin"),
        "45890007": _Way("Apply", "to the skin"),
        "37161004": _Way("Insert", "into the rectum"),
        "16857009": _Way("Insert", "into the vagina"),
        "34206005": _Way("Inject", "under the skin"),
        "372464004": _Way("Inject", "into the skin"),
        "78421000": _Way("Inject", "into a muscle"),
        "47625008": _Way("Give", "into a vein"),
        "72607000": _Way("Give", "into the spinal canal"),
        "404820008": _Way("Give", "into the epidural space"),
        "127492001": _Way("Give", "through the nose-to-stomach tube"),
        "127490009": _Way("Give", "through the stomach tube"),
    }
)


def number_text(value: str) -> str:
    """A canonical decimal with commas in thousands (``1,000``); raises `ValueError` that quotes anything else."""
    if len(value) > MAX_DECIMAL_CHARS or not _DECIMAL.fullmatch(value):
        raise ValueError(
            f"{value[:40]!r} is not a canonical decimal (5, 0.5, 1000: a zero before the point, none at the "
            "end after it, no sign, comma or exponent); correct it at the source"
        )
    whole, point, rest = value.partition(".")
    return f"{int(whole):,}{point}{rest}"


def unit_text(unit: str, many: bool) -> str:
    """A UCUM unit in words, for one or for many: ``mg``, ``units``, ``mcg per kg per hour``.

    Raises `ValueError` that names the unit when it is not made of `KNOWN_UNITS`.
    """
    above, *below = unit.split("/")
    for part in (above, *below):
        if part not in _UNITS:
            raise ValueError(
                f"unit {unit[:40]!r} has no text: {part[:40]!r} is not among "
                f"{', '.join(sorted(_UNITS))}; write one of these"
            )
    return " per ".join([_UNITS[above][many], *(_UNITS[part][0] for part in below)])


def quantity_text(value: str, unit: str) -> str:
    """An amount as text: ``0.5 mg``, ``1,000 units``, ``2 tablets``, ``5 mcg per kg per hour``, ``0.9%``.

    ``value`` is a canonical decimal, ``unit`` a UCUM code. Raises `ValueError` that names the one that is
    not.
    """
    number = number_text(value)
    return f"{number}%" if unit == "%" else f"{number} {unit_text(unit, _many(value))}"


def _many(value: str) -> bool:
    """Whether English has the plural: *0.5 tablet*, *1 tablet*, but *0 tablets* and *1.5 tablets*."""
    return value != "1" and not value.startswith("0.")


def range_text(low: Amount, high: Amount) -> str:
    """A range as text, ``1 to 2 tablets``; raises `ValueError` for two units, or an amount without a text."""
    if low.unit != high.unit:
        raise ValueError(f"a range from {low.unit[:40]!r} to {high.unit[:40]!r} has two units; write both ends in one")
    return f"{number_text(low.value)} to {quantity_text(*high)}"


def strength_text(amount: Amount, in_each: Amount | None = None) -> str:
    """A strength as text: ``500 mg``, ``250 mg per 5 mL``, ``100 units per mL``; raises as `quantity_text`."""
    if in_each is None:
        return quantity_text(*amount)
    below = unit_text(in_each.unit, many=False) if in_each.value == "1" else quantity_text(*in_each)
    return f"{quantity_text(*amount)} per {below}"


def sig_text(
    *,
    dose: Amount,
    dose_high: Amount | None = None,
    route: str,
    route_display: str,
    frequency: int | None = None,
    period: str | None = None,
    period_unit: str | None = None,
    times: Sequence[str] = (),
    count: int | None = None,
    as_needed: bool = False,
    as_needed_reason: str | None = None,
    max_dose: Amount | None = None,
    max_doses: int | None = None,
    max_quantity: Amount | None = None,
    max_period: Amount | None = None,
    min_interval: Amount | None = None,
    duration: Amount | None = None,
) -> str:
    """A dosage as one sentence, from the parts of FHIR's Dosage.

    *Take 5 mg by mouth 2 times a day as needed for pain; not more than 4 doses in 24 hours.* ``dose_high``
    makes the dose a range. ``route`` is a SNOMED CT code; one that has no words here is given by
    ``route_display``. Timing is ``frequency`` a ``period`` of ``period_unit`` (a UCUM time) with fixed
    ``times`` (HH:MM) or without, or ``count`` doses in all, or as needed. ``max_doses`` and ``max_quantity``
    hold in any ``max_period``; ``max_dose`` is for one dose; ``min_interval`` lies between two. Raises
    `ValueError` that names the part when a number is not canonical, a unit has no text, or parts that belong
    together are not. Texts written by people (reason, display) stay as written.
    """
    amount = quantity_text(*dose) if dose_high is None else range_text(dose, dose_high)
    way = _ROUTES.get(route)
    said = f"{way.verb} {amount} {way.place}" if way else f"Give {amount} (route: {route_display})"
    if frequency is not None or period is not None or period_unit is not None:
        if frequency is None or period is None or period_unit is None:
            raise ValueError("timing needs frequency, period and period_unit together; write all three or none")
        said += f" {_rate(frequency, Amount(period, period_unit))}"
    elif count is None and not as_needed:
        raise ValueError("timing says neither how often, nor how many doses, nor as needed; write one of them")
    if times:
        said += f" at {_list(times)}"
    if duration is not None:
        said += f" for {_time(duration, 'duration')}"
    if as_needed:
        said += f" as needed for {as_needed_reason}" if as_needed_reason else " as needed"
    if count is not None:
        said += f", {_doses(count)} only" if count == 1 else f", {_doses(count)} in all"
    return "; ".join([said, *_limits(max_dose, max_doses, max_quantity, max_period, min_interval)])


def _rate(frequency: int, period: Amount) -> str:
    """``2 times a day``, ``every 6 hours``, ``1 time a week``: never *once*, which is 11 in Spanish."""
    length = _time(period, "period")
    one = _TIMES[period.unit][0]
    if period.value != "1":
        return f"every {length}" if frequency == 1 else f"{frequency:,} times every {length}"
    if frequency == 1 and period.unit in ("s", "min", "h"):
        return f"every {one}"
    return f"{frequency:,} {'time' if frequency == 1 else 'times'} {'an' if one == 'hour' else 'a'} {one}"


def _limits(
    max_dose: Amount | None,
    max_doses: int | None,
    max_quantity: Amount | None,
    max_period: Amount | None,
    min_interval: Amount | None,
) -> Iterator[str]:
    if max_dose is not None:
        yield f"not more than {quantity_text(*max_dose)} at a time"
    most = [_doses(max_doses)] if max_doses is not None else []
    most += [quantity_text(*max_quantity)] if max_quantity is not None else []
    if bool(most) != (max_period is not None):
        raise ValueError("a maximum needs max_period, and max_doses or max_quantity; write both or neither")
    if max_period is not None:
        yield f"not more than {' and '.join(most)} in {_time(max_period, 'max_period')}"
    if min_interval is not None:
        yield f"at least {_time(min_interval, 'min_interval')} between doses"


def _time(length: Amount, name: str) -> str:
    if length.unit not in _TIMES:
        raise ValueError(
            f"{name} has unit {length.unit[:40]!r}, which is no unit of time; use one of {', '.join(_TIMES)}"
        )
    return quantity_text(*length)


def _doses(number: int) -> str:
    return f"{number:,} {'dose' if number == 1 else 'doses'}"


def _list(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
