"""A device's lease on disk: opened, renewed, lapsed, stretched, wiped; and a crash at any point in between."""

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtmed.contract import Role
from crdtmed.device import files
from crdtmed.device import lease as leases
from crdtmed.device.files import DeviceFiles
from crdtmed.device.keyfile import SoftwareKeys
from crdtmed.device.lease import (
    Held,
    Holder,
    at_start,
    expired,
    finish_wipe,
    keep,
    note,
    receive,
    settle,
    state,
    stretch,
)
from crdtmed.leasing import NO_MARK, CannotStretch, Locked, LockReason, OldLease, Open, Reading
from crdtmed.sealing import CannotOpen, wiped_body
from crdtmed.signed import Forged, Lease, read, seal
from crdtmed.trust import NotForHere
from crdtmed.wire.frames import WIPED_TAG
from relay.identity.leases import rotate_key
from tests.relay.identity.setting import HOUR, MINUTE, T0, World, seeded, world

NURSE = frozenset({Role.NURSE})


def at(hours: float, since_start: float = 0.0) -> Reading:
    """Clocks ``hours`` after T0, in a run that began ``since_start`` hours ago."""
    return Reading(T0 + int(hours * HOUR), int(since_start * HOUR))


@dataclass
class Tablet:
    """A device that was enrolled at T0, its files, and its relay."""

    setting: World
    keys: SoftwareKeys
    holder: Holder
    first: bytes
    held: Held

    def renew(self, hours: float, lease: int | None = None) -> bytes:
        """The bytes of the relay's next lease."""
        serial = self.held.mark.lease if lease is None else lease
        now = T0 + int(hours * HOUR)
        return self.setting.identity.renew(
            self.setting.db, self.holder.device, 0, serial, now, self.setting.random
        ).lease


def tablet(directory: Path, seed: int = 1) -> Tablet:
    setting = world(seed)
    keys, answer = setting.enrol("ward-a")
    holder = setting.holder(directory, keys, answer.device)
    held = receive(holder, Held(NO_MARK, None, None), answer.lease, T0, at(0))
    keep(holder, answer.lease)
    settle(holder, held)
    return Tablet(setting, keys, holder, answer.lease, held)


def why(held: Held, reading: Reading) -> LockReason | None:
    now = state(held, reading)
    return now.why if isinstance(now, Locked) else None


def test_a_device_opens_its_cache_offline_until_the_lease_lapses(tmp_path: Path) -> None:
    device = tablet(tmp_path)
    found = at_start(device.holder, at(11.9))
    assert isinstance(state(found, at(11.9)), Open)
    assert found.database == device.held.database
    later = at_start(device.holder, at(12))
    assert (why(later, at(12)), later.database) == (LockReason.LAPSED, None)


def test_a_lapse_deletes_the_sealed_key_for_good(tmp_path: Path) -> None:
    device = tablet(tmp_path)
    assert expired(device.holder, device.held, at(11)) is device.held
    assert device.holder.files.lease.exists()
    lapsed = expired(device.holder, device.held, at(12))
    assert lapsed.database is None
    assert not device.holder.files.lease.exists()
    # setting the clock back brings nothing back
    for reading in (at(1), at(12), at(0)):
        assert why(at_start(device.holder, reading), reading) is not None


def test_the_relay_opens_a_lapsed_cache_again(tmp_path: Path) -> None:
    device = tablet(tmp_path)
    lapsed = expired(device.holder, device.held, at(13))
    data = device.renew(20)
    fresh = receive(device.holder, lapsed, data, T0 + 20 * HOUR, at(20))
    keep(device.holder, data)
    settle(device.holder, fresh)
    assert fresh.database == device.held.database
    assert isinstance(state(at_start(device.holder, at(31)), at(31)), Open)


def test_a_clock_behind_the_mark_locks_at_start_and_the_relay_opens_again(tmp_path: Path) -> None:
    device = tablet(tmp_path)
    note(device.holder, device.held, at(3))
    found = at_start(device.holder, at(1))
    assert why(found, at(1)) is LockReason.CLOCK_SET_BACK
    assert found.database is None
    assert device.holder.files.lease.exists()
    data = device.renew(3)
    fresh = receive(device.holder, found, data, T0 + 3 * HOUR, at(1))
    assert isinstance(state(fresh, at(1)), Open)


