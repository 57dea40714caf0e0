"""The gate table, row by row from the contract: who may say what, where, when, and what needs the relay."""

from collections.abc import Callable
from itertools import product
from typing import Any, Final

import pytest
from msgspec import structs

from crdtmed.aggregates.alert_override_record import Override, OverrideReason
from crdtmed.aggregates.conflict import Action, BreakGlass, QuarantineRegister, Resolve
from crdtmed.aggregates.content import Content
from crdtmed.aggregates.draft_view import draft_digest
from crdtmed.aggregates.medication_administration import Correct
from crdtmed.aggregates.patient import PatientRegister
from crdtmed.aggregates.prescription import Amend, Hold, Resume, Sign, Stop
from crdtmed.aggregates.prescription_draft import DraftWrite, Group
from crdtmed.aggregates.reconciliation_session import Complete, HomeMedication, Open, Record
from crdtmed.aggregates.reconciliation_session import Decision as Choice
from crdtmed.aggregates.stock_item import Adjust, AdjustReason
from crdtmed.contract import CAPABILITIES, KINDS, Kind, Nature, Offline, Role, capability_of
from crdtmed.limits import AWAITS_MS, DRIFT_MS, LATE_MS
from crdtmed.reasons import REASONS, code_of
from crdtmed.verdict import Flag, Status
from relay.admission import gates
from relay.admission.admit import JUDGE
from relay.admission.facts import ChallengeState, Submission
from relay.admission.resolutions import CARRY
from tests.relay.admission.memory_port import DAY, HOUR, NOW, Ward, pushed_in, target_of
from tests.relay.admission.stories import (
    CRITICAL,
    ORDER,
    administer,
    answered,
    asked,
    dispense,
    drafted,
    in_conflict,
    later,
    prescribed,
    receipt,
    resolution,
    signed,
    stock,
    stocked,
    viewed,
)

ASPIRIN: Final = HomeMedication("m-1", "Aspirin")


def _sign(ward: Ward) -> tuple[Content, dict[str, Any]]:
    view = drafted(ward)
    return Sign("rx-1", draft_digest(view)), {"seen": view.seen}


def _amend(ward: Ward) -> tuple[Content, dict[str, Any]]:
    prescribed(ward, "rx-0")
    view = drafted(ward)
    return Amend("rx-1", draft_digest(view), "rx-0", "dose"), {"seen": view.seen}


def _resume(ward: Ward) -> tuple[Content, dict[str, Any]]:
    prescribed(ward)
    ward.do(Hold("rx-1", "surgery"))
    return Resume("rx-1", "done"), {}


def _stop(ward: Ward) -> tuple[Content, dict[str, Any]]:
    prescribed(ward)
    return Stop("rx-1", "well"), {}


def _hold(ward: Ward) -> tuple[Content, dict[str, Any]]:
    prescribed(ward)
    return Hold("rx-1", "surgery"), {}


def _dispense(ward: Ward) -> tuple[Content, dict[str, Any]]:
    prescribed(ward)
    stocked(ward)
    return dispense(), {}


def _adjust(ward: Ward) -> tuple[Content, dict[str, Any]]:
    stocked(ward)
    return Adjust("para", "L1", -1, AdjustReason.DAMAGED, stock(ward).version), {}


def _correct(ward: Ward) -> tuple[Content, dict[str, Any]]:
    prescribed(ward)
    given, _ = ward.do(administer())
    return Correct(given.statement.ref, "entered-in-error", "wrong patient"), {}


def _override(ward: Ward) -> tuple[Content, dict[str, Any]]:
    drafted(ward)
    signed(ward, "rx-1", CRITICAL)
    digest = draft_digest(viewed(ward))
    return Override("rx-1", digest, "c-1", OverrideReason.WILL_MONITOR, "2026-02"), {}


def _record(ward: Ward) -> tuple[Content, dict[str, Any]]:
    ward.do(Open("s-1", (), (ASPIRIN,)))
    return Record("s-1", "m-1", Choice.CONTINUE), {}


def _complete(ward: Ward) -> tuple[Content, dict[str, Any]]:
    ward.do(Open("s-1"))
    return Complete("s-1"), {}


