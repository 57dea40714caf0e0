"""How a store keeps snapshots: compressed where that spares it pages, which are encrypted, flushed and decrypted."""

from typing import Final

from crdtmed.compression import BadCompression, compress, decompress
from crdtmed.limits import MAX_RELAY_UPDATE_BYTES

PACKED_FROM_BYTES: Final = 4_096
"""A snapshot of fewer bytes is on one page of the file either way."""


def packed(snapshot: bytes) -> tuple[bytes, bool]:
    """What is kept of a snapshot, and whether it is compressed."""
    small = compress(snapshot) if len(snapshot) >= PACKED_FROM_BYTES else None
    return (snapshot, False) if small is None else (small, True)


def unpacked(data: bytes, is_packed: bool) -> bytes:
    """The snapshot again; what does not decompress is given as it is kept: it is no update, and its reader says so."""
    if not is_packed:
        return data
    try:
        return decompress(data, MAX_RELAY_UPDATE_BYTES)
    except BadCompression:
        return data
