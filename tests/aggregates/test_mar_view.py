"""The administration record: every account is shown, corrections never hide each other, and each flag has its cause."""

from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from crdtmed.aggregates.conflict import Action, ConflictRegister, Resolve
from crdtmed.aggregates.content import Content, decode_content
from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.mar_flags import MarFlag
from crdtmed.aggregates.mar_view import MarEntry, MarView, mar_view
from crdtmed.aggregates.medication_administration import Administer, Correct, OfDraft, OfPrescription, OfVerbal
from crdtmed.aggregates.prescription import PrescriptionRegister, PrescriptionStatus, SignedGroups
from crdtmed.aggregates.prescription_draft import Dose, Group, MaxPerPeriod, Medication, Route, Supply, Timing
from crdtmed.contract import Kind
from crdtmed.reasons import RoleMissing
from crdtmed.statement import SignedStatement, Statement
from tests.aggregates.contents import administrations
from tests.aggregates.test_draft_view import WHOLE, register
from tests.strategies import DAY_MS, START_MS, Author, History, device, log_histories, statement_id

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = 3_600_000
MG500 = Quantity("500", "mg")


def prescription(timing: Timing, **changes: Any) -> PrescriptionRegister:
    plain = PrescriptionRegister(
        id="rx-1",
        patient="p-1",
        status=PrescriptionStatus.ACTIVE,
        groups=SignedGroups(
            medication=Medication("para", "Paracetamol"),
            dose=Dose(MG500),
            route=Route("26643006", "oral"),
            timing=timing,
            supply=Supply(20, "{tablet}", 0, "pharmacy"),
        ),
        prescriber="dr-b",
        signed_by="aaaaaaab.aaaaaaaaaaaaaaab",
        signed_at=START_MS,
        snapshot="kb-1",
        authorised=20,
        unit="{tablet}",
        site="pharmacy",
    )
    return replace(plain, **changes)


def given_at(hours: float, **changes: Any) -> Administer:
    plain = Administer(OfPrescription("rx-1"), "given", START_MS + round(hours * HOUR), "ward-3", dose=MG500)
    return replace(plain, **changes)


class Log:
    """A patient's log that two devices write."""

    def __init__(self) -> None:
        self.people = [Author(device(number), 0) for number in (1, 2)]
        self.made: list[SignedStatement] = []
        self.conflicts: list[ConflictRegister] = []
        self.prescriptions: dict[str, PrescriptionRegister] = {}

    def say(self, content: Content, who: int = 0, admitted: bool = True) -> str:
        kinds: dict[type, Kind] = {Administer: Kind.ADMINISTER, Correct: Kind.CORRECT, Resolve: Kind.RESOLVE}
        at = len(self.made) + len(self.conflicts)
        kind = kinds[type(content)]
        said = self.people[who].say(START_MS + at, kind, "patient/p-1/log", statement_id(at), (), content)
        if admitted:
            self.made.append(said)
        else:
            self.conflicts.append(in_conflict(said))
        return said.statement.ref

    def view(self, timing: Timing | None = None, suspect: tuple[str, ...] = (), **changes: Any) -> MarView:
        prescriptions = {"rx-1": prescription(timing, **changes)} if timing is not None else {}
        made = [signed.statement for signed in self.made]
        return mar_view(made, prescriptions, BERLIN, suspect=suspect, conflicts=self.conflicts)

    def flags(self, timing: Timing | None = None, **changes: Any) -> list[tuple[MarFlag, ...]]:
        return [entry.flags for entry in self.view(timing, **changes).entries]


def in_conflict(said: SignedStatement, is_open: bool = True) -> ConflictRegister:
    return ConflictRegister(
        ref=said.statement.ref,
        kind=said.statement.kind,
        statement=said.encoded,
        reason=RoleMissing(("nurse",)),
        actions=(Action.CONFIRM_AS_GIVEN, Action.ENTERED_IN_ERROR),
        handed_over=False,
        open=is_open,
        received_at=START_MS,
    )


THRICE = Timing(3, "1", "d", ("08:00", "14:00", "20:00"))
NEEDED = Timing(as_needed=True)


