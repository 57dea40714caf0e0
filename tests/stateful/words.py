"""Statements as their bytes say them, and verdicts as the record keeps them: read here by themselves."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from msgspec import msgpack

DRAFT_WRITE, SIGN, STOP, HOLD, RESUME, AMEND, DISPENSE, RECEIPT, ADJUST = range(1, 10)
ADMINISTER, CORRECT, OVERRIDE, OPEN, RECORD, COMPLETE, RESOLVE = range(10, 17)
ACCEPTED, CONFLICT, REFUSED, CLOSED = range(4)
STATUS: Final = {ACCEPTED: "accepted", CONFLICT: "conflict", REFUSED: "refused", CLOSED: "accepted"}


@dataclass(frozen=True)
class Word:
    """One statement."""

    raw: bytes
    kind: int
    ref: str
    document: str
    device: str
    stamp: int
    seen: tuple[str, ...]
    content: Any

    @property
    def scope(self) -> str:
        """The id of its patient or site."""
        return self.document.split("/")[1]

    @property
    def means(self) -> tuple[Any, ...]:
        """What stays the same when it is signed again."""
        return self.ref, self.kind, self.document, self.seen, repr(self.content)


def read(raw: bytes) -> Word:
    """64 bytes of signature, then an array of eleven."""
    _, kind, name, document, device, _, _, stamp, seen, _, content = msgpack.decode(raw[64:])
    return Word(raw, kind, f"{device}.{name}", document, device, stamp, tuple(seen), content)


def chain(word: Word) -> Iterator[Word]:
    """The statement, the one that it resolves, the one that this resolves…"""
    yield word
    if word.kind == RESOLVE:
        yield from chain(read(word.content["statement"]))


def bottom(word: Word) -> tuple[Word, Any]:
    """What a resolution is about in the end, and its content with the lots and quantities that were chosen."""
    if word.kind != RESOLVE:
        return word, word.content
    inner, content = bottom(read(word.content["statement"]))
    if inner.kind != DISPENSE:
        return inner, content
    chosen = {name: word.content[name] for name in ("lot", "quantity") if word.content.get(name) is not None}
    return inner, content | chosen


def happened(word: Word) -> bool:
    """Whether it tells of something that happened, so that it can never be refused."""
    inner, content = bottom(word)
    return inner.kind in (RECEIPT, ADMINISTER, CORRECT) or (inner.kind == DISPENSE and bool(content["handed_over"]))


@dataclass(frozen=True)
class Judged:
    """A row of the record: the statement and its verdict."""

    row: int
    word: Word
    place: int
    verdict: bytes | None

    @property
    def status(self) -> str:
        """*accepted*, *conflict* or *refused*."""
        return STATUS[self.place]

    @property
    def code(self) -> str:
        """The code of its reason; empty without one."""
        told = msgpack.decode(self.verdict) if self.verdict is not None else {}
        return str((told.get("reason") or {}).get("code", ""))

    @property
    def actions(self) -> frozenset[str]:
        """What the verdict offers."""
        told = msgpack.decode(self.verdict) if self.verdict is not None else {}
        return frozenset(told.get("actions") or ())
