"""Labels: read back as people and scanners read them, refused rather than cut, the same bytes for the same content."""

import re
import time
import unicodedata
from dataclasses import replace
from datetime import date
from itertools import combinations

import pypdfium2  # type: ignore[import-untyped]  # it ships no types
import pytest
import zxingcpp
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crdtmed.device.label import (
    _BOXES,
    KEEP_OUT_OF_REACH,
    PAGE_MM,
    LabelContent,
    LabelOverflow,
    LabelText,
    render_label,
)
from crdtmed.gs1 import Gs1Error, Gs1Scan, parse_scan

CONTENT = LabelContent(
    patient_name="Łukasz Wiśniewski",
    birth_date=date(1950, 3, 7),
    medicine="Amoxicillin with clavulanic acid",
    strength="875 mg with 125 mg",
    form="film-coated tablets",
    quantity_text="14 tablets",
    directions="Take 1 tablet by mouth 2 times a day for 7 days",
    cautions=("Take with food", "Finish the course"),
    prescriber="Dr. Ana Ferreira",
    pharmacy_name="Ward pharmacy",
    pharmacy_address="12 High Street, Springfield",
    dispensed_on=date(2026, 11, 23),
    lot="AB-1234/5",
    expiry=date(2027, 5, 31),
    gtin="09506000134352",
    prescription_number="rx-000123",
    print_number=1,
    tentative=False,
)
TEXT_FIELDS = (
    *("patient_name", "medicine", "strength", "form", "quantity_text", "directions", "prescriber"),
    *("pharmacy_name", "pharmacy_address", "prescription_number"),
)
SET_82 = "!\"%&'()*+,-./0123456789:;<=>?ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
MARGIN_MM = 3
PT_PER_MM = 72 / 25.4


def changed(field: str, value: object) -> LabelContent:
    return replace(CONTENT, **{field: value})  # type: ignore[arg-type]  # the tests name fields with what they hold


def text_of(label: bytes) -> str:
    """The text that a PDF reader finds; it writes a hyphen at the end of a line as a control character."""
    with pypdfium2.PdfDocument(label) as document:
        assert len(document) == 1
        found: str = document[0].get_textpage().get_text_range()
    return re.sub("[\x02\ufffe]", "-", found).replace("\r\n", "\n")


def picture(label: bytes, dpi: int) -> Image.Image:
    with pypdfium2.PdfDocument(label) as document:
        image: Image.Image = document[0].render(scale=dpi / 72).to_pil().convert("L")
    return image


def squeezed(text: str) -> str:
    return "".join(unicodedata.normalize("NFC", text).split())


def darkness(label: bytes, left: float, top: float, right: float, bottom: float) -> float:
    """How much of an area, in millimetres, is black: 0 to 1."""
    image = picture(label, 254)
    area = image.crop((int(left * 10), int(top * 10), int(right * 10), int(bottom * 10)))
    counts = area.histogram()
    return sum(counts[:128]) / sum(counts)


def without(label: bytes, left: float, top: float, right: float, bottom: float) -> bytes:
    """The picture of a label but for one area, in millimetres, and a hair's breadth around it."""
    image = picture(label, 254)
    image.paste(255, (int(left * 10) - 2, int(top * 10) - 2, int(right * 10) + 4, int(bottom * 10) + 3))
    return image.tobytes()


def outside_the_margin(label: bytes) -> list[str]:
    """The characters that reach over the margin, on whichever side."""
    width, height = (edge * PT_PER_MM for edge in PAGE_MM)
    margin = MARGIN_MM * PT_PER_MM - 0.5  # a letter's ink may lean half a point out of its place
    with pypdfium2.PdfDocument(label) as document:
        page = document[0].get_textpage()
        over = []
        for place in range(page.count_chars()):
            left, bottom, right, top = page.get_charbox(place)
            if left < margin or bottom < margin or right > width - margin or top > height - margin:
                over.append(page.get_text_range(place, 1))
    return over


def test_everything_is_on_the_label() -> None:
    text = text_of(render_label(CONTENT))
    for said in (
        *("Łukasz Wiśniewski", "Born 7 Mar 1950", "Amoxicillin with clavulanic acid", "875 mg with 125 mg"),
        *("14 tablets", "Take 1 tablet by mouth 2 times a day for 7 days", "Take with food", "Finish the course"),
        *(KEEP_OUT_OF_REACH, "Prescriber Dr. Ana Ferreira", "Ward pharmacy", "12 High Street, Springfield"),
        *("Dispensed 23 Nov 2026", "Lot AB-1234/5", "Use by 31 May 2027", "GTIN 09506000134352"),
        *("Prescription rx-000123", "Print 1"),
    ):
        assert said in text
    assert "film-coated tablets" in text.replace("\n", " ")
    assert "TENTATIVE" not in text
    assert "Copy" not in text


