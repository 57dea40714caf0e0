"""How a database comes to the schema of this version, step by step, and never back.

A step is a number and what it does on a connection; the numbers rise by one, and a step that was released never
changes.  Everything that lives in the relay's database is made here, the identity service's tables included, so that
one version names one schema.
"""

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import MetaData, insert, select, update
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import CreateIndex, CreateTable

from relay.identity import tables as identity_tables
from relay.storage import schema
from relay.storage.sql import SQLITE

Step = Callable[[Any, Dialect], None]


class SchemaTooNew(Exception):
    """The database was written by a later version of the relay; the message names both versions."""


def _create(*of: MetaData) -> Step:
    def run(connection: Any, dialect: Dialect) -> None:
        for metadata in of:
            for table in metadata.sorted_tables:
                connection.execute(str(CreateTable(table).compile(dialect=dialect)))
                for index in sorted(table.indexes, key=lambda made: str(made.name)):
                    connection.execute(str(CreateIndex(index).compile(dialect=dialect)))

    return run


STEPS: Final[tuple[Step, ...]] = (_create(schema.METADATA, identity_tables.METADATA),)
LATEST: Final = len(STEPS)


def version(connection: Any, dialect: Dialect = SQLITE) -> int:
    """The schema's version; 0 for an empty database."""
    found = connection.execute(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'schema_version'"
        if dialect.name == "sqlite"
        else "SELECT count(*) FROM information_schema.tables WHERE table_name = 'schema_version'"
    ).fetchone()
    if not found[0]:
        return 0
    row = connection.execute(str(select(schema.VERSION.c.version).compile(dialect=dialect))).fetchone()
    return int(row[0])


def migrate(connection: Any, dialect: Dialect = SQLITE) -> int:
    """Brings the database to `LATEST` in one transaction; gives the version it had.

    Raises `SchemaTooNew`, with nothing changed.
    """
    connection.execute("BEGIN IMMEDIATE" if dialect.name == "sqlite" else "BEGIN")
    try:
        had = version(connection, dialect)
        if had > LATEST:
            raise SchemaTooNew(
                f"the database has schema {had}, this relay knows {LATEST}: run the newer relay, or restore a backup"
            )
        for step in STEPS[had:]:
            step(connection, dialect)
        if had < LATEST:
            write = insert(schema.VERSION) if had == 0 else update(schema.VERSION)
            text = str(write.values(version=LATEST).compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
            connection.execute(text)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return had
