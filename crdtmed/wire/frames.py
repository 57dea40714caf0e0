"""Every frame of the protocol.

A frame is a MessagePack array whose first element is the frame's name.  Two unions: `ToRelay` and `ToDevice`.  The
encoding is canonical (`crdtmed.codec`); a frame that is not is refused with `BadFrame` and closes the connection.
What is in `COMPRESSIBLE` goes compressed where that makes it smaller, once for all who are sent the same.

The conversation::

    device                               relay
    Hello  ------------------------->
           <-------------------------  Challenge      the relay proves its key
    Proof  ------------------------->                 the device proves its key
           <-------------------------  Welcome        or Revoked, or Bye
    Subscribe ---------------------->
           <-------------------------  Bases, Changes, Evicted
    Push, Request ------------------>
           <-------------------------  Verdicts, Gap, Changes
    Renew  ------------------------->
           <-------------------------  LeaseGiven     at least every minute
"""

from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar

import msgspec

from crdtmed.codec import Undecodable, decoder, encode
from crdtmed.compression import compress
from crdtmed.ids import DeviceId, Ref, UserId
from crdtmed.limits import (
    MAX_CHALLENGES_ASKED,
    MAX_DOCUMENT_NAME_CHARS,
    MAX_DOCUMENTS_PER_FRAME,
    MAX_FRAME_BYTES,
    MAX_LONG_TEXT_CHARS,
    MAX_PASSWORD_CHARS,
    MAX_PIN_CHARS,
    MAX_RELAY_FRAME_BYTES,
    MAX_ROSTER,
    MAX_SHORT_TEXT_CHARS,
    MAX_STATEMENT_BYTES,
    MAX_SUBSCRIPTIONS_PER_FRAME,
    MAX_UPDATE_BYTES,
    MAX_VERDICTS_ASKED,
)
from crdtmed.signed import Count, Ms
from crdtmed.wire.plain import COMPRESSED, plain
from crdtmed.wire.plain import BadFrame as BadFrame

PROTOCOL: Final = 2
"""Rises with every change of a frame; a test holds it to the fingerprint of the schema."""

Name = Annotated[str, msgspec.Meta(max_length=MAX_DOCUMENT_NAME_CHARS)]
Text = Annotated[str, msgspec.Meta(max_length=MAX_SHORT_TEXT_CHARS)]
Nonce = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
EpochOrNone = Annotated[str, msgspec.Meta(max_length=16)]
F = TypeVar("F")
StatementBytes = Annotated[bytes, msgspec.Meta(max_length=MAX_STATEMENT_BYTES)]

RELAY_PROOF_TAG: Final = b"crdtmed/handshake/relay/1"
DEVICE_PROOF_TAG: Final = b"crdtmed/handshake/device/1"
WIPED_TAG: Final = b"crdtmed/wiped/1"


class _Frame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A frame is a fixed array: every field is always written."""


# ---- device to relay ------------------------------------------------------------------------------------------


class Hello(_Frame, frozen=True, tag="hello"):
    """Opens the conversation."""

    protocol: int
    device: DeviceId
    nonce: Nonce


class Proof(_Frame, frozen=True, tag="proof"):
    """The device's signature over `handshake_body`; ``last_number`` and ``lease`` are its high-water marks."""

    signature: Signature
    last_number: Count
    lease: Count


class Want(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A document and where the device's base stands: epoch and position; ``""`` and 0 for nothing."""

    document: Name
    epoch: EpochOrNone
    position: Count


class Subscribe(_Frame, frozen=True, tag="subscribe"):
    """Send these documents, and what happens to them from now on."""

    wants: Annotated[tuple[Want, ...], msgspec.Meta(max_length=MAX_SUBSCRIPTIONS_PER_FRAME)]


class Unsubscribe(_Frame, frozen=True, tag="unsubscribe"):
    """No more of these documents."""

    documents: Annotated[tuple[Name, ...], msgspec.Meta(max_length=MAX_SUBSCRIPTIONS_PER_FRAME)]


class Push(_Frame, frozen=True, tag="push"):
    """One transaction of the device in one document (a log's segment)."""

    document: Name
    update: Annotated[bytes, msgspec.Meta(max_length=MAX_UPDATE_BYTES)]


class Request(_Frame, frozen=True, tag="request"):
    """A statement that asks the relay to change registers."""

    statement: StatementBytes


class AskChallenges(_Frame, frozen=True, tag="ask_challenges"):
    """Please give ``count`` challenges."""

    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_CHALLENGES_ASKED)]


