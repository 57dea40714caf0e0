"""What the content models share: bounded texts and ids, codings, exact quantities, and problems that name a
field.

Quantities are canonical decimal strings with a UCUM unit; there is no float anywhere.  Instants are whole
milliseconds since the Unix epoch, UTC, in fields that end in ``_at``; dates are ISO 8601 strings
(``YYYY-MM-DD``).
"""

import re
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct

from crdtmed.clock import MAX_MS
from crdtmed.limits import (
    MAX_CODE_CHARS,
    MAX_DECIMAL_CHARS,
    MAX_LONG_TEXT_CHARS,
    MAX_LOT_CHARS,
    MAX_NUMBER,
    MAX_QUANTITY_UNITS,
    MAX_SHORT_TEXT_CHARS,
    MAX_UNIT_CHARS,
)

# Patterns end in \Z, since $ would let a trailing newline through.
Code = Annotated[str, Meta(pattern=rf"\A[!-~]{{1,{MAX_CODE_CHARS}}}\Z")]
"""A code of some code system: printable ASCII without spaces."""
ItemCode = Annotated[str, Meta(pattern=rf"\A[!-.0-~]{{1,{MAX_CODE_CHARS}}}\Z")]
"""A code of the formulary: as `Code`, without ``/``, which parts the keys of registers."""
UcumUnit = Annotated[str, Meta(pattern=rf"\A[!-~]{{1,{MAX_UNIT_CHARS}}}\Z")]
"""A UCUM unit code, case-sensitive: ``mg``, ``mL``, ``[iU]``, ``{tablet}``."""
ShortText = Annotated[str, Meta(min_length=1, max_length=MAX_SHORT_TEXT_CHARS)]
LongText = Annotated[str, Meta(min_length=1, max_length=MAX_LONG_TEXT_CHARS)]
DecimalText = Annotated[str, Meta(max_length=MAX_DECIMAL_CHARS)]
"""A canonical decimal, see `decimal`; its form is judged by `Problem`, so that the message can help."""
DateText = Annotated[str, Meta(max_length=10)]
"""``YYYY-MM-DD``; judged by `date_problems`."""
Lot = Annotated[str, Meta(pattern=rf"\A[!-~]([ -~]{{0,{MAX_LOT_CHARS - 2}}}[!-~])?\Z")]
"""A batch or lot number as GS1 AI (10) has it: 1 to 20 printable characters."""
Gtin = Annotated[str, Meta(pattern=r"\A[0-9]{14}\Z")]
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
"""A SHA-256 digest."""
Instant = Annotated[int, Meta(ge=0, le=MAX_MS)]
"""Milliseconds since the Unix epoch, UTC."""
Units = Annotated[int, Meta(ge=1, le=MAX_QUANTITY_UNITS)]
"""A number of counting units (tablets, mL) that is not nothing."""
UnitsOrNone = Annotated[int, Meta(ge=0, le=MAX_QUANTITY_UNITS)]
"""A number of counting units, zero included."""
Version = Annotated[int, Meta(ge=1, le=MAX_NUMBER)]
"""The version of a register; the relay counts it up by one with each change."""

TIME_UNIT_MS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "s": 1_000,
        "min": 60_000,
        "h": 3_600_000,
        "d": 86_400_000,
        "wk": 604_800_000,
        "mo": 2_629_800_000,
        "a": 31_557_600_000,
    }
)
"""UCUM units of time that FHIR's UnitsOfTime allows, in milliseconds (a month is 30.4375 days, a year 365.25)."""


class Model(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The encoding that all content models and registers share; it has no fields and no behaviour."""


class Problem(NamedTuple):
    """What is wrong with a content: ``field`` is the dotted path to it, ``says`` tells people what and what
    to do."""

    field: str
    says: str


class Quantity(Model, frozen=True):
    """FHIR Quantity: a canonical decimal and a UCUM unit."""

    value: DecimalText
    unit: UcumUnit


class Range(Model, frozen=True):
    """FHIR Range: two quantities of one unit, the lower one below the higher."""

    low: Quantity
    high: Quantity


_DECIMAL = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]*[1-9])?")


def decimal(value: str) -> Decimal:
    """The number that a canonical decimal string means.

    Canonical: digits with at most one point, a zero before the point, no zero at the end after it, no sign,
    exponent or space, at most 18 characters; so each number has one spelling, and it is the one ISMP asks
    for.  Raises `ValueError` that quotes the value and says what to do.
    """
    if len(value) <= MAX_DECIMAL_CHARS and _DECIMAL.fullmatch(value):
        return Decimal(value)
    raise ValueError(
        f"is {value[:40]!r}: not a decimal number as it is written here (5, 0.5, 2.25: no space, sign or "
        "exponent, a zero before the point, none at the end after it); correct it at the source"
    )


def decimal_problems(field: str, value: str, positive: bool = True) -> Iterable[Problem]:
    """Whether ``value`` is a canonical decimal, and above zero where it has to be."""
    try:
        number = decimal(value)
    except ValueError as error:
        yield Problem(field, str(error))
    else:
        if positive and number == 0:
            yield Problem(field, "is 0; write an amount above zero, or leave the whole field out")


def quantity_problems(field: str, quantity: Quantity) -> Iterable[Problem]:
    """What is wrong with a quantity that must be above zero."""
    return decimal_problems(f"{field}.value", quantity.value)


def time_problems(field: str, quantity: Quantity) -> Iterable[Problem]:
    """What is wrong with a quantity that must be a length of time above zero."""
    yield from quantity_problems(field, quantity)
    if quantity.unit not in TIME_UNIT_MS:
        yield Problem(
            f"{field}.unit", f"is {quantity.unit!r}: not a unit of time; use one of {', '.join(TIME_UNIT_MS)}"
        )


def time_ms(of: Quantity) -> int:
    """A length of time in milliseconds, rounded down; raises `ValueError` where it is none."""
    if of.unit not in TIME_UNIT_MS:
        raise ValueError(f"{of.unit!r} is not a unit of time; use one of {', '.join(TIME_UNIT_MS)}")
    return int(decimal(of.value) * TIME_UNIT_MS[of.unit])


def range_problems(field: str, of: Range) -> Iterable[Problem]:
    """What is wrong with a range."""
    found = [*quantity_problems(f"{field}.low", of.low), *quantity_problems(f"{field}.high", of.high)]
    yield from found
    if of.low.unit != of.high.unit:
        yield Problem(
            f"{field}.high.unit",
            f"is {of.high.unit!r} where low is in {of.low.unit!r}; use one unit for both",
        )
    elif not found and decimal(of.low.value) >= decimal(of.high.value):
        yield Problem(
            f"{field}.high.value",
            f"is {of.high.value}, not above low, {of.low.value}; exchange or correct them",
        )


def date_problems(field: str, value: str) -> Iterable[Problem]:
    """Whether ``value`` is a date of the calendar, written ``YYYY-MM-DD``."""
    try:
        same = date.fromisoformat(value).isoformat() == value
    except ValueError:
        same = False
    if not same:
        yield Problem(field, f"is {value[:40]!r}: not a date; write it as YYYY-MM-DD")


_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
"""Control characters of ASCII but the line feed."""


def text_problems(field: str, value: str | None) -> Iterable[Problem]:
    """Whether a text that people wrote says something and holds no control characters but line ends."""
    if value is None:
        return
    if not value.strip():
        yield Problem(field, "is blank; write something or leave it out")
    elif _CONTROL.search(value):
        yield Problem(field, "holds control characters; write it again without them")
