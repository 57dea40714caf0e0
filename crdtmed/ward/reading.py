"""What the readers of order files share: what a row became, and why something in it was left blank.

A reader takes every row.  A row becomes an `Order` (perhaps with blanks), or is set aside whole; in both cases each
field that could not be read is a `Finding` with the line of the file, the field and a reason.  Nothing is guessed:
what a table or a grammar of the reader does not name stays blank.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from crdtmed.aggregates.prescription_draft import REQUIRED, Group, GroupValue
from crdtmed.limits import MAX_IMPORT_ROWS


@dataclass(frozen=True, slots=True)
class Finding:
    """One field of one row that was not taken as it stands; ``line`` counts from 1, the header included."""

    line: int
    field: str
    reason: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """One order of a file.

    ``groups`` are the draft's clinical groups that the row states; ``generated`` names those that the file does not
    hold and that were derived from the others (they are marked so in the record); ``start_minutes`` counts from the
    start of the stay where the file has it.
    """

    line: int
    number: str
    patient: str
    groups: Mapping[Group, GroupValue]
    generated: frozenset[Group] = frozenset()
    start_minutes: int | None = None
    start_date: str | None = None

    @property
    def blanks(self) -> tuple[Group, ...]:
        """Groups that signing needs and the order lacks; a draft with one is never signed."""
        return tuple(group for group in REQUIRED if group not in self.groups)


@dataclass(frozen=True, slots=True)
class Reading:
    """A whole file read: ``rows`` in it, the orders, the findings, and the lines set aside."""

    rows: int
    orders: tuple[Order, ...]
    findings: tuple[Finding, ...]
    set_aside: tuple[Finding, ...]


class UnreadableFile(ValueError):
    """A file is not what its reader expects; the message says which file, what was expected and what to do."""


def check_columns(name: str, found: Iterable[str] | None, expected: Iterable[str]) -> None:
    """Raises `UnreadableFile` unless the header has every expected column."""
    missing = [column for column in expected if column not in (found or ())]
    if missing:
        raise UnreadableFile(f"{name}: the header lacks {', '.join(missing)}; give the file as it was published")


def check_rows(name: str, rows: int) -> None:
    """Raises `UnreadableFile` past the limit of an import."""
    if rows > MAX_IMPORT_ROWS:
        raise UnreadableFile(f"{name}: {rows} rows, at most {MAX_IMPORT_ROWS} are read; split the file")


UNITS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "mg": "mg",
        "mcg": "ug",
        "g": "g",
        "gm": "g",
        "gram": "g",
        "ml": "mL",
        "meq": "meq",
        "mmol": "mmol",
        "unit": "[iU]",
        "units": "[iU]",
        "unit(s)": "[iU]",
        "tab": "{tablet}",
        "tab(s)": "{tablet}",
        "tablet": "{tablet}",
        "cap": "{capsule}",
        "puff": "{puff}",
        "puff(s)": "{puff}",
        "spray": "{spray}",
        "drop": "[drp]",
        "patch": "{patch}",
        "packet": "{packet}",
        "enema": "{enema}",
        "dose": "{dose}",
    }
)
"""Spellings of units, in lower case, and the UCUM unit each stands for.

Only spellings that can mean one thing are here: ``APP``, ``EA``, ``ZZ`` and bare numbers such as ``5002`` are not.
"""
