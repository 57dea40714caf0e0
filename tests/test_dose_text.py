"""Doses as text: ISMP's rules, and no error-prone abbreviation in anything that is made here."""

import re
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crdtmed.dose_text import (
    KNOWN_UNITS,
    Amount,
    number_text,
    quantity_text,
    range_text,
    sig_text,
    strength_text,
    unit_text,
)

TIMES = ("s", "min", "h", "d", "wk", "mo", "a")
ORAL = "26643006"
UNKNOWN_ROUTE = "90028008"

# What ISMP's list warns of, as far as a made-up text could hold it. Small and capital letters as they are misread.
ERROR_PRONE = {
    "an abbreviated frequency": r"(?i)\b(q\.?d|q\.?o\.?d|q1d|q[0-9]+h|qhs|qn|h\.?s|b\.?t|[bt]iw|[btq]id|prn|stat|ud)\b",
    "an abbreviated route": r"\b(PO|p\.o|per os|SC|SQ|sub q|IM|IV|IN|IJ|PR|SL)\b",
    "an abbreviated side": r"\b(AD|AS|AU|OD|OS|OU|ad|au|od|os|ou)\b",
    "an abbreviated unit": r"\b(U|u|IU|iu|MU|cc|CC|ml|ML|gm|gr|ng|ss|l|KG|Kg)\b|µ|μ|\bug\b",
    "thousand or million as a letter": r"[0-9] ?(K|M|MM)\b",
    "a zero at the end": r"[0-9]\.[0-9]*0\b",
    "no zero before the point": r"(?<![0-9])\.[0-9]",
    "a number without commas": r"(?<![.0-9])[0-9]{4,}",
    "no space before the unit": r"[0-9][A-Za-zµ]",
    "a sign for a word": r"[<>≤≥@&+°/]|[0-9]-|½|¼",
    "once, which is eleven in Spanish": r"\bonce\b",
}


def error_prone(text: str) -> list[str]:
    return [what for what, pattern in ERROR_PRONE.items() if re.search(pattern, text)]


@pytest.mark.parametrize(
    "text",
    [
        *("5 mg QD", "5 mg q.d.", "5 mg TID", "5 mg prn", "5 mg HS", "5 mg PO", "5 mg p.o.", "1 drop OD"),
        *("5.0 mg", "1,000.50 mg", ".5 mg", "5mg", "1000 mg", "5 U", "5 IU", "5 µg", "5 cc", "5 ml", "10K units"),
        *("1-2 tablets", "5 mg/mL", "> 5 mg", "1 tablet once a day"),
    ],
)
def test_the_list_finds_what_it_names(text: str) -> None:
    assert error_prone(text)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        ("0.5", "mg", "0.5 mg"),
        ("5", "mL", "5 mL"),
        ("1000", "[iU]", "1,000 units"),
        ("1", "U", "1 unit"),
        ("1234567.25", "U", "1,234,567.25 units"),
        ("0.0001", "g", "0.0001 g"),
        ("999", "mg", "999 mg"),
        ("50", "ug", "50 mcg"),
        ("1", "{tablet}", "1 tablet"),
        ("0.5", "{tablet}", "0.5 tablet"),
        ("1.5", "{tablet}", "1.5 tablets"),
        ("0", "{tablet}", "0 tablets"),
        ("2", "{patch}", "2 patches"),
        ("1", "{suppository}", "1 suppository"),
        ("3", "[drp]", "3 drops"),
        ("5", "ug/kg/min", "5 mcg per kg per minute"),
        ("1", "[iU]/h", "1 unit per hour"),
        ("75", "mg/m2", "75 mg per square meter"),
        ("2", "M[iU]", "2 million units"),
        ("0.9", "%", "0.9%"),
    ],
)
def test_quantities(value: str, unit: str, text: str) -> None:
    assert quantity_text(value, unit) == text


@pytest.mark.parametrize(
    "value",
    ["5.0", ".5", "5.", "05", "0.50", "-1", "+1", "1e3", "1,000", " 1", "1 ", "1\n", "", "\u0665", "NaN", "1" * 19],
)
def test_a_number_that_is_not_canonical_is_quoted(value: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(value))):
        quantity_text(value, "mg")


