"""Leases and database keys: sealed to one device, gone with a revocation, and changed without locking anybody out."""

import sqlite3

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed.device.keyfile import SoftwareKeys
from crdtmed.limits import EMERGENCY_LEASE_HOURS, OFFLINE_LEASE_HOURS
from crdtmed.sealing import CannotOpen, DatabaseKeys, lease_info, read_database_keys
from crdtmed.signed import Lease, read
from relay.identity import leases, revocation, rows
from relay.identity.leases import OutOfService, RotationPending, Terms
from relay.identity.service import open_identity
from tests.relay.identity.setting import HOUR, MINUTE, T0, TERMS, World, database, world


def keys_in(keys: SoftwareKeys, lease: Lease) -> DatabaseKeys:
    info = lease_info(lease.device, lease.key_id, lease.serial, lease.until)
    return read_database_keys(keys.open(lease.key, info, "the lease"))


def first_lease(setting: World) -> tuple[SoftwareKeys, Lease]:
    keys, answer = setting.enrol("ward-a")
    return keys, read(Lease, answer.lease)


def test_a_lease_says_how_long_and_carries_the_same_key_each_time() -> None:
    setting = world()
    keys, first = first_lease(setting)
    assert (first.until - first.issued_at) == OFFLINE_LEASE_HOURS * HOUR
    assert first.emergency_ms == EMERGENCY_LEASE_HOURS * HOUR
    second = setting.renew(first.device, T0 + MINUTE, lease=first.serial)
    assert second.until == T0 + MINUTE + OFFLINE_LEASE_HOURS * HOUR
    assert second.serial > first.serial
    assert keys_in(keys, first) == keys_in(keys, second)
    assert first.key != second.key


def test_no_two_devices_share_a_key_and_neither_opens_the_others() -> None:
    setting = world()
    mine, lease = first_lease(setting)
    others, other = first_lease(setting)
    assert keys_in(mine, lease).current != keys_in(others, other).current
    with pytest.raises(CannotOpen):
        keys_in(others, lease)


@pytest.mark.parametrize("field", ["device", "key_id", "serial", "until"])
def test_a_sealed_key_opens_in_its_own_context_only(field: str) -> None:
    setting = world()
    keys, lease = first_lease(setting)
    other = {"device": "bbbbbbbb", "key_id": "b" * 16, "serial": 7, "until": 7}
    changed = msgspec.structs.replace(lease, **{field: other[field]})
    info = lease_info(changed.device, changed.key_id, changed.serial, changed.until)
    with pytest.raises(CannotOpen):
        keys.open(lease.key, info, "the lease")


def test_serials_rise_also_over_a_restored_backup() -> None:
    setting = world()
    _, first = first_lease(setting)
    backup = sqlite3.connect(":memory:", isolation_level=None)
    setting.db.backup(backup)
    last = [setting.renew(first.device, T0 + n * MINUTE).serial for n in range(1, 60)][-1]
    restored = World(backup, setting.ring, setting.identity, setting.random)
    assert restored.renew(first.device, T0 + 61 * MINUTE).serial > last


def test_two_leases_in_one_millisecond_differ() -> None:
    setting = world()
    _, first = first_lease(setting)
    serials = [setting.renew(first.device, T0).serial for _ in range(3)]
    assert len({first.serial, *serials}) == 4


def test_a_revoked_device_gets_no_lease_and_its_key_is_gone() -> None:
    setting = world()
    keys, lease = first_lease(setting)
    key = keys_in(keys, lease).current
    revocation.revoke(setting.db, setting.ring, lease.device, "lost", False, T0)
    with pytest.raises(OutOfService):
        setting.renew(lease.device, T0 + 1)
    row = rows.device(setting.db, lease.device)
    assert row is not None
    assert (row.wrapped, row.wrapped_before) == (None, None)
    assert key.hex() not in "\n".join(setting.db.iterdump()).lower()
    with pytest.raises(sqlite3.IntegrityError):
        setting.db.execute("UPDATE identity_device SET wrapped = x'00'")


def test_an_unknown_device_gets_no_lease() -> None:
    with pytest.raises(OutOfService):
        world().renew("aaaaaaaa", T0)


def test_a_key_lies_in_the_database_only_under_the_master_key() -> None:
    setting = world()
    keys, lease = first_lease(setting)
    key = keys_in(keys, lease).current
    assert key.hex() not in "\n".join(setting.db.iterdump()).lower()
    row = rows.device(setting.db, lease.device)
    assert row is not None
    assert row.wrapped is not None
    setting.db.execute("UPDATE identity_device SET wrapped = ?", (row.wrapped[:-1] + bytes([row.wrapped[-1] ^ 1]),))
    with pytest.raises(CannotOpen):
        setting.renew(lease.device, T0 + 1)


def test_another_devices_wrapped_key_is_not_taken_for_ones_own() -> None:
    setting = world()
    _, mine = first_lease(setting)
    _, other = first_lease(setting)
    setting.db.execute(
        "UPDATE identity_device SET wrapped = (SELECT wrapped FROM identity_device WHERE device = ?) WHERE device = ?",
        (other.device, mine.device),
    )
    with pytest.raises(CannotOpen):
        setting.renew(mine.device, T0 + 1)


