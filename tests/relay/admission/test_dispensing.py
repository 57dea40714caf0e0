"""Dispenses: prescription, authorisation, lot and stock in one decision, and everything short in front of somebody."""

from typing import Any

import pytest
from msgspec import structs

from crdtmed.aggregates.conflict import Action, Resolve
from crdtmed.aggregates.medication import MedicationRegister
from crdtmed.aggregates.prescription import Stop
from crdtmed.aggregates.prescription_draft import Substitution, Supply
from crdtmed.contract import CONFLICT_RULES
from crdtmed.limits import MAX_QUANTITY_UNITS
from crdtmed.reasons import OverAuthorised, StockShort, code_of
from crdtmed.verdict import Status
from relay.admission.effects import Decision
from tests.relay.admission.memory_port import DAY, NOW, Ward
from tests.relay.admission.stories import (
    ORDER,
    amended,
    dispense,
    in_conflict,
    later,
    prescribed,
    prescription,
    queue,
    receipt,
    resolution,
    stock,
    stocked,
)


@pytest.fixture
def ward() -> Ward:
    """A ward with rx-1 over 2 × 10 tablets, and 30 tablets of lot L1."""
    ward = Ward()
    prescribed(ward)
    stocked(ward)
    return ward


def code(decision: Decision) -> str:
    return code_of(decision.reason) if decision.reason is not None else ""


def test_a_dispense_lowers_stock_and_counts(ward: Ward) -> None:
    said, decision = ward.do(dispense())
    assert decision.status is Status.ACCEPTED
    assert stock(ward).on_hand == 20
    assert prescription(ward).dispensed == 10
    entry = queue(ward)
    assert entry is not None
    assert entry.dispensed == 10
    assert ward.ledger[-1].by == said.statement.ref
    since = entry.since_at
    ward.do(dispense(5), received_at=NOW + DAY)
    later = queue(ward)
    assert later is not None
    assert later.since_at == since
    ward.do(dispense(5))
    assert queue(ward) is None
    assert stock(ward).version == 4


def test_all_that_is_dispensed_counts_against_what_is_authorised(ward: Ward) -> None:
    ward.do(dispense())
    assert ward.do(dispense(11))[1].reason == OverAuthorised(20, 10, 11)
    assert ward.do(dispense())[1].status is Status.ACCEPTED
    assert ward.do(dispense(1))[1].reason == OverAuthorised(20, 20, 1)


def test_the_same_dispense_twice_counts_once(ward: Ward) -> None:
    submission = ward.say(dispense())
    assert [ward.submit(submission).status for _ in range(2)] == [Status.ACCEPTED, Status.ACCEPTED]
    assert stock(ward).on_hand == 20
    assert prescription(ward).dispensed == 10


CASES: dict[str, dict[str, Any]] = {
    "prescription_unknown": {"prescription": "rx-7"},
    "over_authorised": {"quantity": 21},
    "wrong_item": {"item": "amox"},
    "unit_mismatch": {"unit": "mL"},
    "lot_unknown": {"lot": "L9"},
    "lot_expired": {"occurred_at": NOW + 400 * DAY},
    "stock_short": {"lot": "L2", "quantity": 6},
}


@pytest.mark.parametrize("out", [False, True], ids=["tentative", "handed over"])
@pytest.mark.parametrize("reason", list(CASES))
def test_what_is_short_is_kept_and_requeued(ward: Ward, reason: str, out: bool) -> None:
    stocked(ward, 5, "L2")
    before = (dict(ward.lots()), prescription(ward))
    said, decision = ward.do(dispense(out=out, **CASES[reason]))
    assert (decision.status, code(decision)) == (Status.CONFLICT, reason)
    assert (ward.lots(), prescription(ward)) == before
    kept = in_conflict(ward, said.statement.ref)
    assert (kept.open, kept.handed_over, kept.actions) == (True, out, decision.actions)
    assert kept.statement == said.encoded
    entry = queue(ward)
    assert entry is not None
    assert entry.requeued == (() if reason == "prescription_unknown" else (said.statement.ref,))


