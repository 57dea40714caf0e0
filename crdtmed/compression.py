"""Bytes of the protocol, compressed: Zstandard (RFC 8878) with the dictionary of `crdtmed.dictionary`.

Every input stands for itself: there is no window from one to the next, so that one compression serves all who receive
the same, and an idle connection costs nothing.  Of the many forms that Zstandard allows, one is read: a single segment
that says its size in the fewest bytes, without magic number, checksum and dictionary id.  What the blocks in it hold is
the compressor's affair: two versions of it may write the same differently.
"""

import threading
from typing import Final

import zstandard

from crdtmed.dictionary import DICTIONARY
from crdtmed.limits import MAX_RATIO

MIN_BYTES: Final = 64
"""Fewer are not tried: a statement's signature alone has as many."""

_HEADS: Final = {0x20: (2, 0, 0), 0x60: (3, 256, 256), 0xA0: (5, 0, 65_792), 0xE0: (9, 0, 2**32)}
"""Descriptors of a single segment: where its size ends, from what it counts, and the least that needs so many bytes."""


class BadCompression(ValueError):
    """Bytes are not what `compress` gives.

    ``reason`` is ``too_large`` or ``not_compressed``; ``says`` tells what is wrong.
    """

    def __init__(self, reason: str, says: str) -> None:
        super().__init__(f"{reason}: {says}")
        self.reason = reason
        self.says = says


def _parameters() -> zstandard.ZstdCompressionParameters:
    return zstandard.ZstdCompressionParameters.from_level(
        1,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=1,
        write_checksum=0,
        write_dict_id=0,
        window_log=26,  # so that everything there is goes into a single segment
        hash_log=12,  # large frames in half the time, a hundredth larger
        min_match=5,
    )


_WORDS: Final = zstandard.ZstdCompressionDict(DICTIONARY, dict_type=zstandard.DICT_TYPE_FULLDICT)
_WORDS.precompute_compress(compression_params=_parameters())


class _Own(threading.local):
    """A thread's own compressor and decompressor: neither serves two at a time, and both are costly to make."""

    def __init__(self) -> None:
        self.compress = zstandard.ZstdCompressor(dict_data=_WORDS, compression_params=_parameters()).compress
        self.decompress = zstandard.ZstdDecompressor(
            dict_data=_WORDS, format=zstandard.FORMAT_ZSTD1_MAGICLESS
        ).decompress


_own: Final = _Own()


def compress(data: bytes) -> bytes | None:
    """``data`` in fewer bytes; None where that is not to be had, or more than `decompress` would give back."""
    size = len(data)
    if size < MIN_BYTES:
        return None
    made = _own.compress(data)
    return made if len(made) < size <= len(made) * MAX_RATIO else None


def size_of(data: bytes) -> int:
    """How many bytes `decompress` would give, as ``data`` says itself; raises `BadCompression`."""
    head = _HEADS.get(data[0]) if data else None
    if head is None or len(data) <= head[0]:
        raise BadCompression("not_compressed", "no single segment with its size, and nothing else, begins here")
    end, base, least = head
    size = int.from_bytes(data[1:end], "little") + base
    if size < least:
        raise BadCompression("not_compressed", f"the size {size} is written in {end - 1} bytes")
    return size


def decompress(data: bytes, most: int) -> bytes:
    """The at most ``most`` bytes that were compressed; raises `BadCompression` and nothing else.

    Nothing of their size is done before it is known to be within ``most`` and `MAX_RATIO`.
    """
    size = size_of(data)
    if size > most:
        raise BadCompression("too_large", f"{size} bytes, at most {most} are read")
    if not len(data) < size <= len(data) * MAX_RATIO or size < MIN_BYTES:
        raise BadCompression("not_compressed", f"{size} bytes in {len(data)}")
    try:
        return _own.decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BadCompression("not_compressed", str(error)) from None
