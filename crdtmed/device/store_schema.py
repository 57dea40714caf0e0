"""The tables of a device's store, and how an older store is brought up to date."""

from typing import Final

from crdtmed.device.store_database import Connection, StoreError

_FIRST: Final = (
    # STRICT: a cell holds what its column says, whoever writes it.
    # Counters and settings, by name.
    "CREATE TABLE kept (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID, STRICT",
    # What the relay admitted: a snapshot up to a position, and the updates after it.
    """CREATE TABLE base (
        document TEXT PRIMARY KEY, epoch TEXT NOT NULL, position INTEGER NOT NULL,
        snapshot_position INTEGER NOT NULL, verified INTEGER NOT NULL, synced_at INTEGER NOT NULL
    ) WITHOUT ROWID, STRICT""",
    "CREATE TABLE base_snapshot (document TEXT PRIMARY KEY, data BLOB NOT NULL) STRICT",
    """CREATE TABLE base_update (
        document TEXT NOT NULL, position INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (document, position)
    ) WITHOUT ROWID, STRICT""",
    # What this device said and no base has.  The spare rows stand on other pages of the file, so that one damaged
    # page never takes a statement with it.
    "CREATE TABLE outbox (number INTEGER PRIMARY KEY, ref TEXT NOT NULL UNIQUE, said_at INTEGER NOT NULL,"
    " bundle INTEGER NOT NULL, data BLOB NOT NULL) STRICT",
    "CREATE TABLE outbox_spare (number INTEGER PRIMARY KEY, said_at INTEGER NOT NULL, bundle INTEGER NOT NULL,"
    " data BLOB NOT NULL) STRICT",
    "CREATE TABLE verdict (ref TEXT PRIMARY KEY, data BLOB NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID, STRICT",
    "CREATE INDEX verdict_at ON verdict (at)",
    """CREATE TABLE inbox (
        id INTEGER PRIMARY KEY, ref TEXT, code TEXT NOT NULL, at INTEGER NOT NULL, open INTEGER NOT NULL,
        data BLOB NOT NULL
    ) STRICT""",
    "CREATE INDEX inbox_ref ON inbox (ref)",
    # Own requests that were accepted, for a relay that was restored to a state before them.
    "CREATE TABLE request (ref TEXT PRIMARY KEY, document TEXT NOT NULL, at INTEGER NOT NULL, data BLOB NOT NULL)"
    " STRICT",
    # What a new epoch lacked, until the relay has judged it.
    "CREATE TABLE hand_back (ref TEXT PRIMARY KEY, document TEXT NOT NULL, data BLOB NOT NULL) STRICT",
    "CREATE TABLE subscription (scope TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID, STRICT",
    # What other parts of the device keep: grants, sealed rosters, by kind and id.
    "CREATE TABLE thing (kind TEXT NOT NULL, id TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (kind, id)) STRICT",
)

_SECOND: Final = (
    # Whether a snapshot is compressed: then a third of the pages has to be encrypted, flushed, and decrypted again.
    "ALTER TABLE base_snapshot ADD COLUMN packed INTEGER NOT NULL DEFAULT 0",
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_FIRST, _SECOND)
"""Each brings the schema from its index to the next version; entries are only ever added."""


def migrate(connection: Connection) -> None:
    """The schema brought up to date; raises `StoreError` ``newer`` where a later software wrote the store."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(MIGRATIONS):
        raise StoreError(
            "newer", f"the store has schema {version}, this software knows {len(MIGRATIONS)}", "update this software"
        )
    for step in MIGRATIONS[version:]:
        for statement in step:
            connection.execute(statement)
    if version < len(MIGRATIONS):
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
