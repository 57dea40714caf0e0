"""Prescriptions from draft to stop: what is signed is what was seen, and the knowledge base has the last word."""

from typing import Any

import pytest
from msgspec import structs

from crdtmed.aggregates.alert_override_record import AlertsRegister, Override, OverrideReason
from crdtmed.aggregates.conflict import Action
from crdtmed.aggregates.draft_view import confirming, draft_digest, draft_view
from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.prescription import Amend, Hold, PrescriptionStatus, Resume, Sign, Stop, clinical
from crdtmed.aggregates.prescription_draft import Dose, DraftStatus, DraftWrite, Group, GroupValue, Supply, group_of
from crdtmed.reasons import (
    AlertsOpen,
    AlertUnknown,
    DraftChanged,
    DraftIncomplete,
    DraftUnsettled,
    SnapshotNotInForce,
    Superseded,
)
from crdtmed.verdict import Status
from relay.admission.admit import question
from relay.admission.signing import order_digest
from tests.relay.admission.memory_port import HOUR, NOW, Ward
from tests.relay.admission.stories import (
    CRITICAL,
    ORDER,
    WARNING,
    amended,
    answered,
    asked,
    dispense,
    drafted,
    in_conflict,
    prescribed,
    prescription,
    queue,
    resolution,
    signed,
    stocked,
    viewed,
)

ONE_GRAM = Dose(Quantity("1", "g"))


@pytest.fixture
def ward() -> Ward:
    return Ward()


def override_of(ward: Ward, alert: str = "c-1", name: str = "rx-1", **changes: Any) -> Override:
    digest = draft_digest(viewed(ward, name))
    said: dict[str, Any] = {"digest": digest, "reason": OverrideReason.WILL_MONITOR, "snapshot": "2026-02"}
    return Override(prescription=name, alert=alert, **(said | changes))


def test_a_signed_draft_is_active_queued_and_closed(ward: Ward) -> None:
    ref = prescribed(ward)
    register = prescription(ward)
    assert (register.status, register.signed_by, register.prescriber) == (PrescriptionStatus.ACTIVE, ref, "ada")
    assert (register.authorised, register.dispensed, register.snapshot) == (20, 0, "2026-02")
    entry = queue(ward)
    assert entry is not None
    assert (entry.patient, entry.item, entry.authorised) == ("p-1", "para", 20)
    assert ward.draft("p-1", "rx-1") == []


def test_a_late_edit_of_a_signed_draft_is_kept_for_its_author(ward: Ward) -> None:
    prescribed(ward)
    said, decision = ward.do(DraftWrite("rx-1", Group.DOSE, ONE_GRAM))
    assert (decision.status, decision.actions) == (Status.CONFLICT, (Action.DISCARD, Action.START_AMENDMENT))
    assert in_conflict(ward, said.statement.ref, "patient/p-1").open
    assert prescription(ward).groups.dose == ORDER[1]
    content = resolution(ward, said.statement.ref, Action.DISCARD, "patient/p-1")
    _, closing = ward.do(content, who="prescriber", target="patient/p-1/log")
    assert closing.status is Status.ACCEPTED
    assert not in_conflict(ward, said.statement.ref, "patient/p-1").open


def test_what_changed_since_it_was_seen_is_named(ward: Ward) -> None:
    view = drafted(ward)
    ward.do(DraftWrite("rx-1", Group.DOSE, ONE_GRAM), seen=view.seen)
    _, decision = asked(ward, Sign("rx-1", draft_digest(view)), seen=view.seen)
    assert decision.reason == DraftChanged(("dose",))
    assert (decision.status, decision.actions) == (Status.CONFLICT, (Action.REDO, Action.DISCARD))


def test_a_group_that_the_prescriber_saw_and_the_relay_lacks_is_named(ward: Ward) -> None:
    view = drafted(ward)
    refused, _ = ward.do(DraftWrite("rx-1", Group.ROUTE, ORDER[2]), who="nurse", seen=view.seen)
    seen = {*view.seen, refused.statement.ref}
    _, decision = asked(ward, Sign("rx-1", bytes(32)), seen=seen)
    assert decision.reason == DraftChanged(("route",))


