"""One case for each reason of the list: a reason without a case fails, and so does a case that gets another one."""

from collections.abc import Callable
from typing import Any, Final

import pytest

from crdtmed.aggregates.alert_override_record import Override, OverrideReason
from crdtmed.aggregates.conflict import Action, Resolve
from crdtmed.aggregates.content import Content
from crdtmed.aggregates.draft_view import draft_digest
from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.medication_administration import Correct
from crdtmed.aggregates.prescription import Sign, Stop
from crdtmed.aggregates.prescription_draft import Dose, DraftWrite, Group
from crdtmed.aggregates.reconciliation_session import Complete, Open
from crdtmed.aggregates.stock_item import Adjust, AdjustReason
from crdtmed.contract import Role
from crdtmed.limits import AWAITS_MS, DRIFT_MS
from crdtmed.reasons import CODES, RETRIES, code_of
from crdtmed.verdict import Status
from relay.admission.effects import Decision
from relay.admission.facts import ChallengeState
from tests.relay.admission.memory_port import DAY, NOW, Ward
from tests.relay.admission.stories import (
    CRITICAL,
    ORDER,
    administer,
    amended,
    answered,
    asked,
    dispense,
    drafted,
    later,
    prescribed,
    receipt,
    resolution,
    signed,
    stock,
    stocked,
    viewed,
)

ELSEWHERE: Final = frozenset({"segment_closed", "busy", "device_revoked"})
"""Reasons that the session and the commit give, before a statement reaches admission."""


Case = Callable[[Ward], Decision]


def said(content: Content, before: Callable[[Ward], object] = lambda ward: None, **how: Any) -> Case:
    """A case: something happens, then somebody says ``content``."""

    def case(ward: Ward) -> Decision:
        before(ward)
        return ward.do(content, **how)[1]

    return case


def ready(ward: Ward) -> None:
    """A prescription and stock for it."""
    prescribed(ward)
    stocked(ward)


def _key_reused(ward: Ward) -> Decision:
    first, _ = ward.do(receipt())
    return ward.do(receipt(31), id=first.statement.id)[1]


def _sign(ward: Ward, **how: Any) -> Decision:
    view = drafted(ward)
    return asked(ward, Sign("rx-1", draft_digest(view)), **({"seen": view.seen} | how))[1]


def _reference_unknown(ward: Ward) -> Decision:
    correcting = ward.say(Correct(f"{ward.people['nurse'].device}.{'a' * 16}", "entered-in-error", "twice"))
    ward.submit(correcting)
    return ward.submit(later(correcting, NOW + AWAITS_MS))


def _already_reentered(ward: Ward) -> Decision:
    held = ward.quarantine(receipt())
    ward.do(receipt(reenters=held))
    return ward.do(receipt(reenters=held))[1]


def _short(ward: Ward) -> str:
    prescribed(ward)
    return ward.do(dispense(lot="L9"))[0].statement.ref


def _conflict_unknown(ward: Ward) -> Decision:
    ready(ward)
    accepted, _ = ward.do(dispense())
    return ward.do(Resolve(accepted.encoded, Action.CANCEL))[1]


def _already_resolved(ward: Ward) -> Decision:
    content = resolution(ward, _short(ward), Action.CANCEL)
    ward.do(content)
    return ward.do(content)[1]


def _draft_changed(ward: Ward) -> Decision:
    view = drafted(ward)
    ward.do(DraftWrite("rx-1", Group.DOSE, Dose(Quantity("1", "g"))), seen=view.seen)
    return asked(ward, Sign("rx-1", draft_digest(view)), seen=view.seen)[1]


def _draft_incomplete(ward: Ward) -> Decision:
    drafted(ward, order=ORDER[:4])
    return signed(ward)[1]


def _draft_unsettled(ward: Ward) -> Decision:
    view = drafted(ward)
    for quantity in ("1", "2"):
        ward.do(DraftWrite("rx-1", Group.DOSE, Dose(Quantity(quantity, "g"))), seen=view.seen)
    return signed(ward)[1]


def _override(ward: Ward, **changes: Any) -> Decision:
    drafted(ward)
    signed(ward, "rx-1", CRITICAL)
    told: dict[str, Any] = {"alert": "c-1", "reason": OverrideReason.WILL_MONITOR, "snapshot": "2026-02"}
    return ward.do(Override("rx-1", draft_digest(viewed(ward)), **(told | changes)))[1]


def _unavailable(ward: Ward) -> Decision:
    view = drafted(ward)
    submission = ward.say(Sign("rx-1", draft_digest(view)), seen=view.seen)
    return ward.submit(answered(ward, submission, unavailable="no answer within 3 s"))


def _patient_moved(ward: Ward) -> Decision:
    view = drafted(ward)
    submission = answered(ward, ward.say(Sign("rx-1", draft_digest(view)), seen=view.seen))
    ward.do(Open("s-1"))
    return ward.submit(submission)


def _alerts_open(ward: Ward) -> Decision:
    drafted(ward)
    return signed(ward, "rx-1", CRITICAL)[1]


def _adjust(ward: Ward, delta: int, stale: int = 0) -> Decision:
    stocked(ward)
    said = Adjust("para", "L1", delta, AdjustReason.COUNT, stock(ward).version + stale)
    return ward.do(said)[1]


def _superseded(ward: Ward) -> Decision:
    prescribed(ward)
    amended(ward, "rx-2", "rx-1")
    return ward.do(Stop("rx-1", "rash"))[1]


def _ungranted(ward: Ward) -> None:
    ward.grants.clear()


def _withdrawn(ward: Ward) -> None:
    ward.withdrawn["cy"] = NOW


