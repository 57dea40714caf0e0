"""What must hold for whatever several devices write, from signed bytes through real documents to the view.

Histories come from `tests.strategies`: devices write and exchange what they hold under clocks that agree on nothing,
and each statement is kept with what its author held.  That truth, not the code under test, says what a view must show.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC
from random import Random

import pytest
from hypothesis import Phase, find, given, settings, target
from hypothesis import strategies as st

from crdtmed import documents
from crdtmed.aggregates.content import decode_content
from crdtmed.aggregates.draft_view import DEPENDS, DraftView, confirming, draft_digest, draft_view, drafts_view
from crdtmed.aggregates.mar_view import mar_view
from crdtmed.aggregates.medication_administration import Correct
from crdtmed.aggregates.prescription_draft import REQUIRED, DraftWrite, Group, GroupValue
from crdtmed.contract import Kind
from crdtmed.policies import append_only
from crdtmed.policies.append_only import Log
from crdtmed.replica import Replica
from crdtmed.statement import Statement
from tests.properties.sharing import read_all, readers, said_by, share
from tests.strategies import (
    DRAFT,
    PATIENT,
    START_MS,
    VALUES,
    Author,
    History,
    device,
    draft_histories,
    log_histories,
    statement_id,
)

DRAFTS = documents.drafts(PATIENT)
LOG = f"patient/{PATIENT}/log/2026-01"
SEEDS = st.integers(0, 2**32 - 1)


def corrects(entry: Statement) -> str | None:
    """What an entry of the log corrects."""
    content = decode_content(entry.kind, bytes(entry.content))
    return content.corrects if isinstance(content, Correct) else None


def log_picture(said: Iterable[Statement]) -> object:
    """A log as its policy folds it and as a person sees it, with every order in it."""
    every = list(said)
    log = append_only.fold(every, corrects)
    folded = (list(log.entries.items()), log.roots, list(log.corrections.items()), list(log.pending.items()))
    return folded, log.starts, mar_view(every, {}, UTC)


def draft_picture(said: Iterable[Statement]) -> object:
    """A draft as a person sees it, and what they would sign."""
    views = drafts_view(said)
    return views, {name: draft_digest(view) for name, view in views.views.items()}


def said_in(history: History, refs: Collection[str] | None = None) -> list[Statement]:
    """The statements of a history, or those among them that are named."""
    every = [signed.statement for signed in history.statements]
    return every if refs is None else [one for one in every if one.ref in refs]


@dataclass(frozen=True)
class Case:
    """A document, the histories that go into it and the view of what is in it."""

    name: str
    histories: st.SearchStrategy[History]
    picture: Callable[[Iterable[Statement]], object]


CASES = [
    pytest.param(Case(DRAFTS, draft_histories(), draft_picture), id="drafts"),
    pytest.param(Case(LOG, log_histories(), log_picture), id="log"),
]
every_case = pytest.mark.parametrize("case", CASES)


# ---- Convergence ----


@every_case
@given(st.data(), SEEDS)
def test_order_repetition_and_grouping_change_nothing(case: Case, data: st.DataObject, seed: int) -> None:
    history, random = data.draw(case.histories), Random(seed)
    every = said_in(history)
    groups: list[list[Statement]] = [[], [], []]
    for one in every + every[: len(every) // 2]:
        random.choice(groups).append(one)
    random.shuffle(groups)
    assert case.picture(one for group in groups for one in group) == case.picture(every)


@every_case
@pytest.mark.parametrize("free", [True, False], ids=["apart", "together"])
@given(st.data(), SEEDS)
def test_documents_merged_in_any_way_give_the_view_of_the_statements(
    case: Case, free: bool, data: st.DataObject, seed: int
) -> None:
    history, random = data.draw(case.histories), Random(seed)
    shared = share(case.name, history, history.refs, free, random)
    found = readers(shared, random)
    for replica in found:
        assert case.picture(said_by(replica)) == case.picture(said_in(history))
        assert replica.digest() == found[0].digest()
        assert replica.state_vector == found[0].state_vector


@every_case
@pytest.mark.parametrize("free", [True, False], ids=["apart", "together"])
@given(st.data(), SEEDS)
def test_what_became_tombstones_leaves_the_view_of_the_rest(
    case: Case, free: bool, data: st.DataObject, seed: int
) -> None:
    history, random = data.draw(case.histories), Random(seed)
    kept = {ref for ref in history.refs if random.random() < 0.6}
    target(float(min(len(kept), len(history.refs) - len(kept))))
    shared = share(case.name, history, kept, free, random)
    for replica in readers(shared, random):
        assert Counter(one.ref for one in said_by(replica)) == Counter(kept)
        assert case.picture(said_by(replica)) == case.picture(said_in(history, kept))
        assert sum(replica.state_vector.values()) == len(history.refs)


@given(draft_histories(), SEEDS)
def test_drafts_that_the_relay_closed_are_gone_everywhere(history: History, seed: int) -> None:
    random = Random(seed)
    shared = share(DRAFTS, history, history.refs, True, random)
    relay = Replica.open(DRAFTS, 900)
    read_all(relay, (update for _, update in shared.updates))
    snapshot = relay.snapshot()
    closed = relay.delete(relay.map())
    for replica in (*readers(shared, random), Replica.load(DRAFTS, 70, snapshot, "e", 1)):
        if closed:
            replica.apply(closed)
        assert replica.map() == {}
        for _, update in shared.updates:
            replica.apply(update)
        assert replica.map() == {}


# ---- Drafts ----


def writes_of(history: History) -> Mapping[str, tuple[Statement, DraftWrite]]:
    """The writes of a history by reference."""
    found = {}
    for one in said_in(history):
        content = decode_content(one.kind, bytes(one.content))
        assert isinstance(content, DraftWrite)
        found[one.ref] = (one, content)
    return found


@given(draft_histories())
def test_a_write_never_loses_to_one_that_it_had_seen(history: History) -> None:
    writes = writes_of(history)
    for group, of in draft_view(said_in(history)).groups.items():
        for ref, (_, write) in writes.items():
            assert write.group is not group or of.winner.ref not in history.knew[ref], "a later word was not heard"


@given(draft_histories())
def test_a_concurrent_write_is_never_invisible(history: History) -> None:
    writes = writes_of(history)
    for group, of in draft_view(said_in(history)).groups.items():
        ours = {ref: write for ref, (_, write) in writes.items() if write.group is group}
        unseen = {ref for ref in ours if not any(ref in history.knew[other] for other in ours)}
        told = {of.winner.ref, *(entry.ref for entry in of.concurrent)}
        assert told <= unseen
        assert all(ours[ref].value == of.value for ref in unseen - told)
        assert all(entry.value != of.value for entry in of.concurrent)
        assert {entry.ref for entry in of.history} == set(ours)


@given(draft_histories())
def test_a_group_is_what_one_person_wrote(history: History) -> None:
    writes = writes_of(history)
    for group, of in draft_view(said_in(history)).groups.items():
        for entry in (of.winner, *of.concurrent, *of.history):
            said, write = writes[entry.ref]
            assert (write.group, write.value) == (group, entry.value)
            assert (said.device, said.user, said.stamp) == (entry.device, entry.user, entry.stamp)


@given(draft_histories())
def test_what_was_written_without_sight_of_the_medication_is_under_review(history: History) -> None:
    writes = writes_of(history)
    view = draft_view(said_in(history))
    for group, of in view.groups.items():
        knew = history.knew[of.winner.ref]
        for on in DEPENDS.get(group, ()):
            if on not in view.groups or of.value is None:
                assert on not in of.review
                continue
            rivals = {ref: write for ref, (_, write) in writes.items() if write.group is on}
            if not any(rivals[ref].value == view.groups[on].value for ref in rivals.keys() & knew):
                assert on in of.review, f"nobody who wrote {group} had seen this {on}"
            if rivals.keys() <= knew:
                assert on not in of.review, f"who wrote {group} had seen every {on}"
        assert set(of.review) <= set(DEPENDS.get(group, ()))
    assert not (view.signable and view.unsettled)


def all_seen(view: DraftView, author: Author, at: int, writes: Iterable[tuple[Group, GroupValue | None]]) -> None:
    """A transaction of the author's in sight of the view, each write having seen those before it."""
    seen = list(view.seen)
    for group, value in writes:
        name = statement_id(1_000 + len(author.held))
        said = author.say(START_MS + at, Kind.DRAFT_WRITE, DRAFTS, name, seen, DraftWrite(DRAFT, group, value))
        seen.append(said.statement.ref)


