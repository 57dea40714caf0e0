"""Signatures: deterministic, low s only, bound to their tag; and nothing that is malformed is ever an exception."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from crdtmed import keys
from crdtmed.keys import HALF_ORDER, P256_ORDER, BadKey, SoftwareSigner

SIGNER = SoftwareSigner.from_scalar(7)
TAG = b"crdtmed/test/1"
BODIES = st.binary(max_size=100)


def split(signature: bytes) -> tuple[int, int]:
    return int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")


def joined(r: int, s: int) -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@given(BODIES, st.integers(1, P256_ORDER - 1))
def test_what_is_signed_is_verified_and_always_signed_alike(body: bytes, scalar: int) -> None:
    signer = SoftwareSigner.from_scalar(scalar)
    signature = signer.sign(TAG, body)
    assert len(signature) == keys.SIGNATURE_BYTES
    assert len(signer.public) == keys.PUBLIC_KEY_BYTES
    assert keys.verify(signer.public, TAG, body, signature)
    assert signature == SoftwareSigner.from_scalar(scalar).sign(TAG, body)
    assert split(signature)[1] <= HALF_ORDER


@given(BODIES)
def test_the_other_signature_of_the_same_body_is_refused(body: bytes) -> None:
    r, s = split(SIGNER.sign(TAG, body))
    assert not keys.verify(SIGNER.public, TAG, body, joined(r, P256_ORDER - s))


@given(BODIES, st.integers(0, 63), st.integers(0, 7))
def test_a_changed_signature_is_refused(body: bytes, byte: int, bit: int) -> None:
    signature = bytearray(SIGNER.sign(TAG, body))
    signature[byte] ^= 1 << bit
    assert not keys.verify(SIGNER.public, TAG, body, bytes(signature))


@given(BODIES, BODIES)
def test_a_signature_is_for_one_body_tag_and_key(body: bytes, other: bytes) -> None:
    signature = SIGNER.sign(TAG, body)
    assert keys.verify(SIGNER.public, TAG, other, signature) is (body == other)
    assert not keys.verify(SIGNER.public, TAG + b"x", body, signature)
    assert not keys.verify(SIGNER.public, TAG[:-1], TAG[-1:] + body, signature)
    assert not keys.verify(SoftwareSigner.from_scalar(8).public, TAG, body, signature)


@pytest.mark.parametrize(
    ("r", "s"),
    [(0, 1), (1, 0), (0, 0), (P256_ORDER, 1), (1, P256_ORDER), (1, HALF_ORDER + 1), (2**256 - 1, 1), (1, 1)],
)
def test_numbers_out_of_range_are_no_signature(r: int, s: int) -> None:
    assert not keys.verify(SIGNER.public, TAG, b"", joined(r, s))


@given(st.binary(max_size=70), st.binary(max_size=70))
def test_no_bytes_raise(public: bytes, signature: bytes) -> None:
    assert not keys.verify(public, TAG, b"body", signature)
    assert not keys.verify(public, TAG, b"body", SIGNER.sign(TAG, b"body"))
    assert not keys.verify(SIGNER.public, TAG, b"body", signature)


@pytest.mark.parametrize(
    "public",
    [
        b"",
        b"\x00",
        b"\x04" + SIGNER.public[1:],
        b"\x02" + b"\xff" * 32,
        b"\x02" + bytes(31),
        SIGNER.public + b"\x00",
        bytes(33),
    ],
)
def test_bad_keys_verify_nothing_and_are_named(public: bytes) -> None:
    signature = SIGNER.sign(TAG, b"")
    assert not keys.verify(public, TAG, b"", signature)
    with pytest.raises(BadKey, match="P-256"):
        keys.check_public(public)


def test_a_good_key_passes() -> None:
    keys.check_public(SIGNER.public)


@pytest.mark.parametrize("scalar", [0, -1, P256_ORDER, P256_ORDER + 1])
def test_scalars_outside_the_group_make_no_key(scalar: int) -> None:
    with pytest.raises(BadKey):
        SoftwareSigner.from_scalar(scalar)


def test_another_curve_makes_no_signer() -> None:
    with pytest.raises(BadKey, match="secp384r1"):
        SoftwareSigner(ec.derive_private_key(7, ec.SECP384R1()))


def test_the_key_of_the_example_in_rfc_6979() -> None:
    """Appendix A.2.5: the private scalar and the public point on P-256."""
    scalar = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
    point = "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
    assert SoftwareSigner.from_scalar(scalar).public.hex() == "03" + point


@given(BODIES)
def test_the_signature_covers_tag_and_body_with_a_zero_between(body: bytes) -> None:
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), SIGNER.public)
    der = encode_dss_signature(*split(SIGNER.sign(TAG, body)))
    public.verify(der, TAG + bytes(1) + body, ec.ECDSA(SHA256()))