def _abroad(ward: Ward) -> None:
    ward.sign_in("nurse", "cy", (Role.NURSE,), ("elsewhere",))


def _wrong_site(ward: Ward) -> Decision:
    prescribed(ward)
    ward.sign_in("pharmacist", "bo", (Role.PHARMACIST,), ("ward",))
    return ward.do(dispense(), target="site/ward/log")[1]


CASES: Final[dict[str, tuple[Status, Case]]] = {
    "key_reused": (Status.CONFLICT, _key_reused),
    "wrong_document": (Status.CONFLICT, said(receipt(), target="patient/p-1/log")),
    "content_invalid": (Status.CONFLICT, said(administer(status="not-given", dose=None))),
    "grant_unknown": (Status.CONFLICT, said(administer(), _ungranted)),
    "user_withdrawn": (Status.REFUSED, said(Open("s-1"), _withdrawn)),
    "grant_not_in_force": (Status.REFUSED, said(Open("s-1"), at=NOW - 2 * DAY)),
    "role_missing": (Status.REFUSED, said(Stop("rx-1", "well"), ready, who="nurse")),
    "site_not_granted": (Status.CONFLICT, said(receipt(), target="site/ward/log")),
    "patient_not_in_care": (Status.REFUSED, said(Open("s-1"), _abroad)),
    "needs_challenge": (Status.REFUSED, lambda ward: _sign(ward, challenge=ChallengeState.ABSENT)),
    "challenge_spent": (Status.REFUSED, lambda ward: _sign(ward, challenge=ChallengeState.SPENT)),
    "restamp": (Status.RETRY, said(Open("s-1"), at=NOW + DRIFT_MS + 1)),
    "awaits": (Status.RETRY, said(Correct(f"{'a' * 8}.{'a' * 16}", "entered-in-error", "twice"))),
    "reference_unknown": (Status.CONFLICT, _reference_unknown),
    "redo": (Status.CONFLICT, lambda ward: _sign(ward, handed_back=True)),
    "already_reentered": (Status.CONFLICT, _already_reentered),
    "conflict_unknown": (Status.REFUSED, _conflict_unknown),
    "already_resolved": (Status.REFUSED, _already_resolved),
    "action_not_offered": (
        Status.REFUSED,
        lambda ward: ward.do(resolution(ward, _short(ward), Action.CONFIRM_AS_GIVEN))[1],
    ),
    "draft_closed": (Status.CONFLICT, said(DraftWrite("rx-1", Group.DOSE, ORDER[1]), ready)),
    "draft_unknown": (Status.REFUSED, lambda ward: asked(ward, Sign("rx-1", bytes(32)))[1]),
    "draft_changed": (Status.CONFLICT, _draft_changed),
    "draft_incomplete": (Status.REFUSED, _draft_incomplete),
    "draft_unsettled": (Status.REFUSED, _draft_unsettled),
    "prescription_unknown": (Status.REFUSED, said(Stop("rx-1", "well"))),
    "superseded": (Status.CONFLICT, _superseded),
    "prescription_status": (
        Status.CONFLICT,
        said(Stop("rx-1", "well"), lambda ward: (prescribed(ward), ward.do(Stop("rx-1", "well")))),
    ),
    "wrong_site": (Status.CONFLICT, _wrong_site),
    "wrong_item": (Status.CONFLICT, said(dispense(item="amox"), ready)),
    "over_authorised": (Status.CONFLICT, said(dispense(21), ready)),
    "item_unknown": (Status.CONFLICT, said(receipt(item="nothing"))),
    "unit_mismatch": (Status.CONFLICT, said(receipt(unit="mL"))),
    "lot_unknown": (Status.CONFLICT, said(dispense(lot="L9"), ready)),
    "lot_expired": (Status.CONFLICT, said(dispense(occurred_at=NOW + 400 * DAY), ready)),
    "stock_short": (Status.CONFLICT, said(dispense(), lambda ward: (prescribed(ward), stocked(ward, 9)))),
    "possible_duplicate_receipt": (Status.CONFLICT, said(receipt(), lambda ward: ward.do(receipt()))),
    "version_stale": (Status.CONFLICT, lambda ward: _adjust(ward, -1, stale=1)),
    "below_zero": (Status.REFUSED, lambda ward: _adjust(ward, -31)),
    "session_status": (Status.CONFLICT, said(Complete("s-1"))),
    "session_diverged": (Status.CONFLICT, said(Open("s-2"), lambda ward: ward.do(Open("s-1")))),
    "snapshot_not_in_force": (Status.REFUSED, lambda ward: _override(ward, snapshot="2026-01")),
    "alert_unknown": (Status.REFUSED, lambda ward: _override(ward, alert="c-9")),
    "knowledge_unavailable": (Status.REFUSED, _unavailable),
    "patient_moved": (Status.RETRY, _patient_moved),
    "alerts_open": (Status.REFUSED, _alerts_open),
}


@pytest.mark.parametrize("code", [code for code in CODES if code not in ELSEWHERE])
def test_each_reason_is_given_where_it_applies(code: str) -> None:
    status, case = CASES[code]
    decision = case(Ward())
    assert decision.reason is not None
    assert (code_of(decision.reason), decision.status) == (code, status)
    assert (status is Status.RETRY) is (code in RETRIES)
    assert bool(decision.actions) is (status is Status.CONFLICT)


def test_a_conflict_is_in_a_document_where_people_see_it() -> None:
    for code, (status, case) in CASES.items():
        ward = Ward()
        decision = case(ward)
        if status is Status.CONFLICT:
            assert any(key.startswith("conflict/") for _, key in ward.held), code
            assert any(type(effect).__name__ == "Put" for effect in decision.effects), code
