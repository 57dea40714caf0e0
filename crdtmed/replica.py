"""A replica: one document as pycrdt holds it, which no byte reaches that the second grammar has not read.

Both sides use it: the relay for the documents that it serves, a device for its bases.  One thread at a
time, as pycrdt wants it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from pycrdt import Array, Doc, Map

from crdtmed import documents
from crdtmed.updates import ItemId, Malformed, RelayUpdate, Root, read_relay_update, read_state_vector

EMPTY_STATE: Final = b"\x00"
"""The state vector of a document that holds nothing."""

T = TypeVar("T")


class ReplicaBroken(Exception):
    """pycrdt failed inside a document, whose state is now unknown: load the replica again from what is
    stored.
    """


class WrongRoot(TypeError):
    """A map's operation was asked of a log, or a log's of a map."""


class Replica:
    """One document at an epoch and a position.

    ``epoch`` and ``position`` are the caller's to advance, with each update that it applies.  After
    `ReplicaBroken` every later call raises it again.

    What the first update brings is known from reading it, so that many small documents, and long logs, are there
    without pycrdt; it gets that update with the second one, or when the document is written or shown in its own
    order, and must then hold the same.
    """

    def __init__(self, name: str, client_id: int, epoch: str = "", position: int = 0) -> None:
        """An empty replica of the document ``name``; what is written here is written as ``client_id``.

        Raises `crdtmed.documents.BadName` where no document is called so.
        """
        self.document: Final = documents.parse(name)
        self.client_id: Final = client_id
        self.epoch = epoch
        self.position = position
        self.state_vector: dict[int, int] = {}
        self._broken = False
        self._doc: Doc[Any] | None = None
        self._map: Map[bytes] | None = None
        self._array: Array[bytes] | None = None
        self._first = b""
        self._content: dict[str, bytes] | list[bytes] | None = {} if self.document.root is Root.MAP else []

    @classmethod
    def open(cls, name: str, client_id: int, epoch: str = "") -> "Replica":
        """An empty replica, at position 0."""
        return cls(name, client_id, epoch)

    @classmethod
    def load(cls, name: str, client_id: int, snapshot: bytes, epoch: str, position: int) -> "Replica":
        """The replica that ``snapshot`` was taken of; raises `crdtmed.updates.Malformed` for bytes that are none."""
        replica = cls(name, client_id, epoch, position)
        replica.apply(snapshot)
        return replica

    def apply(self, update: bytes) -> RelayUpdate:
        """Reads ``update`` by the second grammar, then applies it; gives what was read.

        Raises `crdtmed.updates.Malformed`, with the replica unchanged, where the update is not one that a
        relay makes or does not continue what is here; `ReplicaBroken` where pycrdt fails.
        """
        root = self.document.root
        read = read_relay_update(update, root, self.state_vector)
        content = read.alone(root) if self._doc is None and not self._first and not self._broken else None
        if content is None:
            self._guarded(lambda: self._opened().apply_update(update))
        else:
            self._first = update
        self._content = content
        self._advance(read)
        return read

    def set(self, entries: Mapping[str, bytes]) -> bytes:
        """Writes ``entries`` into the map in one transaction; gives its update, empty where there are none.

        Only the relay writes so.  Raises as `change` does.
        """
        return self.change(entries, ())

    def delete(self, keys: Iterable[str]) -> bytes:
        """Deletes ``keys`` of the map in one transaction; gives its update, empty where none of them is there."""
        return self.change({}, keys)

    def change(self, entries: Mapping[str, bytes], deleted: Iterable[str]) -> bytes:
        """`set` and `delete` in one transaction; a key in both is written.

        Raises `WrongRoot` on a log, and `crdtmed.updates.Malformed` where a key or value is none that the second
        grammar reads; the replica is broken then, since pycrdt has it already.
        """
        self._expect(Root.MAP)
        emitted: list[bytes] = []

        def write() -> None:
            doc = self._opened()
            self._content = None
            held = self._map
            assert held is not None, "it is a map that was opened"
            subscription = doc.observe(lambda event: emitted.append(event.update))
            with doc.transaction():
                for key in deleted:
                    if key in held:
                        del held[key]
                for key, value in entries.items():
                    held[key] = value
            doc.unobserve(subscription)

        self._guarded(write)
        update = b"".join(emitted)
        if update:
            try:
                self._advance(read_relay_update(update, Root.MAP, self.state_vector))
            except Malformed:
                self._broken = True
                raise
        return update

    def snapshot(self) -> bytes:
        """The whole document as one update, for `load`."""
        return self.diff(EMPTY_STATE)

    def diff(self, state_vector: bytes) -> bytes:
        """What a replica with this state vector lacks, as one update.

        Raises `crdtmed.updates.Malformed` for bytes that are no state vector.
        """
        read_state_vector(state_vector)
        return self._guarded(lambda: self._opened().get_update(state_vector))

    def map(self) -> dict[str, bytes]:
        """The content of a map, in the order of its keys; raises `WrongRoot` on a log."""
        self._expect(Root.MAP)
        content = self._whole()
        assert isinstance(content, dict), "a map holds values by key"
        # pycrdt's own order differs from run to run.
        return dict(sorted(content.items()))

    def value(self, key: str) -> bytes | None:
        """The value under one key of a map, None where there is none; raises `WrongRoot` on a log."""
        self._expect(Root.MAP)
        content = self._content
        if isinstance(content, dict) and not self._broken:
            return content.get(key)
        return self._guarded(lambda: self._value(key))

    def values(self) -> list[bytes]:
        """The values: of a map in the order of its keys, of a log as they stand (which means nothing)."""
        if self.document.root is Root.MAP:
            return list(self.map().values())
        content = self._whole()
        assert isinstance(content, list), "a log holds values in a row"
        return list(content)

    def digest(self) -> bytes:
        """The digest of the canonical content: `crdtmed.documents.map_digest` or `array_digest`."""
        if self.document.root is Root.MAP:
            return documents.map_digest(self.map())
        return documents.array_digest(self.values())

    @property
    def last_item(self) -> ItemId | None:
        """The item after which ``client_id`` appends next to a log: its own previous one, else the last; or None.

        Raises `WrongRoot` on a map.
        """
        self._expect(Root.ARRAY)
        own = self.state_vector.get(self.client_id, 0)
        if own:
            return ItemId(self.client_id, own - 1)
        return self._guarded(self._last)

    def _expect(self, root: Root) -> None:
        if self.document.root is root:
            return
        if root is Root.MAP:
            raise WrongRoot(f"{self.document.name} is a log: it has no keys, and only devices append to it")
        raise WrongRoot(f"{self.document.name} is a map: nothing is appended to it")

    def _whole(self) -> dict[str, bytes] | list[bytes]:
        if self._broken or self._content is None:
            return self._guarded(lambda: self._content_of(self._opened()))
        return self._content

    def _opened(self) -> Doc[Any]:
        """The document in pycrdt, which must hold what was read of its first update."""
        if self._doc is not None:
            return self._doc
        doc: Doc[Any] = Doc(client_id=self.client_id)
        if self.document.root is Root.MAP:
            self._map = doc.get(Root.MAP.value, type=Map[bytes])
        else:
            self._array = doc.get(Root.ARRAY.value, type=Array[bytes])
        if self._first:
            doc.apply_update(self._first)
            held, known = self._content_of(doc), self._content
            same = sorted(held) == sorted(known) if isinstance(known, list) else held == known
            if not same:
                raise ValueError("it does not hold what its first update says")
        self._doc, self._first = doc, b""
        return doc

    def _content_of(self, doc: Doc[Any]) -> dict[str, bytes] | list[bytes]:
        # pycrdt's own iteration opens two transactions for every entry, which takes most of the time of a long log.
        with doc.transaction() as transaction:
            inner = transaction._txn
            if self._map is not None:
                get = self._map.integrated.get
                return {key: bytes(get(inner, key)) for key in self._map.integrated.keys(inner)}
            assert self._array is not None, "a document has one root"
            get = self._array.integrated.get
            return [bytes(get(inner, index)) for index in range(len(self._array))]

    def _value(self, key: str) -> bytes | None:
        doc = self._opened()
        assert self._map is not None, "it is a map that was opened"
        with doc.transaction() as transaction:
            held, inner = self._map.integrated, transaction._txn
            return bytes(held.get(inner, key)) if held.has(inner, key) else None

    def _last(self) -> ItemId | None:
        self._opened()
        array = self._array
        if array is None or not len(array):
            return None
        item = array.sticky_index(len(array) - 1).to_json()["item"]
        return ItemId(item["client"], item["clock"])

    def _advance(self, read: RelayUpdate) -> None:
        for client, (_, end) in read.clients.items():
            self.state_vector[client] = max(end, self.state_vector.get(client, 0))

    def _guarded(self, act: Callable[[], T]) -> T:
        """What ``act`` gives; any failure of pycrdt in it, panics included, breaks this replica."""
        if self._broken:
            raise ReplicaBroken(f"{self.document.name} failed before: load it again from what is stored")
        try:
            return act()
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            self._broken = True
            raise
        except BaseException as error:
            # A panic of pycrdt is a BaseException, and no Exception.
            self._broken = True
            raise ReplicaBroken(f"{self.document.name}: pycrdt failed with {type(error).__name__}: {error}") from error
