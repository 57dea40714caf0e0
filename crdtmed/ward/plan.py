"""What a day is played with: patients, medicines, stock and orders, from a generator or from files."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crdtmed.aggregates.medication import MedicationRegister
from crdtmed.aggregates.patient import Identifier, PatientRegister
from crdtmed.aggregates.prescription_draft import Group, Medication
from crdtmed.limits import MAX_IMPORT_BYTES
from crdtmed.ward import eicu, smart
from crdtmed.ward.expected import expected_eicu, expected_smart
from crdtmed.ward.reading import Finding, Order, Reading, UnreadableFile, check_columns

WARD: Final = "ward"
PHARMACY: Final = "pharmacy"
LOT: Final = "D1"
EXPIRY: Final = "2099-12-31"
NO_BIRTH_DATE: Final = "0001-01-01"
"""Stands for a birth date that a file does not have; it is nobody's."""
STAYS: Final = "urn:eicu:patientunitstayid"


@dataclass(frozen=True, slots=True)
class Source:
    """What was read of the files of a data set: rows, loaded and set aside by reason, fields left blank by reason."""

    name: str
    rows: int
    loaded: int
    set_aside: Mapping[str, int]
    blanks: Mapping[str, int]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A day's input.  ``stock`` is the opening quantity of each medicine, in one lot at the pharmacy."""

    sources: tuple[Source, ...]
    patients: tuple[PatientRegister, ...]
    medicines: tuple[MedicationRegister, ...]
    stock: Mapping[str, int]
    orders: tuple[Order, ...]
    refills: tuple[smart.Refill, ...] = ()
    unexpected: tuple[str, ...] = ()
    """Where the readers' counts and those of `crdtmed.ward.expected` differ; there must be none."""