@pytest.mark.parametrize("gone", range(5))
def test_every_required_group_is_asked_for(ward: Ward, gone: int) -> None:
    order = tuple(value for place, value in enumerate(ORDER) if place != gone)
    drafted(ward, order=order)
    _, decision = signed(ward)
    missing = type(ORDER[gone]).__name__.lower()
    assert (decision.status, decision.reason) == (Status.REFUSED, DraftIncomplete((missing,)))


def test_somebody_has_to_choose_the_site(ward: Ward) -> None:
    drafted(ward, order=(*ORDER[:4], Supply(10, "{tablet}")))
    assert signed(ward)[1].reason == DraftIncomplete(("supply",))


def test_concurrent_writes_are_settled_before_signing(ward: Ward) -> None:
    view = drafted(ward)
    for quantity in ("1", "2"):
        ward.do(DraftWrite("rx-1", Group.DOSE, Dose(Quantity(quantity, "g"))), seen=view.seen)
    assert signed(ward)[1].reason == DraftUnsettled(("dose",))
    seen = list(viewed(ward).seen)
    for write in confirming(viewed(ward)):
        said, _ = ward.do(write, seen=seen)
        seen.append(said.statement.ref)
    assert signed(ward)[1].status is Status.ACCEPTED


def test_a_draft_set_aside_is_not_signed(ward: Ward) -> None:
    drafted(ward, "rx-1", DraftStatus("entered-in-error"))
    assert signed(ward)[1].reason is not None
    assert ward.register("patient/p-1", "prescription/rx-1") is None


def test_the_id_of_another_patients_prescription_is_taken(ward: Ward) -> None:
    prescribed(ward)
    ward.sign_in("other", "ot", ward.people["prescriber"].roles, ("elsewhere",))
    seen: list[str] = []
    for value in ORDER:
        said, _ = ward.do(
            DraftWrite("rx-1", group_of(value), value), who="other", target="patient/p-2/drafts", seen=seen
        )
        seen.append(said.statement.ref)
    digest = draft_digest(draft_view(ward.draft("p-2", "rx-1")))
    _, decision = asked(ward, Sign("rx-1", digest), who="other", target="patient/p-2", seen=seen)
    assert decision.status is Status.CONFLICT
    entry = queue(ward)
    assert entry is not None
    assert entry.patient == "p-1"


def test_critical_alerts_stop_a_signature_until_each_is_overridden(ward: Ward) -> None:
    drafted(ward)
    _, decision = signed(ward, "rx-1", CRITICAL, WARNING)
    assert decision.status is Status.REFUSED
    assert isinstance(decision.reason, AlertsOpen)
    assert [alert.id for alert in decision.reason.alerts] == ["c-1"]
    kept = ward.register("patient/p-1", "alerts/rx-1")
    assert isinstance(kept, AlertsRegister)
    said, overriding = ward.do(override_of(ward))
    assert overriding.status is Status.ACCEPTED
    assert signed(ward, "rx-1", CRITICAL, WARNING)[1].status is Status.ACCEPTED
    assert prescription(ward).overrides == (said.statement.ref,)


def test_the_override_of_a_warning_is_no_part_of_the_signature(ward: Ward) -> None:
    drafted(ward)
    signed(ward, "rx-1", CRITICAL, WARNING)
    ward.do(override_of(ward, "w-1"))
    said, _ = ward.do(override_of(ward, "c-1"))
    signed(ward, "rx-1", CRITICAL, WARNING)
    assert prescription(ward).overrides == (said.statement.ref,)


