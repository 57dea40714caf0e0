"""The operator's desk: database, keys and identity service of one relay, and its transactions."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from crdtmed.exercise import clock_from
from relay.batch import Batch
from relay.commit import commit_batch
from relay.identity import directory
from relay.identity.keyring import (
    Keyring,
    KeyringError,
    Secrets,
    keyring,
    new_secrets,
    open_secrets,
    settled,
    signer_of,
    write_secrets,
)
from relay.identity.leases import Terms
from relay.identity.service import EmbeddedIdentity, identity_in_force, open_identity
from relay.items import Task
from relay.live import Live
from relay.own_documents import write_directory
from relay.settings import Settings
from relay.storage.migrations import SchemaTooNew
from relay.storage.record import SqlRecord
from relay.storage.sqlite import StorageError, open_sqlite

DATABASE: Final = "relay.sqlite"
SECRETS: Final = "relay.keys"
LOCK: Final = "relay.lock"

R = TypeVar("R")


class CannotOpen(Exception):
    """The relay's folder cannot be worked with; the message is one line for people: what, where, what to do."""


@dataclass(frozen=True, slots=True)
class Office:
    """An open relay: every change is one transaction (`run`), every question a read of ``record``."""

    settings: Settings
    record: SqlRecord
    identity: EmbeddedIdentity
    now_ms: int

    def run(self, act: Callable[[Batch], R]) -> R:
        """One transaction of the operator's; it shares the writer's lock with a running relay, and is seen by it."""
        outcome = commit_batch(self.record, Live(), [Task(0, act)], self.identity, self.now_ms, os.urandom)
        result: R = outcome.results[0]
        return result


def database_of(settings: Settings) -> Path:
    """The relay's database."""
    return settings.folder / DATABASE


def secrets_of(settings: Settings) -> Path:
    """The file with the relay's keys."""
    return settings.folder / SECRETS


def passphrase_of(settings: Settings) -> str | None:
    """The passphrase of the relay's keys, the first line of the file that the settings name; None without one."""
    if settings.passphrase_file is None:
        return None
    try:
        return settings.passphrase_file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise CannotOpen(f"passphrase_file: {settings.passphrase_file} cannot be read: {error}") from None


def terms_of(settings: Settings) -> Terms:
    """What the settings say of leases and grants."""
    return Terms(
        offline_lease_hours=settings.offline_lease_hours,
        emergency_lease_hours=settings.emergency_lease_hours,
        grant_hours=settings.grant_hours,
    )


def clock_of(settings: Settings) -> Callable[[], int]:
    """The relay's clock in milliseconds: the machine's, or that of an exercise; raises `CannotOpen`."""
    try:
        return clock_from(settings.exercise_clock)
    except (OSError, ValueError) as error:
        raise CannotOpen(f"exercise_clock: {error}") from None


def make_relay(settings: Settings) -> str:
    """Sets up a relay that never ran: folder, keys, database, directory; gives the fingerprint of the identity key.

    Raises `CannotOpen` where there is one already, or the folder cannot be written.
    """
    try:
        settings.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if database_of(settings).exists():
            raise CannotOpen(f"{database_of(settings)} is there already: this folder has a relay")
        write_secrets(secrets_of(settings), new_secrets(settings.name, os.urandom), passphrase_of(settings), os.urandom)
    except KeyringError as error:
        raise CannotOpen(f"{secrets_of(settings)}: {error.says}") from None
    except OSError as error:
        raise CannotOpen(f"{settings.folder} cannot be written: {error.strerror}; choose another folder") from None
    with open_office(settings, fresh=True) as office:
        return fingerprint(office.identity.ring.identity.public)


def fingerprint(public: bytes) -> str:
    """A public key for people to compare: the first 16 hex digits in fours."""
    text = public.hex()[2:18]
    return " ".join(text[at : at + 4] for at in range(0, 16, 4))


def read_secrets(settings: Settings) -> Secrets:
    """The relay's keys; raises `CannotOpen`."""
    try:
        return open_secrets(secrets_of(settings), passphrase_of(settings))
    except KeyringError as error:
        raise CannotOpen(f"{secrets_of(settings)}: {error.says}") from None


def secrets_in_force(settings: Settings) -> Secrets:
    """The relay's keys; where a rotation of the identity key was cut short, with the one that the directory is signed
    with.

    Raises `CannotOpen`, `relay.storage.sqlite.StorageError` or `relay.identity.directory.AnotherIdentity`.
    """
    held = read_secrets(settings)
    if held.next_identity is None:
        return held
    with contextlib.closing(open_sqlite(database_of(settings))) as connection:
        candidates = (signer_of(held.identity), signer_of(held.next_identity))
        return settled(held, identity_in_force(connection, candidates).public)


@contextlib.contextmanager
def sole_use(settings: Settings) -> Iterator[None]:
    """Holds the folder as a running relay does; raises `CannotOpen` where another process has it."""
    try:
        lock = (settings.folder / LOCK).open("ab")
    except OSError as error:
        raise CannotOpen(f"{settings.folder} cannot be written: {error.strerror}; choose another folder") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CannotOpen(f"{settings.folder}: a relay runs on this folder; stop it first") from None
        yield


@contextlib.contextmanager
def open_office(settings: Settings, *, fresh: bool = False) -> Iterator[Office]:
    """The relay of the settings' folder; raises `CannotOpen` with one line that says why not."""
    if not fresh and not database_of(settings).exists():
        raise CannotOpen(f"{settings.folder} has no relay: run crdtmed-relay init first, or give its folder")
    try:
        ring = keyring(secrets_in_force(settings))
        connection = open_sqlite(database_of(settings))
    except (StorageError, SchemaTooNew, directory.AnotherIdentity) as error:
        raise CannotOpen(str(error)) from None
    with contextlib.closing(connection):
        now = clock_of(settings)()
        record = SqlRecord(connection)
        try:
            identity = identity_on(connection, settings, ring, now)
        except (directory.AnotherIdentity, ValueError) as error:
            raise CannotOpen(f"{database_of(settings)}: {error}") from None
        office = Office(settings, record, identity, now)
        if fresh:
            office.run(write_directory)
        yield office


def identity_on(connection: Any, settings: Settings, ring: Keyring, now: int) -> EmbeddedIdentity:
    """The identity service over a database; raises `relay.identity.directory.AnotherIdentity` or `ValueError`."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        identity = open_identity(connection, ring, terms_of(settings), now)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return identity
