"""Orders of the eICU Collaborative Research Database, Demo (``medication.csv``, ``patient.csv``).

=====================  ==========================================================================================
``medication.csv``     what it becomes
=====================  ==========================================================================================
medicationid           the order's number
patientunitstayid      the patient: one for each stay
drugorderoffset        not used: when it was entered says nothing that the start does not
drugstartoffset        ``start_minutes``, from the start of the stay; blank where it is no whole number
drugivadmixture        not used: the route says how it is given
drugordercancelled     ``Yes``: the row is set aside, ``cancelled``
drugname               the medication, word for word; blank: the row is set aside, ``no_drug_name``
drughiclseqno          part of the formulary code, where it is there
dosage                 the dose, where it is a number (or a range) and a unit of `reading.UNITS`; else blank:
                       ``blank``, ``zero``, ``no_unit`` (``5 3``), ``a_rate`` (``10 mL/hr``), ``not_a_dose``
                       (``PYXIS``)
routeadmin             the route, where `ROUTES` names it; else blank: ``blank`` or ``not_a_route``
frequency              the timing, where `timing_of` can read it whole; else blank: ``blank`` or ``not_a_timing``
loadingdose            not used: empty throughout
prn                    ``Yes``: as needed; ``No`` against a frequency that says PRN: blank timing, ``contradicts_prn``
drugstopoffset         with the start, the duration in minutes; ``stop_zero`` and ``stop_before_start``: no duration
gtc                    not used: a therapeutic class without a code system
(none)                 supply: the file has none.  It is generated where dose and timing are read: unit doses
                       (``{dose}``) for one day, at least one, without repeats; as-needed orders without a rate get
                       one
=====================  ==========================================================================================

Of ``patient.csv``: ``patientunitstayid`` names the patient, ``hospitalid`` the site, ``wardid`` the ward; the age is
kept as the file has it, since a birth date cannot be had from it; the rest is not used.
"""

import csv
import hashlib
import io
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from crdtmed.aggregates.elements import Quantity, Range
from crdtmed.aggregates.prescription_draft import (
    Dose,
    Duration,
    Group,
    GroupValue,
    Medication,
    Route,
    Supply,
    Timing,
)
from crdtmed.ward.reading import UNITS, Finding, Order, Reading, check_columns, check_rows

COLUMNS: Final = (
    "medicationid",
    "patientunitstayid",
    "drugstartoffset",
    "drugordercancelled",
    "drugname",
    "drughiclseqno",
    "dosage",
    "routeadmin",
    "frequency",
    "prn",
    "drugstopoffset",
)
MINUTES_A_DAY: Final = 1440


def _routes() -> dict[str, Route]:
    """Spellings in lower case; codes are SNOMED CT's."""
    table = {
        ("26643006", "Oral"): "po|oral",
        ("47625008", "Intravenous"): (
            "iv|ivpb|iv push|intravenous|intraven|ivp|intravenous continuous|periph iv|central iv|iv flush"
        ),
        ("34206005", "Subcutaneous"): ("subq|sc|subcut|subcutan|sub-q|subcutaneous|sq|sub q"),
        ("78421000", "Intramuscular"): "im|intramusc",
        ("18679011000001101", "Inhalation"): (
            "inhalation|inh|inhale|inhl|ih|nebulization|neb|nebulizer|svn|inh/neb|nebu"
        ),
        ("37161004", "Rectal"): "pr|rect|rectal",
        ("45890007", "Transdermal"): "td|transderm|transdermal",
        ("37839007", "Sublingual"): "sl|sublingual",
        ("6064005", "Topical"): "top|topical|apply externally",
        ("127492001", "Nasogastric"): "ngt|per ng tube|ng-tube|ng|ngtube|ng tube",
        ("127491008", "Orogastric"): "og-tube",
        ("127490009", "Gastrostomy"): "peg|g tube|gtub|per g tube",
        ("46713006", "Nasal"): "nasal|nas|each nare|nare both|both nares",
        ("54485002", "Ophthalmic"): "ophthalmic|both eyes|eye right|eyes (both)|eye both",
        ("372473007", "Oromucosal"): "oral mucosa|mouth/throat|mouth rinse|oral swab|swish|swish/spit",
        ("58100008", "Intra-arterial"): "arterial|intraarterial",
        ("404820008", "Epidural"): "epidural",
    }
    return {
        spelling: Route(code=code, display=display)
        for (code, display), spellings in table.items()
        for spelling in spellings.split("|")
        if spelling
    }


