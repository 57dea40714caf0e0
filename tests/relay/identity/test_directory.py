"""The directory: signed entry by entry, bound together by a head, and believed by nobody once it is older or forged."""

import sqlite3
from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed.documents import map_digest
from crdtmed.keys import Signer, SoftwareSigner, private_scalar
from crdtmed.limits import HEAD_STALE_S, MAX_HANDSHAKE_FRAME_BYTES, MAX_ROTATIONS
from crdtmed.signed import (
    Certificate,
    DirectoryHead,
    Forged,
    IdentityRotation,
    RelayKey,
    Revocation,
    read,
    seal,
)
from crdtmed.trust import (
    HEAD,
    Anchor,
    BadDirectory,
    NotForHere,
    follow,
    introduce,
    meet,
    read_directory,
    read_grant,
    read_lease,
    rotations_in,
)
from relay.identity import directory, revocation, rows
from relay.identity.directory import HEAD_REFRESH_MS, AnotherIdentity
from relay.identity.service import identity_in_force, open_identity, put_knowledge, retire_relay_key
from tests.relay.identity.setting import HOUR, T0, TERMS, World, seeded, world


def signer(seed: int) -> SoftwareSigner:
    return SoftwareSigner.from_scalar(private_scalar(seeded(seed)(40)))


def filled() -> tuple[World, dict[str, bytes], str]:
    """A directory with two devices, one of them revoked, and a knowledge base; and the device in service."""
    setting = world()
    _, first = setting.enrol()
    _, second = setting.enrol()
    revocation.revoke(setting.db, setting.ring, second.device, "lost", False, T0 + 5)
    put_knowledge(setting.db, setting.ring, "2026-11", T0 + 6)
    return setting, dict(setting.identity.directory(setting.db, T0 + 7)), first.device


def test_a_directory_is_read_back() -> None:
    setting, entries, device = filled()
    found = read_directory(entries, setting.anchor)
    assert sorted(found.certificates) == sorted(row.device for row in rows.devices(setting.db))
    (revoked,) = found.revocations
    assert found.is_revoked(revoked)
    assert not found.is_revoked(device)
    assert found.knowledge is not None
    assert found.knowledge.snapshot == "2026-11"
    assert setting.identity.snapshot_in_force(setting.db) == "2026-11"


def test_an_older_head_is_a_rollback() -> None:
    setting, before, _ = filled()
    seen = read_directory(before, setting.anchor).head.version
    setting.enrol(now_ms=T0 + 8)
    after = read_directory(setting.identity.directory(setting.db, T0 + 8), setting.anchor, seen)
    with pytest.raises(BadDirectory, match="rolled_back"):
        read_directory(before, setting.anchor, after.head.version)


def test_an_old_head_is_stale_and_the_service_dates_it_anew() -> None:
    setting, entries, _ = filled()
    found = read_directory(entries, setting.anchor)
    assert not found.is_stale(found.head.at + HEAD_STALE_S * 1_000)
    assert found.is_stale(found.head.at + HEAD_STALE_S * 1_000 + 1)
    assert setting.identity.directory(setting.db, found.head.at + HEAD_REFRESH_MS - 1) == entries
    later = read_directory(setting.identity.directory(setting.db, found.head.at + HEAD_REFRESH_MS), setting.anchor)
    assert later.head.at == found.head.at + HEAD_REFRESH_MS
    assert later.head.version > found.head.version


def test_versions_rise_also_over_a_restored_backup_and_a_clock_set_back() -> None:
    setting, _, _ = filled()
    backup = sqlite3.connect(":memory:", isolation_level=None)
    setting.db.backup(backup)
    for at in range(50):
        put_knowledge(setting.db, setting.ring, str(at), T0 + at)
    lost = directory.head(setting.db)
    put_knowledge(backup, setting.ring, "after", T0 + HOUR)
    restored = directory.head(backup)
    assert lost is not None
    assert restored is not None
    assert restored.version > lost.version
    put_knowledge(backup, setting.ring, "earlier", T0 - HOUR)
    earlier = directory.head(backup)
    assert earlier is not None
    assert earlier.version > restored.version


