"""Signatures: ECDSA on P-256 with SHA-256 (FIPS 186-5), raw ``r || s`` of 64 bytes, low s only.

Signing is deterministic (RFC 6979), so that nothing here needs randomness.  What is signed is always
``tag || 0x00 || body``: the tag names the type of the value, so that a signature for one is none for another.
"""

from functools import lru_cache
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from crdtmed.limits import KEPT_IDS

SIGNATURE_BYTES: Final = 64
PUBLIC_KEY_BYTES: Final = 33
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
HALF_ORDER: Final = P256_ORDER // 2

_SIGN: Final = ec.ECDSA(SHA256(), deterministic_signing=True)
_VERIFY: Final = ec.ECDSA(SHA256())


SCALAR_SEED_BYTES: Final = 40
"""Random bytes for a private scalar: 64 bits more than the order has, so that the remainder is even (FIPS 186-5,
A.2.1)."""


def private_scalar(seed: bytes) -> int:
    """A private scalar in 1..n-1 from `SCALAR_SEED_BYTES` random bytes; raises `ValueError` for fewer."""
    if len(seed) < SCALAR_SEED_BYTES:
        raise ValueError(f"a scalar is made of {SCALAR_SEED_BYTES} random bytes, not {len(seed)}")
    return 1 + int.from_bytes(seed, "big") % (P256_ORDER - 1)


class Signer(Protocol):
    """Something that signs and never shows its key: a key file, a TPM, a secure element."""

    @property
    def public(self) -> bytes:
        """The public key, a compressed SEC 1 point of 33 bytes."""

    def sign(self, tag: bytes, body: bytes) -> bytes:
        """64 bytes over ``tag || 0x00 || body``."""


class BadKey(ValueError):
    """Bytes are not a P-256 key; the message says what is expected."""


class SoftwareSigner:
    """A `Signer` whose key is in memory."""

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        if not isinstance(private.curve, ec.SECP256R1):
            raise BadKey(f"the key is on {private.curve.name}, P-256 is expected")
        self._private = private
        self._public = private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)

    @classmethod
    def from_scalar(cls, scalar: int) -> "SoftwareSigner":
        """The signer of a private scalar in 1..n-1; raises `BadKey` outside."""
        if not 1 <= scalar < P256_ORDER:
            raise BadKey("a private scalar lies in 1..n-1")
        return cls(ec.derive_private_key(scalar, ec.SECP256R1()))

    @property
    def public(self) -> bytes:
        return self._public

    def sign(self, tag: bytes, body: bytes) -> bytes:
        r, s = decode_dss_signature(self._private.sign(tag + b"\x00" + body, _SIGN))
        return r.to_bytes(32, "big") + min(s, P256_ORDER - s).to_bytes(32, "big")


@lru_cache(maxsize=KEPT_IDS)
def _load(public: bytes) -> ec.EllipticCurvePublicKey:
    if len(public) != PUBLIC_KEY_BYTES or public[0] not in (2, 3):
        raise BadKey(f"a public key is a compressed P-256 point of {PUBLIC_KEY_BYTES} bytes")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
    except ValueError:
        raise BadKey("the bytes are not a point of P-256") from None


def check_public(public: bytes) -> None:
    """Raises `BadKey` unless ``public`` is a compressed point of P-256."""
    _load(public)


def verify(public: bytes, tag: bytes, body: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is the low-s signature of ``tag || 0x00 || body`` under ``public``.

    False for anything malformed, a bad key included; never an exception.  Gives up the interpreter lock meanwhile.
    """
    if len(signature) != SIGNATURE_BYTES:
        return False
    r = int.from_bytes(signature[:32], "big")
    s = int.from_bytes(signature[32:], "big")
    if not (0 < r < P256_ORDER and 0 < s <= HALF_ORDER):
        return False
    try:
        _load(public).verify(encode_dss_signature(r, s), tag + b"\x00" + body, _VERIFY)
    except (InvalidSignature, BadKey):
        return False
    return True
