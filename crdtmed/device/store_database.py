"""The one encrypted database of a device, and how it fails.

SQLCipher under aiosqlite, opened with a raw 32-byte key.  Work on it is a synchronous function of the connection that
runs as one transaction: nothing else can come between, and a simulator hands in a database that runs it inline.
It fails closed: without a cipher, or on a file that was never encrypted, nothing is opened.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, cast

import aiosqlite
from sqlcipher3 import dbapi2 as sqlcipher

from crdtmed.codec import Undecodable
from crdtmed.documents import BadName
from crdtmed.statement import BadStatement

T = TypeVar("T")

KEY_BYTES: Final = 32
PLAIN_HEADER: Final = b"SQLite format 3\x00"
DatabaseError: Final = (sqlite3.Error, sqlcipher.Error, MemoryError)
"""What a connection raises: SQLCipher's errors are not those of the standard library, and after a page that does not
decrypt it says that there is no memory."""

Unreadable: Final = (BadStatement, Undecodable, BadName, UnicodeDecodeError)
"""What reading a row raises where its page is whole and says nothing that this software ever wrote there."""


class Connection(Protocol):
    """What the store uses of a DBAPI connection to SQLite in autocommit mode."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Any:
        """Runs one statement."""

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Any:
        """Runs one statement for each row of parameters."""

    def close(self) -> None:
        """Gives the file up."""


Connect = Callable[[str], Connection]
"""From a path to a DBAPI connection in autocommit mode that any thread may use."""


class StoreError(Exception):
    """The store cannot do what was asked; nothing of it was done.

    ``code`` is stable: ``bad_key``, ``not_encrypted``, ``plain_file``, ``wrong_key``, ``damaged``, ``disk_full``,
    ``read_only``, ``in_use``, ``newer``, ``other_device``, ``closed``, ``failed``.  ``says`` tells what was wrong and
    where, ``step`` what to do next.
    """

    def __init__(self, code: str, says: str, step: str) -> None:
        super().__init__(f"{code}: {says}; {step}")
        self.code = code
        self.says = says
        self.step = step


class Database(Protocol):
    """A store's database: runs one function at a time, each as one transaction."""

    async def run(self, work: Callable[[Connection], T]) -> T:
        """What ``work`` returns, once it is committed; rolled back where it raises.

        Raises `StoreError` for what the database cannot do, and whatever else ``work`` raises.
        """

    async def close(self) -> None:
        """Gives the file up; a second call does nothing."""


