"""What a device may send, held against pycrdt: the same bytes, the same content, and nothing else."""

import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pycrdt import Array, Doc, Map, Text, XmlElement, XmlFragment, XmlText

from crdtmed.limits import (
    MAX_CLIENT_ID,
    MAX_CLOCK,
    MAX_KEY_CHARS,
    MAX_STRUCTS_PER_UPDATE,
    MAX_UPDATE_BYTES,
    MAX_VALUE_BYTES,
)
from crdtmed.updates import (
    ArrayInsert,
    DeviceUpdate,
    ItemId,
    Malformed,
    MapInsert,
    Root,
    read_device_update,
    write_array_update,
    write_map_update,
)
from tests.updates.mutations import mutated
from tests.updates.reference import uint
from tests.updates.strategies import array_updates, clients, entries, map_updates, rooted_updates, rows, values


def rewritten(update: DeviceUpdate) -> bytes:
    first = update.inserts[0]
    if isinstance(first, ArrayInsert):
        return write_array_update(update.client, update.clock, first.origin, first.values)
    inserts = [insert for insert in update.inserts if isinstance(insert, MapInsert)]
    return write_map_update(update.client, update.clock, [(insert.key, insert.value) for insert in inserts])


def recorded(doc: Doc[Any]) -> list[bytes]:
    """The updates that the document sends from now on."""
    sent: list[bytes] = []
    doc.observe(lambda event: sent.append(event.update))
    return sent


# --- the same bytes and the same content as pycrdt


def test_speaks_the_bytes_of_a_transaction() -> None:
    assert write_map_update(77, 0, [("a/b", b"hello"), ("c/d", b"x")]).hex(" ") == (
        "01 02 4d 00 28 01 01 6d 03 61 2f 62 01 74 05 68 65 6c 6c 6f 28 01 01 6d 03 63 2f 64 01 74 01 78 00"
    )
    assert write_array_update(77, 0, None, [b"one", b"two"]).hex(" ") == (
        "01 01 4d 00 08 01 01 61 02 74 03 6f 6e 65 74 03 74 77 6f 00"
    )
    assert write_array_update(77, 2, ItemId(77, 1), [b"three"]).hex(" ") == (
        "01 01 4d 02 88 4d 01 01 74 05 74 68 72 65 65 00"
    )


@given(clients, st.lists(entries, min_size=1, max_size=4))
def test_writes_what_pycrdt_writes_for_a_map(client: int, transactions: list[list[tuple[str, bytes]]]) -> None:
    doc: Doc[Any] = Doc(client_id=client)
    held: Map[Any] = doc.get("m", type=Map)
    sent = recorded(doc)
    replica: Doc[Any] = Doc()
    clock = 0
    content: dict[str, bytes] = {}
    for number, transaction in enumerate(transactions):
        fresh = [(f"{number}{key}"[:MAX_KEY_CHARS], value) for key, value in transaction]
        fresh = list(dict(fresh).items())
        with doc.transaction():
            for key, value in fresh:
                held[key] = value
        ours = write_map_update(client, clock, fresh)
        assert sent[-1] == ours
        replica.apply_update(ours)
        content.update(fresh)
        assert read_device_update(ours, Root.MAP) == DeviceUpdate(
            Root.MAP,
            client,
            clock,
            tuple(MapInsert(clock + i, key, value) for i, (key, value) in enumerate(fresh)),
        )
        clock += len(fresh)
    assert replica.get("m", type=Map).to_py() == content
    assert replica.get_update() == doc.get_update()


