"""What the relay may send: pycrdt's own updates under our rules, and nothing that pycrdt does not survive."""

import tracemalloc
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycrdt import Array, Doc, Map, Text

from crdtmed.limits import (
    MAX_CLIENT_ID,
    MAX_CLIENTS_PER_DOCUMENT,
    MAX_CLOCK,
    MAX_KEY_CHARS,
    MAX_RELAY_STRUCTS,
    MAX_RELAY_UPDATE_BYTES,
    MAX_RELAY_VALUE_BYTES,
    MAX_VALUE_BYTES,
)
from crdtmed.updates import ItemId, Malformed, RelayUpdate, Root, read_relay_update
from tests.updates import wild
from tests.updates.histories import run
from tests.updates.mutations import mutate
from tests.updates.outside import apply_all
from tests.updates.reference import Struct, Update, decode, encode, uint

roots = st.sampled_from(Root)
seeds = st.integers(0, 2**32)


def accepted(data: bytes, root: Root, known: Mapping[int, int] | None = None) -> RelayUpdate | None:
    try:
        return read_relay_update(data, root, known)
    except Malformed:
        return None


# --- what is read


def test_reads_what_pycrdt_sends_for_overwrites_and_deletes() -> None:
    doc: Doc[Any] = Doc(client_id=77)
    held: Map[Any] = doc.get("m", type=Map)
    sent: list[bytes] = []
    doc.observe(lambda event: sent.append(event.update))
    with doc.transaction():
        held["a/b"] = b"hello"
        held["c/d"] = b"x"
    held["a/b"] = b"hello2"
    del held["c/d"]
    assert [read_relay_update(update, Root.MAP) for update in sent] == [
        RelayUpdate(((ItemId(77, 0), "a/b", (b"hello",)), (ItemId(77, 1), "c/d", (b"x",))), {77: (0, 2)}, ()),
        RelayUpdate(((ItemId(77, 2), None, (b"hello2",)),), {77: (2, 3)}, ((77, 0, 1),)),
        RelayUpdate((), {}, ((77, 1, 1),)),
    ]
    assert read_relay_update(doc.get_update(), Root.MAP, {}) == RelayUpdate(
        ((ItemId(77, 2), None, (b"hello2",)),), {77: (0, 3)}, ((77, 0, 2),)
    )
    read = [read_relay_update(update, Root.MAP) for update in (*sent, doc.get_update())]
    assert [dict(one.keys) for one in read] == [{"a/b": (77, 0), "c/d": (77, 1)}, {}, {}, read[-1].keys]
    assert [dict(one.follows) for one in read] == [{}, {(77, 2): (77, 0)}, {}, {(77, 2): (77, 0)}]
    assert dict(read[-1].keys) == {"a/b": (77, 0), "c/d": (77, 1)}, "of what was deleted too"


def test_reads_a_difference_that_begins_within_an_item() -> None:
    doc: Doc[Any] = Doc(client_id=5)
    row: Array[Any] = doc.get("a", type=Array)
    for index in range(5):
        row.append(b"%d" % index)
    assert read_relay_update(doc.get_update(b"\x01\x05\x02"), Root.ARRAY, {5: 2}) == RelayUpdate(
        ((ItemId(5, 2), None, (b"2", b"3", b"4")),), {5: (2, 5)}, ()
    )


@pytest.mark.parametrize("root", Root)
def test_reads_nothing_at_all(root: Root) -> None:
    assert read_relay_update(Doc().get_update(), root, {}) == RelayUpdate((), {}, ())


