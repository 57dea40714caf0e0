"""Reconciliation sessions: two openings enter both in error, in any order, and one new session stands for them."""

from itertools import permutations

import pytest

from crdtmed.aggregates.conflict import Action
from crdtmed.aggregates.reconciliation_session import Complete, Decision, HomeMedication, Open, Record, SessionStatus
from crdtmed.aggregates.registers import encode_register
from crdtmed.contract import CONFLICT_RULES
from crdtmed.limits import MAX_HOME_MEDICATIONS, MAX_LONG_TEXT_CHARS, MAX_REGISTER_BYTES, MAX_RESTARTED_SESSIONS
from crdtmed.reasons import ContentInvalid, SessionDiverged, code_of
from crdtmed.reasons import SessionStatus as WrongStatus
from crdtmed.verdict import Status
from tests.relay.admission.memory_port import Ward
from tests.relay.admission.stories import in_conflict, resolution, session

HOMES = (HomeMedication("m-1", "Aspirin"), HomeMedication("m-2", "Warfarin"))
IN_ERROR = SessionStatus.ENTERED_IN_ERROR


@pytest.fixture
def ward() -> Ward:
    return Ward()


def test_a_session_from_opening_to_completion(ward: Ward) -> None:
    opened, decision = ward.do(Open("s-1", (), HOMES))
    assert decision.status is Status.ACCEPTED
    assert (session(ward, "s-1").opened_by, session(ward, "s-1").opened_by_user) == (opened.statement.ref, "cy")
    recorded, _ = ward.do(Record("s-1", "m-1", Decision.STOP, "bleeding"))
    item = session(ward, "s-1").items[0]
    assert (item.decision, item.note, item.recorded_by) == (Decision.STOP, "bleeding", recorded.statement.ref)
    assert ward.do(Complete("s-1"))[1].status is Status.ACCEPTED
    assert session(ward, "s-1").status is SessionStatus.COMPLETED
    _, late = ward.do(Record("s-1", "m-2", Decision.CONTINUE))
    assert late.reason == WrongStatus("s-1", "completed")
    assert (late.status, Action.RESTART_SESSION in late.actions) == (Status.CONFLICT, True)


def test_two_openings_are_both_entered_in_error_and_keep_what_was_recorded(ward: Ward) -> None:
    ward.do(Open("s-1", (), HOMES))
    ward.do(Record("s-1", "m-1", Decision.STOP))
    said, decision = ward.do(Open("s-2"), who="prescriber")
    assert decision.reason == SessionDiverged("s-2", "s-1")
    assert (decision.status, decision.actions) == (Status.CONFLICT, (Action.RESTART_SESSION,))
    assert decision.actions == CONFLICT_RULES[1].actions
    assert [session(ward, name).status for name in ("s-1", "s-2")] == [IN_ERROR, IN_ERROR]
    assert session(ward, "s-1").items[0].decision is Decision.STOP
    assert in_conflict(ward, said.statement.ref, "patient/p-1").open


@pytest.mark.parametrize("order", list(permutations(["s-1", "s-2", "s-3"])))
def test_the_order_of_openings_does_not_matter(ward: Ward, order: tuple[str, ...]) -> None:
    for name in order:
        ward.do(Open(name))
    assert [session(ward, name).status for name in order] == [IN_ERROR] * 3


def test_one_new_session_stands_for_all_of_them(ward: Ward) -> None:
    refs = [ward.do(Open(name))[0].statement.ref for name in ("s-1", "s-2", "s-3")]
    said, decision = ward.do(Open("s-4", ("s-1", "s-2"), HOMES), seen=refs[:2])
    assert decision.status is Status.ACCEPTED
    assert (session(ward, "s-4").status, session(ward, "s-4").restarts) == (
        SessionStatus.IN_PROGRESS,
        ("s-1", "s-2", "s-3"),
    )
    assert [session(ward, name).restarted_by for name in ("s-1", "s-2", "s-3")] == ["s-4"] * 3
    for ref in refs[1:]:
        closed = in_conflict(ward, ref, "patient/p-1")
        assert (closed.open, closed.resolved_by) == (False, said.statement.ref)
    ward.do(Complete("s-4"))
    assert ward.do(Open("s-5"))[1].status is Status.ACCEPTED


def test_a_new_session_names_no_more_than_it_holds_and_stands_for_all_of_them(ward: Ward) -> None:
    lost = [f"s-{number:02}" for number in range(MAX_RESTARTED_SESSIONS + 1)]
    for name in lost:
        ward.do(Open(name))
    assert ward.do(Open("s-99", tuple(lost[:1])))[1].status is Status.ACCEPTED
    assert len(session(ward, "s-99").restarts) == MAX_RESTARTED_SESSIONS
    assert [session(ward, name).restarted_by for name in lost] == ["s-99"] * len(lost)


