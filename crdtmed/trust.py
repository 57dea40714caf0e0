"""The directory as a device reads it: one pinned key, and everything else follows from signatures.

Identity keys form a chain: each next one is announced by a register that the one before it signed.  All other
entries are signed by the newest key of the chain, and the head binds them together at a version that never falls.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Final, TypeVar

import msgspec

from crdtmed.codec import Undecodable, decoder, encode
from crdtmed.documents import map_digest
from crdtmed.limits import HEAD_STALE_S, MAX_HANDSHAKE_FRAME_BYTES, MAX_ROTATIONS
from crdtmed.signed import (
    Certificate,
    DirectoryHead,
    Forged,
    Grant,
    IdentityRotation,
    KnowledgeInForce,
    Lease,
    Ms,
    PublicKey,
    RelayKey,
    Revocation,
    read,
    unseal,
)

HEAD: Final = "head"
KNOWLEDGE: Final = "knowledge"
DEVICE: Final = "device/"
REVOKED: Final = "revoked/"
RELAY: Final = "relay/"
IDENTITY: Final = "identity/"


class PastKey(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An identity key that was in force until ``until``."""

    public: PublicKey
    until: Ms


class Anchor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a device pins: the identity key in force, and those before it, for grants that they signed."""

    identity: PublicKey
    past: Annotated[tuple[PastKey, ...], msgspec.Meta(max_length=MAX_ROTATIONS)] = ()


class BadDirectory(ValueError):
    """A directory is not to be believed; ``reason`` is ``forged``, ``incomplete``, ``rolled_back`` or
    ``unknown_entry``, and the message names the entry."""

    def __init__(self, reason: str, says: str) -> None:
        super().__init__(f"{reason}: {says}")
        self.reason = reason
        self.says = says


def follow(anchor: Anchor, rotations: Iterable[bytes]) -> Anchor:
    """The anchor after those of ``rotations``, in order, that continue its chain; others are not looked at."""
    for data in rotations:
        try:
            step = unseal(IdentityRotation, data, anchor.identity)
        except Forged:
            continue
        anchor = Anchor(step.public, (*anchor.past, PastKey(anchor.identity, step.at))[-MAX_ROTATIONS:])
    return anchor


def rotations_in(entries: Mapping[str, bytes]) -> tuple[bytes, ...]:
    """The announcements of identity keys in a directory, in their order."""
    numbered = [(key.removeprefix(IDENTITY), data) for key, data in entries.items() if key.startswith(IDENTITY)]
    return tuple(data for _, data in sorted((int(number), data) for number, data in numbered if number.isdecimal()))


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory whose every entry was verified.  ``entries`` are its bytes, so that the next one is read quickly."""

    anchor: Anchor
    head: DirectoryHead
    certificates: Mapping[str, Certificate]
    revocations: Mapping[str, Revocation]
    relay_keys: tuple[RelayKey, ...]
    knowledge: KnowledgeInForce | None
    entries: Mapping[str, bytes] = field(repr=False)

    def is_stale(self, now_ms: int) -> bool:
        """Whether the head is so old that news may be withheld."""
        return now_ms > self.head.at + HEAD_STALE_S * 1_000

    def is_revoked(self, device: str) -> bool:
        """Whether the device is out of service."""
        return device in self.revocations


def read_directory(
    entries: Mapping[str, bytes], anchor: Anchor, least_version: int = 0, before: Directory | None = None
) -> Directory:
    """The directory in ``entries``; raises `BadDirectory`.

    ``least_version`` is the newest head ever seen; an older one is a rollback.  What ``before`` has verified
    under the same identity key is not verified again.
    """
    anchor = follow(anchor, rotations_in(entries))
    known = before.entries if before is not None and before.anchor.identity == anchor.identity else {}
    if HEAD not in entries:
        raise BadDirectory("incomplete", "there is no head")
    head = _entry(DirectoryHead, HEAD, entries[HEAD], anchor, known)
    if head.version < least_version:
        raise BadDirectory(
            "rolled_back", f"the head has version {head.version}, version {least_version} was seen before"
        )
    if map_digest({key: data for key, data in entries.items() if key != HEAD}) != head.content:
        raise BadDirectory("incomplete", f"the entries are not those of the head at version {head.version}")
    certificates: dict[str, Certificate] = {}
    revocations: dict[str, Revocation] = {}
    relay_keys: list[RelayKey] = []
    knowledge: KnowledgeInForce | None = None
    for key, data in sorted(entries.items()):
        if key.startswith(DEVICE):
            certificate = _entry(Certificate, key, data, anchor, known)
            certificates[_same(key, DEVICE, certificate.device)] = certificate
        elif key.startswith(REVOKED):
            revocation = _entry(Revocation, key, data, anchor, known)
            revocations[_same(key, REVOKED, revocation.device)] = revocation
        elif key.startswith(RELAY):
            relay_keys.append(_entry(RelayKey, key, data, anchor, known))
            _same(key, RELAY, relay_keys[-1].relay)
        elif key == KNOWLEDGE:
            knowledge = _entry(KnowledgeInForce, key, data, anchor, known)
        elif key != HEAD and not key.startswith(IDENTITY):
            raise BadDirectory("unknown_entry", f"{key!r} is no entry of a directory")
    return Directory(
        anchor, head, certificates, revocations, tuple(relay_keys), knowledge, MappingProxyType(dict(entries))
    )


