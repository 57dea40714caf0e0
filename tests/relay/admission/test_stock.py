"""Receipts, which are never refused, and adjustments, which need a supervisor's fresh look."""

from typing import Any

import pytest

from crdtmed.aggregates.conflict import Action
from crdtmed.aggregates.stock_item import Adjust, AdjustReason, MovementType
from crdtmed.reasons import BelowZero, PossibleDuplicateReceipt, VersionStale, code_of
from crdtmed.verdict import Status
from relay.admission.effects import Decision
from relay.admission.ledger import empty, moved, taken
from tests.relay.admission.memory_port import Ward
from tests.relay.admission.stories import dispense, in_conflict, prescribed, receipt, resolution, stock, stocked


@pytest.fixture
def ward() -> Ward:
    return Ward()


def code(decision: Decision) -> str:
    return code_of(decision.reason) if decision.reason is not None else ""


def adjust(ward: Ward, delta: int, **changes: Any) -> Adjust:
    said: dict[str, Any] = {"reason": AdjustReason.COUNT, "version_seen": stock(ward).version}
    return Adjust("para", "L1", delta, **(said | changes))


def test_receipts_add_up(ward: Ward) -> None:
    stocked(ward, 30)
    stocked(ward, 12)
    assert (stock(ward).on_hand, stock(ward).version) == (42, 2)
    assert [row.type for row in ward.ledger] == [MovementType.RECEIPT] * 2


def test_the_same_delivery_again_is_asked_about(ward: Ward) -> None:
    first, _ = ward.do(receipt())
    second, decision = ward.do(receipt())
    assert decision.reason == PossibleDuplicateReceipt(first.statement.ref)
    assert (decision.status, decision.actions) == (
        Status.CONFLICT,
        (Action.CONFIRM_AS_SEPARATE, Action.DISCARD_AS_DUPLICATE),
    )
    assert stock(ward).on_hand == 30
    assert in_conflict(ward, second.statement.ref).open


@pytest.mark.parametrize(("action", "on_hand"), [("confirm_as_separate", 60), ("discard_as_duplicate", 30)])
def test_somebody_says_whether_it_is_a_second_delivery(ward: Ward, action: str, on_hand: int) -> None:
    ward.do(receipt())
    second, _ = ward.do(receipt())
    said, decision = ward.do(resolution(ward, second.statement.ref, Action(action)), who="clerk")
    assert decision.status is Status.ACCEPTED
    assert stock(ward).on_hand == on_hand
    assert in_conflict(ward, second.statement.ref).resolved_by == said.statement.ref


@pytest.mark.parametrize(
    "changes",
    [{"supplier": "Other"}, {"note": "N-2"}, {"quantity": 31}, {"lot": "L2"}, {"item": "para-b"}],
    ids=lambda it: next(iter(it)),
)
def test_what_differs_is_no_duplicate(ward: Ward, changes: dict[str, Any]) -> None:
    ward.do(receipt())
    content = receipt(**{key: value for key, value in changes.items() if key != "supplier"})
    if "supplier" in changes:
        content = type(content)(**({f: getattr(content, f) for f in content.__struct_fields__} | changes))
    assert ward.do(content)[1].status is Status.ACCEPTED


def test_a_duplicate_of_another_site_is_none(ward: Ward) -> None:
    ward.do(receipt())
    ward.sign_in("clerk", "di", ward.people["clerk"].roles, ("ward",))
    assert ward.do(receipt(), target="site/ward/log")[1].status is Status.ACCEPTED


def test_a_receipt_that_was_in_conflict_is_no_duplicate_of_itself(ward: Ward) -> None:
    said, decision = ward.do(receipt(item="new"))
    assert code(decision) == "item_unknown"
    content = resolution(ward, said.statement.ref, Action.TRY_AGAIN)
    assert code(ward.do(content, who="clerk")[1]) == "item_unknown"
    item = ward.held["formulary", "item/para"]
    ward.put("formulary", type(item)(**({f: getattr(item, f) for f in item.__struct_fields__} | {"code": "new"})))
    assert ward.do(content, who="clerk")[1].status is Status.ACCEPTED
    assert stock(ward, item="new").on_hand == 30


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"unit": "mL"}, "unit_mismatch"),
        ({"expiry": "2027-02-28"}, "content_invalid"),
        ({"quantity": 10_000_000}, "content_invalid"),
        ({"item": "nothing"}, "item_unknown"),
    ],
)
def test_what_cannot_be_counted_is_kept(ward: Ward, changes: dict[str, Any], reason: str) -> None:
    stocked(ward)
    said, decision = ward.do(receipt(**({"note": "N-9"} | changes)))
    assert (decision.status, code(decision)) == (Status.CONFLICT, reason)
    assert in_conflict(ward, said.statement.ref).open
    assert stock(ward).on_hand == 30