class AskVerdicts(_Frame, frozen=True, tag="ask_verdicts"):
    """The stored verdicts of these own statements, again; unknown ones are not answered."""

    refs: Annotated[tuple[Ref, ...], msgspec.Meta(max_length=MAX_VERDICTS_ASKED)]


class AskDigest(_Frame, frozen=True, tag="ask_digest"):
    """The signed digest of a subscribed document as it now stands."""

    document: Name


class Renew(_Frame, frozen=True, tag="renew"):
    """The lease, please; the high-water marks as in `Proof`."""

    last_number: Count
    lease: Count


class SignIn(_Frame, frozen=True, tag="sign_in"):
    """A user signs in on this device; a ``pin``, where given, becomes the one that opens grants offline."""

    user: UserId
    password: Annotated[str, msgspec.Meta(max_length=MAX_PASSWORD_CHARS)]
    pin: Annotated[str, msgspec.Meta(max_length=MAX_PIN_CHARS)] | None

    def __repr__(self) -> str:
        return f"SignIn(user={self.user!r})"  # never password and PIN


class AskRoster(_Frame, frozen=True, tag="ask_roster"):
    """The grants issued ahead for a site's roster on this device, each sealed by its user's PIN."""

    site: Text


class HandBack(_Frame, frozen=True, tag="hand_back"):
    """After a new epoch of ``document``: statements of the old base that the relay may lack, of any author."""

    document: Name
    statements: Annotated[tuple[StatementBytes, ...], msgspec.Meta(max_length=MAX_SUBSCRIPTIONS_PER_FRAME)]


class HandOver(_Frame, frozen=True, tag="hand_over"):
    """A revoked device's outbox, into quarantine."""

    statements: Annotated[tuple[StatementBytes, ...], msgspec.Meta(max_length=MAX_SUBSCRIPTIONS_PER_FRAME)]


class Wiped(_Frame, frozen=True, tag="wiped"):
    """Key and cache are destroyed; signed before that, under `WIPED_TAG`, over `crdtmed.sealing.wiped_body`.

    It proves itself, so that a device without a key can say it in place of `Hello`.
    """

    device: DeviceId
    at: Ms
    last_number: Count
    signature: Signature


class ByeRelay(_Frame, frozen=True, tag="bye"):
    """The device leaves."""

    code: Text
    says: Annotated[str, msgspec.Meta(max_length=MAX_LONG_TEXT_CHARS)]


# ---- relay to device ------------------------------------------------------------------------------------------


class Challenge(_Frame, frozen=True, tag="challenge"):
    """The relay's nonce, its signature over `handshake_body`, and its key as the identity key vouches for it."""

    protocol: int
    nonce: Nonce
    signature: Signature
    relay_key: bytes


class Welcome(_Frame, frozen=True, tag="welcome"):
    """The conversation is open: the relay's time, the lease, the highest number it has of this device, limits."""

    now: Ms
    lease: bytes
    last_number: Count
    pushes_in_flight: Count
    renew_s: Count