@pytest.mark.parametrize(
    "damage", ["mark gone", "mark changed", "mark of another device", "lease gone", "lease changed"]
)
def test_files_that_are_missing_or_changed_lock(tmp_path: Path, damage: str) -> None:
    device = tablet(tmp_path)
    files = device.holder.files
    if damage == "mark gone":
        files.mark.unlink()
    elif damage == "mark changed":
        data = files.mark.read_bytes()
        files.mark.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "mark of another device":
        (tmp_path / "other").mkdir()
        other = tablet(tmp_path / "other", 2)
        files.mark.write_bytes(other.holder.files.mark.read_bytes())
    elif damage == "lease gone":
        files.lease.unlink()
    else:
        data = files.lease.read_bytes()
        files.lease.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    found = at_start(device.holder, at(1))
    expected = {"lease gone": LockReason.LAPSED, "lease changed": LockReason.NO_LEASE}
    assert why(found, at(1)) is expected.get(damage, LockReason.MARK_DAMAGED)
    assert found.database is None


def test_an_older_lease_put_back_locks(tmp_path: Path) -> None:
    device = tablet(tmp_path)
    old = device.holder.files.lease.read_bytes()
    data = device.renew(1)
    fresh = receive(device.holder, device.held, data, T0 + HOUR, at(1))
    keep(device.holder, data)
    settle(device.holder, fresh)
    device.holder.files.lease.write_bytes(old)
    assert why(at_start(device.holder, at(2)), at(2)) is LockReason.LEASE_OLDER


def test_a_fresh_device_has_no_lease(tmp_path: Path) -> None:
    device = tablet(tmp_path)
    (tmp_path / "new").mkdir()
    holder = replace(device.holder, files=DeviceFiles(tmp_path / "new"))
    assert why(at_start(holder, at(0)), at(0)) is LockReason.NO_LEASE


def test_leases_that_are_forged_foreign_replayed_or_sealed_to_another_change_nothing(tmp_path: Path) -> None:
    device = tablet(tmp_path)
    _, other = device.setting.enrol("ward-a")
    forger = world(7)
    lease = read(Lease, device.renew(1))
    cases: list[tuple[bytes, type[Exception]]] = [
        (seal(lease, forger.ring.identity), Forged),
        (seal(lease, device.setting.ring.relay), Forged),
        (other.lease, NotForHere),
        (device.first, OldLease),
        (b"", Forged),
        (seal(msgspec.structs.replace(lease, until=lease.until + 1), device.setting.ring.identity), CannotOpen),
        (
            seal(msgspec.structs.replace(lease, key=read(Lease, other.lease).key), device.setting.ring.identity),
            CannotOpen,
        ),
    ]
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for data, error in cases:
        with pytest.raises(error):
            receive(device.holder, device.held, data, T0, at(1))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# ---- crashes -----------------------------------------------------------------------------------------------------


class Crash(Exception):
    """The device stopped here."""


@dataclass
class Store:
    """A database that is under one key, and stops at the n-th step of anything."""

    under: bytes
    steps_left: int = 1_000
    done: list[str] = field(default_factory=list)

    def step(self, what: str) -> None:
        if self.steps_left == 0:
            raise Crash(what)
        self.steps_left -= 1
        self.done.append(what)

    async def rekey(self, key: bytes) -> None:
        self.step("rekey")
        self.under = key


def take_with_crashes(device: Tablet, store: Store, data: bytes, hours: float, patch: pytest.MonkeyPatch) -> None:
    """`leases.take`, stopping after as many steps as the store has left."""

    def kept(holder: Holder, lease: bytes) -> None:
        store.step("keep")
        keep(holder, lease)

    def settled(holder: Holder, held: Held) -> None:
        store.step("settle")
        settle(holder, held)

    patch.setattr(leases, "keep", kept)
    patch.setattr(leases, "settle", settled)
    now = T0 + int(hours * HOUR)
    device.held = asyncio.run(leases.take(device.holder, device.held, data, now, at(hours), store.rekey))


def can_open(held: Held, store: Store) -> bool:
    return held.database is not None and store.under in (held.database.current, held.database.previous)


