"""The laws of `crdtmed.policies.server_authoritative`: only what is signed counts, and only newer replaces."""

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed.policies.server_authoritative import NIL, Alarm, Trouble, fold, is_withdrawn, newer
from crdtmed.signed import Forged, Register, seal, unseal
from tests.strategies import device

RELAY = device(100).signer
IMPOSTOR = device(101).signer
HERE = "patient/p-1"


def register(key: str, version: int, value: object, document: str = HERE, at: int = 0) -> Register:
    return Register(document, key, version, at, msgspec.Raw(msgspec.msgpack.encode(value)))


def opened(data: bytes) -> Register | None:
    try:
        return unseal(Register, data, RELAY.public)
    except Forged:
        return None


def registers() -> st.SearchStrategy[Register]:
    """Registers that often share key and version, some withdrawn, some of another document."""
    return st.builds(
        register,
        st.sampled_from("ab"),
        st.integers(0, 3),
        st.none() | st.integers(0, 1),
        st.sampled_from([HERE, HERE, HERE, "patient/p-2"]),
        st.integers(0, 1),
    )


def sealed() -> st.SearchStrategy[bytes]:
    """Signed registers, some by an impostor, and bytes that are none."""
    honest = registers().map(lambda one: seal(one, RELAY))
    return honest | honest | registers().map(lambda one: seal(one, IMPOSTOR)) | st.binary(max_size=80)


@given(st.lists(sealed(), max_size=12), st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(found: list[bytes], random: Random) -> None:
    shuffled = found + found[:3]
    random.shuffle(shuffled)
    one, other = fold(HERE, found, opened), fold(HERE, shuffled, opened)
    assert one == other
    assert list(one.current) == list(other.current) == sorted(one.current)


@given(st.lists(sealed(), max_size=12))
def test_what_stands_was_signed_for_this_document_and_nothing_signed_is_newer(found: list[bytes]) -> None:
    signed = [one for data in found if (one := opened(data)) is not None and one.document == HERE]
    folded = fold(HERE, found, opened)
    assert set(folded.current) == {one.key for one in signed}
    for key, stands in folded.current.items():
        rivals = [one for one in signed if one.key == key and one.version == stands.version]
        assert stands in rivals
        assert not any(one.version > stands.version for one in signed if one.key == key)
        assert msgspec.msgpack.encode(stands) == min(map(msgspec.msgpack.encode, rivals))


@given(st.lists(sealed(), max_size=12))
def test_alarms_name_exactly_what_an_honest_service_never_sends(found: list[bytes]) -> None:
    told = fold(HERE, found, opened).alarms
    assert list(told) == sorted(set(told))
    expected = set()
    for data in found:
        one = opened(data)
        if one is None:
            expected.add(Alarm(Trouble.NOT_AUTHENTIC, "", 0, data))
        elif one.document != HERE:
            expected.add(Alarm(Trouble.MISPLACED, one.key, one.version, data))
        elif any(
            other is not None
            and (other.document, other.key, other.version) == (HERE, one.key, one.version)
            and other != one
            for other in map(opened, found)
        ):
            expected.add(Alarm(Trouble.EQUIVOCAL, one.key, one.version, data))
    assert set(told) == expected


def test_one_value_signed_twice_is_no_equivocation() -> None:
    """An ECDSA signer may well sign one body in two ways."""
    said = register("k", 1, "x")
    folded = fold(HERE, [b"signed once", b"signed again"], lambda _: said)
    assert (folded.current, folded.alarms) == ({"k": said}, ())


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8))
def test_an_older_version_never_replaces_a_newer(versions: list[int]) -> None:
    folded = fold(HERE, [seal(register("k", version, version), RELAY) for version in versions], opened)
    assert folded.current["k"].version == max(versions)
    assert not folded.alarms


def test_a_withdrawn_register_stays_as_a_version() -> None:
    gone = register("k", 3, None)
    folded = fold(HERE, [seal(one, RELAY) for one in (register("k", 2, "old"), gone, register("j", 1, "x"))], opened)
    assert folded.current == {"j": register("j", 1, "x"), "k": gone}
    assert folded.live == {"j": register("j", 1, "x")}


@pytest.mark.parametrize(("value", "withdrawn"), [(None, True), (False, False), (0, False), ("", False), ({}, False)])
def test_only_nil_withdraws(value: object, withdrawn: bool) -> None:
    assert is_withdrawn(register("k", 1, value)) is withdrawn


def test_nil_is_the_encoding_of_none() -> None:
    assert msgspec.msgpack.encode(None) == NIL


@pytest.mark.parametrize(
    ("old", "new", "expected"), [(None, 0, True), (1, 0, False), (1, 1, False), (1, 2, True), (1, 9, True)]
)
def test_only_a_higher_version_is_newer(old: int | None, new: int, expected: bool) -> None:
    held = None if old is None else register("k", old, "x")
    assert newer(held, register("k", new, "y")) is expected
