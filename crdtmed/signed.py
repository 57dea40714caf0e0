"""The other signed values: registers, certificates, revocations, grants, leases, heads, digests.

Each is ``signature (64 bytes) || body`` under a domain tag of its own; the body is a MessagePack array.  The identity
key signs what is in the ``directory``, grants and leases; a relay key signs registers of other documents and digests.
"""

from typing import Annotated, Any, Final, TypeVar

import msgspec

from crdtmed import keys
from crdtmed.clock import MAX_MS
from crdtmed.codec import Undecodable, check_value, decoder, encode
from crdtmed.contract import Role
from crdtmed.ids import DeviceId, GrantId, ScopeId, UserId
from crdtmed.limits import (
    MAX_DIGESTS_BYTES,
    MAX_DOCUMENT_NAME_CHARS,
    MAX_DOCUMENTS_PER_FRAME,
    MAX_KEY_CHARS,
    MAX_NUMBER,
    MAX_REGISTER_BYTES,
    MAX_SHORT_TEXT_CHARS,
    MAX_SIGNED_VALUE_BYTES,
    MAX_SITES_PER_GRANT,
)

Ms = Annotated[int, msgspec.Meta(ge=0, le=MAX_MS)]
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
Name = Annotated[str, msgspec.Meta(max_length=MAX_DOCUMENT_NAME_CHARS)]
Text = Annotated[str, msgspec.Meta(max_length=MAX_SHORT_TEXT_CHARS)]
PublicKey = Annotated[bytes, msgspec.Meta(min_length=keys.PUBLIC_KEY_BYTES, max_length=keys.PUBLIC_KEY_BYTES)]
SealingKey = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Epoch = Annotated[str, msgspec.Meta(pattern=r"^[a-z2-7]{16}\Z")]


class _Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A body is a fixed array: every field is always written."""


class Register(_Body, frozen=True):
    """A value that only the relay (in ``directory``: the identity service) writes.

    ``version`` rises by one with each value under ``key``; a higher version replaces a lower one, never the reverse.
    ``value`` is the MessagePack of the register's model, nil where the register was withdrawn.
    """

    document: Name
    key: Annotated[str, msgspec.Meta(max_length=MAX_KEY_CHARS)]
    version: Count
    at: Ms
    value: msgspec.Raw


class Certificate(_Body, frozen=True):
    """A device's keys, as the identity service vouches for them: to sign (P-256) and to be sealed to (X25519)."""

    device: DeviceId
    signing: PublicKey
    sealing: SealingKey
    label: Text
    issued_at: Ms


class Revocation(_Body, frozen=True):
    """A device is out of service from ``at``; ``now`` skips the hand-over of its outbox."""

    device: DeviceId
    at: Ms
    reason: Text
    now: bool


class RelayKey(_Body, frozen=True):
    """A key that relay registers and digests are signed with.

    After ``retired_at`` nothing that it dates later is believed; None while in service.
    """

    relay: Text
    public: PublicKey
    since: Ms
    retired_at: Ms | None


class KnowledgeInForce(_Body, frozen=True):
    """The knowledge-base snapshot that is in force."""

    snapshot: Text
    since: Ms


class IdentityRotation(_Body, frozen=True):
    """The identity key that follows; signed by the one before."""

    public: PublicKey
    at: Ms


class DirectoryHead(_Body, frozen=True):
    """What the directory held at ``version``: the digest of its content without the head itself."""

    version: Count
    at: Ms
    content: Hash


class Grant(_Body, frozen=True):
    """Which user, with which roles, for which sites, from when until when, on which device."""

    id: GrantId
    user: UserId
    name: Text
    device: DeviceId
    roles: tuple[Role, ...]
    sites: Annotated[tuple[ScopeId, ...], msgspec.Meta(max_length=MAX_SITES_PER_GRANT)]
    not_before: Ms
    not_after: Ms