def test_an_administration_on_its_order_has_no_flag() -> None:
    log = Log()
    ref = log.say(given_at(2))
    (entry,) = log.view(THRICE).entries
    assert (entry.ref, entry.flags, entry.chain, entry.in_error) == (ref, (), (ref,), False)
    assert entry.versions[0].administration == entry.said == given_at(2)
    assert entry.versions[0].user == "user1"


@pytest.mark.parametrize("subject", [OfDraft("rx-1"), OfVerbal("Dr B", "urgent", "Morphine"), OfPrescription("rx-9")])
def test_without_a_signed_order_it_says_so(subject: Any) -> None:
    log = Log()
    log.say(given_at(2, subject=subject))
    assert log.flags(THRICE) == [(MarFlag.NO_SIGNED_ORDER,)]


def test_two_entries_for_one_slot() -> None:
    log = Log()
    slot = START_MS + 5 * HOUR
    log.say(given_at(5, slot_at=slot))
    log.say(given_at(9, slot_at=slot), who=1)
    log.say(given_at(30, slot_at=slot + DAY_MS))
    assert log.flags(THRICE) == [(MarFlag.SAME_SLOT,), (MarFlag.SAME_SLOT,), ()]


def test_an_entry_that_names_no_slot_belongs_to_the_nearest() -> None:
    log = Log()
    once = Timing(1, "1", "d")
    log.say(given_at(0.1, slot_at=START_MS))
    log.say(given_at(5))
    log.say(given_at(23))
    assert log.flags(once) == [(MarFlag.SAME_SLOT,), (MarFlag.SAME_SLOT,), ()]
    assert log.flags(Timing(count=1))[1] == (MarFlag.SAME_SLOT, MarFlag.OVER_MAXIMUM)
    assert log.flags(NEEDED) == [(), (), ()]


def test_not_given_takes_its_slot_but_no_interval_or_maximum() -> None:
    log = Log()
    log.say(given_at(0, slot_at=START_MS, status="not-given", status_reason="asleep", dose=None))
    log.say(given_at(0.5, slot_at=START_MS))
    timing = Timing(1, "1", "d", min_interval=Quantity("4", "h"), max_per_period=MaxPerPeriod(Quantity("1", "d"), 1))
    assert log.flags(timing) == [(MarFlag.SAME_SLOT,), (MarFlag.SAME_SLOT,)]


def test_sooner_than_the_interval_allows() -> None:
    log = Log()
    for hours in (0, 4, 7.9, 11.9):
        log.say(given_at(hours))
    timing = Timing(as_needed=True, min_interval=Quantity("4", "h"))
    assert log.flags(timing) == [(), (), (MarFlag.UNDER_INTERVAL,), ()]


def test_more_doses_in_a_period_than_allowed() -> None:
    log = Log()
    for hours in (0, 6, 12, 23.9, 24, 48):
        log.say(given_at(hours))
    timing = Timing(as_needed=True, max_per_period=MaxPerPeriod(Quantity("24", "h"), 3))
    over = (MarFlag.OVER_MAXIMUM,)
    assert log.flags(timing) == [(), (), (), over, over, ()]


def test_a_period_ends_where_the_next_begins() -> None:
    log = Log()
    for hours in (0, 24, 47.9):
        log.say(given_at(hours))
    timing = Timing(as_needed=True, max_per_period=MaxPerPeriod(Quantity("24", "h"), 1))
    assert log.flags(timing) == [(), (), (MarFlag.OVER_MAXIMUM,)]


def test_more_in_a_period_than_allowed_and_what_cannot_be_added_up() -> None:
    log = Log()
    log.say(given_at(0, dose=Quantity("0.7", "g")))
    log.say(given_at(1, dose=Quantity("0.3", "g")))
    log.say(given_at(2, dose=Quantity("0.1", "g")))
    log.say(given_at(30, dose=Quantity("1", "{tablet}")))
    log.say(given_at(60, dose=None))
    timing = Timing(as_needed=True, max_per_period=MaxPerPeriod(Quantity("1", "d"), None, Quantity("1", "g")))
    unchecked = (MarFlag.MAXIMUM_UNCHECKED,)
    assert log.flags(timing) == [(), (), (MarFlag.OVER_MAXIMUM,), unchecked, unchecked]


