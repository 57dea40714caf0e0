"""Dispensing labels as PDF, made on the device from what it holds: 102 × 76 mm, the 4 × 3 inch roll of label printers.

Nothing is ever cut: each part has a box and a smallest size of type, and what does not fit into it is refused by name.
The same content gives the same bytes. Type is Fira Sans, which has the letters of European languages in Latin, Greek
and Cyrillic; a character that it lacks is refused too. The GS1 DataMatrix has modules of 0.625 mm, five dots of a
203 dpi printer, and a quiet zone wider than one module.
"""

import re
import unicodedata
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time
from typing import Final, cast

import fontpkg_fira_sans  # type: ignore[import-untyped]  # a package of fonts has no types
import zxingcpp
from fpdf import FPDF
from fpdf.fonts import TTFFont

from crdtmed.gs1 import element_string

PAGE_MM: Final = (102.0, 76.0)
LEAST_PT: Final = 7.0
"""No letter on a label is smaller; directions, medicine and patient have a larger minimum of their own."""
KEEP_OUT_OF_REACH: Final = "Keep out of reach of children"

_MODULE_MM = 0.625
_MATRIX_MM = 16.5
_MARGIN_MM = 3.0
_MM_PER_PT = 25.4 / 72
_LINE = 1.2  # height of a line by the size of its type: ascent and descent of the font together
_ASCENT = 0.935
_STEP_PT = 0.5
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNPRINTABLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Mn", "Mc", "Me")
_STYLES = {"": "Regular", "B": "Bold"}


@dataclass(frozen=True)
class LabelContent:
    """What a label says. Texts are printed as they stand, blanks in a row as one; directions and address may
    have line ends.

    ``quantity_text`` is the amount with its unit (*21 capsules*); ``gtin`` has 14 digits; ``expiry`` is the last day of
    use; ``print_number`` counts the prints of this label from 1; ``tentative`` until the dispense is accepted.
    """

    patient_name: str
    birth_date: date
    medicine: str
    strength: str
    form: str
    quantity_text: str
    directions: str
    cautions: tuple[str, ...]
    prescriber: str
    pharmacy_name: str
    pharmacy_address: str
    dispensed_on: date
    lot: str
    expiry: date
    gtin: str
    prescription_number: str
    print_number: int
    tentative: bool


class LabelOverflow(ValueError):
    """The text of ``field`` does not fit into its box at the smallest type; it lacks ``over_mm`` millimetres."""

    def __init__(self, field: str, over_mm: float, size_pt: float) -> None:
        super().__init__(
            f"{field} does not fit on the label: at {size_pt:g} pt, the smallest type, it needs {over_mm:.1f} mm more "
            "room; shorten it"
        )
        self.field: Final = field
        self.over_mm: Final = over_mm


class LabelText(ValueError):
    """The text of ``field`` cannot be printed, for the reason that the message gives."""

    def __init__(self, field: str, says: str) -> None:
        super().__init__(f"{field} {says}")
        self.field: Final = field


@dataclass(frozen=True)
class _Box:
    """Where a field is printed, in millimetres from the top left, and its largest and smallest type in points."""

    field: str
    x: float
    y: float
    width: float
    height: float
    size: float
    least: float = LEAST_PT
    style: str = ""


_BOXES = (
    _Box("pharmacy_name", 3, 3, 60, 3.8, 8.5, style="B"),
    _Box("pharmacy_address", 3, 6.8, 60, 6, 7),
    _Box("medicine", 3, 13.4, 96, 10.2, 12, 9, "B"),
    _Box("strength", 3, 23.6, 46, 7.2, 9.5, 8, "B"),
    _Box("form", 51, 23.6, 22, 7.2, 9, 8),
    _Box("quantity_text", 75, 23.6, 24, 7.2, 9, 8),
    _Box("directions", 3, 31.4, 96, 15.4, 12, 9, "B"),
    _Box("cautions", 3, 46.8, 96, 5.95, 8),
    _Box("keep_out_of_reach", 3, 52.8, 60, 3.4, 8, style="B"),
    _Box("print_number", 65, 52.8, 16, 3.4, 8),
    _Box("patient_name", 3, 57, 76, 4.2, 10, 8, "B"),
    _Box("birth_date", 3, 61.2, 27, 3.1, 7),
    _Box("prescription_number", 31, 61.2, 48, 3.1, 7),
    _Box("prescriber", 3, 64.2, 76, 3.1, 7),
    _Box("dispensed_on", 3, 67.2, 27, 3.1, 7),
    _Box("lot", 31, 67.2, 48, 3.1, 7),
    _Box("expiry", 3, 70.2, 27, 3.1, 7),
    _Box("gtin", 31, 70.2, 48, 3.1, 7),
)
_RULE_MM = 0.2
_RULES = ((13.0, 99), (31.0, 99), (56.6, 79))  # the last leaves the quiet zone of the DataMatrix alone


