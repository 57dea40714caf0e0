"""Content bytes and models are inverse; nothing else is read; errors name the field and say what to do."""

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crdtmed.aggregates.alert_override_record import Override, OverrideReason
from crdtmed.aggregates.conflict import Action, BreakGlass, Resolve
from crdtmed.aggregates.content import (
    CONTENT,
    Content,
    ContentError,
    decode_content,
    encode_content,
    kind_of,
    nature_of,
    problems,
    references,
)
from crdtmed.aggregates.dispensing_event import Dispense
from crdtmed.aggregates.elements import Quantity, Range, decimal, time_ms
from crdtmed.aggregates.medication_administration import Administer, Correct, OfPrescription, OfVerbal
from crdtmed.aggregates.prescription import Amend, Hold, Stop
from crdtmed.aggregates.prescription_draft import (
    Dose,
    DraftWrite,
    Duration,
    Group,
    Indication,
    Instructions,
    MaxPerPeriod,
    Medication,
    Route,
    Substitution,
    Supply,
    Timing,
    incomplete,
)
from crdtmed.aggregates.reconciliation_session import Complete, Decision, HomeMedication, Open, Record
from crdtmed.aggregates.stock_item import Adjust, AdjustReason, Receipt
from crdtmed.codec import encode
from crdtmed.contract import KINDS, Kind, Nature
from tests.aggregates.contents import contents, dispenses, signed

REF = "aaaaaaab.aaaaaaaaaaaaaaab"
GIVEN = Administer(OfPrescription("rx-1"), "given", 1_770_000_000_000, "ward-3")
MG = Quantity("5", "mg")


def decoded(kind: Kind, data: bytes) -> Content | ContentError:
    try:
        return decode_content(kind, data)
    except ContentError as error:
        return error


@given(contents())
def test_what_is_encoded_is_decoded(of: tuple[Kind, Content]) -> None:
    kind, content = of
    data = encode_content(content)
    again = decode_content(kind, data)
    assert again == content
    assert type(again) is CONTENT[kind]
    assert encode_content(again) == data
    assert kind_of(content) is kind
    assert problems(content) == ()


@given(contents(), st.sampled_from(Kind))
def test_the_content_of_another_kind_is_never_accepted_silently(of: tuple[Kind, Content], other: Kind) -> None:
    kind, content = of
    data = encode(content)
    read = decoded(other, data)
    if isinstance(read, ContentError):
        assert kind is not other
        assert read.says
    else:
        assert encode(read) == data


@given(st.sampled_from(Kind), st.binary(max_size=60))
@example(Kind.DISPENSE, b"\xdf\xff\xff\xff\xff")
@example(Kind.DRAFT_WRITE, b"\x91" * 50)
@example(Kind.SIGN, b"\x82\xacprescription\xa1\xff\xa6digest\xc4\x00")
@example(Kind.BREAK_GLASS, b"")
def test_no_bytes_raise_anything_else(kind: Kind, data: bytes) -> None:
    with pytest.raises(ContentError):
        decode_content(kind, data)


@given(contents(), st.data())
def test_changed_bytes_are_refused_or_are_the_one_encoding_of_something_else(
    of: tuple[Kind, Content], data: st.DataObject
) -> None:
    kind, content = of
    raw = bytearray(encode_content(content))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] = data.draw(st.integers(0, 255))
    read = decoded(kind, bytes(raw))
    if isinstance(read, ContentError):
        assert read.problems
        assert read.says
    else:
        assert encode_content(read) == bytes(raw)


@given(contents(), st.sampled_from(["swapped", "padded", "doubled", "unknown", "trailing"]))
def test_another_spelling_of_the_same_content_is_refused(of: tuple[Kind, Content], how: str) -> None:
    kind, content = of
    plain = msgspec.msgpack.decode(encode_content(content))
    fields = list(plain.items())
    match how:
        case "swapped":
            data = encode(dict(reversed(fields))) if len(fields) > 1 else b"\xde\x00\x01" + encode(plain)[1:]
        case "padded":
            data = b"\xde" + len(fields).to_bytes(2, "big") + encode(plain)[1:]
        case "doubled":
            first = encode(dict(fields[:1]))[1:]
            data = bytes([0x80 + len(fields) + 1]) + first + encode(plain)[1:] if len(fields) < 15 else b"\xc0"
        case "unknown":
            data = encode({**plain, "colour": "red"})
        case _:
            data = encode(plain) + b"\xc0"
    with pytest.raises(ContentError):
        decode_content(kind, data)


