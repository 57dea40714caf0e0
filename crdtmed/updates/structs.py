"""What document updates hold, as values; clocks count the values that a client inserted into a document."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from crdtmed.limits import MAX_CLOCK


class Root(Enum):
    """The one root of a document; the value is its name on the wire and in pycrdt."""

    MAP = "m"
    ARRAY = "a"


class ItemId(msgspec.Struct, frozen=True, gc=False):
    """One inserted value of a document: the client that inserted it, and that client's clock then."""

    client: int
    clock: int


class MapInsert(msgspec.Struct, frozen=True):
    """A value under a key that nobody has written before; takes one clock."""

    clock: int
    key: str
    value: bytes


class ArrayInsert(msgspec.Struct, frozen=True):
    """Values at the end of the Array, behind ``origin`` (``None``: at its start); each takes one clock."""

    clock: int
    origin: ItemId | None
    values: tuple[bytes, ...]


class DeviceUpdate(msgspec.Struct, frozen=True):
    """One transaction of a device: inserts of one client at consecutive clocks from ``clock`` on.

    For `Root.MAP` these are `MapInsert` values, for `Root.ARRAY` exactly one `ArrayInsert`.
    """

    root: Root
    client: int
    clock: int
    inserts: tuple[MapInsert | ArrayInsert, ...]

    @property
    def values(self) -> tuple[bytes, ...]:
        """The inserted values in the order of their clocks."""
        first = self.inserts[0]
        if isinstance(first, ArrayInsert):
            return first.values
        return tuple([insert.value for insert in self.inserts if isinstance(insert, MapInsert)])

    @property
    def length(self) -> int:
        """The clocks that the update takes."""
        first = self.inserts[0]
        return len(first.values) if isinstance(first, ArrayInsert) else len(self.inserts)


@dataclass(frozen=True, slots=True)
class RelayUpdate:
    """What an update of the relay does: an increment or a whole snapshot.

    ``runs`` are the values that were inserted together: the id of the first, the key where that is on the wire (an
    overwrite has none: its key is that of the item it follows), and the values, each taking the next clock.
    ``clients`` gives the first clock and the clock behind the
    last one of each client's structs, deleted ones included. ``deletes`` are ranges of (client, first clock,
    length). ``keys`` are all keys on the wire, of deleted items too, each with its item; ``follows`` are the items
    of the Map that take another's place, each with the one that it follows; an Array has neither. An item is named
    here by its client and the last clock that it takes.
    """

    runs: tuple[tuple[ItemId, str | None, tuple[bytes, ...]], ...]
    clients: Mapping[int, tuple[int, int]]
    deletes: tuple[tuple[int, int, int], ...]
    keys: Mapping[str, tuple[int, int]] = field(default_factory=dict, compare=False)
    follows: Mapping[tuple[int, int], tuple[int, int]] = field(default_factory=dict, compare=False)

    @property
    def values(self) -> list[bytes]:
        """The inserted values."""
        return [value for _, _, values in self.runs for value in values]

    @property
    def inserted(self) -> tuple[tuple[ItemId, str | None, bytes], ...]:
        """Each inserted value with its id, and with its key where that is on the wire."""
        return tuple(
            (ItemId(first.client, clock), key, value)
            for first, key, values in self.runs
            for clock, value in enumerate(values, first.clock)
        )

    def alone(self, root: Root) -> dict[str, bytes] | list[bytes] | None:
        """What an empty document with this ``root`` holds after this update alone: a map by key, or a log's values.

        None where that cannot be told without pycrdt: of a key that is written twice, or that follows what is deleted.
        """
        if root is Root.ARRAY:
            if not self.deletes:
                return self.values
            return [value for at, _, value in self.inserted if not self._deleted(at)]
        if self.follows or self.deletes or any(key is None for _, key, _ in self.runs):
            return None
        return {key: values[0] for _, key, values in self.runs if key is not None}

    def _deleted(self, at: ItemId) -> bool:
        """Whether an item is deleted: ranges come by client and clock, none within another."""
        index = bisect_right(self.deletes, (at.client, at.clock, MAX_CLOCK)) - 1
        if index < 0:
            return False
        client, clock, length = self.deletes[index]
        return client == at.client and clock <= at.clock < clock + length