@given(st.data())
def test_no_entry_can_be_left_out_changed_moved_or_added(data: st.DataObject) -> None:
    setting, entries, _ = filled()
    keys = sorted(entries)
    key = data.draw(st.sampled_from(keys))
    change = data.draw(st.sampled_from(["drop", "flip", "move", "add", "swap"]))
    changed = dict(entries)
    if change == "drop":
        del changed[key]
    elif change == "flip":
        at = data.draw(st.integers(0, len(entries[key]) - 1))
        changed[key] = entries[key][:at] + bytes([entries[key][at] ^ 1]) + entries[key][at + 1 :]
    elif change == "move":
        changed[key + "x"] = changed.pop(key)
    elif change == "add":
        changed[data.draw(st.sampled_from(["device/aaaaaaaa", "revoked/aaaaaaaa", "relay/x", "identity/7", "z"]))] = (
            entries[key]
        )
    else:
        other = data.draw(st.sampled_from([name for name in keys if name != key]))
        changed[key] = entries[other]
    with pytest.raises(BadDirectory):
        read_directory(changed, setting.anchor)


def forged_head(entries: dict[str, bytes], by: Signer) -> dict[str, bytes]:
    rest = {key: data for key, data in entries.items() if key != HEAD}
    return rest | {HEAD: seal(DirectoryHead(T0 * 2, T0, map_digest(rest)), by)}


def test_entries_of_another_identity_are_forged_even_under_a_true_head() -> None:
    """Whoever holds the relay key, or another relay's identity key, adds nothing."""
    setting, entries, _ = filled()
    stranger = signer(8)
    certificate = Certificate("aaaaaaaa", stranger.public, b"k" * 32, "", T0)
    for key, data in (
        ("device/aaaaaaaa", seal(certificate, stranger)),
        ("relay/x", seal(RelayKey("x", stranger.public, 0, None), stranger)),
    ):
        with pytest.raises(BadDirectory, match="forged"):
            read_directory(forged_head(entries | {key: data}, stranger), setting.anchor)
        # even if the identity key itself signed the head over it
        true_head = forged_head(entries | {key: data}, setting.ring.identity)
        with pytest.raises(BadDirectory, match="forged"):
            read_directory(true_head, setting.anchor)


def test_an_entry_under_another_ones_key_is_refused() -> None:
    setting, entries, device = filled()
    moved = entries | {"device/aaaaaaaa": entries[f"device/{device}"]}
    with pytest.raises(BadDirectory, match="device/aaaaaaaa"):
        read_directory(forged_head(moved, setting.ring.identity), setting.anchor)
    with pytest.raises(BadDirectory, match="unknown_entry"):
        read_directory(forged_head(entries | {"other": b""}, setting.ring.identity), setting.anchor)


def test_what_was_verified_before_is_not_verified_again_but_a_changed_entry_is() -> None:
    setting, entries, device = filled()
    before = read_directory(entries, setting.anchor)
    assert read_directory(entries, setting.anchor, before=before) == before
    mine = entries[f"device/{device}"]
    bad = entries | {f"device/{device}": mine[:-1] + bytes([mine[-1] ^ 1])}
    with pytest.raises(BadDirectory):
        read_directory(forged_head(bad, setting.ring.identity), setting.anchor, before=before)


# ---- rotation of the identity key ----------------------------------------------------------------------------------


def test_devices_follow_a_rotation_and_the_old_key_alone_adds_nothing() -> None:
    setting, entries, device = filled()
    following = signer(9)
    directory.rotate(setting.db, setting.ring.identity, following, T0 + 10)
    after = rows.entries(setting.db)
    found = read_directory(after, setting.anchor, read_directory(entries, setting.anchor).head.version)
    assert found.anchor.identity == following.public
    assert device in found.certificates
    again = read_directory(after, found.anchor, found.head.version, found)
    assert again.anchor == found.anchor
    with pytest.raises(BadDirectory, match="forged"):
        read_directory(entries, found.anchor)
    with pytest.raises(BadDirectory, match="forged"):
        read_directory(forged_head(after, setting.ring.identity), setting.anchor)