def _resolve(ward: Ward) -> tuple[Content, dict[str, Any]]:
    prescribed(ward)
    short, _ = ward.do(dispense())
    return resolution(ward, short.statement.ref, Action.CANCEL), {}


def _administer(ward: Ward) -> tuple[Content, dict[str, Any]]:
    prescribed(ward)
    return administer(), {}


ALLOWED: Final[dict[Kind, Callable[[Ward], tuple[Content, dict[str, Any]]]]] = {
    Kind.DRAFT_WRITE: lambda ward: (DraftWrite("rx-1", Group.DOSE, ORDER[1]), {}),
    Kind.SIGN: _sign,
    Kind.STOP: _stop,
    Kind.HOLD: _hold,
    Kind.RESUME: _resume,
    Kind.AMEND: _amend,
    Kind.DISPENSE: _dispense,
    Kind.RECEIPT: lambda ward: (receipt(), {}),
    Kind.ADJUST: _adjust,
    Kind.ADMINISTER: _administer,
    Kind.CORRECT: _correct,
    Kind.OVERRIDE: _override,
    Kind.RECONCILIATION_OPEN: lambda ward: (Open("s-1"), {}),
    Kind.RECONCILIATION_RECORD: _record,
    Kind.RECONCILIATION_COMPLETE: _complete,
    Kind.RESOLVE: _resolve,
    Kind.BREAK_GLASS: lambda ward: (BreakGlass("no network", NOW + HOUR), {}),
}
"""For each kind something that is admitted, after what has to come before it."""

EVERY: Final = pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.label)


def prepared(kind: Kind, **how: Any) -> tuple[Ward, Submission]:
    """A ward in which the kind's example is about to arrive, said otherwise as far as ``how`` goes."""
    ward = Ward()
    content, defaults = ALLOWED[kind](ward)
    return ward, answered(ward, ward.say(content, **(defaults | how)))


def turned_down_for(kind: Kind, code: str, ward: Ward, submission: Submission) -> None:
    """The statement is turned down for ``code``, as its nature asks for, and changes nothing but to be kept."""
    before = (dict(ward.held), list(ward.ledger))
    decision = ward.submit(submission)
    assert decision.reason is not None
    assert code_of(decision.reason) == code
    home = pushed_in(kind, submission.statement.document, NOW) and submission.statement.document
    if KINDS[kind].nature is not Nature.FACT:
        assert decision.status is Status.REFUSED
        assert (ward.held, ward.ledger) == before
        return
    assert decision.status is Status.CONFLICT
    assert decision.actions
    assert ward.ledger == before[1]
    fresh = {key for key in ward.held if key not in before[0]}
    assert all(key == f"conflict/{submission.statement.ref}" for _, key in fresh)
    assert fresh or home is None or home == "directory"
    assert all(ward.held[key] == value for key, value in before[0].items())


def test_every_kind_and_every_action_has_somebody_who_judges_it() -> None:
    assert set(JUDGE) == set(Kind) == set(ALLOWED)
    assert set(CARRY) == set(Action)


def test_the_gates_stand_in_the_order_of_the_reasons() -> None:
    spelt = {"needs_the_relay": "needs_challenge"}
    codes = [spelt.get(rule.__name__, rule.__name__) for rule in gates.GATES]
    order = [str(reason.__struct_config__.tag) for reason in REASONS]
    assert codes == [code for code in order if code in codes]
    assert len(codes) == 15


@EVERY
def test_a_gate_that_is_not_asked_of_a_kind_has_nothing_against_it(kind: Kind) -> None:
    ward, honest = prepared(kind)
    key = (honest.statement.grant, honest.statement.device)
    grant, patient = ward.grants[key], ward.held["patient/p-1", "patient"]
    assert isinstance(patient, PatientRegister)
    left_out = [rule for rule in gates.GATES if rule not in gates.GATES_OF[kind]]
    assert left_out
    for challenge, handed_back, ahead, sites, care in product(
        ChallengeState, (False, True), (False, True), (grant.sites, ()), (patient.care_sites, ())
    ):
        ward.grants[key] = structs.replace(grant, sites=sites)
        ward.held["patient/p-1", "patient"] = structs.replace(patient, care_sites=care)
        submission = structs.replace(honest, challenge=challenge, handed_back=handed_back, ahead=ahead)
        assert gates.wrong_document(ward, submission) is None
        assert [rule(ward, submission) for rule in left_out] == [None] * len(left_out)