def test_another_patients_prescription_is_unknown(ward: Ward) -> None:
    assert code(ward.do(dispense(patient="p-2"))[1]) == "prescription_unknown"


def test_what_the_contract_offers_is_offered(ward: Ward) -> None:
    stocked(ward, 5, "L2")
    _, decision = ward.do(dispense(6, lot="L2"))
    assert decision.reason == StockShort(5, 6)
    assert set(CONFLICT_RULES[0].actions) <= set(decision.actions)


def test_a_stopped_prescription_is_not_dispensed(ward: Ward) -> None:
    ward.do(Stop("rx-1", "well"))
    assert code(ward.do(dispense())[1]) == "prescription_status"
    entry = queue(ward)
    assert entry is not None
    assert len(entry.requeued) == 1


def test_an_amended_prescription_is_not_dispensed(ward: Ward) -> None:
    amended(ward, "rx-2", "rx-1")
    assert code(ward.do(dispense())[1]) == "superseded"


def test_another_site_does_not_dispense_it(ward: Ward) -> None:
    ward.sign_in("pharmacist", "bo", ward.people["pharmacist"].roles, ("pharmacy", "ward"))
    said, decision = ward.do(dispense(), target="site/ward/log")
    assert code(decision) == "wrong_site"
    assert in_conflict(ward, said.statement.ref, "site/ward").open
    entry = queue(ward)
    assert entry is not None
    assert entry.requeued == ()
    assert queue(ward, site="ward") is None


def test_a_medicine_that_the_formulary_lost(ward: Ward) -> None:
    del ward.held["formulary", "item/para"]
    assert code(ward.do(dispense())[1]) == "item_unknown"


@pytest.mark.parametrize(
    ("allowed", "changes", "status"),
    [
        (True, {}, Status.ACCEPTED),
        (False, {}, Status.CONFLICT),
        (None, {}, Status.CONFLICT),
        (True, {"strength": "1 g"}, Status.CONFLICT),
        (True, {"ingredients": ()}, Status.CONFLICT),
        (True, {"form": "syrup"}, Status.CONFLICT),
    ],
)
def test_substitution_is_by_the_same_medicine_and_only_where_allowed(
    allowed: bool | None, changes: dict[str, Any], status: Status
) -> None:
    ward = Ward()
    prescribed(ward, "rx-1", *([Substitution(allowed)] if allowed is not None else []))
    stocked(ward, 30, "L1", item="para-b")
    item = ward.register("formulary", "item/para-b")
    assert isinstance(item, MedicationRegister)
    ward.put("formulary", structs.replace(item, **changes))
    _, decision = ward.do(dispense(item="para-b"))
    assert decision.status is status
    assert code(decision) == ("" if status is Status.ACCEPTED else "wrong_item")


@pytest.mark.parametrize(("days", "status"), [(0, Status.ACCEPTED), (1, Status.CONFLICT)])
def test_a_lot_is_good_through_the_day_of_its_expiry(days: int, status: Status) -> None:
    ward = Ward()
    prescribed(ward)
    stocked(ward, 30, "L1", expiry="2026-02-02")
    assert ward.do(dispense(occurred_at=NOW + days * DAY))[1].status is status


def test_a_dispense_waits_for_the_receipt_that_it_saw() -> None:
    ward = Ward()
    prescribed(ward)
    arriving = ward.say(receipt())
    out = ward.say(dispense(), seen=[arriving.statement.ref])
    assert code(ward.submit(out)) == "awaits"
    ward.submit(arriving)
    assert ward.submit(out).status is Status.ACCEPTED


def resolved(ward: Ward, ref: str, action: Action, **more: Any) -> Decision:
    return ward.do(resolution(ward, ref, action, **more))[1]


