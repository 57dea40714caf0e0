"""The other signed values: each type under a tag of its own, bounded, and forged in no way that is not seen."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed import clock, keys, signed
from crdtmed.codec import encode
from crdtmed.contract import Role
from crdtmed.signed import TAGS, Forged, Register, Signed
from tests.strategies import device, raw_values, statement_id

SIGNER, OTHER = device(1).signer, device(2).signer

MS = st.integers(0, clock.MAX_MS)
COUNTS = st.integers(0, 2**53 - 1)
TEXTS = st.text(max_size=20)
HASHES = st.binary(min_size=32, max_size=32)
DEVICES = st.integers(1, 4).map(lambda number: device(number).id)
KEYS = st.integers(1, 4).map(lambda number: device(number).signer.public)
EPOCHS = st.integers(0, 2**80 - 1).map(statement_id)

VALUES: dict[type[Any], st.SearchStrategy[Any]] = {
    signed.Register: st.builds(Register, TEXTS, TEXTS, COUNTS, MS, raw_values()),
    signed.Certificate: st.builds(signed.Certificate, DEVICES, KEYS, HASHES, TEXTS, MS),
    signed.Revocation: st.builds(signed.Revocation, DEVICES, MS, TEXTS, st.booleans()),
    signed.RelayKey: st.builds(signed.RelayKey, TEXTS, KEYS, MS, st.none() | MS),
    signed.KnowledgeInForce: st.builds(signed.KnowledgeInForce, TEXTS, MS),
    signed.IdentityRotation: st.builds(signed.IdentityRotation, KEYS, MS),
    signed.DirectoryHead: st.builds(signed.DirectoryHead, COUNTS, MS, HASHES),
    signed.Grant: st.builds(
        signed.Grant,
        st.just("eva/aaaaaaaa"),
        st.just("eva"),
        TEXTS,
        DEVICES,
        st.lists(st.sampled_from(Role), max_size=5).map(tuple),
        st.lists(st.sampled_from(["ward-3", "pharmacy"]), max_size=3).map(tuple),
        MS,
        MS,
    ),
    signed.Lease: st.builds(signed.Lease, DEVICES, COUNTS, MS, MS, MS, EPOCHS, st.binary(max_size=256)),
    signed.DocumentDigest: st.builds(signed.DocumentDigest, TEXTS, EPOCHS, COUNTS, MS, HASHES),
    signed.DocumentDigests: st.builds(
        signed.DocumentDigests,
        MS,
        st.lists(st.builds(signed.DigestOf, TEXTS, EPOCHS, COUNTS, HASHES), max_size=3).map(tuple),
    ),
}
every_type = pytest.mark.parametrize("of", list(TAGS), ids=lambda of: of.__name__)


def test_every_type_is_tested_and_has_a_tag_of_its_own() -> None:
    assert set(VALUES) == set(TAGS) == set(Signed.__args__)
    assert len(set(TAGS.values())) == len(TAGS)
    assert not any(tag in other for tag in TAGS.values() for other in TAGS.values() if tag is not other)


@every_type
@given(st.data())
def test_a_value_is_read_as_it_was_sealed(of: type[Any], data: st.DataObject) -> None:
    value = data.draw(VALUES[of])
    sealed = signed.seal(value, SIGNER)
    assert signed.unseal(of, sealed, SIGNER.public) == value == signed.read(of, sealed)
    assert sealed[keys.SIGNATURE_BYTES :] == encode(value)


@every_type
@given(st.data())
def test_what_is_tampered_with_is_refused(of: type[Any], data: st.DataObject) -> None:
    sealed = bytearray(signed.seal(data.draw(VALUES[of]), SIGNER))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Forged) as refused:
        signed.unseal(of, bytes(sealed), SIGNER.public)
    assert refused.value.reason in ("malformed", "bad_signature")
    assert of.__name__ in refused.value.says


@every_type
@given(st.data())
def test_another_key_is_no_authority(of: type[Any], data: st.DataObject) -> None:
    sealed = signed.seal(data.draw(VALUES[of]), OTHER)
    for public in (SIGNER.public, b"", bytes(33)):
        with pytest.raises(Forged) as refused:
            signed.unseal(of, sealed, public)
        assert refused.value.reason == "bad_signature"


@every_type
@given(st.data())
def test_a_signature_under_another_tag_is_none(of: type[Any], data: st.DataObject) -> None:
    body = encode(data.draw(VALUES[of]))
    for other, tag in TAGS.items():
        sealed = SIGNER.sign(tag, body) + body
        if other is of:
            assert signed.unseal(of, sealed, SIGNER.public)
        else:
            with pytest.raises(Forged):
                signed.unseal(of, sealed, SIGNER.public)


@every_type
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(of: type[Any], data: bytes) -> None:
    with pytest.raises(Forged):
        signed.unseal(of, data, SIGNER.public)


@every_type
@given(st.data())
def test_a_body_with_a_field_more_or_less_is_malformed(of: type[Any], data: st.DataObject) -> None:
    fields = msgspec.msgpack.decode(encode(data.draw(VALUES[of])))
    for body in (encode(fields[:-1]), encode([*fields, None]), encode(fields) + b"\xc0"):
        with pytest.raises(Forged) as refused:
            signed.unseal(of, SIGNER.sign(TAGS[of], body) + body, SIGNER.public)
        assert refused.value.reason == "malformed"


@pytest.mark.parametrize(
    "value",
    [
        Register("d", "k", -1, 0, msgspec.Raw(b"\xc0")),
        Register("d", "k", 1, 2**47, msgspec.Raw(b"\xc0")),
        Register("d" * 100, "k", 1, 0, msgspec.Raw(b"\xc0")),
        Register("d", "k" * 200, 1, 0, msgspec.Raw(b"\xc0")),
        Register("d", "k", 1, 0, msgspec.Raw(b"\xca" + bytes(4))),
        Register("d", "k", 1, 0, msgspec.Raw(b"\xcc\x01")),
        Register("d", "k", 1, 0, msgspec.Raw(encode(bytes(300_000)))),
        signed.IdentityRotation(b"short", 0),
        signed.DirectoryHead(1, 0, b"short"),
        signed.Grant("eva/aaaaaaaa", "Eva", "", device(1).id, (), (), 0, 0),
        signed.Grant("eva/aaaaaaaa", "eva", "", device(1).id, (), ("a/b",), 0, 0),
        signed.Grant("eva/aaaaaaaa", "eva", "", device(1).id, (), ("ward",) * 65, 0, 0),
        signed.Lease(device(1).id, 0, 0, 0, 0, statement_id(1), bytes(257)),
        signed.DocumentDigest("d", "no epoch", 0, 0, bytes(32)),
        signed.DocumentDigests(0, (signed.DigestOf("d", "no epoch", 0, bytes(32)),)),
        signed.DocumentDigests(0, (signed.DigestOf("d", statement_id(1), 0, bytes(32)),) * 257),
    ],
    ids=lambda value: type(value).__name__,
)
def test_nothing_is_sealed_that_a_reader_would_refuse(value: Signed) -> None:
    with pytest.raises(Forged) as refused:
        signed.seal(value, SIGNER)
    assert refused.value.reason == "malformed"
