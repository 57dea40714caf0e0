"""The reader of SMART prescriptions and dispenses."""

import os
from pathlib import Path

import pytest

from crdtmed.aggregates.patient import Identifier, PatientRegister
from crdtmed.aggregates.prescription_draft import Group, Supply, Timing
from crdtmed.ward.balance import expected_refills
from crdtmed.ward.plan import from_folder
from crdtmed.ward.smart import MED_COLUMNS, read_orders, read_patients, read_refills, route_of, timing_of

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("CRDTMED_SHARED", ROOT.parent / "shared")) / "data" / "smart-sample-patients"
PATIENTS = {"1": PatientRegister("smart-1", (Identifier("urn:x", "1"),), "Mara Maple", "1970-01-01", ("pharmacy",), 1)}
WHOLE = {
    "ID": "1",
    "PID": "1",
    "START_DATE": "2008-01-01",
    "RxNorm": "309114",
    "Name": "Cephalexin 500 MG Oral Capsule [Keflex]",
    "SIG": "1 tab bid",
    "Q": "30",
    "DAYS": "15",
    "REFILLS": "2",
    "Q_TO_TAKE_VALUE": "1",
    "Q_TO_TAKE_UNIT": "{tablet}",
    "FREQUENCY_VALUE": "2",
    "FREQUENCY_UNIT": "/d",
}


def table(*rows: dict[str, str]) -> str:
    """A file of these rows."""
    return "\n".join(
        ["\t".join(MED_COLUMNS), *("\t".join((WHOLE | row)[name] for name in MED_COLUMNS) for row in rows)]
    )


def test_a_whole_row_could_be_signed() -> None:
    (order,) = read_orders(table({}), PATIENTS, "pharmacy").orders
    assert not order.blanks
    assert order.groups[Group.SUPPLY] == Supply(30, "{each}", 2, "pharmacy")


@pytest.mark.parametrize(
    ("changed", "field", "reason"),
    [
        ({"Q_TO_TAKE_UNIT": "inj"}, "Q_TO_TAKE_VALUE", "not_a_unit"),
        ({"Q_TO_TAKE_VALUE": ""}, "Q_TO_TAKE_VALUE", "blank"),
        ({"FREQUENCY_VALUE": "4"}, "FREQUENCY_VALUE", "contradicts_sig"),
        ({"FREQUENCY_UNIT": "/fortnight"}, "FREQUENCY_VALUE", "not_a_timing"),
        ({"Name": "Lexapro 10mg"}, "Name", "not_in_the_name"),
        ({"Q": "0"}, "Q", "not_a_quantity"),
        ({"REFILLS": ""}, "Q", "blank"),
    ],
)
def test_what_cannot_be_read_stays_blank(changed: dict[str, str], field: str, reason: str) -> None:
    reading = read_orders(table(changed), PATIENTS, "pharmacy")
    assert [(one.line, one.field, one.reason) for one in reading.findings] == [(2, field, reason)]
    assert reading.orders[0].blanks


@pytest.mark.parametrize(
    ("changed", "reason"),
    [({"PID": "9"}, "unknown_patient"), ({"RxNorm": ""}, "no_code"), ({"START_DATE": "2008"}, "not_a_date")],
)
def test_a_row_without_its_keys_is_set_aside(changed: dict[str, str], reason: str) -> None:
    reading = read_orders(table(changed), PATIENTS, "pharmacy")
    assert not reading.orders
    assert [one.reason for one in reading.set_aside] == [reason]


def test_as_needed_comes_from_the_sig_with_its_reason() -> None:
    assert timing_of("4", "/d", "2 puffs qid prn SOB") == Timing(
        frequency=4, period="1", period_unit="d", as_needed=True, as_needed_reason="SOB"
    )


def test_the_route_is_said_by_the_dose_form_alone() -> None:
    assert route_of("Simvastatin 40 MG Oral Tablet [Zocor]") is not None
    assert route_of("Oral history of Tablets") is None


def test_refills_run_in_date_order_on_the_prescription_that_had_begun() -> None:
    orders = read_orders(table({"ID": "1"}, {"ID": "2", "START_DATE": "2009-01-01"}), PATIENTS, "pharmacy").orders
    text = "ID\tPID\tDATE\tRXN\tDAYS\tQ\n" + "\n".join(
        (
            "1\t1\t2009-02-01\t309114\t30\t30",
            "2\t1\t2008-02-01\t309114\t30\t30",
            "3\t1\t2007-01-01\t309114\t30\t30",
            "4\t1\t2008-03-01\t309114\t30\t0",
            "5\t1\t2008-03-01\t1\t30\t30",
            "6\t1\tyesterday\t309114\t30\t30",
        )
    )
    reading = read_refills(text, orders)
    assert [(refill.number, refill.order) for refill in reading.refills] == [("3", "1"), ("2", "1"), ("1", "2")]
    assert [(one.line, one.reason) for one in reading.set_aside] == [
        (5, "no_quantity"),
        (6, "no_prescription"),
        (7, "not_a_date"),
    ]


def test_no_known_allergies_is_something_else_than_none_recorded() -> None:
    patients = "PID\tfname\tlname\tdob\n1\tA\tB\t1970-01-01\n2\tC\tD\t1971-01-01\n3\tE\tF\tnever\n"
    allergies = (
        "PID\tSTATEMENT\tALLERGEN\tCODE\tREACTION\n"
        "1\tnegative\tNo known allergies\t160244002\t\n"
        "9\tnegative\tNo known history of drug allergy\t1\t\n"
    )
    registers, aside, rows = read_patients(patients, allergies, "pharmacy")
    assert registers["1"].allergies == ()
    assert registers["2"].allergies is None
    assert [one.reason for one in aside] == ["not_an_allergy", "not_identified"]
    assert rows == 5


def test_what_must_become_of_refills() -> None:
    found = expected_refills({"a": 60}, [("a", 30), ("a", 40), ("a", 30), ("a", 1)])
    assert found == {"accepted": 2, "over_authorised": 2}


@pytest.mark.skipif(not DATA.is_dir(), reason="the SMART sample files are not beside the project")
def test_the_real_files_are_counted_alike_by_other_means() -> None:
    plan = from_folder(DATA)
    assert plan.unexpected == ()
    for source in plan.sources:
        assert source.rows == source.loaded + sum(source.set_aside.values())
