"""Strict, canonical MessagePack: a value has exactly one encoding, and nothing else is read.

Decoding goes through msgspec into a declared type, which bounds depth and refuses unknown fields, wrong types and
trailing bytes; the result is then encoded again and compared, which refuses duplicate keys, other key orders, padded
integers and spelt-out defaults in one step.  Types that pass through here hold no floats and no sets.  What a type
leaves open (`msgspec.Raw`: the content of a statement, the value of a register) is checked by `check_value`.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from crdtmed.limits import MAX_DEPTH

T = TypeVar("T")


class Undecodable(ValueError):
    """Bytes are not the canonical encoding of the declared type.

    ``reason`` is a stable code: ``too_large``, ``too_deep``, ``not_msgpack``, ``not_plain`` or ``not_canonical``;
    ``says`` tells what and where.
    """

    def __init__(self, reason: str, says: str) -> None:
        super().__init__(f"{reason}: {says}")
        self.reason = reason
        self.says = says


encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
"""The one encoding of a value; the fields of a struct come in the order of their declaration."""


_FAILURES: Final = (msgspec.MsgspecError, UnicodeDecodeError, OverflowError, ValueError, RecursionError)
_SCALARS: Final = frozenset({type(None), bool, int, str, bytes})

_decode_any: Final = msgspec.msgpack.Decoder().decode


def _texts(levels: int) -> Any:
    """The type of plain values without bytes, with so many arrays and maps in each other."""
    made: Any = None | bool | int | str
    for _ in range(levels):
        made = None | bool | int | str | list[made] | dict[str, made]
    return made


# What people say holds texts and numbers, and msgspec knows no type with texts and bytes both.
_decode_texts: Final = msgspec.msgpack.Decoder(_texts(MAX_DEPTH), strict=True).decode


def decoder(of: type[T], most: int) -> Callable[[bytes], T]:
    """A function from at most ``most`` bytes to a ``of``; it raises `Undecodable` and nothing else."""
    decode = msgspec.msgpack.Decoder(of, strict=True).decode

    def strict(data: bytes) -> T:
        if len(data) > most:
            raise Undecodable("too_large", f"{len(data)} bytes, at most {most} are read")
        try:
            value = decode(data)
        except _FAILURES as error:
            raise _told(error) from None
        if encode(value) != data:
            raise Undecodable(
                "not_canonical",
                f"the bytes are not the one encoding of this {getattr(of, '__name__', 'value')}",
            )
        return value

    return strict


def check_value(data: bytes) -> None:
    """Raises `Undecodable` unless ``data`` is the one encoding of a plain value, whatever its model.

    Plain are nil, booleans, integers, text, bytes, arrays, and maps with distinct keys of text, at most `MAX_DEPTH`
    of them in each other; never floats, times or extensions.  ``data`` is bounded by what it was read from.
    """
    try:
        if encode(_decode_texts(data)) == data:
            return
    except _FAILURES:
        pass  # it holds bytes, or it is wrong, and what is wrong is told below
    try:
        value = _decode_any(data)
    except _FAILURES as error:
        raise _told(error) from None
    _check_plain(value, MAX_DEPTH)
    if encode(value) != data:
        raise Undecodable("not_canonical", "the bytes are not the one encoding of their value")


def _told(error: Exception) -> Undecodable:
    if isinstance(error, RecursionError):
        # How deep the interpreter goes depends on its caller; it is always more than `MAX_DEPTH`.
        return Undecodable("too_deep", f"arrays and maps are nested more than {MAX_DEPTH} deep")
    return Undecodable("not_msgpack", str(error) or type(error).__name__)


def _check_plain(value: object, levels: int) -> None:
    if type(value) in _SCALARS:
        return
    if levels == 0:
        raise Undecodable("too_deep", f"arrays and maps are nested more than {MAX_DEPTH} deep")
    if type(value) is list:
        for item in value:
            if type(item) not in _SCALARS:
                _check_plain(item, levels - 1)
    elif type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise Undecodable("not_plain", f"a map has the key {key!r:.40}, which is no text")
            if type(item) not in _SCALARS:
                _check_plain(item, levels - 1)
    else:
        raise Undecodable("not_plain", f"a {type(value).__name__} is no plain value")