def write(group: Group, value: object) -> DraftWrite:
    return DraftWrite("rx-1", group, value)  # type: ignore[arg-type]  # some tests hand in the wrong type


WRONG: list[tuple[Content, str, str]] = [
    (write(Group.DOSE, Dose(Quantity("5 3", "mg"))), "dose.quantity.value", "'5 3': not a decimal number"),
    (write(Group.DOSE, Dose(Quantity("5.0", "mg"))), "dose.quantity.value", "none at the end"),
    (write(Group.DOSE, Dose(Quantity(".5", "mg"))), "dose.quantity.value", "a zero before the point"),
    (write(Group.DOSE, Dose(Quantity("-1", "mg"))), "dose.quantity.value", "no space, sign"),
    (write(Group.DOSE, Dose(Quantity("1e3", "mg"))), "dose.quantity.value", "exponent"),
    (write(Group.DOSE, Dose(Quantity("0", "mg"))), "dose.quantity.value", "is 0"),
    (write(Group.DOSE, Dose(Quantity("٣", "mg"))), "dose.quantity.value", "not a decimal"),
    (write(Group.DOSE, Dose(Quantity("1\n", "mg"))), "dose.quantity.value", "not a decimal"),
    (write(Group.DOSE, Dose(Quantity("1" * 19, "mg"))), "dose.quantity.value", "length <= 18"),
    (write(Group.DOSE, Dose(Quantity("5", "m g"))), "dose.quantity.unit", "regex"),
    (write(Group.DOSE, Dose(Quantity(5.0, "mg"))), "dose.quantity.value", "`float`"),  # type: ignore[arg-type]  # wrong on purpose
    (write(Group.DOSE, Dose()), "dose", "exactly one"),
    (write(Group.DOSE, Dose(MG, Range(MG, Quantity("6", "mg")))), "dose", "exactly one"),
    (write(Group.DOSE, Dose(range=Range(MG, MG))), "dose.range.high.value", "not above low"),
    (write(Group.DOSE, Dose(range=Range(Quantity("10", "mg"), Quantity("9", "mg")))), "dose.range.high.value", "above"),
    (write(Group.DOSE, Dose(range=Range(MG, Quantity("6", "g")))), "dose.range.high.unit", "one unit"),
    (write(Group.DOSE, Dose(range=Range(Quantity("x", "mg"), MG))), "dose.range.low.value", "not a decimal"),
    (write(Group.DOSE, Route("po", "oral")), "value", "belongs to group route"),
    (write(Group.MEDICATION, Medication("a b", "A")), "medication.code", "regex"),
    (write(Group.MEDICATION, Medication("a/b", "A")), "medication.code", "regex"),
    (write(Group.MEDICATION, Medication("a", " ")), "medication.display", "blank"),
    (write(Group.MEDICATION, Medication("a", "A\x07")), "medication.display", "control"),
    (write(Group.MEDICATION, Medication("a", "A", strength="\t")), "medication.strength", "blank"),
    (write(Group.ROUTE, Route("po", "\x7f")), "route.display", "control"),
    (write(Group.TIMING, Timing()), "timing", "neither how often"),
    (write(Group.TIMING, Timing(frequency=2)), "timing", "together"),
    (write(Group.TIMING, Timing(2, "1.0", "d")), "timing.period", "not a decimal"),
    (write(Group.TIMING, Timing(2, "0", "d")), "timing.period", "is 0"),
    (write(Group.TIMING, Timing(61, "1", "h")), "timing.frequency", "once a minute"),
    (write(Group.TIMING, Timing(0, "1", "d")), "timing.frequency", ">= 1"),
    (write(Group.TIMING, Timing(1, "1", "day")), "timing.period_unit", "day"),  # type: ignore[arg-type]  # wrong on purpose
    (write(Group.TIMING, Timing(2, "1", "d", times=("08:00",))), "timing.times", "make them agree"),
    (write(Group.TIMING, Timing(2, "1", "d", times=("20:00", "08:00"))), "timing.times", "in order"),
    (write(Group.TIMING, Timing(2, "1", "d", times=("08:00", "08:00"))), "timing.times", "each time once"),
    (write(Group.TIMING, Timing(2, "1", "d", times=("08:00", "24:00"))), "timing.times.1", "HH:MM"),
    (write(Group.TIMING, Timing(2, "1", "d", times=("8:00", "9:00"))), "timing.times.0", "HH:MM"),
    (write(Group.TIMING, Timing(1, "12", "h", times=("08:00",))), "timing.times", "whole days"),
    (write(Group.TIMING, Timing(1, "1.5", "d", times=("08:00",))), "timing.times", "whole days"),
    (write(Group.TIMING, Timing(2, "1", "d", as_needed_reason="pain")), "timing.as_needed_reason", "as_needed is not"),
    (write(Group.TIMING, Timing(as_needed=True, max_dose=Quantity("0", "mg"))), "timing.max_dose.value", "is 0"),
    (write(Group.TIMING, Timing(as_needed=True, min_interval=MG)), "timing.min_interval.unit", "unit of time"),
    (
        write(Group.TIMING, Timing(as_needed=True, max_per_period=MaxPerPeriod(Quantity("1", "d")))),
        "timing.max_per_period",
        "number of doses",
    ),
    (
        write(Group.TIMING, Timing(as_needed=True, max_per_period=MaxPerPeriod(MG, 4))),
        "timing.max_per_period.period.unit",
        "unit of time",
    ),
    (write(Group.DURATION, Duration("07", "d")), "duration.value", "not a decimal"),
    (write(Group.SUPPLY, Supply(0, "{tablet}")), "supply.quantity", ">= 1"),
    (write(Group.SUPPLY, Supply(10_000_000, "mL", 1)), "supply.quantity", "more than"),
    (write(Group.SUPPLY, Supply(1, "mL", site="Ward 3")), "supply.site", "regex"),
    (write(Group.INSTRUCTIONS, Instructions("")), "instructions.text", "length >= 1"),
    (write(Group.INSTRUCTIONS, Instructions("\n \n")), "instructions.text", "blank"),
    (write(Group.INDICATION, Indication(" ")), "indication.text", "blank"),
    (write(Group.SUBSTITUTION, Substitution(False, "\x00")), "substitution.reason", "control"),
    (DraftWrite("rx/1", Group.DOSE), "prescription", "regex"),
    (DraftWrite("rx-1\n", Group.DOSE), "prescription", "regex"),
    (Stop("rx-1", "  "), "reason", "blank"),
    (Hold("rx-1", "nil by mouth", -1), "until_ms", ">= 0"),
    (Amend("rx-1", bytes(32), "rx-1", "dose"), "prior", "draft of its own"),
    (Amend("rx-1", bytes(31), "rx-0", "dose"), "digest", "length >= 32"),
    (Dispense("rx-1", "p-1", "a", "L1", 0, "mL", True, 0), "quantity", ">= 1"),
    (Dispense("rx-1", "p-1", "a", "L1", 10_000_001, "mL", True, 0), "quantity", "<= 10000000"),
    (Dispense("rx-1", "p-1", "a", "L" * 21, 1, "mL", True, 0), "lot", "regex"),
    (Dispense("rx-1", "p-1", "a", "L1", 1, "mL", True, 0, reenters="x"), "reenters", "regex"),
    (Receipt("S", "N1", "a", "L1", "2027-02-30", 1, "mL", 0), "expiry", "not a date"),
    (Receipt("S", "N1", "a", "L1", "20270228", 1, "mL", 0), "expiry", "YYYY-MM-DD"),
    (Receipt("S", "N1", "a", "L1", "2027-02-28", 1, "mL", 0, gtin="1"), "gtin", "regex"),
    (Receipt(" ", "N1", "a", "L1", "2027-02-28", 1, "mL", 0), "supplier", "blank"),
    (Receipt("S", " ", "a", "L1", "2027-02-28", 1, "mL", 0), "delivery_note", "blank"),
    (Adjust("a", "L1", 0, AdjustReason.COUNT, 1), "delta", "nothing would change"),
    (Adjust("a", "L1", -1, AdjustReason.WRONG_RECEIPT, 1), "corrects", "agree"),
    (Adjust("a", "L1", -1, AdjustReason.COUNT, 1, REF), "corrects", "agree"),
    (Adjust("a", "L1", -1, AdjustReason.CLOSES_SHORTAGE, 1), "closes_shortage", "how many"),
    (Adjust("a", "L1", 1, AdjustReason.COUNT, 1, comment=" "), "comment", "blank"),
    (Administer(OfPrescription("rx-1"), "not-given", 0, "w"), "status_reason", "say why"),
    (Administer(OfPrescription("rx-1"), "given", 0, "w", "asleep"), "status_reason", "use note"),
    (Administer(OfPrescription("rx-1"), "not-given", 0, "w", "asleep", MG), "dose", "not given"),
    (Administer(OfPrescription("rx-1"), "given", 0, "w", dose=Quantity("5,0", "mg")), "dose.value", "not a decimal"),
    (Administer(OfVerbal(" ", "urgent", "A"), "given", 0, "w"), "subject.prescriber", "blank"),
    (Administer(OfVerbal("Dr B", " ", "A"), "given", 0, "w"), "subject.reason", "blank"),
    (Administer(OfVerbal("Dr B", "urgent", " "), "given", 0, "w"), "subject.display", "blank"),
    (Administer(OfPrescription("rx-1"), "given", 0, "w", route=Route("po", " ")), "route.display", "blank"),
    (Administer(OfPrescription("rx-1"), "given", 0, "w", note=" "), "note", "blank"),
    (Administer(OfPrescription("rx-1"), "given", 2**47, "w"), "occurred_at", "<="),
    (Correct(REF, "amended", "wrong dose"), "administration", "agree"),
    (Correct(REF, "entered-in-error", "wrong patient", GIVEN), "administration", "agree"),
    (Correct(REF, "entered-in-error", " "), "reason", "blank"),
    (
        Correct(REF, "amended", "late", Administer(OfPrescription("rx-1"), "not-given", 0, "w")),
        "administration.status_reason",
        "say why",
    ),
    (
        Correct(REF, "amended", "late", Administer(OfPrescription("rx-1"), "given", 0, "w", reenters=REF)),
        "administration.reenters",
        "move it",
    ),
    (Override("rx-1", bytes(32), "a1", OverrideReason.OTHER, "s1"), "comment", "say why"),
    (Override("rx-1", bytes(32), "a1", OverrideReason.DOSE_ADJUSTED, "s1", " "), "comment", "blank"),
    (Open("s-1", ("s-1",)), "restarts", "new id"),
    (Open("s-1", ("s-3", "s-2")), "restarts", "in order"),
    (Open("s-1", (), (HomeMedication("a", " "),)), "home_medications.0.display", "blank"),
    (
        Open("s-1", (), (HomeMedication("a", "A"), HomeMedication("a", "B"))),
        "home_medications.1.key",
        "keys must differ",
    ),
    (Open("s-1", (), (HomeMedication("a b", "A"),)), "home_medications.0.key", "regex"),
    (Record("s-1", "a", Decision.STOP, " "), "note", "blank"),
    (Record("s-1", "a", "maybe"), "decision", "maybe"),  # type: ignore[arg-type]  # wrong on purpose
    (Resolve(bytes(65), Action.SWITCH_LOT), "lot", "name the lot"),
    (Resolve(bytes(65), Action.DISPENSE_PART), "quantity", "how much"),
    (Resolve(bytes(65), Action.CANCEL, "L1"), "lot", "no meaning"),
    (Resolve(bytes(65), Action.CANCEL, None, 1), "quantity", "no meaning"),
    (Resolve(bytes(65), Action.CANCEL, comment=" "), "comment", "blank"),
    (Resolve(bytes(64), Action.CANCEL), "statement", "length >= 65"),
    (BreakGlass(" ", 0), "reason", "blank"),
]


