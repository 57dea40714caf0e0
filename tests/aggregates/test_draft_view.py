"""The view of a draft against what its authors held, and the rules of concurrency, review and confirmation."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed import clock
from crdtmed.aggregates.draft_view import (
    DEPENDS,
    DraftView,
    confirming,
    draft_digest,
    draft_view,
    drafts_view,
    unseen_groups,
)
from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.patient import Identifier, PatientRegister
from crdtmed.aggregates.prescription_draft import (
    REQUIRED,
    Dose,
    DraftStatus,
    DraftWrite,
    Group,
    GroupValue,
    Instructions,
    Medication,
    Route,
    Supply,
    Timing,
)
from crdtmed.contract import Kind
from crdtmed.statement import Statement
from tests.strategies import DRAFT, PATIENT, START_MS, Author, History, device, draft_histories, statement_id

AMOXICILLIN = Medication("amox", "Amoxicillin", "capsule", "500 mg")
PARACETAMOL = Medication("para", "Paracetamol", "tablet", "500 mg")
WHOLE: dict[Group, GroupValue] = {
    Group.MEDICATION: AMOXICILLIN,
    Group.DOSE: Dose(Quantity("500", "mg")),
    Group.ROUTE: Route("26643006", "oral"),
    Group.TIMING: Timing(3, "1", "d"),
    Group.SUPPLY: Supply(21, "{tablet}", 0, "pharmacy"),
    Group.INSTRUCTIONS: Instructions("with food"),
}


class Draft:
    """A draft that devices write at times of their own, seeing what they are told to have seen."""

    def __init__(self) -> None:
        self.people = [Author(device(number), 0) for number in (1, 2, 3)]
        self.made: list[Statement] = []

    def write(
        self, who: int, at: int, group: Group, value: GroupValue | None, seen: Sequence[str] = (), name: str = DRAFT
    ) -> str:
        said = self.people[who].say(
            START_MS + at,
            Kind.DRAFT_WRITE,
            f"patient/{PATIENT}/drafts",
            statement_id(len(self.made)),
            seen,
            DraftWrite(name, group, value),
        )
        self.made.append(said.statement)
        return said.statement.ref

    def whole(self, who: int, at: int) -> list[str]:
        refs: list[str] = []
        for group, value in WHOLE.items():
            refs.append(self.write(who, at, group, value, refs))
        return refs

    def confirm(self, who: int, at: int) -> None:
        view = self.view
        seen = list(view.seen)
        for write in confirming(view):
            seen.append(self.write(who, at, write.group, write.value, seen))

    @property
    def view(self) -> DraftView:
        return draft_view(self.made)


def test_a_draft_written_in_one_go_can_be_signed() -> None:
    draft = Draft()
    refs = draft.whole(0, 0)
    view = draft.view
    assert view.signable
    assert view.values == WHOLE
    assert view.seen == tuple(sorted(refs))
    assert (view.prescription, view.patient, view.label, view.unsettled) == (DRAFT, PATIENT, None, ())
    assert view.groups[Group.DOSE].winner.user == "user1"
    assert confirming(view) == ()


def test_independent_groups_merge_and_nothing_is_lost() -> None:
    draft = Draft()
    seen = draft.whole(0, 0)
    draft.write(1, 10, Group.SUPPLY, Supply(30, "{tablet}", 1, "pharmacy"), seen)
    draft.write(2, 11, Group.ROUTE, Route("54485002", "eye"), seen)
    view = draft.view
    assert view.signable
    assert view.values == {
        **WHOLE,
        Group.SUPPLY: Supply(30, "{tablet}", 1, "pharmacy"),
        Group.ROUTE: Route("54485002", "eye"),
    }


def test_a_concurrent_write_stays_beside_the_winner_until_somebody_has_seen_both() -> None:
    draft = Draft()
    seen = draft.whole(0, 0)
    first = draft.write(1, 10, Group.SUPPLY, Supply(30, "{tablet}", 0, "pharmacy"), seen)
    second = draft.write(2, 20, Group.SUPPLY, Supply(40, "{tablet}", 0, "pharmacy"), seen)
    group = draft.view.groups[Group.SUPPLY]
    assert (group.winner.ref, [it.ref for it in group.concurrent]) == (second, [first])
    assert [problem.field for problem in draft.view.blockers] == ["supply"]
    assert "2 times at once" in draft.view.blockers[0].says
    draft.write(0, 5, Group.SUPPLY, Supply(30, "{tablet}", 0, "pharmacy"), draft.view.seen)
    assert draft.view.signable
    assert len(draft.view.groups[Group.SUPPLY].history) == 4
    assert draft.view.groups[Group.SUPPLY].value == Supply(30, "{tablet}", 0, "pharmacy")


def test_a_write_never_loses_to_one_that_it_had_seen_whatever_the_clocks_say() -> None:
    draft = Draft()
    ahead = draft.write(1, 1_000_000, Group.DOSE, Dose(Quantity("1", "g")))
    later = draft.write(0, 0, Group.DOSE, Dose(Quantity("2", "g")), [ahead])
    assert draft.view.groups[Group.DOSE].winner.ref == later


def test_equal_values_are_never_concurrent() -> None:
    draft = Draft()
    seen = draft.whole(0, 0)
    draft.write(1, 10, Group.INSTRUCTIONS, Instructions("before meals"), seen)
    draft.write(2, 20, Group.INSTRUCTIONS, Instructions("before meals"), seen)
    assert draft.view.signable
    assert len(draft.view.groups[Group.INSTRUCTIONS].heads) == 2


@pytest.mark.parametrize("group", [Group.DOSE, Group.ROUTE, Group.TIMING, Group.SUPPLY])
def test_what_was_written_for_another_medication_is_under_review(group: Group) -> None:
    draft = Draft()
    seen = draft.whole(0, 0)
    draft.write(1, 10, Group.MEDICATION, PARACETAMOL, seen)
    draft.write(2, 20, group, WHOLE[group], seen)
    view = draft.view
    assert view.groups[group].review == (Group.MEDICATION,)
    assert not view.signable
    assert any(problem.field == group and "medication" in problem.says for problem in view.blockers)
    draft.confirm(0, 30)
    assert draft.view.signable
    assert draft.view.values == {**WHOLE, Group.MEDICATION: PARACETAMOL}


@pytest.mark.parametrize("group", [Group.DOSE, Group.TIMING])
def test_instructions_for_another_dose_or_timing_are_under_review(group: Group) -> None:
    draft = Draft()
    seen = draft.whole(0, 0)
    changed: dict[Group, GroupValue] = {Group.DOSE: Dose(Quantity("1", "g")), Group.TIMING: Timing(1, "1", "d")}
    draft.write(1, 10, group, changed[group], seen)
    view = draft.view
    assert view.unsettled == (Group.INSTRUCTIONS,)
    assert view.groups[Group.INSTRUCTIONS].review == (group,)
    assert [(write.group, write.value) for write in confirming(view)] == [
        (Group.INSTRUCTIONS, WHOLE[Group.INSTRUCTIONS])
    ]
    draft.confirm(2, 20)
    assert draft.view.signable


def test_who_saw_an_equal_medication_by_another_author_has_seen_it() -> None:
    draft = Draft()
    one = draft.write(0, 0, Group.MEDICATION, AMOXICILLIN)
    draft.write(1, 10, Group.MEDICATION, AMOXICILLIN)
    draft.write(0, 20, Group.DOSE, WHOLE[Group.DOSE], [one])
    assert draft.view.groups[Group.DOSE].review == ()


def test_having_once_seen_the_medication_is_not_enough_where_another_was_before_the_author() -> None:
    draft = Draft()
    first = draft.write(0, 0, Group.MEDICATION, AMOXICILLIN)
    other = draft.write(1, 10, Group.MEDICATION, PARACETAMOL)
    draft.write(2, 20, Group.DOSE, WHOLE[Group.DOSE], [first, other])
    draft.write(1, 30, Group.MEDICATION, AMOXICILLIN, [other])
    view = draft.view
    assert view.groups[Group.MEDICATION].value == AMOXICILLIN
    assert view.groups[Group.MEDICATION].concurrent == ()
    assert view.groups[Group.DOSE].review == (Group.MEDICATION,)


def test_a_cleared_group_is_missing_and_never_under_review() -> None:
    draft = Draft()
    seen = draft.whole(0, 0)
    draft.write(1, 10, Group.MEDICATION, PARACETAMOL, seen)
    draft.write(2, 20, Group.DOSE, None, seen)
    view = draft.view
    assert Group.DOSE not in view.values
    assert view.groups[Group.DOSE].review == ()
    assert "dose" in [problem.field for problem in view.blockers]


def test_what_is_missing_blocks() -> None:
    draft = Draft()
    draft.write(0, 0, Group.SUPPLY, Supply(1, "mL"))
    fields = [problem.field for problem in draft.view.blockers]
    assert fields == ["medication", "dose", "route", "timing", "supply.site"]


def test_a_draft_in_error_is_never_signed() -> None:
    draft = Draft()
    draft.whole(0, 0)
    draft.write(0, 1, Group.STATUS, DraftStatus("draft"), draft.view.seen)
    assert draft.view.signable
    draft.write(0, 2, Group.STATUS, DraftStatus("entered-in-error"), draft.view.seen)
    assert [problem.field for problem in draft.view.blockers] == ["status"]


def test_confirming_a_group_confirms_what_rests_on_it() -> None:
    draft = Draft()
    draft.whole(0, 0)
    groups = [write.group for write in confirming(draft.view, [Group.MEDICATION])]
    assert groups == [Group.MEDICATION, Group.DOSE, Group.ROUTE, Group.TIMING, Group.SUPPLY, Group.INSTRUCTIONS]
    assert [write.group for write in confirming(draft.view, [Group.TIMING])] == [Group.TIMING, Group.INSTRUCTIONS]


def test_the_digest_stands_for_what_was_shown() -> None:
    draft = Draft()
    draft.whole(0, 0)
    one = draft.view
    assert len(draft_digest(one)) == 32
    draft.write(1, 10, Group.DOSE, WHOLE[Group.DOSE], one.seen)
    same_values = draft.view
    assert same_values.values == one.values
    assert draft_digest(same_values) != draft_digest(one)
    assert unseen_groups(same_values, one.seen) == (Group.DOSE,)
    assert unseen_groups(one, one.seen) == ()
    labelled = draft_view(draft.made, register())
    assert draft_digest(labelled) == draft_digest(same_values)


def register() -> PatientRegister:
    return PatientRegister(
        id=PATIENT,
        identifiers=(Identifier("urn:mrn", "0815"),),
        name="Anna Example",
        birth_date="1950-02-03",
        care_sites=(),
        version=1,
    )


def test_a_view_shows_two_identifiers() -> None:
    draft = Draft()
    draft.whole(0, 0)
    label = draft_view(draft.made, register()).label
    assert label is not None
    assert (label.identifier, label.name, label.birth_date) == ("0815", "Anna Example", "1950-02-03")


def test_drafts_are_told_apart_and_other_statements_left_out() -> None:
    draft = Draft()
    draft.write(0, 0, Group.MEDICATION, AMOXICILLIN, name="rx-a")
    draft.write(0, 0, Group.MEDICATION, PARACETAMOL, name="rx-b")
    other = msgspec.structs.replace(draft.made[0], kind=Kind.SIGN, id=statement_id(99))
    every = drafts_view([*draft.made, other])
    assert {name: view.values for name, view in every.views.items()} == {
        "rx-a": {Group.MEDICATION: AMOXICILLIN},
        "rx-b": {Group.MEDICATION: PARACETAMOL},
    }
    with pytest.raises(ValueError, match="2 drafts"):
        draft_view(draft.made)
    with pytest.raises(ValueError, match="0 drafts"):
        draft_view([])


def test_a_write_that_cannot_be_read_is_told_and_blocks() -> None:
    draft = Draft()
    draft.whole(0, 0)
    unreadable = msgspec.structs.replace(
        draft.made[0], id=statement_id(99), content=msgspec.Raw(msgspec.msgpack.encode({"group": "colour"}))
    )
    view = draft_view([*draft.made, unreadable])
    assert view.unreadable == (unreadable.ref,)
    assert not view.signable
    assert unreadable.ref in view.blockers[-1].says
    assert drafts_view([unreadable]).unreadable == (unreadable.ref,)


@given(draft_histories(), st.data())
def test_order_and_repetition_do_not_matter(history: History, data: st.DataObject) -> None:
    made = [signed.statement for signed in history.statements]
    again = data.draw(st.lists(st.sampled_from(made), max_size=5)) if made else []
    shuffled = data.draw(st.permutations(made + again))
    assert drafts_view(shuffled) == drafts_view(made)


@given(draft_histories())
def test_the_view_is_what_the_authors_truth_says(history: History) -> None:
    made = {signed.statement.ref: signed.statement for signed in history.statements}
    for view in drafts_view(made.values()).views.values():
        for group, of in view.groups.items():
            writes = [entry.ref for entry in of.history]
            heads = [ref for ref in writes if not any(ref in history.knew[other] for other in writes if other != ref)]
            assert sorted(of.heads) == sorted(heads)
            winner = max(heads, key=lambda ref: made[ref].order)
            assert made[of.winner.ref].order == made[winner].order
            values = {entry.ref: entry.value for entry in of.history}
            shown = {of.winner.ref, *(entry.ref for entry in of.concurrent)}
            for head in heads:
                assert head in shown or values[head] == of.value
            assert all(entry.value != of.value for entry in of.concurrent)
            for on in DEPENDS.get(group, ()):
                if of.value is None or on not in view.groups:
                    assert on not in of.review
                else:
                    had = before_author(history, made, view, on, of.winner.ref)
                    agrees = had in view.groups[on].heads and value_of(view, on, had) == view.groups[on].value
                    assert (on in of.review) is not agrees


def before_author(history: History, made: dict[str, Statement], view: DraftView, group: Group, ref: str) -> str:
    """The winner of ``group`` among what the author of ``ref`` held; empty where they held none."""
    held = [entry.ref for entry in view.groups[group].history if entry.ref in history.knew[ref]]
    heads = [one for one in held if not any(one in history.knew[other] for other in held)]
    return max(heads, key=lambda one: made[one].order, default="")


def value_of(view: DraftView, group: Group, ref: str) -> GroupValue | None:
    return next(entry.value for entry in view.groups[group].history if entry.ref == ref)


@given(draft_histories())
def test_one_clinician_confirming_makes_every_complete_draft_signable(history: History) -> None:
    draft = Draft()
    draft.made = [signed.statement for signed in history.statements]
    if not draft.made:
        return
    clinician = draft.people[0] = Author(device(9), 0)
    clinician.last = clock.stamp(0)
    before = draft.view
    for group in REQUIRED:
        if group not in before.values:
            draft.write(0, 0, group, WHOLE[group], draft.view.seen)
    expected = draft.view.values
    draft.confirm(0, 0)
    assert draft.view.signable
    assert draft.view.values == expected
    assert draft.view.unsettled == ()