def test_an_override_counts_for_its_own_draft_and_snapshot_alone(ward: Ward) -> None:
    view = drafted(ward)
    signed(ward, "rx-1", CRITICAL)
    ward.do(override_of(ward))
    ward.do(DraftWrite("rx-1", Group.DOSE, ONE_GRAM), seen=view.seen)
    seen = list(viewed(ward).seen)
    for write in confirming(viewed(ward)):
        said, _ = ward.do(write, seen=seen)
        seen.append(said.statement.ref)
    assert isinstance(signed(ward, "rx-1", CRITICAL)[1].reason, AlertsOpen)
    assert ward.do(override_of(ward))[1].status is Status.ACCEPTED
    ward.snapshot = "2026-03"
    assert isinstance(signed(ward, "rx-1", CRITICAL)[1].reason, AlertsOpen)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"alert": "c-2"}, "alert_unknown"),
        ({"digest": bytes(32)}, "alert_unknown"),
        ({"snapshot": "2026-01"}, "snapshot_not_in_force"),
        ({"name": "rx-1"}, ""),
    ],
)
def test_an_override_names_an_alert_that_was_raised(ward: Ward, changes: dict[str, Any], code: str) -> None:
    drafted(ward)
    signed(ward, "rx-1", CRITICAL)
    _, decision = ward.do(override_of(ward, **changes))
    assert decision.status is (Status.REFUSED if code else Status.ACCEPTED)
    assert (type(decision.reason).__struct_config__.tag if decision.reason is not None else "") == code


def test_an_alert_of_an_earlier_snapshot_is_not_overridden(ward: Ward) -> None:
    drafted(ward)
    signed(ward, "rx-1", CRITICAL)
    content = override_of(ward, snapshot="2026-03")
    ward.snapshot = "2026-03"
    assert ward.do(content)[1].reason == SnapshotNotInForce("2026-03")


def test_nothing_is_left_to_override_once_it_is_signed(ward: Ward) -> None:
    drafted(ward)
    content = override_of(ward, "w-1")
    signed(ward, "rx-1", WARNING)
    assert prescription(ward).status is PrescriptionStatus.ACTIVE
    assert ward.do(content)[1].reason == AlertUnknown("w-1")


def test_a_second_override_of_an_alert_changes_nothing(ward: Ward) -> None:
    drafted(ward)
    signed(ward, "rx-1", CRITICAL)
    ward.do(override_of(ward))
    before = ward.register("patient/p-1", "alerts/rx-1")
    assert ward.do(override_of(ward))[1].status is Status.ACCEPTED
    assert ward.register("patient/p-1", "alerts/rx-1") == before


def test_what_is_signed_between_question_and_commit_makes_the_second_ask_again(ward: Ward) -> None:
    for name in ("rx-1", "rx-2"):
        drafted(ward, name)
    views = {name: viewed(ward, name) for name in ("rx-1", "rx-2")}
    both = [answered(ward, ward.say(Sign(name, draft_digest(view)), seen=view.seen)) for name, view in views.items()]
    assert [ward.submit(each).status for each in both] == [Status.ACCEPTED, Status.RETRY]
    again = answered(ward, both[1])
    assert ward.submit(again).status is Status.ACCEPTED


def test_what_an_earlier_snapshot_answered_signs_nothing_once_another_is_in_force(ward: Ward) -> None:
    view = drafted(ward)
    waiting = answered(ward, ward.say(Sign("rx-1", draft_digest(view)), seen=view.seen))
    ward.snapshot = "2026-03"
    decision = ward.submit(waiting)
    assert (decision.status, decision.reason) == (Status.REFUSED, SnapshotNotInForce("2026-03"))
    assert ward.register("patient/p-1", "prescription/rx-1") is None
    assert signed(ward)[1].status is Status.ACCEPTED


def test_the_knowledge_base_sees_the_other_prescriptions_in_force(ward: Ward) -> None:
    prescribed(ward, "rx-0")
    prescribed(ward, "rx-9")
    ward.do(Stop("rx-9", "done"))
    view = drafted(ward)
    asked_for = question(ward, ward.say(Sign("rx-1", draft_digest(view)), seen=view.seen))
    assert asked_for is not None
    assert [each.id for each in asked_for.active] == ["rx-0"]
    assert asked_for.order.dose == ORDER[1]
    assert set(asked_for.medicines) == {"para"}
    amending = question(ward, ward.say(Amend("rx-1", draft_digest(view), "rx-0", "dose"), seen=view.seen))
    assert amending is not None
    assert amending.active == ()


