"""Decoding: one encoding for each value, and no bytes at all that raise, hang or cost more than a multiple of them."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crdtmed import signed, statement
from crdtmed.codec import Undecodable, check_value, decoder, encode
from crdtmed.limits import MAX_DEPTH, MAX_REGISTER_BYTES, MAX_STATEMENT_BYTES
from crdtmed.signed import Forged, Register
from crdtmed.statement import BadStatement
from crdtmed.verdict import decode_verdict
from tests.strategies import raw_values, statements


class Thing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model with what models have."""

    name: str
    counts: tuple[int, ...] = ()
    by_key: dict[str, int] = {}
    inner: "Thing | None" = None
    raw: bytes = b""


THINGS: st.SearchStrategy[Thing] = st.deferred(
    lambda: st.builds(
        Thing,
        st.text(max_size=5),
        st.lists(st.integers(-(2**63), 2**64 - 1), max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3), st.integers(0, 300), max_size=3),
        st.none() | THINGS,
        st.binary(max_size=5),
    )
)
MOST = 4_096
decode_thing = decoder(Thing, MOST)

# Bytes of input may cost this many times their number in memory, and at least this many bytes for the error itself.
MULTIPLE = 100
ERROR_BYTES = 20_000

READERS: dict[str, tuple[Callable[[bytes], object], type[Exception]]] = {
    "thing": (decode_thing, Undecodable),
    "value": (check_value, Undecodable),
    "statement": (lambda data: statement.decode(bytes(64) + data), BadStatement),
    "register": (lambda data: signed.read(Register, bytes(64) + data), Forged),
    "grant": (lambda data: signed.read(signed.Grant, bytes(64) + data), Forged),
    "verdict": (decode_verdict, Undecodable),
}

HOSTILE = {
    "array of four thousand million": b"\xdd\xff\xff\xff\xff",
    "map of four thousand million": b"\xdf\xff\xff\xff\xff",
    "array of a million": b"\xdd\x00\x10\x00\x00" + b"\xc0" * 100,
    "text of four gigabytes": b"\xdb\xff\xff\xff\xff",
    "bytes of four gigabytes": b"\xc6\xff\xff\xff\xff",
    "extension of four gigabytes": b"\xc9\xff\xff\xff\xff\x01",
    "deep arrays": b"\x91" * 4_000 + b"\xc0",
    "deep maps": b"\x81\xa1a" * 1_300 + b"\xc0",
    "deep arrays without an end": b"\x91" * 4_000,
    "huge arrays in each other": b"\xdd\xff\xff\xff\xff" * 800,
    "huge maps as keys": b"\xdf\xff\xff\xff\xff" * 800,
    "many empty arrays": b"\xdc\x0f\xa0" + b"\x90" * 4_000,
    "many empty maps": b"\xdc\x0f\xa0" + b"\x80" * 4_000,
    "an op code that means nothing": b"\xc1",
    "a time": b"\xd6\xff\x00\x00\x00\x00",
    "a time that does not exist": b"\xc7\x0c\xff\xff\xff\xff\xff" + b"\xff" * 8,
    "text that is no UTF-8": b"\xa2\xff\xfe",
    "nothing": b"",
}


def bodies() -> st.SearchStrategy[bytes]:
    """Bytes near to what is read: arbitrary, and valid ones that were changed, cut or joined."""
    valid = st.one_of(THINGS.map(encode), statements().map(lambda pair: encode(pair[0])), raw_values().map(bytes))

    @st.composite
    def mutated(draw: st.DrawFn) -> bytes:
        data = bytearray(draw(valid))
        for _ in range(draw(st.integers(1, 3))):
            at = draw(st.integers(0, max(0, len(data) - 1)))
            match draw(st.integers(0, 3)):
                case 0 if data:
                    data[at] ^= 1 << draw(st.integers(0, 7))
                case 1:
                    del data[at:]
                case 2:
                    data[at:at] = draw(st.binary(max_size=6) | st.sampled_from(list(HOSTILE.values())))
                case _:
                    data += draw(valid)
        return bytes(data)

    return st.binary(max_size=200) | valid | mutated()


def accepted(reader: str, data: bytes) -> bool:
    """Whether the reader takes the bytes; anything but its own error fails the test, and so does its memory."""
    read, error = READERS[reader]
    tracemalloc.start()
    try:
        read(data)
    except error:
        return False
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MULTIPLE * len(data) + ERROR_BYTES, f"{peak} bytes for {len(data)}"
    return True


@pytest.mark.parametrize("reader", READERS)
@given(bodies())
def test_no_bytes_raise_anything_but_the_declared_error_or_cost_more_than_a_multiple(reader: str, data: bytes) -> None:
    accepted(reader, data)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused(reader: str, name: str) -> None:
    plain = reader == "value" and name in ("many empty arrays", "many empty maps")
    assert accepted(reader, HOSTILE[name]) is plain


@given(THINGS)
def test_decoding_is_the_inverse_of_encoding(thing: Thing) -> None:
    if len(encode(thing)) <= MOST:
        assert decode_thing(encode(thing)) == thing


@given(bodies())
def test_what_is_read_has_no_other_encoding(data: bytes) -> None:
    try:
        thing = decode_thing(data)
    except Undecodable:
        return
    assert encode(thing) == data