@pytest.mark.parametrize(
    "unit", ["", "µg", "IU", "cc", "ml", "mg/", "/h", "mg//h", "{}", "{tab}", "tablet", "mg per h", "%/h"]
)
def test_a_unit_without_a_text_is_named(unit: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"unit {unit!r} has no text")):
        quantity_text("1", unit)


def test_ranges_and_strengths() -> None:
    assert range_text(Amount("1", "{tablet}"), Amount("2", "{tablet}")) == "1 to 2 tablets"
    assert range_text(Amount("500", "mg"), Amount("1000", "mg")) == "500 to 1,000 mg"
    with pytest.raises(ValueError, match="two units"):
        range_text(Amount("500", "mg"), Amount("1", "g"))
    assert strength_text(Amount("500", "mg")) == "500 mg"
    assert strength_text(Amount("250", "mg"), Amount("5", "mL")) == "250 mg per 5 mL"
    assert strength_text(Amount("100", "[iU]"), Amount("1", "mL")) == "100 units per mL"
    assert strength_text(Amount("20", "ug"), Amount("1", "{spray}")) == "20 mcg per spray"


def oral(**parts: object) -> str:
    return sig_text(dose=Amount("5", "mg"), route=ORAL, route_display="Oral", **parts)  # type: ignore[arg-type]  # parts vary in type


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (
            {"frequency": 2, "period": "1", "period_unit": "d", "as_needed": True, "as_needed_reason": "pain",
             "max_doses": 4, "max_period": Amount("24", "h")},
            "Take 5 mg by mouth 2 times a day as needed for pain; not more than 4 doses in 24 hours",
        ),
        ({"frequency": 1, "period": "1", "period_unit": "d"}, "Take 5 mg by mouth 1 time a day"),
        ({"frequency": 1, "period": "1", "period_unit": "h"}, "Take 5 mg by mouth every hour"),
        ({"frequency": 1, "period": "6", "period_unit": "h"}, "Take 5 mg by mouth every 6 hours"),
        ({"frequency": 1, "period": "2", "period_unit": "d"}, "Take 5 mg by mouth every 2 days"),
        ({"frequency": 1, "period": "1.5", "period_unit": "h"}, "Take 5 mg by mouth every 1.5 hours"),
        ({"frequency": 3, "period": "2", "period_unit": "wk"}, "Take 5 mg by mouth 3 times every 2 weeks"),
        ({"frequency": 2, "period": "1", "period_unit": "h"}, "Take 5 mg by mouth 2 times an hour"),
        (
            {"frequency": 3, "period": "1", "period_unit": "d", "times": ("08:00", "14:00", "20:00"),
             "duration": Amount("7", "d")},
            "Take 5 mg by mouth 3 times a day at 08:00, 14:00 and 20:00 for 7 days",
        ),
        ({"count": 1}, "Take 5 mg by mouth, 1 dose only"),
        (
            {"frequency": 2, "period": "1", "period_unit": "d", "count": 6},
            "Take 5 mg by mouth 2 times a day, 6 doses in all",
        ),
        (
            {"as_needed": True, "max_dose": Amount("10", "mg"), "max_doses": 1, "max_quantity": Amount("20", "mg"),
             "max_period": Amount("1", "d"), "min_interval": Amount("4", "h")},
            "Take 5 mg by mouth as needed; not more than 10 mg at a time; not more than 1 dose and 20 mg in 1 day; "
            "at least 4 hours between doses",
        ),
        ({"dose_high": Amount("10", "mg"), "count": 2}, "Take 5 to 10 mg by mouth, 2 doses in all"),
    ],
)  # fmt: skip
def test_sentences(parts: dict[str, object], text: str) -> None:
    assert oral(**parts) == text
    assert error_prone(text) == []


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({}, "neither how often"),
        ({"frequency": 2}, "together"),
        ({"frequency": 2, "period": "1"}, "together"),
        ({"period_unit": "d", "as_needed": True}, "together"),
        ({"frequency": 2, "period": "1.0", "period_unit": "d"}, "canonical"),
        ({"frequency": 2, "period": "1", "period_unit": "mg"}, "period has unit 'mg'"),
        ({"count": 1, "duration": Amount("1", "{tablet}")}, "duration has unit"),
        ({"count": 1, "min_interval": Amount("1", "mL")}, "min_interval has unit"),
        ({"count": 1, "max_doses": 3}, "max_period"),
        ({"count": 1, "max_quantity": Amount("3", "g")}, "max_period"),
        ({"count": 1, "max_period": Amount("1", "d")}, "max_period"),
        ({"count": 1, "max_doses": 3, "max_period": Amount("1", "mg")}, "max_period has unit"),
        ({"count": 1, "dose_high": Amount("1", "g")}, "two units"),
        ({"count": 1, "max_dose": Amount("1", "xx")}, "'xx'"),
    ],
)
def test_parts_that_do_not_belong_together_are_named(parts: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        oral(**parts)


def test_a_route_without_words_is_given_by_its_display() -> None:
    text = sig_text(dose=Amount("5", "mg"), route=UNKNOWN_ROUTE, route_display="Urethral", count=1)
    assert text == "Give 5 mg (route: Urethral), 1 dose only"


numbers = st.one_of(
    st.integers(0, 10**9).map(str),
    st.tuples(st.integers(0, 10**6), st.integers(1, 999)).map(lambda p: f"{p[0]}.{f'{p[1]:03}'.rstrip('0')}"),
)
units = st.sampled_from(sorted(KNOWN_UNITS))


@given(numbers)
def test_a_number_keeps_its_value(value: str) -> None:
    assert Decimal(number_text(value).replace(",", "")) == Decimal(value)


@given(numbers, units, st.lists(units, max_size=2))
def test_no_amount_is_error_prone(value: str, unit: str, below: list[str]) -> None:
    text = quantity_text(value, "/".join([unit, *below]))
    assert error_prone(text) == []
    assert text.startswith(number_text(value) + " ")


times = st.builds(Amount, numbers, st.sampled_from(TIMES))
counts = st.integers(1, 10_000)
ROUTES = (
    *("26643006", "37839007", "54471007", "447694001", "46713006", "54485002", "10547007", "6064005", "448598008"),
    *("45890007", "37161004", "16857009", "34206005", "372464004", "78421000", "47625008", "72607000", "404820008"),
    *("127492001", "127490009"),
)


@given(st.data())
def test_no_sentence_is_error_prone(data: st.DataObject) -> None:
    unit, maximum = data.draw(units), data.draw(st.sampled_from(("none", "doses", "quantity", "both")))
    low, high = sorted((data.draw(numbers), data.draw(numbers)), key=Decimal)
    assume(low != high)
    text = sig_text(
        dose=Amount(low, unit),
        dose_high=data.draw(st.sampled_from((None, Amount(high, unit)))),
        route=data.draw(st.sampled_from(ROUTES)),
        route_display="not used",
        frequency=data.draw(counts),
        period=data.draw(numbers),
        period_unit=data.draw(st.sampled_from(TIMES)),
        times=data.draw(st.sampled_from(((), ("08:00",), ("08:00", "20:00")))),
        count=data.draw(st.none() | counts),
        as_needed=data.draw(st.booleans()),
        max_dose=data.draw(st.none() | st.builds(Amount, numbers, units)),
        max_doses=data.draw(counts) if maximum in ("doses", "both") else None,
        max_quantity=data.draw(st.builds(Amount, numbers, units)) if maximum in ("quantity", "both") else None,
        max_period=data.draw(times) if maximum != "none" else None,
        min_interval=data.draw(st.none() | times),
        duration=data.draw(st.none() | times),
    )
    assert error_prone(text) == []
    assert "not used" not in text
    assert "  " not in text


def test_every_known_unit_has_two_forms_and_no_code_shows_through() -> None:
    for unit in KNOWN_UNITS:
        for many in (False, True):
            assert re.fullmatch(r"[A-Za-z]+( [a-z]+)?", unit_text(unit, many)), unit
