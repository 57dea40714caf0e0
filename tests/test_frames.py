"""The protocol's frames: one schema under one version, one encoding a frame, and no bytes that raise anything else."""

import hashlib
import json
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtmed import signed
from crdtmed.codec import encode
from crdtmed.compression import compress
from crdtmed.limits import MAX_FRAME_BYTES, MAX_SUBSCRIPTIONS_PER_FRAME
from crdtmed.statement import Statement
from crdtmed.verdict import Verdict
from crdtmed.wire import enrolment, frames
from crdtmed.wire.plain import COMPRESSED, plain, size_of

FINGERPRINTS = {
    1: "3abb5595279bc8c74fdf781a5009f5f8e7cd09ff7ae9df957929d71ff89336e9",
    2: "c1454018ca087b40dad04b72f1afe4cc1da497061dcac8321dedc1c43a0a1032",
}
"""What the schema of each version was.  A change of a frame needs a new line here, and `frames.PROTOCOL` raised."""

TO_RELAY: tuple[type[Any], ...] = get_args(frames.ToRelay)
TO_DEVICE: tuple[type[Any], ...] = get_args(frames.ToDevice)
VALUES: tuple[type[Any], ...] = (Statement, Verdict, *get_args(signed.Signed))


def schema() -> str:
    """Everything that goes over the wire: names, fields in their order, types and limits; no prose."""
    types = [*TO_RELAY, *TO_DEVICE, *VALUES, enrolment.Enrol, enrolment.Enrolled, enrolment.NotEnrolled]
    _, components = msgspec.json.schema_components(types, ref_template="{name}")
    return json.dumps(_without_prose(components), sort_keys=True)


def _without_prose(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_prose(held) for key, held in value.items() if key not in ("description", "title")}
    if isinstance(value, list):
        return [_without_prose(held) for held in value]
    return value


def test_a_frame_changes_with_the_version_of_the_protocol_or_not_at_all() -> None:
    found = hashlib.sha256(schema().encode()).hexdigest()
    assert FINGERPRINTS[frames.PROTOCOL] == found, (
        f"the schema of protocol {frames.PROTOCOL} is {found}: if a frame changed since that version was in use, "
        "raise PROTOCOL and add the line; never change the line of a version that devices speak"
    )


def test_names_of_frames_are_distinct_on_each_side() -> None:
    for side in (TO_RELAY, TO_DEVICE):
        tags = [each.__struct_config__.tag for each in side]
        assert len(set(tags)) == len(tags)


def test_the_fingerprint_sees_names_orders_and_limits() -> None:
    class Push(msgspec.Struct, array_like=True, tag="push"):
        document: str
        update: bytes

    class Swapped(msgspec.Struct, array_like=True, tag="push"):
        update: bytes
        document: str

    def one(of: type[Any]) -> str:
        _, components = msgspec.json.schema_components([of], ref_template="{name}")
        return json.dumps(_without_prose(components), sort_keys=True).replace("Swapped", "Push")

    assert one(Push) != one(Swapped)


BYTES = st.binary(max_size=40)
WANT = st.builds(frames.Want, st.text(max_size=20), st.sampled_from(["", "a" * 16]), st.integers(0, 2**53 - 1))
SAMPLES = st.one_of(
    st.builds(frames.Hello, st.integers(0, 9), st.just("abcdefgh"), st.binary(min_size=16, max_size=16)),
    st.builds(frames.Push, st.text(max_size=20), BYTES),
    st.builds(frames.Subscribe, st.lists(WANT, max_size=4).map(tuple)),
    st.builds(frames.HandOver, st.lists(BYTES, max_size=4).map(tuple)),
    st.builds(frames.SignIn, st.just("vera"), st.text(max_size=9), st.none() | st.text(max_size=9)),
)


@given(SAMPLES)
def test_a_frame_is_read_as_it_was_written(frame: frames.ToRelay) -> None:
    assert frames.read_from_device(frames.encode_frame(frame)) == frame