def test_a_late_opening_that_has_not_seen_the_restart_enters_itself_alone_in_error(ward: Ward) -> None:
    for name in ("s-1", "s-2"):
        ward.do(Open(name))
    restart, _ = ward.do(Open("s-3", ("s-1", "s-2")))
    _, late = ward.do(Open("s-4"))
    assert late.reason == SessionDiverged("s-4", "s-3")
    assert [session(ward, name).status for name in ("s-3", "s-4")] == [SessionStatus.IN_PROGRESS, IN_ERROR]
    _, second = ward.do(Open("s-5", ("s-1", "s-2")))
    assert second.status is Status.CONFLICT
    assert session(ward, "s-3").status is SessionStatus.IN_PROGRESS
    ward.do(Complete("s-3"))
    assert ward.do(Open("s-6"))[1].status is Status.ACCEPTED
    assert session(ward, "s-4").restarted_by == "s-3"
    assert restart.statement.ref == session(ward, "s-3").opened_by


def test_an_opening_that_has_seen_the_restart_diverges_from_it(ward: Ward) -> None:
    for name in ("s-1", "s-2"):
        ward.do(Open(name))
    restart, _ = ward.do(Open("s-3", ("s-1", "s-2")))
    ward.do(Open("s-4"), seen=[restart.statement.ref])
    assert [session(ward, name).status for name in ("s-3", "s-4")] == [IN_ERROR, IN_ERROR]


def test_a_restart_after_another_was_completed_enters_itself_in_error(ward: Ward) -> None:
    for name in ("s-1", "s-2"):
        ward.do(Open(name))
    ward.do(Open("s-3", ("s-1", "s-2")))
    ward.do(Complete("s-3"))
    _, late = ward.do(Open("s-4", ("s-1", "s-2")))
    assert late.reason == SessionDiverged("s-4", "s-3")
    assert session(ward, "s-3").status is SessionStatus.COMPLETED


@pytest.mark.parametrize("action", [Record("s-1", "m-1", Decision.STOP), Complete("s-1")])
def test_what_is_said_to_a_session_in_error_is_kept_with_its_status(ward: Ward, action: Record | Complete) -> None:
    ward.do(Open("s-1", (), HOMES))
    ward.do(Open("s-2"))
    said, decision = ward.do(action)
    assert decision.reason == WrongStatus("s-1", "entered-in-error")
    assert decision.status is Status.CONFLICT
    content = resolution(ward, said.statement.ref, Action.DISCARD, "patient/p-1")
    assert ward.do(content, who="nurse", target="patient/p-1/log")[1].status is Status.ACCEPTED


def test_a_session_that_nobody_opened(ward: Ward) -> None:
    assert ward.do(Complete("s-9"))[1].reason == WrongStatus("s-9", "unknown")


def test_a_medicine_that_the_session_does_not_have(ward: Ward) -> None:
    ward.do(Open("s-1", (), HOMES))
    _, decision = ward.do(Record("s-1", "m-9", Decision.STOP))
    assert decision.reason is not None
    assert (decision.status, code_of(decision.reason)) == (Status.REFUSED, "content_invalid")


def test_an_id_that_is_taken(ward: Ward) -> None:
    ward.do(Open("s-1"))
    assert ward.do(Open("s-1"))[1].reason == WrongStatus("s-1", "in-progress")
    assert session(ward, "s-1").status is SessionStatus.IN_PROGRESS


@pytest.mark.parametrize(("restarts", "code"), [("s-1", "session_status"), ("s-9", "content_invalid")])
def test_a_restart_names_sessions_that_were_entered_in_error(ward: Ward, restarts: str, code: str) -> None:
    ward.do(Open("s-1"))
    _, decision = ward.do(Open("s-2", (restarts,)))
    assert decision.reason is not None
    assert code_of(decision.reason) == code
    assert session(ward, "s-1").status is SessionStatus.IN_PROGRESS


def test_a_session_that_can_hold_no_more_says_so_and_can_still_be_ended(ward: Ward) -> None:
    """Notes in scripts that take several bytes a letter fill it before its medicines do."""
    homes = tuple(HomeMedication(f"m-{number}", "Ασπιρίνη") for number in range(MAX_HOME_MEDICATIONS))
    ward.do(Open("s-1", (), homes))
    decided = [ward.do(Record("s-1", home.key, Decision.CONTINUE, "ω" * MAX_LONG_TEXT_CHARS))[1] for home in homes]
    full = next(decision for decision in decided if decision.status is not Status.ACCEPTED)
    assert full.status is Status.REFUSED
    assert isinstance(full.reason, ContentInvalid)
    assert full.reason.field == "note"
    _, brief = ward.do(Record("s-1", homes[-1].key, Decision.STOP))
    assert brief.status is Status.ACCEPTED
    assert ward.do(Complete("s-1"))[1].status is Status.ACCEPTED
    assert len(encode_register(session(ward, "s-1"))) <= MAX_REGISTER_BYTES
