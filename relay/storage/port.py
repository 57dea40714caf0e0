"""The port to the record: what the relay asks of the database it runs on.

Synchronous, on one connection, in the caller's transaction.  `relay.storage.record.SqlRecord` is the implementation;
the acceptance suite in the tests holds every dialect of it to this page.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from crdtmed.aggregates.stock_item import Movement
from relay.storage.rows import ClientRow, DocumentRow, NewStatement, RegisterRow, Slot, StatementRow


class Record(Protocol):
    """Documents, statements, registers, the ledger and what stands beside them."""

    @property
    def connection(self) -> Any:
        """The DBAPI connection, for those who keep tables of their own beside it."""

    def begin(self) -> None:
        """Begins a transaction that writes; no other connection writes until its end."""

    def try_begin(self) -> bool:
        """`begin`, unless another connection is writing: then False, at once."""

    def commit(self) -> None:
        """Ends it: everything is durable when this returns."""

    def rollback(self) -> None:
        """Ends it with nothing written, also after a failure that ended it already."""

    def others(self) -> int:
        """A number that changes when another connection has committed, and with no commit of this one."""

    def document(self, name: str) -> DocumentRow | None:
        """The row of a document; None where nothing was ever committed to it."""

    def documents_named(self, names: Sequence[str]) -> dict[str, DocumentRow]:
        """The rows of those of the names under which there is a document."""

    def documents(self) -> dict[str, int]:
        """Every document with its position."""

    def add_document(self, name: str, epoch: str) -> DocumentRow:
        """A new document at position 0 in this epoch."""

    def advance(self, document: int, position: int) -> None:
        """The document stands at this position now."""

    def epoch_at(self, document: int, position: int) -> str:
        """The epoch that was in force at a position."""

    def renew_epochs(self, fresh: Iterable[str]) -> int:
        """Every document gets the next of ``fresh`` as its epoch, from where it stands; gives how many they were.

        Nothing before can be given one by one any more.
        """

    def keep_snapshot(self, document: int, data: bytes, position: int, tail: int) -> None:
        """Keeps the document as of ``position`` whole, and of the relay's own changes only the last ``tail``."""

    def snapshot(self, document: int) -> bytes | None:
        """The document as it was kept whole; None where it was not yet."""

    def changes(self, document: int, after: int, upto: int) -> list[tuple[int, bytes]]:
        """The relay's own updates of a document at positions in (after, upto], in order."""

    def first_changes(self, documents: Sequence[int], most: int) -> dict[int, bytes]:
        """Of documents, by row, the update at position 1, where the relay wrote it and it is kept in at most ``most``
        bytes."""

    def add_change(self, document: int, position: int, data: bytes) -> None:
        """Keeps an update that the relay wrote."""

    def author(self, device: str) -> tuple[int, int, bytes]:
        """Row, highest number and highest statement id of a device, 0 and empty where it said nothing; its row is made
        where there is none."""

    def last_number(self, device: str) -> int:
        """The highest number the record has of a device; 0 where it has none."""

    def clients(self, document: int) -> list[ClientRow]:
        """The client ids of a document."""

    def add_client(self, document: int, client: int, author: int | None, origin: tuple[int, int] | None) -> int:
        """Binds a client id to an author (None: the relay) in a document; gives its row."""

    def advance_clients(self, clocks: Iterable[tuple[int, int]]) -> None:
        """The next clocks of clients, by row."""

    def put_words(self, client: int, words: bytes) -> None:
        """What the statements of a client, by row, are packed with from now on; it has had no words before."""

    def add_statement(self, row: NewStatement) -> None:
        """Keeps a statement; visible to reads after `flush`."""

    def add_tombstone(self, document: int, position: int, client: int, clock: int, length: int) -> None:
        """Keeps that clocks hold no statement of their own."""

    def flush(self) -> None:
        """Writes what was added."""

    def forget_unflushed(self) -> None:
        """Forgets what was added and not written: the transaction is undone."""

    def statement(self, ref: str) -> StatementRow | None:
        """A statement by reference, of those that were flushed."""

    def known_statements(self, author: int, sids: Sequence[bytes]) -> set[bytes]:
        """Those of an author's statement ids under which there is one, of those that were flushed."""

    def number_holder(self, device: str, number: int) -> str | None:
        """The first statement with that number of a device."""

    def statements_of(self, document: int, after: int, upto: int) -> list[StatementRow]:
        """The statements that aim at a document with positions in (after, upto], in order."""

    def slots_of(self, document: DocumentRow, after: int = 0) -> list[Slot]:
        """The clocks that a document which devices write holds at positions from ``after`` + 1 on, in no order."""

    def tombstones_of(self, document: int, after: int, upto: int) -> list[tuple[int, int, int, int]]:
        """Position, clock, client row and length of the tombstones of a document in (after, upto]."""

    def statements(self) -> Iterator[StatementRow]:
        """Every statement in the order of arrival, read page by page."""

    def close_statements(self, rows: Iterable[int]) -> None:
        """These accepted statements are no longer in their document."""

    def register(self, document: str, key: str) -> RegisterRow | None:
        """A register; None where it was never written."""

    def register_bytes(self, document: str) -> int:
        """How many bytes the values of its registers have, with their keys."""

    def registers_under(self, key: str, documents: Sequence[str]) -> dict[str, bytes]:
        """The value under this key in each of the documents that has one."""

    def registers(self, document: str, word: str = "") -> list[RegisterRow]:
        """The registers of a document by key, those with keys ``word/…`` where a word is given."""

    def registers_everywhere(self, word: str) -> list[RegisterRow]:
        """The registers of all documents with keys ``word/…``, by document and key."""

    def put_register(self, document: int, key: str, version: int, at: int, value: bytes) -> None:
        """Writes a register in the place of the one before."""

    def stock(self, site: str, item: str, lot: str) -> tuple[int, int]:
        """What is on hand of a lot, and its shortage."""

    def all_stock(self) -> list[tuple[str, str, str, int, int]]:
        """Site, item, lot, on-hand and shortage of every lot."""

    def put_stock(self, site: str, item: str, lot: str, on_hand: int, shortage: int) -> None:
        """Writes a lot's sums; the database refuses negative ones."""

    def add_movements(self, movements: Iterable[Movement], at: int) -> None:
        """Rows of the ledger, in order, of lots that have their sums."""

    def movements(self) -> Iterator[tuple[int, str, str, str, str, int, str, int]]:
        """The ledger in order: row, site, item, lot, type, delta, statement and time."""

    def note(self, kind: str, key: str) -> bytes | None:
        """What was kept under (kind, key)."""

    def notes(self, kind: str, prefix: str = "") -> list[tuple[str, bytes]]:
        """Everything kept of a kind under keys that begin so."""

    def put_note(self, kind: str, key: str, value: bytes) -> None:
        """Keeps ``value`` under (kind, key) in the place of what was there."""

    def awaited_since(self, ref: str) -> int | None:
        """Since when a statement is told to wait."""

    def all_awaited(self) -> dict[str, int]:
        """Every statement that is told to wait, and since when."""

    def put_awaited(self, ref: str, since: int) -> None:
        """A statement was told to wait; the first time stands."""

    def drop_awaited(self, ref: str) -> None:
        """It waits no longer."""

    def quarantined(self, ref: str) -> tuple[str, bytes, int] | None:
        """Device, bytes and time of arrival of a quarantined statement."""

    def quarantine_count(self, device: str) -> int:
        """How many of a device are in quarantine."""

    def quarantine_of(self, device: str) -> list[tuple[str, bytes, int]]:
        """Reference, bytes and time of arrival of those of a device, in order of arrival."""

    def add_quarantine(self, device: str, ref: str, data: bytes, received_at: int) -> None:
        """Puts one into quarantine."""

    def add_alarm(self, at: int, kind: str, device: str, says: str) -> None:
        """Something the operator has to see."""

    def alarms(self) -> Iterator[tuple[int, int, str, str, str]]:
        """Row, time, kind, device and words of every alarm, oldest first, read page by page."""

    def alarm_count(self) -> int:
        """How many alarms there are."""

    def add_audit(self, at: int, what: str, who: str, says: str) -> None:
        """Something the operator or the identity service did."""

    def audits(self) -> Iterator[tuple[int, int, str, str, str]]:
        """Row, time, what, who and words of the whole audit trail, oldest first, read page by page."""