@pytest.mark.parametrize(
    ("content", "field", "says"), WRONG, ids=[f"{type(it[0]).__name__}-{it[1]}-{n}" for n, it in enumerate(WRONG)]
)
def test_a_problem_names_the_field_and_says_what_is_wrong(content: Content, field: str, says: str) -> None:
    found = problems(content)
    assert [problem.field for problem in found].count(field) == 1
    assert says in next(problem.says for problem in found if problem.field == field)
    with pytest.raises(ContentError) as caught:
        encode_content(content)
    assert caught.value.problems == found
    with pytest.raises(ContentError) as caught:
        decode_content(kind_of(content), encode(content))
    assert caught.value.problems == found
    assert caught.value.field == found[0].field
    assert field in str(caught.value)


def test_every_kind_that_has_rules_of_its_own_has_a_wrong_example() -> None:
    free = {Kind.SIGN, Kind.RESUME, Kind.RECONCILIATION_COMPLETE}
    assert {kind_of(content) for content, _, _ in WRONG} == set(Kind) - free


def test_all_problems_are_told_at_once() -> None:
    wrong = Receipt(" ", " ", "a", "L1", "tomorrow", 1, "mL", 0)
    assert [problem.field for problem in problems(wrong)] == ["supplier", "delivery_note", "expiry"]