def test_more_at_once_or_in_all_than_allowed() -> None:
    log = Log()
    log.say(given_at(0, dose=Quantity("500.5", "mg")))
    log.say(given_at(10))
    log.say(given_at(20, dose=None))
    over, unchecked = (MarFlag.OVER_MAXIMUM,), (MarFlag.MAXIMUM_UNCHECKED,)
    assert log.flags(Timing(as_needed=True, max_dose=MG500)) == [over, (), unchecked]
    assert log.flags(Timing(as_needed=True, count=2)) == [(), (), over]


@pytest.mark.parametrize("status", [PrescriptionStatus.STOPPED, PrescriptionStatus.SUPERSEDED])
def test_given_after_the_order_ended(status: PrescriptionStatus) -> None:
    log = Log()
    for hours in (1, 2, 3):
        log.say(given_at(hours))
    found = log.flags(NEEDED, status=status, status_at=START_MS + 2 * HOUR)
    assert found == [(), (), (MarFlag.AFTER_STOP,)]


def test_given_while_the_order_was_on_hold() -> None:
    log = Log()
    for hours in (1, 3, 5):
        log.say(given_at(hours))
    hold = {"status": PrescriptionStatus.ON_HOLD, "status_at": START_MS + 2 * HOUR}
    assert log.flags(NEEDED, **hold) == [(), (MarFlag.ON_HOLD,), (MarFlag.ON_HOLD,)]
    assert log.flags(NEEDED, **hold, hold_until_ms=START_MS + 4 * HOUR) == [(), (MarFlag.ON_HOLD,), ()]


def test_a_doubtful_clock_is_shown_on_the_entry_it_touches() -> None:
    log = Log()
    first, _ = log.say(given_at(1)), log.say(given_at(2))
    correction = log.say(Correct(first, "amended", "late", given_at(1.5)))
    assert [entry.flags for entry in log.view(NEEDED, (correction,)).entries] == [(MarFlag.CLOCK_SUSPECT,), ()]


def test_a_correction_takes_the_place_of_what_it_corrects_and_hides_nothing() -> None:
    log = Log()
    first = log.say(given_at(1))
    second = log.say(Correct(first, "amended", "wrong time", given_at(3)), who=1)
    third = log.say(Correct(second, "entered-in-error", "wrong patient"))
    (entry,) = log.view(NEEDED).entries
    assert entry.chain == (first, second, third)
    assert entry.said == given_at(1)
    assert entry.in_error
    assert [(it.ref, it.reason) for it in entry.versions] == [(third, "wrong patient")]


def test_two_corrections_of_one_entry_are_both_shown() -> None:
    log = Log()
    first = log.say(given_at(1))
    one = log.say(Correct(first, "amended", "later", given_at(3)), who=0)
    two = log.say(Correct(first, "entered-in-error", "wrong patient"), who=1)
    (entry,) = log.view(NEEDED).entries
    assert [it.ref for it in entry.versions] == [one, two]
    assert entry.flags == (MarFlag.COMPETING_CORRECTIONS,)
    assert not entry.in_error
    assert entry.occurred_at == given_at(3).occurred_at


def test_an_entry_does_not_count_against_itself_where_corrections_compete() -> None:
    log = Log()
    first = log.say(given_at(1))
    for who, hours in ((0, 1.1), (1, 1.2)):
        log.say(Correct(first, "amended", "later", given_at(hours)), who=who)
    timing = Timing(
        *(1, "1", "d"), min_interval=Quantity("4", "h"), max_per_period=MaxPerPeriod(Quantity("1", "d"), 1, MG500)
    )
    assert log.flags(timing) == [(MarFlag.COMPETING_CORRECTIONS,)]
    assert log.flags(Timing(as_needed=True, count=1)) == [(MarFlag.COMPETING_CORRECTIONS,)]


