"""The inbox: what a person must look at, each entry whole, with its reason and what can be done."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from crdtmed import statement
from crdtmed.codec import decoder, encode
from crdtmed.device.store_database import Connection
from crdtmed.limits import MAX_INBOX_ENTRIES, MAX_LONG_TEXT_CHARS, MAX_SHORT_TEXT_CHARS, MAX_SIGNED_VALUE_BYTES
from crdtmed.statement import SignedStatement
from crdtmed.verdict import Verdict

SET_ASIDE: Final = "set_aside"
"""The code of a statement that the relay could not read and never judged."""


class _Kept(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is stored of an entry beside its columns."""

    says: Annotated[str, msgspec.Meta(max_length=MAX_LONG_TEXT_CHARS)]
    statement: bytes
    verdict: Verdict | None


_decode = decoder(_Kept, 2 * MAX_SIGNED_VALUE_BYTES + 262_144)


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """One entry.

    ``code`` is that of the verdict's reason, ``set_aside``, or that of an alarm (``store_older``, ``forged``…);
    ``says`` is for people; ``statement`` is what it is about, None for an alarm; ``verdict`` brings the
    reason's details and the actions.  ``at`` is in ms of the device's clock; ``open`` until it was dismissed or
    resolved.
    """

    id: int
    at: int
    code: str
    says: str
    open: bool
    statement: SignedStatement | None
    verdict: Verdict | None

    @property
    def actions(self) -> tuple[str, ...]:
        """What a person may choose among."""
        return self.verdict.actions if self.verdict is not None else ()


def put(
    connection: Connection,
    code: str,
    says: str,
    at: int,
    of: SignedStatement | None = None,
    verdict: Verdict | None = None,
) -> None:
    """Adds an entry; of one statement there is one open entry, the newest; of one alarm with the same words, one."""
    ref = of.statement.ref if of is not None else None
    if ref is not None:
        connection.execute("DELETE FROM inbox WHERE ref = ?", (ref,))
    kept = encode(_Kept(says[:MAX_LONG_TEXT_CHARS], of.encoded if of is not None else b"", verdict))
    if ref is None:
        connection.execute("DELETE FROM inbox WHERE ref IS NULL AND code = ? AND data = ?", (code, kept))
    connection.execute(
        "INSERT INTO inbox (ref, code, at, open, data) VALUES (?, ?, ?, 1, ?)",
        (ref, code[:MAX_SHORT_TEXT_CHARS], at, kept),
    )
    connection.execute(
        "DELETE FROM inbox WHERE open = 0 AND id NOT IN (SELECT id FROM inbox ORDER BY id DESC LIMIT ?)",
        (MAX_INBOX_ENTRIES,),
    )


def close(connection: Connection, entry: int) -> bool:
    """Marks an entry as done; whether there was an open one."""
    row = connection.execute("SELECT 1 FROM inbox WHERE id = ? AND open = 1", (entry,)).fetchone()
    connection.execute("UPDATE inbox SET open = 0 WHERE id = ?", (entry,))
    return row is not None


def close_of(connection: Connection, refs: Sequence[str]) -> bool:
    """Marks the entries of statements as done: they were resolved, or accepted after all; whether there were any."""
    before = connection.execute("SELECT total_changes()").fetchone()
    connection.executemany("UPDATE inbox SET open = 0 WHERE ref = ? AND open = 1", [(ref,) for ref in refs])
    return bool(connection.execute("SELECT total_changes()").fetchone() != before)


def count(connection: Connection) -> int:
    """How many entries are open."""
    return int(connection.execute("SELECT count(*) FROM inbox WHERE open = 1").fetchone()[0])


def entry_of(connection: Connection, ref: str) -> InboxEntry | None:
    """The entry of a statement, open or not."""
    row = connection.execute("SELECT id, at, code, open, data FROM inbox WHERE ref = ?", (ref,)).fetchone()
    return entry(row) if row is not None else None


def entries(connection: Connection, *, closed: bool = False) -> list[InboxEntry]:
    """The open entries, or all of them, oldest first."""
    rows = connection.execute(
        "SELECT id, at, code, open, data FROM inbox WHERE open >= ? ORDER BY id", (0 if closed else 1,)
    ).fetchall()
    return [entry(row) for row in rows]


def entry(row: tuple[int, int, str, int, bytes]) -> InboxEntry:
    """An entry from its columns id, at, code, open, data."""
    number, at, code, is_open, data = row
    kept = _decode(bytes(data))
    return InboxEntry(
        id=number,
        at=at,
        code=code,
        says=kept.says,
        open=bool(is_open),
        statement=statement.decode(kept.statement) if kept.statement else None,
        verdict=kept.verdict,
    )