@given(st.lists(clients, min_size=2, max_size=3, unique=True), st.lists(st.tuples(st.integers(0, 2), rows), max_size=6))
def test_writes_what_pycrdt_writes_for_an_array(names: list[int], turns: list[tuple[int, list[bytes]]]) -> None:
    docs: list[Doc[Any]] = [Doc(client_id=name) for name in names]
    sent = [recorded(doc) for doc in docs]
    last: ItemId | None = None
    clock = dict.fromkeys(names, 0)
    content: list[bytes] = []
    replica: Doc[Any] = Doc()
    for who, row in turns:
        who %= len(names)
        client = names[who]
        held: Array[Any] = docs[who].get("a", type=Array)
        with docs[who].transaction():
            for value in row:
                held.append(value)
        ours = write_array_update(client, clock[client], last, row)
        assert sent[who][-1] == ours
        read = read_device_update(ours, Root.ARRAY, known=dict(clock))
        assert read == DeviceUpdate(Root.ARRAY, client, clock[client], (ArrayInsert(clock[client], last, tuple(row)),))
        assert (read.length, read.values) == (len(row), tuple(row))
        for index, doc in enumerate([*docs, replica]):
            if index != who:
                doc.apply_update(ours)
        clock[client] += len(row)
        last = ItemId(client, clock[client] - 1)
        content += row
    assert (replica.get("a", type=Array).to_py() or []) == content


@given(rooted_updates)
def test_reading_and_writing_are_inverse(case: tuple[Root, bytes]) -> None:
    root, data = case
    update = read_device_update(data, root)
    assert rewritten(update) == data
    assert update.root is root
    assert update.length == len(update.values)


# --- nothing else


@given(st.one_of(mutated(map_updates()), mutated(array_updates()), st.binary(max_size=60)), st.sampled_from(Root))
@example(b"", Root.MAP)
def test_what_is_accepted_is_what_the_writer_makes(data: bytes, root: Root) -> None:
    try:
        made = rewritten(read_device_update(data, root))
    except Malformed as refusal:
        made = data
        place = refusal.at
    else:
        place = 0
    assert made == data
    assert 0 <= place <= len(data)


@given(rooted_updates)
def test_every_cut_is_refused(case: tuple[Root, bytes]) -> None:
    root, data = case
    for size in range(len(data)):
        with pytest.raises(Malformed):
            read_device_update(data[:size], root)
    with pytest.raises(Malformed, match="trailing_bytes"):
        read_device_update(data + b"\x00", root)


@given(map_updates(), array_updates())
def test_the_other_root_is_refused(for_map: bytes, for_array: bytes) -> None:
    with pytest.raises(Malformed):
        read_device_update(for_map, Root.ARRAY)
    with pytest.raises(Malformed):
        read_device_update(for_array, Root.MAP)


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**40), 2**40), st.floats(allow_nan=False), st.text(max_size=5)
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)


def _text(doc: Doc[Any], draw: Callable[..., Any]) -> None:
    doc.get("t", type=Text).insert(0, draw(st.text(min_size=1, max_size=5)))


def _format(doc: Doc[Any], draw: Callable[..., Any]) -> None:
    doc.get("f", type=Text).format(0, 3, {"bold": draw(st.booleans())})


def _map_value(doc: Doc[Any], draw: Callable[..., Any]) -> None:
    doc.get("m", type=Map)["fresh"] = draw(anything)


def _array_value(doc: Doc[Any], draw: Callable[..., Any]) -> None:
    doc.get("a", type=Array).append(draw(anything))


def _nested_map(doc: Doc[Any], draw: Callable[..., Any]) -> None:
    doc.get("m", type=Map)["fresh"] = Map({"inner": draw(values)})


def _nested_array(doc: Doc[Any], draw: Callable[..., Any]) -> None:
    doc.get("a", type=Array).append(Array([draw(values)]))


def _inside_nested(doc: Doc[Any], draw: Callable[..., Any]) -> None:
    doc.get("m", type=Map)["nested"]["inner"] = draw(values)


def _nested_text(doc: Doc[Any], draw: Callable[..., Any]) -> None:
    doc.get("a", type=Array).append(Text(draw(st.text(max_size=5))))


def _subdocument(doc: Doc[Any], draw: Callable[..., Any]) -> None:
    doc.get("m", type=Map)["fresh"] = Doc(client_id=draw(clients))


def _xml(doc: Doc[Any], draw: Callable[..., Any]) -> None:
    fragment = doc.get("x", type=XmlFragment)
    fragment.children.append(XmlElement("p", {"k": draw(st.text(max_size=3))}, [XmlText("inner")]))


