"""Scanned GS1 codes: the forms that scanners send, what is refused and where, and nothing else ever raised."""

from datetime import date, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crdtmed.gs1 import FNC1, SYMBOLOGIES, Gs1Error, Gs1Scan, element_string, gtin14, parse_scan
from crdtmed.limits import MAX_LONG_TEXT_CHARS

TODAY = date(2026, 11, 23)
GTIN = "09506000134352"
FULL = Gs1Scan(GTIN, "AB-12/3", date(2027, 5, 31), "S1")
SET_82 = "!\"%&'()*+,-./0123456789:;<=>?ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"

lots = st.text(SET_82, min_size=1, max_size=20)


def check_digit(payload: str) -> str:
    """Worked out by hand here: weights 3 and 1 from the right, up to the next ten."""
    total = sum(int(d) * (3 if place % 2 == 0 else 1) for place, d in enumerate(reversed(payload)))
    return str(-total % 10)


gtins = st.text("0123456789", min_size=13, max_size=13).filter(lambda p: p.strip("0")).map(lambda p: p + check_digit(p))


@pytest.mark.parametrize(
    "text",
    [
        f"01{GTIN}1727053110AB-12/3{FNC1}21S1",
        f"01{GTIN}10AB-12/3{FNC1}1727053121S1",
        f"21S1{FNC1}10AB-12/3{FNC1}17270531{FNC1}01{GTIN}{FNC1}",
        f"{FNC1}01{GTIN}1727053110AB-12/3{FNC1}21S1\r\n",
        *(f"{prefix}01{GTIN}1727053110AB-12/3{FNC1}21S1" for prefix in SYMBOLOGIES),
        f"(01){GTIN}(17)270531(10)AB-12/3(21)S1",
        f"(01) {GTIN} (17) 270531\n(10) AB-12/3\n(21) S1 ",
        f"01{GTIN}1126010117270531710PZN{FNC1}9112\x1d21S1{FNC1}10AB-12/3",
    ],
)
def test_every_form_of_one_code_reads_alike(text: str) -> None:
    assert parse_scan(text, today=TODAY) == FULL


def test_what_the_code_does_not_say_is_none() -> None:
    assert parse_scan(f"01{GTIN}", today=TODAY) == Gs1Scan(GTIN, None, None, None)


def test_parentheses_belong_to_a_lot_unless_digits_stand_in_them() -> None:
    scan = parse_scan(f"(01){GTIN}(10)A(B)(5)(21)S", today=TODAY)
    assert (scan.lot, scan.serial) == ("A(B)(5)", "S")


@pytest.mark.parametrize(
    ("text", "reason", "at"),
    [
        ("", "empty", 0),
        (f"\r\n{FNC1}", "empty", 0),
        ("9" * (MAX_LONG_TEXT_CHARS + 1), "too_long", MAX_LONG_TEXT_CHARS),
        ("]d1" + GTIN, "not_gs1", 0),
        ("]E0" + GTIN[1:], "not_gs1", 0),
        (f"01{GTIN}10ab c", "bad_character", 20),
        (f"01{GTIN}10ab\x1ec", "bad_character", 20),
        (f"01{GTIN}1727053\u0661", "bad_character", 23),
        (f"(01){GTIN}(10)a c", "bad_character", 23),
        ("abc", "unknown_identifier", 0),
        (f"01{GTIN}99x{FNC1}05x", "unknown_identifier", 20),
        (f"01{GTIN}10A{FNC1}{FNC1}21B", "unknown_identifier", 20),
        (f"(01){GTIN}(99)A(0555)B", "unknown_identifier", 24),
        (f"(01){GTIN}(55)B", "unknown_identifier", 19),
        (f"(01){GTIN}(1000)B", "unknown_identifier", 19),
        ("(lot)A", "bad_form", 0),
        (f"(A(01){GTIN}", "bad_form", 0),
        (f"01{GTIN[:-1]}", "bad_form", 0),
        (f"01{GTIN}17271331", "bad_form", 16),
        (f"01{GTIN}1727053", "bad_form", 16),
        (f"01{GTIN}10{'A' * 21}", "bad_form", 16),
        (f"01{GTIN}10{FNC1}21S", "bad_form", 16),
        (f"(01) {GTIN}1(17)270531", "bad_form", 1),
        (f"(01) {GTIN} (3100)1", "bad_form", 21),
        (f"(01){GTIN}(10)(21)S", "bad_form", 19),
        (f"(01){GTIN}(31001)1", "bad_form", 1),
        (f"01{GTIN}10A{FNC1}10B", "duplicate", 22),
        (f"01{GTIN}10A{FNC1}10A", "duplicate", 22),
        (f"01{GTIN}01{GTIN}", "duplicate", 18),
        ("1727053110A", "gtin_missing", 11),
        (f"02{GTIN}3712", "gtin_missing", 20),
        (GTIN[1:], "gtin_missing", 13),
        ("0109506000134351", "bad_gtin", 15),
        ("0100000000000000", "bad_gtin", 2),
        (f"01{GTIN}17270229", "bad_date", 18),
        (f"01{GTIN}17270012", "bad_date", 18),
        (f"01{GTIN}17270000", "bad_date", 18),
    ],
)
def test_what_is_not_right_is_refused_with_its_place(text: str, reason: str, at: int) -> None:
    with pytest.raises(Gs1Error) as caught:
        parse_scan(text, today=TODAY)
    assert (caught.value.reason, caught.value.at) == (reason, at)
    assert ";" in str(caught.value), "the message says what to do"


