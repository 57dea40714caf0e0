"""What the relay sends: a reader wide enough for increments and snapshots, and as strict in what they may
hold.

The bytes are a Yjs update (v1) as pycrdt encodes it: the structs of each client, clients descending, then
the deleted ranges, clients ascending.  Beyond what a device may send there are several clients, overwrites
(items of a Map with an origin), deleted content, GC structs (in a Map only: an Array item whose origin
became one would vanish), and deletes.  Content is byte buffers and nothing else; there is no nested type,
no skip, no other root.

pycrdt trusts its input: a reference to what does not exist is kept for later or kills the process on a
later read, and a delete of what is yet to come waits for it.  So every reference is checked here as well.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from crdtmed.limits import (
    MAX_CLIENT_ID,
    MAX_CLIENTS_PER_DOCUMENT,
    MAX_CLOCK,
    MAX_KEY_CHARS,
    MAX_MERGE_STEPS,
    MAX_RELAY_STRUCTS,
    MAX_RELAY_UPDATE_BYTES,
    MAX_RELAY_VALUE_BYTES,
    MAX_VALUE_BYTES,
)
from crdtmed.updates.device_grammar import BUFFER
from crdtmed.updates.lib0 import Malformed, read_uint
from crdtmed.updates.references import Deleted, Link, check_deletes, check_references
from crdtmed.updates.structs import ItemId, RelayUpdate, Root

_GC: Final = 0x00
_DELETED: Final = 1
_ANY: Final = 8
_CONTENT: Final = 0x1F
_KEYED: Final = 0x20
_RIGHT_ORIGIN: Final = 0x40
_ORIGIN: Final = 0x80

# Every first byte that a struct may have.  pycrdt sets the flag of a key on each item of a Map, also where an origin
# stands for the key; what is placed by a right origin occurs in Arrays only.
_ITEMS: Final = {
    Root.MAP: frozenset(content | place | _KEYED for content in (_ANY, _DELETED) for place in (0, _ORIGIN)),
    Root.ARRAY: frozenset(
        content | place
        for content in (_ANY, _DELETED)
        for place in (0, _ORIGIN, _RIGHT_ORIGIN, _ORIGIN | _RIGHT_ORIGIN)
    ),
}
_PARENT: Final = {Root.MAP: b"\x01\x01m", Root.ARRAY: b"\x01\x01a"}
_MOST_BYTES: Final = {Root.MAP: MAX_RELAY_VALUE_BYTES, Root.ARRAY: MAX_VALUE_BYTES}


@dataclass(slots=True)
class _Found:
    """What has been read so far; ``count`` values in ``runs``."""

    root: Root
    count: int = 0
    runs: list[tuple[ItemId, str | None, tuple[bytes, ...]]] = field(default_factory=list)
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    follows: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    origins: dict[tuple[int, int], int] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    gone: list[tuple[int, int, int]] = field(default_factory=list)


def read_relay_update(data: bytes, root: Root, known: Mapping[int, int] | None = None) -> RelayUpdate:
    """What an update of the relay to a document with this ``root`` does.

    With ``known``, the state vector of the receiving document (client to the clock behind its last), every
    origin and delete must be of clocks that are in the document or in the update, and no client's structs
    may begin behind what is known: then pycrdt applies the update whole, and keeps nothing pending.
    Without it only what the update says of itself is checked, which is enough for an empty document
    (``known={}`` says that).

    Raises `Malformed` and nothing else.  Time and memory are linear in the input (a value of a few bytes
    costs about a hundred times its size on the wire), and so are time and memory of pycrdt, but for
    concurrent inserts at one place of an Array, which are bounded by `MAX_MERGE_STEPS`.
    """
    if len(data) > MAX_RELAY_UPDATE_BYTES:
        raise Malformed("too_large", MAX_RELAY_UPDATE_BYTES)
    found = _Found(root)
    try:
        spans, structs, at = _read_clients(data, found, known)
        deletes, at = _read_deletes(data, at)
    except IndexError:
        raise Malformed("truncated", len(data)) from None
    if at != len(data):
        raise Malformed("trailing_bytes", at)
    check_references(spans, found.links, known)
    check_deletes(spans, deletes, known)
    if root is Root.MAP:
        _check_no_gc_origin(found)
    else:
        _check_merge_steps(found, spans, structs, known)
    ranges = tuple([(client, clock, n) for client, clock, n, _ in deletes])
    return RelayUpdate(tuple(found.runs), spans, ranges, found.keys, found.follows)


def _read_clients(
    data: bytes, found: _Found, known: Mapping[int, int] | None
) -> tuple[dict[int, tuple[int, int]], int, int]:
    """The clocks of each client, the number of structs, and the offset behind the structs."""
    clients, at = read_uint(data, 0, MAX_CLIENTS_PER_DOCUMENT)
    spans: dict[int, tuple[int, int]] = {}
    below = MAX_CLIENT_ID
    total = 0
    for _ in range(clients):
        head_at = at
        structs, at = read_uint(data, at, MAX_RELAY_STRUCTS - total)
        if structs == 0:
            raise Malformed("empty", head_at)
        total += structs
        client_at = at
        client, at = read_uint(data, at, MAX_CLIENT_ID)
        if client > below:
            raise Malformed("clients_not_descending", client_at)
        below = client - 1
        first_at = at
        first, at = read_uint(data, at, MAX_CLOCK)
        if known is not None and first > known.get(client, 0):
            raise Malformed("gap", first_at)
        clock = first
        for _ in range(structs):
            struct_at = at
            info = data[at]
            if info == _GC and found.root is Root.MAP:
                length, at = read_uint(data, at + 1, MAX_CLOCK)
                found.gone.append((client, clock, clock + length))
            else:
                length, at = _read_item(data, at, info, client, clock, found)
            if length == 0:
                raise Malformed("empty", struct_at)
            clock += length
            if clock > MAX_CLOCK:
                raise Malformed("too_big", struct_at)
        spans[client] = (first, clock)
    return spans, total, at


def _read_item(data: bytes, at: int, info: int, client: int, clock: int, found: _Found) -> tuple[int, int]:
    """Reads the item at ``at`` into ``found``; gives the clocks that it takes and the offset behind it."""
    root = found.root
    if info not in _ITEMS[root]:
        raise Malformed("struct_not_allowed", at)
    key: str | None = None
    origin: tuple[int, int] | None = None
    if info & (_ORIGIN | _RIGHT_ORIGIN):
        at, origin = _read_place(data, at + 1, info, client, clock, found)
    else:
        if data[at + 1 : at + 4] != _PARENT[root]:
            raise Malformed("wrong_root", at + 1)
        at += 4
        if root is Root.MAP:
            key, at = _read_key(data, at, found)
    count_at = at
    if info & _CONTENT == _DELETED:
        count, at = read_uint(data, at, MAX_CLOCK)
    else:
        count, at = read_uint(data, at, MAX_RELAY_STRUCTS - found.count)
        if root is Root.MAP and count != 1:
            raise Malformed("not_one_value", count_at)
        values, at = _read_values(data, at, count, _MOST_BYTES[root])
        found.count += count
        found.runs.append((ItemId(client, clock), key, values))
    if key is not None:
        found.keys[key] = (client, clock + count - 1)
    elif origin is not None and root is Root.MAP:
        found.follows[client, clock + count - 1] = origin
    return count, at


def _read_values(data: bytes, at: int, count: int, most: int) -> tuple[tuple[bytes, ...], int]:
    """Reads ``count`` byte buffers; gives them, and the offset behind them.  Reading a long log is mostly this."""
    values: list[bytes] = []
    end_of_data, add = len(data), values.append
    for _ in range(count):
        if data[at] != BUFFER:
            raise Malformed("not_bytes", at)
        size = data[at + 1]
        if size < 0x80 and size <= most:
            at += 2
        else:
            size, at = read_uint(data, at + 1, most)
        end = at + size
        if end > end_of_data:
            raise IndexError
        add(data[at:end])
        at = end
    return tuple(values), at


def _read_place(
    data: bytes, at: int, info: int, client: int, clock: int, found: _Found
) -> tuple[int, tuple[int, int] | None]:
    """Reads the origins of an item; gives the offset behind them, and the item that it follows, if it follows one."""
    left: tuple[int, int] | None = None
    for flag in (_ORIGIN, _RIGHT_ORIGIN):
        if not info & flag:
            continue
        origin_at = at
        origin_client, at = read_uint(data, at, MAX_CLIENT_ID)
        origin_clock, at = read_uint(data, at, MAX_CLOCK - 1)
        if origin_client != client:
            found.links.append((client, clock, origin_client, origin_clock, origin_at))
        elif origin_clock >= clock:
            raise Malformed("dangling_origin", origin_at)
        if flag == _ORIGIN:
            # One key is written by one writer, each time behind its last value: two items behind one value would
            # hide one of them, and a long row of them costs pycrdt the square of its length.
            if found.root is Root.MAP and (origin_client, origin_clock) in found.origins:
                raise Malformed("origin_taken", origin_at)
            left = (origin_client, origin_clock)
            found.origins[left] = origin_at
    return at, left


def _read_key(data: bytes, at: int, found: _Found) -> tuple[str, int]:
    key_at = at
    size, at = read_uint(data, at, MAX_KEY_CHARS)
    end = at + size
    if end > len(data):
        raise IndexError
    key = data[at:end].decode("latin-1")
    if not key or not key.isascii() or not key.isprintable():
        raise Malformed("bad_key", key_at)
    if key in found.keys:
        raise Malformed("duplicate_key", key_at)
    return key, end


def _read_deletes(data: bytes, at: int) -> tuple[list[Deleted], int]:
    """The deleted ranges, by client and clock, and the offset behind them."""
    clients, at = read_uint(data, at, MAX_CLIENTS_PER_DOCUMENT)
    deletes: list[Deleted] = []
    above = 0
    for _ in range(clients):
        client_at = at
        client, at = read_uint(data, at, MAX_CLIENT_ID)
        if client < above:
            raise Malformed("clients_not_ascending", client_at)
        above = client + 1
        ranges_at = at
        ranges, at = read_uint(data, at, MAX_RELAY_STRUCTS - len(deletes))
        if ranges == 0:
            raise Malformed("empty", ranges_at)
        behind = 0
        for _ in range(ranges):
            range_at = at
            clock, at = read_uint(data, at, MAX_CLOCK)
            length, at = read_uint(data, at, MAX_CLOCK)
            if length == 0:
                raise Malformed("empty", range_at)
            if clock < behind:
                raise Malformed("ranges_not_ascending", range_at)
            behind = clock + length
            if behind > MAX_CLOCK:
                raise Malformed("too_big", range_at)
            deletes.append((client, clock, length, range_at))
    return deletes, at


def _check_no_gc_origin(found: _Found) -> None:
    """An item that follows a GC struct becomes one: its value would be lost without a word."""
    if not found.gone:
        return
    gone = sorted(found.gone)
    for (client, clock), at in found.origins.items():
        index = bisect_right(gone, (client, clock, MAX_CLOCK + 1)) - 1
        if index >= 0 and gone[index][0] == client and clock < gone[index][2]:
            raise Malformed("origin_is_gc", at)


def _check_merge_steps(
    found: _Found, spans: Mapping[int, tuple[int, int]], structs: int, known: Mapping[int, int] | None
) -> None:
    """pycrdt places an item that is not simply the next one by walking over its rivals, one step each."""
    followed = 0
    for client, clock in found.origins:
        span = spans.get(client)
        followed += span is not None and span[0] <= clock < span[1]
    steps = (structs - followed) * (structs + sum((known or {}).values()))
    if steps > MAX_MERGE_STEPS:
        raise Malformed("too_concurrent", 0)