@settings(max_examples=300)
@given(SAMPLES, st.integers(0, 10**6), st.binary(max_size=4))
def test_what_is_read_has_one_encoding_and_nothing_else_is_raised(frame: frames.ToRelay, at: int, spoil: bytes) -> None:
    data = frames.encode_frame(frame)
    at %= len(data) + 1
    spoilt = data[:at] + spoil + data[at + len(spoil) :]
    for read in (frames.read_from_device, frames.read_from_relay):
        found: frames.ToRelay | frames.ToDevice | frames.BadFrame
        try:
            found = read(spoilt)
        except frames.BadFrame as bad:
            found = bad
        if isinstance(found, frames.BadFrame):
            assert found.reason
            assert found.says
        else:
            assert encode(found) == plain(spoilt)
            assert size_of(spoilt) == max(len(spoilt), len(plain(spoilt)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x91\xa5hello",
        b"\x94\xa5hello\x01\xa8abcdefgh\xc4\x10" + b"n" * 16 + b"\x00",
        b"\x95\xa5hello\x01\xa8abcdefgh\xc4\x10" + b"n" * 16 + b"\x00",
        b"\x94\xa5hello\xd0\x01\xa8abcdefgh\xc4\x10" + b"n" * 16,
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 2_000,
    ],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(frames.BadFrame):
        frames.read_from_device(data)


SAYS = tuple(b"\xacprescription\xa8document\xb1patient/p%d/drafts" % at for at in range(4))
REPETITIVE: tuple[frames.ToRelay | frames.ToDevice, ...] = (
    frames.Subscribe(tuple(frames.Want(f"patient/p{at}/drafts", "", 0) for at in range(9))),
    frames.Unsubscribe(tuple(f"patient/p{at}/drafts" for at in range(9))),
    frames.Push("patient/p1/drafts", b"".join(SAYS)),
    frames.Request(b"".join(SAYS)),
    frames.AskVerdicts(tuple(f"abcdefgh.{'abcdefg' + 'abcdefghi'[at:] + 'abcdefghi'[:at]}" for at in range(9))),
    frames.HandBack("patient/p1/drafts", SAYS),
    frames.HandOver(SAYS),
    frames.Bases((frames.BaseState("patient/p1/drafts", "a" * 16, 1, b"".join(SAYS)),), b"", 0),
    frames.Changes((frames.Run("patient/p1/drafts", "a" * 16, 1, SAYS),)),
    frames.Verdicts(1, SAYS),
)
SECRET: tuple[frames.ToRelay | frames.ToDevice, ...] = (
    frames.SignIn("vera", "a password " * 20, "1234" * 16),
    frames.SignedIn(b"".join(SAYS)),
    frames.Roster("ward", (frames.SealedGrant("vera", "Vera", b"".join(SAYS), b"", b""),)),
    frames.LeaseGiven(1, b"".join(SAYS)),
    frames.Welcome(1, b"".join(SAYS), 1, 1, 1),
    frames.Challenges((bytes(16),) * 16, 1),
    frames.Challenge(1, bytes(16), bytes(64), b"".join(SAYS)),
    frames.Hello(1, "abcdefgh", bytes(16)),
    frames.Proof(bytes(64), 1, 1),
    frames.Wiped("abcdefgh", 1, 1, bytes(64)),
    frames.Revoked(b"".join(SAYS), hand_over=True),
    frames.Bye("code", "says " * 50),
)


def readers(frame: frames.ToRelay | frames.ToDevice) -> Callable[[bytes], object]:
    return frames.read_from_device if isinstance(frame, TO_RELAY) else frames.read_from_relay


@pytest.mark.parametrize("frame", REPETITIVE, ids=lambda frame: type(frame).__name__)
def test_documents_and_statements_are_compressed(frame: frames.ToRelay | frames.ToDevice) -> None:
    data = frames.encode_frame(frame)
    assert data[:1] == COMPRESSED
    assert len(data) < len(encode(frame)) == size_of(data)
    assert readers(frame)(data) == readers(frame)(encode(frame)) == frame
    assert plain(data) == plain(encode(frame)) == encode(frame)
    for spoilt in (data + b"\x00", data[:-1], data + data, COMPRESSED, COMPRESSED + data):
        with pytest.raises(frames.BadFrame):
            readers(frame)(spoilt)
        assert size_of(spoilt) >= len(spoilt)


@pytest.mark.parametrize("frame", SECRET, ids=lambda frame: type(frame).__name__)
def test_secrets_and_handshakes_are_never_compressed(frame: frames.ToRelay | frames.ToDevice) -> None:
    data = frames.encode_frame(frame)
    assert data == encode(frame)
    small = compress(data)
    if small is not None:
        with pytest.raises(frames.BadFrame, match="not_compressible"):
            readers(frame)(COMPRESSED + small)


def test_every_frame_either_may_be_compressed_or_not() -> None:
    assert {type(frame) for frame in REPETITIVE} == frames.COMPRESSIBLE
    assert not {type(frame) for frame in SECRET} & frames.COMPRESSIBLE


def test_no_frame_begins_as_a_compressed_one() -> None:
    for data in (b"\xc1", b"\xc1\x91\xa5hello", b"\xc1" + encode(frames.Hello(1, "abcdefgh", bytes(16)))):
        with pytest.raises(frames.BadFrame, match="not_compressed"):
            frames.read_from_device(data)
    assert {encode(frame)[0] & 0xF0 for frame in (*REPETITIVE, *SECRET)} == {0x90}


def test_what_a_small_frame_becomes_is_bounded_before_anything_is_done() -> None:
    declared = COMPRESSED + b"\xa0" + (MAX_FRAME_BYTES + 1).to_bytes(4, "little") + bytes(60_000)
    with pytest.raises(frames.BadFrame, match="too_large"):
        frames.read_from_device(declared)
    assert size_of(declared) == MAX_FRAME_BYTES + 1
    with pytest.raises(frames.BadFrame, match="not_compressed"):
        frames.read_from_relay(declared)


def test_limits_are_those_of_the_frame() -> None:
    many = frames.Subscribe(tuple([frames.Want("d", "", 0)] * (MAX_SUBSCRIPTIONS_PER_FRAME + 1)))
    with pytest.raises(frames.BadFrame, match="length"):
        frames.read_from_device(frames.encode_frame(many))
    with pytest.raises(frames.BadFrame, match="too_large"):
        frames.read_from_device(bytes(MAX_FRAME_BYTES + 1))
