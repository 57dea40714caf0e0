"""Signed prescriptions, reconciliation sessions, the formulary's search, and directions as text."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from crdtmed.aggregates.directions import directions, dosage_text
from crdtmed.aggregates.elements import Quantity, Range
from crdtmed.aggregates.medication import MedicationRegister, Pack, by_gtin, search
from crdtmed.aggregates.prescription import PrescriptionStatus, clinical, signed_groups, with_status
from crdtmed.aggregates.prescription_draft import (
    Dose,
    Duration,
    Group,
    MaxPerPeriod,
    Route,
    Supply,
    Timing,
    authorised,
)
from crdtmed.aggregates.reconciliation_session import (
    Decision,
    HomeMedication,
    Record,
    SessionItem,
    SessionRegister,
    SessionStatus,
    offered,
    recorded,
)
from tests.aggregates.contents import VALUES
from tests.aggregates.test_draft_view import WHOLE
from tests.aggregates.test_mar_view import prescription

ORDER = prescription(Timing(3, "1", "d"))
REF = "aaaaaaab.aaaaaaaaaaaaaaab"


def test_signing_takes_the_groups_as_they_are() -> None:
    groups = signed_groups(WHOLE)
    assert {group: getattr(groups, group) for group in WHOLE} == WHOLE
    assert groups.indication is None


@pytest.mark.parametrize("group", [Group.MEDICATION, Group.DOSE, Group.ROUTE, Group.TIMING, Group.SUPPLY])
def test_signing_names_what_is_missing(group: Group) -> None:
    with pytest.raises(ValueError, match=f"needs {group}"):
        signed_groups({of: value for of, value in WHOLE.items() if of is not group})


@given(
    st.sampled_from(PrescriptionStatus),
    st.integers(0, 2**40),
    st.none() | st.text(max_size=5),
    st.integers(0, 20),
)
def test_no_status_changes_what_was_signed(
    status: PrescriptionStatus, at: int, reason: str | None, dispensed: int
) -> None:
    later = with_status(replace(ORDER, dispensed=dispensed), status, REF, at, reason, hold_until_ms=at)
    assert clinical(later) == clinical(ORDER)
    assert (later.status, later.status_by, later.status_at, later.status_reason) == (status, REF, at, reason)
    assert (later.hold_until_ms, later.successor) == (at, None)
    assert with_status(later, status, REF, at, reason, successor="rx-2").successor == "rx-2"
    assert with_status(later, PrescriptionStatus.ACTIVE, REF, at, reason).hold_until_ms is None


@pytest.mark.parametrize("field", ["groups", "prescriber", "signed_by", "signed_at", "site", "authorised", "prior"])
def test_every_clinical_field_is_held_to(field: str) -> None:
    other = replace(prescription(Timing(1, "1", "d")), prescriber="dr-c", signed_by=f"b{REF[1:]}", signed_at=1)
    other = replace(other, site="other", authorised=1, prior="rx-0")
    assert clinical(replace(ORDER, **{field: getattr(other, field)})) != clinical(ORDER)


def test_what_is_authorised() -> None:
    assert authorised(Supply(21, "{tablet}")) == 21
    assert authorised(Supply(21, "{tablet}", 3)) == 84


def session(name: str, *items: SessionItem) -> SessionRegister:
    status = SessionStatus.IN_PROGRESS
    return SessionRegister(name, "p-1", status, REF, "dr-b", 5, 1, items=items)


ASPIRIN, IRON = HomeMedication("1", "Aspirin"), HomeMedication("2", "Iron")


def test_recording_a_decision_replaces_the_one_before() -> None:
    opened = session("s-1", SessionItem(ASPIRIN), SessionItem(IRON))
    first = recorded(opened, Record("s-1", "2", Decision.STOP), REF)
    assert first is not None
    assert first.items == (SessionItem(ASPIRIN), SessionItem(IRON, Decision.STOP, None, REF))
    assert first.version == 2
    second = recorded(first, Record("s-1", "2", Decision.CONTINUE, "liked it"), REF)
    assert second is not None
    assert second.items[1] == SessionItem(IRON, Decision.CONTINUE, "liked it", REF)
    assert recorded(opened, Record("s-1", "3", Decision.STOP), REF) is None


def test_a_restart_offers_what_both_sessions_held() -> None:
    one = session("s-1", SessionItem(ASPIRIN, Decision.STOP, None, REF), SessionItem(IRON))
    two = session("s-2", SessionItem(ASPIRIN, Decision.CONTINUE, None, REF), SessionItem(IRON, Decision.STOP, "x", REF))
    found = offered([two, one])
    assert [(item.medicine.key, item.decision) for item in found] == [
        ("1", Decision.STOP),
        ("1", Decision.CONTINUE),
        ("2", Decision.STOP),
    ]
    assert offered([one, two]) == found
    assert offered([session("s-1", SessionItem(IRON)), session("s-2", SessionItem(IRON))]) == (SessionItem(IRON),)


def medicine(code: str, display: str, *packs: Pack, strength: str | None = None) -> MedicationRegister:
    return MedicationRegister(code, display, "{tablet}", 1, strength=strength, packs=packs)


FORMULARY = [
    medicine("c1", "Paracetamol", Pack("04012345678901", 20), strength="500 mg"),
    medicine("c2", "Codeine and Paracetamol", Pack("04012345678901", 10), Pack("04012345678902", 5)),
    medicine("c3", "Parathyroid hormone"),
    medicine("b9", "paracetamol", strength="1 g"),
]


def test_search_finds_by_the_beginnings_of_words_names_first() -> None:
    assert [it.code for it in search(FORMULARY, "PARA")] == ["b9", "c1", "c3", "c2"]
    assert [it.code for it in search(FORMULARY, "parac 500")] == ["c1"]
    assert [it.code for it in search(FORMULARY, "c2")] == ["c2"]
    assert [it.code for it in search(FORMULARY, "para", most=1)] == ["b9"]
    assert search(FORMULARY, "cetamol") == ()
    assert search(FORMULARY, "  ") == ()


@given(st.permutations(FORMULARY), st.text("parco 51c", max_size=6))
def test_search_does_not_depend_on_the_order_of_the_formulary(shuffled: list[MedicationRegister], text: str) -> None:
    assert search(shuffled, text) == search(FORMULARY, text)


def test_a_scan_finds_every_medicine_of_its_gtin() -> None:
    found = by_gtin(reversed(FORMULARY), "04012345678901")
    assert [(it.code, pack.units) for it, pack in found] == [("c1", 20), ("c2", 10)]
    assert by_gtin(FORMULARY, "04012345678909") == ()


MOUTH = Route("26643006", "oral")


@pytest.mark.parametrize(
    ("dose", "timing", "text"),
    [
        (Dose(Quantity("0.5", "mg")), Timing(2, "1", "d"), "Take 0.5 mg by mouth 2 times a day"),
        (
            Dose(range=Range(Quantity("1", "{tablet}"), Quantity("2", "{tablet}"))),
            Timing(as_needed=True, as_needed_reason="pain", max_per_period=MaxPerPeriod(Quantity("24", "h"), 4)),
            "Take 1 to 2 tablets by mouth as needed for pain; not more than 4 doses in 24 hours",
        ),
        (
            Dose(Quantity("1000", "[iU]")),
            Timing(1, "1", "wk", max_dose=Quantity("1000", "[iU]"), min_interval=Quantity("6", "d")),
            "Take 1,000 units by mouth 1 time a week; not more than 1,000 units at a time; "
            "at least 6 days between doses",
        ),
        (Dose(Quantity("5", "mL")), Timing(count=1), "Take 5 mL by mouth, 1 dose only"),
        (
            Dose(Quantity("5", "ug")),
            Timing(2, "1", "d", times=("08:00", "20:00")),
            "Take 5 mcg by mouth 2 times a day at 08:00 and 20:00",
        ),
        (
            Dose(Quantity("1", "g")),
            Timing(3, "1", "d", max_per_period=MaxPerPeriod(Quantity("1", "d"), None, Quantity("3", "g"))),
            "Take 1 g by mouth 3 times a day; not more than 3 g in 1 day",
        ),
    ],
)
def test_directions_follow_the_safe_spellings(dose: Dose, timing: Timing, text: str) -> None:
    assert dosage_text(dose, MOUTH, timing) == text


def test_directions_of_an_order_hold_its_duration() -> None:
    groups = replace(ORDER.groups, duration=Duration("7", "d"))
    assert directions(groups) == "Take 500 mg by mouth 3 times a day for 7 days"
    with pytest.raises(ValueError, match="neither quantity nor range"):
        directions(replace(groups, dose=Dose()))
    with pytest.raises(ValueError, match="unit 'furlong' has no text"):
        directions(replace(groups, dose=Dose(Quantity("5", "furlong"))))


@given(VALUES[Group.DOSE], VALUES[Group.TIMING])
def test_every_valid_order_has_directions_without_a_trailing_zero(dose: Any, timing: Any) -> None:
    text = dosage_text(dose, Route("x", "other"), timing)
    numbers = [word.strip(";,)") for word in text.split() if "." in word]
    assert all(number[0] != "." and not number.endswith("0") for number in numbers if number[:1].isdigit())
    assert "[" not in text
