"""SQLAlchemy Core as the author of SQL, the DBAPI as its carrier.

Statements are built once with Core, compiled once for a dialect, and then run on the raw connection: measured, that is
a fifth of the time that the engine takes for a small transaction.
"""

import sqlite3
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import ClauseElement
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Dialect

SQLITE: Final[Dialect] = sqlite.dialect(paramstyle="qmark")
LOCK_WAIT_MS: Final = 5_000
"""So long a connection to SQLite waits for another one that writes."""
_LOCK_POLL_S: Final = 0.002


class Sql:
    """One compiled statement; its parameters are given by name."""

    __slots__ = ("_fixed", "_names", "text")

    def __init__(self, statement: ClauseElement, dialect: Dialect = SQLITE) -> None:
        compiled = statement.compile(dialect=dialect)
        self.text: Final = str(compiled)
        self._names: Final[tuple[str, ...]] = tuple(getattr(compiled, "positiontup", None) or compiled.params)
        self._fixed: Final = {name: value for name, value in compiled.params.items() if value is not None}

    def _row(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        fixed = self._fixed
        return tuple([values[name] if name in values else fixed[name] for name in self._names])

    def run(self, connection: Any, **values: Any) -> Any:
        """The cursor after running it once; raises `KeyError` where a parameter is missing."""
        return connection.execute(self.text, self._row(values))

    def one(self, connection: Any, **values: Any) -> Any:
        """The first row, or None."""
        return connection.execute(self.text, self._row(values)).fetchone()

    def all(self, connection: Any, **values: Any) -> list[Any]:
        """All rows."""
        found: list[Any] = connection.execute(self.text, self._row(values)).fetchall()
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters in the order in which `rows` takes them."""
        return self._names

    def rows(self, connection: Any, rows: Iterable[tuple[Any, ...]]) -> None:
        """Runs it for each of ``rows``, which are in the order of `names`."""
        connection.executemany(self.text, rows)

    def many(self, connection: Any, rows: Iterable[Mapping[str, Any]]) -> None:
        """Runs it for each of ``rows``."""
        connection.executemany(self.text, [self._row(row) for row in rows])


def data_version(connection: Any) -> int:
    """A number that changes when another connection to the same SQLite database has committed."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def impatient(connection: Any) -> None:
    """From now on SQLite says at once that another connection holds the lock: `begun` waits, where it should."""
    connection.execute("PRAGMA busy_timeout = 0")


def begun(connection: Any, wait: bool) -> bool:
    """Begins a transaction of SQLite's that writes; False where another connection holds the lock.

    ``wait``: for up to `LOCK_WAIT_MS`; then it raises `sqlite3.OperationalError`.  Not to wait takes an `impatient`
    connection.
    """
    until = time.monotonic() + LOCK_WAIT_MS / 1_000
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            if not wait:
                return False
            if time.monotonic() >= until:
                raise
        else:
            return True
        time.sleep(_LOCK_POLL_S)
