"""Values that were not accepted lose their content and keep their clocks, and take nothing else with them."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycrdt import Doc, Map

from crdtmed.updates import (
    ArrayInsert,
    DeviceUpdate,
    ItemId,
    MapInsert,
    Root,
    read_device_update,
    read_relay_update,
    tombstoned,
    write_array_update,
    write_map_update,
)
from tests.updates.histories import Replica
from tests.updates.strategies import rooted_updates

updates = rooted_updates.map(lambda case: (case[1], read_device_update(case[1], case[0])))


@given(updates, st.data())
def test_keeps_clocks_and_accepted_values(case: tuple[bytes, DeviceUpdate], data: st.DataObject) -> None:
    written, update = case
    kept = data.draw(st.lists(st.booleans(), min_size=update.length, max_size=update.length))
    done = tombstoned(update, kept)
    read = read_relay_update(done, update.root)
    assert read.clients == {update.client: (update.clock, update.clock + update.length)}
    assert read.deletes == ()
    keys = [insert.key if isinstance(insert, MapInsert) else None for insert in update.inserts]
    if update.root is Root.ARRAY:
        keys *= update.length
    assert read.inserted == tuple(
        (ItemId(update.client, update.clock + i), keys[i], update.values[i]) for i in range(update.length) if kept[i]
    )
    if all(kept):
        assert done == written


@pytest.mark.parametrize("kept", [[], [True], [True] * 3])
def test_wants_one_decision_for_each_value(kept: list[bool]) -> None:
    update = read_device_update(write_map_update(5, 0, [("a", b"1"), ("b", b"2")]), Root.MAP)
    with pytest.raises(ValueError, match="for 2 values"):
        tombstoned(update, kept)


def test_the_bytes_of_a_tombstone() -> None:
    entries = read_device_update(write_map_update(5, 0, [("a", b"1"), ("b", b"2"), ("c", b"3")]), Root.MAP)
    assert tombstoned(entries, [False, False, True]).hex(" ") == ("01 02 05 00 00 02 28 01 01 6d 01 63 01 74 01 33 00")
    row = read_device_update(write_array_update(5, 4, ItemId(6, 2), [b"1", b"2", b"3", b"4"]), Root.ARRAY)
    assert tombstoned(row, [False, False, True, False]).hex(" ") == (
        "01 03 05 04 81 06 02 02 88 05 05 01 74 01 33 81 05 06 01 00"
    )
    alone = read_device_update(write_array_update(5, 0, None, [b"1"]), Root.ARRAY)
    assert tombstoned(alone, [False]).hex(" ") == "01 01 05 00 01 01 01 61 01 00"


@given(st.lists(st.integers(0, 2**40), min_size=2, max_size=5, unique=True), st.data())
def test_a_tombstone_in_a_map_hides_nothing(clients: list[int], data: st.DataObject) -> None:
    """Several clients under one key, one of them accepted: its value stays, whatever the order and the clients."""
    winner = data.draw(st.sampled_from(clients))
    sent = [
        tombstoned(
            read_device_update(write_map_update(client, 0, [("same", b"%d" % client)]), Root.MAP), [client == winner]
        )
        for client in clients
    ]
    replica = Replica(Root.MAP)
    for update in data.draw(st.permutations(sent)):
        replica.apply(update)
    assert replica.content == {"same": b"%d" % winner}
    again = Replica(Root.MAP)
    again.apply(replica.doc.get_update())
    assert again.content == replica.content
    assert again.known == dict.fromkeys(clients, 1)


def test_without_it_the_higher_client_would_hide_the_accepted_value() -> None:
    """What the tombstone is for: pycrdt decides between writers of one key by client, not by what was accepted."""
    doc: Doc[Any] = Doc()
    held: Map[Any] = doc.get("m", type=Map)
    for client in (1, 2):
        doc.apply_update(write_map_update(client, 0, [("same", b"%d" % client)]))
    assert held.to_py() == {"same": b"2"}


@pytest.mark.parametrize("kept", list(itertools.product([False, True], repeat=4)))
def test_neighbours_of_a_tombstone_in_an_array_stay(kept: tuple[bool, ...]) -> None:
    """Later items of the same client and of others, behind each value of the update, accepted or not."""
    values = [b"0", b"1", b"2", b"3"]
    update = read_device_update(write_array_update(5, 0, None, values), Root.ARRAY)
    replica = Replica(Root.ARRAY)
    replica.apply(tombstoned(update, kept))
    replica.apply(write_array_update(5, 4, ItemId(5, 3), [b"own"]))
    expected = [value for value, keep in zip(values, kept, strict=True) if keep]
    assert replica.content == [*expected, b"own"]
    for client in range(6, 10):
        replica.apply(write_array_update(client, 0, ItemId(5, client - 6), [b"%d" % client]))
    content = replica.content
    assert isinstance(content, list)
    assert [value for value in content if value in values] == expected
    assert sorted(content) == sorted([*expected, b"own", b"6", b"7", b"8", b"9"])
    again = Replica(Root.ARRAY)
    again.apply(replica.doc.get_update())
    assert again.content == content


@given(st.permutations(range(5)), st.lists(st.booleans(), min_size=10, max_size=10))
def test_tombstones_of_several_clients_commute(order: list[int], kept: list[bool]) -> None:
    """Inserts of five clients at one place, each half accepted: every order gives one document."""
    sent = [
        tombstoned(
            read_device_update(write_array_update(client + 1, 0, None, [b"%da" % client, b"%db" % client]), Root.ARRAY),
            kept[2 * client : 2 * client + 2],
        )
        for client in range(5)
    ]
    replicas = [Replica(Root.ARRAY), Replica(Root.ARRAY)]
    for index in range(5):
        replicas[0].apply(sent[index])
        replicas[1].apply(sent[order[index]])
    assert replicas[0].content == replicas[1].content
    assert len(replicas[0].content) == sum(kept)


def test_array_updates_hold_one_item() -> None:
    insert = read_device_update(write_array_update(5, 0, None, [b"1", b"2"]), Root.ARRAY).inserts
    assert insert == (ArrayInsert(0, None, (b"1", b"2")),)