def refused(act: Callable[[bytes], object], data: bytes) -> str:
    """The reason why the bytes are refused."""
    with pytest.raises(Undecodable) as error:
        act(data)
    assert str(error.value) == f"{error.value.reason}: {error.value.says}"
    return error.value.reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encode({"name": "a", "counts": []}), "not_canonical"),
        (encode({"counts": [1], "name": "a"}), "not_canonical"),
        (b"\x82" + encode("name") + encode("a") + encode("name") + encode("a"), "not_canonical"),
        (b"\x81" + encode("name") + b"\xd9\x01a", "not_canonical"),
        (b"\x82" + encode("name") + encode("a") + encode("counts") + b"\x91\xcc\x01", "not_canonical"),
        (b"\x82" + encode("name") + encode("a") + encode("by_key") + b"\x82\xa1k\x01\xa1k\x01", "not_canonical"),
        (encode({"name": "a", "other": 1}), "not_msgpack"),
        (encode({"name": 1}), "not_msgpack"),
        (encode({"name": "a", "counts": [1.0]}), "not_msgpack"),
        (encode({"name": "a", "counts": [True]}), "not_msgpack"),
        (encode({}), "not_msgpack"),
        (encode({"name": "a"}) + b"\xc0", "not_msgpack"),
        (encode({"name": "a"})[:-1], "not_msgpack"),
        (encode({"name": "a" * MOST}), "too_large"),
    ],
    ids=[
        *("default spelt out", "fields in another order", "field twice", "long form of text", "long form of integer"),
        *("key twice", "unknown field", "wrong type", "float for an integer", "boolean for an integer"),
        *("field missing", "trailing byte", "cut", "too large"),
    ],
)
def test_each_way_to_be_wrong_has_its_reason(data: bytes, reason: str) -> None:
    assert refused(decode_thing, data) == reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encode(1.5), "not_plain"),
        (encode([float("nan")]), "not_plain"),
        (encode({"a": float("inf")}), "not_plain"),
        (encode({1: 2}), "not_plain"),
        (b"\xd6\xff\x00\x00\x00\x00", "not_plain"),
        (b"\xd4\x05\x00", "not_plain"),
        (b"\x82\xa1a\x01\xa1a\x02", "not_canonical"),
        (b"\xcc\x01", "not_canonical"),
        (b"\xd9\x01a", "not_canonical"),
        (b"\x81\x91\x01\x01", "not_plain"),
        (b"\x01\x01", "not_msgpack"),
        (b"", "not_msgpack"),
    ],
)
def test_open_values_are_plain_and_canonical(data: bytes, reason: str) -> None:
    assert refused(check_value, data) == reason


@given(raw_values())
def test_plain_values_pass(value: msgspec.Raw) -> None:
    check_value(bytes(value))


def plain_by_definition(data: bytes) -> bool:
    """Whether bytes are the one encoding of a plain value, told value by value."""

    def plain(value: object, levels: int) -> bool:
        match value:
            case None | bool() | int() | str() | bytes():
                return True
            case list():
                return levels > 0 and all(plain(item, levels - 1) for item in value)
            case dict():
                return levels > 0 and all(type(key) is str and plain(value[key], levels - 1) for key in value)
            case _:
                return False

    try:
        value = msgspec.msgpack.decode(data)
    except (ValueError, OverflowError, RecursionError):
        return False
    return plain(value, MAX_DEPTH) and encode(value) == data


@example(b"\x92\xa1a\xc4\x01a")
@example(b"\xca\x00\x00\x00\x00")
@example(b"\x81\xc4\x01a\x01")
@example(b"\x81\x01\x01")
@example(b"\xd6\xff\x00\x00\x00\x00")
@given(bodies())
def test_a_value_passes_exactly_where_it_is_plain_and_canonical(data: bytes) -> None:
    try:
        check_value(data)
    except Undecodable:
        assert not plain_by_definition(data)
    else:
        assert plain_by_definition(data)


@example(900)
@example(MAX_DEPTH + 1)
@example(MAX_DEPTH)
@given(st.integers(0, MAX_STATEMENT_BYTES))
def test_nesting_ends_at_the_limit_for_arrays_and_maps_alike(depth: int) -> None:
    for level in (b"\x91", b"\x81\xa1a"):
        data = level * depth + b"\xc0"
        if depth <= MAX_DEPTH:
            check_value(data)
        else:
            assert refused(check_value, data) == "too_deep"


def deep(levels: int, act: Callable[[], Any]) -> Any:
    """What ``act`` gives where the stack is deep."""
    return act() if levels == 0 else deep(levels - 1, act)


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1, 500, 900])
def test_where_it_is_called_from_does_not_change_what_is_read(depth: int) -> None:
    def read() -> str:
        try:
            check_value(b"\x91" * depth + b"\xc0")
        except Undecodable as error:
            return error.reason
        return "read"

    assert read() == deep(600, read) == ("read" if depth <= MAX_DEPTH else "too_deep")


def test_the_limits_are_those_of_the_readers() -> None:
    for reader, most in (("statement", MAX_STATEMENT_BYTES - 64), ("register", MAX_REGISTER_BYTES)):
        read, error = READERS[reader]
        with pytest.raises(error, match=r"too_large|malformed") as refused_:
            read(bytes(most + 1))
        assert f"at most {most}" in str(refused_.value)
