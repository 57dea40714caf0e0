"""Imports of the system operator: formulary, patients and opening stock from CSV files; pure.

A file is taken whole or not at all: every wrong row is told with its line, its field and the reason.  Files are
UTF-8 with a header; columns may stand in any order, and a column that is not named here is an error, since a
misspelt heading would otherwise lose its content in silence.  Lists within a field are parted by ``;``.

- **formulary**: ``code, display, form, strength, counting_unit, ingredients, classes, packs``; a pack is
  ``gtin:units``.
- **patients**: ``id, identifiers, name, birth_date, allergies, care_sites``; an identifier is ``system|value``; an
  allergy ``code|display`` or ``code|display|reaction``; ``none known`` in ``allergies`` records that there are none,
  a blank that nobody asked.
- **stock**: ``site, item, lot, expiry, quantity, unit``: what is on hand when the relay takes over.
"""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

import msgspec

from crdtmed.aggregates.elements import Problem
from crdtmed.aggregates.medication import MedicationRegister, Pack, medication_problems
from crdtmed.aggregates.patient import Allergy, Identifier, PatientRegister, patient_problems
from crdtmed.aggregates.stock_item import StockRegister, stock_problems
from crdtmed.gs1 import Gs1Error, gtin14
from crdtmed.ids import is_scope_id
from crdtmed.limits import MAX_IMPORT_BYTES, MAX_IMPORT_ERRORS_SHOWN, MAX_IMPORT_ROWS, MAX_QUANTITY_UNITS

NONE_KNOWN: Final = "none known"


class ImportKind(StrEnum):
    """What can be imported."""

    FORMULARY = "formulary"
    PATIENTS = "patients"
    STOCK = "stock"


COLUMNS: Final[Mapping[ImportKind, tuple[str, ...]]] = {
    ImportKind.FORMULARY: (
        *("code", "display", "form", "strength", "counting_unit"),
        *("ingredients", "classes", "packs"),
    ),
    ImportKind.PATIENTS: ("id", "identifiers", "name", "birth_date", "allergies", "care_sites"),
    ImportKind.STOCK: ("site", "item", "lot", "expiry", "quantity", "unit"),
}


@dataclass(frozen=True, slots=True)
class RowError:
    """One thing that is wrong: the line of the file at which the row begins (the header is line 1), the column, and
    what to do."""

    line: int
    field: str
    says: str


class ImportRefused(ValueError):
    """Nothing was imported; ``errors`` are what was found, up to `MAX_IMPORT_ERRORS_SHOWN` of ``count``."""

    def __init__(self, errors: Sequence[RowError]) -> None:
        super().__init__(f"{len(errors)} errors; the first: line {errors[0].line}, {errors[0].field}: {errors[0].says}")
        self.errors = tuple(errors[:MAX_IMPORT_ERRORS_SHOWN])
        self.count = len(errors)


@dataclass(frozen=True, slots=True)
class StockRow:
    """Opening stock of one lot at a site."""

    site: str
    register: StockRegister


R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Row(Generic[R]):
    """What one row says, and the line at which it begins: a field in quotes may hold line ends."""

    line: int
    value: R


class _Wrong(ValueError):
    def __init__(self, field: str, says: str) -> None:
        super().__init__(says)
        self.field = field
        self.says = says


@dataclass(frozen=True, slots=True)
class _Reader(Generic[R]):
    kind: ImportKind
    make: Callable[[Mapping[str, str]], R]
    key: Callable[[R], tuple[str, ...]]
    problems: Callable[[R], tuple[Problem, ...]]


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(";") if part.strip())


def _whole(field: str, text: str) -> int:
    if not re.match(r"[0-9]{1,8}\Z", text) or int(text) > MAX_QUANTITY_UNITS:
        raise _Wrong(field, f"is {text[:40]!r}: write a whole number of counting units, at most {MAX_QUANTITY_UNITS}")
    return int(text)


def _pack(text: str) -> Pack:
    gtin, _, units = text.partition(":")
    try:
        return Pack(gtin14(gtin.strip()), _whole("packs", units.strip()))
    except Gs1Error as error:
        raise _Wrong("packs", str(error)) from None


def _identifier(text: str) -> Identifier:
    system, bar, value = text.partition("|")
    if not bar or not system or not value:
        raise _Wrong("identifiers", f"{text[:40]!r} is not written as system|value")
    return Identifier(system, value)


def _allergy(text: str) -> Allergy:
    parts = text.split("|")
    if len(parts) not in (2, 3) or not all(parts[:2]):
        raise _Wrong("allergies", f"{text[:40]!r} is not written as code|display or code|display|reaction")
    return Allergy(parts[0], parts[1], parts[2] or None if len(parts) == 3 else None)


def _medicine(row: Mapping[str, str]) -> MedicationRegister:
    return MedicationRegister(
        code=row["code"],
        display=row["display"],
        counting_unit=row["counting_unit"],
        version=1,
        form=row["form"] or None,
        strength=row["strength"] or None,
        ingredients=_parts(row["ingredients"]),
        classes=_parts(row["classes"]),
        packs=tuple(_pack(part) for part in _parts(row["packs"])),
    )


def _patient(row: Mapping[str, str]) -> PatientRegister:
    allergies = row["allergies"]
    return PatientRegister(
        id=row["id"],
        identifiers=tuple(_identifier(part) for part in _parts(row["identifiers"])),
        name=row["name"],
        birth_date=row["birth_date"],
        care_sites=_parts(row["care_sites"]),
        version=1,
        allergies=() if allergies.casefold() == NONE_KNOWN else tuple(map(_allergy, _parts(allergies))) or None,
    )


