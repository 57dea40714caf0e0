"""The form in which an update keeps its clocks but loses values that were not accepted.

In a Map a lost value becomes a GC struct: it has no key, so it cannot hide a value that was accepted under
that key. In an Array it becomes an item with deleted content and the same origin, because items that follow
take their place and their parent from it; a GC struct there would swallow the next item.
"""

from collections.abc import Sequence
from itertools import groupby

from crdtmed.updates.device_grammar import array_item, array_place, head, map_item
from crdtmed.updates.lib0 import write_uint
from crdtmed.updates.structs import ArrayInsert, DeviceUpdate, ItemId, MapInsert


def tombstoned(update: DeviceUpdate, kept: Sequence[bool]) -> bytes:
    """``update`` with the values whose ``kept`` is false (one a value, by clock) turned into tombstones.

    The client, the clocks and the accepted values stay as they were; with all kept the bytes are those of
    ``update``. Neighbouring tombstones share one struct, as pycrdt itself would write them.  It is read by
    `read_relay_update`. Raises `ValueError` when ``kept`` is not as long as the update.
    """
    if len(kept) != update.length:
        raise ValueError(f"{len(kept)} decisions for {update.length} values: give one for each value")
    structs: list[bytes] = []
    at = 0
    for keeps, run in groupby(bool(keep) for keep in kept):
        end = at + sum(1 for _ in run)
        structs.extend(_structs(update, at, end, keeps))
        at = end
    return b"".join((head(len(structs), update.client, update.clock), *structs, b"\x00"))


def _structs(update: DeviceUpdate, start: int, end: int, keeps: bool) -> list[bytes]:
    """The structs of the values from ``start`` to ``end``, all of which are kept or all lost."""
    first = update.inserts[0]
    if isinstance(first, ArrayInsert):
        # What splits off an item follows what came before it, as when pycrdt splits one.
        origin = first.origin if start == 0 else ItemId(update.client, update.clock + start - 1)
        if keeps:
            return [b"".join(array_item(origin, first.values[start:end]))]
        return [array_place(origin, deleted=True) + write_uint(end - start)]
    if not keeps:
        return [b"\x00" + write_uint(end - start)]
    return [map_item(insert.key, insert.value) for insert in update.inserts[start:end] if isinstance(insert, MapInsert)]