def test_switching_the_lot(ward: Ward) -> None:
    said, _ = ward.do(dispense(lot="L9"))
    assert resolved(ward, said.statement.ref, Action.SWITCH_LOT, lot="L1").status is Status.ACCEPTED
    assert (stock(ward).on_hand, prescription(ward).dispensed) == (20, 10)
    kept = in_conflict(ward, said.statement.ref)
    assert (kept.open, kept.resolved_by is not None) == (False, True)
    stored = ward.statement(said.statement.ref)
    assert stored is not None
    assert stored.verdict.status is Status.CONFLICT
    entry = queue(ward)
    assert entry is not None
    assert (entry.requeued, entry.dispensed) == ((), 10)


def test_switching_the_lot_is_no_way_to_dispense_more(ward: Ward) -> None:
    said, _ = ward.do(dispense(lot="L9"))
    more = resolved(ward, said.statement.ref, Action.SWITCH_LOT, lot="L1", quantity=11)
    assert (more.status, code(more)) == (Status.REFUSED, "action_not_offered")
    assert (stock(ward).on_hand, in_conflict(ward, said.statement.ref).open) == (30, True)
    less = resolved(ward, said.statement.ref, Action.SWITCH_LOT, lot="L1", quantity=9)
    assert (less.status, stock(ward).on_hand) == (Status.ACCEPTED, 21)


def test_dispensing_a_part(ward: Ward) -> None:
    stocked(ward, 4, "L2")
    said, _ = ward.do(dispense(lot="L2"))
    assert resolved(ward, said.statement.ref, Action.DISPENSE_PART, quantity=4).status is Status.ACCEPTED
    assert (stock(ward, "L2").on_hand, prescription(ward).dispensed) == (0, 4)


@pytest.mark.parametrize("quantity", [10, 11])
def test_a_part_is_less_than_the_whole(ward: Ward, quantity: int) -> None:
    stocked(ward, 4, "L2")
    said, _ = ward.do(dispense(lot="L2"))
    stocked(ward, 40, "L2")
    decision = resolved(ward, said.statement.ref, Action.DISPENSE_PART, quantity=quantity)
    assert (decision.status, code(decision)) == (Status.REFUSED, "action_not_offered")


def test_cancelling_moves_nothing(ward: Ward) -> None:
    said, _ = ward.do(dispense(lot="L9"))
    rows = list(ward.ledger)
    assert resolved(ward, said.statement.ref, Action.CANCEL).status is Status.ACCEPTED
    assert ward.ledger == rows
    entry = queue(ward)
    assert entry is not None
    assert entry.requeued == ()


def test_trying_again_once_the_goods_have_come(ward: Ward) -> None:
    said, _ = ward.do(dispense(lot="L9"))
    assert code(resolved(ward, said.statement.ref, Action.TRY_AGAIN)) == "lot_unknown"
    assert in_conflict(ward, said.statement.ref).open
    stocked(ward, 30, "L9")
    assert resolved(ward, said.statement.ref, Action.TRY_AGAIN).status is Status.ACCEPTED
    assert stock(ward, "L9").on_hand == 20


def test_a_resolution_that_is_itself_short_leaves_the_first_open(ward: Ward) -> None:
    stocked(ward, 3, "L2")
    said, _ = ward.do(dispense(lot="L9"))
    decision = resolved(ward, said.statement.ref, Action.SWITCH_LOT, lot="L2")
    assert (decision.status, code(decision)) == (Status.REFUSED, "stock_short")
    assert in_conflict(ward, said.statement.ref).open
    assert resolved(ward, said.statement.ref, Action.SWITCH_LOT, lot="L1").status is Status.ACCEPTED


