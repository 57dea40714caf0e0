"""The relay's own secrets: identity key, relay key and master key, in one file.

A passphrase protects the file; without one the permissions of the operating system do, and a file that others may read
is not opened.
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec

from crdtmed import keys, sealing
from crdtmed.codec import Undecodable, decoder, encode
from crdtmed.limits import MAX_PROTECTED_BYTES, MAX_RELAY_NAME_CHARS, MIN_PASSPHRASE_CHARS

PURPOSE: Final = "crdtmed/relay-secrets/1"
_PLAIN: Final = b"crdtmed relay secrets, not protected by a passphrase\n"

Secret = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class Secrets(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Private scalars and the master key.

    ``next_identity`` is there from before a rotation is committed until the file is written again after it, so that a
    crash between the two loses neither key.
    """

    identity: Secret
    relay_name: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_RELAY_NAME_CHARS)]
    relay: Secret
    master: Secret
    next_identity: Secret | None

    def __repr__(self) -> str:
        return f"Secrets(relay_name={self.relay_name!r})"


_decode = decoder(Secrets, 512)


class KeyringError(ValueError):
    """The file of secrets cannot be made or opened; ``reason`` is ``missing``, ``exists``, ``weak_passphrase``,
    ``wrong_passphrase``, ``malformed`` or ``readable_by_others``, and the message says what to do."""

    def __init__(self, reason: str, says: str) -> None:
        super().__init__(f"{reason}: {says}")
        self.reason = reason
        self.says = says


@dataclass(frozen=True, slots=True, repr=False)
class Keyring:
    """What the relay signs and locks with."""

    identity: keys.Signer
    relay_name: str
    relay: keys.Signer
    master: bytes


def _scalar(random_bytes: Callable[[int], bytes]) -> bytes:
    return keys.private_scalar(random_bytes(keys.SCALAR_SEED_BYTES)).to_bytes(32, "big")


def signer_of(scalar: bytes) -> keys.SoftwareSigner:
    """The signer of a private scalar of 32 bytes."""
    return keys.SoftwareSigner.from_scalar(int.from_bytes(scalar, "big"))


def new_secrets(relay_name: str, random_bytes: Callable[[int], bytes]) -> Secrets:
    """Secrets for a relay that never ran."""
    return Secrets(_scalar(random_bytes), relay_name, _scalar(random_bytes), random_bytes(32), None)


def with_next_identity(secrets: Secrets, random_bytes: Callable[[int], bytes]) -> Secrets:
    """The secrets with an identity key to rotate to."""
    return msgspec.structs.replace(secrets, next_identity=_scalar(random_bytes))


def with_relay_key(secrets: Secrets, relay_name: str, random_bytes: Callable[[int], bytes]) -> Secrets:
    """The secrets with another relay key, under another name."""
    return msgspec.structs.replace(secrets, relay_name=relay_name, relay=_scalar(random_bytes))


def settled(secrets: Secrets, identity_public: bytes) -> Secrets:
    """The secrets after a rotation or an attempt at one, for the identity key that the directory is signed with.

    Raises `KeyringError` where neither key is that one.
    """
    for scalar in (secrets.identity, secrets.next_identity):
        if scalar is not None and signer_of(scalar).public == identity_public:
            return msgspec.structs.replace(secrets, identity=scalar, next_identity=None)
    raise KeyringError(
        "malformed", "the secrets hold another identity key than the directory's: take the file of this relay"
    )


def keyring(secrets: Secrets) -> Keyring:
    """What to sign and lock with."""
    return Keyring(signer_of(secrets.identity), secrets.relay_name, signer_of(secrets.relay), secrets.master)


def write_secrets(
    path: Path,
    secrets: Secrets,
    passphrase: str | None,
    random_bytes: Callable[[int], bytes],
    *,
    replace: bool = False,
    cost: sealing.Cost = sealing.FILE_COST,
) -> None:
    """Writes the file, whole or not at all, for its owner only; raises `KeyringError`.

    An existing file is replaced only where ``replace`` says so, and never by one that could not be read again.
    """
    if passphrase is not None and len(passphrase) < MIN_PASSPHRASE_CHARS:
        raise KeyringError("weak_passphrase", f"a passphrase has at least {MIN_PASSPHRASE_CHARS} characters")
    if path.exists() and not replace:
        raise KeyringError(
            "exists", f"{path.name} is there already, and without it no device knows this relay any more"
        )
    plain = encode(secrets)
    try:
        _decode(plain)
    except Undecodable as error:
        raise KeyringError("malformed", f"{path.name} would not be read again: {error}; it stays as it was") from None
    data = _PLAIN + plain
    if passphrase is not None:
        salt, nonce = random_bytes(sealing.SALT_BYTES), random_bytes(sealing.NONCE_BYTES)
        data = sealing.protect(plain, passphrase, PURPOSE, salt=salt, nonce=nonce, cost=cost)
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    # A rotation commits only after this: the file must be there under its name, also after a power cut.
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def open_secrets(path: Path, passphrase: str | None) -> Secrets:
    """The secrets in the file; raises `KeyringError`."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_PROTECTED_BYTES + 1)
    except FileNotFoundError:
        raise KeyringError("missing", f"there is no {path.name}: set the relay up first") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyringError("readable_by_others", f"others than its owner may open {path.name}: chmod 600 it")
    try:
        if data.startswith(_PLAIN):
            return _decode(data[len(_PLAIN) :])
        if passphrase is None:
            raise KeyringError("wrong_passphrase", f"{path.name} is protected by a passphrase: give it")
        secret, _ = sealing.unprotect(data, passphrase, PURPOSE)
        return _decode(secret)
    except sealing.CannotOpen as error:
        if error.reason == "wrong_key":
            raise KeyringError("wrong_passphrase", f"{path.name} does not open with this passphrase") from None
        raise KeyringError("malformed", f"{path.name}: {error.says}") from None
    except Undecodable:
        raise KeyringError("malformed", f"{path.name} is no file of secrets") from None
