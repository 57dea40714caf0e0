"""What the embedded rules say of an order, and what they say when they cannot tell."""

import asyncio
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed.aggregates.alert_override_record import Severity
from crdtmed.aggregates.elements import Quantity, Range
from crdtmed.aggregates.patient import Allergy
from crdtmed.aggregates.prescription import PrescriptionStatus
from crdtmed.aggregates.prescription_draft import Dose, MaxPerPeriod, Timing
from crdtmed.limits import MAX_CARDS
from relay.knowledge.embedded import EmbeddedKnowledge, answer
from relay.knowledge.rules import daily_amounts, evaluate
from relay.knowledge.snapshot import Snapshot, read_snapshot
from tests.relay.knowledge.questions import DAILY, in_force, order, question

RULES: dict[str, Any] = {
    "format": "crdtmed-knowledge/1",
    "snapshot": "s1",
    "source": "tests",
    "interactions": [
        {"between": ["warfarin", "aspirin"], "severity": "critical", "summary": "bleeding", "detail": "watch INR"}
    ],
    "allergy_classes": [
        {"allergy": "penicillin", "ingredients": ["amoxicillin"], "severity": "critical", "summary": "penicillin"},
        {"allergy": "nsaids", "classes": ["nsaid"], "severity": "warning", "summary": "an NSAID"},
    ],
    "duplicate_classes": [{"class": "nsaid", "severity": "warning", "summary": "two NSAIDs"}],
    "dose_ceilings": [
        {"ingredient": "paracetamol", "per_day": {"value": "4", "unit": "g"}, "severity": "critical", "summary": "4 g"}
    ],
}
SNAPSHOT = read_snapshot(msgspec.json.encode(RULES))


def said(*asked: Any, snapshot: Snapshot = SNAPSHOT, **more: Any) -> list[tuple[str, str]]:
    """Kind and severity of the cards on an order."""
    return [(card.kind, card.severity.value) for card in evaluate(snapshot, question(*asked, **more))]


WARFARIN = in_force("rx2", order("warf-5", "5"))


def test_nothing_to_say_is_no_card() -> None:
    assert said(order("para-500"), WARFARIN) == []


def test_two_ingredients_that_do_not_go_together_in_either_order() -> None:
    [card] = evaluate(SNAPSHOT, question(order("aspi-100"), WARFARIN))
    assert (card.kind, card.severity, card.summary, card.detail, card.source) == (
        "interaction", Severity.CRITICAL, "bleeding", "watch INR", "tests"
    )  # fmt: skip
    assert said(order("warf-5"), in_force("rx3", order("aspi-100"))) == [("interaction", "critical")]


@pytest.mark.parametrize(
    ("status", "speaks"),
    [(status, status in (PrescriptionStatus.ACTIVE, PrescriptionStatus.ON_HOLD)) for status in PrescriptionStatus],
)
def test_only_what_is_in_force_counts(status: PrescriptionStatus, speaks: bool) -> None:
    assert bool(said(order("aspi-100"), in_force("rx2", order("warf-5"), status))) == speaks


def test_the_prescription_itself_is_not_held_against_itself() -> None:
    assert said(order("aspi-100"), in_force("rx1", order("warf-5"))) == []


def test_each_of_two_interacting_prescriptions_is_a_card_of_its_own() -> None:
    assert said(order("aspi-100"), WARFARIN, in_force("rx3", order("warf-5"))) == [("interaction", "critical")] * 2


def test_duplicate_therapy_by_class() -> None:
    assert said(order("ibup-400"), in_force("rx2", order("aspi-100"))) == [("duplicate-therapy", "warning")]