@EVERY
def test_who_may_say_it_may(kind: Kind) -> None:
    ward, submission = prepared(kind)
    decision = ward.submit(submission)
    assert (decision.status, decision.reason) == (Status.ACCEPTED, None)


ROLES: Final = [
    (kind, role) for row in CAPABILITIES for kind in row.kinds for role in Role if row.roles and role not in row.roles
]


@pytest.mark.parametrize(("kind", "role"), ROLES, ids=lambda it: it.label if isinstance(it, Kind) else it.value)
def test_the_wrong_role(kind: Kind, role: Role) -> None:
    ward, submission = prepared(kind)
    grant = ward.grants[submission.statement.grant, submission.statement.device]
    ward.grants[grant.id, grant.device] = replace_grant(grant, roles=(role,))
    turned_down_for(kind, "role_missing", ward, submission)


@pytest.mark.parametrize(
    ("kind", "role"),
    [(kind, role) for row in CAPABILITIES for kind in row.kinds for role in sorted(row.roles)],
    ids=lambda it: it.label if isinstance(it, Kind) else it.value,
)
def test_each_role_of_the_row(kind: Kind, role: Role) -> None:
    ward, submission = prepared(kind)
    grant = ward.grants[submission.statement.grant, submission.statement.device]
    ward.grants[grant.id, grant.device] = replace_grant(grant, roles=(role,))
    assert ward.submit(submission).status is Status.ACCEPTED


def replace_grant(grant: Any, **changes: Any) -> Any:
    return type(grant)(**({name: getattr(grant, name) for name in grant.__struct_fields__} | changes))


def test_whoever_may_say_a_statement_may_resolve_its_conflict() -> None:
    for role in Role:
        ward, submission = prepared(Kind.RESOLVE)
        grant = ward.grants[submission.statement.grant, submission.statement.device]
        ward.grants[grant.id, grant.device] = replace_grant(grant, roles=(role,))
        allowed = role in capability_of(Kind.DISPENSE).roles
        assert (ward.submit(submission).status is Status.ACCEPTED) is allowed


def test_anybody_may_set_aside_what_nobody_can_read() -> None:
    ward = Ward()
    unreadable = ward.say(Resolve(bytes(65), Action.CANCEL), who="supervisor")
    first = ward.submit(unreadable)
    assert (first.status, code_of_decision(first)) == (Status.CONFLICT, "content_invalid")
    content = resolution(ward, unreadable.statement.ref, Action.ENTERED_IN_ERROR)
    assert ward.do(content, who="clerk")[1].status is Status.ACCEPTED


SITE_KINDS: Final = [kind for kind in Kind if target_of(kind).startswith("site/") and kind is not Kind.RESOLVE]
PATIENT_KINDS: Final = [kind for kind in Kind if target_of(kind).startswith("patient/")]


@pytest.mark.parametrize("kind", SITE_KINDS, ids=lambda kind: kind.label)
def test_the_wrong_site(kind: Kind) -> None:
    ward, submission = prepared(kind)
    grant = ward.grants[submission.statement.grant, submission.statement.device]
    ward.grants[grant.id, grant.device] = replace_grant(grant, sites=("elsewhere",))
    turned_down_for(kind, "site_not_granted", ward, submission)


@pytest.mark.parametrize("kind", PATIENT_KINDS, ids=lambda kind: kind.label)
def test_the_wrong_patient(kind: Kind) -> None:
    target = target_of(kind).replace("p-1", "p-2")
    ward, submission = prepared(kind, target=target, document=pushed_in(kind, target, NOW))
    turned_down_for(kind, "patient_not_in_care", ward, submission)


