"""How bytes are kept: statements without what their rows say anyway, and compressed where that makes them smaller.

A statement's body starts with version, kind, id, document and device; id, document and device are columns of the row,
so they are cut out of the bytes and put back in when the statement is read.  Where a statement names another document
than the one it was pushed into, it is kept whole.  Behind the signature, whose bytes are as good as random, follows
one of four: a body, which begins with `_BODY`; the rest of one, which begins with its kind; that rest compressed with
the protocol's words (`crdtmed.compression`), which begins with a byte that is neither; or, behind `_LIKE`, deflated
(RFC 1951) with the words of its client: what one device says in one document is mostly what it said there first.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Final

from crdtmed.compression import BadCompression, compress, decompress
from crdtmed.ids import ref, split_ref
from crdtmed.keys import SIGNATURE_BYTES
from crdtmed.limits import MAX_RELAY_UPDATE_BYTES, MAX_STATEMENT_BYTES, MAX_WORDS_BYTES
from crdtmed.statement import VERSION, SignedStatement

_BODY: Final = 0x9B
"""A MessagePack array of eleven, as every body begins."""
_WHOLE: Final = bytes((_BODY,))
_ID_BYTES: Final = 17
_SHORT: Final = 32
"""A text of fewer bytes has one byte before it, any other of ours two."""
_DEVICE_BYTES: Final = 9
_KINDS: Final = 0x20
"""Every kind is less; compressed bytes begin with this or more."""
_LIKE: Final = b"\x1f"
"""No kind, and less than what compressed bytes begin with."""
_WINDOW: Final = 11
"""Bits: 2 KB, so that a statement like the words reaches all of them."""
_CLOSE: Final = 64
"""A statement that takes more bytes in its client's words is tried with the protocol's too."""
_PLAIN: Final = b"\x00"
"""What stands before an update that is kept as it is."""
_DEVICE_ID_BYTES: Final = 5
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
_DIGITS: Final = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")
_PAIRS: Final = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_SHIFTS: Final = tuple(range(70, -1, -10))
_PAD: Final = bytes(6)
"""What makes the ten bytes of an id sixteen, one for each of its characters."""


def raw_id(text: str) -> bytes:
    """The ten bytes of a statement id."""
    return int(text.translate(_DIGITS), 32).to_bytes(10, "big")


def text_id(raw: bytes) -> str:
    """The statement id of ten bytes."""
    number = int.from_bytes(raw, "big")
    return "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])


_AT_ONCE: Final = 256
"""Ids that are spelt out in one go; numbers of their size are still quick to handle."""


def _lanes(bits: int, width: int) -> int:
    """Ones in the low ``bits`` of every ``width`` bits, for `_AT_ONCE` ids of 128 bits each."""
    return int.from_bytes(((1 << bits) - 1).to_bytes(width // 8, "big") * (_AT_ONCE * 128 // width), "big")


_HALVINGS: Final = tuple(
    (low, low << bits, half - bits)
    for bits, half in ((40, 64), (20, 32), (10, 16), (5, 8))
    for low in (_lanes(bits, 2 * half),)
)
"""For ever smaller parts of an id: the mask of its low half, of its high half, and how far that has to move."""
_LETTERS: Final = _ALPHABET.encode("ascii") + bytes(256 - len(_ALPHABET))


def text_ids(raws: Sequence[bytes]) -> list[bytes]:
    """The statement ids of ten bytes each, as ASCII; for many it takes a tenth of what `text_id` does.

    All of them are one number, in which each id is halved, and its halves moved apart, until every byte holds the five
    bits of one character.
    """
    made: list[bytes] = []
    for first in range(0, len(raws), _AT_ONCE):
        part = raws[first : first + _AT_ONCE]
        number = int.from_bytes(b"".join([_PAD + raw for raw in part]), "big")
        for low, high, by in _HALVINGS:
            number = number & low | (number & high) << by
        letters = number.to_bytes(16 * len(part), "big").translate(_LETTERS)
        made += [letters[at : at + 16] for at in range(0, len(letters), 16)]
    return made


def _text(value: str) -> bytes:
    raw = value.encode("ascii")
    return bytes((0xA0 | len(raw),)) + raw if len(raw) < _SHORT else bytes((0xD9, len(raw))) + raw


def _rest(signed: SignedStatement, target: str) -> bytes:
    """What a row whose document's target is ``target`` does not say of a body."""
    encoded = signed.encoded
    size = len(target)
    rest = SIGNATURE_BYTES + 3 + _ID_BYTES + (1 if size < _SHORT else 2) + size + _DEVICE_BYTES
    return encoded[SIGNATURE_BYTES + 2 : SIGNATURE_BYTES + 3] + encoded[rest:]


def words_of(signed: SignedStatement, target: str) -> bytes | None:
    """What later statements of the same client may be packed with; None where this one is kept whole."""
    return _rest(signed, target)[:MAX_WORDS_BYTES] if signed.statement.document == target else None


def pack(signed: SignedStatement, target: str, words: bytes | None = None) -> bytes:
    """What is kept of a statement in a row whose document's target is ``target``, with its client's words, if any."""
    encoded = signed.encoded
    if signed.statement.document != target:
        return encoded
    kept = _rest(signed, target)
    made = kept if words is None else _deflated(kept, words)
    if words is None or len(made) > _CLOSE:
        made = min(made, compress(kept) or kept, kept, key=len)
    return encoded[:SIGNATURE_BYTES] + made


def _deflated(kept: bytes, words: bytes) -> bytes:
    deflate = zlib.compressobj(zlib.Z_BEST_COMPRESSION, zlib.DEFLATED, -_WINDOW, 1, zdict=words)
    return _LIKE + deflate.compress(kept) + deflate.flush()


def unpack(data: bytes, sid: bytes, target: str, device: str, words: bytes | None = None) -> bytes:
    """The statement's exact bytes again; ``sid`` are the bytes of its id, ``words`` its client's."""
    return unpacker(target, device)(data, text_id(sid).encode("ascii"), words)


def unpacker(target: str, device: str) -> Callable[[bytes, bytes, bytes | None], bytes]:
    """`unpack` for many statements of one author in one document; takes the kept bytes, the id in ASCII and the words.

    What is broken is given as it is kept: it is no statement, and whoever reads it says so.
    """
    middle = _text(target) + b"\xa8" + device.encode("ascii")
    head, behind, rest = bytes((_BODY, VERSION)), SIGNATURE_BYTES + 1, slice(SIGNATURE_BYTES, None)
    inflating, broken = zlib.decompressobj, zlib.error

    def exact(data: bytes, sid: bytes, words: bytes | None) -> bytes:
        first = data[SIGNATURE_BYTES:behind]
        if first == _LIKE:
            if words is None:
                return data
            inflate = inflating(-_WINDOW, zdict=words)
            try:
                kept = inflate.decompress(data[behind:], MAX_STATEMENT_BYTES)
            except broken:
                return data
            if not inflate.eof or inflate.unused_data:
                return data
        elif first in (_WHOLE, b""):
            return data
        elif first[0] >= _KINDS:
            try:
                kept = decompress(data[rest], MAX_STATEMENT_BYTES)
            except BadCompression:
                return data
        else:
            kept = data[rest]
        return b"".join((data[:SIGNATURE_BYTES], head, kept[:1], b"\xb0", sid, middle, kept[1:]))

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