def render_label(content: LabelContent) -> bytes:
    """The label as a PDF of one page.

    Raises `LabelOverflow` for text that does not fit, `LabelText` for text that is blank or has a character that cannot
    be printed, and `crdtmed.gs1.Gs1Error` for a GTIN or lot that no GS1 code can hold. All name the field; none quotes
    the patient.
    """
    element_string(content.gtin, content.expiry, content.lot)  # raises for what its code could not say
    texts = _texts(content)
    pdf = _page(content)
    try:
        for box in _BOXES:
            _place(pdf, box, _printable(pdf, box, texts[box.field]))
        pdf.set_line_width(_RULE_MM)
        for y, right in _RULES:
            pdf.line(_MARGIN_MM, y, right, y)
        if content.tentative:
            _mark_tentative(pdf)
        _draw_matrix(pdf, content)
        return bytes(pdf.output())
    finally:
        for style in _STYLES:
            _font(pdf, style).close()


def _texts(content: LabelContent) -> dict[str, str]:
    """What is printed for each box."""
    if content.print_number < 1:
        raise LabelText("print_number", f"is {content.print_number}; prints are counted from 1")
    for field in fields(content):
        value = getattr(content, field.name)
        if any(
            isinstance(text, str) and not text.strip() for text in (value if isinstance(value, tuple) else (value,))
        ):
            raise LabelText(field.name, "is blank; a label must have it")
    return {
        "pharmacy_name": content.pharmacy_name,
        "pharmacy_address": content.pharmacy_address,
        "medicine": content.medicine,
        "strength": content.strength,
        "form": content.form,
        "quantity_text": content.quantity_text,
        "directions": content.directions,
        "cautions": " ".join(f"• {caution}" for caution in content.cautions),
        "keep_out_of_reach": KEEP_OUT_OF_REACH,
        "print_number": "Print 1" if content.print_number == 1 else f"Copy {content.print_number}",
        "patient_name": content.patient_name,
        "birth_date": f"Born {_date(content.birth_date)}",
        "prescription_number": f"Prescription {content.prescription_number}",
        "prescriber": f"Prescriber {content.prescriber}",
        "dispensed_on": f"Dispensed {_date(content.dispensed_on)}",
        "lot": f"Lot {content.lot}",
        "expiry": f"Use by {_date(content.expiry)}",
        "gtin": f"GTIN {content.gtin}",
    }


def _date(day: date) -> str:
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def _page(content: LabelContent) -> FPDF:
    pdf = FPDF(unit="mm", format=PAGE_MM)
    # The time of making would make two equal labels differ; the day of dispensing says as much.
    pdf.set_creation_date(datetime.combine(content.dispensed_on, time(), UTC))
    pdf.set_title("Dispensing label")
    pdf.set_lang("en")
    pdf.set_margin(_MARGIN_MM)
    pdf.set_auto_page_break(False)
    for style, name in _STYLES.items():
        pdf.add_font("label", style, fontpkg_fira_sans.ROOT / "files" / f"FiraSans-{name}.ttf")
    pdf.add_page()
    return pdf


def _font(pdf: FPDF, style: str) -> TTFFont:
    font = pdf.fonts[f"label{style}"]
    assert isinstance(font, TTFFont), "the fonts of a label are its own"
    return font