def transact(connection: Connection, work: Callable[[Connection], T]) -> T:
    """``work`` in one transaction on ``connection``; raises `StoreError` where the database fails."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise
    except DatabaseError as error:
        raise explained(error) from error
    except Unreadable as error:
        raise StoreError(
            "damaged", f"a row of the store cannot be read ({error})", "salvage it: what can be read is kept"
        ) from error
    return result


def _roll_back(connection: Connection) -> None:
    try:
        connection.execute("ROLLBACK")
    except DatabaseError:
        return  # SQLite has rolled back by itself, as it does on a full disk; the first error is what counts


_CLEAR: Final = {
    "SQLITE_FULL": ("disk_full", "the disk is full", "free some space; nothing that was confirmed is lost"),
    "SQLITE_READONLY": ("read_only", "the store cannot be written", "check the file's permissions and its disk"),
    "SQLITE_CANTOPEN": ("read_only", "the store cannot be opened", "check the path, its permissions and its disk"),
    "SQLITE_PERM": ("read_only", "the store may not be opened", "check the file's permissions"),
    "SQLITE_BUSY": ("in_use", "another process has this store open", "close it there first"),
    "SQLITE_LOCKED": ("in_use", "another process has this store open", "close it there first"),
    "SQLITE_CORRUPT": ("damaged", "the store's file is damaged", "salvage it: its outbox is kept"),
    "SQLITE_NOTADB": ("damaged", "a part of the store does not decrypt", "salvage it: its outbox is kept"),
    "SQLITE_IOERR": ("failed", "the disk did not read or write", "check the disk and its connection"),
}


def explained(error: Exception) -> StoreError:
    """What a person needs to know of an error of SQLite."""
    name = "SQLITE_CORRUPT" if isinstance(error, MemoryError) else str(getattr(error, "sqlite_errorname", "") or "")
    for start, (code, says, step) in _CLEAR.items():
        if name.startswith(start):
            return StoreError(code, says, step)
    if "closed" in str(error):
        return StoreError("closed", "the store is closed", "open it again")
    return StoreError("failed", f"the database says {name or type(error).__name__}: {error}", "report this")


def _connect_sqlcipher(path: str) -> Connection:
    connection: Connection = sqlcipher.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
    return connection


CONNECT: Final[Connect] = _connect_sqlcipher
"""How a store is connected to, unless a test does it otherwise."""


def open_connection(path: Path, key: bytes, connect: Connect = CONNECT) -> Connection:
    """A connection to the encrypted file at ``path``, made where there is none.

    Raises `StoreError`: ``bad_key`` unless ``key`` has 32 bytes, ``plain_file`` where the file was never encrypted,
    ``not_encrypted`` where the library has no cipher, ``wrong_key`` where the key does not open it.
    """
    if len(key) != KEY_BYTES:
        raise StoreError("bad_key", f"the store's key has {len(key)} bytes, {KEY_BYTES} are needed", "renew the lease")
    _refuse_plain(path)
    try:
        connection = connect(str(path))
    except DatabaseError as error:
        raise explained(error) from error
    try:
        _unlock(connection, key)
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_plain(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(len(PLAIN_HEADER))
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(
            "read_only", f"{path.name} cannot be read: {error.strerror}", "check the file's permissions and its disk"
        ) from None
    if start == PLAIN_HEADER:
        raise StoreError(
            "plain_file", f"{path.name} is not encrypted", "it is no store of this software: name another file"
        )


def _unlock(connection: Connection, key: bytes) -> None:
    try:
        # The cipher's own log would go to the terminal, with page numbers of a file that is merely damaged.
        connection.execute("PRAGMA cipher_log_level = NONE")
        connection.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
        version = connection.execute("PRAGMA cipher_version").fetchone()
        if version is None or not version[0]:
            raise StoreError(
                "not_encrypted", "this SQLite has no cipher and would ignore the key", "install sqlcipher3-wheels"
            )
        connection.execute("PRAGMA cipher_memory_security = OFF")
        connection.execute("PRAGMA temp_store = MEMORY")
        # One process a store: numbers and positions are kept in memory between transactions.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except DatabaseError as error:
        if str(getattr(error, "sqlite_errorname", "")).startswith("SQLITE_NOTADB"):
            raise StoreError(
                "wrong_key",
                "the key does not open this store, or the file's beginning is damaged",
                "renew the lease for the right key; the file is untouched",
            ) from None
        raise explained(error) from error
    if mode not in ("wal", "memory"):
        raise StoreError("failed", f"the journal is {mode}, not wal", "put the store on a local disk")


def rekey(connection: Connection, key: bytes) -> None:
    """Brings the open database under another key, in place; raises `StoreError`."""
    if len(key) != KEY_BYTES:
        raise StoreError("bad_key", f"the store's key has {len(key)} bytes, {KEY_BYTES} are needed", "renew the lease")
    try:
        connection.execute(f"PRAGMA rekey = \"x'{key.hex()}'\"")
    except DatabaseError as error:
        raise explained(error) from error


def damage_marker(path: Path) -> Path:
    """The file beside a store that says that it is damaged."""
    return path.with_name(f"{path.name}.is-damaged")


class SqlcipherDatabase(aiosqlite.Connection):
    """A `Database` on a thread of its own."""

    def __init__(self, open_with: Callable[[bytes], Connection], key: bytes, marker: Path) -> None:
        """``open_with`` connects under a key.

        ``marker`` is a file that is made when a damaged page is met, so that the next start salvages the store.
        """
        # aiosqlite asks for a sqlite3 connection and uses what SQLCipher's has as well.
        super().__init__(cast("Callable[[], sqlite3.Connection]", lambda: open_with(key)), iter_chunk_size=64)
        self._open = open_with
        self._key = key
        self._thread.daemon = True
        self._marker = marker

    async def run(self, work: Callable[[Connection], T]) -> T:
        if self._connection is None:
            raise StoreError("closed", "the store is closed", "open it again")
        try:
            result: T = await self._on_thread(lambda: transact(self._conn, work))
        except StoreError as error:
            if error.code == "damaged":
                self._marker.touch()
                # SQLCipher reads nothing more on this connection; what is not damaged is good on a new one.
                await self._on_thread(self._connect_again)
            raise
        return result

    async def _on_thread(self, act: Callable[[], T]) -> T:
        # The one way in that aiosqlite has for a whole function on its thread.
        done: T = await self._execute(act)  # type: ignore[no-untyped-call]  # aiosqlite leaves it unannotated
        return done

    def ended(self) -> None:
        """Waits until the thread of a database that did not open has ended."""
        self._thread.join()

    def _connect_again(self) -> None:
        self._conn.close()
        self._connection = cast("sqlite3.Connection", self._open(self._key))

    def _under(self, key: bytes) -> None:
        rekey(self._conn, key)
        self._key = key

    async def rekey(self, key: bytes) -> None:
        """Brings the database under another key, in place; raises `StoreError`, and then it is under the old one."""
        await self._on_thread(lambda: self._under(key))


async def open_database(path: Path, key: bytes, connect: Connect = CONNECT) -> SqlcipherDatabase:
    """The encrypted database at ``path`` on a thread of its own; raises `StoreError` as `open_connection` does."""
    database = SqlcipherDatabase(lambda under: open_connection(path, under, connect), key, damage_marker(path))
    try:
        await database
    except BaseException:
        await asyncio.to_thread(database.ended)  # or its thread speaks to an event loop that is gone
        raise
    return database


class InlineDatabase:
    """A `Database` that runs at once, in the caller's thread, on a connection in autocommit mode."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def run(self, work: Callable[[Connection], T]) -> T:
        return transact(self._connection, work)

    async def close(self) -> None:
        self._connection.close()