@pytest.mark.parametrize(
    ("allergies", "code", "cards"),
    [
        ((Allergy("penicillin", "Penicillin"),), "amox-500", [("allergy", "critical")]),
        ((Allergy("nsaids", "NSAIDs"),), "ibup-400", [("allergy", "warning")]),
        ((Allergy("ibuprofen", "Ibuprofen"),), "ibup-400", [("allergy", "critical")]),
        ((Allergy("nsaid", "The class itself"),), "ibup-400", [("allergy", "critical")]),
        ((Allergy("penicillin", "Penicillin"),), "para-500", []),
        ((Allergy("warfarin", "Warfarin"),), "para-500", []),
        ((Allergy("penicilin", "Penicillin, misspelt"),), "amox-500", [("allergy-unknown", "info")]),
        ((), "amox-500", []),
        (None, "amox-500", [("allergies-not-recorded", "warning")]),
    ],
)
def test_allergies(allergies: tuple[Allergy, ...] | None, code: str, cards: list[tuple[str, str]]) -> None:
    assert said(order(code), allergies=allergies) == cards


def test_an_allergy_to_a_class_by_its_own_code_is_as_grave_as_a_rule_says_and_grave_where_none_speaks() -> None:
    allergies = (Allergy("nsaid", "NSAIDs"),)
    for rule, severity in (({"classes": ["nsaid"]}, "warning"), ({"ingredients": ["aspirin"]}, "critical")):
        held = {"allergy": "nsaid", "severity": "warning", "summary": "an NSAID", **rule}
        snapshot = read_snapshot(msgspec.json.encode(RULES | {"allergy_classes": [held]}))
        assert said(order("ibup-400"), allergies=allergies, snapshot=snapshot) == [("allergy", severity)]


@pytest.mark.parametrize(
    ("value", "unit", "times", "cards"),
    [
        ("1000", "mg", 4, []),
        ("1001", "mg", 4, [("dose-ceiling", "critical")]),
        ("4.000001", "g", 1, [("dose-ceiling", "critical")]),
        ("1", "{tablet}", 1, [("dose-not-comparable", "warning")]),
        ("10", "mL", 1, [("dose-not-comparable", "warning")]),
        ("1", "mmol", 1, [("dose-not-comparable", "warning")]),
    ],
)
def test_the_ceiling_of_a_day(value: str, unit: str, times: int, cards: list[tuple[str, str]]) -> None:
    timing = Timing(frequency=times, period="1", period_unit="d")
    assert said(order("para-500", value, unit, timing)) == cards


def test_a_dose_of_two_ingredients_cannot_be_held_against_a_ceiling_of_one() -> None:
    assert said(order("para-cod", "1", "g")) == [("dose-not-comparable", "warning")]


def test_orders_of_one_ingredient_are_counted_together() -> None:
    other = in_force("rx2", order("para-syr", "3", "g"))
    assert said(order("para-500", "1", "g"), other) == []
    [card] = evaluate(SNAPSHOT, question(order("para-500", "1001", "mg"), other))
    assert (card.kind, card.severity) == ("dose-ceiling", Severity.CRITICAL)
    assert "ogether with other orders" in card.summary
    uncounted = in_force("rx2", order("para-syr", "5", "mL"))
    assert said(order("para-500", "1", "g"), uncounted) == [("dose-not-comparable", "warning")]
    whole = in_force("rx3", order("para-500", "5", "g"))
    assert ("dose-ceiling", "critical") in said(order("para-syr", "5", "mL"), whole)


def test_an_item_without_ingredients_was_not_checked_and_says_so() -> None:
    assert said(order("mystery")) == [("ingredients-unknown", "warning")]
    assert said(order("nowhere")) == [("ingredients-unknown", "warning")]
    assert said(order("para-500"), in_force("rx2", order("mystery"))) == [("ingredients-unknown", "warning")]