@given(st.decimals(0, 10**9, allow_nan=False, allow_infinity=False, places=3))
def test_a_decimal_has_one_spelling(number: object) -> None:
    plain = f"{number:f}".rstrip("0").rstrip(".") or "0"
    assert decimal(plain) == number
    for other in (f"{plain}.0", f"0{plain}", f"+{plain}", f" {plain}", f"{plain}e0", f"{plain}\n"):
        with pytest.raises(ValueError, match="not a decimal"):
            decimal(other)


def test_lengths_of_time() -> None:
    assert time_ms(Quantity("1.5", "h")) == 5_400_000
    assert time_ms(Quantity("1", "a")) == 12 * time_ms(Quantity("1", "mo"))
    with pytest.raises(ValueError, match="'mg' is not a unit of time"):
        time_ms(MG)


def test_what_signing_needs() -> None:
    assert incomplete([]) == ("medication", "dose", "route", "timing", "supply")
    assert incomplete([Group.SUPPLY, Group.DOSE, Group.STATUS]) == ("medication", "route", "timing")
    held = {Group.MEDICATION: Medication("a", "A"), Group.DOSE: None, Group.SUPPLY: Supply(1, "mL")}
    assert incomplete(held) == ("dose", "route", "timing", "supply.site")


@given(contents())
def test_nature_follows_from_kind_and_content(of: tuple[Kind, Content]) -> None:
    kind, content = of
    expected = KINDS[kind].nature
    if isinstance(content, Dispense):
        expected = Nature.FACT if content.handed_over else Nature.INTENTION
    if not isinstance(content, Resolve):
        assert nature_of(kind, content) is expected