def test_the_page_has_its_stated_size() -> None:
    with pypdfium2.PdfDocument(render_label(CONTENT)) as document:
        assert document[0].get_size() == pytest.approx([edge * PT_PER_MM for edge in PAGE_MM], abs=0.01)


def test_a_later_print_is_a_numbered_copy() -> None:
    text = text_of(render_label(replace(CONTENT, print_number=2)))
    assert "Copy 2" in text
    assert "Print" not in text
    assert "Copy 13" in text_of(render_label(replace(CONTENT, print_number=13)))


def test_a_tentative_label_says_so_white_on_black() -> None:
    label = render_label(replace(CONTENT, tentative=True))
    assert "TENTATIVE" in text_of(label)
    assert "not yet accepted" in text_of(label)
    assert darkness(label, 65, 3, 99, 12) > 0.7
    assert darkness(render_label(CONTENT), 65, 3, 99, 12) == 0


@pytest.mark.parametrize("dpi", [203, 300, 600])
def test_a_scanner_reads_the_code(dpi: int) -> None:
    (code,) = zxingcpp.read_barcodes(picture(render_label(CONTENT), dpi))
    assert code.format == zxingcpp.BarcodeFormat.DataMatrix
    assert code.symbology_identifier == "]d2"
    assert code.text == "(01)09506000134352(17)270531(10)AB-1234/5"
    sent = code.symbology_identifier + code.bytes.decode("ascii")
    expected = Gs1Scan(CONTENT.gtin, CONTENT.lot, CONTENT.expiry, None)
    assert parse_scan(sent, today=CONTENT.dispensed_on) == expected


@settings(max_examples=40)
@given(st.text(SET_82, min_size=1, max_size=20), st.dates(date(2000, 1, 1), date(2075, 12, 31)))
def test_every_lot_and_expiry_is_read_back(lot: str, expiry: date) -> None:
    label = render_label(replace(CONTENT, lot=lot, expiry=expiry))
    codes = zxingcpp.read_barcodes(picture(label, 300))
    sent = [code.symbology_identifier + code.bytes.decode("ascii") for code in codes]
    assert [parse_scan(text, today=CONTENT.dispensed_on) for text in sent] == [Gs1Scan(CONTENT.gtin, lot, expiry, None)]


def test_the_longest_code_keeps_its_quiet_zone() -> None:
    label = render_label(replace(CONTENT, lot="iIl!;:_'/-.,iIl!;:_'", tentative=True))
    assert zxingcpp.read_barcodes(picture(label, 203))
    left, top = PAGE_MM[0] - MARGIN_MM - 16.5, PAGE_MM[1] - MARGIN_MM - 16.5
    assert darkness(label, left - 0.5, top - 0.5, PAGE_MM[0], top) == 0
    assert darkness(label, left - 0.5, top - 0.5, left, PAGE_MM[1]) == 0


def test_the_same_content_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    first = render_label(CONTENT)
    monkeypatch.setattr(time, "time", lambda: 86_400.0)
    assert render_label(CONTENT) == first
    assert b"(D:20261123000000Z" in first
    assert render_label(replace(CONTENT, patient_name="Ana Lind")) != first


@pytest.mark.parametrize("field", TEXT_FIELDS)
@pytest.mark.parametrize("text", ["many words " * 60, "W" * 200], ids=["lines", "word"])
def test_what_does_not_fit_is_refused_by_name(field: str, text: str) -> None:
    with pytest.raises(LabelOverflow, match=f"^{field} does not fit .* shorten it$") as caught:
        render_label(changed(field, text))
    assert caught.value.field == field
    assert caught.value.over_mm > 1
    assert "many" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"), [("cautions", ("Do not drive or use machines",) * 20), ("print_number", 10**12)]
)
def test_too_many_cautions_and_prints_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(LabelOverflow) as caught:
        render_label(changed(field, value))
    assert caught.value.field == field


@pytest.mark.parametrize("letter", ["W", "M", "%", "&"])
def test_the_widest_lot_and_all_dates_fit(letter: str) -> None:
    for month in range(1, 13):
        day = date(2028, month, 28)
        label = render_label(replace(CONTENT, lot=letter * 20, birth_date=day, dispensed_on=day, expiry=day))
        assert f"Lot {letter * 20}" in text_of(label)