@pytest.mark.parametrize("kind", PATIENT_KINDS, ids=lambda kind: kind.label)
def test_a_patient_whom_nobody_registered(kind: Kind) -> None:
    target = target_of(kind).replace("p-1", "p-9")
    ward, submission = prepared(kind, target=target, document=pushed_in(kind, target, NOW))
    decision = ward.submit(submission)
    assert decision.reason is not None
    assert code_of(decision.reason) == "patient_not_in_care"
    kept = KINDS[kind].nature is Nature.FACT
    assert decision.status is (Status.CONFLICT if kept else Status.REFUSED)
    assert [alarm.kind for alarm in ward.alarms] == (["conflict_unseen"] if kept else [])


def test_a_dose_given_at_a_site_that_the_grant_does_not_cover() -> None:
    ward, _ = prepared(Kind.ADMINISTER)
    away = ward.say(administer(site="elsewhere"))
    decision = ward.submit(away)
    assert (decision.status, code_of_decision(decision)) == (Status.CONFLICT, "site_not_granted")
    given, _ = ward.do(administer())
    moved = Correct(given.statement.ref, "amended", "other site", administer(site="elsewhere"))
    assert code_of_decision(ward.do(moved)[1]) == "site_not_granted"


def code_of_decision(decision: Any) -> str:
    return code_of(decision.reason) if decision.reason is not None else ""


def test_the_queue_of_a_pharmacy_brings_its_patients_into_care() -> None:
    ward = Ward()
    opening = ward.say(Open("s-1"), who="pharmacist")
    assert code_of_decision(ward.submit(opening)) == "patient_not_in_care"
    prescribed(ward)
    assert ward.do(Open("s-2"), who="pharmacist")[1].status is Status.ACCEPTED
    ward.do(Complete("s-2"))
    ward.do(Stop("rx-1", "well"))
    assert code_of_decision(ward.do(Open("s-3"), who="pharmacist")[1]) == "patient_not_in_care"


@EVERY
@pytest.mark.parametrize("at", [-3 * DAY, 3 * DAY], ids=["before", "after"])
def test_a_grant_that_was_not_in_force(kind: Kind, at: int) -> None:
    ward, submission = prepared(kind)
    grant = ward.grants[submission.statement.grant, submission.statement.device]
    ward.grants[grant.id, grant.device] = replace_grant(
        grant, not_before=grant.not_before + at, not_after=grant.not_after + at
    )
    turned_down_for(kind, "grant_not_in_force", ward, submission)


def test_a_grant_is_judged_as_of_the_stamp() -> None:
    ward = Ward()
    late = ward.say(administer(), at=NOW, received_at=NOW + 5 * DAY)
    assert ward.submit(late).status is Status.ACCEPTED
    lapsed = ward.say(administer(), at=NOW + 2 * DAY, received_at=NOW + 5 * DAY)
    assert code_of_decision(ward.submit(lapsed)) == "grant_not_in_force"


@EVERY
def test_a_grant_that_was_never_issued(kind: Kind) -> None:
    ward, submission = prepared(kind)
    del ward.grants[submission.statement.grant, submission.statement.device]
    turned_down_for(kind, "grant_unknown", ward, submission)


@EVERY
def test_a_user_who_was_withdrawn_before_the_relay_heard_of_it(kind: Kind) -> None:
    ward, submission = prepared(kind)
    ward.withdrawn[submission.statement.grant.partition("/")[0]] = NOW
    turned_down_for(kind, "user_withdrawn", ward, submission)


@EVERY
def test_a_user_who_was_withdrawn_later(kind: Kind) -> None:
    ward, submission = prepared(kind)
    ward.withdrawn[submission.statement.grant.partition("/")[0]] = NOW + 1
    assert ward.submit(submission).status is Status.ACCEPTED


ONLINE: Final = [kind for kind in Kind if capability_of(kind).offline is Offline.NEEDS_RELAY]


@pytest.mark.parametrize("kind", ONLINE, ids=lambda kind: kind.label)
def test_what_needs_the_relay_is_refused_offline(kind: Kind) -> None:
    ward, submission = prepared(kind, challenge=ChallengeState.ABSENT)
    turned_down_for(kind, "needs_challenge", ward, submission)


@pytest.mark.parametrize("kind", ONLINE, ids=lambda kind: kind.label)
def test_a_challenge_that_was_used_or_is_too_old(kind: Kind) -> None:
    ward, submission = prepared(kind, challenge=ChallengeState.SPENT)
    turned_down_for(kind, "challenge_spent", ward, submission)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in ONLINE], ids=lambda kind: kind.label)