class BaseState(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A whole document as an update, at an epoch and position."""

    document: Name
    epoch: EpochOrNone
    position: Count
    update: bytes


class Bases(_Frame, frozen=True, tag="bases"):
    """Documents whole: a device that holds another epoch takes its base anew; else it merges this into it.

    ``digests`` is a signed `crdtmed.signed.DocumentDigests` that has each of these documents, and maybe others.
    ``remaining`` is how many of the subscribed documents are still to come, for progress.
    """

    documents: Annotated[tuple[BaseState, ...], msgspec.Meta(max_length=MAX_DOCUMENTS_PER_FRAME)]
    digests: bytes
    remaining: Count


class Run(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Updates of one document in order; the first has position ``first``, each next one more."""

    document: Name
    epoch: EpochOrNone
    first: Count
    updates: tuple[bytes, ...]


class Changes(_Frame, frozen=True, tag="changes"):
    """What was committed: a subscriber gets one such frame a commit.

    A run without updates says that the document stands at ``first - 1`` and the device is up to date with it.
    """

    runs: tuple[Run, ...]


class Evicted(_Frame, frozen=True, tag="evicted"):
    """This document is not, or no longer, for this device; ``code`` is a reason's code or ``unknown_document``."""

    document: Name
    code: Text


class Verdicts(_Frame, frozen=True, tag="verdicts"):
    """Verdicts, each as `crdtmed.verdict.encode_verdict` made it; ``now`` is the relay's time."""

    now: Ms
    verdicts: tuple[bytes, ...]


class Gap(_Frame, frozen=True, tag="gap"):
    """A push into ``document`` did not continue at ``clock``: base, a new client id, the outbox again."""

    document: Name
    client: Count
    clock: Count


class Challenges(_Frame, frozen=True, tag="challenges"):
    """Challenges of this connection, good until ``until``, one statement each."""

    values: tuple[Nonce, ...]
    until: Ms


class LeaseGiven(_Frame, frozen=True, tag="lease"):
    """A lease, signed by the identity key."""

    now: Ms
    lease: bytes


class SignedIn(_Frame, frozen=True, tag="signed_in"):
    """The grant of the user who signed in."""

    grant: bytes


class SignInFailed(_Frame, frozen=True, tag="sign_in_failed"):
    """``code`` is ``wrong``, ``locked``, ``withdrawn`` or ``no_grant``."""

    user: Text
    code: Text


class SealedGrant(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A grant that only its user's PIN opens: AES-256-GCM under Argon2id of the PIN with ``salt``."""

    user: UserId
    name: Text
    salt: bytes
    nonce: bytes
    sealed: bytes


class Roster(_Frame, frozen=True, tag="roster"):
    """The grants issued ahead for ``site`` on this device."""

    site: Text
    grants: Annotated[tuple[SealedGrant, ...], msgspec.Meta(max_length=MAX_ROSTER)]


class Revoked(_Frame, frozen=True, tag="revoked"):
    """This device is out of service; the register of its revocation, signed by the identity key."""

    revocation: bytes
    hand_over: bool


class HandedOver(_Frame, frozen=True, tag="handed_over"):
    """How many statements are in quarantine now, and which were not taken."""

    taken: Count
    refused: tuple[Ref, ...]


class DigestGiven(_Frame, frozen=True, tag="digest"):
    """A signed `crdtmed.signed.DocumentDigest`."""

    digest: bytes


class Bye(_Frame, frozen=True, tag="bye"):
    """The relay closes the connection, and why."""

    code: Text
    says: Annotated[str, msgspec.Meta(max_length=MAX_LONG_TEXT_CHARS)]


ToRelay = (
    Hello | Proof | Subscribe | Unsubscribe | Push | Request | AskChallenges | AskVerdicts | AskDigest | Renew | SignIn
    | AskRoster | HandBack | HandOver | Wiped | ByeRelay
)  # fmt: skip
ToDevice = (
    Challenge | Welcome | Bases | Changes | Evicted | Verdicts | Gap | Challenges | LeaseGiven | SignedIn | SignInFailed
    | Roster | Revoked | HandedOver | DigestGiven | Bye
)  # fmt: skip


COMPRESSIBLE: Final[frozenset[type[Any]]] = frozenset(
    {Subscribe, Unsubscribe, Push, Request, AskVerdicts, HandBack, HandOver, Bases, Changes, Verdicts}
)
"""The frames that are compressed, and read so.  Passwords, PINs, grants and leases are in none of them: the size of a
compressed secret tells of it, beside what others can choose.  Nothing is compressed before both sides are proved."""

_to_relay: Callable[[bytes], ToRelay] = decoder(ToRelay, MAX_FRAME_BYTES)  # type: ignore[arg-type]  # a union is no type to mypy
_to_device: Callable[[bytes], ToDevice] = decoder(ToDevice, MAX_RELAY_FRAME_BYTES)  # type: ignore[arg-type]  # as above


def encode_frame(frame: ToRelay | ToDevice) -> bytes:
    """The bytes of a frame, as they go over the wire."""
    data = encode(frame)
    small = compress(data) if type(frame) in COMPRESSIBLE else None
    return data if small is None else COMPRESSED + small


def read_from_device(data: bytes) -> ToRelay:
    """The frame in what a device sent; raises `BadFrame` and nothing else."""
    return _read(_to_relay, data, MAX_FRAME_BYTES)


def read_from_relay(data: bytes) -> ToDevice:
    """The frame in what the relay sent; raises `BadFrame` and nothing else."""
    return _read(_to_device, data, MAX_RELAY_FRAME_BYTES)


def _read(decode: Callable[[bytes], F], data: bytes, most: int) -> F:
    try:
        frame = decode(plain(data, most))
    except Undecodable as error:
        raise BadFrame(error.reason, error.says) from None
    if data[:1] == COMPRESSED and type(frame) not in COMPRESSIBLE:
        raise BadFrame("not_compressible", f"a frame of the type {type(frame).__name__} is never compressed")
    return frame


def handshake_body(device: str, device_nonce: bytes, relay_nonce: bytes, relay_public: bytes) -> bytes:
    """What both sides sign, each under its own tag: the device's id, both nonces and the relay's key."""
    return device.encode("ascii") + device_nonce + relay_nonce + relay_public
