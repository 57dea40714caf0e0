"""Administrations and corrections: what happened is admitted and marked, whatever the orders say."""

import pytest

from crdtmed.aggregates.alert_override_record import Override, OverrideReason
from crdtmed.aggregates.conflict import Action
from crdtmed.aggregates.draft_view import draft_digest
from crdtmed.aggregates.medication_administration import Correct, OfDraft, OfPrescription, OfVerbal, Subject
from crdtmed.aggregates.prescription import Stop
from crdtmed.reasons import code_of
from crdtmed.verdict import Flag, Status
from relay.admission.effects import Decision
from tests.relay.admission.memory_port import Ward
from tests.relay.admission.stories import (
    CRITICAL,
    administer,
    drafted,
    in_conflict,
    prescribed,
    resolution,
    signed,
    stocked,
    viewed,
)


@pytest.fixture
def ward() -> Ward:
    ward = Ward()
    prescribed(ward)
    return ward


def code(decision: Decision) -> str:
    return code_of(decision.reason) if decision.reason is not None else ""


@pytest.mark.parametrize(
    ("subject", "flags"),
    [
        (OfPrescription("rx-1"), ()),
        (OfPrescription("rx-7"), (Flag.NO_SIGNED_ORDER,)),
        (OfDraft("rx-2"), (Flag.NO_SIGNED_ORDER,)),
        (OfVerbal("Dr Who", "emergency", "Morphine"), (Flag.NO_SIGNED_ORDER,)),
    ],
    ids=["signed", "unknown", "draft", "verbal"],
)
def test_what_has_no_signed_order_is_marked(ward: Ward, subject: Subject, flags: tuple[Flag, ...]) -> None:
    given, decision = ward.do(administer(subject))
    assert (decision.status, decision.flags) == (Status.ACCEPTED, flags)
    moved = Correct(given.statement.ref, "amended", "other order", administer(subject))
    assert ward.do(moved)[1].flags == flags


def test_a_dose_after_the_stop_is_admitted(ward: Ward) -> None:
    ward.do(Stop("rx-1", "well"))
    assert ward.do(administer())[1].status is Status.ACCEPTED


def test_corrections_of_corrections_are_admitted(ward: Ward) -> None:
    given, _ = ward.do(administer())
    once, first = ward.do(Correct(given.statement.ref, "amended", "dose", administer()))
    twice, second = ward.do(Correct(once.statement.ref, "entered-in-error", "wrong patient"))
    again, third = ward.do(Correct(given.statement.ref, "entered-in-error", "wrong patient"))
    assert [each.status for each in (first, second, third)] == [Status.ACCEPTED] * 3
    assert len({signed.statement.ref for signed in (once, twice, again)}) == 3


def test_a_correction_of_something_else_is_kept(ward: Ward) -> None:
    other = stocked(ward)
    said, decision = ward.do(Correct(other, "entered-in-error", "wrong"))
    assert (decision.status, code(decision)) == (Status.CONFLICT, "content_invalid")
    assert in_conflict(ward, said.statement.ref, "patient/p-1").open


def test_a_correction_of_another_kind_of_entry_is_kept(ward: Ward) -> None:
    drafted(ward, "rx-2")
    signed(ward, "rx-2", CRITICAL)
    digest = draft_digest(viewed(ward, "rx-2"))
    override, decision = ward.do(Override("rx-2", digest, "c-1", OverrideReason.WILL_MONITOR, "2026-02"))
    assert decision.status is Status.ACCEPTED
    assert code(ward.do(Correct(override.statement.ref, "entered-in-error", "wrong"))[1]) == "content_invalid"


def test_a_correction_of_another_patients_entry_is_kept(ward: Ward) -> None:
    ward.sign_in("nurse", "cy", ward.people["nurse"].roles, ("ward", "elsewhere"))
    given, decision = ward.do(administer(), target="patient/p-2/log")
    assert decision.status is Status.ACCEPTED
    assert code(ward.do(Correct(given.statement.ref, "entered-in-error", "wrong patient"))[1]) == "content_invalid"


def test_a_dose_said_without_the_role_counts_once_somebody_confirms_it(ward: Ward) -> None:
    given, decision = ward.do(administer(), who="clerk")
    assert (decision.status, code(decision)) == (Status.CONFLICT, "role_missing")
    content = resolution(ward, given.statement.ref, Action.CONFIRM_AS_GIVEN, "patient/p-1")
    through, confirmed = ward.do(content, who="nurse", target="patient/p-1/log")
    assert confirmed.status is Status.ACCEPTED
    assert in_conflict(ward, given.statement.ref, "patient/p-1").resolved_by == through.statement.ref
    fixed = Correct(through.statement.ref, "entered-in-error", "it was not given after all")
    assert ward.do(fixed)[1].status is Status.ACCEPTED


def test_a_second_resolution_of_a_dose_is_for_its_author_to_discard(ward: Ward) -> None:
    given, _ = ward.do(administer(), who="clerk")
    content = resolution(ward, given.statement.ref, Action.CONFIRM_AS_GIVEN, "patient/p-1")
    ward.do(content, who="nurse", target="patient/p-1/log")
    _, second = ward.do(content, who="nurse", target="patient/p-1/log")
    assert (second.status, code(second), second.actions) == (Status.CONFLICT, "already_resolved", (Action.DISCARD,))


def test_what_cannot_be_read_is_kept_and_can_be_closed(ward: Ward) -> None:
    bad = administer(status="given", status_reason="refused by the patient")
    said, decision = ward.do(bad)
    assert (decision.status, code(decision)) == (Status.CONFLICT, "content_invalid")
    assert decision.actions == (Action.ENTERED_IN_ERROR,)
    content = resolution(ward, said.statement.ref, Action.ENTERED_IN_ERROR, "patient/p-1")
    assert ward.do(content, who="nurse", target="patient/p-1/log")[1].status is Status.ACCEPTED
