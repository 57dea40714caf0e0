"""Questions about many documents or statements at once: one query for each so many, instead of one each."""

from collections.abc import Iterator, Sequence
from typing import Any

from relay.storage.packing import unpack_update
from relay.storage.queries import LOOKED_UP, NAMED, WORTH_WHILE, Queries
from relay.storage.rows import DocumentRow
from relay.storage.sql import Sql


def documents_named(connection: Any, q: Queries, names: Sequence[str]) -> dict[str, DocumentRow]:
    """`relay.storage.port.Record.documents_named`."""
    return {row[1]: DocumentRow(*row) for row in _found(connection, q.documents_named, names)}


def registers_under(connection: Any, q: Queries, key: str, documents: Sequence[str]) -> dict[str, bytes]:
    """`relay.storage.port.Record.registers_under`."""
    return dict(_found(connection, q.registers_under, documents, key))


def first_changes(connection: Any, q: Queries, documents: Sequence[int], most: int) -> dict[int, bytes]:
    """`relay.storage.port.Record.first_changes`."""
    found = _found(connection, q.first_changes, documents, 1, most)
    return {document: unpack_update(data) for document, data in found}


def known_statements(connection: Any, q: Queries, author: int, sids: Sequence[bytes]) -> set[bytes]:
    """`relay.storage.port.Record.known_statements`."""
    known: set[bytes] = set()
    for first in range(0, len(sids), LOOKED_UP):
        part = sids[first : first + LOOKED_UP]
        if len(part) < WORTH_WHILE:
            rows = [q.known_statement.one(connection, author=author, sid=sid) for sid in part]
            known.update([row[0] for row in rows if row is not None])
        else:
            row = (author, *_filled(part, LOOKED_UP))
            known.update([sid for (sid,) in connection.execute(q.known_statements.text, row)])
    return known


def _found(connection: Any, query: Sql, named: Sequence[Any], *behind: Any) -> Iterator[Any]:
    """The rows of a query about `NAMED` documents, whose other parameters stand behind them."""
    for first in range(0, len(named), NAMED):
        part = _filled(named[first : first + NAMED], NAMED)
        yield from connection.execute(query.text, (*part, *behind))


def _filled(part: Sequence[Any], size: int) -> tuple[Any, ...]:
    """Values for a query of so many: where there are fewer, the last one is asked for again."""
    return (*part, *[part[-1]] * (size - len(part)))