@pytest.mark.parametrize("crash_after", [0, 1, 2, 3])
@pytest.mark.parametrize("restored", [False, True])
def test_a_crash_while_taking_over_a_new_key_locks_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_after: int, restored: bool
) -> None:
    """Also where the relay was restored from a backup and no longer knows the key in use."""
    device = tablet(tmp_path)
    assert device.held.database is not None
    store = Store(device.held.database.current)
    backup = "\n".join(device.setting.db.iterdump())
    rotate_key(device.setting.db, device.setting.ring, device.holder.device, device.setting.random)
    if restored:
        take_with_crashes(device, store, device.renew(0.5), 0.5, monkeypatch)
        take_with_crashes(device, store, device.renew(0.6), 0.6, monkeypatch)
        device.setting.db.close()
        device.setting = replace(device.setting, db=_loaded(backup))
    store.steps_left = crash_after
    data = device.renew(1)
    try:
        take_with_crashes(device, store, data, 1, monkeypatch)
        crashed = False
    except Crash:
        crashed = True
    assert crashed == (crash_after < 3)
    # at the next start either what is on disk opens it, or what the relay gives
    found = at_start(device.holder, at(2))
    store.steps_left = 1_000
    if can_open(found, store):
        assert found.database is not None
        device.held = found
        if found.database.current != store.under:
            asyncio.run(store.rekey(found.database.current))
    fresh = receive(device.holder, found, device.renew(3, lease=found.mark.lease), T0 + 3 * HOUR, at(3))
    assert can_open(found, store) or can_open(fresh, store)