@pytest.mark.parametrize(
    ("timing", "grams"),
    [
        (Timing(frequency=3, period="1", period_unit="d"), "3"),
        (Timing(frequency=1, period="8", period_unit="h"), "3"),
        (Timing(frequency=1, period="5", period_unit="h"), "5"),
        (Timing(frequency=2, period="90", period_unit="min"), "32"),
        (Timing(frequency=1, period="1", period_unit="min"), "1440"),
        (Timing(frequency=1, period="1", period_unit="wk"), "1"),
        (Timing(frequency=3, period="2", period_unit="d"), "2"),
        (Timing(frequency=3, period="2", period_unit="d", times=("08:00", "14:00", "20:00")), "3"),
        (Timing(frequency=2, period="1", period_unit="d", times=("08:00", "20:00")), "2"),
        (Timing(frequency=3, period="2", period_unit="d", as_needed=True), "3"),
        (Timing(frequency=3, period="1", period_unit="d", as_needed=True), "3"),
        (Timing(count=2), "2"),
        (Timing(frequency=4, period="1", period_unit="d", count=2), "2"),
        (Timing(frequency=1, period="1", period_unit="d", count=10), "1"),
        (Timing(as_needed=True, min_interval=Quantity("6", "h")), "4"),
        (Timing(as_needed=True, max_per_period=MaxPerPeriod(Quantity("1", "d"), doses=3)), "3"),
        (Timing(as_needed=True, max_per_period=MaxPerPeriod(Quantity("2", "d"), doses=6)), "6"),
        (Timing(as_needed=True, max_per_period=MaxPerPeriod(Quantity("12", "h"), quantity=Quantity("2", "g"))), "4"),
        (
            Timing(frequency=9, period="1", period_unit="d", max_per_period=MaxPerPeriod(Quantity("1", "d"), doses=4)),
            "4",
        ),
    ],
)
def test_the_most_in_a_day(timing: Timing, grams: str) -> None:
    amounts = daily_amounts(Dose(Quantity("1", "g")), timing)
    assert min(amounts) == (Decimal(grams), "g")


def test_of_a_range_the_upper_end_counts() -> None:
    dose = Dose(range=Range(Quantity("500", "mg"), Quantity("1", "g")))
    assert daily_amounts(dose, DAILY) == ((Decimal(1), "g"),)


def test_a_limit_in_mass_bounds_doses_in_tablets() -> None:
    limit = MaxPerPeriod(Quantity("1", "d"), quantity=Quantity("5", "g"))
    timing = Timing(as_needed=True, max_per_period=limit)
    assert said(order("para-500", "1", "{tablet}", timing)) == [("dose-ceiling", "critical")]


def test_what_says_nothing_about_a_day_cannot_be_compared() -> None:
    assert daily_amounts(Dose(Quantity("1", "g")), Timing(as_needed=True)) == ()
    assert said(order("para-500", "1", "mg", Timing(as_needed=True))) == [("dose-not-comparable", "warning")]


