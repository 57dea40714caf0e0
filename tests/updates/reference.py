"""A second, plain implementation of the wire format, to hold the readers against.

It reads and writes structs of any shape that the format allows for byte buffers, deleted content and GC,
judges nothing, and knows nothing of limits.
"""

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Struct:
    """One struct. ``values`` is content "any" of buffers; without them it is deleted content or, as ``gc``,
    GC.
    """

    length: int
    values: tuple[bytes, ...] | None = None
    gc: bool = False
    keyed: bool = False
    key: str | None = None
    origin: tuple[int, int] | None = None
    right_origin: tuple[int, int] | None = None
    parent: str | None = None


@dataclass(frozen=True)
class Update:
    """Structs by client with the first clock, and deleted ranges by client, in the order of the wire."""

    clients: tuple[tuple[int, int, tuple[Struct, ...]], ...]
    deletes: tuple[tuple[int, tuple[tuple[int, int], ...]], ...] = field(default=())

    @property
    def spans(self) -> dict[int, tuple[int, int]]:
        return {c: (first, first + sum(s.length for s in structs)) for c, first, structs in self.clients}

    @property
    def values(self) -> dict[tuple[int, int], bytes]:
        out: dict[tuple[int, int], bytes] = {}
        for client, clock, structs in self.clients:
            for struct in structs:
                out.update({(client, clock + i): v for i, v in enumerate(struct.values or ())})
                clock += struct.length
        return out

    @property
    def deleted(self) -> set[tuple[int, int]]:
        return {(client, clock + i) for client, ranges in self.deletes for clock, n in ranges for i in range(n)}


def uint(value: int, padding: int = 0) -> bytes:
    """``value`` in base 128; ``padding`` adds bytes that do not change it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    for _ in range(padding):
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


def encode_struct(struct: Struct) -> bytes:
    if struct.gc:
        return b"\x00" + uint(struct.length)
    info = 1 if struct.values is None else 8
    place = b""
    if struct.origin:
        info |= 0x80
        place += uint(struct.origin[0]) + uint(struct.origin[1])
    if struct.right_origin:
        info |= 0x40
        place += uint(struct.right_origin[0]) + uint(struct.right_origin[1])
    if struct.keyed:
        info |= 0x20
    if struct.parent is not None:
        place += b"\x01" + uint(len(struct.parent)) + struct.parent.encode()
    if struct.key is not None:
        place += uint(len(struct.key.encode())) + struct.key.encode()
    if struct.values is None:
        return bytes([info]) + place + uint(struct.length)
    return bytes([info]) + place + uint(len(struct.values)) + b"".join(b"t" + uint(len(v)) + v for v in struct.values)


def encode(update: Update) -> bytes:
    out = [uint(len(update.clients))]
    for client, clock, structs in update.clients:
        out += [uint(len(structs)), uint(client), uint(clock), *map(encode_struct, structs)]
    out.append(uint(len(update.deletes)))
    for client, ranges in update.deletes:
        out += [uint(client), uint(len(ranges)), *(uint(clock) + uint(n) for clock, n in ranges)]
    return b"".join(out)


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        assert self.at + size <= len(self.data), "the bytes end"
        self.at += size
        return self.data[self.at - size : self.at]

    def uint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def text(self) -> str:
        return self.take(self.uint()).decode()

    def struct(self) -> Struct:
        info = self.take(1)[0]
        if info == 0:
            return Struct(self.uint(), gc=True)
        origin = (self.uint(), self.uint()) if info & 0x80 else None
        right = (self.uint(), self.uint()) if info & 0x40 else None
        parent = key = None
        if not info & 0xC0:
            assert self.uint() == 1, "the parent is not named"
            parent = self.text()
            key = self.text() if info & 0x20 else None
        placed = Struct(0, keyed=bool(info & 0x20), key=key, origin=origin, right_origin=right, parent=parent)
        if info & 0x1F == 1:
            return replace(placed, length=self.uint())
        assert info & 0x1F == 8, "other content"
        values = []
        for _ in range(self.uint()):
            assert self.take(1) == b"t", "not a buffer"
            values.append(self.take(self.uint()))
        return replace(placed, length=len(values), values=tuple(values))


def decode(data: bytes) -> Update:
    """The structs and deletes in ``data``; an `AssertionError` where they are of another shape."""
    cursor = _Cursor(data)
    clients = []
    for _ in range(cursor.uint()):
        count, client, clock = cursor.uint(), cursor.uint(), cursor.uint()
        clients.append((client, clock, tuple(cursor.struct() for _ in range(count))))
    deletes = []
    for _ in range(cursor.uint()):
        client, count = cursor.uint(), cursor.uint()
        deletes.append((client, tuple((cursor.uint(), cursor.uint()) for _ in range(count))))
    assert cursor.at == len(data), "bytes are left"
    return Update(tuple(clients), tuple(deletes))
