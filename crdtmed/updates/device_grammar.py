"""What a device may send: the writer, and a reader of exactly what that writer makes.

The bytes are a Yjs update (v1) as pycrdt encodes one transaction: one client, inserts of binary values under
the one root, an empty delete set.  Nothing else that Yjs can say is read: a device cannot delete, overwrite,
nest or format.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from crdtmed.limits import (
    MAX_CLIENT_ID,
    MAX_CLOCK,
    MAX_KEY_CHARS,
    MAX_STRUCTS_PER_UPDATE,
    MAX_UPDATE_BYTES,
    MAX_VALUE_BYTES,
)
from crdtmed.updates.lib0 import Malformed, read_uint, write_uint
from crdtmed.updates.structs import ArrayInsert, DeviceUpdate, ItemId, MapInsert, Root

MAP_ITEM: Final = b"\x28\x01\x01m"
"""An item of content "any" with a key and no origin; its parent is the root by name, whose name is ``m``."""
ARRAY_FIRST: Final = b"\x08\x01\x01a"
"""An item of content "any" without key or origin, in the root named ``a``."""
ARRAY_NEXT: Final = b"\x88"
"""An item of content "any" with an origin, from which it takes its parent."""
BUFFER: Final = 0x74
"""The tag of a byte buffer in content "any"."""


def write_map_update(client: int, clock: int, entries: Sequence[tuple[str, bytes]]) -> bytes:
    """The update that inserts ``entries`` (key, value) by ``client`` from ``clock`` on, one clock each.

    Byte for byte what pycrdt sends for that transaction.  Raises `ValueError` for anything that
    `read_device_update` would not read: limits, keys that are not printable ASCII, a key twice.
    """
    parts = [_head(client, clock, len(entries), structs=len(entries))]
    for key, value in entries:
        parts.append(map_item(key, value))
    if len({key for key, _ in entries}) != len(entries):
        raise ValueError("a key occurs twice in one update: a device never overwrites, use a key of its own")
    return _closed(parts)


def write_array_update(client: int, clock: int, origin: ItemId | None, values: Sequence[bytes]) -> bytes:
    """The update that appends ``values`` by ``client`` from ``clock`` on behind ``origin``, one clock each.

    ``origin`` is the client's own previous item (its ``clock - 1``), else the last item of the Array that the
    device holds, else ``None`` for an empty Array.  Byte for byte what pycrdt sends.  Raises `ValueError` for
    anything that `read_device_update` would not read.
    """
    if origin is not None:
        _in_range("client", origin.client, MAX_CLIENT_ID)
        _in_range("clock", origin.clock, MAX_CLOCK - 1)
        if origin.client == client and origin.clock != clock - 1:
            raise ValueError(f"origin {origin.clock} is not this client's previous item {clock - 1}")
    return _closed([_head(client, clock, len(values), structs=1), *array_item(origin, values)])


def read_device_update(data: bytes, root: Root, known: Mapping[int, int] | None = None) -> DeviceUpdate:
    """The update of a device to a document with this ``root``; writing it again gives the same bytes.

    With ``known``, the state vector of the document (client to the clock behind its last), the origin of an
    Array insert must be in the document or the client's own previous item.  Whether the update's own clock
    continues the document is not judged here: compare `DeviceUpdate.clock`.  Raises `Malformed` and nothing
    else.
    """
    if len(data) > MAX_UPDATE_BYTES:
        raise Malformed("too_large", MAX_UPDATE_BYTES)
    try:
        return _read(data, root, known)
    except IndexError:
        raise Malformed("truncated", len(data)) from None


def map_item(key: str, value: bytes) -> bytes:
    """The struct that inserts ``value`` under ``key``."""
    if not (0 < len(key) <= MAX_KEY_CHARS and key.isascii() and key.isprintable()):
        raise ValueError(f"key {key[:40]!r} is not 1..{MAX_KEY_CHARS} characters of printable ASCII")
    return b"".join((MAP_ITEM, write_uint(len(key)), key.encode("ascii"), b"\x01", _before(len(value)), value))


def array_item(origin: ItemId | None, values: Sequence[bytes]) -> list[bytes]:
    """The struct that appends ``values`` behind ``origin``, in parts: joined once, with what stands around it."""
    parts = [array_place(origin, deleted=False), write_uint(len(values))]
    parts += [part for value in values for part in (_before(len(value)), value)]
    return parts


def array_place(origin: ItemId | None, *, deleted: bool) -> bytes:
    """How a struct of the Array begins: info byte, origin or root.  Content 1 is "deleted", 8 is "any"."""
    first, following = (b"\x01\x01\x01a", b"\x81") if deleted else (ARRAY_FIRST, ARRAY_NEXT)
    if origin is None:
        return first
    return following + write_uint(origin.client) + write_uint(origin.clock)


def head(structs: int, client: int, clock: int) -> bytes:
    """How an update of one client begins."""
    return b"\x01" + write_uint(structs) + write_uint(client) + write_uint(clock)


def _head(client: int, clock: int, values: int, structs: int) -> bytes:
    _in_range("client", client, MAX_CLIENT_ID)
    _in_range("clock", clock, MAX_CLOCK - values)
    if not 0 < values <= MAX_STRUCTS_PER_UPDATE:
        raise ValueError(f"{values} values in one update: 1..{MAX_STRUCTS_PER_UPDATE} are allowed")
    return head(structs, client, clock)


def _closed(parts: list[bytes]) -> bytes:
    data = b"".join((*parts, b"\x00"))
    if len(data) > MAX_UPDATE_BYTES:
        raise ValueError(f"an update of {len(data)} bytes: at most {MAX_UPDATE_BYTES} are allowed, send several")
    return data


def _in_range(what: str, value: int, most: int) -> None:
    if not 0 <= value <= most:
        raise ValueError(f"{what} {value} is outside 0..{most}")


@lru_cache(maxsize=MAX_VALUE_BYTES + 1)
def _before(size: int) -> bytes:
    """What stands before the bytes of a value of this size; values of a long log have few different sizes."""
    if size > MAX_VALUE_BYTES:
        raise ValueError(f"a value of {size} bytes: at most {MAX_VALUE_BYTES} are allowed")
    return b"t" + write_uint(size)


def _read(data: bytes, root: Root, known: Mapping[int, int] | None) -> DeviceUpdate:
    if data[0] != 1:
        raise Malformed("not_one_client", 0)
    structs, at = read_uint(data, 1, MAX_STRUCTS_PER_UPDATE)
    if structs == 0:
        raise Malformed("empty", 1)
    client, at = read_uint(data, at, MAX_CLIENT_ID)
    clock_at = at
    clock, at = read_uint(data, at, MAX_CLOCK)
    inserts: tuple[MapInsert | ArrayInsert, ...]
    if root is Root.MAP:
        inserts, at = _read_map(data, at, clock, structs)
        length = structs
    else:
        if structs != 1:
            raise Malformed("not_one_item", 1)
        insert, at = _read_array(data, at, client, clock, known)
        inserts = (insert,)
        length = len(insert.values)
    if clock + length > MAX_CLOCK:
        raise Malformed("too_big", clock_at)
    if data[at] != 0:
        raise Malformed("has_deletes", at)
    if at + 1 != len(data):
        raise Malformed("trailing_bytes", at + 1)
    return DeviceUpdate(root, client, clock, inserts)


def _read_map(data: bytes, at: int, clock: int, structs: int) -> tuple[tuple[MapInsert, ...], int]:
    inserts: list[MapInsert] = []
    for offset in range(structs):
        if data[at : at + 4] != MAP_ITEM:
            raise _not_allowed(data, at, MAP_ITEM)
        key_at = at + 4
        size, at = read_uint(data, key_at, MAX_KEY_CHARS)
        raw = data[at : at + size]
        key = raw.decode("latin-1")
        if not key or not key.isascii() or not key.isprintable():
            raise Malformed("bad_key", key_at)
        at += size
        if data[at] != 1:
            raise Malformed("not_one_value", at)
        value, at = read_buffer(data, at + 1, MAX_VALUE_BYTES)
        inserts.append(MapInsert(clock + offset, key, value))
    if structs > 1 and len({insert.key for insert in inserts}) != structs:
        raise Malformed("duplicate_key", at)
    return tuple(inserts), at


def _read_array(
    data: bytes, at: int, client: int, clock: int, known: Mapping[int, int] | None
) -> tuple[ArrayInsert, int]:
    origin: ItemId | None = None
    if data[at] == ARRAY_NEXT[0]:
        origin_at = at + 1
        origin_client, at = read_uint(data, origin_at, MAX_CLIENT_ID)
        origin_clock, at = read_uint(data, at, MAX_CLOCK - 1)
        if origin_client == client:
            if origin_clock != clock - 1:
                raise Malformed("not_previous_item", origin_at)
        elif known is not None and origin_clock >= known.get(origin_client, 0):
            raise Malformed("dangling_origin", origin_at)
        origin = ItemId(origin_client, origin_clock)
    elif data[at : at + 4] == ARRAY_FIRST:
        at += 4
    else:
        raise _not_allowed(data, at, ARRAY_FIRST)
    count_at = at
    count, at = read_uint(data, at, MAX_STRUCTS_PER_UPDATE)
    if count == 0:
        raise Malformed("empty", count_at)
    values: list[bytes] = []
    for _ in range(count):
        value, at = read_buffer(data, at, MAX_VALUE_BYTES)
        values.append(value)
    return ArrayInsert(clock, origin, tuple(values)), at


def read_buffer(data: bytes, at: int, most: int) -> tuple[bytes, int]:
    """The byte buffer of at most ``most`` bytes at ``at``, and the offset behind it.

    Raises `Malformed` (``not_bytes``, ``too_big``), and `IndexError` where the bytes end.
    """
    if data[at] != BUFFER:
        raise Malformed("not_bytes", at)
    size, at = read_uint(data, at + 1, most)
    end = at + size
    if end > len(data):
        raise IndexError
    return data[at:end], end


def _not_allowed(data: bytes, at: int, item: bytes) -> Malformed:
    """Why the struct at ``at`` is not an ``item``: its kind, or the root that it names."""
    if data[at] == item[0]:
        return Malformed("wrong_root", at + 1)
    return Malformed("struct_not_allowed", at)