def test_by_how_much_it_does_not_fit_grows_with_the_text() -> None:
    over = []
    for words in (60, 61, 90, 120):
        with pytest.raises(LabelOverflow) as caught:
            render_label(replace(CONTENT, directions="tablets " * words))
        over.append(caught.value.over_mm)
    assert over == sorted(over)
    assert over[-1] > over[0] + 5


words = st.text("abcdefgilmnoprstuvzAEIMNOPSTWŁÖŻşğИвΩμ0123456789", min_size=1, max_size=14)


@settings(max_examples=60)
@given(st.sampled_from(TEXT_FIELDS), st.lists(words, min_size=1, max_size=45).map(" ".join))
def test_text_is_whole_or_refused(field: str, text: str) -> None:
    refused = ""
    try:
        label = render_label(changed(field, text))
    except LabelOverflow as overflow:
        refused = overflow.field
        label = render_label(CONTENT)
    assert refused in ("", field)
    if not refused:
        assert squeezed(text) in squeezed(text_of(label))
        box = next(box for box in _BOXES if box.field == field)
        area = (box.x, box.y, box.x + box.width, box.y + box.height)
        assert without(label, *area) == without(render_label(CONTENT), *area)
    assert outside_the_margin(label) == []


def test_no_part_has_the_place_of_another() -> None:
    for one, other in combinations(_BOXES, 2):
        apart = (
            one.x + one.width <= other.x
            or other.x + other.width <= one.x
            or one.y + one.height <= other.y + 0.2
            or other.y + other.height <= one.y + 0.2
        )
        assert apart, (one.field, other.field)
    assert all(box.x >= MARGIN_MM and box.x + box.width <= PAGE_MM[0] - MARGIN_MM for box in _BOXES)
    assert all(box.size >= box.least >= 7 for box in _BOXES)


@pytest.mark.parametrize("before", range(30, 60))
def test_a_number_stays_with_what_it_counts(before: int) -> None:
    label = render_label(replace(CONTENT, directions=f"{'i' * before} {'n' * 20} take 1,000 units or 2 tablets"))
    lines = text_of(label).split("\n")
    assert any("1,000 units" in line for line in lines)
    assert any("2 tablets" in line for line in lines)


def test_lines_of_directions_and_address_stay_lines() -> None:
    label = render_label(
        replace(CONTENT, directions="Morning: 1 tablet\nEvening: 2 tablets", pharmacy_address="High Street\nTown")
    )
    assert "Morning: 1 tablet\nEvening: 2 tablets" in text_of(label)
    assert "High Street\nTown" in text_of(label)


def test_decomposed_letters_are_printed_composed() -> None:
    name = unicodedata.normalize("NFD", "Zoë Živković")
    assert "Zoë Živković" in unicodedata.normalize("NFC", text_of(render_label(replace(CONTENT, patient_name=name))))


@pytest.mark.parametrize(
    "name", ["王小明", "محمد", "Ana\nLind", "Ana\tLind", "Ana\x00", "A\u200dna", "q\u0301", "\u202eanA", "😀"]
)
def test_a_character_that_cannot_be_printed_is_named(name: str) -> None:
    with pytest.raises(LabelText, match=r"^patient_name has a character .*U\+[0-9A-F]{4,6}") as caught:
        render_label(replace(CONTENT, patient_name=name))
    assert caught.value.field == "patient_name"


@pytest.mark.parametrize("field", TEXT_FIELDS)
def test_a_blank_field_is_named(field: str) -> None:
    with pytest.raises(LabelText, match=f"^{field} is blank"):
        render_label(changed(field, " \n"))


def test_a_blank_caution_and_a_print_without_number_are_named() -> None:
    with pytest.raises(LabelText, match=r"^cautions is blank"):
        render_label(replace(CONTENT, cautions=("Take with food", "")))
    with pytest.raises(LabelText, match=r"^print_number is 0"):
        render_label(replace(CONTENT, print_number=0))
    assert "•" not in text_of(render_label(replace(CONTENT, cautions=())))


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("gtin", "09506000134351", "GTIN"),
        ("gtin", "9506000134352", "GTIN"),
        ("lot", "A B", "lot"),
        ("lot", "", "lot"),
        ("lot", "A" * 21, "lot"),
        ("lot", "A[10]", "lot"),
    ],
)
def test_what_no_code_can_say_is_refused(field: str, value: str, named: str) -> None:
    with pytest.raises(Gs1Error, match=named):
        render_label(changed(field, value))
