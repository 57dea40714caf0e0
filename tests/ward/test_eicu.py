"""The reader of eICU orders: what it takes, what it leaves blank, and that it never guesses."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed.aggregates.elements import Quantity, Range
from crdtmed.aggregates.prescription_draft import Dose, Duration, Group, Supply, Timing, value_problems
from crdtmed.ward.eicu import COLUMNS, dose_of, read_orders, timing_of, unit_doses_a_day
from crdtmed.ward.plan import from_folder
from crdtmed.ward.reading import UnreadableFile

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("CRDTMED_SHARED", ROOT.parent / "shared")) / "data" / "eicu-demo"
WHOLE = {
    "medicationid": "7",
    "patientunitstayid": "100",
    "drugstartoffset": "10",
    "drugordercancelled": "No",
    "drugname": "ASPIRIN 81 MG PO TABS",
    "drughiclseqno": "1820.0",
    "dosage": "81 MG",
    "routeadmin": "PO",
    "frequency": "Daily",
    "prn": "No",
    "drugstopoffset": "1450",
}


def table(*rows: dict[str, str]) -> str:
    """A file of these rows."""
    lines = [",".join(COLUMNS)]
    lines += [",".join(f'"{(WHOLE | row)[column]}"' for column in COLUMNS) for row in rows]
    return "\n".join(lines) + "\n"


def test_a_whole_row_becomes_an_order_that_could_be_signed() -> None:
    reading = read_orders(table({}), lambda stay: "pharmacy")
    (order,) = reading.orders
    assert not order.blanks
    assert not reading.findings
    assert order.groups[Group.DOSE] == Dose(quantity=Quantity("81", "mg"))
    assert order.groups[Group.DURATION] == Duration("1440", "min")
    assert order.groups[Group.SUPPLY] == Supply(1, "{dose}", 0, "pharmacy")
    assert order.generated == {Group.SUPPLY}, "what the file does not hold is marked"


@pytest.mark.parametrize(
    ("text", "dose"),
    [
        ("40 mg", Dose(quantity=Quantity("40", "mg"))),
        ("40 MG", Dose(quantity=Quantity("40", "mg"))),
        ("1,000 mL", Dose(quantity=Quantity("1000", "mL"))),
        ("2.50 mg", Dose(quantity=Quantity("2.5", "mg"))),
        ("100 unit(s)", Dose(quantity=Quantity("100", "[iU]"))),
        ("5-10 mg", Dose(range=Range(Quantity("5", "mg"), Quantity("10", "mg")))),
        ("5 3", "no_unit"),
        ("0", "no_unit"),
        ("PYXIS", "not_a_dose"),
        ("ML", "not_a_dose"),
        ("1 ZZ", "not_a_dose"),
        ("10-5 mg", "not_a_dose"),
        ("1,00 mg", "not_a_dose"),
        ("0 ML", "zero"),
        ("100 mL/hr", "a_rate"),
        ("", "blank"),
    ],
)
def test_a_dose_is_a_number_and_a_unit_or_it_is_none(text: str, dose: Dose | str) -> None:
    assert dose_of(text) == dose


@pytest.mark.parametrize(
    ("frequency", "prn", "timing"),
    [
        ("BID", "No", Timing(frequency=2, period="1", period_unit="d")),
        ("q 8 hour", "No", Timing(frequency=1, period="8", period_unit="h")),
        ("Q6H SCH", "No", Timing(frequency=1, period="6", period_unit="h")),
        ("0900,2100", "No", Timing(frequency=2, period="1", period_unit="d", times=("09:00", "21:00"))),
        ("Once", "No", Timing(count=1)),
        ("Q4H PRN", "Yes", Timing(frequency=1, period="4", period_unit="h", as_needed=True)),
        ("PRN", "Yes", Timing(as_needed=True)),
        ("", "Yes", Timing(as_needed=True)),
        ("Q4H PRN", "No", "contradicts_prn"),
        ("", "No", "blank"),
        ("as directed", "No", "not_a_timing"),
        ("Q1H X2", "No", "not_a_timing"),
        ("2100,0900", "No", "not_a_timing"),
        ("0", "No", "not_a_timing"),
    ],
)
def test_a_timing_is_read_whole_or_not_at_all(frequency: str, prn: str, timing: Timing | str) -> None:
    assert timing_of(frequency, prn) == timing


@given(st.text(max_size=20), st.text(max_size=20), st.sampled_from(["Yes", "No"]))
def test_whatever_is_read_is_something_that_a_draft_may_hold(dosage: str, frequency: str, prn: str) -> None:
    for value in (dose_of(dosage), timing_of(frequency, prn)):
        assert isinstance(value, str) or value_problems(value) == ()


def test_every_row_is_an_order_or_is_told_with_line_field_and_reason() -> None:
    text = table(
        {"drugordercancelled": "Yes"},
        {"drugname": " "},
        {"dosage": "5 3"},
        {"routeadmin": "MISC", "drugstopoffset": "0", "drugstartoffset": "5"},
        {"patientunitstayid": "x"},
    )
    reading = read_orders(text + "1,2\n", lambda stay: "pharmacy")
    told = [(one.line, one.field, one.reason) for one in (*reading.set_aside, *reading.findings)]
    assert reading.rows == 6
    assert len(reading.orders) + len(reading.set_aside) == 6
    assert told == [
        (2, "drugordercancelled", "cancelled"),
        (3, "drugname", "no_drug_name"),
        (6, "patientunitstayid", "not_a_number"),
        (7, "(row)", "too_few_columns"),
        (4, "dosage", "no_unit"),
        (5, "routeadmin", "not_a_route"),
        (5, "drugstopoffset", "stop_zero"),
    ]
    assert [order.blanks for order in reading.orders] == [(Group.DOSE, Group.SUPPLY), (Group.ROUTE,)]


def test_a_file_of_another_shape_is_refused_with_what_it_lacks() -> None:
    with pytest.raises(UnreadableFile, match="dosage"):
        read_orders("medicationid,drugname\n1,x\n", lambda stay: "pharmacy")


@pytest.mark.parametrize(
    ("timing", "doses"),
    [
        (Timing(count=1), 1),
        (Timing(as_needed=True), 1),
        (Timing(frequency=3, period="1", period_unit="d"), 3),
        (Timing(frequency=1, period="8", period_unit="h"), 3),
        (Timing(frequency=1, period="48", period_unit="h"), 1),
        (Timing(frequency=1, period="30", period_unit="min"), 48),
    ],
)
def test_a_day_of_unit_doses(timing: Timing, doses: int) -> None:
    assert unit_doses_a_day(timing) == doses


@pytest.mark.skipif(not DATA.is_dir(), reason="the eICU demo files are not beside the project")
def test_the_real_files_are_counted_alike_by_other_means() -> None:
    plan = from_folder(DATA)
    assert plan.unexpected == ()
    (source,) = plan.sources
    assert source.rows == source.loaded + sum(source.set_aside.values())
