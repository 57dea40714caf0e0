import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed.updates.lib0 import Malformed, read_uint, write_uint
from tests.updates import reference

MOST = 2**53 - 1


@given(st.integers(0, MOST), st.binary(max_size=3), st.binary(max_size=3))
def test_reads_what_it_writes_wherever_it_stands(value: int, before: bytes, behind: bytes) -> None:
    data = before + write_uint(value) + behind
    assert read_uint(data, len(before), MOST) == (value, len(data) - len(behind))
    assert write_uint(value) == reference.uint(value)


@given(st.integers(0, MOST), st.integers(1, 4))
def test_refuses_a_longer_form(value: int, padding: int) -> None:
    with pytest.raises(Malformed) as caught:
        read_uint(b"\x05" + reference.uint(value, padding), 1, MOST)
    assert (caught.value.reason, caught.value.at) in {("not_minimal", 1), ("too_big", 1)}


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_refuses_exactly_what_exceeds_the_most(value: int, most: int) -> None:
    if value <= most:
        assert read_uint(write_uint(value), 0, most)[0] == value
    else:
        with pytest.raises(Malformed, match="too_big at byte 0"):
            read_uint(write_uint(value), 0, most)


def test_a_run_of_continuation_bytes_ends_early() -> None:
    # Zeros with the continuation bit never exceed any limit by value, so the length has to: before the bytes end.
    with pytest.raises(Malformed, match="too_big at byte 0"):
        read_uint(b"\x80" * 12, 0, MOST)


@given(st.integers(0, MOST))
def test_says_where_bytes_end(value: int) -> None:
    data = write_uint(value)
    for size in range(len(data)):
        with pytest.raises(IndexError):
            read_uint(data[:size], 0, MOST)


def test_writes_no_negative_number() -> None:
    with pytest.raises(ValueError, match="negative"):
        write_uint(-1)


def test_a_reason_survives_pickling() -> None:
    import pickle

    copy = pickle.loads(pickle.dumps(Malformed("gap", 7)))
    assert (copy.reason, copy.at, str(copy)) == ("gap", 7, str(Malformed("gap", 7)))