@given(roots, seeds)
def test_tells_what_the_bytes_say(root: Root, seed: int) -> None:
    """Held against the second implementation, for updates of every shape."""
    random = Random(seed)
    known = {client: random.randint(0, 9) for client in random.sample(wild.CLIENTS, 3)}
    update = wild.update(random, root, known)
    read = accepted(encode(update), root, known)
    if read is not None:
        assert {(at.client, at.clock): value for at, _, value in read.inserted} == update.values
        assert read.clients == update.spans
        assert {(c, clock + i) for c, clock, n in read.deletes for i in range(n)} == update.deleted
        keys = [s.key for _, _, structs in update.clients for s in structs for _ in s.values or ()]
        assert [key for _, key, _ in read.inserted] == keys


# --- what is accepted is safe for pycrdt


@settings(max_examples=5)
@given(seeds)
def test_what_is_accepted_is_applied_whole_and_can_be_read(seed: int) -> None:
    """Structs in wild places, known ones again in other pieces, deletes: nothing pending, lost, hung or dead."""
    random = Random(seed)
    cases = [(root := random.choice(list(Root)), wild.sequence(random, root)) for _ in range(300)]
    safe(cases)


def safe(cases: list[tuple[Root, list[bytes]]]) -> None:
    for (root, updates), outcome in zip(cases, apply_all(cases), strict=True):
        case = root, [update.hex() for update in updates]
        assert outcome.error is None, (case, outcome.error)
        known: dict[int, int] = {}
        live: dict[tuple[int, int], bytes] = {}
        deleted: set[tuple[int, int]] = set()
        for data in updates:
            update = decode(data)
            # Of clocks that come twice pycrdt keeps the first.
            live.update({at: v for at, v in update.values.items() if at[1] >= known.get(at[0], 0)})
            deleted |= update.deleted
            known.update({c: max(known.get(c, 0), end) for c, (_, end) in update.spans.items()})
        assert dict(outcome.state) == known, case
        if root is Root.ARRAY:
            assert outcome.survives_reload, case
            assert sorted(outcome.values) == sorted(v for at, v in live.items() if at not in deleted), case
            assert accepted(outcome.snapshot, root, {}), case
        else:
            assert set(outcome.values) <= set(live.values()), case


@settings(max_examples=5)
@given(roots, seeds)
def test_a_mutation_is_refused_or_means_what_it_says(root: Root, seed: int) -> None:
    """Updates of a history mutated: what is still accepted has one encoding, and pycrdt survives it."""
    random = Random(seed)
    history = run(root, random, 60)
    sent = [*history.sent, history.relay.doc.get_update()]
    cases = []
    for _ in range(1_000):
        at = random.randrange(len(sent))
        bad = mutate(random, random.choice([sent[at], random.choice(sent)]), random.choice(sent))
        known: dict[int, int] = {}
        for update in sent[:at]:
            known.update({client: end for client, (_, end) in decode(update).spans.items()})
        read = accepted(bad, root, known)
        if read is not None:
            assert encode(decode(bad)) == bad
            assert [value for _, _, value in read.inserted] == list(decode(bad).values.values())
            cases.append((root, [*sent[:at], bad]))
    safe(cases)


