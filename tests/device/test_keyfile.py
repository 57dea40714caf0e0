"""The device's keys: in a file under a passphrase, and never anywhere else."""

import os
import stat
from pathlib import Path

import pytest

from crdtmed import keys
from crdtmed.device.files import DeviceFiles, Tampered, destroy, read_signed, read_whole, write_signed, write_whole
from crdtmed.device.keyfile import KeyFileError, SoftwareKeys, create_key_file, new_keys, open_key_file
from crdtmed.sealing import SUITE, CannotOpen, Cost
from relay.identity.leases import hpke_seal
from tests.relay.identity.setting import seeded

CHEAP = Cost(8, 1, 1)
PHRASE = "a long enough passphrase"


def made(path: Path) -> SoftwareKeys:
    return create_key_file(path, PHRASE, seeded(1), CHEAP)


def reason(path: Path, passphrase: str = PHRASE) -> str:
    with pytest.raises(KeyFileError) as caught:
        open_key_file(path, passphrase)
    return caught.value.reason


def test_a_key_file_gives_the_same_keys_again(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    first, second = made(path), open_key_file(path, PHRASE)
    assert (first.public, first.sealing_public) == (second.public, second.sealing_public)
    assert keys.verify(first.public, b"tag", b"body", second.sign(b"tag", b"body"))
    assert second.open(hpke_seal(first.sealing_public, b"secret", b"info"), b"info", "it") == b"secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_sealed_to_another_or_in_another_context_does_not_open() -> None:
    mine, other = new_keys(seeded(1)), new_keys(seeded(2))
    sealed = hpke_seal(mine.sealing_public, b"secret", b"info")
    for opener, data, info in (
        (other, sealed, b"info"),
        (mine, sealed, b"Info"),
        (mine, sealed[:-1], b"info"),
        (mine, b"", b"info"),
        (mine, b"x" * 10, b"info"),
    ):
        with pytest.raises(CannotOpen):
            opener.open(data, info, "it")


def test_the_suite_is_the_one_of_version_one() -> None:
    """X25519, HKDF-SHA256 and AES-256-GCM give an encapsulated key of 32 bytes and a tag of 16."""
    assert len(hpke_seal(new_keys(seeded(1)).sealing_public, b"k" * 32, b"")) == 32 + 32 + 16
    assert SUITE is not None


def test_what_is_wrong_with_a_key_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    assert reason(path) == "missing"
    made(path)
    assert reason(path, "another passphrase") == "wrong_passphrase"
    data = path.read_bytes()
    for bad in (b"", data[:-1], data + b"\x00", b"x" * 100):
        path.write_bytes(bad)
        assert reason(path) == "malformed"
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert reason(path) == "wrong_passphrase"


def test_a_key_file_is_never_overwritten_nor_under_a_weak_passphrase(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    with pytest.raises(KeyFileError, match="at least 12 characters"):
        create_key_file(path, "x" * 11, seeded(1), CHEAP)
    assert not path.exists()
    made(path)
    with pytest.raises(KeyFileError, match="exists"):
        create_key_file(path, PHRASE, seeded(2), CHEAP)


def test_no_key_shows_when_something_is_printed_or_fails(tmp_path: Path) -> None:
    draw = seeded(1)
    scalar = keys.private_scalar(draw(40)).to_bytes(32, "big")
    sealing = draw(32)
    path = tmp_path / "keys"
    device = made(path)
    try:
        open_key_file(path, "another passphrase")
    except KeyFileError as error:
        shown = repr(device) + str(device) + repr(error) + str(error)
    for secret in (scalar, sealing):
        assert secret not in path.read_bytes()
        assert secret.hex() not in shown
        assert repr(secret) not in shown
    assert "another passphrase" not in shown


def test_scalars_are_drawn_from_enough_bytes() -> None:
    with pytest.raises(ValueError, match="40 random bytes"):
        keys.private_scalar(b"x" * 39)
    assert keys.private_scalar(b"\x00" * 40) == 1
    assert 1 <= keys.private_scalar(b"\xff" * 40) < keys.P256_ORDER


# ---- files -------------------------------------------------------------------------------------------------------


def test_a_file_is_written_whole_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for data in (b"first", b"", b"second" * 1_000):
        write_whole(path, data)
        assert read_whole(path, 10_000) == data
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["x"]


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    write_whole(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert read_whole(path, 10) == b"old"


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * 11)
    assert read_whole(tmp_path / "y", 10) is None
    with pytest.raises(Tampered, match="more than 10 bytes"):
        read_whole(tmp_path / "x", 10)


def test_a_signed_file_is_read_back_and_no_other(tmp_path: Path) -> None:
    mine, other = new_keys(seeded(1)), new_keys(seeded(2))
    path = tmp_path / "x"
    assert read_signed(path, mine.public, b"tag", 100) is None
    write_signed(path, mine, b"tag", b"body")
    assert read_signed(path, mine.public, b"tag", 100) == b"body"
    for public, tag in ((other.public, b"tag"), (mine.public, b"gat")):
        with pytest.raises(Tampered):
            read_signed(path, public, tag, 100)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(Tampered):
        read_signed(path, mine.public, b"tag", 100)


def test_destroying_overwrites_before_it_removes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"secret" * 1_000)
    os.link(path, tmp_path / "same")  # another name of the same blocks shows what was in them last
    destroy(path, seeded(3))
    assert not path.exists()
    assert (tmp_path / "same").stat().st_size == 6_000
    assert b"secret" not in (tmp_path / "same").read_bytes()
    destroy(path, seeded(3))


def test_every_file_of_a_device_has_its_own_name(tmp_path: Path) -> None:
    files = DeviceFiles(tmp_path)
    names = [files.keys, files.profile, files.lease, files.mark, files.attempts, files.wiping, *files.database_files]
    assert len(set(names)) == len(names)