def test_of_what_was_handed_over_a_short_resolution_is_no_second_conflict(ward: Ward) -> None:
    stocked(ward, 3, "L2")
    said, first = ward.do(dispense(lot="L9", out=True))
    second, decision = ward.do(resolution(ward, said.statement.ref, Action.SWITCH_LOT, lot="L2"))
    assert (decision.status, code(decision), decision.actions) == (Status.CONFLICT, "stock_short", first.actions)
    assert in_conflict(ward, said.statement.ref).open
    assert ward.register("site/pharmacy", f"conflict/{second.statement.ref}") is None


def test_confirming_as_given_counts_what_the_books_do_not_have(ward: Ward) -> None:
    stocked(ward, 4, "L2")
    said, _ = ward.do(dispense(lot="L2", out=True))
    assert resolved(ward, said.statement.ref, Action.CONFIRM_AS_GIVEN).status is Status.ACCEPTED
    assert (stock(ward, "L2").on_hand, stock(ward, "L2").shortage) == (0, 6)
    assert prescription(ward).dispensed == 10
    assert not in_conflict(ward, said.statement.ref, "patient/p-1").open


def test_confirming_with_the_true_lot_and_quantity(ward: Ward) -> None:
    said, _ = ward.do(dispense(lot="L9", out=True))
    assert resolved(ward, said.statement.ref, Action.CONFIRM_AS_GIVEN, lot="L1", quantity=8).status is Status.ACCEPTED
    assert (stock(ward).on_hand, prescription(ward).dispensed) == (22, 8)


def test_confirming_a_lot_that_nobody_received_begins_with_a_shortage(ward: Ward) -> None:
    said, _ = ward.do(dispense(lot="L9", out=True))
    assert resolved(ward, said.statement.ref, Action.CONFIRM_AS_GIVEN).status is Status.ACCEPTED
    assert (stock(ward, "L9").on_hand, stock(ward, "L9").shortage, stock(ward, "L9").expiry) == (0, 10, None)
    stocked(ward, 12, "L9")
    assert (stock(ward, "L9").on_hand, stock(ward, "L9").shortage, stock(ward, "L9").expiry) == (12, 10, "2027-01-31")


def test_confirming_beyond_what_is_authorised(ward: Ward) -> None:
    said, decision = ward.do(dispense(25, out=True))
    assert decision.reason == OverAuthorised(20, 0, 25)
    assert resolved(ward, said.statement.ref, Action.CONFIRM_AS_GIVEN).status is Status.ACCEPTED
    assert (stock(ward).on_hand, prescription(ward).dispensed) == (5, 25)
    assert queue(ward) is None


def test_confirming_at_another_site_counts_in_the_queue_of_the_one_that_dispenses(ward: Ward) -> None:
    ward.sign_in("pharmacist", "bo", ward.people["pharmacist"].roles, ("pharmacy", "ward"))
    said, _ = ward.do(dispense(out=True), target="site/ward/log")
    content = resolution(ward, said.statement.ref, Action.CONFIRM_AS_GIVEN, "site/ward")
    assert ward.do(content, target="site/ward/log")[1].status is Status.ACCEPTED
    assert (stock(ward).on_hand, stock(ward, site="ward").shortage) == (30, 10)
    entry = queue(ward)
    assert entry is not None
    assert entry.dispensed == 10


@pytest.mark.parametrize("action", [Action.CONFIRM_AS_GIVEN, Action.LOST])
def test_what_was_given_in_another_unit_is_told_in_the_counting_unit(ward: Ward, action: Action) -> None:
    said, decision = ward.do(dispense(5, unit="mg", out=True))
    assert code(decision) == "unit_mismatch"
    assert code(resolved(ward, said.statement.ref, action)) == "action_not_offered"
    assert resolved(ward, said.statement.ref, action, quantity=1).status is Status.ACCEPTED
    assert stock(ward).on_hand == 29
    other, _ = ward.do(dispense(5, "L9", unit="mg", out=True))
    assert resolved(ward, other.statement.ref, action, quantity=1).status is Status.ACCEPTED
    assert (stock(ward, "L9").unit, stock(ward, "L9").shortage) == ("{tablet}", 1)


