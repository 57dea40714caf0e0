"""How a database comes to the schema of this version, step by step, and never back.

An empty database gets the schema as it is; one of an earlier version takes the steps from there.  A step is what it
does on a connection to come one version further; one that was released never changes.  Everything that lives in the
relay's database is made here, the identity service's tables included, so that one version names one schema.
"""

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import MetaData, bindparam, insert, select, update
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import CreateIndex, CreateTable

from relay.identity import tables as identity_tables
from relay.storage import schema
from relay.storage.packing import pack_update, raw_ref
from relay.storage.sql import SQLITE, Sql

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


_PAGE: Final = 1_000
_ASIDE: Final = ("movement", "stock")


def _to_2(connection: Any, dialect: Dialect) -> None:
    """Updates are compressed; a movement names its lot by the row of the sums, and what moved it by 15 bytes.

    Statements that are kept as they were can be read as they are.
    """
    rows = select(schema.CHANGE.c.document, schema.CHANGE.c.position).compile(dialect=dialect)
    update_ = Sql(
        update(schema.CHANGE)
        .values(data=bindparam("made"))
        .where(schema.CHANGE.c.document == bindparam("at"), schema.CHANGE.c.position == bindparam("place")),
        dialect,
    )
    read = Sql(
        select(schema.CHANGE.c.data).where(
            schema.CHANGE.c.document == bindparam("at"), schema.CHANGE.c.position == bindparam("place")
        ),
        dialect,
    )
    for at, place in connection.execute(str(rows)).fetchall():
        data = bytes(read.one(connection, at=at, place=place)[0])
        update_.run(connection, at=at, place=place, made=pack_update(data))
    for table in _ASIDE:
        connection.execute(f"ALTER TABLE {table} RENAME TO {table}_1")
    connection.execute("DROP INDEX movement_lot")
    for made in (schema.STOCK, schema.MOVEMENT):
        connection.execute(str(CreateTable(made).compile(dialect=dialect)))
    connection.execute(
        "INSERT INTO stock (site, item, lot, on_hand, shortage) "
        "SELECT site, item, lot, on_hand, shortage FROM stock_1 ORDER BY site, item, lot"
    )
    # Movements of a lot without sums are wrong, and stay so: an operator's check tells of them.
    connection.execute(
        "INSERT INTO stock (site, item, lot, on_hand, shortage) "
        "SELECT DISTINCT m.site, m.item, m.lot, 0, 0 FROM movement_1 m "
        "WHERE NOT EXISTS (SELECT 1 FROM stock s WHERE s.site = m.site AND s.item = m.item AND s.lot = m.lot)"
    )
    put = Sql(
        insert(schema.MOVEMENT).values(
            {name: bindparam(name) for name in ("id", "stock", "type", "delta", "by", "at")}
        ),
        dialect,
    )
    moved = connection.execute(
        'SELECT m.id, s.id, m.type, m.delta, m."by", m.at FROM movement_1 m JOIN stock s '
        "ON s.site = m.site AND s.item = m.item AND s.lot = m.lot ORDER BY m.id"
    )
    while page := moved.fetchmany(_PAGE):
        put.many(
            connection,
            [
                {"id": row, "stock": lot, "type": kind, "delta": delta, "by": raw_ref(by), "at": at}
                for row, lot, kind, delta, by, at in page
            ],
        )
    for table in _ASIDE:
        connection.execute(f"DROP TABLE {table}_1")


def _to_3(connection: Any, dialect: Dialect) -> None:
    """A client has words that its statements are packed with, from its next one on.

    The highest number of an author was kept beside the statements that tell it.
    """
    kind = schema.CLIENT.c.words.type.compile(dialect=dialect)
    connection.execute(f"ALTER TABLE client ADD COLUMN words {kind}")
    connection.execute("ALTER TABLE author DROP COLUMN last_number")


_SCHEMA: Final = _create(schema.METADATA, identity_tables.METADATA)
STEPS: Final[tuple[Step, ...]] = (_to_2, _to_3)
"""From version 1 on: the first one leads to version 2."""
LATEST: Final = 1 + len(STEPS)


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
        for step in STEPS[had - 1 :] if had else (_SCHEMA,):
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
