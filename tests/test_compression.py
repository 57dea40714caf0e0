"""Compression: what goes in comes out, one form is read, and nothing small becomes large in anybody's hands."""

import contextlib
import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtmed.compression import MIN_BYTES, BadCompression, compress, decompress, size_of
from crdtmed.dictionary import DICTIONARY, WORDS
from crdtmed.limits import MAX_RATIO

MOST = 100_000
STATISTICS = DICTIONARY[: -len(WORDS)]
REPEATED = st.builds(
    lambda parts, times, rest: b"".join(parts) * times + rest,
    st.lists(st.binary(min_size=1, max_size=40) | st.sampled_from([b"prescription", b"patient/p1/drafts"]), min_size=1),
    st.integers(1, 9),
    st.binary(max_size=60),
)
RLE = 1 << 1
"""A block of one byte, repeated (RFC 8878, 3.1.1.2)."""


def frame(descriptor: int, size: bytes, blocks: bytes) -> bytes:
    return bytes((descriptor,)) + size + blocks


def block(kind: int, size: int, content: bytes, last: bool = True) -> bytes:
    return (size << 3 | kind | last).to_bytes(3, "little") + content


def refused(data: bytes, reason: str = "not_compressed", most: int = MOST) -> None:
    with pytest.raises(BadCompression) as bad:
        decompress(data, most)
    assert bad.value.reason == reason
    assert bad.value.says


def test_the_dictionary_is_the_one_that_wires_and_databases_know() -> None:
    assert hashlib.sha256(DICTIONARY).hexdigest() == (
        "6d6ad9727cdd53dd31d0285ee6ed1c46bc336ebc648cd0b042ab36c14e589447"
    ), "what was compressed with another dictionary cannot be read any more: a new one stands beside it"
    assert DICTIONARY.endswith(WORDS)


@given(REPEATED | st.binary(max_size=300))
def test_what_goes_in_comes_out_and_is_smaller(data: bytes) -> None:
    made = compress(data)
    if made is not None:
        assert len(made) < len(data)
        assert size_of(made) == len(data)
        assert decompress(made, len(data)) == data
        refused(made, "too_large", len(data) - 1)


@pytest.mark.parametrize("size", [MIN_BYTES, 255, 256, 257, 65_791, 65_792, 65_793, 600_000, 3_000_000])
def test_every_size_is_written_in_one_way(size: int) -> None:
    word = b"\xa8document\xb1patient/\xacprescription"
    noise = hashlib.shake_256(b"noise").digest(size)
    data = b"".join(word + noise[at : at + 10] for at in range(0, size, 10))[:size]
    made = compress(data)
    assert made is not None
    assert decompress(made, size) == data
    blocks = made[2 if size < 256 else 3 if size < 65_792 else 5 :]
    if size < 65_792:
        refused(frame(0xA0, size.to_bytes(4, "little"), blocks), most=size)
    refused(frame(0xE0, size.to_bytes(8, "little"), blocks), most=size)
    assert zstandard.get_frame_parameters(b"\x28\xb5\x2f\xfd" + made).content_size == size


def test_what_does_not_pay_is_left() -> None:
    assert compress(b"") is None
    assert compress(bytes(MIN_BYTES - 1)) is None
    assert compress(hashlib.shake_256(b"noise").digest(5_000)) is None
    assert compress(bytes(100_000)) is None, "so small it would be refused"


@settings(max_examples=300)
@given(REPEATED, st.integers(0, 10**6), st.binary(max_size=4))
def test_bytes_that_were_spoilt_are_refused_or_within_bounds(data: bytes, at: int, spoil: bytes) -> None:
    made = compress(data) or data
    at %= len(made) + 1
    spoilt = made[:at] + spoil + made[at + len(spoil) :]
    try:
        found = decompress(spoilt, 2_000)
    except BadCompression:
        return
    assert len(spoilt) < len(found) <= min(2_000, len(spoilt) * MAX_RATIO)
    assert size_of(spoilt) == len(found)


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_within_bounds(data: bytes) -> None:
    for head in (b"", b"\x20\x50", b"\x60\x50\x00"):
        try:
            assert len(decompress(head + data, MOST)) <= len(head + data) * MAX_RATIO
        except BadCompression:
            continue


def test_little_never_becomes_much() -> None:
    bomb = b"".join(block(RLE, 100_000, b"\x00", last=at == 9) for at in range(10))
    refused(frame(0xA0, (1_000_000).to_bytes(4, "little"), bomb), "too_large")
    refused(frame(0xA0, (1_000_000).to_bytes(4, "little"), bomb), most=2_000_000)
    # What says too little of itself is found out by its blocks, and so is what says too much.
    refused(frame(0x60, (1_200 - 256).to_bytes(2, "little"), bomb))
    assert decompress(frame(0x20, b"\xc0", block(RLE, 192, b"x")), MOST) == b"x" * 192
    refused(frame(0x20, b"\xc0", block(RLE, 193, b"x")))
    refused(frame(0x20, b"\xc0", block(RLE, 191, b"x")))
    refused(frame(0x20, b"\xc1", block(RLE, 193, b"x")))


def test_one_form_alone_is_read() -> None:
    data = b"\xacprescription\xb0patient/p1/drafts" * 9
    made = compress(data)
    assert made is not None
    assert decompress(made, MOST) == data
    words = zstandard.ZstdCompressionDict(DICTIONARY, dict_type=zstandard.DICT_TYPE_FULLDICT)
    others = zstandard.ZstdCompressionDict(STATISTICS + WORDS[::-1], dict_type=zstandard.DICT_TYPE_FULLDICT)
    magicless = zstandard.FORMAT_ZSTD1_MAGICLESS

    def form(
        level: int = 1,
        dictionary: zstandard.ZstdCompressionDict | None = words,
        said: bytes = data,
        **options: int,
    ) -> bytes:
        options = {"format": magicless, "write_content_size": 1, "write_checksum": 0, "write_dict_id": 0, **options}
        parameters = zstandard.ZstdCompressionParameters.from_level(level, **options)
        return zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters).compress(said)

    assert decompress(form(level=5), MOST) == data, "how hard somebody tried is their affair"
    refused(form(write_checksum=1))
    refused(form(write_dict_id=1))
    refused(form(write_content_size=0))
    refused(form(format=zstandard.FORMAT_ZSTD1))
    refused(zstandard.ZstdCompressor(dict_data=words).compress(data))
    with contextlib.suppress(BadCompression):
        said = WORDS[::-1][1_000:1_400]
        assert decompress(form(dictionary=others, said=said), MOST) != said
    skippable = b"\x50\x2a\x4d\x18\x00\x00\x00\x00"
    for spoilt in (b"", made[:1], made[:-1], made + b"\x00", made + made, made + skippable, skippable + made):
        refused(spoilt)


def test_threads_do_not_disturb_each_other() -> None:
    noise = hashlib.shake_256(b"noise").digest(400_000)
    inputs = [noise[at * 9_000 :][:100_000] + b"prescription" * 10_000 for at in range(12)]
    expected = [compress(data) for data in inputs]

    def turn(_: int) -> list[bytes | None]:
        made = [compress(data) for data in inputs]
        assert [decompress(one, 1_000_000) for one in made if one is not None] == inputs
        return made

    with ThreadPoolExecutor(4) as pool:
        assert all(made == expected for made in pool.map(turn, range(8)))
