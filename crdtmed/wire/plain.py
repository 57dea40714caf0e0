"""What came over the wire, before it is read: plain MessagePack, or the same compressed."""

from typing import Final

from crdtmed.compression import BadCompression, decompress
from crdtmed.compression import size_of as compressed_size
from crdtmed.limits import MAX_RELAY_FRAME_BYTES

COMPRESSED: Final = b"\xc1"
"""The first byte of a compressed frame: the one that MessagePack never uses, and so begins no frame."""


class BadFrame(ValueError):
    """Bytes are no frame; ``reason`` is a stable code, the message says what and where."""

    def __init__(self, reason: str, says: str) -> None:
        super().__init__(f"{reason}: {says}")
        self.reason = reason
        self.says = says


def plain(data: bytes, most: int = MAX_RELAY_FRAME_BYTES) -> bytes:
    """The MessagePack, of at most ``most`` bytes, in what came over the wire; raises `BadFrame` and nothing else."""
    if data[:1] != COMPRESSED:
        return data
    try:
        return decompress(data[1:], most)
    except BadCompression as error:
        raise BadFrame(error.reason, error.says) from None


def size_of(data: bytes) -> int:
    """How many bytes `plain` has to handle, as far as can be told without doing so; raises nothing."""
    if data[:1] == COMPRESSED:
        try:
            return max(len(data), compressed_size(data[1:]))
        except BadCompression:
            return len(data)  # it will not be read
    return len(data)