@pytest.mark.parametrize("challenge", list(ChallengeState))
def test_what_may_be_queued_needs_no_challenge(kind: Kind, challenge: ChallengeState) -> None:
    ward, submission = prepared(kind, challenge=challenge)
    assert ward.submit(submission).status is Status.ACCEPTED


@EVERY
def test_the_wrong_document(kind: Kind) -> None:
    for target in ("directory", "patient/p-1", "patient/p-1/drafts", "patient/p-1/log", "site/pharmacy/log"):
        if target == target_of(kind):
            continue
        ward, submission = prepared(kind, target=target, document=pushed_in(kind, target, NOW))
        turned_down_for(kind, "wrong_document", ward, submission)


@EVERY
def test_a_request_is_not_pushed_and_a_log_entry_not_requested(kind: Kind) -> None:
    ward, submission = prepared(kind)
    other = "patient/p-2/drafts" if submission.document is None else None
    turned_down_for(kind, "wrong_document", ward, structs.replace(submission, document=other))


def test_an_entry_in_a_segment_of_another_log() -> None:
    ward, submission = prepared(Kind.RECEIPT)
    turned_down_for(
        Kind.RECEIPT, "wrong_document", ward, structs.replace(submission, document="site/ward/log/2026-02-02")
    )


def test_a_resolution_belongs_in_the_log_of_what_it_resolves() -> None:
    ward, submission = prepared(Kind.RESOLVE)
    assert isinstance(submission.content, Resolve)
    turned_down_for(Kind.RESOLVE, "wrong_document", ward, ward.say(submission.content, target="patient/p-1/log"))


@EVERY
def test_a_stamp_that_is_ahead(kind: Kind) -> None:
    ward, submission = prepared(kind, at=NOW + DRIFT_MS + 1)
    decision = ward.submit(submission)
    if KINDS[kind].nature is Nature.FACT:
        assert (decision.status, decision.flags) == (Status.ACCEPTED, (Flag.CLOCK_SUSPECT,))
    else:
        assert (decision.status, code_of_decision(decision)) == (Status.RETRY, "restamp")
        assert ward.statement(submission.statement.ref) is None


@EVERY
def test_a_stamp_that_is_as_far_ahead_as_may_be(kind: Kind) -> None:
    ward, submission = prepared(kind, at=NOW + DRIFT_MS)
    assert ward.submit(submission).status is Status.ACCEPTED


def test_a_fact_ahead_is_judged_as_of_its_arrival() -> None:
    ward = Ward()
    decision = ward.submit(ward.say(administer(), at=NOW + 30 * DAY))
    assert (decision.status, Flag.CLOCK_SUSPECT in decision.flags) == (Status.ACCEPTED, True)


def test_a_handed_over_dispense_with_a_stamp_ahead_is_a_fact() -> None:
    ward = Ward()
    prescribed(ward)
    stocked(ward)
    _, decision = ward.do(dispense(out=True), at=NOW + DAY)
    assert (decision.status, decision.flags) == (Status.ACCEPTED, (Flag.CLOCK_SUSPECT,))


@pytest.mark.parametrize(("age", "flags"), [(LATE_MS, ()), (LATE_MS + 1, (Flag.LATE,))])
def test_what_comes_a_day_late_is_marked(age: int, flags: tuple[Flag, ...]) -> None:
    ward = Ward()
    prescribed(ward)
    assert ward.do(administer(), at=NOW, received_at=NOW + age)[1].flags == flags
    assert ward.do(Stop("rx-1", "well"), at=NOW, received_at=NOW + age)[1].flags == ()