def test_a_chain_of_rotations_is_followed_from_any_link() -> None:
    setting, _, _ = filled()
    chain = [setting.ring.identity, *(signer(seed) for seed in range(20, 26))]
    for at, (now, then) in enumerate(pairwise(chain)):
        directory.rotate(setting.db, now, then, T0 + 20 + at)
    entries = rows.entries(setting.db)
    for link in chain:
        assert read_directory(entries, Anchor(link.public)).anchor.identity == chain[-1].public
    with pytest.raises(BadDirectory, match="forged"):
        read_directory(entries, Anchor(signer(99).public))


def test_a_rotation_that_the_key_in_force_did_not_sign_leads_nowhere() -> None:
    setting, _, _ = filled()
    stranger = signer(8)
    step = seal(IdentityRotation(stranger.public, T0), stranger)
    assert follow(setting.anchor, [step]) == setting.anchor


def test_the_past_that_an_anchor_keeps_is_bounded() -> None:
    chain = [signer(seed) for seed in range(100, 100 + MAX_ROTATIONS + 4)]
    steps = [seal(IdentityRotation(then.public, T0), now) for now, then in pairwise(chain)]
    anchor = follow(Anchor(chain[0].public), steps)
    assert anchor.identity == chain[-1].public
    assert len(anchor.past) == MAX_ROTATIONS


def test_a_process_with_the_old_key_writes_nothing_after_a_rotation() -> None:
    setting, _, _ = filled()
    following = signer(9)
    directory.rotate(setting.db, setting.ring.identity, following, T0 + 10)
    before = rows.entries(setting.db)
    with pytest.raises(AnotherIdentity):
        put_knowledge(setting.db, setting.ring, "x", T0 + 11)
    with pytest.raises(AnotherIdentity):
        setting.identity.directory(setting.db, T0 + 2 * HEAD_REFRESH_MS)
    with pytest.raises(AnotherIdentity):
        open_identity(setting.db, setting.ring, TERMS, T0 + 12)
    assert rows.entries(setting.db) == before


def test_which_key_is_in_force_is_found_after_a_rotation_was_cut_short() -> None:
    setting, _, _ = filled()
    old, following = setting.ring.identity, signer(9)
    assert identity_in_force(setting.db, (old, following)) is old
    directory.rotate(setting.db, old, following, T0 + 10)
    assert identity_in_force(setting.db, (old, following)) is following
    with pytest.raises(AnotherIdentity):
        identity_in_force(setting.db, (old, signer(10)))


def test_grants_of_the_key_before_count_as_far_as_it_was_in_force() -> None:
    setting, _, device = filled()
    grant = setting.sign_in(device, "ada", T0)
    data = rows.grant(setting.db, grant.id)
    assert data is not None
    late = seal(msgspec.structs.replace(grant, not_before=T0 + 20, not_after=T0 + 30), setting.ring.identity)
    directory.rotate(setting.db, setting.ring.identity, signer(9), T0 + 10)
    anchor = read_directory(rows.entries(setting.db), setting.anchor).anchor
    assert read_grant(data.data, anchor, device) == grant
    with pytest.raises(Forged, match="replaced"):
        read_grant(late, anchor, device)


# ---- relay keys --------------------------------------------------------------------------------------------------


def test_a_retired_relay_key_says_until_when_it_counts() -> None:
    setting, _, _ = filled()
    other = signer(30)
    directory.put(setting.db, setting.ring.identity, RelayKey("other", other.public, T0 + 10, None), T0 + 10)
    retire_relay_key(setting.db, setting.ring, "other", T0 + 20)
    retire_relay_key(setting.db, setting.ring, "other", T0 + 40)
    found = read_directory(rows.entries(setting.db), setting.anchor)
    assert {key.relay: (key.since, key.retired_at) for key in found.relay_keys} == {
        "main": (T0, None),
        "other": (T0 + 10, T0 + 20),
    }