def _overwrite(doc: Doc[Any], draw: Callable[..., Any]) -> None:
    doc.get("m", type=Map)["held"] = draw(values)


def _delete_entry(doc: Doc[Any], draw: Callable[..., Any]) -> None:
    del doc.get("m", type=Map)["held"]


def _delete_row(doc: Doc[Any], draw: Callable[..., Any]) -> None:
    del doc.get("a", type=Array)[draw(st.integers(0, 1))]


def _insert_before(doc: Doc[Any], draw: Callable[..., Any]) -> None:
    doc.get("a", type=Array).insert(draw(st.integers(0, 1)), draw(values))


def _other_map(doc: Doc[Any], draw: Callable[..., Any]) -> None:
    doc.get(draw(st.sampled_from(["", "M", "n", "mm", "a"])) + "?", type=Map)["k"] = draw(values)


def _bad_key(doc: Doc[Any], draw: Callable[..., Any]) -> None:
    doc.get("m", type=Map)[draw(st.sampled_from(["", "é", "a\n", "\x7f", "k" * (MAX_KEY_CHARS + 1)]))] = b"x"


def _two_roots(doc: Doc[Any], draw: Callable[..., Any]) -> None:
    doc.get("m", type=Map)["fresh"] = draw(values)
    doc.get("a", type=Array).append(draw(values))


def _twice(doc: Doc[Any], draw: Callable[..., Any]) -> None:
    held = doc.get("m", type=Map)
    held["fresh"] = draw(values)
    held["fresh"] = draw(values)


FOREIGN: Sequence[Callable[[Doc[Any], Callable[..., Any]], None]] = (
    *(_text, _format, _map_value, _array_value, _nested_map, _nested_array, _inside_nested, _nested_text),
    *(_subdocument, _xml, _overwrite, _delete_entry, _delete_row, _insert_before, _other_map, _bad_key),
    *(_two_roots, _twice),
)


@pytest.mark.parametrize("act", FOREIGN)
@given(data=st.data())
def test_whatever_else_pycrdt_can_say_is_refused(
    act: Callable[[Doc[Any], Callable[..., Any]], None], data: st.DataObject
) -> None:
    doc: Doc[Any] = Doc(client_id=data.draw(clients))
    with doc.transaction():
        doc.get("m", type=Map)["held"] = b"held"
        doc.get("m", type=Map)["nested"] = Map({})
        doc.get("a", type=Array).append(b"one")
        doc.get("a", type=Array).append(b"two")
        doc.get("f", type=Text).insert(0, "text")
    sent = recorded(doc)
    with doc.transaction():
        act(doc, data.draw)
    assert len(sent) == 1
    for root in Root:
        for update in (sent[0], doc.get_update()):
            with pytest.raises(Malformed):
                read_device_update(update, root)


HEAD = b"\x01\x01\x05\x00"
ITEM = b"\x28\x01\x01m\x01k\x01t\x01v"
ROW = b"\x08\x01\x01a\x01t\x01v"


