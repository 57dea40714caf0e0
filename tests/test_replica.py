"""Replicas against each other: what one writes the other holds, whatever the order, and failure is told once."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed import documents, replica
from crdtmed.limits import MAX_KEY_CHARS
from crdtmed.replica import Replica, ReplicaBroken, WrongRoot
from crdtmed.updates import (
    ItemId,
    Malformed,
    RelayUpdate,
    Root,
    read_device_update,
    tombstoned,
    write_array_update,
    write_map_update,
    write_state_vector,
)

MAP = "patient/p-1"
DRAFTS = "patient/p-1/drafts"
LOG = "patient/p-1/log/2026-01"

KEYS = st.sampled_from("abcd")
CHANGES = st.lists(
    st.tuples(st.dictionaries(KEYS, st.binary(max_size=6), max_size=3), st.lists(KEYS, max_size=2)), max_size=8
)


def same(one: Replica, other: Replica) -> bool:
    """Whether two replicas hold the same, by everything that they show."""
    return (one.values(), one.digest(), one.state_vector) == (other.values(), other.digest(), other.state_vector)


@given(CHANGES, st.integers(0, 8))
def test_what_the_relay_writes_arrives_as_updates_and_as_a_snapshot(
    changes: list[tuple[dict[str, bytes], list[str]]], cut: int
) -> None:
    relay, reader, late = Replica.open(MAP, 1), Replica.open(MAP, 2), Replica.open(MAP, 3)
    expected: dict[str, bytes] = {}
    for at, (written, deleted) in enumerate(changes):
        update = relay.change(written, deleted)
        expected = {key: value for key, value in expected.items() if key not in deleted} | written
        if update:
            read = reader.apply(update)
            assert sorted(value for _, _, value in read.inserted) == sorted(written.values())
        if at == cut:
            late = Replica.load(MAP, 3, relay.snapshot(), "e", 7)
    late.apply(relay.diff(write_state_vector(late.state_vector)))
    for one in (relay, reader, late):
        assert one.map() == expected
        assert list(one.map()) == sorted(expected)
        assert one.values() == [expected[key] for key in sorted(expected)]
        assert one.digest() == documents.map_digest(expected)
    assert same(relay, reader)
    assert same(relay, late)


@given(CHANGES, CHANGES)
def test_a_relay_that_loads_again_writes_on_under_a_new_client(
    before: list[tuple[dict[str, bytes], list[str]]], after: list[tuple[dict[str, bytes], list[str]]]
) -> None:
    first, reader = Replica.open(MAP, 90), Replica.open(MAP, 5)
    for written, deleted in before:
        if update := first.change(written, deleted):
            reader.apply(update)
    second = Replica.load(MAP, 7, first.snapshot(), "e", 1)
    for written, deleted in after:
        if update := second.change(written, deleted):
            reader.apply(update)
    assert same(second, reader)


@given(st.lists(st.tuples(st.integers(1, 3), st.lists(st.binary(max_size=5), min_size=1, max_size=3)), max_size=10))
def test_devices_that_append_behind_the_last_item_keep_arrival_order(pushes: list[tuple[int, list[bytes]]]) -> None:
    relay = Replica.open(LOG, 100)
    devices = {client: Replica.open(LOG, client) for client in (1, 2, 3)}
    expected: list[bytes] = []
    for client, values in pushes:
        base = devices[client]
        own = base.state_vector.get(client, 0)
        # Behind the last item of base, as a device whose own items are not the last would under a new client id.
        origin = Replica.load(LOG, 50, base.snapshot(), "e", 0).last_item
        if own and origin is not None and origin.client == client:
            assert origin == base.last_item == ItemId(client, own - 1)
        update = write_array_update(client, own, base.last_item, values)
        for one in (relay, *devices.values()):
            one.apply(update)
        expected += values
    for one in (relay, *devices.values()):
        assert sorted(one.values()) == sorted(expected)
        assert one.digest() == documents.array_digest(expected)
        assert same(one, relay)


def test_the_last_item_is_the_own_one_else_the_last_else_none() -> None:
    assert Replica.open(LOG, 8).last_item is None
    log = Replica.open(LOG, 8)
    log.apply(write_array_update(3, 0, None, [b"a", b"b"]))
    assert log.last_item == ItemId(3, 1)
    log.apply(write_array_update(2, 0, ItemId(3, 1), [b"c"]))
    assert log.last_item == ItemId(2, 0)
    log.apply(write_array_update(8, 0, ItemId(2, 0), [b"d"]))
    log.apply(write_array_update(2, 1, ItemId(8, 0), [b"e"]))
    assert log.last_item == ItemId(8, 0)
    assert log.values()[-1] == b"e"
    assert Replica.load(LOG, 9, log.snapshot(), "e", 4).last_item == ItemId(2, 1)


def test_a_tombstone_takes_its_clocks_and_shows_nothing() -> None:
    log, drafts = Replica.open(LOG, 9), Replica.open(DRAFTS, 9)
    pushed = read_device_update(write_array_update(1, 0, None, [b"a", b"b", b"c"]), Root.ARRAY)
    log.apply(tombstoned(pushed, [True, False, True]))
    assert (log.values(), log.state_vector) == ([b"a", b"c"], {1: 3})
    log.apply(write_array_update(1, 3, ItemId(1, 2), [b"d"]))
    assert log.values() == [b"a", b"c", b"d"]
    written = read_device_update(write_map_update(1, 0, [("x", b"1"), ("y", b"2")]), Root.MAP)
    drafts.apply(tombstoned(written, [False, True]))
    assert (drafts.map(), drafts.state_vector) == ({"y": b"2"}, {1: 2})


@pytest.mark.parametrize(
    ("name", "update", "reason"),
    [
        (MAP, b"\x01\x02\x03", "truncated"),
        (MAP, write_array_update(1, 0, None, [b"a"]), "struct_not_allowed"),
        (LOG, write_map_update(1, 0, [("a", b"b")]), "struct_not_allowed"),
        (LOG, write_array_update(1, 1, ItemId(1, 0), [b"a"]), "gap"),
        (LOG, write_array_update(1, 0, ItemId(5, 0), [b"a"]), "dangling_origin"),
        (MAP, b"\x00\x01\x05\x01\x00\x01", "dangling_delete"),
    ],
)
def test_what_does_not_continue_the_document_is_refused_and_changes_nothing(
    name: str, update: bytes, reason: str
) -> None:
    one = Replica.open(name, 9)
    with pytest.raises(Malformed) as refused:
        one.apply(update)
    assert refused.value.reason == reason
    assert one.values() == []
    assert one.state_vector == {}
    if one.document.root is Root.MAP:
        one.set({"a": b"still usable"})
        assert one.map() == {"a": b"still usable"}


def test_a_bad_state_vector_is_refused() -> None:
    with pytest.raises(Malformed):
        Replica.open(MAP, 1).diff(b"\x05")


def test_a_snapshot_that_is_none_is_refused() -> None:
    with pytest.raises(Malformed):
        Replica.load(MAP, 1, b"\xff" * 20, "e", 1)


def test_a_new_replica_stands_where_it_was_told() -> None:
    one = Replica.open(MAP, 4)
    assert (one.epoch, one.position, one.document.name, one.client_id) == ("", 0, MAP, 4)
    two = Replica.load(MAP, 5, one.snapshot(), "abc", 12)
    assert (two.epoch, two.position) == ("abc", 12)
    with pytest.raises(documents.BadName):
        Replica.open("ward/3", 1)


def test_nothing_to_write_is_no_update() -> None:
    one = Replica.open(MAP, 1)
    assert one.set({}) == b""
    assert one.delete(["absent"]) == b""
    one.set({"a": b"1"})
    assert one.change({"a": b"2"}, ["a", "a"]) != b""
    assert one.map() == {"a": b"2"}
    assert one.delete(["a", "a"]) != b""
    assert one.map() == {}


@pytest.mark.parametrize("act", [Replica.map, lambda it: it.set({"a": b""}), lambda it: it.delete(["a"])])
def test_a_log_has_no_keys(act: Callable[[Replica], object]) -> None:
    with pytest.raises(WrongRoot):
        act(Replica.open(LOG, 1))


def test_a_map_has_no_last_item() -> None:
    with pytest.raises(WrongRoot):
        _ = Replica.open(MAP, 1).last_item


def is_broken(one: Replica) -> bool:
    """Whether every use of the replica is refused."""
    uses: list[Callable[[], object]] = [one.values, one.snapshot, one.digest, lambda: one.diff(b"\x00")]
    for use in uses:
        with pytest.raises(ReplicaBroken):
            use()
    return True


def test_a_key_that_no_reader_would_take_is_refused_and_breaks_the_replica() -> None:
    one = Replica.open(MAP, 1)
    with pytest.raises(Malformed):
        one.set({"a" * (MAX_KEY_CHARS + 1): b""})
    assert is_broken(one)


def test_a_failure_of_pycrdt_breaks_the_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "read_relay_update", lambda *_: RelayUpdate((), {}, ()))
    one = Replica.open(MAP, 1)
    one.set({})
    with pytest.raises(ReplicaBroken, match="patient/p-1: pycrdt failed with ValueError"):
        one.apply(b"\x01\x02\x03")
    assert is_broken(one)


@pytest.mark.parametrize("use", [Replica.snapshot, lambda one: one.set({}), lambda one: one.apply(b"\x00\x00")])
@pytest.mark.parametrize("first", [b"\x01\x02\x03", write_map_update(1, 0, [("a", b"1")])])
def test_a_first_update_that_pycrdt_takes_otherwise_than_it_reads_breaks_the_replica(
    monkeypatch: pytest.MonkeyPatch, first: bytes, use: Callable[[Replica], object]
) -> None:
    monkeypatch.setattr(replica, "read_relay_update", lambda *_: RelayUpdate((), {}, ()))
    one = Replica.open(MAP, 1)
    one.apply(first)
    assert one.map() == {}
    with pytest.raises(ReplicaBroken, match="patient/p-1: pycrdt failed with ValueError"):
        use(one)
    with pytest.raises(ReplicaBroken):
        one.map()


@given(CHANGES)
def test_a_replica_that_has_read_one_update_shows_what_pycrdt_does(
    changes: list[tuple[dict[str, bytes], list[str]]],
) -> None:
    relay = Replica.open(MAP, 90)
    for written, deleted in changes:
        relay.change(written, deleted)
    late, opened = Replica.load(MAP, 5, relay.snapshot(), "e", 1), Replica.load(MAP, 5, relay.snapshot(), "e", 1)
    opened.set({})
    assert same(late, opened)
    assert [late.value(key) for key in "abcd"] == [opened.value(key) for key in "abcd"]
    assert late.snapshot() == opened.snapshot() == relay.snapshot()
    assert same(late, opened)


def test_what_an_update_inserts_and_deletes_at_once_is_not_there() -> None:
    values = [b"%d" % number for number in range(6)]
    update = write_array_update(7, 0, None, values)[:-1] + b"\x01\x07\x02\x01\x01\x03\x02"
    late, opened = Replica.load(LOG, 5, update, "e", 1), Replica.load(LOG, 5, update, "e", 1)
    opened.snapshot()
    assert late.values() == opened.values() == [b"0", b"2", b"5"]
    assert same(late, opened)


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=3)), max_size=12))
def test_a_log_that_has_read_one_update_shows_what_pycrdt_does(said: list[tuple[bool, bytes]]) -> None:
    relay = Replica.open(LOG, 90)
    for clock, (kept, value) in enumerate(said):
        update = write_array_update(2, clock, ItemId(2, clock - 1) if clock else None, [value])
        relay.apply(update if kept else tombstoned(read_device_update(update, Root.ARRAY), [False]))
    late, opened = Replica.load(LOG, 5, relay.snapshot(), "e", 1), Replica.load(LOG, 5, relay.snapshot(), "e", 1)
    opened.snapshot()
    assert late.values() == opened.values() == [value for kept, value in said if kept]
    assert same(late, opened)
    assert late.last_item == opened.last_item == relay.last_item


class PanicException(BaseException):
    """Like the one of pycrdt: no `Exception`."""


@pytest.mark.parametrize("raised", [PanicException, KeyboardInterrupt])
def test_a_panic_breaks_the_replica_and_an_interrupt_goes_on(raised: type[BaseException]) -> None:
    one = Replica.open(MAP, 1)

    def panic() -> None:
        raise raised

    with pytest.raises(ReplicaBroken if raised is PanicException else KeyboardInterrupt):
        one._guarded(panic)
    assert is_broken(one)