@given(dispenses)
def test_a_dispense_is_a_fact_once_it_was_handed_over(dispense: Dispense) -> None:
    expected = Nature.FACT if dispense.handed_over else Nature.INTENTION
    assert nature_of(Kind.DISPENSE, dispense) is expected


@given(dispenses)
def test_a_resolution_is_what_it_resolves(dispense: Dispense) -> None:
    resolve = Resolve(signed(Kind.DISPENSE, dispense).encoded, Action.TRY_AGAIN)
    assert nature_of(Kind.RESOLVE, resolve) is nature_of(Kind.DISPENSE, dispense)
    of_fact = Resolve(signed(Kind.ADMINISTER, GIVEN).encoded, Action.CONFIRM_AS_GIVEN)
    assert nature_of(Kind.RESOLVE, of_fact) is Nature.FACT
    again = Resolve(signed(Kind.RESOLVE, resolve).encoded, Action.TRY_AGAIN)
    assert nature_of(Kind.RESOLVE, again) is nature_of(Kind.DISPENSE, dispense)


def test_a_resolution_of_no_statement_is_a_content_error() -> None:
    resolve = Resolve(bytes(100), Action.CANCEL)
    for judge in (nature_of, references):
        with pytest.raises(ContentError) as caught:
            judge(Kind.RESOLVE, resolve)
        assert caught.value.field == "statement"


def test_references_are_those_that_must_have_arrived() -> None:
    other = "aaaaaaac.aaaaaaaaaaaaaaac"
    right = Correct(REF, "entered-in-error", "wrong patient", reenters=other)
    assert references(Kind.CORRECT, right) == (REF, other)
    assert references(Kind.CORRECT, Correct(REF, "entered-in-error", "x", reenters=REF)) == (REF,)
    assert references(Kind.ADJUST, Adjust("a", "L1", -1, AdjustReason.WRONG_RECEIPT, 1, REF)) == (REF,)
    assert references(Kind.ADJUST, Adjust("a", "L1", -1, AdjustReason.COUNT, 1)) == ()
    for content in (
        Dispense("rx-1", "p-1", "a", "L1", 1, "mL", True, 0, reenters=REF),
        Receipt("S", "N1", "a", "L1", "2027-02-28", 1, "mL", 0, reenters=REF),
        Administer(OfPrescription("rx-1"), "given", 0, "w", reenters=REF),
    ):
        assert references(kind_of(content), content) == (REF,)
    inner = signed(Kind.ADMINISTER, GIVEN)
    resolve = Resolve(inner.encoded, Action.CONFIRM_AS_GIVEN)
    assert references(Kind.RESOLVE, resolve) == (inner.statement.ref,)
    assert references(Kind.RECONCILIATION_COMPLETE, Complete("s-1")) == ()


@pytest.mark.parametrize("levels", [900, 1_200, 5_000])
def test_what_is_nested_deeper_than_anything_can_be_read_is_told_so(levels: int) -> None:
    data = b"\x82\xa5value\x05\xa1z" + b"\x91" * levels + b"\xc0"
    with pytest.raises(ContentError):
        decode_content(Kind.DRAFT_WRITE, data)
