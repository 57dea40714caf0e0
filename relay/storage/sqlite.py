"""The embedded database: SQLite with a write-ahead log, every commit on the disk before it counts."""

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Final

from relay.storage.migrations import migrate
from relay.storage.sql import LOCK_WAIT_MS

_PRAGMAS: Final = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -65536",
    # A long transaction leaves a long log, which would otherwise stay that long.
    "PRAGMA journal_size_limit = 4194304",
)


class StorageError(Exception):
    """The database cannot be opened or written; the message says which file, why, and what to do."""


def open_sqlite(path: str | Path, read_only: bool = False) -> sqlite3.Connection:
    """A connection to the relay's database at ``path``, made and migrated where it is not there yet.

    ``":memory:"`` gives one without a file.  ``read_only`` opens what exists, for readers beside the writer.
    Raises `StorageError`, or `relay.storage.migrations.SchemaTooNew`.
    """
    try:
        if read_only:
            uri = f"{Path(path).absolute().as_uri()}?mode=ro"
            connection = _connect(uri, uri=True)
        else:
            connection = _connect(str(path), uri=False)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        if not read_only:
            migrate(connection)
    except sqlite3.Error as error:
        raise StorageError(
            f"{path}: {error}; check that the file is a relay's database, its folder writable and the disk not full"
        ) from error
    return connection


def _connect(path: str, *, uri: bool) -> sqlite3.Connection:
    # One thread at a time uses a connection, not always the one that made it.
    return sqlite3.connect(
        path,
        timeout=LOCK_WAIT_MS / 1_000,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=512,
        uri=uri,
    )


def backup(connection: sqlite3.Connection, path: str | Path) -> int:
    """Copies the database, as of one moment and without stopping writers, to a new file; gives its bytes.

    The copy is one plain file that only its owner may read.  Raises `StorageError` where the file exists already or
    cannot be written; nothing is left of it then.
    """
    target = Path(path)
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise StorageError(f"{target} exists: a backup overwrites nothing, name a new file") from None
    except OSError as error:
        raise StorageError(f"{target}: {error.strerror}; is the folder there and writable?") from None
    try:
        with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy:
            # All pages in one step: between steps another process's commit would make it begin anew, for ever.
            connection.backup(copy, pages=-1)
            copy.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        target.unlink(missing_ok=True)
        raise StorageError(f"{target}: {error}; is the disk full?") from error
    return target.stat().st_size