ROUTES: Final[Mapping[str, Route]] = MappingProxyType(_routes())

_NUMBER: Final = r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?"
_DOSE: Final = re.compile(rf"({_NUMBER})(?:-({_NUMBER}))? ?([A-Za-z()]+)\Z")
_BARE: Final = re.compile(rf"(?:{_NUMBER})(?:-(?:{_NUMBER}))?(?: [0-9]+)?\Z")


def canonical(number: str) -> str:
    """``1,000.50`` as the canonical decimal ``1000.5``."""
    text = format(Decimal(number.replace(",", "")), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def dose_of(text: str) -> Dose | str:
    """The dose that ``text`` states, or the reason why it states none."""
    if not text:
        return "blank"
    if "/" in text:
        return "a_rate"
    found = _DOSE.match(text)
    unit = UNITS.get(found[3].lower()) if found else None
    if found is None or unit is None:
        return "no_unit" if _BARE.match(text) else "not_a_dose"
    low, high = canonical(found[1]), canonical(found[2]) if found[2] else None
    if Decimal(low) == 0:
        return "zero"
    if high is None:
        return Dose(quantity=Quantity(low, unit))
    if Decimal(high) <= Decimal(low):
        return "not_a_dose"
    return Dose(range=Range(Quantity(low, unit), Quantity(high, unit)))


_DAILY: Final[Mapping[str, int]] = MappingProxyType(
    {
        "daily": 1,
        "1xdaily": 1,
        "qday": 1,
        "bid": 2,
        "2xdaily": 2,
        "2 times daily": 2,
        "2 times per day": 2,
        "tid": 3,
        "3xdaily": 3,
        "3 times daily": 3,
        "qid": 4,
        "4x daily": 4,
    }
)
"""So many times a day."""

_ONCE: Final = frozenset({"once", "once x1", "1xonly", "1xonly x1", "onetime", "one", "x1", "1x", "one time one time"})
_ONLY_AS_NEEDED: Final = frozenset({"", "as needed"})
_EVERY: Final = re.compile(r"(?:every |q ?)([1-9][0-9]?) ?(h|hr|hrs|hour|hours|min|minutes)\Z")
_CLOCK: Final = re.compile(r"(?:[01][0-9]|2[0-3])[0-5][0-9](?:,(?:[01][0-9]|2[0-3])[0-5][0-9])*\Z")
_PRN: Final = re.compile(r" ?prn\Z")
_NOTES: Final = re.compile(r" (?:sch|\(int\)|\(interval\)|\(bid\)|\(daily\)|scheduled)\Z")
"""Notes of the ordering system that change nothing: scheduled, interval, and the same rate said twice."""


def _regular(text: str) -> Timing | None:
    text = _NOTES.sub("", text)
    if text in _ONCE:
        return Timing(count=1)
    if text in _DAILY:
        return Timing(frequency=_DAILY[text], period="1", period_unit="d")
    if found := _EVERY.match(text):
        return Timing(frequency=1, period=found[1], period_unit="min" if found[2].startswith("m") else "h")
    if _CLOCK.match(text):
        times = tuple(f"{at[:2]}:{at[2:]}" for at in text.split(","))
        if len(set(times)) == len(times) and list(times) == sorted(times):
            return Timing(frequency=len(times), period="1", period_unit="d", times=times)
    return None


def timing_of(frequency: str, prn: str) -> Timing | str:
    """The timing that frequency and PRN state together, or the reason why they state none."""
    text = frequency.strip().lower()
    if not text and prn != "Yes":
        return "blank"
    rest = _PRN.sub("", text)
    if rest != text and prn != "Yes":
        return "contradicts_prn"
    if prn == "Yes" and rest in _ONLY_AS_NEEDED:
        return Timing(as_needed=True)
    regular = _regular(rest)
    if regular is None:
        return "not_a_timing"
    if prn != "Yes":
        return regular
    if regular.count is not None:
        return Timing(count=regular.count, as_needed=True)
    return Timing(
        frequency=regular.frequency,
        period=regular.period,
        period_unit=regular.period_unit,
        times=regular.times,
        as_needed=True,
    )


def unit_doses_a_day(timing: Timing) -> int:
    """How many unit doses one day of this timing takes: at least one; one where it states no rate."""
    if timing.count is not None:
        return timing.count
    if timing.frequency is None or timing.period is None:
        return 1
    minutes = {"min": 1, "h": 60, "d": MINUTES_A_DAY}[timing.period_unit or "d"] * Decimal(timing.period)
    return max(1, int(timing.frequency * MINUTES_A_DAY / minutes))


def item_code(name: str, sequence: str) -> str:
    """The formulary code of a drug name: the file has no code for the product, so this one is made from the name."""
    number = sequence.partition(".")[0] or "0"
    return f"eicu-{number}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def _offset(text: str) -> int | None:
    return int(text) if re.match(r"-?[0-9]{1,7}\Z", text) else None


def _duration(row: Mapping[str, str]) -> Duration | str | None:
    start, stop = _offset(row["drugstartoffset"]), _offset(row["drugstopoffset"])
    if start is None or stop is None:
        return "not_a_number"
    if stop >= start:
        return Duration(str(stop - start), "min") if stop > start else None
    return "stop_zero" if stop == 0 else "stop_before_start"


def _read_row(line: int, row: Mapping[str, str], site_of: Callable[[str], str]) -> tuple[Order, list[Finding]]:
    groups: dict[Group, GroupValue] = {
        Group.MEDICATION: Medication(item_code(row["drugname"], row["drughiclseqno"]), row["drugname"])
    }
    findings = []
    route = ROUTES.get(row["routeadmin"].strip().lower())
    read = (
        (Group.DOSE, "dosage", dose_of(row["dosage"].strip())),
        (Group.ROUTE, "routeadmin", route or ("blank" if not row["routeadmin"].strip() else "not_a_route")),
        (Group.TIMING, "frequency", timing_of(row["frequency"], row["prn"])),
        (Group.DURATION, "drugstopoffset", _duration(row)),
    )
    for group, field, value in read:
        if isinstance(value, str):
            findings.append(Finding(line, field, value, row[field]))
        elif value is not None:
            groups[group] = value
    generated = frozenset[Group]()
    timing = groups.get(Group.TIMING)
    if Group.DOSE in groups and isinstance(timing, Timing):
        groups[Group.SUPPLY] = Supply(unit_doses_a_day(timing), "{dose}", site=site_of(row["patientunitstayid"]))
        generated = frozenset({Group.SUPPLY})
    order = Order(
        line,
        row["medicationid"],
        row["patientunitstayid"],
        MappingProxyType(groups),
        generated,
        _offset(row["drugstartoffset"]),
    )
    return order, findings


def read_orders(text: str, site_of: Callable[[str], str], name: str = "medication.csv") -> Reading:
    """Every row of ``medication.csv``; ``site_of`` gives the site that dispenses for a stay.

    Raises `reading.UnreadableFile` where the file as a whole is not this table; a row never does.
    """
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=False)
    check_columns(name, rows.fieldnames, COLUMNS)
    orders, findings, aside, count = [], list[Finding](), list[Finding](), 0
    for row in rows:
        count += 1
        check_rows(name, count)
        line = rows.line_num
        if any(row.get(column) is None for column in COLUMNS):
            aside.append(Finding(line, "(row)", "too_few_columns"))
        elif row["drugordercancelled"] != "No":
            aside.append(Finding(line, "drugordercancelled", "cancelled", row["drugordercancelled"]))
        elif not row["drugname"].strip():
            aside.append(Finding(line, "drugname", "no_drug_name"))
        elif not re.match(r"[0-9]{1,20}\Z", row["patientunitstayid"]):
            aside.append(Finding(line, "patientunitstayid", "not_a_number", row["patientunitstayid"]))
        else:
            order, found = _read_row(line, row, site_of)
            orders.append(order)
            findings.extend(found)
    return Reading(count, tuple(orders), tuple(findings), tuple(aside))