def _printable(pdf: FPDF, box: _Box, text: str) -> str:
    """The text in the form that the font has (composed letters), or `LabelText` that names what it has not."""
    font = _font(pdf, box.style)
    composed = unicodedata.normalize("NFC", text)
    for place, letter in enumerate(composed, 1):
        if letter == "\n" and box.field in ("directions", "pharmacy_address"):
            continue
        if ord(letter) not in font.cmap or unicodedata.category(letter) in _UNPRINTABLE:
            raise LabelText(
                box.field,
                f"has a character that a label cannot print: U+{ord(letter):04X}, number {place}; write it otherwise",
            )
    return composed


def _lines(pdf: FPDF, text: str, width: float) -> list[str]:
    """The lines of a text in the type that is set; a word wider than ``width`` stays whole.

    No line ends between a number and what it counts: a dose is never torn from its unit.
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in re.split(r"(?<![0-9]) ", " ".join(paragraph.split())):
            longer = f"{line} {word}" if line else word
            if line and pdf.get_string_width(longer) > width:
                lines.append(line)
                line = word
            else:
                line = longer
        lines.append(line)
    return lines


def _set(pdf: FPDF, box: _Box, text: str, size: float) -> tuple[list[str], float]:
    """The lines of a text in a size of type, and by how many millimetres they are too wide or too high."""
    pdf.set_font("label", box.style, size)
    lines = _lines(pdf, text, box.width)
    wide = max(pdf.get_string_width(line) for line in lines) - box.width
    return lines, max(wide, size * _MM_PER_PT * _LINE * len(lines) - box.height)


def _place(pdf: FPDF, box: _Box, text: str) -> None:
    """Prints a text in its box, in the largest type in which all of it fits."""
    size = box.least
    lines, over_mm = _set(pdf, box, text, size)
    if over_mm > 0:
        raise LabelOverflow(box.field, over_mm, size)
    while size < box.size:
        larger, over_mm = _set(pdf, box, text, size + _STEP_PT)
        if over_mm > 0:
            break
        lines, size = larger, size + _STEP_PT
    pdf.set_font("label", box.style, size)
    for row, line in enumerate(lines):
        pdf.text(box.x, box.y + size * _MM_PER_PT * (_LINE * row + _ASCENT), line)


def _mark_tentative(pdf: FPDF) -> None:
    """White on black, where nothing else is printed."""
    pdf.set_fill_color(0)
    pdf.rect(65, 3, 34, 9, style="F")
    pdf.set_text_color(255)
    _place(pdf, _Box("tentative", 67, 3.6, 30, 5.1, 12, style="B"), "TENTATIVE")
    _place(pdf, _Box("tentative", 67, 8.5, 30, 3.2, 7), "not yet accepted")


def _draw_matrix(pdf: FPDF, content: LabelContent) -> None:
    """The GS1 DataMatrix in the bottom right corner, as filled rectangles: sharp at any resolution."""
    # Brackets, since the writer leaves out the leading FNC1, which makes it a GS1 code, when it is given bytes.
    elements = f"[01]{content.gtin}[17]{content.expiry:%y%m%d}[10]{content.lot}"
    symbol = zxingcpp.create_barcode(elements, zxingcpp.BarcodeFormat.DataMatrix, gs1=True, force_square=True)
    # The image offers its pixels through the buffer protocol, of which its stub says nothing.
    cells = memoryview(cast("bytes", symbol.to_image(scale=1, add_quiet_zones=False)))
    side = len(cells)
    assert side * _MODULE_MM <= _MATRIX_MM, "a GTIN, a date and 20 characters take at most 26 modules"
    left, top = (edge - _MARGIN_MM - side * _MODULE_MM for edge in PAGE_MM)
    pdf.set_fill_color(0)
    for row in range(side):
        dark = "".join("1" if cells[row, column] == 0 else "0" for column in range(side))
        for run in re.finditer("1+", dark):
            width = (run.end() - run.start()) * _MODULE_MM
            pdf.rect(left + run.start() * _MODULE_MM, top + row * _MODULE_MM, width, _MODULE_MM, style="F")