def test_what_came_back_moves_nothing(ward: Ward) -> None:
    said, _ = ward.do(dispense(lot="L9", out=True))
    rows = list(ward.ledger)
    assert resolved(ward, said.statement.ref, Action.RETURNED).status is Status.ACCEPTED
    assert (ward.ledger, prescription(ward).dispensed) == (rows, 0)
    assert not in_conflict(ward, said.statement.ref).open


def test_what_was_lost_is_out_of_stock_and_not_dispensed(ward: Ward) -> None:
    said, _ = ward.do(dispense(21, out=True))
    assert resolved(ward, said.statement.ref, Action.LOST).status is Status.ACCEPTED
    assert (stock(ward).on_hand, prescription(ward).dispensed) == (9, 0)
    entry = queue(ward)
    assert entry is not None
    assert entry.requeued == ()


@pytest.mark.parametrize(
    ("out", "action"), [(False, Action.CONFIRM_AS_GIVEN), (False, Action.LOST), (True, Action.CANCEL)]
)
def test_an_action_that_is_not_offered(ward: Ward, out: bool, action: Action) -> None:
    said, _ = ward.do(dispense(lot="L9", out=out))
    decision = resolved(ward, said.statement.ref, action)
    assert (decision.status, code(decision)) == (Status.CONFLICT if out else Status.REFUSED, "action_not_offered")
    assert in_conflict(ward, said.statement.ref).open


def test_two_pharmacists_resolve_one_conflict_and_one_does(ward: Ward) -> None:
    said, _ = ward.do(dispense(lot="L9"))
    content = resolution(ward, said.statement.ref, Action.SWITCH_LOT, lot="L1")
    first, second = ward.do(content)[1], ward.do(content)[1]
    assert (first.status, second.status, code(second)) == (Status.ACCEPTED, Status.REFUSED, "already_resolved")
    assert stock(ward).on_hand == 20


def test_a_second_resolution_of_what_was_handed_over_is_a_conflict_of_its_own(ward: Ward) -> None:
    said, _ = ward.do(dispense(lot="L9", out=True))
    content = resolution(ward, said.statement.ref, Action.CONFIRM_AS_GIVEN, lot="L1")
    ward.do(content)
    second, decision = ward.do(content)
    assert (decision.status, code(decision)) == (Status.CONFLICT, "already_resolved")
    assert (stock(ward).on_hand, in_conflict(ward, second.statement.ref).open) == (20, True)
    assert resolved(ward, second.statement.ref, Action.DISCARD_AS_DUPLICATE).status is Status.ACCEPTED
    assert stock(ward).on_hand == 20
    assert not in_conflict(ward, second.statement.ref).open


def test_a_second_handing_over_that_a_resolution_tells_of_is_counted_with_its_own_lot(ward: Ward) -> None:
    said, _ = ward.do(dispense(lot="L9", out=True))
    content = resolution(ward, said.statement.ref, Action.CONFIRM_AS_GIVEN, lot="L1", quantity=3)
    ward.do(content)
    second, _ = ward.do(content)
    assert resolved(ward, second.statement.ref, Action.CONFIRM_AS_GIVEN).status is Status.ACCEPTED
    assert (stock(ward).on_hand, prescription(ward).dispensed) == (24, 6)


def test_the_last_word_on_lot_and_quantity_counts(ward: Ward) -> None:
    said, _ = ward.do(dispense(lot="L9", out=True))
    content = resolution(ward, said.statement.ref, Action.CONFIRM_AS_GIVEN, lot="L9", quantity=3)
    ward.do(content)
    second, _ = ward.do(content)
    last = resolved(ward, second.statement.ref, Action.CONFIRM_AS_GIVEN, lot="L1", quantity=2)
    assert last.status is Status.ACCEPTED
    assert (stock(ward).on_hand, stock(ward, "L9").shortage, prescription(ward).dispensed) == (28, 3, 5)