def test_what_was_entered_in_error_counts_against_nothing() -> None:
    log = Log()
    wrong = log.say(given_at(1))
    log.say(given_at(2))
    log.say(Correct(wrong, "entered-in-error", "wrong patient"))
    assert log.flags(Timing(as_needed=True, min_interval=Quantity("4", "h"))) == [(), ()]


def test_a_correction_whose_target_is_not_here_is_shown_and_joins_it_when_it_comes() -> None:
    log = Log()
    target = log.say(given_at(1))
    correction = log.say(Correct(target, "amended", "later", given_at(3)))
    kept = log.made
    log.made = kept[1:]
    (entry,) = log.view(NEEDED).entries
    assert (entry.ref, entry.flags, entry.said) == (correction, (MarFlag.TARGET_MISSING,), given_at(3))
    log.made = kept
    (entry,) = log.view(NEEDED).entries
    assert (entry.chain, entry.flags) == ((target, correction), ())


def test_one_reference_that_says_two_things_is_told() -> None:
    log = Log()
    log.say(given_at(1))
    cloned = Log()
    cloned.say(given_at(2))
    log.made += cloned.made
    assert log.flags(NEEDED) == [(MarFlag.SAID_TWICE,)]


def test_a_fact_in_open_conflict_is_shown_as_reported_and_counts() -> None:
    log = Log()
    log.say(given_at(0))
    reported = log.say(given_at(1), who=1, admitted=False)
    timing = Timing(as_needed=True, min_interval=Quantity("4", "h"))
    entries = log.view(timing).entries
    assert [entry.flags for entry in entries] == [(), (MarFlag.REPORTED, MarFlag.UNDER_INTERVAL)]
    assert entries[1].ref == reported
    log.conflicts = [replace(log.conflicts[0], open=False)]
    assert len(log.view(timing).entries) == 1


def test_a_fact_in_conflict_that_this_device_still_holds_is_shown_once() -> None:
    log = Log()
    log.say(given_at(0))
    log.conflicts = [in_conflict(log.made[0])]
    assert log.flags(NEEDED) == [(MarFlag.REPORTED,)]


def test_a_fact_in_conflict_under_a_reference_that_is_taken_is_shown_beside_it() -> None:
    log = Log()
    ref = log.say(given_at(1))
    other = Log()
    other.say(given_at(2), admitted=False)
    log.conflicts = other.conflicts
    assert [(entry.ref, entry.flags) for entry in log.view(NEEDED).entries] == [
        (ref, ()),
        (f"{ref}#reported", (MarFlag.REPORTED,)),
    ]


def resolved(action: Action, content: Content) -> tuple[Log, str, str]:
    log = Log()
    original = log.say(content, who=1, admitted=False)
    encoded = log.conflicts[0].statement
    log.conflicts = []
    return log, original, log.say(Resolve(encoded, action, comment="asked the nurse"))


def test_a_resolution_counts_what_it_embeds() -> None:
    log, _, resolution = resolved(Action.CONFIRM_AS_GIVEN, given_at(1))
    log.say(given_at(2))
    timing = Timing(as_needed=True, min_interval=Quantity("4", "h"))
    entries = log.view(timing).entries
    assert [(entry.ref, entry.flags) for entry in entries] == [
        (resolution, ()),
        (log.made[1].statement.ref, (MarFlag.UNDER_INTERVAL,)),
    ]


def test_a_correction_finds_what_counts_through_a_resolution() -> None:
    log, original, resolution = resolved(Action.CONFIRM_AS_GIVEN, given_at(1))
    correction = log.say(Correct(original, "entered-in-error", "wrong patient"))
    (entry,) = log.view(NEEDED).entries
    assert entry.chain == (resolution, correction)
    assert entry.in_error


def test_what_was_resolved_as_an_error_is_shown_and_counts_for_nothing() -> None:
    log, _, resolution = resolved(Action.ENTERED_IN_ERROR, given_at(1))
    log.say(given_at(2))
    entries = log.view(Timing(as_needed=True, min_interval=Quantity("4", "h"))).entries
    assert [(entry.in_error, entry.flags) for entry in entries] == [(True, ()), (False, ())]
    assert (entries[0].ref, entries[0].said, entries[0].versions[0].reason) == (
        resolution,
        given_at(1),
        "entered_in_error",
    )