def test_a_reference_is_awaited_for_a_day() -> None:
    ward = Ward()
    prescribed(ward)
    given = ward.say(administer(), received_at=NOW)
    correcting = ward.say(Correct(given.statement.ref, "entered-in-error", "twice"))
    assert code_of_decision(ward.submit(correcting)) == "awaits"
    assert code_of_decision(ward.submit(later(correcting, NOW + AWAITS_MS - 1))) == "awaits"
    assert ward.awaited_since(correcting.statement.ref) == NOW
    too_late = ward.submit(later(correcting, NOW + AWAITS_MS))
    assert (too_late.status, code_of_decision(too_late)) == (Status.CONFLICT, "reference_unknown")
    assert ward.submit(given).status is Status.ACCEPTED
    content = resolution(ward, correcting.statement.ref, Action.TRY_AGAIN, "patient/p-1")
    _, again = ward.do(content, who="nurse", target="patient/p-1/log")
    assert again.status is Status.ACCEPTED


def test_an_intention_whose_reference_never_comes_is_refused() -> None:
    ward = Ward()
    prescribed(ward)
    never = ward.say(receipt()).statement.ref
    waiting = ward.say(dispense(), seen=[never])
    assert ward.submit(waiting).status is Status.RETRY
    refused = ward.submit(later(waiting, NOW + AWAITS_MS))
    assert (refused.status, code_of_decision(refused)) == (Status.REFUSED, "reference_unknown")


def test_who_waited_was_heard_of_before_the_user_was_withdrawn() -> None:
    ward = Ward()
    prescribed(ward)
    given = ward.say(administer())
    correcting = ward.say(Correct(given.statement.ref, "entered-in-error", "twice"))
    ward.submit(correcting)
    ward.submit(given)
    ward.withdrawn["cy"] = NOW + 1
    assert ward.submit(later(correcting, NOW + HOUR)).status is Status.ACCEPTED


def test_a_statement_that_names_itself() -> None:
    ward = Ward()
    name = ward.say(administer()).statement.id
    device = ward.people["nurse"].device
    decision = ward.do(Correct(f"{device}.{name}", "entered-in-error", "twice"), id=name)[1]
    assert (decision.status, code_of_decision(decision)) == (Status.CONFLICT, "content_invalid")


@pytest.mark.parametrize("kind", ONLINE, ids=lambda kind: kind.label)
@pytest.mark.parametrize("challenge", [ChallengeState.SPENT, ChallengeState.ABSENT])
def test_what_needed_the_relay_is_to_be_done_again_after_a_restore(kind: Kind, challenge: ChallengeState) -> None:
    ward, submission = prepared(kind, handed_back=True, challenge=challenge)
    decision = ward.submit(submission)
    assert (decision.status, code_of_decision(decision)) == (Status.CONFLICT, "redo")
    assert decision.actions == (Action.REDO, Action.DISCARD)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in ONLINE], ids=lambda kind: kind.label)
def test_what_did_not_need_the_relay_is_judged_as_new_after_a_restore(kind: Kind) -> None:
    ward, submission = prepared(kind, handed_back=True)
    assert ward.submit(submission).status is Status.ACCEPTED


REENTERED: Final[dict[Kind, Callable[[str], Content]]] = {
    Kind.RECEIPT: lambda again: receipt(reenters=again),
    Kind.ADMINISTER: lambda again: administer(reenters=again),
    Kind.DISPENSE: lambda again: dispense(out=True, reenters=again),
}


@pytest.mark.parametrize("kind", list(REENTERED), ids=lambda kind: kind.label)
def test_a_quarantined_fact_is_entered_again_once(kind: Kind) -> None:
    ward = Ward()
    prescribed(ward)
    stocked(ward)
    content = dispense(out=True) if kind is Kind.DISPENSE else ALLOWED[kind](Ward())[0]
    ref = ward.quarantine(content)
    home = "patient/p-1" if kind is Kind.ADMINISTER else "site/pharmacy"
    said, decision = ward.do(REENTERED[kind](ref))
    assert decision.status is Status.ACCEPTED
    held = ward.register(home, f"quarantine/{ref}")
    assert isinstance(held, QuarantineRegister)
    assert (held.open, held.reentered_by) == (False, said.statement.ref)
    again, second = ward.do(REENTERED[kind](ref))
    assert (second.status, code_of_decision(second)) == (Status.CONFLICT, "already_reentered")
    who, target = ("nurse", f"{home}/log") if kind is Kind.ADMINISTER else ("pharmacist", f"{home}/log")
    closing = resolution(ward, again.statement.ref, Action.CONFIRM_AS_SEPARATE, home)
    assert ward.do(closing, who=who, target=target)[1].status is Status.ACCEPTED


