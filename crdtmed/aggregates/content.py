"""The one door between a statement's content bytes and its typed model, and what follows from the content."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from crdtmed import statement
from crdtmed.aggregates.alert_override_record import Override, override_problems
from crdtmed.aggregates.conflict import BreakGlass, Resolve, break_glass_problems, resolve_problems
from crdtmed.aggregates.dispensing_event import Dispense
from crdtmed.aggregates.elements import Problem
from crdtmed.aggregates.medication_administration import (
    Administer,
    Correct,
    administer_problems,
    correct_problems,
)
from crdtmed.aggregates.prescription import Amend, Hold, Resume, Sign, Stop, reason_problems
from crdtmed.aggregates.prescription_draft import DraftWrite, Group, write_problems
from crdtmed.aggregates.reconciliation_session import Complete, Open, Record, open_problems, record_problems
from crdtmed.aggregates.stock_item import Adjust, Receipt, adjust_problems, receipt_problems
from crdtmed.codec import Undecodable, decoder, encode
from crdtmed.contract import KINDS, Kind, Nature
from crdtmed.limits import MAX_STATEMENT_BYTES

Content = (
    DraftWrite
    | Sign
    | Stop
    | Hold
    | Resume
    | Amend
    | Dispense
    | Receipt
    | Adjust
    | Administer
    | Correct
    | Override
    | Open
    | Record
    | Complete
    | Resolve
    | BreakGlass
)

CONTENT: Final[Mapping[Kind, type[Content]]] = MappingProxyType(
    {
        Kind.DRAFT_WRITE: DraftWrite,
        Kind.SIGN: Sign,
        Kind.STOP: Stop,
        Kind.HOLD: Hold,
        Kind.RESUME: Resume,
        Kind.AMEND: Amend,
        Kind.DISPENSE: Dispense,
        Kind.RECEIPT: Receipt,
        Kind.ADJUST: Adjust,
        Kind.ADMINISTER: Administer,
        Kind.CORRECT: Correct,
        Kind.OVERRIDE: Override,
        Kind.RECONCILIATION_OPEN: Open,
        Kind.RECONCILIATION_RECORD: Record,
        Kind.RECONCILIATION_COMPLETE: Complete,
        Kind.RESOLVE: Resolve,
        Kind.BREAK_GLASS: BreakGlass,
    }
)
"""The content model of each kind; no two kinds share one."""

_PROBLEMS: Final[Mapping[type, Callable[[Any], tuple[Problem, ...]]]] = {
    DraftWrite: write_problems,
    Stop: reason_problems,
    Hold: reason_problems,
    Resume: reason_problems,
    Amend: reason_problems,
    Receipt: receipt_problems,
    Adjust: adjust_problems,
    Administer: administer_problems,
    Correct: correct_problems,
    Override: override_problems,
    Open: open_problems,
    Record: record_problems,
    Resolve: resolve_problems,
    BreakGlass: break_glass_problems,
}

_KIND: Final = {of: kind for kind, of in CONTENT.items()}
_DECODE: Final[Mapping[Kind, Callable[[bytes], Content]]] = {
    kind: decoder(of, MAX_STATEMENT_BYTES) for kind, of in CONTENT.items()
}


class ContentError(ValueError):
    """A content is not what its kind needs.

    ``field`` is the dotted path of the first thing wrong, empty where it is the whole; ``says`` tells people
    what is wrong and what to do; ``problems`` are all that were found.
    """

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        self.field, self.says = problems[0]
        super().__init__("; ".join(f"{field or 'content'} {says}" for field, says in problems))


_AT: Final = re.compile(r"^(?P<says>.*) - at `(key in )?\$\.?(?P<path>[^`]*)`$", re.DOTALL)


def structural(error: Undecodable) -> Problem:
    """The problem that a strict decoder found, with the field that it names."""
    found = _AT.match(error.says)
    if found is None:
        return Problem("", f"is not readable: {error.says}")
    path = re.sub(r"\[(\w*|\.\.\.)\]", lambda it: f".{it[1]}", found["path"]).strip(".")
    says = found["says"][:1].lower() + found["says"][1:]
    return Problem(path, f"is not as its model says: {says}; correct it at the source")


class _Named(msgspec.Struct):
    group: Group


_group = msgspec.msgpack.Decoder(_Named).decode


def _of_group(problem: Problem, data: bytes) -> Problem:
    """``problem`` of a draft write, its field named from the group on, as the problems of meaning are."""
    head, _, rest = problem.field.partition(".")
    if head != "value":
        return problem
    try:
        group = _group(data).group
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return problem
    return Problem(f"{group}.{rest}" if rest else str(group), problem.says)


def kind_of(content: Content) -> Kind:
    """The kind whose content this is."""
    return _KIND[type(content)]


def problems(content: Content) -> tuple[Problem, ...]:
    """Everything that is wrong with a content built in memory: first its structure (one problem), then its
    meaning."""
    try:
        _DECODE[kind_of(content)](encode(content))
    except Undecodable as error:
        problem = structural(error)
        return (_of_group(problem, encode(content)) if isinstance(content, DraftWrite) else problem,)
    return _meaning(content)


def _meaning(content: Content) -> tuple[Problem, ...]:
    judge = _PROBLEMS.get(type(content))
    return judge(content) if judge is not None else ()


def encode_content(content: Content) -> bytes:
    """The one encoding of a content; raises `ContentError` where it has problems, so that none is ever
    signed."""
    found = problems(content)
    if found:
        raise ContentError(found)
    return encode(content)


def decode_content(kind: Kind, data: bytes) -> Content:
    """The content of a statement of ``kind``; raises `ContentError` and nothing else.

    Strict: the declared fields and types, within limits, in the one encoding, and without problems.
    """
    try:
        content = _DECODE[kind](bytes(data))
    except Undecodable as error:
        problem = structural(error)
        raise ContentError((_of_group(problem, data) if kind is Kind.DRAFT_WRITE else problem,)) from None
    found = _meaning(content)
    if found:
        raise ContentError(found)
    return content


def embedded(resolve: Resolve) -> statement.SignedStatement:
    """The statement that a resolution embeds, its signature not checked; raises `ContentError` where it is
    none."""
    try:
        return statement.decode(resolve.statement)
    except statement.BadStatement as error:
        raise ContentError((Problem("statement", f"is no statement: {error.says}"),)) from None


def nature_of(kind: Kind, content: Content) -> Nature:
    """Whether a statement is a fact or an intention; never `Nature.BY_CONTENT`.

    A dispense is a fact where the medicine was handed over; a resolution is what the statement it embeds is.
    Raises `ContentError` where a resolution embeds no statement, or one whose content cannot be read.
    """
    nature = KINDS[kind].nature
    if nature is not Nature.BY_CONTENT:
        return nature
    if isinstance(content, Resolve):
        inner = embedded(content).statement
        if KINDS[inner.kind].nature is not Nature.BY_CONTENT:
            return KINDS[inner.kind].nature
        return nature_of(inner.kind, decode_content(inner.kind, bytes(inner.content)))
    return Nature.FACT if isinstance(content, Dispense) and content.handed_over else Nature.INTENTION


_NAMING: Final = frozenset({Kind.CORRECT, Kind.ADJUST, Kind.DISPENSE, Kind.RECEIPT, Kind.ADMINISTER, Kind.RESOLVE})
"""The kinds whose content may name a statement."""


def references(kind: Kind, content: Content) -> tuple[str, ...]:
    """The statements that a content names by reference and that must have arrived before it, each once, in
    order.

    A statement embedded counts as named.  Raises `ContentError` where a resolution embeds no statement.
    """
    if kind not in _NAMING:
        return ()
    match content:
        case Dispense(reenters=one) | Receipt(reenters=one) | Administer(reenters=one) | Adjust(corrects=one):
            return () if one is None else (one,)
        case Correct(corrects=corrects, reenters=reenters):
            return (corrects,) if reenters is None else tuple(sorted({corrects, reenters}))
        case Resolve():
            return (embedded(content).statement.ref,)
        case _:
            return ()
