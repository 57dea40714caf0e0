"""Verdicts: the relay's judgement of one statement."""

from enum import StrEnum
from typing import Final

import msgspec

from crdtmed.codec import decoder, encode
from crdtmed.ids import Ref
from crdtmed.limits import MAX_REGISTER_BYTES
from crdtmed.reasons import Name, Reason, Text, code_of


class Status(StrEnum):
    """The outcome of admission.  ``accepted``, ``conflict`` and ``refused`` are final."""

    ACCEPTED = "accepted"
    CONFLICT = "conflict"
    REFUSED = "refused"
    RETRY = "retry"
    GAP = "gap"


FINAL: Final = frozenset({Status.ACCEPTED, Status.CONFLICT, Status.REFUSED})


class Flag(StrEnum):
    """What stands beside an accepted statement for everybody to see."""

    CLOCK_SUSPECT = "clock_suspect"
    NO_SIGNED_ORDER = "no_signed_order"
    LATE = "late"
    NUMBER_REUSED = "number_reused"
    """The device gave the number to another statement before: it, or its store, exists twice."""


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The relay's judgement of one statement.

    ``ref`` is the statement; ``document``, ``epoch`` and ``position`` say where it, or its tombstone, was committed
    (empty and 0 for what took no place); ``actions`` is what a person may choose among; ``received_at`` is
    the relay's time.  A final verdict is stored and given again word for word.
    """

    ref: Ref
    status: Status
    received_at: int
    document: Name = ""
    epoch: str = ""
    position: int = 0
    reason: Reason | None = None
    actions: tuple[Text, ...] = ()
    flags: tuple[Flag, ...] = ()

    @property
    def final(self) -> bool:
        """Whether it will never change."""
        return self.status in FINAL

    @property
    def code(self) -> str:
        """The reason's code, or the empty string."""
        return code_of(self.reason) if self.reason is not None else ""


_decode = decoder(Verdict, MAX_REGISTER_BYTES)


def encode_verdict(verdict: Verdict) -> bytes:
    """The bytes that are stored and sent."""
    return encode(verdict)


def decode_verdict(data: bytes) -> Verdict:
    """The verdict in ``data``; raises `crdtmed.codec.Undecodable`."""
    return _decode(data)