def test_a_quarantined_fact_is_entered_again_as_what_it_was() -> None:
    ward = Ward()
    ref = ward.quarantine(receipt())
    _, decision = ward.do(dispense(out=True, reenters=ref))
    assert (decision.status, code_of_decision(decision)) == (Status.CONFLICT, "content_invalid")
    stocked(ward)
    never = ward.do(receipt(note="N-7"))[0].statement.ref
    assert code_of_decision(ward.do(receipt(reenters=never))[1]) == "content_invalid"


def test_what_is_entered_again_and_short_is_in_conflict_and_no_longer_quarantined() -> None:
    ward = Ward()
    prescribed(ward)
    ref = ward.quarantine(dispense(out=True))
    said, decision = ward.do(dispense(out=True, reenters=ref))
    assert (decision.status, code_of_decision(decision)) == (Status.CONFLICT, "lot_unknown")
    held = ward.register("site/pharmacy", f"quarantine/{ref}")
    assert isinstance(held, QuarantineRegister)
    assert held.reentered_by == said.statement.ref


def test_re_entering_by_whom_may_not_leaves_the_quarantine_open() -> None:
    ward = Ward()
    ref = ward.quarantine(receipt())
    said, decision = ward.do(receipt(reenters=ref), who="supervisor")
    assert code_of_decision(decision) == "role_missing"
    held = ward.register("site/pharmacy", f"quarantine/{ref}")
    assert isinstance(held, QuarantineRegister)
    assert held.open
    confirmed = resolution(ward, said.statement.ref, Action.CONFIRM_AS_GIVEN)
    assert ward.do(confirmed)[1].status is Status.ACCEPTED
    held = ward.register("site/pharmacy", f"quarantine/{ref}")
    assert isinstance(held, QuarantineRegister)
    assert not held.open


def test_the_same_number_on_two_statements_is_an_alarm() -> None:
    ward = Ward()
    ward.do(administer(), number=900)
    assert ward.alarms == []
    _, decision = ward.do(administer(), number=900)
    assert decision.status is Status.ACCEPTED
    assert [alarm.kind for alarm in ward.alarms] == ["number_reused"]


def test_a_number_used_again_is_told_once_however_often_its_statement_waits() -> None:
    """A device comes again for a day, and in the end more alarms than anybody reads would say the same."""
    ward = Ward()
    ward.do(administer(), number=900)
    coming = ward.say(administer())
    waiting = ward.say(Correct(coming.statement.ref, "entered-in-error", "twice"), number=900)
    for minutes in range(5):
        assert ward.submit(later(waiting, NOW + minutes * 60_000)).status is Status.RETRY
    assert ward.alarms == []
    judged = ward.submit(later(waiting, NOW + AWAITS_MS))
    assert judged.status is Status.CONFLICT
    assert Flag.NUMBER_REUSED in judged.flags
    assert [alarm.kind for alarm in ward.alarms] == ["number_reused"]


def test_broken_glass_is_seen_by_the_operator() -> None:
    ward, submission = prepared(Kind.BREAK_GLASS)
    assert ward.submit(submission).status is Status.ACCEPTED
    assert [alarm.kind for alarm in ward.alarms] == ["break_glass"]


def test_signing_waits_for_what_it_saw() -> None:
    ward = Ward()
    view = drafted(ward)
    coming = ward.say(DraftWrite("rx-1", Group.DOSE, ORDER[1]), seen=view.seen)
    _, decision = asked(ward, Sign("rx-1", bytes(32)), seen=[coming.statement.ref])
    assert code_of_decision(decision) == "awaits"


def test_a_conflict_of_a_handed_over_dispense_is_in_both_documents() -> None:
    ward = Ward()
    prescribed(ward)
    kept, _ = ward.do(dispense(out=True))
    assert in_conflict(ward, kept.statement.ref) == in_conflict(ward, kept.statement.ref, "patient/p-1")
    tentative, _ = ward.do(dispense())
    assert ward.register("patient/p-1", f"conflict/{tentative.statement.ref}") is None
