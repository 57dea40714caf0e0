"""A restoration does not bring a revoked device or a withdrawn user back where the newer database can be read."""

import sqlite3

import pytest

from crdtmed.trust import read_directory
from relay.identity import rows, users
from relay.identity.carry import carry_over
from relay.identity.directory import AnotherIdentity
from relay.identity.leases import OutOfService
from tests.relay.identity.setting import HOUR, T0, World, database, world


def copy(db: sqlite3.Connection) -> sqlite3.Connection:
    made = sqlite3.connect(":memory:", isolation_level=None)
    db.backup(made)
    return made


def test_what_happened_since_the_backup_is_carried_over() -> None:
    setting = world()
    _, first = setting.enrol("ward-a")
    backup = copy(setting.db)
    setting.identity.revoke(setting.db, first.device, "lost", False, T0 + 1)
    users.withdraw(setting.db, "bo", T0 + 2)
    _, second = setting.enrol("ward-a", now_ms=T0 + 3)
    grant = setting.sign_in(second.device, "ada", T0 + 4)
    before = read_directory(setting.identity.directory(setting.db, T0 + 5), setting.anchor)

    assert carry_over(setting.db, backup, setting.ring.identity) > 5
    restored = World(backup, setting.ring, setting.identity, setting.random)
    with pytest.raises(OutOfService):
        restored.renew(first.device, T0 + HOUR)
    assert restored.renew(second.device, T0 + HOUR).until > T0 + HOUR
    assert restored.identity.withdrawn_at(backup, "bo") == T0 + 2
    assert restored.identity.grant(backup, grant.id) == grant
    after = read_directory(restored.identity.directory(backup, T0 + 2 * HOUR), setting.anchor, before.head.version)
    assert after.is_revoked(first.device)
    assert after.head.version > before.head.version
    assert [row.device for row in rows.devices(backup)] == sorted((first.device, second.device))


@pytest.mark.parametrize("replaced", ["of another relay", "empty"])
def test_only_databases_of_this_very_identity_take_part(replaced: str) -> None:
    setting = world()
    _, device = setting.enrol()
    old = world(2).db if replaced == "of another relay" else database()
    before = "\n".join(setting.db.iterdump())
    with pytest.raises(AnotherIdentity):
        carry_over(old, setting.db, setting.ring.identity)
    assert "\n".join(setting.db.iterdump()) == before
    with pytest.raises(AnotherIdentity):
        carry_over(setting.db, old, setting.ring.identity)
    assert setting.identity.certificate(setting.db, device.device) is not None