def test_an_adjustment_moves_and_closes(ward: Ward) -> None:
    stocked(ward)
    assert ward.do(adjust(ward, -3))[1].status is Status.ACCEPTED
    assert (stock(ward).on_hand, ward.ledger[-1].type) == (27, MovementType.ADJUSTMENT)


def test_an_adjustment_of_what_changed_since_is_for_its_supervisor_to_redo(ward: Ward) -> None:
    stocked(ward)
    late = adjust(ward, -3)
    stocked(ward, 5)
    said, decision = ward.do(late)
    assert decision.reason == VersionStale(1, 2)
    assert (decision.status, decision.actions) == (Status.CONFLICT, (Action.REDO, Action.DISCARD))
    assert stock(ward).on_hand == 35
    content = resolution(ward, said.statement.ref, Action.REDO)
    assert ward.do(content, who="supervisor")[1].status is Status.ACCEPTED


@pytest.mark.parametrize(("delta", "closes"), [(-31, 0), (-1, 1)])
def test_an_adjustment_never_goes_below_zero(ward: Ward, delta: int, closes: int) -> None:
    stocked(ward)
    _, decision = ward.do(adjust(ward, delta, closes_shortage=closes))
    assert (decision.status, decision.reason) == (Status.REFUSED, BelowZero(30, 0))


def test_an_adjustment_goes_to_zero(ward: Ward) -> None:
    stocked(ward)
    assert ward.do(adjust(ward, -30))[1].status is Status.ACCEPTED
    assert stock(ward).on_hand == 0


def test_an_adjustment_closes_a_shortage(ward: Ward) -> None:
    prescribed(ward)
    stocked(ward, 4)
    said, _ = ward.do(dispense(out=True))
    ward.do(resolution(ward, said.statement.ref, Action.CONFIRM_AS_GIVEN))
    stocked(ward, 20)
    _, decision = ward.do(adjust(ward, -6, reason=AdjustReason.CLOSES_SHORTAGE, closes_shortage=6))
    assert decision.status is Status.ACCEPTED
    assert (stock(ward).on_hand, stock(ward).shortage) == (14, 0)


def test_an_adjustment_of_a_lot_that_nobody_has(ward: Ward) -> None:
    _, decision = ward.do(Adjust("para", "L7", 1, AdjustReason.COUNT, 1))
    assert (decision.status, code(decision)) == (Status.REFUSED, "lot_unknown")


def test_an_adjustment_beyond_what_the_books_hold(ward: Ward) -> None:
    stocked(ward)
    assert code(ward.do(adjust(ward, 10_000_000))[1]) == "content_invalid"


def test_a_wrong_receipt_is_corrected_by_an_adjustment_that_names_it(ward: Ward) -> None:
    wrong = stocked(ward)
    said = adjust(ward, -20, reason=AdjustReason.WRONG_RECEIPT, corrects=wrong)
    assert ward.do(said)[1].status is Status.ACCEPTED
    assert stock(ward).on_hand == 10


def test_a_receipt_that_counts_through_a_resolution_can_be_corrected(ward: Ward) -> None:
    ward.do(receipt())
    second, _ = ward.do(receipt())
    through, _ = ward.do(resolution(ward, second.statement.ref, Action.CONFIRM_AS_SEPARATE), who="clerk")
    said = adjust(ward, -30, reason=AdjustReason.WRONG_RECEIPT, corrects=through.statement.ref)
    assert ward.do(said)[1].status is Status.ACCEPTED
    uncounted = adjust(ward, -30, reason=AdjustReason.WRONG_RECEIPT, corrects=second.statement.ref)
    assert code(ward.do(uncounted)[1]) == "content_invalid"


def test_an_adjustment_that_corrects_no_receipt_of_the_lot(ward: Ward) -> None:
    stocked(ward)
    other = stocked(ward, 5, "L2")
    said = adjust(ward, -1, reason=AdjustReason.WRONG_RECEIPT, corrects=other)
    _, decision = ward.do(said)
    assert (decision.status, code(decision)) == (Status.REFUSED, "content_invalid")


def test_a_ledger_row_beyond_its_range_is_never_made() -> None:
    lot = empty("para", "L1", "{tablet}", None)
    with pytest.raises(ValueError, match="would have -1 on hand"):
        moved("pharmacy", lot, "ref", ((MovementType.ADJUSTMENT, -1),))
    assert len(taken("pharmacy", lot, "ref", 3, MovementType.DISPENSE)) == 2