def _loaded(dump: str) -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(dump)
    return db


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(["renew", "rotate", "restart"]), st.integers(0, 4)), max_size=14))
def test_over_any_history_of_rotations_and_crashes_the_database_opens(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    device = tablet(tmp_path_factory.mktemp("device"))
    assert device.held.database is not None
    store = Store(device.held.database.current)
    row_id = device.holder.device
    with pytest.MonkeyPatch.context() as patch:
        for turn, (what, crash_after) in enumerate(steps, 1):
            hours = turn / 100
            if what == "rotate":
                try:
                    rotate_key(device.setting.db, device.setting.ring, row_id, device.setting.random)
                except ValueError:
                    continue  # the one before is not taken over yet
            elif what == "renew":
                store.steps_left = crash_after
                try:
                    take_with_crashes(device, store, device.renew(hours), hours, patch)
                except Crash:
                    what = "restart"
            if what == "restart":
                store.steps_left = 1_000
                device.held = at_start(device.holder, at(hours))
                assert can_open(device.held, store)
                assert device.held.database is not None
                if device.held.database.current != store.under:
                    asyncio.run(store.rekey(device.held.database.current))
                settle(device.holder, device.held)


# ---- break-glass and marks ---------------------------------------------------------------------------------------


def test_breaking_the_glass_survives_a_restart_and_works_once(tmp_path: Path) -> None:
    device = tablet(tmp_path)
    with pytest.raises(CannotStretch):
        stretch(device.holder, device.held, at(10), NURSE)
    with pytest.raises(CannotStretch):
        stretch(device.holder, device.held, at(11.5), frozenset({Role.STOCK_CLERK}))
    stretched = stretch(device.holder, device.held, at(11.5), NURSE)
    found = at_start(device.holder, at(15.9))
    assert isinstance(state(found, at(15.9)), Open)
    assert found.mark.until_ms == stretched.mark.until_ms == T0 + 16 * HOUR
    with pytest.raises(CannotStretch):
        stretch(device.holder, found, at(15.9), NURSE)
    lapsed = at_start(device.holder, at(16))
    assert why(lapsed, at(16)) is LockReason.LAPSED
    with pytest.raises(CannotStretch, match="locked"):
        stretch(device.holder, lapsed, at(16), NURSE)


def test_the_mark_on_disk_rises_and_is_found_at_the_next_start(tmp_path: Path) -> None:
    device = tablet(tmp_path)
    noted = note(device.holder, device.held, at(2), number=41, head=7)
    note(device.holder, noted, at(1), number=3, head=2)
    found = at_start(device.holder, at(2))
    assert (found.mark.number, found.mark.head, found.mark.wall_ms) == (41, 7, at(2).wall_ms)
    locked = at_start(device.holder, at(1))
    assert note(device.holder, locked, at(9)) is locked


def test_nothing_secret_shows_when_something_is_printed(tmp_path: Path) -> None:
    device = tablet(tmp_path)
    assert device.held.database is not None
    key = device.held.database.current
    assert key.hex() not in repr(device.held)
    assert repr(key) not in repr(device.held)
    assert repr(key) not in repr(device.held.database)
    for path in tmp_path.iterdir():
        assert key not in path.read_bytes()


# ---- the wipe ----------------------------------------------------------------------------------------------------


def full(directory: Path) -> Tablet:
    device = tablet(directory)
    for path in (device.holder.files.keys, device.holder.files.profile, device.holder.files.attempts):
        path.write_bytes(b"secret" * 50)
    for path in device.holder.files.database_files:
        path.write_bytes(b"page" * 5_000)
    for name in ("device.db.damaged-17", "device.db.is-damaged", "device.mark.new"):
        (directory / name).write_bytes(b"page" * 50)
    return device


def test_a_wipe_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    device = full(tmp_path)
    frame = leases.wipe(device.holder, T0 + MINUTE, 41, seeded(5))
    assert list(tmp_path.iterdir()) == []
    device.setting.identity.revoke(device.setting.db, device.holder.device, "lost", False, T0)
    assert (frame.at, frame.last_number) == (T0 + MINUTE, 41)
    assert device.setting.identity.wiped(
        device.setting.db, device.holder.device, frame.at, frame.last_number, frame.signature, T0 + MINUTE
    )
    assert frame.signature == device.keys.sign(WIPED_TAG, wiped_body(device.holder.device, T0 + MINUTE, 41))


@pytest.mark.parametrize("stop_after", range(14))
def test_a_wipe_that_is_cut_short_is_finished_and_the_key_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    device = full(tmp_path)
    left = [stop_after]

    def destroy(path: Path, random_bytes: object) -> None:
        if left[0] == 0:
            raise Crash(path.name)
        left[0] -= 1
        files.destroy(path, seeded(1))

    monkeypatch.setattr("crdtmed.device.lease.destroy", destroy)
    with pytest.raises(Crash):
        leases.wipe(device.holder, T0, 1, seeded(5))
    monkeypatch.undo()
    names = {path.name for path in tmp_path.iterdir()}
    if stop_after:
        assert device.holder.files.keys.name not in names
    else:
        assert device.holder.files.database.name in names
    assert finish_wipe(device.holder.files, seeded(6))
    assert list(tmp_path.iterdir()) == []
    assert not finish_wipe(device.holder.files, seeded(6))


def test_one_file_that_cannot_be_destroyed_saves_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = full(tmp_path)

    def destroy(path: Path, random_bytes: Callable[[int], bytes]) -> None:
        if path == device.holder.files.keys:
            raise OSError(30, "Read-only file system")
        files.destroy(path, random_bytes)

    with monkeypatch.context() as patch:
        patch.setattr("crdtmed.device.lease.destroy", destroy)
        with pytest.raises(OSError, match="Read-only"):
            leases.wipe(device.holder, T0, 1, seeded(5))
    assert {path.name for path in tmp_path.iterdir()} == {"device.keys", "device.wiping"}
    assert finish_wipe(device.holder.files, seeded(6))


def test_a_full_disk_saves_nothing_from_a_wipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = full(tmp_path)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(leases, "write_whole", full_disk)
    leases.wipe(device.holder, T0, 1, seeded(5))
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_not_wiping_loses_nothing_at_its_start(tmp_path: Path) -> None:
    device = full(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert not finish_wipe(device.holder.files, seeded(6))
    assert sorted(tmp_path.iterdir()) == before


def test_copies_taken_before_the_revocation_get_no_key_from_the_relay(tmp_path: Path) -> None:
    """A copy of all files goes on only as long as the lease in it; the relay has nothing more for it."""
    device = tablet(tmp_path)
    device.setting.identity.revoke(device.setting.db, device.holder.device, "stolen", True, T0 + HOUR)
    with pytest.raises(ValueError, match="not in service"):
        device.renew(2)
    assert isinstance(state(at_start(device.holder, at(11)), at(11)), Open)  # as the README says
    assert isinstance(state(at_start(device.holder, at(12)), at(12)), Locked)