def test_a_resolution_that_came_before_what_it_resolves_closes_both(ward: Ward) -> None:
    first = ward.say(dispense(lot="L9", out=True))
    early = ward.say(Resolve(first.signed.encoded, Action.CONFIRM_AS_GIVEN, "L1"))
    assert code(ward.submit(early)) == "awaits"
    assert code(ward.submit(later(early, NOW + DAY))) == "reference_unknown"
    assert code(ward.submit(first)) == "lot_unknown"
    content = resolution(ward, early.statement.ref, Action.TRY_AGAIN)
    assert ward.do(content)[1].status is Status.ACCEPTED
    for each in (first, early):
        assert not in_conflict(ward, each.statement.ref).open
    assert stock(ward).on_hand == 20
    assert code(ward.do(resolution(ward, first.statement.ref, Action.CONFIRM_AS_GIVEN))[1]) == "already_resolved"


@pytest.mark.parametrize("action", [Action.TRY_AGAIN, Action.CONFIRM_AS_GIVEN])
@pytest.mark.parametrize(
    ("early", "on_hand", "dispensed"),
    [
        (Action.RETURNED, 30, 0),
        (Action.LOST, 20, 0),
        (Action.SWITCH_LOT, 20, 10),
        (Action.CONFIRM_AS_GIVEN, 20, 10),
    ],
)
def test_a_resolution_tried_again_or_confirmed_does_what_it_says(
    ward: Ward, action: Action, early: Action, on_hand: int, dispensed: int
) -> None:
    first = ward.say(dispense(lot="L9", out=True))
    said = ward.say(Resolve(first.signed.encoded, early, None if early is Action.RETURNED else "L1"))
    ward.submit(said)
    ward.submit(later(said, NOW + DAY))
    ward.submit(first)
    assert ward.do(resolution(ward, said.statement.ref, action))[1].status is Status.ACCEPTED
    assert (stock(ward).on_hand, prescription(ward).dispensed) == (on_hand, dispensed)
    assert not in_conflict(ward, first.statement.ref).open


def test_a_switched_lot_that_is_confirmed_counts_whatever_the_books_say(ward: Ward) -> None:
    first = ward.say(dispense(lot="L9", out=True))
    said = ward.say(Resolve(first.signed.encoded, Action.SWITCH_LOT, "L8"))
    ward.submit(said)
    ward.submit(later(said, NOW + DAY))
    ward.submit(first)
    assert code(resolved(ward, said.statement.ref, Action.TRY_AGAIN)) == "lot_unknown"
    assert resolved(ward, said.statement.ref, Action.CONFIRM_AS_GIVEN).status is Status.ACCEPTED
    assert (stock(ward, "L8").shortage, prescription(ward).dispensed) == (10, 10)


def test_confirming_a_resolution_closes_what_it_was_about() -> None:
    ward = Ward()
    prescribed(ward)
    stocked(ward)
    said, _ = ward.do(dispense(lot="L9", out=True))
    content = resolution(ward, said.statement.ref, Action.CONFIRM_AS_GIVEN, lot="L1")
    early = ward.say(content, at=NOW - 9 * DAY)
    assert code(ward.submit(early)) == "grant_not_in_force"
    assert in_conflict(ward, said.statement.ref).open
    assert ward.do(content)[1].status is Status.ACCEPTED
    assert stock(ward).on_hand == 20


def test_a_resolution_of_what_is_in_no_conflict(ward: Ward) -> None:
    said, _ = ward.do(dispense())
    decision = ward.do(Resolve(said.encoded, Action.CANCEL))[1]
    assert (decision.status, code(decision)) == (Status.REFUSED, "conflict_unknown")
    short, _ = ward.do(dispense(lot="L9"))
    forged = structs.replace(
        resolution(ward, short.statement.ref, Action.CANCEL), statement=b"\x01" + short.encoded[1:]
    )
    assert code(ward.do(forged)[1]) == "conflict_unknown"