@pytest.mark.parametrize(
    ("digits", "today", "expiry"),
    [
        ("270200", TODAY, date(2027, 2, 28)),
        ("280200", TODAY, date(2028, 2, 29)),
        ("271200", TODAY, date(2027, 12, 31)),
        ("270400", TODAY, date(2027, 4, 30)),
        ("761231", TODAY, date(2076, 12, 31)),
        ("770101", TODAY, date(1977, 1, 1)),
        ("500101", date(2100, 1, 1), date(2150, 1, 1)),
        ("510101", date(2100, 1, 1), date(2051, 1, 1)),
        ("100101", date(2060, 1, 1), date(2110, 1, 1)),
        ("110101", date(2060, 1, 1), date(2011, 1, 1)),
        ("000229", TODAY, date(2000, 2, 29)),
    ],
)
def test_expiry_takes_its_century_from_today_and_day_00_is_the_last(digits: str, today: date, expiry: date) -> None:
    assert parse_scan(f"01{GTIN}17{digits}", today=today).expiry == expiry


@given(gtins, st.integers(-49 * 365, 50 * 365), lots, st.none() | lots)
def test_what_is_built_is_read_back(gtin: str, days: int, lot: str, serial: str | None) -> None:
    expiry = TODAY + timedelta(days=days)
    text = element_string(gtin, expiry, lot, serial)
    assert parse_scan(text, today=TODAY) == Gs1Scan(gtin, lot, expiry, serial)
    assert parse_scan("]d2" + text, today=TODAY) == Gs1Scan(gtin, lot, expiry, serial)


@given(gtins, st.integers(0, 13), st.integers(1, 9))
def test_one_wrong_digit_of_a_gtin_is_always_found(gtin: str, place: int, more: int) -> None:
    wrong = gtin[:place] + str((int(gtin[place]) + more) % 10) + gtin[place + 1 :]
    with pytest.raises(Gs1Error) as caught:
        parse_scan("01" + wrong, today=TODAY)
    assert caught.value.reason == "bad_gtin"


pieces = st.one_of(
    st.sampled_from(
        [FNC1, "(", ")", "]d2", "]", "01", "10", "17", "21", "(01)", "(10)", "(17)", GTIN, "270531", "00", "91", "310"]
    ),
    st.text("0123456789", max_size=20),
    st.text(SET_82 + FNC1 + " \n\u0665", max_size=8),
    st.text(max_size=3),
)


@given(st.one_of(st.text(), st.lists(pieces, max_size=10).map("".join)), st.dates())
@example(f"01{GTIN}17990101", date.max)
@example(f"01{GTIN}17990101", date.min)
@example(f"01{GTIN}17000000", date.max)
@example(f"01{GTIN}17991200", date.max)
def test_any_text_is_read_or_refused(text: str, today: date) -> None:
    refused: Gs1Error | None = None
    try:
        scan = parse_scan(text, today=today)
    except Gs1Error as error:
        refused = error
    else:
        assert scan.gtin == gtin14(scan.gtin)
        if scan.lot is not None and scan.expiry is not None:
            again = element_string(scan.gtin, scan.expiry, scan.lot, scan.serial)
            assert parse_scan(again, today=today) == scan
    assert refused is None or 0 <= refused.at <= len(text)


@pytest.mark.parametrize("short", ["96385074", "614141000036", "9506000134352", GTIN])
def test_shorter_gtins_are_padded(short: str) -> None:
    assert gtin14(short) == short.zfill(14)


@pytest.mark.parametrize("gtin", ["", "96385075", "9638507", "9638507x", "\u0660\u0669" + GTIN[2:], "0" * 14, "1" * 15])
def test_what_is_no_gtin_is_refused(gtin: str) -> None:
    with pytest.raises(Gs1Error, match="GTIN"):
        gtin14(gtin)


@pytest.mark.parametrize(
    ("gtin", "lot", "serial", "named"),
    [
        (GTIN[1:], "A", None, "GTIN"),
        (GTIN[:-1] + "1", "A", None, "check digit"),
        (GTIN, "", None, "lot"),
        (GTIN, "A" * 21, None, "lot"),
        (GTIN, "A B", None, "lot"),
        (GTIN, f"A{FNC1}17", None, "lot"),
        (GTIN, "Ä", None, "lot"),
        (GTIN, "A", "", "serial"),
        (GTIN, "A", "#1", "serial"),
    ],
)
def test_no_code_is_built_from_what_gs1_cannot_say(gtin: str, lot: str, serial: str | None, named: str) -> None:
    with pytest.raises(Gs1Error, match=named):
        element_string(gtin, TODAY, lot, serial)
