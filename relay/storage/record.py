"""The record in SQL: `relay.storage.port.Record` on a DBAPI connection.

One dialect per instance; the SQL is the same but for what the dialect spells otherwise.  Rows of the hot path
(statements, tombstones, clients' clocks) are gathered and written together (`flush`), which every read of them does
first.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy.engine import Dialect

from crdtmed.aggregates.stock_item import Movement
from crdtmed.documents import parse
from crdtmed.ids import ref as reference
from crdtmed.ids import split_ref
from relay.storage import lookups
from relay.storage.packing import (
    pack_update,
    raw_id,
    raw_ref,
    text_id,
    text_ids,
    text_ref,
    unpack,
    unpack_update,
    unpacker,
)
from relay.storage.queries import queries
from relay.storage.rows import ClientRow, DocumentRow, NewStatement, Place, RegisterRow, Slot, StatementRow
from relay.storage.sql import SQLITE, Sql, begun, data_version

_PAGE: Final = 2_000
_END: Final = "\U0010ffff"
_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1
"""No row's number is less or more: who reads all of a table sees also what somebody put in front of it."""


class SqlRecord:
    """The record on ``connection``, whose transactions are the caller's.

    ``begin`` begins a transaction that writes, or gives False where it should not wait and would have to; ``others``
    gives a number that changes when another connection has committed.  Both are SQLite's unless they are handed in.
    """

    def __init__(
        self,
        connection: Any,
        dialect: Dialect = SQLITE,
        begin: Callable[[Any, bool], bool] = begun,
        others: Callable[[Any], int] = data_version,
    ) -> None:
        self.connection: Final = connection
        self._q: Final = queries(dialect)
        self._begin: Final = begin
        self._others: Final = others
        self._statements: list[NewStatement] = []
        self._tombstones: list[dict[str, Any]] = []
        self._devices: dict[int, str] = {}

    # ---- transactions ---------------------------------------------------------------------------------------

    def begin(self) -> None:
        self._begin(self.connection, True)

    def try_begin(self) -> bool:
        return self._begin(self.connection, False)

    def commit(self) -> None:
        self.connection.execute("COMMIT")

    def rollback(self) -> None:
        self.forget_unflushed()
        # What failed may have ended the transaction already.
        with contextlib.suppress(Exception):
            self.connection.execute("ROLLBACK")

    def others(self) -> int:
        return self._others(self.connection)

    # ---- documents ------------------------------------------------------------------------------------------

    def document(self, name: str) -> DocumentRow | None:
        row = self._q.document.one(self.connection, name=name)
        return None if row is None else DocumentRow(*row)

    def documents_named(self, names: Sequence[str]) -> dict[str, DocumentRow]:
        return lookups.documents_named(self.connection, self._q, names)

    def documents(self) -> dict[str, int]:
        return dict(self._q.documents.all(self.connection))

    def add_document(self, name: str, epoch: str) -> DocumentRow:
        q = self._q
        q.add_document.run(self.connection, name=name, position=0, floor=0, snapshot_position=0)
        made = q.document.one(self.connection, name=name)
        q.add_epoch.run(self.connection, document=made[0], since=0, epoch=epoch)
        return DocumentRow(made[0], name, epoch, *made[3:])

    def advance(self, document: int, position: int) -> None:
        self._q.advance.run(self.connection, document=document, to=position)

    def epoch_at(self, document: int, position: int) -> str:
        row = self._q.epoch.one(self.connection, document=document, at=position)
        return str(row[0])

    def renew_epochs(self, fresh: Iterable[str]) -> int:
        fresh = iter(fresh)
        rows = self._q.epochs.all(self.connection)
        self._q.add_epoch.many(
            self.connection,
            [{"document": document, "since": at + 1, "epoch": next(fresh)} for document, at in rows],
        )
        self._q.floor.run(self.connection)
        return len(rows)

    def keep_snapshot(self, document: int, data: bytes, position: int, tail: int) -> None:
        floor = max(0, position - tail)
        self._q.keep_snapshot.run(self.connection, document=document, data=data, to=position, low=floor)
        self._q.drop_changes.run(self.connection, document=document, upto=floor)

    def snapshot(self, document: int) -> bytes | None:
        row = self._q.snapshot.one(self.connection, document=document)
        return None if row is None else row[0]

    def changes(self, document: int, after: int, upto: int) -> list[tuple[int, bytes]]:
        rows = self._q.changes.all(self.connection, document=document, after=after, upto=upto)
        return [(position, unpack_update(data)) for position, data in rows]

    def first_changes(self, documents: Sequence[int], most: int) -> dict[int, bytes]:
        return lookups.first_changes(self.connection, self._q, documents, most)

    def add_change(self, document: int, position: int, data: bytes) -> None:
        self._q.add_change.run(self.connection, document=document, position=position, data=pack_update(data))

    # ---- authors and clients --------------------------------------------------------------------------------

    def author(self, device: str) -> tuple[int, int, bytes]:
        row = self._q.author.one(self.connection, device=device)
        if row is None:
            self._q.add_author.run(self.connection, device=device)
            row = self._q.author.one(self.connection, device=device)
        return row[0], row[1], row[2] or b""

    def last_number(self, device: str) -> int:
        row = self._q.author.one(self.connection, device=device)
        return 0 if row is None else row[1]

    def clients(self, document: int) -> list[ClientRow]:
        return [
            ClientRow(row, client, author, None if origin is None else (origin, at), clock, words)
            for row, client, author, origin, at, clock, words in self._q.clients.all(self.connection, document=document)
        ]

    def add_client(self, document: int, client: int, author: int | None, origin: tuple[int, int] | None) -> int:
        first, clock = origin if origin is not None else (None, None)
        made = self._q.add_client.one(
            self.connection,
            document=document,
            client=client,
            author=author,
            origin_client=first,
            origin_clock=clock,
            clock=0,
        )
        return int(made[0])

    def advance_clients(self, clocks: Iterable[tuple[int, int]]) -> None:
        self._q.advance_client.many(self.connection, [{"client": row, "to": at} for row, at in clocks])

    def put_words(self, client: int, words: bytes) -> None:
        self._q.put_words.run(self.connection, client=client, words=words)

    # ---- statements -----------------------------------------------------------------------------------------

    def add_statement(self, row: NewStatement) -> None:
        self._statements.append(row)

    def add_tombstone(self, document: int, position: int, client: int, clock: int, length: int) -> None:
        self._tombstones.append(
            {"document": document, "position": position, "client": client, "clock": clock, "length": length}
        )

    def flush(self) -> None:
        if self._statements:
            statements, self._statements = self._statements, []
            self._q.add_statement.rows(self.connection, statements)
        if self._tombstones:
            tombstones, self._tombstones = self._tombstones, []
            self._q.add_tombstone.many(self.connection, tombstones)

    def forget_unflushed(self) -> None:
        self._statements.clear()
        self._tombstones.clear()
        # A row that was rolled back may be given to another device.
        self._devices.clear()

    def statement(self, ref: str) -> StatementRow | None:
        device, sid = split_ref(ref)
        row = self._q.statement.one(self.connection, device=device, sid=raw_id(sid))
        return None if row is None else _statement(row)

    def known_statements(self, author: int, sids: Sequence[bytes]) -> set[bytes]:
        return lookups.known_statements(self.connection, self._q, author, sids)

    def number_holder(self, device: str, number: int) -> str | None:
        self.flush()
        row = self._q.by_number.one(self.connection, device=device, number=number)
        return None if row is None else reference(device, text_id(row[0]))

    def statements_of(self, document: int, after: int, upto: int) -> list[StatementRow]:
        self.flush()
        rows = self._q.by_target.all(self.connection, document=document, after=after, upto=upto)
        return [_statement(row) for row in rows]

    def slots_of(self, document: DocumentRow, after: int = 0) -> list[Slot]:
        self.flush()
        key = {"document": document.id, "after": after, "upto": document.position}
        target = parse(document.name).target
        exact: dict[int, Callable[[bytes, bytes, bytes | None], bytes]] = {}
        words: dict[int, bytes | None] = dict(self._q.words.all(self.connection, document=document.id))
        rows = self._q.placed.all(self.connection, **key)
        ids = text_ids([row[4] for row in rows])
        accepted, closed = int(Place.ACCEPTED), int(Place.CLOSED)  # members of an enumeration compare slowly
        found = []
        for (position, client, clock, status, _, author, data), sid in zip(rows, ids, strict=True):
            value = None
            if status == accepted:
                if author not in exact:
                    exact[author] = unpacker(target, self._device(author))
                value = exact[author](data, sid, words[client])
            found.append(Slot(position, client, clock, 1, value, status == closed))
        for position, clock, client, length in self._q.tombstones.all(self.connection, **key):
            found.append(Slot(position, client, clock, length, None, False))
        return found

    def _device(self, author: int) -> str:
        """The device of an author's row, which never changes."""
        if author not in self._devices:
            (self._devices[author],) = self._q.device.one(self.connection, author=author)
        return self._devices[author]

    def tombstones_of(self, document: int, after: int, upto: int) -> list[tuple[int, int, int, int]]:
        self.flush()
        return self._q.tombstones.all(self.connection, document=document, after=after, upto=upto)

    def statements(self) -> Iterator[StatementRow]:
        self.flush()
        yield from map(_statement, self._whole_table(self._q.all_statements))

    def _whole_table(self, query: Sql) -> Iterator[Any]:
        """The rows of a query that begins at a number, in pages, in the order of their numbers."""
        rows = query.all(self.connection, first=_LEAST, most=_PAGE)
        while rows:
            yield from rows
            last = rows[-1][0]
            rows = query.all(self.connection, first=last + 1, most=_PAGE) if last < _MOST else []

    def close_statements(self, rows: Iterable[int]) -> None:
        self._q.close_statement.many(self.connection, [{"statement": row} for row in rows])

    # ---- registers, ledger, notes ---------------------------------------------------------------------------

    def register(self, document: str, key: str) -> RegisterRow | None:
        row = self._q.register.one(self.connection, name=document, key=key)
        return None if row is None else RegisterRow(*row)

    def register_bytes(self, document: str) -> int:
        row = self._q.register_bytes.one(self.connection, name=document)
        return 0 if row is None else int(row[0])

    def registers_under(self, key: str, documents: Sequence[str]) -> dict[str, bytes]:
        return lookups.registers_under(self.connection, self._q, key, documents)

    def registers(self, document: str, word: str = "") -> list[RegisterRow]:
        low, high = (f"{word}/", f"{word}/{_END}") if word else ("", _END)
        return [RegisterRow(*row) for row in self._q.registers.all(self.connection, name=document, low=low, high=high)]

    def registers_everywhere(self, word: str) -> list[RegisterRow]:
        found = self._q.registers_everywhere.all(self.connection, low=f"{word}/", high=f"{word}/{_END}")
        return [RegisterRow(*row) for row in found]

    def put_register(self, document: int, key: str, version: int, at: int, value: bytes) -> None:
        self._q.put_register.run(self.connection, document=document, key=key, version=version, at=at, value=value)

    def stock(self, site: str, item: str, lot: str) -> tuple[int, int]:
        row = self._q.stock.one(self.connection, site=site, item=item, lot=lot)
        return (0, 0) if row is None else (row[0], row[1])

    def all_stock(self) -> list[tuple[str, str, str, int, int]]:
        return self._q.all_stock.all(self.connection)

    def put_stock(self, site: str, item: str, lot: str, on_hand: int, shortage: int) -> None:
        self._q.put_stock.run(self.connection, site=site, item=item, lot=lot, on_hand=on_hand, shortage=shortage)

    def add_movements(self, movements: Iterable[Movement], at: int) -> None:
        rows = [
            {
                "site": it.site,
                "item": it.item,
                "lot": it.lot,
                "type": it.type.value,
                "delta": it.delta,
                "by": raw_ref(it.by),
                "at": at,
            }
            for it in movements
        ]
        if rows:
            self._q.add_movement.many(self.connection, rows)

    def movements(self) -> Iterator[tuple[int, str, str, str, str, int, str, int]]:
        for *what, by, at in self._whole_table(self._q.movements):
            yield (*what, text_ref(by), at)

    def note(self, kind: str, key: str) -> bytes | None:
        row = self._q.note.one(self.connection, kind=kind, key=key)
        return None if row is None else bytes(row[0])

    def notes(self, kind: str, prefix: str = "") -> list[tuple[str, bytes]]:
        return self._q.notes.all(self.connection, kind=kind, low=prefix, high=prefix + _END)

    def put_note(self, kind: str, key: str, value: bytes) -> None:
        self._q.put_note.run(self.connection, kind=kind, key=key, value=value)

    def awaited_since(self, ref: str) -> int | None:
        row = self._q.awaited.one(self.connection, ref=ref)
        return None if row is None else int(row[0])

    def all_awaited(self) -> dict[str, int]:
        return dict(self._q.all_awaited.all(self.connection))

    def put_awaited(self, ref: str, since: int) -> None:
        if self.awaited_since(ref) is None:
            self._q.put_awaited.run(self.connection, ref=ref, since=since)

    def drop_awaited(self, ref: str) -> None:
        self._q.drop_awaited.run(self.connection, ref=ref)

    # ---- quarantine, alarms, audit --------------------------------------------------------------------------

    def quarantined(self, ref: str) -> tuple[str, bytes, int] | None:
        row = self._q.quarantined.one(self.connection, ref=ref)
        return None if row is None else (row[1], row[3], row[4])

    def quarantine_count(self, device: str) -> int:
        return int(self._q.quarantine_count.one(self.connection, device=device)[0])

    def quarantine_of(self, device: str) -> list[tuple[str, bytes, int]]:
        rows = self._q.quarantine_of.all(self.connection, device=device)
        return [(row[2], row[3], row[4]) for row in rows]

    def add_quarantine(self, device: str, ref: str, data: bytes, received_at: int) -> None:
        self._q.add_quarantine.run(self.connection, device=device, ref=ref, data=data, received_at=received_at)

    def add_alarm(self, at: int, kind: str, device: str, says: str) -> None:
        self._q.add_alarm.run(self.connection, at=at, kind=kind, device=device, says=says)

    def alarms(self) -> Iterator[tuple[int, int, str, str, str]]:
        yield from self._whole_table(self._q.alarms)

    def alarm_count(self) -> int:
        return int(self._q.alarm_count.one(self.connection)[0])

    def add_audit(self, at: int, what: str, who: str, says: str) -> None:
        self._q.add_audit.run(self.connection, at=at, what=what, who=who, says=says)

    def audits(self) -> Iterator[tuple[int, int, str, str, str]]:
        yield from self._whole_table(self._q.audits)


def _statement(row: Any) -> StatementRow:
    at, sid, device, number, name, position, client, clock, received_at, status, verdict, data, words = row
    text = text_id(sid)
    return StatementRow(
        at,
        f"{device}.{text}",
        number,
        name,
        position,
        client,
        clock,
        received_at,
        Place(status),
        verdict,
        unpack(data, sid, parse(name).target, device, words),
    )
