"""Scanned GS1 codes of medicine packs, and the element string that a label carries (GS1 General
Specifications).

A medicine's code holds *element strings*: an application identifier (AI) and its data. Of these (01) GTIN,
(10) lot, (17) expiry and (21) serial are read; any other AI of the standard is checked for its form and left
aside. Reading is strict: what is not exactly right is an error that says where, since a lot or an expiry read
wrongly is worse than none.

An AI of variable length ends at the separator FNC1, which scanners send as the character GS (29). A scanner
that drops it cannot be told from a longer lot, so set it up to send GS. The table of AIs is that of `biip`; it is
long, and loaded with the first code.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from crdtmed.limits import MAX_LONG_TEXT_CHARS, MAX_LOT_CHARS

if TYPE_CHECKING:
    from biip.gs1_application_identifiers import GS1ApplicationIdentifier

FNC1: Final = "\x1d"
"""How scanners send the separator of element strings."""

SYMBOLOGIES: Final = ("]d2", "]C1", "]Q3", "]e0", "]J1")
"""Prefixes of GS1 codes (ISO/IEC 15424): DataMatrix, GS1-128, QR, DataBar, DotCode."""

Reason = Literal[
    "empty",
    "too_long",
    "not_gs1",
    "bad_character",
    "unknown_identifier",
    "bad_form",
    "duplicate",
    "gtin_missing",
    "bad_gtin",
    "bad_date",
]

_GTIN, _LOT, _EXPIRY, _SERIAL = "01", "10", "17", "21"
# The AI encodable character set 82 of the General Specifications.
_NOT_SET_82 = re.compile(r"""[^!"%&'()*+,\-./0-9:;<=>?A-Z_a-z]""")
_BLANKS = " \t\r\n"
_HUMAN_READABLE = re.compile(r"\(([0-9]{2,4})\)")


@dataclass(frozen=True)
class Gs1Scan:
    """What a medicine's code says: a GTIN of 14 digits; lot, expiry (last day of use), serial if it has them."""

    gtin: str
    lot: str | None
    expiry: date | None
    serial: str | None


class Gs1Error(ValueError):
    """A code that cannot be used: its ``reason``, the place ``at`` in the text from 0 on, a message for people."""

    def __init__(self, reason: Reason, at: int, says: str) -> None:
        super().__init__(says)
        self.reason: Final[Reason] = reason
        self.at: Final = at


class _Element(NamedTuple):
    ai: str
    data: str
    at: int  # where the data starts


def parse_scan(text: str, *, today: date) -> Gs1Scan:
    """What a scanned text says; raises `Gs1Error`, and nothing else, for any text that is not a medicine's
    GS1 code.

    ``text`` is what the scanner sent: element strings with FNC1 as GS between them, after a symbology prefix
    or not; or the human readable form ``(01)…(17)…(10)…``, in which blanks between elements do not count. A
    line end after it is the scanner's, not the code's. Years have two digits; ``today`` gives the century: 49
    years back to 50 ahead. A day 00 is the last of the month. An AI given twice is an error.
    """
    if len(text) > MAX_LONG_TEXT_CHARS:
        raise Gs1Error(
            "too_long",
            MAX_LONG_TEXT_CHARS,
            f"The code has more than {MAX_LONG_TEXT_CHARS} characters; scan one code",
        )
    text = text.rstrip("\r\n")
    if not text.strip(FNC1 + _BLANKS):
        raise Gs1Error("empty", 0, "The code is empty; scan it again")
    start = 0
    if text.startswith("]"):
        if not text.startswith(SYMBOLOGIES):
            raise Gs1Error("not_gs1", 0, f"{text[:3]!a} marks a barcode that is not of GS1; scan the pack's GS1 code")
        start = 3
    found: dict[str, _Element] = {}
    for element in _human_readable(text) if text.lstrip(_BLANKS).startswith("(") else _elements(text, start):
        if element.ai in found:
            raise Gs1Error(
                "duplicate",
                element.at,
                f"({element.ai}) is there twice, at character {element.at + 1}; scan one code",
            )
        found[element.ai] = element
    if _GTIN not in found:
        raise Gs1Error(
            "gtin_missing",
            len(text),
            "The code has no GTIN (01); scan the code that has lot and expiry in it",
        )
    return _scan(found, today)


def _scan(found: Mapping[str, _Element], today: date) -> Gs1Scan:
    lot, expiry, serial = found.get(_LOT), found.get(_EXPIRY), found.get(_SERIAL)
    return Gs1Scan(
        gtin=_checked_gtin(found[_GTIN].data, found[_GTIN].at),
        lot=lot and lot.data,
        expiry=expiry and _expiry(expiry, today),
        serial=serial and serial.data,
    )


def _elements(text: str, start: int) -> Iterator[_Element]:
    """The elements of an element string; one FNC1 at the start, which some scanners send, is passed over."""
    at = start + text.startswith(FNC1, start)
    while at < len(text):
        until = text.find(FNC1, at)
        field = text[at : until if until >= 0 else len(text)]
        _check_characters(field, at)
        identifier = _identifier(field, at)
        # After an AI of predefined length the next may follow at once; any other goes on to FNC1 or the end.
        data = _data(identifier, field[len(identifier.ai) :], at, whole=identifier.separator_required)
        yield _Element(identifier.ai, data, at + len(identifier.ai))
        at += len(identifier.ai) + len(data)
        at += text.startswith(FNC1, at)


