"""What a data set's files hold by reason, counted a second time by other means than the readers'.

The readers (`eicu`, `smart`) work with tables, grammars and models; this module counts with string operations on the
raw fields and shares no code with them, so that the balance compares two accounts and not one with itself.
"""

import csv
from collections import Counter
from pathlib import Path

Row = dict[str, str]


def _rows(path: Path, delimiter: str) -> list[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [
            {name: (text or "").strip() for name, text in row.items()}
            for row in csv.DictReader(file, delimiter=delimiter)
        ]


def _number(text: str) -> bool:
    """Digits with at most one point inside; commas only between thousands."""
    whole, point, rest = text.partition(".")
    groups = whole.split(",")
    plain = all(part.isascii() and part.isdigit() for part in groups)
    thousands = len(groups) == 1 or (1 <= len(groups[0]) <= 3 and all(len(part) == 3 for part in groups[1:]))
    return plain and thousands and (not point or (rest.isascii() and rest.isdigit()))


def _span(text: str) -> list[float] | None:
    parts = text.split("-")
    if len(parts) > 2 or not all(map(_number, parts)):
        return None
    return [float(part.replace(",", "")) for part in parts]


_UNIT_WORDS = """
mg mcg g gm gram ml meq mmol unit units unit(s) tab tab(s) tablet cap puff puff(s) spray drop patch packet enema dose
"""
_UNITS = set(_UNIT_WORDS.split())


def _dosage(text: str) -> str:
    if not text:
        return "blank"
    if "/" in text:
        return "a_rate"
    words = text.split(" ")
    span = _span(words[0]) if len(words) <= 2 else None
    if span is None:
        return "not_a_dose"
    if len(words) == 1 or words[1].isdigit():
        return "no_unit"
    if words[1].lower() not in _UNITS:
        return "not_a_dose"
    if span[0] == 0:
        return "zero"
    return "read" if len(span) == 1 or span[1] > span[0] else "not_a_dose"


_ROUTE_WORDS = """
po oral iv ivpb ivp intravenous intraven iv_push intravenous_continuous periph_iv central_iv iv_flush subq sc subcut
subcutan sub-q subcutaneous sq sub_q im intramusc inhalation inh inhale inhl ih nebulization neb nebulizer svn inh/neb
nebu pr rect rectal td transderm transdermal sl sublingual top topical apply_externally ngt per_ng_tube ng-tube ng
ngtube ng_tube og-tube peg g_tube gtub per_g_tube nasal nas each_nare nare_both both_nares ophthalmic both_eyes
eye_right eyes_(both) eye_both oral_mucosa mouth/throat mouth_rinse oral_swab swish swish/spit arterial intraarterial
epidural
"""
_KNOWN_ROUTES = {word.replace("_", " ") for word in _ROUTE_WORDS.split()}

_PLAIN = {
    "daily", "1xdaily", "qday", "bid", "2xdaily", "2 times daily", "2 times per day", "tid", "3xdaily", "3 times daily",
    "qid", "4x daily", "once", "once x1", "1xonly", "1xonly x1", "onetime", "one", "x1", "1x", "one time one time",
}  # fmt: skip


def _is_rate(text: str) -> bool:
    for tail in (" sch", " (int)", " (interval)", " (bid)", " (daily)", " scheduled"):
        if text.endswith(tail):
            text = text[: -len(tail)]
            break
    if text in _PLAIN:
        return True
    clocks = text.split(",")
    if all(len(at) == 4 and at.isdigit() and at[:2] < "24" and at[2:] < "60" for at in clocks):
        return clocks == sorted(set(clocks))
    for head in ("every ", "q "):
        if text.startswith(head):
            text = text[len(head) :]
            break
    else:
        if not text.startswith("q"):
            return False
        text = text[1:]
    digits = text[: len(text) - len(text.lstrip("0123456789"))]
    unit = text[len(digits) :].removeprefix(" ")
    return 1 <= len(digits) <= 2 and digits[0] != "0" and unit in ("h", "hr", "hrs", "hour", "hours", "min", "minutes")


def _frequency(text: str, prn: str) -> str:
    text = text.lower()
    says_prn = text.endswith("prn")
    if not text and prn != "Yes":
        return "blank"
    if says_prn and prn != "Yes":
        return "contradicts_prn"
    rest = text.removesuffix("prn").removesuffix(" ") if says_prn else text
    if prn == "Yes" and rest in ("", "as needed"):
        return "read"
    return "read" if _is_rate(rest) else "not_a_timing"


def _stop(row: Row) -> str:
    start, stop = row["drugstartoffset"], row["drugstopoffset"]
    if not all(text.lstrip("-").isdigit() and text.count("-") <= 1 for text in (start, stop)):
        return "not_a_number"
    if int(stop) >= int(start):
        return "read"
    return "stop_zero" if int(stop) == 0 else "stop_before_start"


def expected_eicu(folder: Path) -> tuple[Counter[str], Counter[str], int]:
    """Of ``medication.csv``: rows set aside and fields left blank, by ``field: reason``, and rows that lack nothing."""
    aside, blanks, whole = Counter[str](), Counter[str](), 0
    stays = {row["patientunitstayid"] for row in _rows(folder / "patient.csv", ",")}
    for row in _rows(folder / "medication.csv", ","):
        if row["drugordercancelled"] != "No":
            aside["drugordercancelled: cancelled"] += 1
        elif not row["drugname"]:
            aside["drugname: no_drug_name"] += 1
        elif row["patientunitstayid"] not in stays:
            aside["patientunitstayid: unknown_patient"] += 1
        else:
            known = "read" if row["routeadmin"].lower() in _KNOWN_ROUTES else "not_a_route"
            told = {
                "dosage": _dosage(row["dosage"]),
                "routeadmin": known if row["routeadmin"] else "blank",
                "frequency": _frequency(row["frequency"], row["prn"]),
            }
            whole += all(outcome == "read" for outcome in told.values())
            told["drugstopoffset"] = _stop(row)
            blanks.update(f"{field}: {outcome}" for field, outcome in told.items() if outcome != "read")
    return aside, blanks, whole


def _is_day(text: str) -> bool:
    parts = text.split("-")
    return (
        [len(part) for part in parts] == [4, 2, 2]
        and all(part.isdigit() for part in parts)
        and 1 <= int(parts[1]) <= 12
        and 1 <= int(parts[2]) <= 31
    )


def expected_smart(folder: Path) -> tuple[Counter[str], Counter[str], int]:
    """Of ``meds.txt``, ``refills.txt`` and the patients' files: rows set aside by ``field: reason``.

    The second count is of the blanks of the dose and the quantity, which fields alone tell; the third of refills that
    can be played.
    """
    aside, blanks, playable = Counter[str](), Counter[str](), 0
    people = {row["PID"] for row in _rows(folder / "patients.txt", "\t")}
    for row in _rows(folder / "allergies.txt", "\t"):
        none = row["STATEMENT"] == "negative" and row["ALLERGEN"].lower() == "no known allergies"
        if not none and not (row["STATEMENT"] == "positive" and row["CODE"] and row["ALLERGEN"]):
            aside["STATEMENT: not_an_allergy"] += 1
    drugs = set()
    for row in _rows(folder / "meds.txt", "\t"):
        if row["PID"] not in people:
            aside["PID: unknown_patient"] += 1
        elif not row["RxNorm"].isdigit():
            aside["RxNorm: no_code"] += 1
        elif not _is_day(row["START_DATE"]):
            aside["START_DATE: not_a_date"] += 1
        else:
            drugs.add((row["PID"], row["RxNorm"]))
            blanks["Q_TO_TAKE_VALUE: blank"] += not (row["Q_TO_TAKE_VALUE"] and row["Q_TO_TAKE_UNIT"])
            blanks["Q: blank"] += not (row["Q"] and row["REFILLS"])
    for row in _rows(folder / "refills.txt", "\t"):
        if not _is_day(row["DATE"]):
            aside["DATE: not_a_date"] += 1
        elif not row["Q"].isdigit() or int(row["Q"]) == 0:
            aside["Q: no_quantity"] += 1
        elif (row["PID"], row["RXN"]) not in drugs:
            aside["RXN: no_prescription"] += 1
        else:
            playable += 1
    return aside, blanks, playable
