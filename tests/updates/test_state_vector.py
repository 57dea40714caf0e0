from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycrdt import Doc, Map

from crdtmed.limits import MAX_CLIENT_ID, MAX_CLIENTS_PER_DOCUMENT, MAX_CLOCK
from crdtmed.updates import Malformed, read_state_vector, write_state_vector
from tests.updates.reference import uint

vectors = st.dictionaries(st.integers(0, MAX_CLIENT_ID), st.integers(1, MAX_CLOCK), max_size=8)


@given(vectors)
def test_reads_what_it_writes(clocks: dict[int, int]) -> None:
    assert read_state_vector(write_state_vector(clocks)) == clocks


@given(st.dictionaries(st.integers(0, MAX_CLIENT_ID), st.integers(1, 3), max_size=6))
def test_speaks_with_pycrdt(clocks: dict[int, int]) -> None:
    doc: Doc[Any] = Doc()
    for client, count in clocks.items():
        other: Doc[Any] = Doc(client_id=client)
        held: Map[Any] = other.get("m", type=Map)
        for index in range(count):
            held[f"{client}/{index}"] = b"x"
        doc.apply_update(other.get_update())
    assert read_state_vector(doc.get_state()) == clocks
    assert doc.get_update(write_state_vector(clocks)) == b"\x00\x00"


def test_leaves_out_who_has_said_nothing() -> None:
    assert write_state_vector({5: 0, 6: 1}) == bytes.fromhex("010601")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (b"\x01\x05", "truncated"),
        (b"\x00\x00", "trailing_bytes"),
        (b"\x01\x05\x00", "empty"),
        (b"\x02\x05\x01\x05\x02", "duplicate_client"),
        (b"\x01\x85\x00\x01", "not_minimal"),
        (b"\x01" + uint(MAX_CLIENT_ID + 1) + b"\x01", "too_big"),
        (b"\x01\x05" + uint(MAX_CLOCK + 1), "too_big"),
        (uint(MAX_CLIENTS_PER_DOCUMENT + 1), "too_big"),
    ],
)
def test_refuses(data: bytes, reason: str) -> None:
    with pytest.raises(Malformed) as caught:
        read_state_vector(data)
    assert caught.value.reason == reason


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        clocks = read_state_vector(data)
    except Malformed:
        return
    assert len(data) == len(write_state_vector(clocks))


@pytest.mark.parametrize("clocks", [{-1: 1}, {MAX_CLIENT_ID + 1: 1}, {1: -1}, {1: MAX_CLOCK + 1}])
def test_writes_only_what_it_reads(clocks: dict[int, int]) -> None:
    with pytest.raises(ValueError, match="outside"):
        write_state_vector(clocks)


def test_writes_no_more_clients_than_it_reads() -> None:
    with pytest.raises(ValueError, match="at most"):
        write_state_vector(dict.fromkeys(range(MAX_CLIENTS_PER_DOCUMENT + 1), 1))