@given(roots, st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(root: Root, data: bytes) -> None:
    if accepted(data, root) is not None:
        assert encode(decode(data)) == data


@given(roots, seeds)
def test_every_cut_and_every_tail_is_refused(root: Root, seed: int) -> None:
    for update in wild.sequence(Random(seed), root, most=1)[:1]:
        assert accepted(update, root, {}) is not None
        for size in range(len(update)):
            assert accepted(update[:size], root, {}) is None
        assert accepted(update + b"\x00", root, {}) is None


@given(st.integers(0, 2**32), st.booleans())
def test_references_are_refused_exactly_when_no_order_serves_them(seed: int, everything: bool) -> None:
    """Clients that wait for each other, held against trying: apply whatever can be applied until nothing can."""
    random = Random(seed)
    clients = [3, 2, 1][: random.randint(2, 3)]
    lengths = {client: [random.randint(1, 2) for _ in range(random.randint(1, 5))] for client in clients}
    ends = {client: sum(lengths[client]) for client in clients}
    structs: dict[int, list[Struct]] = {}
    for client in clients:
        structs[client] = []
        for length in lengths[client]:
            other = random.choice(clients)
            clock = random.randrange(ends[other]) if everything else random.randrange(max(ends[other] // 2, 1))
            own = sum(s.length for s in structs[client])
            origin = (other, clock) if other != client or clock < own else None
            structs[client].append(
                Struct(length, tuple([b"v"] * length), origin=origin, parent=None if origin else "a")
            )
    update = Update(tuple((client, 0, tuple(structs[client])) for client in clients))
    done = dict.fromkeys(clients, 0)
    waiting = {client: list(structs[client]) for client in clients}
    moved = True
    while moved:
        moved = False
        for client in clients:
            while waiting[client] and _ready(waiting[client][0], done):
                done[client] += waiting[client].pop(0).length
                moved = True
    read = accepted(encode(update), Root.ARRAY, {})
    assert (read is not None) == (not any(waiting.values()))


def _ready(struct: Struct, done: Mapping[int, int]) -> bool:
    return struct.origin is None or struct.origin[1] < done[struct.origin[0]]


# --- what is refused, and why

ITEM = b"\x28\x01\x01m\x01k\x01t\x01v"
ROW = b"\x08\x01\x01a\x01t\x01v"
ONE = b"\x01\x01\x05\x00"


@pytest.mark.parametrize(
    ("root", "data", "reason", "at"),
    [
        (Root.MAP, b"", "truncated", 0),
        (Root.MAP, b"\x00", "truncated", 1),
        (Root.MAP, ONE + ITEM, "truncated", len(ONE + ITEM)),
        (Root.MAP, b"\x00\x00\x00", "trailing_bytes", 2),
        (Root.MAP, uint(MAX_CLIENTS_PER_DOCUMENT + 1), "too_big", 0),
        (Root.MAP, b"\x01" + uint(MAX_RELAY_STRUCTS + 1), "too_big", 1),
        (Root.MAP, b"\x01\x00\x05\x00\x00", "empty", 1),
        (Root.MAP, b"\x01\x01" + uint(MAX_CLIENT_ID + 1) + b"\x00" + ITEM + b"\x00", "too_big", 2),
        (Root.MAP, b"\x01\x01\x05" + uint(MAX_CLOCK) + ITEM + b"\x00", "too_big", 3 + len(uint(MAX_CLOCK))),
        (Root.MAP, b"\x02" + ONE[1:] + ITEM + ONE[1:] + ITEM + b"\x00", "clients_not_descending", 15),
        (Root.MAP, b"\x02" + ONE[1:] + ITEM + b"\x01\x06\x00" + ITEM + b"\x00", "clients_not_descending", 15),
        (Root.MAP, b"\x01\x02\x05\x00" + ITEM + ITEM + b"\x00", "duplicate_key", 18),
        (Root.MAP, ONE + b"\x00\x00\x00", "empty", 4),
        (Root.MAP, ONE + b"\x00" + uint(MAX_CLOCK + 1) + b"\x00", "too_big", 5),
        (Root.MAP, b"\x01\x02\x05\x00\x00" + uint(MAX_CLOCK) + b"\x00\x01\x00", "too_big", 10),
        (Root.MAP, ONE + b"\x0a\x01\x00", "struct_not_allowed", 4),
        (Root.MAP, ONE + ROW + b"\x00", "struct_not_allowed", 4),
        (Root.MAP, ONE + b"\x88\x05\x00\x01t\x01v\x00", "struct_not_allowed", 4),
        (Root.MAP, ONE + b"\x68\x06\x00\x01t\x01v\x00", "struct_not_allowed", 4),
        (Root.MAP, ONE + b"\xe8\x06\x00\x06\x00\x01t\x01v\x00", "struct_not_allowed", 4),
        *((Root.MAP, ONE + bytes([0x20 | content]) + ITEM[1:] + b"\x00", "struct_not_allowed", 4)
          for content in (0, 2, 3, 4, 5, 6, 7, 9, 10, 11, 24)),
        (Root.MAP, ONE + b"\x28\x01\x01a\x01k\x01t\x01v\x00", "wrong_root", 5),
        (Root.MAP, ONE + b"\x28\x00\x05\x00\x01k\x01t\x01v\x00", "wrong_root", 5),
        (Root.MAP, ONE + b"\x21\x01\x01n\x01k\x01\x00", "wrong_root", 5),
        (Root.MAP, ONE + b"\x28\x01\x01m\x00\x01t\x01v\x00", "bad_key", 8),
        (Root.MAP, ONE + b"\x28\x01\x01m\x01\x1f\x01t\x01v\x00", "bad_key", 8),
        (Root.MAP, ONE + b"\x21\x01\x01m\x02\xc3\xa9\x01\x00", "bad_key", 8),
        (Root.MAP, ONE + b"\x28\x01\x01m" + uint(MAX_KEY_CHARS + 1), "too_big", 8),
        (Root.MAP, ONE + b"\x28\x01\x01m\x05k", "truncated", 10),
        (Root.MAP, ONE + b"\x28\x01\x01m\x01k\x02t\x01vt\x01w\x00", "not_one_value", 10),
        (Root.MAP, ONE + b"\x28\x01\x01m\x01k\x00\x00", "not_one_value", 10),
        (Root.MAP, ONE + b"\x28\x01\x01m\x01k\x01}\x01\x00", "not_bytes", 11),
        (Root.MAP, ONE + b"\x28\x01\x01m\x01k\x01t" + uint(MAX_RELAY_VALUE_BYTES + 1), "too_big", 12),
        (Root.MAP, ONE + b"\x21\x01\x01m\x01k\x00\x00", "empty", 4),
        (Root.MAP, b"\x01\x02\x05\x00" + ITEM + b"\xa8\x05\x01\x01t\x01v\x00", "dangling_origin", 15),
        (Root.MAP, b"\x01\x03\x05\x00" + ITEM + b"\xa8\x05\x00\x01t\x01v" * 2 + b"\x00", "origin_taken", 22),
        (Root.MAP, b"\x01\x02\x05\x00\x00\x03\xa8\x05\x01\x01t\x01v\x00", "origin_is_gc", 7),
        (Root.ARRAY, ONE + b"\x00\x01\x00", "struct_not_allowed", 4),
        (Root.ARRAY, ONE + ITEM + b"\x00", "struct_not_allowed", 4),
        (Root.ARRAY, ONE + b"\x08\x01\x01m\x01t\x01v\x00", "wrong_root", 5),
        (Root.ARRAY, ONE + b"\x08\x01\x01a\x00\x00", "empty", 4),
        (Root.ARRAY, ONE + b"\x08\x01\x01a" + uint(MAX_RELAY_STRUCTS + 1), "too_big", 8),
        (Root.ARRAY, ONE + b"\x08\x01\x01a\x01t" + uint(MAX_VALUE_BYTES + 1), "too_big", 10),
        (Root.ARRAY, ONE + b"\x88\x05\x00\x01t\x01v\x00", "dangling_origin", 5),
        (Root.ARRAY, ONE + b"\x48\x05\x00\x01t\x01v\x00", "dangling_origin", 5),
        (Root.ARRAY, ONE + b"\x88" + uint(MAX_CLIENT_ID + 1), "too_big", 5),
        (Root.ARRAY, ONE + b"\x88\x06" + uint(MAX_CLOCK), "too_big", 6),
        (Root.ARRAY, b"\x02\x01\x02\x00\x88\x01\x00\x01t\x00\x01\x01\x00\x88\x02\x00\x01t\x00\x00", "cycle", 5),
        (Root.MAP, b"\x00\x01\x05\x00", "empty", 3),
        (Root.MAP, b"\x00\x01\x05\x01\x00\x00", "empty", 4),
        (Root.MAP, b"\x00\x01\x05\x02\x00\x02\x01\x01", "ranges_not_ascending", 6),
        (Root.MAP, b"\x00\x02\x05\x01\x00\x01\x05\x01\x01\x01", "clients_not_ascending", 6),
        (Root.MAP, b"\x00\x02\x05\x01\x00\x01\x04\x01\x00\x01", "clients_not_ascending", 6),
        (Root.MAP, b"\x00\x01\x05\x01\x01" + uint(MAX_CLOCK), "too_big", 4),
        (Root.MAP, b"\x00\x01\x05" + uint(MAX_RELAY_STRUCTS + 1), "too_big", 3),
        (Root.MAP, bytes(MAX_RELAY_UPDATE_BYTES + 1), "too_large", MAX_RELAY_UPDATE_BYTES),
    ],
)  # fmt: skip
def test_refuses_with_reason_and_place(root: Root, data: bytes, reason: str, at: int) -> None:
    with pytest.raises(Malformed) as caught:
        read_relay_update(data, root)
    assert (caught.value.reason, caught.value.at) == (reason, at)


@pytest.mark.parametrize(
    ("data", "known", "reason"),
    [
        (b"\x01\x01\x05\x02" + ROW + b"\x00", {5: 2}, None),
        (b"\x01\x01\x05\x02" + ROW + b"\x00", {5: 7}, None),
        (b"\x01\x01\x05\x02" + ROW + b"\x00", {5: 1}, "gap"),
        (b"\x01\x01\x05\x02" + ROW + b"\x00", {}, "gap"),
        (ONE + b"\x88\x06\x02\x01t\x01v\x00", {6: 3}, None),
        (ONE + b"\x88\x06\x02\x01t\x01v\x00", {6: 2}, "dangling_origin"),
        (ONE + b"\x88\x06\x02\x01t\x01v\x00", {}, "dangling_origin"),
        (ONE + b"\xc8\x06\x02\x07\x00\x01t\x01v\x00", {6: 3, 7: 1}, None),
        (ONE + b"\xc8\x06\x02\x07\x00\x01t\x01v\x00", {6: 3}, "dangling_origin"),
        (ONE + ROW + b"\x01\x05\x01\x00\x01", {}, None),
        (ONE + ROW + b"\x01\x05\x01\x00\x02", {}, "dangling_delete"),
        (ONE + ROW + b"\x01\x05\x01\x00\x02", {5: 2}, None),
        (b"\x00\x01\x05\x01\x01\x02", {5: 3}, None),
        (b"\x00\x01\x05\x01\x01\x02", {5: 2}, "dangling_delete"),
    ],
)
def test_what_is_known_decides(data: bytes, known: dict[int, int], reason: str | None) -> None:
    if reason is None:
        read_relay_update(data, Root.ARRAY, known)
    else:
        with pytest.raises(Malformed, match=reason):
            read_relay_update(data, Root.ARRAY, known)


def test_only_what_became_gc_cannot_be_followed() -> None:
    def following(clock: int) -> bytes:
        return b"\x01\x04\x05\x00\x00\x02" + ITEM + b"\x00\x02\xa8\x05" + uint(clock) + b"\x01t\x01w\x00"

    assert [accepted(following(clock), Root.MAP, {}) is not None for clock in range(5)] == [
        *(False, False, True, False, False)
    ]


def test_two_clients_may_take_turns() -> None:
    """Each item behind the other client's last one: no circle, however long."""
    turns = range(1_000)
    even = tuple(Struct(1, (b"e",), origin=(2, i - 1) if i else None, parent=None if i else "a") for i in turns)
    odd = tuple(Struct(1, (b"o",), origin=(1, i)) for i in turns)
    data = encode(Update(((2, 0, odd), (1, 0, even))))
    assert len(read_relay_update(data, Root.ARRAY, {}).inserted) == 2_000


def test_rivals_at_one_place_are_bounded_by_what_merging_them_costs() -> None:
    """A row of one client after another costs pycrdt one step each, rivals at one place the square of their number."""

    def at_one_place(rivals: int) -> bytes:
        return encode(Update(((5, 0, tuple([Struct(1, (b"",), parent="a")] * rivals)),)))

    def in_a_row(length: int) -> bytes:
        row = (Struct(1, (b"",), origin=(5, i - 1) if i else None, parent=None if i else "a") for i in range(length))
        return encode(Update(((5, 0, tuple(row)),)))

    assert accepted(at_one_place(7_000), Root.ARRAY, {})
    assert accepted(in_a_row(8_000), Root.ARRAY, {})
    with pytest.raises(Malformed, match="too_concurrent"):
        read_relay_update(at_one_place(8_000), Root.ARRAY, {})
    # The walk goes over what the document holds already as well.
    assert accepted(at_one_place(100), Root.ARRAY, {6: 400_000})
    with pytest.raises(Malformed, match="too_concurrent"):
        read_relay_update(at_one_place(100), Root.ARRAY, {6: 600_000})


def text_in_a_root(doc: Doc[Any]) -> None:
    doc.get("t", type=Text).insert(0, "text")


def other_value(doc: Doc[Any]) -> None:
    doc.get("m", type=Map)["k"] = 1.5


def nested(doc: Doc[Any]) -> None:
    doc.get("m", type=Map)["k"] = Map({"inner": b"x"})


def other_root(doc: Doc[Any]) -> None:
    doc.get("n", type=Map)["k"] = b"x"


def string_in_array(doc: Doc[Any]) -> None:
    doc.get("a", type=Array).append("x")


@pytest.mark.parametrize("act", [text_in_a_root, other_value, nested, other_root, string_in_array])
def test_other_content_of_pycrdt_is_refused(act: Any) -> None:
    doc: Doc[Any] = Doc(client_id=5)
    act(doc)
    for root in Root:
        assert accepted(doc.get_update(), root) is None


# --- memory

N = 20_000
FIRST_ROW_GONE = b"\x01\x00\x01\x01\x01a\x01"
GREEDY = {
    "empty values": (Root.ARRAY, ONE + b"\x08\x01\x01a" + uint(N) + b"t\x00" * N + b"\x00"),
    "GC structs": (Root.MAP, b"\x01" + uint(N) + b"\x05\x00" + b"\x00\x01" * N + b"\x00"),
    "deleted ranges": (
        Root.MAP,
        ONE + b"\x00" + uint(2 * N) + b"\x01\x05" + uint(N) + b"".join(uint(2 * i) + b"\x01" for i in range(N)),
    ),
    "clients": (Root.MAP, uint(N) + b"".join(b"\x01" + uint(N - i) + b"\x00\x00\x01" for i in range(N)) + b"\x00"),
    "overwrites": (
        Root.MAP,
        b"".join(
            [b"\x01", uint(N), b"\x05\x00\x21\x01\x01m\x01k\x01"]
            + [b"\xa1\x05" + uint(i) + b"\x01" for i in range(N - 1)]
            + [b"\x00"]
        ),
    ),
    "two clients in turn": (
        Root.ARRAY,
        b"".join(
            [b"\x02", uint(N), b"\x02\x00"]
            + [b"\x81\x01" + uint(i) + b"\x01" for i in range(N)]
            + [uint(N), FIRST_ROW_GONE]
            + [b"\x81\x02" + uint(i) + b"\x01" for i in range(N - 1)]
            + [b"\x00"]
        ),
    ),
}


@pytest.mark.parametrize("what", GREEDY)
def test_memory_is_a_stated_multiple_of_the_input(what: str) -> None:
    root, data = GREEDY[what]
    tracemalloc.start()
    try:
        read_relay_update(data, root, {})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * len(data)