# ---- rotation ----------------------------------------------------------------------------------------------------


def test_a_rotated_key_comes_with_the_one_before_until_the_device_took_it_over() -> None:
    setting = world()
    keys, first = first_lease(setting)
    old = keys_in(keys, first).current
    leases.rotate_key(setting.db, setting.ring, first.device, setting.random)
    second = setting.renew(first.device, T0 + 1, lease=first.serial)
    assert second.key_id != first.key_id
    assert keys_in(keys, second).previous == old
    new = keys_in(keys, second).current
    assert new != old
    third = setting.renew(first.device, T0 + 2, lease=first.serial)  # the second one was lost
    assert keys_in(keys, third) == DatabaseKeys(new, old)
    fourth = setting.renew(first.device, T0 + 3, lease=third.serial)
    assert keys_in(keys, fourth) == DatabaseKeys(new, None)


def test_a_second_rotation_waits_for_the_first() -> None:
    setting = world()
    _, first = first_lease(setting)
    leases.rotate_key(setting.db, setting.ring, first.device, setting.random)
    with pytest.raises(RotationPending):
        leases.rotate_key(setting.db, setting.ring, first.device, setting.random)
    lease = setting.renew(first.device, T0 + 1)
    with pytest.raises(RotationPending):
        leases.rotate_key(setting.db, setting.ring, first.device, setting.random)
    setting.renew(first.device, T0 + 2, lease=lease.serial)
    leases.rotate_key(setting.db, setting.ring, first.device, setting.random)


@given(st.lists(st.sampled_from(["rotate", "renew", "renew lost", "rekey crash"]), max_size=25))
def test_whatever_gets_lost_around_rotations_the_database_opens(steps: list[str]) -> None:
    """The model of a device: its database is under one key; a lease must always carry that key."""
    setting = world(3)
    keys, lease = first_lease(setting)
    under, mark = keys_in(keys, lease).current, lease.serial
    for at, step in enumerate(steps, 1):
        if step == "rotate":
            try:
                leases.rotate_key(setting.db, setting.ring, lease.device, setting.random)
            except RotationPending:
                continue
        else:
            given_lease = setting.renew(lease.device, T0 + at * MINUTE, lease=mark)
            held = keys_in(keys, given_lease)
            assert under in (held.current, held.previous)
            if step != "renew lost":
                under = held.current
                if step != "rekey crash":
                    mark = given_lease.serial


def test_a_device_that_loses_answers_raises_no_alarm() -> None:
    setting = world()
    _, first = first_lease(setting)
    mark = first.serial
    for turn in range(1, 40):
        given_lease = setting.identity.renew(setting.db, first.device, turn, mark, T0 + turn, setting.random)
        assert given_lease.alarms == ()
        if turn % 3:
            mark = read(Lease, given_lease.lease).serial


# ---- marks -------------------------------------------------------------------------------------------------------


def test_marks_that_fall_are_an_alarm() -> None:
    setting = world()
    _, first = first_lease(setting)
    second = setting.renew(first.device, T0 + 1, 10, first.serial)
    renew = setting.identity.renew
    assert renew(setting.db, first.device, 12, second.serial, T0 + 2, setting.random).alarms == ()
    (older,) = renew(setting.db, first.device, 11, second.serial, T0 + 3, setting.random).alarms
    assert "number 12" in older
    (lease,) = renew(setting.db, first.device, 12, first.serial, T0 + 4, setting.random).alarms
    assert str(second.serial) in lease
    (future,) = renew(setting.db, first.device, 12, T0 * 2, T0 + 5, setting.random).alarms
    assert "the last one given" in future


def test_two_devices_with_the_same_keys_are_noticed_at_the_second_renewal() -> None:
    setting = world()
    _, first = first_lease(setting)
    mine, copy = first.serial, first.serial
    alarms: list[str] = []
    for turn in range(1, 5):
        given_lease = setting.identity.renew(
            setting.db, first.device, 0, mine if turn % 2 else copy, T0 + turn, setting.random
        )
        alarms += given_lease.alarms
        if turn % 2:
            mine = read(Lease, given_lease.lease).serial
        else:
            copy = read(Lease, given_lease.lease).serial
    assert alarms


@pytest.mark.parametrize(
    "chosen",
    [
        {"offline_lease_hours": 3},
        {"offline_lease_hours": 73},
        {"emergency_lease_hours": -1},
        {"grant_hours": 0},
        {"grant_hours": 10_000},
    ],
)
def test_terms_outside_the_limits_are_refused(chosen: dict[str, int]) -> None:
    name = next(iter(chosen))
    with pytest.raises(ValueError, match=name):
        Terms(**chosen)  # type: ignore[arg-type]  # one whole number by name


def test_the_terms_are_the_operators() -> None:
    setting = world()
    terms = Terms(4, 0, 8, TERMS.login_cost, TERMS.pin_cost)
    db = database()
    other = World(db, setting.ring, open_identity(db, setting.ring, terms, T0), setting.random)
    _, answer = other.enrol()
    lease = read(Lease, answer.lease)
    assert (lease.until - T0, lease.emergency_ms) == (4 * HOUR, 0)
