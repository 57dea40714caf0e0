"""What a device that has no certificate yet sends to ``POST /enrol``, and what it gets back.

Canonical MessagePack like the frames, versioned with them.  The signature covers every other field, so that what
enrols is who holds both keys' secrets, and nothing of it can be taken into another enrolment.
"""

from typing import Annotated, Final

import msgspec

from crdtmed.codec import Undecodable, decoder, encode
from crdtmed.ids import DeviceId
from crdtmed.limits import (
    MAX_CODE_CHARS,
    MAX_ENROLLED_BYTES,
    MAX_ENROLMENT_BYTES,
    MAX_LONG_TEXT_CHARS,
    MAX_ROTATIONS,
    MAX_SIGNED_VALUE_BYTES,
)
from crdtmed.signed import Ms, PublicKey, SealingKey, Text

ENROLMENT_PROOF_TAG: Final = b"crdtmed/enrolment/1"
CODE_NAME_CHARS: Final = 4
CODE_SECRET_CHARS: Final = 8


class Enrol(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="enrol"):
    """A device asks for a certificate; ``signature`` is its signing key's over `proof_body`."""

    protocol: int
    code: Annotated[str, msgspec.Meta(max_length=MAX_CODE_CHARS)]
    label: Text
    signing: PublicKey
    sealing: SealingKey
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]

    def __repr__(self) -> str:
        return f"Enrol(label={self.label!r})"  # never the code


class Enrolled(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="enrolled"):
    """The device's certificate, the identity key to pin, the relay keys in service, and a first lease."""

    device: DeviceId
    certificate: bytes
    identity: PublicKey
    relay_keys: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=MAX_ROTATIONS)]
    lease: Annotated[bytes, msgspec.Meta(max_length=MAX_SIGNED_VALUE_BYTES)]
    now: Ms


class NotEnrolled(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="not_enrolled"):
    """``code`` is ``code_wrong`` (unknown, used, expired or out of attempts: never said which), ``proof_wrong``,
    ``malformed``, ``protocol`` or ``busy``."""

    code: Text
    says: Annotated[str, msgspec.Meta(max_length=MAX_LONG_TEXT_CHARS)]


class BadEnrolment(ValueError):
    """Bytes are no such message; the message says what and where."""


_enrol = decoder(Enrol, MAX_ENROLMENT_BYTES)
_answer = decoder(Enrolled | NotEnrolled, MAX_ENROLLED_BYTES)  # type: ignore[arg-type]  # a union is no type to mypy


def proof_body(protocol: int, code: str, label: str, signing: bytes, sealing: bytes) -> bytes:
    """What the device signs under `ENROLMENT_PROOF_TAG`."""
    return encode((protocol, code, label, signing, sealing))


def read_enrol(data: bytes) -> Enrol:
    """The request in ``data``; raises `BadEnrolment` and nothing else."""
    try:
        return _enrol(data)
    except Undecodable as error:
        raise BadEnrolment(str(error)) from None


def read_answer(data: bytes) -> Enrolled | NotEnrolled:
    """The relay's answer in ``data``; raises `BadEnrolment` and nothing else."""
    try:
        return _answer(data)
    except Undecodable as error:
        raise BadEnrolment(str(error)) from None


def encode_message(message: Enrol | Enrolled | NotEnrolled) -> bytes:
    """The bytes of a message."""
    return encode(message)


_MISREAD: Final = str.maketrans({"0": "o", "1": "l", "8": "b", "-": None, " ": None})


def normal_code(typed: str) -> str:
    """A code as it was given out, from what somebody typed: any case, with or without hyphens; the alphabet has no 0, 1
    and 8, so these are read as the letters that they look like."""
    plain = typed.strip().lower().translate(_MISREAD)
    return "-".join(plain[at : at + 4] for at in range(0, len(plain), 4))