def test_a_reused_id_is_kept_and_can_be_confirmed(ward: Ward) -> None:
    first, _ = ward.do(dispense(out=True))
    second, decision = ward.do(dispense(3, out=True), id=first.statement.id)
    assert (decision.status, code(decision)) == (Status.CONFLICT, "key_reused")
    stored = ward.statement(first.statement.ref)
    assert stored is not None
    assert (stored.signed, stored.verdict.status) == (first, Status.ACCEPTED)
    assert in_conflict(ward, first.statement.ref).statement == second.encoded
    assert resolved(ward, first.statement.ref, Action.CONFIRM_AS_SEPARATE).status is Status.ACCEPTED
    assert (stock(ward).on_hand, prescription(ward).dispensed) == (17, 13)


def test_a_reused_id_never_hides_the_conflict_that_has_it(ward: Ward) -> None:
    first, _ = ward.do(dispense(lot="L9", out=True))
    kept = in_conflict(ward, first.statement.ref)
    second, decision = ward.do(dispense(3, out=True), id=first.statement.id)
    assert code(decision) == "key_reused"
    assert in_conflict(ward, first.statement.ref) == kept
    assert second.encoded in ward.notes.values()


def test_a_dispense_said_in_a_patients_log_can_only_be_closed(ward: Ward) -> None:
    said, decision = ward.do(dispense(out=True), target="patient/p-1/log")
    assert code(decision) == "wrong_document"
    ward.sign_in("pharmacist", "bo", ward.people["pharmacist"].roles, ("ward", "pharmacy"))
    content = resolution(ward, said.statement.ref, Action.CONFIRM_AS_GIVEN, "patient/p-1")
    assert code(ward.do(content, target="patient/p-1/log")[1]) == "wrong_document"
    closing = structs.replace(content, action=Action.ENTERED_IN_ERROR)
    assert ward.do(closing, target="patient/p-1/log")[1].status is Status.ACCEPTED
    assert stock(ward).on_hand == 30


def test_what_the_books_cannot_hold_is_not_counted(ward: Ward) -> None:
    said, _ = ward.do(dispense(9_999_999, lot="L9", out=True))
    assert resolved(ward, said.statement.ref, Action.CONFIRM_AS_GIVEN).status is Status.ACCEPTED
    more, _ = ward.do(dispense(9_999_999, lot="L9", out=True))
    assert code(resolved(ward, more.statement.ref, Action.CONFIRM_AS_GIVEN)) == "content_invalid"
    assert in_conflict(ward, more.statement.ref).open


def test_a_prescription_counts_no_more_than_its_books_hold_whatever_the_lots(ward: Ward) -> None:
    first, _ = ward.do(dispense(MAX_QUANTITY_UNITS, lot="L8", out=True))
    assert resolved(ward, first.statement.ref, Action.CONFIRM_AS_GIVEN).status is Status.ACCEPTED
    more, _ = ward.do(dispense(1, lot="L9", out=True))
    assert code(resolved(ward, more.statement.ref, Action.CONFIRM_AS_GIVEN)) == "content_invalid"
    assert prescription(ward).dispensed == MAX_QUANTITY_UNITS


def test_fifty_devices_dispense_the_last_ten(ward: Ward) -> None:
    ward = Ward()
    prescribed(ward, order=(*ORDER[:4], Supply(50, "{tablet}", 1, "pharmacy")))
    stocked(ward, 10)
    outcomes = [ward.do(dispense(1))[1] for _ in range(50)]
    assert [each.status for each in outcomes].count(Status.ACCEPTED) == 10
    assert all(each.actions for each in outcomes if each.status is Status.CONFLICT)
    assert (stock(ward).on_hand, prescription(ward).dispensed) == (0, 10)
    entry = queue(ward)
    assert entry is not None
    assert len(entry.requeued) == 40