def test_nothing_is_asked_where_something_stands_in_the_way(ward: Ward) -> None:
    view = drafted(ward)
    content = Sign("rx-1", draft_digest(view))
    assert question(ward, ward.say(content, who="nurse", seen=view.seen)) is None
    assert question(ward, ward.say(Sign("rx-1", bytes(32)), seen=view.seen)) is None
    assert question(ward, ward.say(Stop("rx-1", "done"))) is None
    ref, _ = asked(ward, content, seen=view.seen)
    assert ward.statement(ref) is not None


def test_an_amendment_takes_the_place_of_the_prior(ward: Ward) -> None:
    prescribed(ward)
    before = clinical(prescription(ward))
    _, decision = amended(ward, "rx-2", "rx-1")
    assert decision.status is Status.ACCEPTED
    assert (prescription(ward).status, prescription(ward).successor) == (PrescriptionStatus.SUPERSEDED, "rx-2")
    assert prescription(ward, "rx-2").prior == "rx-1"
    assert (queue(ward), queue(ward, "rx-2") is not None) == (None, True)
    assert clinical(prescription(ward)) == before


def test_stop_hold_and_resume_follow_the_status(ward: Ward) -> None:
    prescribed(ward)
    assert ward.do(Hold("rx-1", "surgery"))[1].status is Status.ACCEPTED
    assert prescription(ward).status is PrescriptionStatus.ON_HOLD
    assert ward.do(Hold("rx-1", "again"))[1].status is Status.CONFLICT
    assert asked(ward, Resume("rx-1", "done"))[1].status is Status.ACCEPTED
    assert (prescription(ward).status, prescription(ward).hold_until_ms) == (PrescriptionStatus.ACTIVE, None)
    assert asked(ward, Resume("rx-1", "again"))[1].status is Status.CONFLICT
    assert ward.do(Stop("rx-1", "well"))[1].status is Status.ACCEPTED
    assert (prescription(ward).status, prescription(ward).status_reason) == (PrescriptionStatus.STOPPED, "well")
    assert queue(ward) is None
    assert ward.do(Stop("rx-1", "well"))[1].status is Status.CONFLICT


def test_a_hold_with_an_end_is_over_when_it_comes(ward: Ward) -> None:
    prescribed(ward)
    stocked(ward)
    ward.do(Hold("rx-1", "surgery", NOW + HOUR))
    assert ward.do(dispense())[1].status is Status.CONFLICT
    assert ward.do(dispense(), received_at=NOW + HOUR)[1].status is Status.ACCEPTED
    assert asked(ward, Resume("rx-1", "done"), received_at=NOW + HOUR)[1].status is Status.CONFLICT
    assert ward.do(Hold("rx-1", "surgery"), received_at=NOW + HOUR)[1].status is Status.ACCEPTED


def test_an_order_signed_during_a_hold_with_an_end_is_held_against_what_comes_back(ward: Ward) -> None:
    prescribed(ward)
    view = drafted(ward, "rx-2")

    def beside(received_at: int = NOW) -> list[tuple[str, PrescriptionStatus]]:
        """What the knowledge base is told of beside rx-2."""
        signing = ward.say(Sign("rx-2", draft_digest(view)), seen=view.seen, received_at=received_at)
        found = question(ward, signing)
        assert found is not None
        return [(each.id, each.status) for each in found.active]

    ward.do(Hold("rx-1", "surgery", NOW + HOUR))
    assert beside() == [("rx-1", PrescriptionStatus.ON_HOLD)]
    assert beside(NOW + HOUR) == [("rx-1", PrescriptionStatus.ACTIVE)]
    ward.do(Hold("rx-1", "until somebody resumes it"), received_at=NOW + HOUR)
    assert beside(NOW + HOUR) == []


