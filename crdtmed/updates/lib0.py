"""The integers of the Yjs wire format (lib0): little-endian base 128, seven bits a byte.

Readers take the bytes and an offset and give the value and the offset behind it, so that a payload is never
walked byte by byte.  Only the shortest form of an integer is read: a value has exactly one encoding.
"""


class Malformed(ValueError):
    """Bytes are not what the grammar allows; the only exception that readers of this package raise.

    ``reason`` is a stable code in snake case; ``at`` is the offset of the first byte that cannot be right.
    """

    def __init__(self, reason: str, at: int) -> None:
        super().__init__(f"{reason} at byte {at}: set the update aside, it was not made by a writer of this version")
        self.reason = reason
        self.at = at

    def __reduce__(self) -> tuple[type["Malformed"], tuple[str, int]]:
        return Malformed, (self.reason, self.at)


def read_uint(data: bytes, at: int, most: int) -> tuple[int, int]:
    """The integer at ``at``, at most ``most``, and the offset behind it.

    Raises `Malformed` (``too_big``, ``not_minimal``), and `IndexError` where the bytes end: a reader turns
    that into ``truncated`` once, at its top.
    """
    byte = data[at]
    if byte < 0x80:
        if byte > most:
            raise Malformed("too_big", at)
        return byte, at + 1
    start = at
    value = byte & 0x7F
    shift = 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        # Checked in the loop: a long run of continuation bytes costs no more than the largest integer does.
        if value > most or shift > 63:
            raise Malformed("too_big", start)
        if byte < 0x80:
            if byte == 0:
                raise Malformed("not_minimal", start)
            return value, at + 1
        shift += 7


def write_uint(value: int) -> bytes:
    """The shortest encoding of ``value``; raises `ValueError` when it is negative."""
    if 0 <= value < 0x80:
        return _ONE_BYTE[value]
    if value < 0:
        raise ValueError(f"{value} is negative: clients, clocks and lengths are not")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_ONE_BYTE = tuple(bytes((value,)) for value in range(0x80))
