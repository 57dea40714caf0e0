"""How a statement is kept: its exact bytes without what its row says anyway.

A statement's body starts with version, kind, id, document and device; id, document and device are columns of the row,
so they are cut out of the bytes and put back in when the statement is read.  Where a statement names another document
than the one it was pushed into, it is kept whole.
"""

from collections.abc import Callable
from typing import Final

from crdtmed.contract import Kind
from crdtmed.keys import SIGNATURE_BYTES
from crdtmed.statement import VERSION, SignedStatement

_BODY: Final = 0x9B
"""A MessagePack array of eleven, as every body begins."""
_ID_BYTES: Final = 17
_DEVICE_BYTES: Final = 9
_PACKED_REST: Final = SIGNATURE_BYTES + 1
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
_DIGITS: Final = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")
_PAIRS: Final = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_SHIFTS: Final = tuple(range(70, -1, -10))


def raw_id(text: str) -> bytes:
    """The ten bytes of a statement id."""
    return int(text.translate(_DIGITS), 32).to_bytes(10, "big")


def text_id(raw: bytes) -> str:
    """The statement id of ten bytes."""
    number = int.from_bytes(raw, "big")
    return "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])


def _text(value: str) -> bytes:
    raw = value.encode("ascii")
    return bytes((0xA0 | len(raw),)) + raw if len(raw) < 32 else bytes((0xD9, len(raw))) + raw


def pack(signed: SignedStatement, target: str) -> bytes:
    """What is kept of a statement in a row whose document's target is ``target``."""
    encoded = signed.encoded
    if signed.statement.document != target:
        return encoded
    document = SIGNATURE_BYTES + 3 + _ID_BYTES
    rest = document + len(_text(target)) + _DEVICE_BYTES
    return encoded[:SIGNATURE_BYTES] + encoded[SIGNATURE_BYTES + 2 : SIGNATURE_BYTES + 3] + encoded[rest:]


def unpack(data: bytes, sid: bytes, target: str, device: str) -> bytes:
    """The statement's exact bytes again; ``sid`` are the bytes of its id."""
    return unpacker(target, device)(data, sid)


def unpacker(target: str, device: str) -> Callable[[bytes, bytes], bytes]:
    """`unpack` for many statements of one author in one document; takes the kept bytes and the raw id."""
    middle = _text(target) + b"\xa8" + device.encode("ascii")
    head = bytes((_BODY, VERSION))

    def exact(data: bytes, sid: bytes) -> bytes:
        if data[SIGNATURE_BYTES] == _BODY:
            return data
        return b"".join(
            (
                data[:SIGNATURE_BYTES],
                head,
                data[SIGNATURE_BYTES:_PACKED_REST],
                b"\xb0",
                text_id(sid).encode("ascii"),
                middle,
                data[_PACKED_REST:],
            )
        )

    return exact


def kind_in(data: bytes) -> Kind:
    """The kind of a kept statement, without reading the rest."""
    first = data[SIGNATURE_BYTES]
    return Kind(data[SIGNATURE_BYTES + 2] if first == _BODY else first)