def _counted(findings: Iterable[Finding]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for finding in findings:
        key = f"{finding.field}: {finding.reason}"
        counts[key] = counts.get(key, 0) + 1
    return dict(sorted(counts.items()))


def _source(name: str, reading: Reading) -> Source:
    findings = (*reading.set_aside, *reading.findings)
    return Source(
        name, reading.rows, len(reading.orders), _counted(reading.set_aside), _counted(reading.findings), findings
    )


def _medicines(orders: Iterable[Order], unit: str) -> tuple[MedicationRegister, ...]:
    found: dict[str, MedicationRegister] = {}
    for order in orders:
        medication = order.groups[Group.MEDICATION]
        assert isinstance(medication, Medication)
        found.setdefault(medication.code, MedicationRegister(medication.code, medication.display, unit, 1))
    return tuple(found.values())


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_IMPORT_BYTES:
            raise UnreadableFile(f"{path}: larger than {MAX_IMPORT_BYTES} bytes; give a smaller file")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{path} cannot be read: {error}") from None


def from_folder(folder: Path) -> Plan:
    """The plan of a data set's folder, told by the files in it; raises `UnreadableFile`."""
    if (folder / "medication.csv").is_file():
        return from_eicu(folder)
    if (folder / "meds.txt").is_file():
        return from_smart(folder)
    raise UnreadableFile(
        f"{folder} holds neither medication.csv (eICU) nor meds.txt (SMART): give one of these folders"
    )


def from_eicu(folder: Path) -> Plan:
    """The plan of an eICU folder.  Its patients have no names and no birth dates, and get none (`NO_BIRTH_DATE`)."""
    text = _text(folder / "patient.csv")
    rows = csv.DictReader(io.StringIO(text, newline=""))
    check_columns("patient.csv", rows.fieldnames, ("patientunitstayid", "hospitalid", "wardid"))
    known = {row["patientunitstayid"]: row for row in rows}
    reading = eicu.read_orders(_text(folder / "medication.csv"), lambda stay: PHARMACY)
    orders = tuple(order for order in reading.orders if order.patient in known)
    lost = tuple(
        Finding(order.line, "patientunitstayid", "unknown_patient", order.patient)
        for order in reading.orders
        if order.patient not in known
    )
    reading = Reading(reading.rows, orders, reading.findings, (*reading.set_aside, *lost))
    stays = dict.fromkeys(order.patient for order in orders)
    patients = tuple(
        PatientRegister(
            patient_id("eicu", stay), (Identifier(STAYS, stay),), f"Stay {stay}", NO_BIRTH_DATE, (WARD, PHARMACY), 1
        )
        for stay in stays
    )
    medicines = _medicines(orders, "{dose}")
    source = _source("medication.csv", reading)
    aside, blanks, whole = expected_eicu(folder)
    differences = (
        *_differ("set aside", aside, source.set_aside),
        *_differ("left blank", blanks, source.blanks),
        *_differ("lacking nothing", {"rows": whole}, {"rows": sum(not order.blanks for order in orders)}),
    )
    stock = dict.fromkeys(_codes(medicines), 100_000)
    return Plan((source,), patients, medicines, stock, orders, unexpected=differences)


def from_smart(folder: Path) -> Plan:
    """The plan of a SMART folder."""
    registers, aside, rows = smart.read_patients(
        _text(folder / "patients.txt"), _text(folder / "allergies.txt"), PHARMACY
    )
    reading = smart.read_orders(_text(folder / "meds.txt"), registers, PHARMACY)
    refills = smart.read_refills(_text(folder / "refills.txt"), reading.orders)
    people = tuple(registers.values())
    medicines = _medicines(reading.orders, smart.COUNT_UNIT)
    sources = (
        Source("patients.txt, allergies.txt", rows, rows - len(aside), _counted(aside), {}, aside),
        _source("meds.txt", reading),
        Source("refills.txt", refills.rows, len(refills.refills), _counted(refills.set_aside), {}, refills.set_aside),
    )
    aside_expected, blanks_expected, playable = expected_smart(folder)
    told = {reason: count for source in sources for reason, count in source.set_aside.items()}
    read = {reason: sources[1].blanks.get(reason, 0) for reason in blanks_expected}
    differences = (
        *_differ("set aside", aside_expected, told),
        *_differ("left blank", blanks_expected, read),
        *_differ("to be played", {"refills": playable}, {"refills": len(refills.refills)}),
    )
    stock = dict.fromkeys(_codes(medicines), 1_000_000)
    return Plan(sources, tuple(people), medicines, stock, reading.orders, refills.refills, differences)


def _differ(what: str, expected: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    return [
        f"{what}, {key}: {expected.get(key, 0)} counted, {found.get(key, 0)} read"
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key, 0) != found.get(key, 0)
    ]


def _codes(medicines: Iterable[MedicationRegister]) -> list[str]:
    return [medicine.code for medicine in medicines]


def patient_id(prefix: str, number: str) -> str:
    """The id of a patient of a data set."""
    return f"{prefix}-{number}"


def _csv(header: str, rows: Iterable[Iterable[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header.split(","))
    writer.writerows(rows)
    return out.getvalue()


def formulary_csv(medicines: Iterable[MedicationRegister]) -> str:
    """The medicines as the operator's import takes them."""
    return _csv(
        "code,display,form,strength,counting_unit,ingredients,classes,packs",
        (
            (
                *(one.code, one.display, one.form or "", one.strength or "", one.counting_unit),
                *(";".join(one.ingredients), ";".join(one.classes)),
                ";".join(f"{pack.gtin}:{pack.units}" for pack in one.packs),
            )
            for one in medicines
        ),
    )


def _allergies(patient: PatientRegister) -> str:
    if patient.allergies is None:
        return ""
    said = (
        "|".join(part.replace("|", "/").replace(";", ",") for part in (one.code, one.display, one.reaction) if part)
        for one in patient.allergies
    )
    return ";".join(said) or "none known"


def patients_csv(patients: Iterable[PatientRegister]) -> str:
    """The patients as the operator's import takes them; all are cared for by ward and pharmacy."""
    return _csv(
        "id,identifiers,name,birth_date,allergies,care_sites",
        (
            (
                one.id,
                ";".join(f"{each.system}|{each.value}" for each in one.identifiers),
                one.name,
                one.birth_date,
                _allergies(one),
                f"{WARD};{PHARMACY}",
            )
            for one in patients
        ),
    )


def stock_csv(plan: Plan) -> str:
    """The opening stock as the operator's import takes it."""
    unit: Callable[[str], str] = {one.code: one.counting_unit for one in plan.medicines}.__getitem__
    return _csv(
        "site,item,lot,expiry,quantity,unit",
        ((PHARMACY, code, LOT, EXPIRY, quantity, unit(code)) for code, quantity in plan.stock.items()),
    )
