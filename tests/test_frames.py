"""The protocol's frames: one schema under one version, one encoding a frame, and no bytes that raise anything else."""

import hashlib
import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtmed import signed
from crdtmed.limits import MAX_FRAME_BYTES, MAX_SUBSCRIPTIONS_PER_FRAME
from crdtmed.statement import Statement
from crdtmed.verdict import Verdict
from crdtmed.wire import enrolment, frames

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
            assert frames.encode_frame(found) == spoilt


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


def test_limits_are_those_of_the_frame() -> None:
    many = frames.Subscribe(tuple([frames.Want("d", "", 0)] * (MAX_SUBSCRIPTIONS_PER_FRAME + 1)))
    with pytest.raises(frames.BadFrame, match="length"):
        frames.read_from_device(frames.encode_frame(many))
    with pytest.raises(frames.BadFrame, match="too_large"):
        frames.read_from_device(bytes(MAX_FRAME_BYTES + 1))
