"""Signatures that are checked in processes beside the writer: what is to be found out, and a line to one of them.

Nothing here does I/O, and nothing here is trusted with more than speed: of what has no answer when the writer wants it,
the writer finds out itself.  A frame is its length in four bytes and so many bytes of MessagePack.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from crdtmed.codec import Undecodable, decoder, encode
from crdtmed.limits import MAX_STATEMENT_BYTES
from crdtmed.statement import signed_by

SHARE: Final = 32
"""Statements in one question, some 2 ms of work."""
MAX_FRAME_BYTES: Final = SHARE * (MAX_STATEMENT_BYTES + 64)
_LENGTH_BYTES: Final = 4


class Garbled(ValueError):
    """A line does not carry what it should; the message says what came."""


class Ask(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Of each pair of a public key and a signed statement: did the one sign the other?"""

    number: int
    pairs: tuple[tuple[bytes, bytes], ...]


class Found(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The answers to the question of that number, in its order."""

    number: int
    good: tuple[bool, ...]


_read_ask: Final = decoder(Ask, MAX_FRAME_BYTES)
_read_found: Final = decoder(Found, MAX_FRAME_BYTES)


@dataclass(slots=True, eq=False)
class Check:
    """The signatures of one item: ``pairs`` of public key and signed statement, and of each what was found so far.

    Of the first ``asked`` somebody was asked, for ``open`` of them there may still be an answer, and ``here`` were
    checked by the relay's own process.  The loop alone fills it in, and nobody any more once the writer has ``taken``
    it.
    """

    pairs: Sequence[tuple[bytes, bytes]]
    found: list[bool | None] = field(init=False)
    asked: int = 0
    open: int = 0
    here: int = 0
    taken: bool = False

    def __post_init__(self) -> None:
        self.found = [None] * len(self.pairs)

    @property
    def answered(self) -> int:
        """How many signatures another process has checked."""
        return len(self.found) - self.found.count(None) - self.here

    @property
    def done(self) -> bool:
        """Whether there is nothing more to wait for; some may have no answer even so, where a process has died."""
        return not self.open and self.asked == len(self.pairs)


Part = tuple[Check, int, int]
"""Signatures of a check: from the first of these numbers on, up to and without the second."""


def next_unasked(checks: deque[Check]) -> Check | None:
    """The first that has something left to ask; those before it are dropped."""
    while checks:
        if not checks[0].taken and checks[0].asked < len(checks[0].pairs):
            return checks[0]
        checks.popleft()
    return None


def next_share(checks: deque[Check]) -> tuple[Part, ...]:
    """The first signatures of which nobody was asked, `SHARE` at most, of as many checks as it takes; from now on
    somebody is asked, who tells what was found (`tell`) or does not (`forgo`)."""
    parts: list[Part] = []
    left = SHARE
    while left and (check := next_unasked(checks)) is not None:
        first, check.asked = check.asked, min(check.asked + left, len(check.pairs))
        parts.append((check, first, check.asked))
        check.open += check.asked - first
        left -= check.asked - first
    return tuple(parts)


def tell(parts: Sequence[Part], good: Sequence[bool]) -> None:
    """Fills in what was found, one for each signature, unless the writer has taken it."""
    at = 0
    for check, first, end in parts:
        if not check.taken:
            check.found[first:end] = good[at : at + end - first]
        at += end - first
    forgo(parts)


def forgo(parts: Sequence[Part]) -> None:
    """There is no answer any more to wait for."""
    for check, first, end in parts:
        check.open -= end - first


def check_here(parts: Sequence[Part]) -> None:
    """Checks these signatures in this very process."""
    tell(parts, [signed_by(*pair) for pair in _pairs(parts)])
    for check, first, end in parts:
        check.here += end - first


def _pairs(parts: Sequence[Part]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple([pair for check, first, end in parts for pair in check.pairs[first:end]])


class Cutter:
    """Cuts what arrives into frames."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are whole now; raises `Garbled` for one longer than any may be."""
        self._held += data
        whole: list[bytes] = []
        while len(self._held) >= _LENGTH_BYTES:
            end = _LENGTH_BYTES + int.from_bytes(self._held[:_LENGTH_BYTES], "big")
            if end > _LENGTH_BYTES + MAX_FRAME_BYTES:
                raise Garbled(f"a frame of {end - _LENGTH_BYTES} bytes, at most {MAX_FRAME_BYTES} are read")
            if len(self._held) < end:
                break
            whole.append(bytes(self._held[_LENGTH_BYTES:end]))
            del self._held[:end]
        return whole


def _frame(value: Ask | Found) -> bytes:
    data = encode(value)
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


def answer(question: bytes) -> bytes:
    """The frame that answers a frame's content; raises `Garbled` where that is no question."""
    try:
        ask = _read_ask(question)
    except Undecodable as error:
        raise Garbled(str(error)) from None
    return _frame(Found(ask.number, tuple(signed_by(public, encoded) for public, encoded in ask.pairs)))


@dataclass(frozen=True, slots=True)
class _Question:
    """A question under way, about so many signatures."""

    number: int
    parts: tuple[Part, ...]
    count: int


class Line:
    """The relay's end of the line to one process.

    An answer counts for the oldest open question, all of it, or not at all.
    """

    def __init__(self) -> None:
        self._cutter = Cutter()
        self._open: deque[_Question] = deque()
        self._number = 0

    @property
    def open(self) -> int:
        """Questions that have no answer yet."""
        return len(self._open)

    @property
    def oldest(self) -> int:
        """The number of the question that is open for longest, 0 where none is."""
        return self._open[0].number if self._open else 0

    def ask(self, parts: tuple[Part, ...]) -> bytes:
        """The bytes that ask about a share (`next_share`)."""
        pairs = _pairs(parts)
        self._number += 1
        self._open.append(_Question(self._number, parts, len(pairs)))
        return _frame(Ask(self._number, pairs))

    def hang_up(self) -> None:
        """Nothing that is open will be answered any more."""
        while self._open:
            forgo(self._open.popleft().parts)

    def receive(self, data: bytes) -> None:
        """Fills in what is answered; raises `Garbled` for what answers no open question, with nothing of it taken."""
        for frame in self._cutter.feed(data):
            try:
                found = _read_found(frame)
            except Undecodable as error:
                raise Garbled(str(error)) from None
            due = self._open[0] if self._open else None
            if due is None or (found.number, len(found.good)) != (due.number, due.count):
                raise Garbled(f"an answer to {found.number} for {len(found.good)} statements, which is not due")
            self._open.popleft()
            tell(due.parts, found.good)