def test_resuming_is_checked_and_its_alerts_can_be_overridden(ward: Ward) -> None:
    prescribed(ward)
    ward.do(Hold("rx-1", "surgery"))
    assert isinstance(asked(ward, Resume("rx-1", "done"), CRITICAL)[1].reason, AlertsOpen)
    digest = order_digest(prescription(ward).groups)
    said = Override("rx-1", digest, "c-1", OverrideReason.WILL_MONITOR, "2026-02")
    assert ward.do(said)[1].status is Status.ACCEPTED
    assert asked(ward, Resume("rx-1", "done"), CRITICAL)[1].status is Status.ACCEPTED


def test_a_stop_waits_for_the_sign_of_its_own_prescription_and_for_nothing_else(ward: Ward) -> None:
    view = drafted(ward)
    signing = ward.say(Sign("rx-1", draft_digest(view)), seen=view.seen)
    stopping = ward.say(Stop("rx-1", "mistake"), seen=[signing.statement.ref])
    assert ward.submit(stopping).status is Status.RETRY
    assert ward.submit(answered(ward, signing)).status is Status.ACCEPTED
    assert ward.submit(stopping).status is Status.ACCEPTED
    assert prescription(ward).status is PrescriptionStatus.STOPPED


def test_a_stop_never_waits_once_its_prescription_is_there(ward: Ward) -> None:
    prescribed(ward)
    never = f"{'a' * 8}.{'a' * 16}"
    assert ward.do(Hold("rx-1", "surgery"), seen=[never])[1].status is Status.ACCEPTED
    assert ward.do(Stop("rx-1", "well"), seen=[never])[1].status is Status.ACCEPTED
    assert ward.do(Stop("rx-2", "well"), seen=[never])[1].status is Status.RETRY


def test_a_stop_of_what_was_amended_can_stop_the_successor(ward: Ward) -> None:
    prescribed(ward)
    amended(ward, "rx-2", "rx-1")
    amended(ward, "rx-3", "rx-2")
    said, decision = ward.do(Stop("rx-1", "rash"))
    assert decision.reason == Superseded("rx-1", "rx-2")
    assert decision.actions == (Action.STOP_SUCCESSOR, Action.DISCARD)
    content = resolution(ward, said.statement.ref, Action.STOP_SUCCESSOR, "patient/p-1")
    _, stopped = ward.do(content, who="prescriber", target="patient/p-1/log")
    assert stopped.status is Status.ACCEPTED
    assert prescription(ward, "rx-3").status is PrescriptionStatus.STOPPED
    assert prescription(ward, "rx-3").status_reason == "rash"
    assert not in_conflict(ward, said.statement.ref, "patient/p-1").open


def test_stopping_a_stopped_successor_leaves_the_conflict_open(ward: Ward) -> None:
    prescribed(ward)
    amended(ward, "rx-2", "rx-1")
    said, _ = ward.do(Stop("rx-1", "rash"))
    ward.do(Stop("rx-2", "rash"))
    content = resolution(ward, said.statement.ref, Action.STOP_SUCCESSOR, "patient/p-1")
    signed_, decision = ward.do(content, who="prescriber", target="patient/p-1/log")
    assert decision.status is Status.REFUSED
    assert in_conflict(ward, said.statement.ref, "patient/p-1").open
    assert ward.register("patient/p-1", f"conflict/{signed_.statement.ref}") is None


@pytest.mark.parametrize("status", [PrescriptionStatus.STOPPED, PrescriptionStatus.SUPERSEDED])
def test_only_what_is_in_force_is_amended(ward: Ward, status: PrescriptionStatus) -> None:
    prescribed(ward)
    ward.put("patient/p-1", structs.replace(prescription(ward), status=status, successor="rx-8"))
    _, decision = amended(ward, "rx-2", "rx-1")
    assert decision.status is Status.CONFLICT
    assert ward.register("patient/p-1", "prescription/rx-2") is None


def test_the_groups_signed_are_the_winners(ward: Ward) -> None:
    view = drafted(ward)
    values: tuple[GroupValue, ...] = (ONE_GRAM,)
    for value in values:
        ward.do(DraftWrite("rx-1", Group.DOSE, value), seen=view.seen)
    assert signed(ward)[1].status is Status.ACCEPTED
    assert prescription(ward).groups.dose == ONE_GRAM
