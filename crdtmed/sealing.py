"""Secrets at rest: what a passphrase or PIN opens, and the context to which a device's database key is bound.

Two constructions and no more.  *Protected*: AES-256-GCM under Argon2id (RFC 9106) of a passphrase or PIN, with
the purpose and everything around it as associated data.  *Sealed to a device*: HPKE (RFC 9180, base mode, X25519,
HKDF-SHA256, AES-256-GCM) with the context in ``info``.  Salts and nonces are handed in; who encrypts with HPKE
needs randomness, so only opening has a place here.
"""

from typing import Annotated, Final

import msgspec
from argon2.exceptions import HashingError
from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from crdtmed.codec import Undecodable, decoder, encode
from crdtmed.ids import DeviceId, UserId
from crdtmed.limits import MAX_LANES, MAX_MEMORY_KIB, MAX_PASSES, MAX_PROTECTED_BYTES

KEY_BYTES: Final = 32
SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12
SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
"""The one HPKE suite of version 1; another is another version of the lease."""


class Cost(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What one guess costs: Argon2id's memory in KiB, passes and lanes."""

    memory_kib: Annotated[int, msgspec.Meta(ge=8, le=MAX_MEMORY_KIB)]
    passes: Annotated[int, msgspec.Meta(ge=1, le=MAX_PASSES)]
    lanes: Annotated[int, msgspec.Meta(ge=1, le=MAX_LANES)]


LOGIN_COST: Final = Cost(19_456, 2, 1)
"""For passwords and enrolment codes, which the relay checks for many; the attempts are limited as well."""
FILE_COST: Final = Cost(65_536, 3, 1)
"""For key files, which nobody but the cost protects once they are copied."""
PIN_COST: Final = Cost(65_536, 3, 1)
"""For PINs: short, and open to guessing by whoever has the opened database of a device."""


class CannotOpen(ValueError):
    """Something protected or sealed does not open.

    ``reason`` is ``malformed`` (not such a container) or ``wrong_key`` (another passphrase, PIN, key or context, or
    changed bytes; these cannot be told apart).  The message names what was to be opened, never a secret.
    """

    def __init__(self, reason: str, says: str) -> None:
        super().__init__(f"{reason}: {says}")
        self.reason = reason
        self.says = says


def stretch(secret: str, salt: bytes, cost: Cost) -> bytes:
    """32 bytes of Argon2id (version 1.3) over the UTF-8 of ``secret``; slow on purpose, and lets go of the
    interpreter lock meanwhile.

    Raises `MemoryError` where the machine has not what ``cost`` takes.
    """
    try:
        return hash_secret_raw(
            secret.encode(),
            salt,
            time_cost=cost.passes,
            memory_cost=cost.memory_kib,
            parallelism=cost.lanes,
            hash_len=KEY_BYTES,
            type=Type.ID,
        )
    except HashingError as error:
        # Salt, passes and lanes are within what the library takes: only room can be wanting.
        raise MemoryError(str(error)) from None


def lock(key: bytes, nonce: bytes, secret: bytes, context: bytes) -> bytes:
    """AES-256-GCM of ``secret`` under ``key``, bound to ``context``; a nonce serves one key once."""
    return AESGCM(key).encrypt(nonce, secret, context)


def unlock(key: bytes, nonce: bytes, locked: bytes, context: bytes, what: str) -> bytes:
    """The inverse of `lock`; raises `CannotOpen` about ``what``."""
    if len(key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
        raise CannotOpen("malformed", f"{what}: a key of {KEY_BYTES} bytes and a nonce of {NONCE_BYTES} are expected")
    try:
        return AESGCM(key).decrypt(nonce, locked, context)
    except InvalidTag:
        raise CannotOpen("wrong_key", f"{what} does not open with this key, or its bytes were changed") from None


class Protected(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A secret under a passphrase, as it lies in a file; ``public`` may be read without opening, and not changed."""

    version: int
    purpose: Annotated[str, msgspec.Meta(max_length=64)]
    cost: Cost
    salt: Annotated[bytes, msgspec.Meta(min_length=SALT_BYTES, max_length=SALT_BYTES)]
    nonce: Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
    public: bytes
    locked: bytes


_decode_protected = decoder(Protected, MAX_PROTECTED_BYTES)
_VERSION: Final = 1


def _context(version: int, purpose: str, cost: Cost, public: bytes) -> bytes:
    return encode(("crdtmed/protected", version, purpose, cost, public))


def protect(
    secret: bytes,
    passphrase: str,
    purpose: str,
    *,
    salt: bytes,
    nonce: bytes,
    cost: Cost = FILE_COST,
    public: bytes = b"",
) -> bytes:
    """``secret`` as a container that ``passphrase`` opens; ``purpose`` keeps one kind of container from passing for
    another."""
    key = stretch(passphrase, salt, cost)
    locked = lock(key, nonce, secret, _context(_VERSION, purpose, cost, public))
    return encode(Protected(_VERSION, purpose, cost, salt, nonce, public, locked))


def unprotect(data: bytes, passphrase: str, purpose: str) -> tuple[bytes, bytes]:
    """The secret and the public part of a container; raises `CannotOpen`."""
    try:
        held = _decode_protected(data)
    except Undecodable as error:
        raise CannotOpen("malformed", f"{purpose}: {error.says}") from None
    if held.version != _VERSION or held.purpose != purpose:
        raise CannotOpen(
            "malformed", f"{purpose}: this is {held.purpose!r}, version {held.version}; version {_VERSION} is read"
        )
    key = stretch(passphrase, held.salt, held.cost)
    context = _context(held.version, held.purpose, held.cost, held.public)
    return unlock(key, held.nonce, held.locked, context, purpose), held.public


def lease_info(device: str, key_id: str, serial: int, until_ms: int) -> bytes:
    """The HPKE ``info`` of a database key: it opens for this device, key and lease, and in no other context."""
    return encode(("crdtmed/database-key/1", device, key_id, serial, until_ms))


def open_sealed(private: X25519PrivateKey, sealed: bytes, info: bytes, what: str) -> bytes:
    """What was sealed to ``private`` in the context ``info``; raises `CannotOpen` about ``what``."""
    try:
        return SUITE.decrypt(sealed, private, info=info)
    except (InvalidTag, ValueError):
        raise CannotOpen("wrong_key", f"{what} was not sealed to this device in this context, or was changed") from None


class DatabaseKeys(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a lease's ``key`` holds, sealed: the database key in force, and until the device has said that it changed
    over to it, the one before."""

    current: Annotated[bytes, msgspec.Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
    previous: Annotated[bytes, msgspec.Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)] | None

    def __repr__(self) -> str:
        return f"DatabaseKeys({'two' if self.previous is not None else 'one'})"


_decode_keys = decoder(DatabaseKeys, 128)


def read_database_keys(opened: bytes) -> DatabaseKeys:
    """The keys in what `open_sealed` gave; raises `CannotOpen`."""
    try:
        return _decode_keys(opened)
    except Undecodable:
        raise CannotOpen("malformed", "the database key of the lease is not one of this version") from None


def grant_context(device: str, user: UserId, name: str) -> bytes:
    """What a grant issued ahead is bound to while its user's PIN protects it."""
    return encode(("crdtmed/sealed-grant/1", device, user, name))


def wiped_body(device: DeviceId, at_ms: int, last_number: int) -> bytes:
    """What a device signs, under `crdtmed.wire.frames.WIPED_TAG`, to say that its key and cache are destroyed."""
    return encode((device, at_ms, last_number))
