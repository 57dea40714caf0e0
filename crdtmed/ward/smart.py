"""Prescriptions and dispenses of the SMART sample patients (tab-separated files).

=====================  ==========================================================================================
``meds.txt``           what it becomes
=====================  ==========================================================================================
ID                     the order's number
PID                    the patient; unknown in ``patients.txt``: the row is set aside, ``unknown_patient``
START_DATE             ``start_date``; also which of two prescriptions of one drug a dispense belongs to
END_DATE               not used: it says when somebody stopped, not how long was ordered
RxNorm                 the formulary code, ``rxnorm-<code>``; blank: the row is set aside, ``no_code``
Name                   the medication, word for word; its dose form gives the route, where `FORMS` names it; else
                       the route is blank, ``not_in_the_name``
SIG                    the instructions, word for word; and the judge of FREQUENCY: where its abbreviation says
                       another rate, the timing is blank, ``contradicts_sig``
Q                      supply: quantity, in the file's own count, which has no unit: ``{each}``; blank or no whole
                       number above zero: blank
DAYS                   the duration in days; blank where it is none
REFILLS                supply: repeats; blank: the supply is blank, ``blank``
Q_TO_TAKE_VALUE, _UNIT the dose; blank where one of them is blank or the unit is none of UCUM (``inj``)
FREQUENCY_VALUE, _UNIT the timing; as needed where the SIG says ``prn``, with what follows as the reason
=====================  ==========================================================================================

=====================  ==========================================================================================
``refills.txt``        what it becomes
=====================  ==========================================================================================
ID                     the dispense's number
PID, RXN               the prescription: the patient's latest of that drug that had begun by DATE, else their first
                       of it; none: the row is set aside, ``no_prescription``
DATE                   when it was handed over; dispenses run in this order, then in that of the file
DAYS                   not used: it follows from the prescription
Q                      the quantity in the same count; 0 or none: the row is set aside, ``no_quantity``
=====================  ==========================================================================================

Of ``patients.txt``: PID, fname and lname, dob (birth date); of ``allergies.txt``: PID, STATEMENT, ALLERGEN, CODE,
REACTION.  ``negative`` for *No known allergies* records that there are none known; a patient without a row has none
recorded.  ``problems.txt`` and the other columns are not used.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from crdtmed.aggregates.elements import Quantity, date_problems
from crdtmed.aggregates.patient import Allergy, Identifier, PatientRegister
from crdtmed.aggregates.prescription_draft import (
    Dose,
    Duration,
    Group,
    GroupValue,
    Instructions,
    Medication,
    Route,
    Supply,
    Timing,
)
from crdtmed.limits import MAX_REPEATS, MAX_SHORT_TEXT_CHARS
from crdtmed.ward.eicu import canonical
from crdtmed.ward.reading import Finding, Order, Reading, check_columns, check_rows

MED_COLUMNS: Final = (
    *("ID", "PID", "START_DATE", "RxNorm", "Name", "SIG", "Q", "DAYS", "REFILLS"),
    *("Q_TO_TAKE_VALUE", "Q_TO_TAKE_UNIT", "FREQUENCY_VALUE", "FREQUENCY_UNIT"),
)
REFILL_COLUMNS: Final = ("ID", "PID", "DATE", "RXN", "Q")
PATIENT_COLUMNS: Final = ("PID", "fname", "lname", "dob")
ALLERGY_COLUMNS: Final = ("PID", "STATEMENT", "ALLERGEN", "CODE", "REACTION")
COUNT_UNIT: Final = "{each}"
IDENTIFIERS: Final = "urn:smart-sample-patients:pid"

_ORAL, _TOPICAL = Route("26643006", "Oral"), Route("6064005", "Topical")
_INHALED = Route("18679011000001101", "Inhalation")

FORMS: Final[Mapping[str, Route]] = MappingProxyType(
    {
        "oral tablet": _ORAL,
        "oral capsule": _ORAL,
        "oral suspension": _ORAL,
        "oral solution": _ORAL,
        "extended release tablet": _ORAL,
        "extended release capsule": _ORAL,
        "coated tablet": _ORAL,
        "coated capsule": _ORAL,
        "topical cream": _TOPICAL,
        "topical ointment": _TOPICAL,
        "topical lotion": _TOPICAL,
        "topical gel": _TOPICAL,
        "metered dose inhaler": _INHALED,
        "inhalant powder": _INHALED,
        "inhalant solution": _INHALED,
        "nasal inhaler": Route("46713006", "Nasal"),
        "sublingual tablet": Route("37839007", "Sublingual"),
        "otic suspension": Route("10547007", "Otic"),
        "ophthalmic solution": Route("54485002", "Ophthalmic"),
        "ophthalmic ointment": Route("54485002", "Ophthalmic"),
        "rectal cream": Route("37161004", "Rectal"),
    }
)
"""Dose forms in RxNorm's names that say the route; codes are SNOMED CT's."""

DOSE_UNITS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "{tablet}": "{tablet}",
        "mL": "mL",
        "{puff}": "{puff}",
        "[drp]": "[drp]",
        "[in_us]": "[in_us]",
        "{dose}": "{dose}",
        "units": "[iU]",
        "tsp": "[tsp_us]",
    }
)
PERIODS: Final[Mapping[str, str]] = MappingProxyType({"/d": "d", "/wk": "wk"})

_SIG_RATES: Final = tuple(
    (re.compile(pattern), rate)
    for pattern, rate in (
        (r"\b(?:daily|qd|qhs|qam|qpm)\b", Decimal(1)),
        (r"\bbid\b", Decimal(2)),
        (r"\btid\b", Decimal(3)),
        (r"\bqid\b", Decimal(4)),
        (r"\bq24h\b", Decimal(1)),
        (r"\bq12h\b", Decimal(2)),
        (r"\bq8h\b", Decimal(3)),
        (r"\bq6h\b", Decimal(4)),
        (r"\bq4h\b", Decimal(6)),
    )
)
"""Abbreviations of a SIG that state a rate, in doses a day."""

_PRN: Final = re.compile(r"\bprn\b\s*(.*)\Z", re.IGNORECASE | re.DOTALL)
_DECIMAL: Final = re.compile(r"[0-9]{1,7}(?:\.[0-9]{1,6})?\Z")
_WHOLE: Final = re.compile(r"[0-9]{1,7}\Z")


@dataclass(frozen=True, slots=True)
class Refill:
    """One dispense of the file: so many of the file's count on the prescription ``order``, on ``day``."""

    line: int
    number: str
    order: str
    patient: str
    day: str
    quantity: int


