"""Devices and relay, tombstones among the values: every replica ends with what was accepted, in whatever order."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed.updates import Malformed, Root, read_relay_update, write_state_vector
from tests.updates.histories import History, Replica, run

roots = st.sampled_from(Root)
seeds = st.integers(0, 2**32)


def settled(history: History) -> Replica:
    replica = Replica(history.root)
    for update in history.sent:
        replica.apply(update)
    return replica


def same(replica: Replica, history: History, first: Replica) -> None:
    """The replica holds what was accepted, the same as another one, in the same order, at the same clocks."""
    content = replica.content
    assert (content if isinstance(content, dict) else sorted(content)) == history.content
    assert content == first.content
    assert replica.known == first.known


@given(roots, seeds, st.integers(5, 60))
def test_any_admissible_order_and_duplicates(root: Root, seed: int, steps: int) -> None:
    random = Random(seed)
    history = run(root, random, steps)
    first = settled(history)
    same(first, history, first)
    same(history.relay, history, first)
    waiting = history.sent + random.sample(history.sent, k=len(history.sent) // 3)
    random.shuffle(waiting)
    replica = Replica(root)
    while waiting:
        ready = [update for update in waiting if _applies(replica, update)]
        assert ready, "no update can come next"
        update = random.choice(ready)
        replica.apply(update)
        waiting.remove(update)
    same(replica, history, first)


def _applies(replica: Replica, update: bytes) -> bool:
    try:
        read_relay_update(update, replica.root, replica.known)
    except Malformed as refusal:
        if refusal.reason in {"gap", "dangling_origin", "dangling_delete"}:
            return False
        raise
    return True


@given(roots, seeds, st.integers(5, 60))
def test_snapshots_and_differences(root: Root, seed: int, steps: int) -> None:
    random = Random(seed)
    history = run(root, random, steps)
    first = settled(history)
    at = random.randint(0, len(history.sent))
    behind = Replica(root)
    for update in history.sent[:at]:
        behind.apply(update)
    # A snapshot, then updates of which it held some already.
    replica = Replica(root)
    replica.apply(behind.doc.get_update())
    for update in history.sent[random.randint(0, at) :]:
        replica.apply(update)
    same(replica, history, first)
    # One difference from where a device stands, and the whole snapshot over what it has.
    state = write_state_vector(behind.known)
    over = Replica(root)
    over.apply(behind.doc.get_update())
    over.apply(history.relay.doc.get_update())
    same(over, history, first)
    behind.apply(history.relay.doc.get_update(state))
    same(behind, history, first)


@given(roots, seeds, st.integers(5, 60))
def test_a_snapshot_tells_all_that_is_live(root: Root, seed: int, steps: int) -> None:
    history = run(root, Random(seed), steps)
    snapshot = read_relay_update(history.relay.doc.get_update(), root, {})
    deleted = {(client, clock + i) for client, clock, n in snapshot.deletes for i in range(n)}
    live = sorted(value for at, _, value in snapshot.inserted if (at.client, at.clock) not in deleted)
    content = history.content
    assert live == sorted(content.values() if isinstance(content, dict) else content)
    assert {client: end for client, (_, end) in snapshot.clients.items()} == history.relay.known
    assert all(first == 0 for first, _ in snapshot.clients.values())


@pytest.mark.parametrize("root", Root)
def test_histories_hold_what_they_are_for(root: Root) -> None:
    """The generator makes tombstones, several clients, merged structs and, in a Map, overwrites and deletes."""
    found = set()
    for seed in range(20):
        history = run(root, Random(seed), 60)
        read = [read_relay_update(update, root) for update in history.sent]
        snapshot = read_relay_update(history.relay.doc.get_update(), root)
        taken = sum(end - first for first, end in snapshot.clients.values())
        found |= {
            *(["tombstones"] if len(snapshot.inserted) < taken else []),
            *(["clients"] if len(snapshot.clients) > 2 else []),
            *(["overwrites"] if any(key is None for u in read for _, key, _ in u.inserted) else []),
            *(["deletes"] if any(u.deletes for u in read) else []),
        }
    expected = {"tombstones", "clients", "overwrites", "deletes"}
    assert found >= (expected if root is Root.MAP else {"tombstones", "clients"})
