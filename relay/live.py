"""What the writer keeps in memory of documents and registers: a bounded cache over the record.

Only the writer's thread touches it.  It runs ahead of the record within a transaction, so that it is dropped whole
when a commit fails, or when another process has written.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TypeVar

from crdtmed.aggregates.registers import RegisterValue
from crdtmed.documents import Document, parse
from crdtmed.limits import FREE_NUMBERS, LIVE_AUTHORS, LIVE_DOCUMENTS, LIVE_REGISTERS
from crdtmed.replica import Replica
from crdtmed.signed import Grant
from relay.storage.port import Record
from relay.storage.rows import DocumentRow

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class LiveClient:
    """A client id of a document: its row, whose it is (None: the relay's), its next clock and its words, if any."""

    row: int
    author: int | None
    clock: int
    words: bytes | None = None


@dataclass(slots=True)
class LiveDocument:
    """A document as the batch under way has it; ``replica`` only where the relay itself writes.

    ``listed`` are the bytes of its registers, once somebody has asked, and of those written since beside them.
    """

    id: int
    name: str
    document: Document
    epoch: str
    position: int
    clients: dict[int, LiveClient]
    unfolded: int
    replica: Replica | None = None
    listed: int | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A register: its version (0: never written) and its value, None where there is none or it was withdrawn."""

    version: int
    value: RegisterValue | None


@dataclass(slots=True)
class LiveAuthor:
    """A device that says something: its row, its numbers and its ids.

    ``last`` is the highest number that the record has of it; ``free`` are numbers below of which it is known that the
    record has none, since a device that sends document by document fills them later.  Of others it has to be asked.
    ``newest`` is the highest id on record: ids begin with their time, so that what is said now comes behind it.
    """

    row: int
    last: int
    newest: bytes = b""
    free: set[int] = field(default_factory=set)

    def has_none(self, number: int) -> bool:
        """Whether it is known that no statement has this number."""
        return number > self.last or number in self.free

    def took(self, number: int, sid: bytes = b"") -> None:
        """A statement of this number and id is on record now."""
        if sid > self.newest:
            self.newest = sid
        if number <= self.last:
            self.free.discard(number)
            return
        if number == self.last + 1:
            self.last = number
            return
        if number - self.last + len(self.free) > FREE_NUMBERS:
            self.free.clear()
        else:
            self.free.update(range(self.last + 1, number))
        self.last = number


@dataclass(slots=True)
class Known:
    """What the identity service has said of devices, users and grants: true until a task or another process writes."""

    grants: dict[str, Grant | None] = field(default_factory=dict)
    withdrawn: dict[str, int | None] = field(default_factory=dict)
    revoked: dict[str, bool] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many answers these are."""
        return len(self.grants) + len(self.withdrawn) + len(self.revoked)


@dataclass(slots=True)
class Live:
    """The cache."""

    documents: OrderedDict[str, LiveDocument] = field(default_factory=OrderedDict)
    registers: OrderedDict[tuple[str, str], Held] = field(default_factory=OrderedDict)
    authors: dict[str, LiveAuthor] = field(default_factory=dict)
    awaited: dict[str, int] | None = None
    known: Known = field(default_factory=Known)
    version: int | None = None

    def drop(self) -> None:
        """Forgets everything."""
        self.documents.clear()
        self.registers.clear()
        self.authors.clear()
        self.awaited = None
        self.known = Known()

    def trim(self) -> None:
        """Back to its bounds, the longest unused first; only between batches."""
        _trim(self.documents, LIVE_DOCUMENTS)
        _trim(self.registers, LIVE_REGISTERS)
        if len(self.authors) > LIVE_AUTHORS:
            self.authors.clear()
        if self.known.count > LIVE_DOCUMENTS:
            self.known = Known()


def _trim(held: OrderedDict[K, V], most: int) -> None:
    while len(held) > most:
        held.popitem(last=False)


def live_document(row: DocumentRow, record: Record) -> LiveDocument:
    """The document of ``row``, with the clients that write it."""
    document = parse(row.name)
    clients = record.clients(row.id) if document.written_by_devices else []
    return LiveDocument(
        row.id,
        row.name,
        document,
        row.epoch,
        row.position,
        {client.client: LiveClient(client.id, client.author, client.clock, client.words) for client in clients},
        row.position - row.snapshot_position,
    )