_E = TypeVar("_E", Certificate, Revocation, RelayKey, KnowledgeInForce, DirectoryHead)


def _entry(of: type[_E], key: str, data: bytes, anchor: Anchor, known: Mapping[str, bytes]) -> _E:
    try:
        return read(of, data) if known.get(key) == data else unseal(of, data, anchor.identity)
    except Forged as error:
        raise BadDirectory("forged", f"{key}: {error.says}") from None


def _same(key: str, prefix: str, name: str) -> str:
    if key != prefix + name:
        raise BadDirectory("forged", f"the entry of {prefix}{name} stands under {key}")
    return name


class NotForHere(ValueError):
    """A grant or lease is well signed and yet not for this device, or not in force; the message says which."""


def read_grant(data: bytes, anchor: Anchor, device: str) -> Grant:
    """The grant in ``data``: signed by an identity key of the chain while it was in force, for ``device``.

    Raises `Forged` or `NotForHere`.  Whether it is in force *now* is the question of `covers`.
    """
    for public, until in ((anchor.identity, None), *((past.public, past.until) for past in anchor.past)):
        try:
            grant = unseal(Grant, data, public)
        except Forged:
            continue
        if until is not None and grant.not_before > until:
            raise Forged("bad_signature", "the grant is signed by an identity key that was replaced before")
        if grant.device != device:
            raise NotForHere(f"the grant {grant.id} is for device {grant.device}, not for {device}")
        return grant
    raise Forged("bad_signature", "the grant is not signed by the identity key")


def covers(grant: Grant, now_ms: int) -> bool:
    """Whether the grant is in force at ``now_ms``."""
    return grant.not_before <= now_ms <= grant.not_after


def read_lease(data: bytes, anchor: Anchor, device: str) -> Lease:
    """The lease in ``data``, for ``device``; raises `Forged` or `NotForHere`."""
    lease = unseal(Lease, data, anchor.identity)
    if lease.device != device:
        raise NotForHere(f"the lease is for device {lease.device}, not for {device}")
    return lease


class Introduction(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How a relay shows its key at the handshake: the chain of identity keys, for a device that missed a step, and
    the key as the newest of them vouches for it."""

    rotations: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=MAX_ROTATIONS)]
    relay_key: bytes


_decode_introduction = decoder(Introduction, MAX_HANDSHAKE_FRAME_BYTES)


def introduce(rotations: tuple[bytes, ...], relay_key: bytes) -> bytes:
    """What goes into `crdtmed.wire.frames.Challenge.relay_key`."""
    return encode(Introduction(rotations[-MAX_ROTATIONS:], relay_key))


def meet(data: bytes, anchor: Anchor, now_ms: int) -> tuple[Anchor, RelayKey]:
    """The relay key that an introduction shows, and the anchor after it; raises `Forged`.

    A key that was retired by ``now_ms`` (the device's clock) proves nothing any more.
    """
    try:
        shown = _decode_introduction(data)
    except Undecodable as error:
        raise Forged("malformed", f"the relay's introduction: {error.says}") from None
    anchor = follow(anchor, shown.rotations)
    key = unseal(RelayKey, shown.relay_key, anchor.identity)
    if key.retired_at is not None and key.retired_at <= now_ms:
        raise Forged("retired", f"the key of relay {key.relay} was retired")
    return anchor, key
