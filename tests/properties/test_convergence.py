"""What must hold for whatever several devices write, from signed bytes through real documents to the view.

Histories come from `tests.strategies`: devices write and exchange what they hold under clocks that agree on nothing,
and each statement is kept with what its author held.  That truth, not the code under test, says what a view must show.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from random import Random

import pytest
from hypothesis import given, target
from hypothesis import strategies as st

from crdtmed import documents, statement
from crdtmed.aggregates.content import decode_content
from crdtmed.aggregates.draft_view import DEPENDS, DraftView, confirming, draft_digest, draft_view, drafts_view
from crdtmed.aggregates.mar_view import mar_view
from crdtmed.aggregates.medication_administration import Correct
from crdtmed.aggregates.prescription_draft import REQUIRED, DraftWrite, Group, GroupValue, write_key
from crdtmed.contract import Kind
from crdtmed.policies import append_only
from crdtmed.policies.append_only import Log
from crdtmed.replica import Replica
from crdtmed.statement import SignedStatement, Statement
from crdtmed.updates import (
    ItemId,
    Root,
    read_device_update,
    tombstoned,
    write_array_update,
    write_map_update,
    write_state_vector,
)
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


# ---- Documents that devices write and a relay passes on ----


@dataclass(frozen=True)
class Shared:
    """What a relay has sent of a document, in its order; ``free`` where clients' updates may change places."""

    name: str
    updates: tuple[tuple[int, bytes], ...]
    free: bool


def transactions(history: History, random: Random) -> list[list[SignedStatement]]:
    """Each author's statements in their order, cut into transactions, which come in any order of authors."""
    queues: dict[str, list[list[SignedStatement]]] = {}
    for signed in history.statements:
        queue = queues.setdefault(signed.statement.device, [])
        if queue and random.random() < 0.4:
            queue[-1].append(signed)
        else:
            queue.append([signed])
    order = [author for author, queue in queues.items() for _ in queue]
    random.shuffle(order)
    return [queues[author].pop(0) for author in order]


def share(name: str, history: History, kept: Collection[str], free: bool, random: Random) -> Shared:
    """What a relay sends when the authors push a history: updates as they came, with tombstones for what is not kept.

    A device's base is as far as it has heard; ``free`` devices have heard nothing before they push.
    """
    relay = Replica.open(name, 1)
    clients = {author: at + 2 for at, author in enumerate(sorted({one.statement.device for one in history.statements}))}
    bases = {author: (Replica.open(name, client), [0]) for author, client in clients.items()}
    clocks = dict.fromkeys(clients, 0)
    sent: list[tuple[int, bytes]] = []
    for transaction in transactions(history, random):
        author = transaction[0].statement.device
        base, heard = bases[author]
        if not free and random.random() < 0.5:
            for _, update in sent[heard[0] :]:
                base.apply(update)
            heard[0] = len(sent)
        pushed = push(base, clients[author], clocks[author], transaction)
        keeps = [one.statement.ref in kept for one in transaction]
        read = read_device_update(pushed, relay.document.root, relay.state_vector)
        update = pushed if all(keeps) else tombstoned(read, keeps)
        relay.apply(update)
        sent.append((clients[author], update))
        clocks[author] += len(transaction)
    return Shared(name, tuple(sent), free)


def push(base: Replica, client: int, clock: int, transaction: Sequence[SignedStatement]) -> bytes:
    """The update that a device with this base sends for a transaction."""
    if base.document.root is Root.MAP:
        return write_map_update(client, clock, [(key_of(one.statement), one.encoded) for one in transaction])
    origin = ItemId(client, clock - 1) if clock else base.last_item
    return write_array_update(client, clock, origin, [one.encoded for one in transaction])


def key_of(said: Statement) -> str:
    """The key under which a draft write stands."""
    write = decode_content(said.kind, bytes(said.content))
    assert isinstance(write, DraftWrite)
    return write_key(write, said.device, said.id)