@given(draft_histories(), st.sampled_from([0, -86_400_000, 86_400_000]))
def test_every_draft_becomes_signable_when_one_clinician_confirms(history: History, skew_ms: int) -> None:
    clinician = Author(device(4), skew_ms, {one.statement.ref: one for one in history.statements})

    def view() -> DraftView:
        return draft_view(one.statement for one in clinician.held.values())

    now = view()
    missing = [group for group in REQUIRED if now.groups.get(group) is None or now.groups[group].value is None]
    all_seen(now, clinician, 100, [(group, VALUES[group][1]) for group in missing])
    now = view()
    all_seen(now, clinician, 200, [(write.group, write.value) for write in confirming(now)])
    settled = view()
    assert settled.signable, settled.blockers
    assert settled.values == now.values, "confirming changes nothing that was shown"


@given(draft_histories())
def test_a_late_write_from_offline_is_seen_after_the_confirmation(history: History) -> None:
    clinician = Author(device(4), 0, {one.statement.ref: one for one in history.statements})
    before = draft_view(said_in(history))
    dose, other = VALUES[Group.DOSE]
    all_seen(before, clinician, 100, [(Group.DOSE, dose)])
    late = Author(device(3), 0)
    late.number = 10_000
    all_seen(before, late, 90, [(Group.DOSE, other)])
    every = [one.statement for one in (*clinician.held.values(), *late.held.values())]
    of = draft_view(every).groups[Group.DOSE]
    assert {entry.value for entry in (of.winner, *of.concurrent)} == {dose, other}
    assert not draft_view(every).signable


