"""Identifiers: what is made is read, and everything else is refused by one pattern each."""

import re
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed import ids
from crdtmed.ids import DeviceId, GrantId, Ref, ScopeId, StatementId, UserId

DEVICES = st.binary(min_size=5, max_size=5).map(ids.device_id)
STATEMENTS = st.binary(min_size=10, max_size=10).map(ids.statement_id)


@given(st.binary(min_size=5, max_size=5), st.binary(min_size=10, max_size=10))
def test_ids_are_distinct_texts_of_their_bytes(device: bytes, statement: bytes) -> None:
    assert re.fullmatch("[a-z2-7]{8}", ids.device_id(device))
    assert re.fullmatch("[a-z2-7]{16}", ids.statement_id(statement))
    bits = "".join(f"{'abcdefghijklmnopqrstuvwxyz234567'.index(letter):05b}" for letter in ids.device_id(device))
    assert int(bits, 2).to_bytes(5, "big") == device


@pytest.mark.parametrize("size", [0, 4, 6, 9, 11])
def test_other_lengths_make_no_id(size: int) -> None:
    with pytest.raises(ValueError, match=f"5 bytes, not {size}"):
        ids.device_id(bytes(size))
    with pytest.raises(ValueError, match=f"10 bytes, not {size}"):
        ids.statement_id(bytes(size))


@given(st.integers(0, 2**44), st.binary(min_size=5, max_size=5), st.binary(min_size=5, max_size=5))
def test_fresh_ids_stand_in_the_order_of_their_times(at: int, one: bytes, other: bytes) -> None:
    def raw(text: str) -> int:
        return int("".join(f"{'abcdefghijklmnopqrstuvwxyz234567'.index(letter):05b}" for letter in text), 2)

    first, later = ids.fresh_id(at, one), ids.fresh_id(at + 1, other)
    assert msgspec.convert(first, StatementId) == first
    assert raw(first) < raw(later)
    assert (first[9:] == later[9:]) is (int.from_bytes(one, "big") % 2**35 == int.from_bytes(other, "big") % 2**35)
    with pytest.raises(ValueError, match="5 random bytes, not 6"):
        ids.fresh_id(at, one + b"x")
    assert re.fullmatch("[a-z2-7]{16}", ids.fresh_id(-1, one)), "a clock that stands before 1970 makes an id too"


@given(DEVICES, STATEMENTS)
def test_a_reference_comes_apart_into_what_it_was_made_of(device: str, statement: str) -> None:
    assert ids.split_ref(ids.ref(device, statement)) == (device, statement)
    assert msgspec.convert(ids.ref(device, statement), Ref) == ids.ref(device, statement)


@given(st.text(max_size=30) | st.from_regex(r"[a-z1-8]{7,9}\.?[a-z1-8]{15,17}\n?", fullmatch=True))
def test_what_is_no_reference_is_refused(text: str) -> None:
    if re.fullmatch(r"[a-z2-7]{8}\.[a-z2-7]{16}", text):
        assert ids.ref(*ids.split_ref(text)) == text
    else:
        with pytest.raises(ValueError, match="is no reference"):
            ids.split_ref(text)


@pytest.mark.parametrize(
    ("of", "tells", "good", "bad"),
    [
        (DeviceId, ids.is_device_id, "aaaaaaa2", ["", "aaaaaaa", "aaaaaaaaa", "AAAAAAAA", "aaaaaaa1", "aaaaaaaa\n"]),
        (StatementId, ids.is_statement_id, "a" * 16, ["a" * 15, "a" * 17, "a" * 15 + "8", "a" * 16 + "\n"]),
        (Ref, None, "a" * 8 + "." + "a" * 16, ["a" * 24, "a" * 8 + "-" + "a" * 16, "a" * 8 + "." + "a" * 16 + "\n"]),
        (UserId, ids.is_user_id, "eva.m-2_x", ["", "Eva", ".eva", "e" * 33, "eva/m", "eva\n"]),
        (
            GrantId,
            ids.is_grant_id,
            "eva/aaaaaaaa",
            ["eva", "/aaaaaaaa", "eva/aaa", "eva/aaaaaaaa/", "eva/aaaaaaaa\n", "E/aaaaaaaa"],
        ),
        (ScopeId, ids.is_scope_id, "ward-3", ["", "ward/3", "Ward", "-3", "w" * 33, "ward 3", "ward\n", "wärd"]),
    ],
)
def test_types_take_the_good_and_nothing_near_it(
    of: type[str], tells: Callable[[str], bool] | None, good: str, bad: list[str]
) -> None:
    assert msgspec.convert(good, of) == good
    assert tells is None or tells(good)
    for text in bad:
        assert tells is None or not tells(text)
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(text, of)


def test_a_grant_names_its_user() -> None:
    assert ids.user_of("eva.m/aaaaaaaa") == "eva.m"


@given(st.text(max_size=35))
def test_scope_ids_are_what_their_pattern_says(text: str) -> None:
    assert ids.is_scope_id(text) == bool(re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,31}", text))
