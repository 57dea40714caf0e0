"""What the record gives and takes: rows as values."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec

from crdtmed.verdict import Status


class Place(IntEnum):
    """The ``status`` column: the verdict, and whether the value is still in the document."""

    ACCEPTED = 0
    CONFLICT = 1
    REFUSED = 2
    CLOSED = 3
    """Accepted, and since deleted from its document: a field of a closed draft."""


STATUS_OF: Final = {
    Place.ACCEPTED: Status.ACCEPTED,
    Place.CONFLICT: Status.CONFLICT,
    Place.REFUSED: Status.REFUSED,
    Place.CLOSED: Status.ACCEPTED,
}
PLACE_OF: Final = {
    Status.ACCEPTED: Place.ACCEPTED,
    Status.CONFLICT: Place.CONFLICT,
    Status.REFUSED: Place.REFUSED,
}


class DocumentRow(msgspec.Struct, frozen=True, gc=False):
    """A document's row with the epoch in force; ``snapshot_position`` is 0 where it has no snapshot."""

    id: int
    name: str
    epoch: str
    position: int
    floor: int
    snapshot_position: int


@dataclass(frozen=True, slots=True)
class ClientRow:
    """A pycrdt client id of a document: whose it is (None: the relay's), its origin in a log and its next clock.

    ``words`` is what its statements are packed with; None as long as it has none.
    """

    id: int
    client: int
    author: int | None
    origin: tuple[int, int] | None
    clock: int
    words: bytes | None


@dataclass(frozen=True, slots=True)
class StatementRow:
    """A statement as it is kept; ``encoded`` are its exact bytes, ``document`` the one it was put in or aims at.

    ``verdict`` is None where the row says all of it: accepted, without reason, actions and flags.
    """

    id: int
    ref: str
    number: int
    document: str
    position: int
    client: int | None
    clock: int | None
    received_at: int
    place: Place
    verdict: bytes | None
    encoded: bytes


class NewStatement(NamedTuple):
    """A statement to be kept, in the order of its table's columns; ``data`` as `relay.storage.packing.pack` made it,
    ``place`` one of `Place`."""

    author: int
    sid: bytes
    number: int
    target: int
    position: int
    client: int | None
    clock: int | None
    received_at: int
    place: int
    verdict: bytes | None
    data: bytes


@dataclass(frozen=True, slots=True)
class RegisterRow:
    """A register: the unsigned value under a key, its version and when it was written."""

    document: str
    key: str
    version: int
    at: int
    value: bytes


class Slot(msgspec.Struct, frozen=True, gc=False):
    """Clocks of a client (by row) at a position: one value, or ``length`` clocks without one.

    ``closed``: it had a value, which the relay has deleted since.  A long log is as many of these, which the collector
    of cycles leaves alone.
    """

    position: int
    client: int
    clock: int
    length: int
    value: bytes | None
    closed: bool