MINUTES: dict[Literal["min", "h", "d", "wk"], int] = {"min": 1, "h": 60, "d": 1_440, "wk": 10_080}


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(list(MINUTES)))
def test_no_schedule_fits_more_into_a_day_than_the_bound(
    times: int, period: int, unit: Literal["min", "h", "d", "wk"]
) -> None:
    """Doses as evenly apart as the timing says, counted in the day that begins with one of them."""
    minutes = MINUTES[unit] * period
    apart = Fraction(minutes, times)
    most = sum(1 for number in range(times * (1_440 // minutes + 2)) if number * apart < 1_440)
    timing = Timing(frequency=times, period=str(period), period_unit=unit)
    [(bound, _)] = daily_amounts(Dose(Quantity("1", "g")), timing)
    assert bound >= most


def test_the_id_of_a_card_stays_and_is_of_its_subject() -> None:
    [one] = evaluate(SNAPSHOT, question(order("aspi-100"), WARFARIN))
    [again] = evaluate(SNAPSHOT, question(order("aspi-100", "300"), WARFARIN))
    [other] = evaluate(SNAPSHOT, question(order("aspi-100"), in_force("rx9", order("warf-5"))))
    assert one.id == again.id != other.id


TWO_LIMITS: dict[str, Any] = {
    "dose_ceilings": [
        {
            "ingredient": "paracetamol",
            "per_day": {"value": grams, "unit": "g"},
            "severity": grave,
            "summary": "too much",
        }
        for grams, grave in (("4", "critical"), ("3", "warning"))
    ]
}
TWO_CLASSES: dict[str, Any] = {
    "duplicate_classes": [
        {"class": "nsaid", "severity": "critical", "summary": "never two"},
        {"class": "nsaid", "severity": "info", "summary": "two NSAIDs"},
    ]
}
TWO_ALLERGIES: dict[str, Any] = {
    "allergy_classes": [
        {"allergy": "nsaids", "ingredients": ["ibuprofen"], "severity": "critical", "summary": "an NSAID"},
        {"allergy": "nsaids", "classes": ["nsaid"], "severity": "warning", "summary": "an NSAID"},
    ]
}


@pytest.mark.parametrize(
    ("rules", "code", "grams"),
    [(TWO_LIMITS, "para-500", "5"), (TWO_CLASSES, "ibup-400", "1"), (TWO_ALLERGIES, "ibup-400", "1")],
)
def test_of_two_rules_on_one_thing_the_milder_never_takes_the_place_of_the_graver(
    rules: dict[str, Any], code: str, grams: str
) -> None:
    asked = question(
        order(code, grams, "g"), in_force("rx2", order("aspi-100")), allergies=(Allergy("nsaids", "NSAIDs"),)
    )
    for name, held in rules.items():
        for ranked in (held, held[::-1]):
            snapshot = read_snapshot(msgspec.json.encode(RULES | {name: ranked}))
            assert Severity.CRITICAL in {card.severity for card in evaluate(snapshot, asked)}


def test_of_too_many_cards_the_gravest_stay_and_the_rest_is_counted() -> None:
    rules = dict(RULES, interactions=[
        {"between": ["warfarin", "aspirin"], "severity": "warning", "summary": f"warning {n}"} for n in range(60)
    ] + RULES["interactions"])  # fmt: skip
    cards = evaluate(read_snapshot(msgspec.json.encode(rules)), question(order("aspi-100"), WARFARIN))
    assert len(cards) == MAX_CARDS
    assert cards[0].severity is Severity.CRITICAL
    assert cards[-1].kind == "too-many-alerts"
    assert cards[-1].summary.startswith(f"{61 - MAX_CARDS + 1} more")
    grave = msgspec.json.encode(rules).replace(b'"warning"', b'"critical"')
    assert evaluate(read_snapshot(grave), question(order("aspi-100"), WARFARIN))[-1].severity is Severity.CRITICAL


def test_the_embedded_knowledge_base_answers_under_the_name_of_its_snapshot() -> None:
    asked = question(order("aspi-100"), WARFARIN)
    held: list[Snapshot | None] = [None]
    knowledge = EmbeddedKnowledge(lambda: held[0])
    names = [knowledge.snapshot]
    nothing = asyncio.run(knowledge.ask(asked))
    assert (nothing.unavailable is not None, nothing.snapshot, nothing.cards) == (True, "", ())
    held[0] = SNAPSHOT
    names.append(knowledge.snapshot)
    assert names == [None, "s1"]
    found = asyncio.run(knowledge.ask(asked))
    assert found == answer(SNAPSHOT, asked)
    assert (found.position, found.digest, found.snapshot, len(found.cards)) == (7, b"d" * 32, "s1", 1)


def test_many_rules_are_found_by_what_they_are_about() -> None:
    """As many rules as a file may hold, and a patient on many medicines: only the rules of the ingredient are read."""
    pairs = [{"between": [f"a{n}", f"b{n}"], "severity": "info", "summary": "x"} for n in range(99_000)]
    snapshot = read_snapshot(msgspec.json.encode(dict(RULES, interactions=[*pairs, *RULES["interactions"]])))
    assert len(snapshot.interactions_of["warfarin"]) == 1
    others = [in_force(f"rx{n}", order("warf-5")) for n in range(2, 40)]
    assert said(order("aspi-100"), *others, snapshot=snapshot) == [("interaction", "critical")] * 38
