"""A damaged store: everything that can still be read of what this device said goes into a new file.

Bases come anew from the relay.  The damaged file is kept beside the new one, so that nothing is destroyed by a rescue.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from crdtmed import documents, statement
from crdtmed.codec import Undecodable
from crdtmed.device import inbox, store
from crdtmed.device.store_database import (
    CONNECT,
    Connect,
    Connection,
    DatabaseError,
    SqlcipherDatabase,
    StoreError,
    Unreadable,
    damage_marker,
    open_connection,
    open_database,
    transact,
)
from crdtmed.device.store_schema import migrate
from crdtmed.limits import MAX_OUTBOX_STATEMENTS
from crdtmed.verdict import decode_verdict

_Row = Sequence[Any]


def _counter(row: _Row) -> None:
    if row[0] in (store.NUMBER, store.STAMP, store.HEAD):
        store.decode_int(bytes(row[1]))


_WHOLE: Final[Mapping[str, Callable[[_Row], object]]] = {
    "kept": _counter,
    "verdict": lambda row: decode_verdict(bytes(row[1])),
    "inbox": lambda row: inbox.entry((row[0], *row[2:])),
    "request": lambda row: statement.decode(bytes(row[3])),
    "hand_back": lambda row: statement.decode(bytes(row[2])),
    "subscription": lambda row: documents.parse(row[0]),
    "thing": lambda row: None,
}
"""Tables that are copied as far as they can be read, and what reads a row of each."""


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What a rescue brought: how many statements of the outbox, how many reads met damage, and where the damaged
    file is now."""

    outbox: int
    unreadable: int
    damaged: Path


def is_damaged(connection: Connection) -> bool:
    """Whether any page of the file cannot be read or decrypted; reads all of it."""
    try:
        problems = connection.execute("PRAGMA cipher_integrity_check").fetchall()
        return bool(problems) or connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok"
    except DatabaseError:
        return True


async def open_or_salvage(
    path: Path, key: bytes, device: str, now_ms: int, connect: Connect = CONNECT
) -> tuple[SqlcipherDatabase, Salvaged | None]:
    """The database at ``path``; where it was found to be damaged, now or when it was last used, it is salvaged first.

    The damaged file is kept beside it, named after ``now_ms``.  Raises `StoreError` as `open_database` and `salvage`.
    """
    marker = damage_marker(path)
    rescued: Salvaged | None = None
    if not marker.exists():
        try:
            database = await open_database(path, key, connect)
            try:
                await database.run(lambda connection: store.open_store(connection, device))
                return database, None
            except BaseException:
                await database.close()
                raise
        except StoreError as error:
            if error.code != "damaged":
                raise
    rescued = salvage(path, key, device, path.with_name(f"{path.name}.damaged-{now_ms}"), connect)
    with suppress(FileNotFoundError):
        marker.unlink()
    return await open_database(path, key, connect), rescued


def salvage(path: Path, key: bytes, device: str, aside: Path, connect: Connect = CONNECT) -> Salvaged:
    """Moves the damaged store at ``path`` to ``aside`` and writes a new one with what could be read.

    Raises `StoreError` ``damaged`` where not even its beginning can be read, or ``other_device``, and then nothing was
    moved.
    """
    old = _Damaged(lambda: _open_old(path, key, connect))
    fresh = path.with_name(f"{path.name}.salvage")
    for suffix in ("", "-wal", "-shm"):
        fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
    try:
        new = open_connection(fresh, key, connect)
        try:
            counts = transact(new, lambda connection: _copy(old, connection, device))
            new.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            new.close()
    finally:
        old.close()
    for suffix in ("", "-wal", "-shm"):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.rename(aside.with_name(aside.name + suffix))
    fresh.rename(path)
    return Salvaged(*counts, damaged=aside)


