"""How bytes are kept: statements without what their rows say anyway, and compressed where that makes them smaller.

A statement's body starts with version, kind, id, document and device; id, document and device are columns of the row,
so they are cut out of the bytes and put back in when the statement is read.  Where a statement names another document
than the one it was pushed into, it is kept whole.  Behind the signature, whose bytes are as good as random, follows
one of three: a body, which begins with `_BODY`; the rest of one, which begins with its kind; or that rest compressed
(`crdtmed.compression`), which begins with a byte that is neither.
"""

from collections.abc import Callable
from typing import Final

from crdtmed.compression import BadCompression, compress, decompress
from crdtmed.ids import ref, split_ref
from crdtmed.keys import SIGNATURE_BYTES
from crdtmed.limits import MAX_RELAY_UPDATE_BYTES, MAX_STATEMENT_BYTES
from crdtmed.statement import VERSION, SignedStatement

_BODY: Final = 0x9B
"""A MessagePack array of eleven, as every body begins."""
_WHOLE: Final = bytes((_BODY,))
_ID_BYTES: Final = 17
_DEVICE_BYTES: Final = 9
_KINDS: Final = 0x20
"""Every kind is less; compressed bytes begin with this or more."""
_PLAIN: Final = b"\x00"
"""What stands before an update that is kept as it is."""
_DEVICE_ID_BYTES: Final = 5
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
    kept = encoded[SIGNATURE_BYTES + 2 : SIGNATURE_BYTES + 3] + encoded[rest:]
    return encoded[:SIGNATURE_BYTES] + (compress(kept) or kept)


def unpack(data: bytes, sid: bytes, target: str, device: str) -> bytes:
    """The statement's exact bytes again; ``sid`` are the bytes of its id."""
    return unpacker(target, device)(data, sid)


def unpacker(target: str, device: str) -> Callable[[bytes, bytes], bytes]:
    """`unpack` for many statements of one author in one document; takes the kept bytes and the raw id.

    What is broken is given as it is kept: it is no statement, and whoever reads it says so.
    """
    middle = _text(target) + b"\xa8" + device.encode("ascii")
    head = bytes((_BODY, VERSION))

    def exact(data: bytes, sid: bytes) -> bytes:
        kept = data[SIGNATURE_BYTES:]
        if kept[:1] in (_WHOLE, b""):
            return data
        if kept[0] >= _KINDS:
            try:
                kept = decompress(kept, MAX_STATEMENT_BYTES)
            except BadCompression:
                return data
        return b"".join(
            (data[:SIGNATURE_BYTES], head, kept[:1], b"\xb0", text_id(sid).encode("ascii"), middle, kept[1:])
        )

    return exact


def pack_update(update: bytes) -> bytes:
    """What is kept of an update that the relay wrote."""
    return compress(update) or _PLAIN + update


def unpack_update(data: bytes) -> bytes:
    """The update again; what is broken is given as it is kept, and is no update."""
    if data[:1] == _PLAIN:
        return data[1:]
    try:
        return decompress(data, MAX_RELAY_UPDATE_BYTES)
    except BadCompression:
        return data


def raw_ref(text: str) -> bytes:
    """The fifteen bytes of a reference."""
    device, sid = split_ref(text)
    return int(device.translate(_DIGITS), 32).to_bytes(_DEVICE_ID_BYTES, "big") + raw_id(sid)


def text_ref(raw: bytes) -> str:
    """The reference of fifteen bytes."""
    number = int.from_bytes(raw[:_DEVICE_ID_BYTES], "big")
    device = "".join([_PAIRS[number >> shift & 1023] for shift in (30, 20, 10, 0)])
    return ref(device, text_id(raw[_DEVICE_ID_BYTES:]))