# ---- Logs ----


@given(log_histories(), SEEDS)
def test_a_log_only_grows_as_a_replica_hears_more(history: History, seed: int) -> None:
    random = Random(seed)
    shared = share(LOG, history, history.refs, False, random)
    replica = Replica.open(LOG, 50)
    before: frozenset[str] = frozenset()
    for _, update in shared.updates:
        replica.apply(update)
        replica.apply(update)
        values = replica.values()
        assert len(set(values)) == len(values)
        log = append_only.fold(said_by(replica), corrects)
        assert before < log.entries.keys()
        before = frozenset(log.entries)
    assert before == set(history.refs)


def ends(log: Log) -> set[str]:
    """What stands in the end: entries that nothing corrects."""
    return {ref for start in log.starts for ref in log.latest(start)}


@given(log_histories(), SEEDS)
def test_a_correction_never_hides_another(history: History, seed: int) -> None:
    random = Random(seed)
    kept = {ref for ref in history.refs if random.random() < 0.8}
    every = said_in(history, kept)
    log = append_only.fold(every, corrects)
    corrected = {ref for one in every if (ref := corrects(one)) is not None}
    assert ends(log) == kept - corrected
    for ref in corrected & kept:
        assert set(log.corrections[ref]) == {one.ref for one in every if corrects(one) == ref}
    record = mar_view(every, {}, UTC)
    assert {version.ref for entry in record.entries for version in entry.versions} >= kept - corrected


# ---- That the histories are such that all this means something ----


# Any one will do: the smallest is not looked for.
FIRST = settings(phases=[Phase.generate], max_examples=3_000)


@pytest.mark.parametrize(
    "holds",
    [
        lambda view: any(of.concurrent for of in view.groups.values()),
        lambda view: any(of.review for of in view.groups.values()),
        lambda view: any(len(of.concurrent) > 1 for of in view.groups.values()),
        lambda view: any(len(of.heads) > 1 and not of.concurrent for of in view.groups.values()),
        lambda view: any(of.history[-1] != of.winner for of in view.groups.values()),
        lambda view: any(of.value is None for of in view.groups.values()),
    ],
    ids=["concurrent", "review", "two rivals", "agreeing", "an earlier stamp wins", "cleared"],
)
def test_draft_histories_hold_what_they_are_for(holds: Callable[[DraftView], bool]) -> None:
    assert find(draft_histories(), lambda history: holds(draft_view(said_in(history))), settings=FIRST)


@pytest.mark.parametrize(
    "holds",
    [
        lambda log: bool(log.competing),
        lambda log: any(len(log.chain(start)) > 2 for start in log.starts),
        lambda log: len(log.roots) > 2,
    ],
    ids=["competing", "a correction of a correction", "several entries"],
)
def test_log_histories_hold_what_they_are_for(holds: Callable[[Log], bool]) -> None:
    assert find(log_histories(), lambda history: holds(append_only.fold(said_in(history), corrects)), settings=FIRST)
