"""Rotating keys: a device's database key, the relay's own key, and the identity key that everything follows from."""

import os
from typing import Any

from crdtmed.signed import RelayKey, read
from crdtmed.trust import RELAY
from relay.batch import Batch
from relay.identity import directory, leases, rows
from relay.identity.keyring import Secrets, settled, signer_of, with_next_identity, with_relay_key, write_secrets
from relay.identity.service import retire_relay_key
from relay.operator.office import (
    Office,
    fingerprint,
    open_office,
    passphrase_of,
    secrets_in_force,
    secrets_of,
    sole_use,
)
from relay.operator.people import Report
from relay.own_documents import write_directory
from relay.settings import Settings


def rotate_device(office: Office, device: str) -> Report:
    """Another database key for a device, from its next lease on; raises `OutOfService` or `RotationPending`."""

    def act(batch: Batch) -> None:
        leases.rotate_key(batch.record.connection, office.identity.ring, device, os.urandom)

    office.run(act)
    return {"device": device, "rotated": "with its next lease"}


def rotate_identity(settings: Settings) -> Report:
    """Another identity key, which the one before announces; gives its fingerprint.  The relay must not run.

    The keys file holds both until the directory is committed, so that this can be cut short at any point and begun
    again.  A backup from before can no longer be restored: make one afterwards.
    """
    with sole_use(settings):
        held = with_next_identity(secrets_in_force(settings), os.urandom)
        assert held.next_identity is not None
        following = signer_of(held.next_identity)
        with open_office(settings) as office:
            _write(settings, held)

            def act(batch: Batch) -> None:
                directory.rotate(batch.record.connection, office.identity.ring.identity, following, office.now_ms)
                write_directory(batch)

            office.run(act)
        _write(settings, settled(held, following.public))
    return {"identity": fingerprint(following.public)}


def rotate_relay(settings: Settings) -> Report:
    """Another key for this relay; what the ones before date later than now is not believed.  The relay must not run."""
    with sole_use(settings):
        held = secrets_in_force(settings)
        with open_office(settings) as office:
            names = set(_relay_keys(office.record.connection))
            number = next(count for count in range(2, len(names) + 3) if f"{settings.name}-{count}" not in names)
        _write(settings, with_relay_key(held, f"{settings.name}-{number}", os.urandom))
        with open_office(settings) as office:

            def act(batch: Batch) -> tuple[str, ...]:
                db, ring = batch.record.connection, office.identity.ring
                before = tuple(name for name, at in _relay_keys(db).items() if name != ring.relay_name and at is None)
                for name in before:
                    retire_relay_key(db, ring, name, office.now_ms)
                write_directory(batch)
                return before

            retired = office.run(act)
            return {"relay": office.identity.ring.relay_name, "retired": list(retired)}


def _relay_keys(db: Any) -> dict[str, int | None]:
    """Relay keys by name, and when each was retired."""
    held = [read(RelayKey, data) for key, data in rows.entries(db).items() if key.startswith(RELAY)]
    return {key.relay: key.retired_at for key in held}


def _write(settings: Settings, held: Secrets) -> None:
    write_secrets(secrets_of(settings), held, passphrase_of(settings), os.urandom, replace=True)
