"""Registers: one key and one encoding each, read only under their key and in their document."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed.aggregates.alert_override_record import AlertsRegister, Card, Severity, open_cards
from crdtmed.aggregates.conflict import Action, ConflictRegister, QuarantineRegister
from crdtmed.aggregates.content import ContentError
from crdtmed.aggregates.dispensing_event import QueueEntry
from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.medication import MedicationRegister, Pack
from crdtmed.aggregates.patient import Allergy, Identifier, PatientRegister, care_sites_of
from crdtmed.aggregates.prescription import PrescriptionStatus
from crdtmed.aggregates.prescription_draft import Dose, Timing
from crdtmed.aggregates.reconciliation_session import HomeMedication, SessionItem, SessionRegister, SessionStatus
from crdtmed.aggregates.registers import (
    REGISTERS,
    RegisterValue,
    decode_register,
    encode_register,
    register_key,
)
from crdtmed.aggregates.site import SiteRegister
from crdtmed.aggregates.stock_item import StockRegister
from crdtmed.codec import encode
from crdtmed.contract import Kind
from crdtmed.documents import DocumentKind
from crdtmed.limits import MAX_KEY_CHARS
from crdtmed.policies.server_authoritative import NIL
from crdtmed.reasons import StockShort
from tests.aggregates.contents import dispenses, signed
from tests.aggregates.test_mar_view import prescription

REF = "aaaaaaab.aaaaaaaaaaaaaaab"
CARDS = tuple(Card(name, severity, "interaction", "x", "rules") for name, severity in zip("abc", Severity, strict=True))
PATIENT = PatientRegister(
    *("p-1", (Identifier("urn:mrn", "0815"),), "Anna Example", "1950-02-03", ("ward-3",), 1),
    allergies=(Allergy("penicillin", "Penicillin", "rash"),),
    home_medications=(HomeMedication("1", "Aspirin"),),
)
ITEM = MedicationRegister("amox", "Amoxicillin", "{capsule}", 1, packs=(Pack("04012345678901", 20),))
SITE = SiteRegister("ward-3", "Ward 3", "1 Example Street", "Europe/Berlin")

VALUES: list[tuple[DocumentKind, RegisterValue]] = [
    (DocumentKind.FORMULARY, ITEM),
    (DocumentKind.PATIENT, PATIENT),
    (DocumentKind.PATIENT, prescription(Timing(3, "1", "d"))),
    (
        DocumentKind.PATIENT,
        SessionRegister(
            *("s-1", "p-1", SessionStatus.IN_PROGRESS, REF, "dr-b", 5, 1),
            items=(SessionItem(HomeMedication("1", "Aspirin")),),
        ),
    ),
    (DocumentKind.PATIENT, AlertsRegister("rx-1", bytes(32), "kb-1", CARDS, (("a", REF),))),
    (DocumentKind.SITE, SITE),
    (DocumentKind.SITE, StockRegister("amox", "L 1/2", "2027-01-31", 5, "{capsule}", 3, 1)),
    (DocumentKind.SITE, QueueEntry("rx-1", "p-1", "amox", "Amoxicillin", 21, "{capsule}", 5, requeued=(REF,))),
    *(
        (
            document,
            ConflictRegister(
                *(REF, Kind.DISPENSE, bytes(70), StockShort(1, 2), (Action.CANCEL,), False, True, 5),
                patient="p-1",
                site="ward-3",
            ),
        )
        for document in (DocumentKind.SITE, DocumentKind.PATIENT)
    ),
    *(
        (document, QuarantineRegister(REF, Kind.DISPENSE, bytes(70), "aaaaaaab", 5, True))
        for document in (DocumentKind.SITE, DocumentKind.PATIENT)
    ),
]


@pytest.mark.parametrize(("document", "value"), VALUES, ids=[f"{d}-{register_key(v)}" for d, v in VALUES])
def test_what_is_encoded_is_decoded_under_its_key_alone(document: DocumentKind, value: RegisterValue) -> None:
    key, data = register_key(value), encode_register(value)
    assert decode_register(document, key, data) == value
    assert len(key) <= MAX_KEY_CHARS
    assert key.isascii()
    word, slash, _ = key.partition("/")
    for wrong in (f"{key}x", f"{word}/other" if slash else f"{word}/", "colour", ""):
        with pytest.raises(ContentError):
            decode_register(document, wrong, data)
    with pytest.raises(ContentError, match="does not have"):
        decode_register(DocumentKind.DIRECTORY, key, data)


def test_every_register_is_tested() -> None:
    tested = {(document, type(value)) for document, value in VALUES}
    assert tested == {(document, of) for document, words in REGISTERS.items() for of in words.values()}
    for document, words in REGISTERS.items():
        for value in (value for of, value in VALUES if of is document):
            assert words[register_key(value).partition("/")[0]] is type(value)


def changed(value: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(value, **changes)


ORDER = prescription(Timing(3, "1", "d"))


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (changed(ITEM, display=" "), "display"),
        (changed(ITEM, form=" "), "form"),
        (changed(ITEM, strength=" "), "strength"),
        (changed(ITEM, packs=(*ITEM.packs, *ITEM.packs)), "packs"),
        (changed(ITEM, code="a/b"), "code"),
        (changed(PATIENT, name=" "), "name"),
        (changed(PATIENT, birth_date="3.2.1950"), "birth_date"),
        (changed(PATIENT, identifiers=()), "identifiers"),
        (changed(PATIENT, identifiers=(Identifier("urn:mrn", " "),)), "identifiers.0.value"),
        (changed(PATIENT, care_sites=("ward-3", "ward-3")), "care_sites"),
        (changed(PATIENT, home_medications=(HomeMedication("1", " "),)), "home_medications.0.display"),
        (changed(SITE, name=" "), "name"),
        (changed(SITE, address="\x00"), "address"),
        (changed(SITE, time_zone=""), "time_zone"),
        (changed(ORDER, groups=changed(ORDER.groups, dose=Dose(Quantity("5 3", "mg")))), "groups.dose.quantity.value"),
        (changed(ORDER, groups=changed(ORDER.groups, timing=Timing())), "groups.timing"),
        (changed(ORDER, status_reason=" "), "status_reason"),
        (StockRegister("amox", "L1", "2027-02-30", 5, "{capsule}", 3), "expiry"),
        (StockRegister("amox", "L1", None, -1, "{capsule}", 3), "on_hand"),
    ],
)
def test_a_problem_names_the_field(value: RegisterValue, field: str) -> None:
    with pytest.raises(ContentError) as caught:
        encode_register(value)
    assert caught.value.field == field
    document = next(document for document, of in VALUES if type(of) is type(value))
    with pytest.raises(ContentError) as caught:
        decode_register(document, register_key(value), encode(value))
    assert caught.value.field == field


@given(st.sampled_from(VALUES), st.data())
def test_no_bytes_raise_anything_else(of: tuple[DocumentKind, RegisterValue], data: st.DataObject) -> None:
    document, value = of
    raw = bytearray(encode_register(value))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for attempt in (bytes(raw), data.draw(st.binary(max_size=40))):
        try:
            read = decode_register(document, register_key(value), attempt)
        except ContentError as error:
            assert error.says  # noqa: PT017  # either outcome is right here
        else:
            assert encode_register(read) == attempt


@given(dispenses)
def test_a_conflict_keeps_the_statement_as_it_is(content: Any) -> None:
    said = signed(Kind.DISPENSE, content)
    register = ConflictRegister(
        *(said.statement.ref, Kind.DISPENSE, said.encoded, StockShort(0, 1), (Action.CANCEL,), content.handed_over),
        open=True,
        received_at=0,
    )
    read = decode_register(DocumentKind.SITE, register_key(register), encode_register(register))
    assert isinstance(read, ConflictRegister)
    assert read.statement == said.encoded


def test_not_recorded_is_not_the_same_as_none_known() -> None:
    unknown, none = changed(PATIENT, allergies=None), changed(PATIENT, allergies=())
    assert encode_register(unknown) != encode_register(none)
    for value in (unknown, none):
        assert decode_register(DocumentKind.PATIENT, "patient", encode_register(value)) == value


def test_only_critical_cards_that_nobody_overrode_are_open() -> None:
    register = AlertsRegister("rx-1", bytes(32), "kb-1", CARDS)
    assert [card.id for card in open_cards(register)] == ["a"]
    assert open_cards(changed(register, overridden=(("a", REF),))) == ()


def test_a_status_is_one_of_those_declared() -> None:
    with pytest.raises(ContentError) as caught:
        encode_register(changed(ORDER, status="cancelled"))
    assert caught.value.field == "status"
    assert PrescriptionStatus("on-hold") is PrescriptionStatus.ON_HOLD


@pytest.mark.parametrize("sites", [(), ("ward-3",), ("ward-3", "pharmacy")])
def test_the_care_sites_of_a_patient_are_read_alone(sites: tuple[str, ...]) -> None:
    register = msgspec.structs.replace(PATIENT, care_sites=sites)
    assert care_sites_of(encode_register(register)) == sites
    assert care_sites_of(NIL) is None
    for broken in (b"", b"\xc1", encode_register(SITE), encode_register(register)[:-1]):
        with pytest.raises(msgspec.MsgspecError):
            care_sites_of(broken)
