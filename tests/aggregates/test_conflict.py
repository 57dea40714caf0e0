"""What conflicts offer: the contract's actions are there, and each reason that a kind can meet offers something."""

import pytest

from crdtmed.aggregates.conflict import ACTIONS, FACT_ACTIONS, INTENTION_ACTIONS, Action, actions_for
from crdtmed.contract import CONFLICT_RULES, KINDS, Kind, Nature
from crdtmed.reasons import CODES, RETRIES

GATES = [
    *("wrong_document", "grant_unknown", "user_withdrawn", "grant_not_in_force"),
    *("role_missing", "site_not_granted", "patient_not_in_care"),
]
DISPENSING = [
    *("prescription_unknown", "superseded", "prescription_status", "wrong_site", "wrong_item", "over_authorised"),
    *("item_unknown", "unit_mismatch", "lot_unknown", "lot_expired", "stock_short"),
]
ANY_FACT = ["key_reused", "already_reentered", "reference_unknown", "content_invalid"]
FACTS = [kind for kind, rule in KINDS.items() if rule.nature is Nature.FACT]


def test_every_code_is_one_of_the_reasons_and_none_is_a_retry() -> None:
    codes = {code for code, _ in ACTIONS} | set(FACT_ACTIONS) | set(INTENTION_ACTIONS)
    assert codes <= set(CODES)
    assert not codes & RETRIES


def test_short_stock_offers_what_the_contract_names() -> None:
    offered = actions_for("stock_short", Kind.DISPENSE, False)
    assert set(CONFLICT_RULES[0].actions) <= set(offered)
    assert offered[:3] == CONFLICT_RULES[0].actions


def test_a_diverged_session_offers_what_the_contract_names() -> None:
    assert actions_for("session_diverged", Kind.RECONCILIATION_OPEN, False) == CONFLICT_RULES[1].actions


@pytest.mark.parametrize("code", [*DISPENSING, *GATES, *ANY_FACT])
def test_what_was_handed_over_is_never_cancelled_and_never_without_an_action(code: str) -> None:
    offered = actions_for(code, Kind.DISPENSE, True)
    assert offered
    assert not {Action.CANCEL, Action.DISCARD} & set(offered)
    assert len(set(offered)) == len(offered)


@pytest.mark.parametrize("code", DISPENSING)
def test_what_was_handed_over_can_be_confirmed_returned_or_lost(code: str) -> None:
    before, after = actions_for(code, Kind.DISPENSE, False), actions_for(code, Kind.DISPENSE, True)
    assert Action.CANCEL in before
    assert {Action.CONFIRM_AS_GIVEN, Action.RETURNED, Action.LOST} <= set(after)
    assert set(before) - {Action.CANCEL} <= set(after)


@pytest.mark.parametrize("code", [*GATES, *ANY_FACT])
@pytest.mark.parametrize("kind", FACTS)
def test_every_fact_has_an_action_for_every_reason_that_it_can_meet(kind: Kind, code: str) -> None:
    assert actions_for(code, kind, False)


@pytest.mark.parametrize("code", ["already_resolved", *GATES])
def test_a_resolution_of_what_was_handed_over_is_a_conflict_of_its_own(code: str) -> None:
    assert Action.CONFIRM_AS_GIVEN in actions_for(code, Kind.RESOLVE, True)
    assert actions_for(code, Kind.RESOLVE, False) == (Action.DISCARD,)


@pytest.mark.parametrize(
    ("code", "kind", "offered"),
    [
        ("superseded", Kind.STOP, (Action.STOP_SUCCESSOR, Action.DISCARD)),
        ("superseded", Kind.HOLD, (Action.STOP_SUCCESSOR, Action.DISCARD)),
        ("superseded", Kind.RESUME, (Action.DISCARD,)),
        ("draft_closed", Kind.DRAFT_WRITE, (Action.DISCARD, Action.START_AMENDMENT)),
        ("draft_changed", Kind.SIGN, (Action.REDO, Action.DISCARD)),
        ("redo", Kind.ADJUST, (Action.REDO, Action.DISCARD)),
        ("possible_duplicate_receipt", Kind.RECEIPT, (Action.CONFIRM_AS_SEPARATE, Action.DISCARD_AS_DUPLICATE)),
        ("session_status", Kind.RECONCILIATION_RECORD, (Action.RESTART_SESSION, Action.DISCARD)),
        ("role_missing", Kind.SIGN, ()),
        ("stock_short", Kind.SIGN, ()),
    ],
)
def test_what_is_offered(code: str, kind: Kind, offered: tuple[Action, ...]) -> None:
    assert actions_for(code, kind, False) == offered
