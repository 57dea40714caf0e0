"""Identifiers in text: lower-case base32 (RFC 4648, no padding), so that they can be read aloud and typed.

A device has 8 characters (5 bytes, given out by the identity service), a statement 16 (10 bytes, of its device's
choosing), and a reference to a statement is ``device.id``.  Random bytes are handed in.
"""

import re
from base64 import b32encode
from functools import lru_cache
from typing import Annotated, Final

import msgspec

from crdtmed.limits import KEPT_IDS, MAX_GRANT_ID_CHARS, MAX_USER_ID_CHARS

DEVICE_BYTES: Final = 5
STATEMENT_ID_BYTES: Final = 10
ID_RANDOM_BYTES: Final = 5
"""Of these a fresh statement id is made, and of its time."""
_CHANCE_BITS: Final = 35

DEVICE_PATTERN: Final = r"^[a-z2-7]{8}\Z"
ID_PATTERN: Final = r"^[a-z2-7]{16}\Z"
REF_PATTERN: Final = r"^[a-z2-7]{8}\.[a-z2-7]{16}\Z"
USER_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]{0,31}\Z"
GRANT_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]{0,31}/[a-z2-7]{8}\Z"
SCOPE_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]{0,31}\Z"

DeviceId = Annotated[str, msgspec.Meta(pattern=DEVICE_PATTERN)]
StatementId = Annotated[str, msgspec.Meta(pattern=ID_PATTERN)]
Ref = Annotated[str, msgspec.Meta(pattern=REF_PATTERN)]
UserId = Annotated[str, msgspec.Meta(pattern=USER_PATTERN, max_length=MAX_USER_ID_CHARS)]
GrantId = Annotated[str, msgspec.Meta(pattern=GRANT_PATTERN, max_length=MAX_GRANT_ID_CHARS)]
ScopeId = Annotated[str, msgspec.Meta(pattern=SCOPE_PATTERN)]

_DEVICE: Final = re.compile(DEVICE_PATTERN)
_ID: Final = re.compile(ID_PATTERN)
_GRANT: Final = re.compile(GRANT_PATTERN)
_REF: Final = re.compile(REF_PATTERN)
_SCOPE: Final = re.compile(SCOPE_PATTERN)
_USER: Final = re.compile(USER_PATTERN)


def to_text(raw: bytes) -> str:
    """Random or digest bytes as base32 text; lengths that are multiples of five need no padding."""
    return b32encode(raw).decode("ascii").rstrip("=").lower()


def device_id(raw: bytes) -> str:
    """A device id from 5 bytes; raises `ValueError` for another length."""
    if len(raw) != DEVICE_BYTES:
        raise ValueError(f"a device id is made of {DEVICE_BYTES} bytes, not {len(raw)}")
    return to_text(raw)


def statement_id(raw: bytes) -> str:
    """A statement id from 10 bytes; raises `ValueError` for another length."""
    if len(raw) != STATEMENT_ID_BYTES:
        raise ValueError(f"a statement id is made of {STATEMENT_ID_BYTES} bytes, not {len(raw)}")
    return to_text(raw)


def fresh_id(now_ms: int, raw: bytes) -> str:
    """A statement id of a moment, from `ID_RANDOM_BYTES` random bytes; raises `ValueError` for another length.

    Nine characters count milliseconds, seven are random, in the manner of RFC 9562's version 7: what a device says one
    after the other stands side by side in every index, so that a commit writes a page and not fifty.  Nobody reads the
    time out of it again.
    """
    if len(raw) != ID_RANDOM_BYTES:
        raise ValueError(f"a fresh statement id takes {ID_RANDOM_BYTES} random bytes, not {len(raw)}")
    time, chance = now_ms & (1 << 80 - _CHANCE_BITS) - 1, int.from_bytes(raw, "big") & (1 << _CHANCE_BITS) - 1
    return statement_id((time << _CHANCE_BITS | chance).to_bytes(STATEMENT_ID_BYTES, "big"))


def ref(device: str, statement: str) -> str:
    """The reference to a statement of a device."""
    return f"{device}.{statement}"


def split_ref(reference: str) -> tuple[str, str]:
    """Device and statement id of a reference; raises `ValueError` where it is none."""
    if not _REF.match(reference):
        raise ValueError(f"{reference!r} is no reference: expected eight characters, a dot and sixteen, of a-z and 2-7")
    device, _, statement = reference.partition(".")
    return device, statement


def user_of(grant: str) -> str:
    """The user that a grant id names: ``user/serial``."""
    return grant.partition("/")[0]


def is_statement_id(text: str) -> bool:
    """Whether ``text`` is the id of a statement."""
    return _ID.match(text) is not None


@lru_cache(maxsize=KEPT_IDS)
def is_device_id(text: str) -> bool:
    """Whether ``text`` is the id of a device; the few devices of a hospital are asked for again and again."""
    return _DEVICE.match(text) is not None


@lru_cache(maxsize=KEPT_IDS)
def is_grant_id(text: str) -> bool:
    """Whether ``text`` names a grant; as with devices, there are few."""
    return len(text) <= MAX_GRANT_ID_CHARS and _GRANT.match(text) is not None


def is_scope_id(text: str) -> bool:
    """Whether ``text`` can name a patient or a site."""
    return bool(_SCOPE.match(text))


def is_user_id(text: str) -> bool:
    """Whether ``text`` can name a user."""
    return bool(_USER.match(text))