@dataclass(frozen=True, slots=True)
class RefillReading:
    """All rows of ``refills.txt``: the dispenses in the order in which they are played, and what was set aside."""

    rows: int
    refills: tuple[Refill, ...]
    set_aside: tuple[Finding, ...]


def _rows(text: str, name: str, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t")
    check_columns(name, reader.fieldnames, columns)
    for count, row in enumerate(reader, start=1):
        check_rows(name, count)
        yield reader.line_num, {column: (row.get(column) or "").strip() for column in columns}


def route_of(name: str) -> Route | None:
    """The route that the dose form at the end of an RxNorm name states; None where it states none."""
    words = re.sub(r"\s*\[[^\]]*\]\Z", "", name).casefold()
    return next((route for form, route in FORMS.items() if words.endswith(form)), None)


def _dose(row: Mapping[str, str]) -> Dose | str:
    value, unit = row["Q_TO_TAKE_VALUE"], DOSE_UNITS.get(row["Q_TO_TAKE_UNIT"])
    if not value or not row["Q_TO_TAKE_UNIT"]:
        return "blank"
    if unit is None:
        return "not_a_unit"
    if not _DECIMAL.match(value) or Decimal(value) == 0:
        return "not_a_dose"
    return Dose(quantity=Quantity(canonical(value), unit))


def timing_of(value: str, unit: str, sig: str) -> Timing | str:
    """The timing of a row, or why it has none: the numbers state it, and the SIG must not state another rate."""
    period = PERIODS.get(unit)
    if not value or not unit:
        return "blank"
    if period is None or not _WHOLE.match(value) or not 1 <= int(value) <= 24:
        return "not_a_timing"
    rates = {rate for pattern, rate in _SIG_RATES if pattern.search(sig.casefold())}
    stated = Decimal(int(value)) if period == "d" else None
    if rates and (len(rates) > 1 or stated != next(iter(rates))):
        return "contradicts_sig"
    needed = _PRN.search(sig)
    reason = needed[1].strip()[:MAX_SHORT_TEXT_CHARS] if needed else ""
    return Timing(
        frequency=int(value),
        period="1",
        period_unit="d" if period == "d" else "wk",
        as_needed=needed is not None,
        as_needed_reason=reason or None,
    )


def _supply(row: Mapping[str, str], site: str) -> Supply | str:
    if not row["Q"] or not row["REFILLS"]:
        return "blank"
    if not _WHOLE.match(row["Q"]) or int(row["Q"]) == 0:
        return "not_a_quantity"
    if not _WHOLE.match(row["REFILLS"]) or int(row["REFILLS"]) > MAX_REPEATS:
        return "not_repeats"
    return Supply(int(row["Q"]), COUNT_UNIT, int(row["REFILLS"]), site)


def _read_row(line: int, row: Mapping[str, str], site: str) -> tuple[Order, list[Finding]]:
    groups: dict[Group, GroupValue] = {
        Group.MEDICATION: Medication(f"rxnorm-{row['RxNorm']}", row["Name"][:MAX_SHORT_TEXT_CHARS] or row["RxNorm"])
    }
    if row["SIG"]:
        groups[Group.INSTRUCTIONS] = Instructions(row["SIG"])
    if _WHOLE.match(row["DAYS"]) and int(row["DAYS"]) > 0:
        groups[Group.DURATION] = Duration(str(int(row["DAYS"])), "d")
    findings = []
    for group, field, value in (
        (Group.DOSE, "Q_TO_TAKE_VALUE", _dose(row)),
        (Group.ROUTE, "Name", route_of(row["Name"]) or "not_in_the_name"),
        (Group.TIMING, "FREQUENCY_VALUE", timing_of(row["FREQUENCY_VALUE"], row["FREQUENCY_UNIT"], row["SIG"])),
        (Group.SUPPLY, "Q", _supply(row, site)),
    ):
        if isinstance(value, str):
            findings.append(Finding(line, field, value, row[field]))
        else:
            groups[group] = value
    number, patient = row["ID"], row["PID"]
    order = Order(line, number, patient, MappingProxyType(groups), start_date=row["START_DATE"])
    return order, findings


def read_orders(text: str, patients: Mapping[str, PatientRegister], site: str, name: str = "meds.txt") -> Reading:
    """Every row of ``meds.txt``, dispensed at ``site``; raises `reading.UnreadableFile` for the file as a whole."""
    orders, findings, aside, count = list[Order](), list[Finding](), list[Finding](), 0
    for line, row in _rows(text, name, MED_COLUMNS):
        count += 1
        if row["PID"] not in patients:
            aside.append(Finding(line, "PID", "unknown_patient", row["PID"]))
        elif not re.match(r"[0-9]{1,12}\Z", row["RxNorm"]):
            aside.append(Finding(line, "RxNorm", "no_code", row["RxNorm"]))
        elif not _is_date(row["START_DATE"]):
            aside.append(Finding(line, "START_DATE", "not_a_date", row["START_DATE"]))
        else:
            order, found = _read_row(line, row, site)
            orders.append(order)
            findings.extend(found)
    return Reading(count, tuple(orders), tuple(findings), tuple(aside))


def _is_date(text: str) -> bool:
    return not tuple(date_problems("", text))


def read_refills(text: str, orders: Sequence[Order], name: str = "refills.txt") -> RefillReading:
    """Every row of ``refills.txt`` on the prescriptions of ``orders``, in date order, then in that of the file."""
    by_drug: dict[tuple[str, str], list[Order]] = {}
    for order in sorted(orders, key=lambda it: (it.start_date or "", it.line)):
        medication = order.groups[Group.MEDICATION]
        code = medication.code if isinstance(medication, Medication) else ""
        by_drug.setdefault((order.patient, code), []).append(order)
    refills, aside, count = list[Refill](), list[Finding](), 0
    for line, row in _rows(text, name, REFILL_COLUMNS):
        count += 1
        candidates = by_drug.get((row["PID"], f"rxnorm-{row['RXN']}"), [])
        if not _is_date(row["DATE"]):
            aside.append(Finding(line, "DATE", "not_a_date", row["DATE"]))
        elif not _WHOLE.match(row["Q"]) or int(row["Q"]) == 0:
            aside.append(Finding(line, "Q", "no_quantity", row["Q"]))
        elif not candidates:
            aside.append(Finding(line, "RXN", "no_prescription", row["RXN"]))
        else:
            begun = [order for order in candidates if (order.start_date or "") <= row["DATE"]]
            order = begun[-1] if begun else candidates[0]
            refills.append(Refill(line, row["ID"], order.number, row["PID"], row["DATE"], int(row["Q"])))
    refills.sort(key=lambda it: (date.fromisoformat(it.day), it.line))
    return RefillReading(count, tuple(refills), tuple(aside))


def read_patients(
    patients: str, allergies: str, site: str
) -> tuple[Mapping[str, PatientRegister], tuple[Finding, ...], int]:
    """``patients.txt`` with ``allergies.txt``: registers by PID, what was set aside, and the rows read of both."""
    recorded: dict[str, tuple[Allergy, ...]] = {}
    aside, count = list[Finding](), 0
    for line, row in _rows(allergies, "allergies.txt", ALLERGY_COLUMNS):
        count += 1
        if row["STATEMENT"] == "negative" and row["ALLERGEN"].casefold() == "no known allergies":
            recorded.setdefault(row["PID"], ())
        elif row["STATEMENT"] == "positive" and row["CODE"] and row["ALLERGEN"]:
            one = Allergy(row["CODE"], row["ALLERGEN"], row["REACTION"] or None)
            recorded[row["PID"]] = (*recorded.get(row["PID"], ()), one)
        else:
            aside.append(Finding(line, "STATEMENT", "not_an_allergy", f"{row['STATEMENT']} {row['ALLERGEN']}"))
    registers: dict[str, PatientRegister] = {}
    for line, row in _rows(patients, "patients.txt", PATIENT_COLUMNS):
        count += 1
        name = f"{row['fname']} {row['lname']}".strip()
        if not re.match(r"[0-9]{1,12}\Z", row["PID"]) or row["PID"] in registers:
            aside.append(Finding(line, "PID", "not_a_patient_number", row["PID"]))
        elif not name or not _is_date(row["dob"]):
            aside.append(Finding(line, "dob" if name else "lname", "not_identified", row["dob"]))
        else:
            identifier = Identifier(IDENTIFIERS, row["PID"])
            known = recorded.get(row["PID"])
            registers[row["PID"]] = PatientRegister(
                f"smart-{row['PID']}", (identifier,), name, row["dob"], (site,), 1, known
            )
    return MappingProxyType(registers), tuple(aside), count