def _human_readable(text: str) -> Iterator[_Element]:
    """The elements of ``(01)…(17)…``; digits in parentheses always start one, so a lot cannot hold them."""
    marks = list(_HUMAN_READABLE.finditer(text))
    if not marks or text[: marks[0].start()].strip(_BLANKS):
        says = "The text does not start with an identifier such as (01); write (01)…(17)…(10)…"
        raise Gs1Error("bad_form", 0, says)
    for mark, after in zip(marks, [m.start() for m in marks[1:]] + [len(text)], strict=True):
        identifier = _identifier(mark[1], mark.start(1))
        if identifier.ai != mark[1]:
            says = f"({mark[1]}) is no GS1 identifier; correct it"
            raise Gs1Error("unknown_identifier", mark.start(1), says)
        data = text[mark.end() : after]
        begin = mark.end() + len(data) - len(data.lstrip(_BLANKS))
        data = data.strip(_BLANKS)
        _check_characters(data, begin)
        yield _Element(mark[1], _data(identifier, data, mark.start(1), whole=True), begin)


def _check_characters(field: str, at: int) -> None:
    bad = _NOT_SET_82.search(field)
    if bad:
        place = at + bad.start()
        raise Gs1Error(
            "bad_character",
            place,
            f"Character {place + 1} of the code, U+{ord(bad[0]):04X}, cannot be in a GS1 code; scan again, "
            "and check that scanner and computer are set to the same keyboard layout",
        )


def _identifier(field: str, at: int) -> "GS1ApplicationIdentifier":
    from biip import ParseError
    from biip.gs1_application_identifiers import GS1ApplicationIdentifier

    try:
        return GS1ApplicationIdentifier.extract(field)
    except ParseError:
        says = f"{field[:4]!a} at character {at + 1} starts no GS1 identifier; scan the pack's GS1 code"
        raise Gs1Error("unknown_identifier", at, says) from None


def _data(identifier: "GS1ApplicationIdentifier", data: str, at: int, whole: bool) -> str:
    """The data that ``data`` is, or without ``whole`` begins with, as the identifier's form has it."""
    pattern = identifier.pattern if whole else identifier.pattern.removesuffix("$")
    match = re.match(pattern, identifier.ai + data)
    if match is None:
        raise Gs1Error(
            "bad_form",
            at,
            f"({identifier.ai}) {identifier.data_title} at character {at + 1} does not have the form "
            f"{identifier.format}; scan again, and check that the scanner sends FNC1 as GS (character 29)",
        )
    return match[0][len(identifier.ai) :]


def _expiry(element: _Element, today: date) -> date:
    digits = element.data
    year, month, day = int(digits[:2]), int(digits[2:4]), int(digits[4:])
    ahead = year - today.year % 100
    year += today.year - today.year % 100 + (-100 if ahead >= 51 else 100 if ahead <= -50 else 0)
    try:
        known = date(year, month, day or 1)
        return known if day else (known + timedelta(31)).replace(day=1) - timedelta(1)
    except (ValueError, OverflowError):
        says = f"Expiry (17) {digits} at character {element.at + 1} is no date; it is written YYMMDD"
        raise Gs1Error("bad_date", element.at, says) from None


def _checked_gtin(gtin: str, at: int) -> str:
    from biip.checksums import gs1_standard_check_digit

    if len(gtin) != 14 or not (gtin.isascii() and gtin.isdigit()) or not gtin.strip("0"):
        raise Gs1Error("bad_gtin", at, f"GTIN (01) {gtin[:20]!a} is not 14 digits, or only zeros; correct it")
    digit = gs1_standard_check_digit(gtin[:-1])
    if digit != int(gtin[-1]):
        raise Gs1Error(
            "bad_gtin",
            at + 13,
            f"GTIN (01) {gtin} ends in {gtin[-1]} where its check digit is {digit}; scan or type it again",
        )
    return gtin


def gtin14(gtin: str) -> str:
    """The 14-digit form of a GTIN-8, -12, -13 or -14; raises `Gs1Error` for what is none of these."""
    if len(gtin) not in (8, 12, 13, 14):
        raise Gs1Error(
            "bad_gtin",
            0,
            f"GTIN {gtin[:20]!a} has {len(gtin)} characters, not 8, 12, 13 or 14 digits; correct it",
        )
    return _checked_gtin(gtin.zfill(14), 0)


def element_string(gtin: str, expiry: date, lot: str, serial: str | None = None) -> str:
    """The element string (01)(17)(10) and, where there is a serial, FNC1 (21): what `parse_scan` reads back.

    ``gtin`` has 14 digits; lot and serial have 1 to 20 characters of set 82 (letters, digits and most signs
    of ASCII, no space). Raises `Gs1Error` that names what is not so; its ``at`` is the place in that value.
    The symbology prefix and the leading FNC1 are the barcode's.
    """
    parts = [_GTIN, _checked_gtin(gtin, 0), _EXPIRY, f"{expiry:%y%m%d}", _LOT, _text(lot, "lot (10)")]
    if serial is not None:
        parts += [FNC1, _SERIAL, _text(serial, "serial (21)")]
    return "".join(parts)


def _text(value: str, name: str) -> str:
    if not 1 <= len(value) <= MAX_LOT_CHARS:
        raise Gs1Error(
            "bad_form",
            0,
            f"The {name} has {len(value)} characters, where GS1 has 1 to {MAX_LOT_CHARS}; correct it",
        )
    bad = _NOT_SET_82.search(value)
    if bad:
        says = f"Character {bad.start() + 1} of the {name}, U+{ord(bad[0]):04X}, cannot be in GS1; correct it"
        raise Gs1Error("bad_character", bad.start(), says)
    return value
