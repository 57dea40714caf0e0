"""Looking after a relay: its status, its proof, its backup and its restoration."""

import contextlib
import itertools
import os
import sqlite3
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Final

from crdtmed.signed import RelayKey, read
from crdtmed.trust import RELAY
from relay.identity import rows
from relay.identity.carry import carry_over
from relay.identity.directory import AnotherIdentity
from relay.identity.keyring import Keyring, keyring
from relay.operator import records
from relay.operator.office import CannotOpen, Office, clock_of, database_of, identity_on, secrets_in_force, sole_use
from relay.operator.people import Refused, Report
from relay.own_documents import write_directory
from relay.settings import Settings
from relay.storage.migrations import SchemaTooNew, version
from relay.storage.record import SqlRecord
from relay.storage.restore import new_epochs
from relay.storage.sqlite import StorageError, backup, open_sqlite
from relay.storage.verify import Keys, verify_record

CARRIED: Final = "devices, users, grants and revocations are those of the database that was replaced"
NOT_CARRIED: Final = (
    "devices, users, grants and revocations are those of the backup: revoke again what was revoked since"
)
BESIDE: Final = ("-wal", "-shm")
"""What SQLite keeps beside a database, under its name and these."""


def status(office: Office) -> Report:
    """What the relay holds, and what waits for somebody."""
    db = office.record.connection
    devices = rows.devices(db)
    verdicts = Counter(row.place.name.lower() for row in office.record.statements())
    return {
        "relay": office.identity.ring.relay_name,
        "database": str(database_of(office.settings)),
        "bytes": database_of(office.settings).stat().st_size,
        "documents": len(office.record.documents()),
        "statements": sum(verdicts.values()),
        "verdicts": dict(sorted(verdicts.items())),
        "sites": len(rows.sites(db)),
        "users": sum(row.withdrawn_at is None for row in rows.users(db)),
        "devices": sum(row.revoked_at is None for row in devices),
        "revoked": sum(row.revoked_at is not None for row in devices),
        "revoked_and_not_wiped": sum(row.revoked_at is not None and row.wiped_at is None for row in devices),
        "open_conflicts": len(records.conflicts(office)),
        "quarantined": len(records.quarantine(office)),
        "alarms": office.record.alarm_count(),
        "knowledge": office.identity.snapshot_in_force(db),
    }


def verify(office: Office) -> Report:
    """Proves, or disproves, that documents, registers and ledger follow from the statements, as of one moment."""
    db = office.record.connection
    relays = tuple(read(RelayKey, data).public for key, data in rows.entries(db).items() if key.startswith(RELAY))
    db.execute("BEGIN")
    try:
        found = verify_record(office.record, Keys(lambda device: office.identity.certificate(db, device), relays))
    finally:
        db.execute("ROLLBACK")
    return {
        "sound": not found.findings,
        "statements": found.statements,
        "documents": found.documents,
        "registers": found.registers,
        "movements": found.movements,
        "findings": [asdict(finding) for finding in found.findings],
    }


def back_up(office: Office, path: Path) -> Report:
    """Copies the live database to a new file; the keys file is another, and is kept apart on purpose."""
    size = backup(office.record.connection, path)
    return {"file": str(path), "bytes": size}


def restore(settings: Settings, path: Path) -> Report:
    """Puts a backup in the place of the database and gives every document a new epoch.

    The relay must not run.  The database that was there stays beside it, under a name with ``before-restore`` in it.
    Raises `CannotOpen`, with everything as it was, where the file is no sound backup of this relay.
    """
    if not path.is_file():
        raise Refused(f"there is no file {path}")
    with sole_use(settings):
        return {"restored": str(path), **_put_in_place(settings, path)}


def _put_in_place(settings: Settings, path: Path) -> Report:
    target = database_of(settings)
    fresh = target.with_name(target.name + ".restoring")
    _remove(fresh)
    try:
        documents, identity = _prepare(settings, path, fresh)
    except (StorageError, SchemaTooNew, sqlite3.Error, CannotOpen, AnotherIdentity, ValueError) as error:
        _remove(fresh)
        raise CannotOpen(f"{path} is no backup that can be restored here: {error}") from None
    kept = None
    if target.exists():
        kept = _free_name(target)
        # The log goes with its database: what a crashed relay had committed may stand in it alone.
        for ending in ("", *BESIDE):
            with contextlib.suppress(FileNotFoundError):
                target.with_name(target.name + ending).replace(kept.with_name(kept.name + ending))
    fresh.replace(target)
    return {"documents": documents, "kept": None if kept is None else str(kept), "identity": identity}


def _prepare(settings: Settings, path: Path, fresh: Path) -> tuple[int, str]:
    """Makes a relay's database of a backup at ``fresh``; gives its number of documents, and where its devices, users
    and revocations are from."""
    with contextlib.closing(open_sqlite(path, read_only=True)) as source:
        if version(source) == 0:
            raise CannotOpen("it is not a relay's database")
        backup(source, fresh)
    with contextlib.closing(open_sqlite(fresh)) as connection:
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise CannotOpen(f"it is damaged: {found}")
        ring = keyring(secrets_in_force(settings))
        now = clock_of(settings)()
        identity = CARRIED if _carry(database_of(settings), connection, ring) else NOT_CARRIED
        record = SqlRecord(connection)
        office = Office(settings, record, identity_on(connection, settings, ring, now), now)
        documents = new_epochs(record, now, os.urandom)
        office.run(write_directory)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return documents, identity


def _carry(replaced: Path, connection: sqlite3.Connection, ring: Keyring) -> bool:
    """Takes what the identity service did since the backup from the database that is replaced, if it can be read."""
    if not replaced.exists():
        return False
    try:
        with contextlib.closing(open_sqlite(replaced, read_only=True)) as newer:
            if version(newer) != version(connection) or newer.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                return False
            connection.execute("BEGIN IMMEDIATE")
            try:
                carry_over(newer, connection, ring.identity)
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise
    except (StorageError, SchemaTooNew, sqlite3.Error, AnotherIdentity):
        return False
    return True


def _remove(database: Path) -> None:
    for ending in ("", *BESIDE):
        database.with_name(database.name + ending).unlink(missing_ok=True)


def _free_name(target: Path) -> Path:
    names = (target.with_name(f"{target.name}.before-restore-{number}") for number in itertools.count(1))
    return next(name for name in names if not name.exists())
