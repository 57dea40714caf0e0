"""The device's keys: to sign (P-256) and to be sealed to (X25519), in a file that a passphrase protects.

Everything else asks `DeviceKeys` to *sign* and to *open* and never sees a key, so that a TPM, a secure element or a
keyring fits behind the same port.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from crdtmed import keys, sealing
from crdtmed.codec import Undecodable, decoder, encode
from crdtmed.device.files import read_whole, write_whole
from crdtmed.limits import MAX_PROTECTED_BYTES, MIN_PASSPHRASE_CHARS

PURPOSE: Final = "crdtmed/device-keys/1"


class DeviceKeys(Protocol):
    """What holds a device's keys; also a `crdtmed.keys.Signer`."""

    @property
    def public(self) -> bytes:
        """The public signing key, a compressed point of 33 bytes."""

    @property
    def sealing_public(self) -> bytes:
        """The public key that others seal to, 32 bytes (RFC 7748)."""

    def sign(self, tag: bytes, body: bytes) -> bytes:
        """64 bytes over ``tag || 0x00 || body`` (`crdtmed.keys`)."""

    def open(self, sealed: bytes, info: bytes, what: str) -> bytes:
        """What was sealed to this device in the context ``info``; raises `crdtmed.sealing.CannotOpen`."""


class KeyFileError(ValueError):
    """A key file cannot be made or opened; ``reason`` is ``missing``, ``exists``, ``weak_passphrase``, ``malformed`` or
    ``wrong_passphrase``, and the message says what to do."""

    def __init__(self, reason: str, says: str) -> None:
        super().__init__(f"{reason}: {says}")
        self.reason = reason
        self.says = says


class _Secrets(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    scalar: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    sealing: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]

    def __repr__(self) -> str:
        return "_Secrets()"


_decode_secrets = decoder(_Secrets, 128)


@dataclass(frozen=True, slots=True, repr=False)
class SoftwareKeys:
    """A `DeviceKeys` whose keys are in this process's memory."""

    _signer: keys.SoftwareSigner
    _private: X25519PrivateKey

    @property
    def public(self) -> bytes:
        return self._signer.public

    @property
    def sealing_public(self) -> bytes:
        return self._private.public_key().public_bytes_raw()

    def sign(self, tag: bytes, body: bytes) -> bytes:
        return self._signer.sign(tag, body)

    def open(self, sealed: bytes, info: bytes, what: str) -> bytes:
        return sealing.open_sealed(self._private, sealed, info, what)


def _new_secrets(random_bytes: Callable[[int], bytes]) -> _Secrets:
    scalar = keys.private_scalar(random_bytes(keys.SCALAR_SEED_BYTES))
    return _Secrets(scalar.to_bytes(32, "big"), random_bytes(32))


def _keys(secrets: _Secrets) -> SoftwareKeys:
    signer = keys.SoftwareSigner.from_scalar(int.from_bytes(secrets.scalar, "big"))
    return SoftwareKeys(signer, X25519PrivateKey.from_private_bytes(secrets.sealing))


def new_keys(random_bytes: Callable[[int], bytes]) -> SoftwareKeys:
    """Keys that live in memory only."""
    return _keys(_new_secrets(random_bytes))


def create_key_file(
    path: Path, passphrase: str, random_bytes: Callable[[int], bytes], cost: sealing.Cost = sealing.FILE_COST
) -> SoftwareKeys:
    """New keys, and the file that holds them under ``passphrase``; raises `KeyFileError`.

    A file that is there already is never overwritten: its keys may be the only ones that open a database.
    """
    if len(passphrase) < MIN_PASSPHRASE_CHARS:
        raise KeyFileError("weak_passphrase", f"a passphrase has at least {MIN_PASSPHRASE_CHARS} characters")
    if path.exists():
        raise KeyFileError("exists", f"{path.name} is there already: open it, or wipe the device first")
    secrets = _new_secrets(random_bytes)
    salt, nonce = random_bytes(sealing.SALT_BYTES), random_bytes(sealing.NONCE_BYTES)
    write_whole(path, sealing.protect(encode(secrets), passphrase, PURPOSE, salt=salt, nonce=nonce, cost=cost))
    return _keys(secrets)


def open_key_file(path: Path, passphrase: str) -> SoftwareKeys:
    """The keys in a key file; raises `KeyFileError`."""
    data = read_whole(path, MAX_PROTECTED_BYTES)
    if data is None:
        raise KeyFileError("missing", f"there is no {path.name}: the device is not enrolled, or it was wiped")
    try:
        secret, _ = sealing.unprotect(data, passphrase, PURPOSE)
        return _keys(_decode_secrets(secret))
    except sealing.CannotOpen as error:
        if error.reason == "wrong_key":
            raise KeyFileError("wrong_passphrase", f"{path.name} does not open with this passphrase") from None
        raise KeyFileError("malformed", f"{path.name}: {error.says}") from None
    except Undecodable as error:
        raise KeyFileError("malformed", f"{path.name}: {error.says}") from None