def _stock(row: Mapping[str, str]) -> StockRow:
    if not is_scope_id(row["site"]):
        raise _Wrong("site", f"is {row['site'][:40]!r}: no site's id (a-z, 0-9, dot, dash, underscore, at most 32)")
    quantity = _whole("quantity", row["quantity"])
    return StockRow(row["site"], StockRegister(row["item"], row["lot"], row["expiry"], quantity, row["unit"], 1))


_FORMULARY: Final = _Reader(ImportKind.FORMULARY, _medicine, lambda it: (it.code,), medication_problems)
_PATIENTS: Final = _Reader(ImportKind.PATIENTS, _patient, lambda it: (it.id,), patient_problems)
_STOCK: Final = _Reader(
    ImportKind.STOCK,
    _stock,
    lambda it: (it.site, it.register.item, it.register.lot),
    lambda it: stock_problems(it.register),
)


def read_formulary(data: bytes) -> tuple[Row[MedicationRegister], ...]:
    """The medicines of a file; raises `ImportRefused`."""
    return _read(_FORMULARY, data)


def read_patients(data: bytes) -> tuple[Row[PatientRegister], ...]:
    """The patients of a file; raises `ImportRefused`."""
    return _read(_PATIENTS, data)


def read_stock(data: bytes) -> tuple[Row[StockRow], ...]:
    """The opening stock of a file; raises `ImportRefused`."""
    return _read(_STOCK, data)


def _table(kind: ImportKind, data: bytes) -> list[tuple[int, dict[str, str] | None]]:
    """The rows by the line at which each begins; None for one that has more or fewer fields than the header."""
    if len(data) > MAX_IMPORT_BYTES:
        raise ImportRefused([RowError(1, "(file)", f"{len(data)} bytes, at most {MAX_IMPORT_BYTES}: split the file")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ImportRefused([RowError(line, "(file)", "is not UTF-8: save the file as UTF-8")]) from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, dict[str, str] | None]] = []
    names: list[str] | None = None
    begins = 1
    try:
        for fields in reader:
            line, begins = begins, reader.line_num + 1
            if not any(map(str.strip, fields)):
                continue
            if names is None:
                names = [name.strip() for name in fields]
                _check_header(kind, names)
                continue
            if len(rows) == MAX_IMPORT_ROWS:
                raise ImportRefused([RowError(line, "(file)", f"more than {MAX_IMPORT_ROWS} rows: split it")])
            whole = len(fields) == len(names)
            rows.append((line, dict(zip(names, map(str.strip, fields), strict=True)) if whole else None))
    except csv.Error as error:
        raise ImportRefused([RowError(begins, "(row)", f"is no CSV: {error}")]) from None
    if names is None:
        _check_header(kind, [])
    return rows


def _check_header(kind: ImportKind, names: Sequence[str]) -> None:
    expected = COLUMNS[kind]
    errors = [RowError(1, name, "is missing from the header") for name in expected if name not in names]
    errors += [
        RowError(1, name[:40] or "(blank)", f"is no column of {kind}: {', '.join(expected)}")
        for name in names
        if name not in expected
    ]
    errors += [RowError(1, name, "stands twice in the header") for name in expected if names.count(name) > 1]
    if errors:
        raise ImportRefused(errors)


def _read(reader: _Reader[R], data: bytes) -> tuple[Row[R], ...]:
    found: list[Row[R]] = []
    errors: list[RowError] = []
    first: dict[tuple[str, ...], int] = {}
    for line, row in _table(reader.kind, data):
        if row is None:
            errors.append(RowError(line, "(row)", "has more or fewer fields than the header"))
            continue
        try:
            value = _checked(reader, row)
        except _Wrong as error:
            errors.append(RowError(line, error.field, error.says))
            continue
        except msgspec.ValidationError as error:
            says, _, path = str(error).partition(" - at `$.")
            column = _column(path)
            errors.append(RowError(line, column, _for_people(says, column, row)))
            continue
        errors.extend(RowError(line, _column(problem.field), problem.says) for problem in reader.problems(value))
        earlier = first.setdefault(reader.key(value), line)
        if earlier != line:
            errors.append(RowError(line, COLUMNS[reader.kind][0], f"stands in line {earlier} already"))
        found.append(Row(line, value))
    if errors:
        raise ImportRefused(errors)
    return tuple(found)


_FORMS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("code", "item"), "printable ASCII without spaces and /, at most 64 characters"),
    **dict.fromkeys(
        ("ingredients", "classes", "allergies"), "codes of printable ASCII without spaces, at most 64 each"
    ),
    **dict.fromkeys(("counting_unit", "unit"), "a UCUM unit of printable ASCII without spaces, at most 32 characters"),
    **dict.fromkeys(("id", "care_sites"), "a-z, 0-9, dot, dash and underscore, at most 32 characters"),
    "lot": "1 to 20 printable ASCII characters",
}


def _for_people(says: str, column: str, row: Mapping[str, str]) -> str:
    """What a model says of a value, as something to do."""
    if "regex" in says and column in _FORMS:
        return f"is {row[column][:40]!r}: write {_FORMS[column]}"
    if says.endswith("of length >= 1"):
        return "is blank, or has a blank part: write something"
    found = re.search(r"of length <= ([0-9]+)$", says)
    return f"has more than {found[1]} characters or parts: shorten it" if found else says


def _column(path: str) -> str:
    """The column of a path into the model: a part of a list stands in the column of the list."""
    name = re.split(r"[.\[`]", path)[0] or "(row)"
    return "quantity" if name == "on_hand" else name


def _checked(reader: _Reader[R], row: Mapping[str, str]) -> R:
    """The value of a row, held against the limits and patterns of its model, which making it alone does not check."""
    value = reader.make(row)
    model = value.register if isinstance(value, StockRow) else value
    msgspec.convert(msgspec.to_builtins(model), type(model))
    return value