def test_a_correction_set_aside_by_its_resolution_does_not_correct() -> None:
    log = Log()
    target = log.say(given_at(1))
    correction = log.say(Correct(target, "entered-in-error", "wrong patient"), who=1, admitted=False)
    encoded = log.conflicts[0].statement
    log.conflicts = []
    log.say(Resolve(encoded, Action.ENTERED_IN_ERROR))
    entry = next(entry for entry in log.view(NEEDED).entries if entry.ref == target)
    assert not entry.in_error
    log.made[-1] = log.people[0].say(
        START_MS, Kind.RESOLVE, "patient/p-1/log", statement_id(50), (), Resolve(encoded, Action.TRY_AGAIN)
    )
    (entry,) = log.view(NEEDED).entries
    assert entry.in_error
    assert correction not in entry.chain


def test_of_two_resolutions_of_one_fact_only_the_first_counts() -> None:
    log, _, resolution = resolved(Action.CONFIRM_AS_GIVEN, given_at(1))
    again = log.made[0].statement
    embedded = decode_content(Kind.RESOLVE, bytes(again.content))
    log.say(embedded, who=1)
    assert [entry.ref for entry in log.view(NEEDED).entries] == [resolution]


def test_unreadable_statements_are_told_and_a_label_is_shown() -> None:
    log = Log()
    log.say(given_at(1))
    bad = replace(log.made[0].statement, id=statement_id(9), content=msgspec.Raw(b"\x80"))
    view = mar_view(
        [bad], {}, BERLIN, conflicts=[replace(in_conflict(log.made[0]), statement=bytes(80))], patient=register()
    )
    assert view.entries == ()
    assert view.unreadable == tuple(sorted((bad.ref, log.made[0].statement.ref)))
    assert view.label is not None
    assert view.label.identifier == "0815"


@given(log_histories(), st.data())
def test_order_and_repetition_do_not_matter(history: History, data: st.DataObject) -> None:
    made = [signed.statement for signed in history.statements]
    shuffled = data.draw(st.permutations(made + data.draw(st.lists(st.sampled_from(made), max_size=5))))
    orders = {"rx-1": prescription(Timing(as_needed=True, min_interval=Quantity("2", "h")))}
    assert mar_view(shuffled, orders, BERLIN) == mar_view(made, orders, BERLIN)


@given(log_histories(), st.data())
def test_nothing_said_is_ever_hidden_and_the_record_never_shrinks(history: History, data: st.DataObject) -> None:
    made = [signed.statement for signed in history.statements]
    some = data.draw(st.lists(st.sampled_from(made), unique_by=lambda it: it.ref))
    part, whole = mar_view(some, {}, BERLIN), mar_view(made, {}, BERLIN)
    for view, of in ((part, some), (whole, made)):
        shown = [ref for entry in view.entries for ref in entry.chain]
        assert sorted(shown) == sorted({statement.ref for statement in of})
    for entry in whole.entries:
        ends = {version.ref for version in entry.versions}
        for statement in made:
            if statement.ref in entry.chain:
                assert statement.ref in ends or any(corrects(other) == statement.ref for other in made)


def corrects(statement: Statement) -> str | None:
    content = decode_content(statement.kind, bytes(statement.content))
    return content.corrects if isinstance(content, Correct) else None


@given(st.lists(administrations(), max_size=5), st.sampled_from([THRICE, NEEDED, WHOLE[Group.TIMING]]))
def test_any_administrations_have_a_view(said: list[Administer], timing: Any) -> None:
    log = Log()
    for content in said:
        log.say(content)
    entries: tuple[MarEntry, ...] = log.view(timing).entries
    assert len(entries) == len(said)
    for entry in entries:
        on_order = entry.said is not None and entry.said.subject == OfPrescription("rx-1")
        assert (MarFlag.NO_SIGNED_ORDER in entry.flags) is not on_order