class _Damaged:
    """The damaged file, read as far as it goes.  SQLCipher gives nothing more after a page that did not decrypt, so
    each failure costs a new connection."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection = connect()
        self.failed = 0
        self.unreadable = 0

    def rows(self, sql: str) -> list[Sequence[Any]]:
        """The rows of a query up to where the file is damaged."""
        found: list[Sequence[Any]] = []
        try:
            cursor = self._connection.execute(sql)
            while (row := cursor.fetchone()) is not None:
                found.append(row)
        except DatabaseError:
            self.failed += 1
            self._connection.close()
            self._connection = self._connect()
        return found

    def one(self, sql: str) -> Any:
        """The first row of a query; None where there is none, or the file is damaged there."""
        return next(iter(self.rows(sql)), None)

    def close(self) -> None:
        """Gives the file up."""
        self._connection.close()


def _open_old(path: Path, key: bytes, connect: Connect) -> Connection:
    try:
        old = open_connection(path, key, connect)
    except StoreError as error:
        if error.code != "wrong_key":
            raise
        raise StoreError(
            "damaged",
            f"the beginning of {path.name} cannot be read with this key, so nothing of it can",
            "restore it from a copy, or move it away and begin anew: what was not sent is lost",
        ) from None
    return old


def _copy(old: _Damaged, new: Connection, device: str) -> tuple[int, int]:
    migrate(new)
    for table in _WHOLE:
        _copy_table(old, new, table)
    row = new.execute("SELECT value FROM kept WHERE name = ?", (store.DEVICE,)).fetchone()
    if row is not None and bytes(row[0]) != device.encode():
        raise StoreError("other_device", "the store is another device's", "open this device's own store")
    said = {one.number: one for one in _outbox(old)}
    number, stamp = store.kept_int(new, store.NUMBER), store.kept_int(new, store.STAMP)
    if said:
        last = max(said)
        top = max(stamp, *(one.signed.statement.stamp for one in said.values()))
        store.append(new, [said[number] for number in sorted(said)], top)
        store.keep_int(new, store.NUMBER, max(number, last))
    return len(said), old.failed + old.unreadable


def _outbox(old: _Damaged) -> Iterator[store.Said]:
    """Every statement that either of its two places still has; found one by one, since a page may be missing."""
    last = _last_number(old)
    for table in ("outbox", "outbox_spare"):
        listed = {row[0] for row in old.rows(f"SELECT number FROM {table}")}  # noqa: S608 - names are ours
        for number in sorted(listed.union(range(max(1, last - MAX_OUTBOX_STATEMENTS), last + 1))):
            row = old.one(f"SELECT said_at, bundle, data FROM {table} WHERE number = {number}")  # noqa: S608 - names are ours
            if row is None:
                continue
            try:
                signed = statement.decode(bytes(row[2]))
            except statement.BadStatement:
                old.unreadable += 1
                continue
            yield store.Said(signed, row[0], row[1])


def _last_number(old: _Damaged) -> int:
    """The highest number that any of the places where it stands still tells; 0 where none does."""
    found = [0]
    for table in ("outbox", "outbox_spare"):
        row = old.one(f"SELECT number FROM {table} ORDER BY number DESC LIMIT 1")  # noqa: S608 - names are ours
        if row is not None:
            found.append(row[0])
    kept = old.one(f"SELECT value FROM kept WHERE name = '{store.NUMBER}'")  # noqa: S608 - names are ours
    if kept is not None:
        with suppress(Undecodable):
            found.append(store.decode_int(bytes(kept[0])))
    return max(found)


def _copy_table(old: _Damaged, new: Connection, table: str) -> None:
    """Copies what can be read of a table, from both ends up to what is damaged."""
    for order in ("ASC", "DESC"):
        before = old.failed
        rows = old.rows(f"SELECT * FROM {table} ORDER BY 1 {order}")  # noqa: S608 - names are ours
        for row in rows:
            marks = ", ".join("?" * len(row))
            try:
                _WHOLE[table](row)
                new.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)  # noqa: S608 - names are ours
            except (*Unreadable, *DatabaseError):
                old.unreadable += 1
        if old.failed == before:
            return