class Lease(_Body, frozen=True):
    """How long a device may open its cache without hearing from the relay, and the key to do so.

    ``key`` is the database key sealed to the device (HPKE); ``key_id`` names it, so that a rotation is seen.
    ``emergency_ms`` is by how much it may be stretched once (break-glass).
    """

    device: DeviceId
    serial: Count
    issued_at: Ms
    until: Ms
    emergency_ms: Ms
    key_id: Epoch
    key: Annotated[bytes, msgspec.Meta(max_length=256)]


class DocumentDigest(_Body, frozen=True):
    """The digest of a document's canonical content at an epoch and position."""

    document: Name
    epoch: Epoch
    position: Count
    at: Ms
    content: Hash


class DigestOf(_Body, frozen=True):
    """One document of `DocumentDigests`."""

    document: Name
    epoch: Epoch
    position: Count
    content: Hash


class DocumentDigests(_Body, frozen=True):
    """The digests of several documents that are sent together, under one signature; each document is named once."""

    at: Ms
    documents: Annotated[tuple[DigestOf, ...], msgspec.Meta(max_length=MAX_DOCUMENTS_PER_FRAME)]


Signed = (
    Register
    | Certificate
    | Revocation
    | RelayKey
    | KnowledgeInForce
    | IdentityRotation
    | DirectoryHead
    | Grant
    | Lease
    | DocumentDigest
    | DocumentDigests
)

TAGS: Final[dict[type[Any], bytes]] = {
    Register: b"crdtmed/register/1",
    Certificate: b"crdtmed/certificate/1",
    Revocation: b"crdtmed/revocation/1",
    RelayKey: b"crdtmed/relay-key/1",
    KnowledgeInForce: b"crdtmed/knowledge/1",
    IdentityRotation: b"crdtmed/identity-rotation/1",
    DirectoryHead: b"crdtmed/directory-head/1",
    Grant: b"crdtmed/grant/1",
    Lease: b"crdtmed/lease/1",
    DocumentDigest: b"crdtmed/document-digest/1",
    DocumentDigests: b"crdtmed/document-digests/1",
}

_LIMIT: Final[dict[type[Any], int]] = {Register: MAX_REGISTER_BYTES, DocumentDigests: MAX_DIGESTS_BYTES}
_DECODE: Final = {of: decoder(of, _LIMIT.get(of, MAX_SIGNED_VALUE_BYTES)) for of in TAGS}

S = TypeVar("S", bound=Signed)


class Forged(ValueError):
    """Bytes are not a value of the type expected, signed by the key expected.

    ``reason`` is ``malformed`` or ``bad_signature``; the message says which value and why.
    """

    def __init__(self, reason: str, says: str) -> None:
        super().__init__(f"{reason}: {says}")
        self.reason = reason
        self.says = says


def seal(value: Signed, signer: keys.Signer) -> bytes:
    """``value`` signed under its own tag; raises `Forged` where a reader would refuse it."""
    body = encode(value)
    sealed = signer.sign(TAGS[type(value)], body) + body
    read(type(value), sealed)
    return sealed


def read(of: type[S], data: bytes) -> S:
    """The value in ``data``, its signature not checked; raises `Forged` where it is malformed."""
    try:
        value: S = _DECODE[of](data[keys.SIGNATURE_BYTES :])
        if isinstance(value, Register):
            check_value(bytes(value.value))
    except Undecodable as error:
        raise Forged("malformed", f"{of.__name__}: {error.says}") from None
    return value


def unseal(of: type[S], data: bytes, public: bytes) -> S:
    """The value in ``data``, signed by ``public``; raises `Forged` and nothing else."""
    value = read(of, data)
    if not keys.verify(public, TAGS[of], data[keys.SIGNATURE_BYTES :], data[: keys.SIGNATURE_BYTES]):
        raise Forged("bad_signature", f"{of.__name__} is not signed by the key expected")
    return value
