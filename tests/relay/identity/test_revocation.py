"""Revocation: durable, told to everyone, and what is known of the wipe."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed.sealing import wiped_body
from crdtmed.signed import Revocation, unseal
from crdtmed.trust import REVOKED, read_directory
from crdtmed.wire.frames import WIPED_TAG
from relay.identity import revocation, rows
from relay.identity.leases import OutOfService
from tests.relay.identity.setting import T0, world


def test_a_revocation_is_in_the_directory_with_the_commit_that_makes_it() -> None:
    setting = world()
    _, device = setting.enrol()
    assert setting.identity.revocation(setting.db, device.device) is None
    setting.db.execute("BEGIN")
    data = setting.identity.revoke(setting.db, device.device, " lost in the car park ", False, T0 + 9)
    setting.db.execute("ROLLBACK")
    assert setting.identity.revocation(setting.db, device.device) is None
    data = setting.identity.revoke(setting.db, device.device, " lost in the car park ", False, T0 + 9)
    value = unseal(Revocation, data, setting.ring.identity.public)
    assert value == Revocation(device.device, T0 + 9, "lost in the car park", False)
    entries = setting.identity.directory(setting.db, T0 + 9)
    assert entries[REVOKED + device.device] == data
    assert read_directory(entries, setting.anchor).is_revoked(device.device)


def test_once_more_changes_nothing_but_that_now_may_be_added() -> None:
    setting = world()
    _, device = setting.enrol()
    first = setting.identity.revoke(setting.db, device.device, "lost", False, T0)
    assert setting.identity.revoke(setting.db, device.device, "other", False, T0 + 5) == first
    assert setting.identity.may_hand_over(setting.db, device.device)
    second = setting.identity.revoke(setting.db, device.device, "stolen", True, T0 + 5)
    value = unseal(Revocation, second, setting.ring.identity.public)
    assert (value.at, value.now) == (T0, True)
    assert not setting.identity.may_hand_over(setting.db, device.device)
    assert setting.identity.revoke(setting.db, device.device, "lost", False, T0 + 6) == second


def test_only_a_revoked_device_hands_over_and_only_before_its_wipe() -> None:
    setting = world()
    keys, device = setting.enrol()
    identity, db = setting.identity, setting.db
    assert not identity.may_hand_over(db, device.device)
    identity.revoke(db, device.device, "lost", False, T0)
    assert identity.may_hand_over(db, device.device)
    identity.handed_over(db, device.device, 3)
    identity.handed_over(db, device.device, 4)
    signature = keys.sign(WIPED_TAG, wiped_body(device.device, T0 + 1, 9))
    assert identity.wiped(db, device.device, T0 + 1, 9, signature, T0 + 2)
    assert not identity.may_hand_over(db, device.device)
    status = revocation.status(db, device.device, [1, 2, 3, 7])
    assert (status.handed_over, status.wiped_at, status.last_number) == (7, T0 + 2, 9)
    assert status.unseen == ((4, 6), (8, 9))


def test_only_the_devices_own_word_confirms_a_wipe() -> None:
    setting = world()
    keys, device = setting.enrol()
    other, _ = setting.enrol()
    identity, db = setting.identity, setting.db
    good = keys.sign(WIPED_TAG, wiped_body(device.device, T0, 9))
    assert not identity.wiped(db, device.device, T0, 9, good, T0)  # not revoked
    identity.revoke(db, device.device, "lost", False, T0)
    for signature, at, number in (
        (other.sign(WIPED_TAG, wiped_body(device.device, T0, 9)), T0, 9),
        (keys.sign(b"crdtmed/other/1", wiped_body(device.device, T0, 9)), T0, 9),
        (good, T0 + 1, 9),
        (good, T0, 8),
        (good[:-1], T0, 9),
        (b"", T0, 9),
    ):
        assert not identity.wiped(db, device.device, at, number, signature, T0 + 1)
    assert not identity.wiped(db, "aaaaaaaa", T0, 9, good, T0)
    assert revocation.status(db, device.device, []).wiped_at is None
    assert identity.wiped(db, device.device, T0, 9, good, T0 + 1)
    assert identity.wiped(db, device.device, T0, 9, good, T0 + 50)
    assert revocation.status(db, device.device, []).wiped_at == T0 + 1


def test_a_device_that_nobody_enrolled_cannot_be_revoked() -> None:
    setting = world()
    with pytest.raises(OutOfService, match="no device aaaaaaaa"):
        setting.identity.revoke(setting.db, "aaaaaaaa", "lost", False, T0)
    with pytest.raises(OutOfService):
        revocation.status(setting.db, "aaaaaaaa", [])


def test_the_database_holds_no_wipe_of_a_device_in_service() -> None:
    setting = world()
    _, device = setting.enrol()
    with pytest.raises(Exception, match="wiped_after_revocation"):
        rows.set_wiped(setting.db, device.device, T0, 1)


def test_the_status_of_a_device_in_service() -> None:
    setting = world()
    _, device = setting.enrol("ward-a")
    setting.renew(device.device, T0 + 7, number=3)
    status = revocation.status(setting.db, device.device, [])
    assert (status.label, status.sites, status.enrolled_at, status.leased_at) == ("a tablet", ("ward-a",), T0, T0 + 7)
    assert (status.revoked_at, status.now, status.last_number, status.unseen) == (None, False, 3, ((1, 3),))


@given(st.sets(st.integers(1, 60)), st.integers(0, 60))
def test_the_runs_of_unseen_numbers_are_exactly_those_that_lack(numbers: set[int], last: int) -> None:
    runs = revocation.unseen(sorted(numbers), last)
    listed = [number for first, end in runs for number in range(first, end + 1)]
    assert listed == [number for number in range(1, last + 1) if number not in numbers]
    assert all(first <= end for first, end in runs)
    assert all(a[1] + 1 < b[0] for a, b in pairwise(runs))
