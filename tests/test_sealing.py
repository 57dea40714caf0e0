"""Secrets at rest: they open with the right key in the right context, and in no other way."""

import msgspec
import pytest
from argon2.exceptions import HashingError
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from hypothesis import given
from hypothesis import strategies as st

from crdtmed import sealing
from crdtmed.sealing import CannotOpen, Cost, DatabaseKeys, Protected, protect, read_database_keys, unprotect

CHEAP = Cost(8, 1, 1)
SALT, NONCE = b"s" * 16, b"n" * 12


def box(secret: bytes = b"secret", phrase: str = "phrase", purpose: str = "test", public: bytes = b"open") -> bytes:
    return protect(secret, phrase, purpose, salt=SALT, nonce=NONCE, cost=CHEAP, public=public)


@given(st.binary(max_size=200), st.text(max_size=40), st.binary(max_size=40))
def test_what_is_protected_opens_again(secret: bytes, phrase: str, public: bytes) -> None:
    data = protect(secret, phrase, "test", salt=SALT, nonce=NONCE, cost=CHEAP, public=public)
    assert unprotect(data, phrase, "test") == (secret, public)


def test_another_passphrase_and_another_purpose_do_not() -> None:
    with pytest.raises(CannotOpen, match="wrong_key"):
        unprotect(box(), "phrasE", "test")
    with pytest.raises(CannotOpen, match="malformed"):
        unprotect(box(), "phrase", "other")


@pytest.mark.parametrize("field", ["version", "purpose", "cost", "salt", "nonce", "public", "locked"])
def test_no_part_of_a_container_can_be_changed(field: str) -> None:
    held = msgspec.msgpack.decode(box(), type=Protected)
    other = {
        "version": 2,
        "purpose": "other",
        "cost": Cost(16, 1, 1),
        "salt": b"t" * 16,
        "nonce": b"o" * 12,
        "public": b"shut",
        "locked": held.locked[:-1] + bytes([held.locked[-1] ^ 1]),
    }
    data = msgspec.msgpack.encode(msgspec.structs.replace(held, **{field: other[field]}))
    with pytest.raises(CannotOpen):
        unprotect(data, "phrase", "other" if field == "purpose" else "test")


@given(st.binary(max_size=300))
def test_no_bytes_are_anything_but_refused(data: bytes) -> None:
    with pytest.raises(CannotOpen):
        unprotect(data, "phrase", "test")
    with pytest.raises(CannotOpen):
        read_database_keys(data)


def test_a_file_cannot_ask_for_more_memory_or_time_than_allowed() -> None:
    held = msgspec.msgpack.decode(box(), type=Protected)
    for cost in ((2**30, 1, 1), (8, 10**6, 1), (8, 1, 255), (0, 1, 1)):
        raw = msgspec.msgpack.encode(msgspec.structs.replace(held, cost=CHEAP))
        changed = raw.replace(msgspec.msgpack.encode(CHEAP), msgspec.msgpack.encode(cost), 1)
        with pytest.raises(CannotOpen, match="malformed"):
            unprotect(changed, "phrase", "test")


def test_argon2id_gives_what_its_reference_gives() -> None:
    """RFC 9106 says how; the parameters are the ones in use, the value that of the reference implementation."""
    other = Argon2id(salt=SALT, length=32, iterations=2, lanes=1, memory_cost=64)
    assert sealing.stretch("pässword", SALT, Cost(64, 2, 1)) == other.derive("pässword".encode())


def test_a_machine_without_the_memory_that_a_guess_costs_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object, **named: object) -> bytes:
        raise HashingError("Memory allocation error")

    monkeypatch.setattr(sealing, "hash_secret_raw", full)
    with pytest.raises(MemoryError, match="allocation"):
        sealing.stretch("password", SALT, CHEAP)


def test_database_keys_are_one_or_two_of_32_bytes() -> None:
    for previous in (None, b"p" * 32):
        keys = DatabaseKeys(b"c" * 32, previous)
        assert read_database_keys(msgspec.msgpack.encode(keys)) == keys
    for bad in (DatabaseKeys(b"c" * 31, None), DatabaseKeys(b"c" * 32, b"p")):
        with pytest.raises(CannotOpen):
            read_database_keys(msgspec.msgpack.encode(bad))


def test_contexts_never_run_into_each_other() -> None:
    assert sealing.lease_info("aaaaaaaa", "b" * 16, 1, 23) != sealing.lease_info("aaaaaaaa", "b" * 16, 12, 3)
    assert sealing.grant_context("aaaaaaaa", "ab", "c") != sealing.grant_context("aaaaaaaa", "a", "bc")
    assert sealing.wiped_body("aaaaaaaa", 1, 23) != sealing.wiped_body("aaaaaaaa", 12, 3)


def test_a_key_or_nonce_of_the_wrong_length_is_named() -> None:
    locked = sealing.lock(b"k" * 32, NONCE, b"secret", b"")
    assert sealing.unlock(b"k" * 32, NONCE, locked, b"", "it") == b"secret"
    for key, nonce in ((b"k" * 16, NONCE), (b"k" * 32, b"n" * 8)):
        with pytest.raises(CannotOpen, match="malformed"):
            sealing.unlock(key, nonce, locked, b"", "it")
    for bad in (locked[:-1], locked[:5], b""):
        with pytest.raises(CannotOpen, match="wrong_key"):
            sealing.unlock(b"k" * 32, NONCE, bad, b"", "it")