@pytest.mark.parametrize(
    ("root", "data", "reason", "at"),
    [
        (Root.MAP, b"", "truncated", 0),
        (Root.MAP, b"\x00\x00", "not_one_client", 0),
        (Root.MAP, b"\x02" + (HEAD + ITEM)[1:] + b"\x00", "not_one_client", 0),
        (Root.MAP, b"\x01\x00\x05\x00\x00", "empty", 1),
        (Root.MAP, b"\x01" + uint(MAX_STRUCTS_PER_UPDATE + 1) + b"\x05\x00", "too_big", 1),
        (Root.MAP, b"\x01\x01" + uint(MAX_CLIENT_ID + 1) + b"\x00" + ITEM + b"\x00", "too_big", 2),
        (Root.MAP, b"\x01\x01\x05" + uint(MAX_CLOCK) + ITEM + b"\x00", "too_big", 3),
        (Root.MAP, b"\x01\x01\x05\x80\x00" + ITEM + b"\x00", "not_minimal", 3),
        (Root.MAP, HEAD + ITEM + b"\x01\x05\x01\x00\x01", "has_deletes", len(HEAD + ITEM)),
        (Root.MAP, HEAD + ITEM + b"\x00\x00", "trailing_bytes", len(HEAD + ITEM) + 1),
        (Root.MAP, HEAD + b"\x28\x01\x01n\x01k\x01t\x01v\x00", "wrong_root", 5),
        (Root.MAP, HEAD + b"\x28\x01\x02mm\x01k\x01t\x01v\x00", "wrong_root", 5),
        (Root.MAP, HEAD + b"\x28\x00\x05\x00\x01k\x01t\x01v\x00", "wrong_root", 5),
        (Root.MAP, HEAD + b"\x08\x01\x01m\x01t\x01v\x00", "struct_not_allowed", 4),
        (Root.MAP, HEAD + b"\xa8\x05\x00\x01t\x01v\x00", "struct_not_allowed", 4),
        (Root.MAP, HEAD + b"\x00\x01\x00", "struct_not_allowed", 4),
        (Root.MAP, HEAD + b"\x0a\x01\x00", "struct_not_allowed", 4),
        (Root.MAP, HEAD + b"\x21\x01\x01m\x01k\x01\x00", "struct_not_allowed", 4),
        (Root.MAP, HEAD + b"\x28\x01\x01m\x00\x01t\x01v\x00", "bad_key", 8),
        (Root.MAP, HEAD + b"\x28\x01\x01m\x02\xc3\xa9\x01t\x01v\x00", "bad_key", 8),
        (Root.MAP, HEAD + b"\x28\x01\x01m\x01\x00\x01t\x01v\x00", "bad_key", 8),
        (Root.MAP, HEAD + b"\x28\x01\x01m" + uint(MAX_KEY_CHARS + 1), "too_big", 8),
        (Root.MAP, HEAD + b"\x28\x01\x01m\x01k\x02t\x01vt\x01w\x00", "not_one_value", 10),
        (Root.MAP, HEAD + b"\x28\x01\x01m\x01k\x01w\x01v\x00", "not_bytes", 11),
        (Root.MAP, HEAD + b"\x28\x01\x01m\x01k\x01t" + uint(MAX_VALUE_BYTES + 1), "too_big", 12),
        (Root.MAP, HEAD + b"\x28\x01\x01m\x01k\x01t\x05v\x00", "truncated", 15),
        (Root.MAP, b"\x01\x02\x05\x00" + ITEM + ITEM + b"\x00", "duplicate_key", 4 + 2 * len(ITEM)),
        (Root.MAP, bytes(MAX_UPDATE_BYTES + 1), "too_large", MAX_UPDATE_BYTES),
        (Root.ARRAY, b"\x01\x02\x05\x00" + ROW + ROW + b"\x00", "not_one_item", 1),
        (Root.ARRAY, HEAD + b"\x08\x01\x01m\x01t\x01v\x00", "wrong_root", 5),
        (Root.ARRAY, HEAD + b"\x08\x01\x01a\x00\x00", "empty", 8),
        (Root.ARRAY, HEAD + b"\x08\x01\x01a" + uint(MAX_STRUCTS_PER_UPDATE + 1), "too_big", 8),
        (Root.ARRAY, HEAD + b"\x48\x06\x00\x01t\x01v\x00", "struct_not_allowed", 4),
        (Root.ARRAY, HEAD + b"\xc8\x06\x00\x06\x01\x01t\x01v\x00", "struct_not_allowed", 4),
        (Root.ARRAY, HEAD + b"\x81\x06\x00\x01\x00", "struct_not_allowed", 4),
        (Root.ARRAY, HEAD + b"\x88\x05\x00\x01t\x01v\x00", "not_previous_item", 5),
        (Root.ARRAY, b"\x01\x01\x05\x02\x88\x05\x00\x01t\x01v\x00", "not_previous_item", 5),
        (Root.ARRAY, b"\x01\x01\x05\x02\x88\x05\x02\x01t\x01v\x00", "not_previous_item", 5),
        (Root.ARRAY, HEAD + b"\x88\x06" + uint(MAX_CLOCK), "too_big", 6),
        (Root.ARRAY, HEAD + b"\x88" + uint(MAX_CLIENT_ID + 1), "too_big", 5),
        (Root.ARRAY, b"\x01\x01\x05" + uint(MAX_CLOCK) + ROW + b"\x00", "too_big", 3),
    ],
)
def test_refuses_with_reason_and_place(root: Root, data: bytes, reason: str, at: int) -> None:
    with pytest.raises(Malformed) as caught:
        read_device_update(data, root)
    assert (caught.value.reason, caught.value.at) == (reason, at)
    assert reason in str(caught.value)