def readers(shared: Shared, random: Random) -> list[Replica]:
    """Replicas that came by it in different ways: in order, twice, as snapshots, as differences, out of order."""
    updates = [update for _, update in shared.updates]
    cut = random.randint(0, len(updates))
    in_order = read_all(Replica.open(shared.name, 50), [one for update in updates for one in (update, update)])
    early = read_all(Replica.open(shared.name, 51), updates[:cut])
    late = read_all(Replica.load(shared.name, 52, early.snapshot(), "e", cut), updates[cut:])
    caught_up = Replica.load(shared.name, 53, early.snapshot(), "e", cut)
    caught_up.apply(in_order.diff(write_state_vector(caught_up.state_vector)))
    from_snapshot = Replica.load(shared.name, 54, late.snapshot(), "e", len(updates))
    overlapping = read_all(Replica.open(shared.name, 55), [early.snapshot(), in_order.snapshot(), early.snapshot()])
    found = [in_order, late, caught_up, from_snapshot, overlapping]
    return [*found, *gossip(shared, random)] if shared.free else found


def read_all(replica: Replica, updates: Iterable[bytes]) -> Replica:
    """The replica with the updates applied."""
    for update in updates:
        replica.apply(update)
    return replica


def gossip(shared: Shared, random: Random) -> list[Replica]:
    """Replicas that each got some clients' updates and then merged with each other, until all have it."""
    found = [Replica.open(shared.name, 60 + at) for at in range(3)]
    by_client: dict[int, list[bytes]] = {}
    for client, update in shared.updates:
        by_client.setdefault(client, []).append(update)
    for client in sorted(by_client, key=lambda _: random.random()):
        for at, replica in enumerate(found):
            if at == client % 3 or random.random() < 0.3:
                read_all(replica, by_client[client][: None if at == client % 3 else random.randint(0, 3)])
    pairs = [(one, other) for one in found for other in found if one is not other]
    random.shuffle(pairs)
    for one, other in pairs + pairs:
        one.apply(other.diff(write_state_vector(one.state_vector)))
    return found


def said_by(replica: Replica) -> list[Statement]:
    """The statements in a document, each with its author's signature checked."""
    found = []
    keys = {device(number).id: device(number).signer.public for number in range(1, 5)}
    for value in replica.values():
        signed = statement.decode(value)
        assert statement.verify(signed, keys[signed.statement.device])
        found.append(signed.statement)
    return found


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


drafts = draft_histories().filter(lambda history: bool(history.statements))


@given(drafts)
def test_a_write_never_loses_to_one_that_it_had_seen(history: History) -> None:
    writes = writes_of(history)
    for group, of in draft_view(said_in(history)).groups.items():
        for ref, (_, write) in writes.items():
            assert write.group is not group or of.winner.ref not in history.knew[ref], "a later word was not heard"


@given(drafts)
def test_a_concurrent_write_is_never_invisible(history: History) -> None:
    writes = writes_of(history)
    for group, of in draft_view(said_in(history)).groups.items():
        ours = {ref: write for ref, (_, write) in writes.items() if write.group is group}
        unseen = {ref for ref in ours if not any(ref in history.knew[other] for other in ours)}
        shown = {of.winner.ref, *(entry.ref for entry in of.concurrent)}
        assert shown <= unseen
        assert all(ours[ref].value == of.value for ref in unseen - shown)
        assert all(entry.value != of.value for entry in of.concurrent)
        assert {entry.ref for entry in of.history} == set(ours)


@given(drafts)
def test_a_group_is_what_one_person_wrote(history: History) -> None:
    writes = writes_of(history)
    for group, of in draft_view(said_in(history)).groups.items():
        for entry in (of.winner, *of.concurrent, *of.history):
            said, write = writes[entry.ref]
            assert (write.group, write.value) == (group, entry.value)
            assert (said.device, said.user, said.stamp) == (entry.device, entry.user, entry.stamp)


@given(drafts)
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


@given(drafts, st.sampled_from([0, -86_400_000, 86_400_000]))
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


@given(drafts)
def test_a_late_write_from_offline_is_seen_after_the_confirmation(history: History) -> None:
    clinician = Author(device(4), 0, {one.statement.ref: one for one in history.statements})
    before = draft_view(said_in(history))
    dose, other = VALUES[Group.DOSE]
    all_seen(before, clinician, 100, [(Group.DOSE, dose)])
    late = Author(device(3), 0)
    late.number = 10_000
    all_seen(before, late, 90, [(Group.DOSE, other)])
    every = [one.statement for one in (*clinician.held.values(), *late.held.values())]
    shown = draft_view(every).groups[Group.DOSE]
    assert {entry.value for entry in (shown.winner, *shown.concurrent)} == {dose, other}
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
    shown = mar_view(every, {}, UTC)
    assert {version.ref for entry in shown.entries for version in entry.versions} >= kept - corrected
