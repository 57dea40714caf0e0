"""Statements: what one person said on one device, signed; the unit of truth.

On the wire a statement is ``signature (64 bytes) || body``; the body is the MessagePack array of `Statement`.  The
signature covers the exact bytes of the body, which are never encoded again.
"""

from itertools import pairwise
from typing import Annotated, Final

import msgspec

from crdtmed import clock, keys
from crdtmed.codec import Undecodable, check_value, decoder, encode
from crdtmed.contract import Kind
from crdtmed.documents import MAX_TARGET_CHARS, is_target
from crdtmed.ids import (
    DEVICE_PATTERN,
    GRANT_PATTERN,
    ID_PATTERN,
    Ref,
    is_device_id,
    is_grant_id,
    is_statement_id,
    user_of,
)
from crdtmed.limits import MAX_GRANT_ID_CHARS, MAX_NUMBER, MAX_SEEN, MAX_STATEMENT_BYTES

VERSION: Final = 1
"""The suite: this encoding, ECDSA P-256 with SHA-256.  Another suite is another version, never a choice within one."""

TAG: Final = b"crdtmed/statement/1"
CHALLENGE_BYTES: Final = 16


def _spelt(pattern: str) -> msgspec.Meta:
    """A pattern that the schema tells and `decode` checks: it knows the few devices and grants again, where msgspec
    would match every statement's anew."""
    return msgspec.Meta(extra_json_schema={"pattern": pattern})


class Statement(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """The body of a statement.

    ``document`` is the document or log it belongs to (a log, never its segment).  ``number`` is gapless per device.
    ``seen`` are references in ascending order, the causal context that the kind needs.  ``challenge`` proves that the
    relay was there; None when offline.  ``content`` is the MessagePack of the kind's content model.
    """

    version: int
    kind: Kind
    id: Annotated[str, _spelt(ID_PATTERN)]
    document: Annotated[str, msgspec.Meta(max_length=MAX_TARGET_CHARS)]
    device: Annotated[str, _spelt(DEVICE_PATTERN)]
    number: Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)]
    grant: Annotated[str, _spelt(GRANT_PATTERN), msgspec.Meta(max_length=MAX_GRANT_ID_CHARS)]
    stamp: Annotated[int, msgspec.Meta(ge=0, le=clock.MAX_STAMP)]
    seen: Annotated[tuple[Ref, ...], msgspec.Meta(max_length=MAX_SEEN)]
    challenge: Annotated[bytes, msgspec.Meta(min_length=CHALLENGE_BYTES, max_length=CHALLENGE_BYTES)] | None
    content: msgspec.Raw

    @property
    def ref(self) -> str:
        """``device.id``: unique for ever."""
        return f"{self.device}.{self.id}"  # as `crdtmed.ids.ref`: every view asks every entry for it

    @property
    def user(self) -> str:
        """Who said it, as the grant names the user."""
        return user_of(self.grant)

    @property
    def order(self) -> tuple[int, str]:
        """By stamp, ties by device."""
        return (self.stamp, self.device)


class SignedStatement(msgspec.Struct, frozen=True, gc=False):
    """A statement together with its exact bytes (signature and body).

    Like the statement in it, it holds nothing that could hold it, so that the collector of cycles leaves the many of
    a long log alone.
    """

    statement: Statement
    encoded: bytes

    @property
    def body(self) -> bytes:
        """The bytes that the signature covers."""
        return self.encoded[keys.SIGNATURE_BYTES :]

    @property
    def signature(self) -> bytes:
        """The 64 bytes before the body."""
        return self.encoded[: keys.SIGNATURE_BYTES]


class BadStatement(ValueError):
    """Bytes are no statement; ``reason`` is a stable code, the message says what was wrong and where."""

    def __init__(self, reason: str, says: str) -> None:
        super().__init__(f"{reason}: {says}")
        self.reason = reason
        self.says = says


_decode_body: Final = decoder(Statement, MAX_STATEMENT_BYTES - keys.SIGNATURE_BYTES)


def sign(statement: Statement, signer: keys.Signer) -> SignedStatement:
    """``statement`` signed; raises `BadStatement` when it breaks a limit or a rule that every reader checks."""
    body = encode(statement)
    signed = SignedStatement(statement, signer.sign(TAG, body) + body)
    decode(signed.encoded)
    return signed


def decode(data: bytes) -> SignedStatement:
    """The statement in ``data``, its signature not yet checked (`verify`); raises `BadStatement` and nothing else.

    The content is checked to be one plain value; the kind's own model judges it afterwards.
    """
    signed = decode_envelope(data)
    check_content(signed)
    return signed


def check_content(signed: SignedStatement) -> None:
    """Raises `BadStatement` unless the content is one plain value (`crdtmed.codec.check_value`), as all that a model
    reads is."""
    try:
        check_value(bytes(signed.statement.content))
    except Undecodable as error:
        raise BadStatement(error.reason, error.says) from None


def decode_envelope(data: bytes) -> SignedStatement:
    """`decode` for who reads the content with its model next, and checks it (`check_content`) where that does not."""
    if len(data) <= keys.SIGNATURE_BYTES:
        raise BadStatement("too_short", f"{len(data)} bytes, a signature alone has {keys.SIGNATURE_BYTES}")
    try:
        statement = _decode_body(data[keys.SIGNATURE_BYTES :])
        if not (is_statement_id(statement.id) and is_device_id(statement.device) and is_grant_id(statement.grant)):
            raise Undecodable("not_msgpack", _misspelt(statement))
    except Undecodable as error:
        raise BadStatement(error.reason, error.says) from None
    if statement.version != VERSION:
        raise BadStatement("version_unknown", f"version {statement.version}, this software reads {VERSION}")
    if not is_target(statement.document):
        raise BadStatement("document_unknown", f"{statement.document!r} names no document and no log")
    seen = statement.seen
    if len(seen) > 1 and any(a >= b for a, b in pairwise(seen)):
        raise BadStatement("seen_unordered", "references in seen must ascend and be distinct")
    return SignedStatement(statement, data)


def _misspelt(statement: Statement) -> str:
    return f"{statement.id!r:.40} of {statement.device!r:.40} under {statement.grant!r:.60} are no id, device and grant"


def verify(signed: SignedStatement, public: bytes) -> bool:
    """Whether the device with this public key signed these exact bytes."""
    return signed_by(public, signed.encoded)


def signed_by(public: bytes, encoded: bytes) -> bool:
    """The same of bytes that were not read, or cannot be: False for anything malformed, never an exception."""
    return keys.verify(public, TAG, encoded[keys.SIGNATURE_BYTES :], encoded[: keys.SIGNATURE_BYTES])


def same(one: Statement, other: Statement) -> bool:
    """Whether two statements of one device under one id say the same.

    Kind, document, seen and content count; number, grant, stamp, challenge and signature do not.
    """
    return (one.kind, one.document, one.seen, bytes(one.content)) == (
        other.kind,
        other.document,
        other.seen,
        bytes(other.content),
    )