def test_an_origin_must_be_known() -> None:
    update = write_array_update(5, 0, ItemId(6, 3), [b"v"])
    assert read_device_update(update, Root.ARRAY, known={6: 4}).client == 5
    for known in ({}, {6: 3}, {5: 9}):
        with pytest.raises(Malformed, match="dangling_origin"):
            read_device_update(update, Root.ARRAY, known=known)


def test_an_own_origin_and_the_clock_are_not_judged_by_what_is_known() -> None:
    # An update in flight continues one that the document does not hold yet.
    update = read_device_update(write_array_update(5, 8, ItemId(5, 7), [b"v"]), Root.ARRAY, known={5: 2})
    assert update.clock == 8


def test_limits_are_reached() -> None:
    full = write_map_update(
        MAX_CLIENT_ID,
        MAX_CLOCK - 15,
        [("k" * (MAX_KEY_CHARS - 2) + f"{i:02}", b"v" * MAX_VALUE_BYTES) for i in range(15)],
    )
    assert read_device_update(full, Root.MAP).length == 15
    row = write_array_update(MAX_CLIENT_ID, MAX_CLOCK - 256, None, [b"v"] * MAX_STRUCTS_PER_UPDATE)
    assert read_device_update(row, Root.ARRAY).length == MAX_STRUCTS_PER_UPDATE


@pytest.mark.parametrize(
    ("client", "clock", "written", "says"),
    [
        (-1, 0, [("k", b"")], "client"),
        (MAX_CLIENT_ID + 1, 0, [("k", b"")], "client"),
        (1, -1, [("k", b"")], "clock"),
        (1, MAX_CLOCK, [("k", b"")], "clock"),
        (1, 0, [], "values in one update"),
        (1, 0, [(str(i), b"") for i in range(MAX_STRUCTS_PER_UPDATE + 1)], "values in one update"),
        (1, 0, [("k", b""), ("k", b"")], "twice"),
        (1, 0, [("", b"")], "printable ASCII"),
        (1, 0, [("é", b"")], "printable ASCII"),
        (1, 0, [("k" * (MAX_KEY_CHARS + 1), b"")], "printable ASCII"),
        (1, 0, [("k", bytes(MAX_VALUE_BYTES + 1))], "a value of"),
        (1, 0, [(str(i), bytes(MAX_VALUE_BYTES)) for i in range(16)], "an update of"),
    ],
)
def test_the_writer_makes_nothing_that_the_reader_refuses(
    client: int, clock: int, written: list[tuple[str, bytes]], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        write_map_update(client, clock, written)


@pytest.mark.parametrize(
    ("origin", "says"),
    [
        (ItemId(5, 3), "previous item"),
        (ItemId(5, 9), "previous item"),
        (ItemId(-1, 0), "client"),
        (ItemId(6, MAX_CLOCK), "clock"),
    ],
)
def test_the_writer_makes_no_origin_that_the_reader_refuses(origin: ItemId, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        write_array_update(5, 9, origin, [b"v"])


@pytest.mark.parametrize("tail", [b"", ITEM, b"\x28\x01\x01m" + b"\xff" * 9, b"\x28\x01\x01m\x01k\x01t" + b"\xff" * 9])
def test_a_huge_length_costs_nothing(tail: bytes) -> None:
    data = b"\x01" + uint(MAX_STRUCTS_PER_UPDATE) + b"\x05\x00" + tail
    tracemalloc.start()
    try:
        with pytest.raises(Malformed):
            read_device_update(data, Root.MAP)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16_384