def test_a_relay_does_not_retire_its_own_key_nor_start_with_a_retired_one() -> None:
    setting, _, _ = filled()
    with pytest.raises(ValueError, match="no other relay"):
        retire_relay_key(setting.db, setting.ring, "main", T0)
    with pytest.raises(ValueError, match="no other relay"):
        retire_relay_key(setting.db, setting.ring, "unknown", T0)
    retired = RelayKey("main", setting.ring.relay.public, T0, T0 + 1)
    directory.put(setting.db, setting.ring.identity, retired, T0 + 1)
    with pytest.raises(ValueError, match="name it anew"):
        open_identity(setting.db, setting.ring, TERMS, T0 + 2)


# ---- the handshake -----------------------------------------------------------------------------------------------


def test_a_relay_introduces_itself_to_a_device_that_missed_a_rotation() -> None:
    setting, _, _ = filled()
    anchor, key = meet(setting.identity.relay_key, setting.anchor, T0)
    assert (anchor, key.public) == (setting.anchor, setting.ring.relay.public)
    following = signer(9)
    directory.rotate(setting.db, setting.ring.identity, following, T0 + 10)
    after = open_identity(setting.db, replace(setting.ring, identity=following), TERMS, T0 + 11)
    moved, key = meet(after.relay_key, setting.anchor, T0)
    assert moved.identity == following.public
    assert key.public == setting.ring.relay.public
    assert meet(after.relay_key, moved, T0)[0] == moved
    with pytest.raises(Forged):
        meet(setting.identity.relay_key, moved, T0)


def test_another_relays_introduction_and_a_retired_key_prove_nothing() -> None:
    setting, _, _ = filled()
    with pytest.raises(Forged):
        meet(world(2).identity.relay_key, setting.anchor, T0)
    retired = seal(RelayKey("old", signer(3).public, T0, T0 + 10), setting.ring.identity)
    assert meet(introduce((), retired), setting.anchor, T0 + 9)[1].relay == "old"
    with pytest.raises(Forged, match="retired"):
        meet(introduce((), retired), setting.anchor, T0 + 10)
    for data in (b"", b"\x92", setting.identity.relay_key[:-1], setting.identity.relay_key + b"\x00"):
        with pytest.raises(Forged):
            meet(data, setting.anchor, T0)


def test_an_introduction_with_the_longest_chain_fits_its_frame() -> None:
    setting, _, _ = filled()
    now = setting.ring.identity
    for seed in range(200, 200 + MAX_ROTATIONS + 3):
        then = signer(seed)
        directory.rotate(setting.db, now, then, T0 + seed)
        now = then
    steps = rotations_in(rows.entries(setting.db))
    assert len(steps) == MAX_ROTATIONS + 3
    data = introduce(steps, rows.entries(setting.db)["relay/main"])
    assert len(data) < MAX_HANDSHAKE_FRAME_BYTES - 500


def test_leases_of_other_devices_and_other_signers_are_not_taken() -> None:
    setting, _, device = filled()
    _, answer = setting.enrol()
    assert read_lease(answer.lease, setting.anchor, answer.device).device == answer.device
    with pytest.raises(NotForHere):
        read_lease(answer.lease, setting.anchor, device)
    with pytest.raises(Forged):
        read_lease(answer.lease, world(2).anchor, answer.device)


def test_a_revocation_in_the_directory_is_the_one_that_was_given() -> None:
    setting, entries, _ = filled()
    (key,) = [key for key in entries if key.startswith("revoked/")]
    found = setting.identity.revocation(setting.db, key.removeprefix("revoked/"))
    assert found == (read(Revocation, entries[key]), entries[key])
