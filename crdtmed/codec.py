"""Strict, canonical MessagePack: a value has exactly one encoding, and nothing else is read.

Decoding goes through msgspec into a declared type, which bounds depth and refuses unknown fields, wrong types and
trailing bytes; the result is then encoded again and compared, which refuses duplicate keys, other key orders, padded
integers and spelt-out defaults in one step.  Types that pass through here hold no floats and no sets.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


class Undecodable(ValueError):
    """Bytes are not the canonical encoding of the declared type.

    ``reason`` is a stable code: ``too_large``, ``not_msgpack`` or ``not_canonical``; ``says`` tells what and where.
    """

    def __init__(self, reason: str, says: str) -> None:
        super().__init__(f"{reason}: {says}")
        self.reason = reason
        self.says = says


encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
"""The one encoding of a value; the fields of a struct come in the order of their declaration."""


def decoder(of: type[T], most: int) -> Callable[[bytes], T]:
    """A function from at most ``most`` bytes to a ``of``; it raises `Undecodable` and nothing else."""
    decode = msgspec.msgpack.Decoder(of, strict=True).decode

    def strict(data: bytes) -> T:
        if len(data) > most:
            raise Undecodable("too_large", f"{len(data)} bytes, at most {most} are read")
        try:
            value = decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError, ValueError) as error:
            raise Undecodable("not_msgpack", str(error) or type(error).__name__) from None
        if encode(value) != data:
            raise Undecodable(
                "not_canonical",
                f"the bytes are not the one encoding of this {getattr(of, '__name__', 'value')}",
            )
        return value

    return strict
