"""Work that the hub hands to its shell: each says what to run, and what to do with the result on the loop's thread.

A service runs them on its threads, a simulator inline; neither knows what they are about.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import msgspec
from msgspec import structs

from crdtmed.limits import ITEM_BYTES
from crdtmed.statement import signed_by
from relay.admission.facts import KnowledgeAnswer, KnowledgeQuestion
from relay.batch import Batch
from relay.checks import Check
from relay.items import HandBack, Push, Request, Spoken
from relay.reading import Reader
from relay.session_events import Said


@dataclass(frozen=True, slots=True)
class Read:
    """A read beside the writer; ``failed`` gets what it raised."""

    run: Callable[[Reader], Any]
    then: Callable[[Any], None]
    failed: Callable[[Exception], None]


@dataclass(frozen=True, slots=True)
class Write:
    """A task in a commit without statements; ``failed`` gets what it raised, then nothing of it happened."""

    run: Callable[[Batch], Any]
    then: Callable[[Any], None]
    failed: Callable[[Exception], None]


@dataclass(frozen=True, slots=True)
class Slow:
    """Something that takes a while and touches nothing: comparing a password; ``failed`` gets what it raised."""

    run: Callable[[], Any]
    then: Callable[[Any], None]
    failed: Callable[[Exception], None]


@dataclass(frozen=True, slots=True)
class Ask:
    """A question to the knowledge base."""

    question: KnowledgeQuestion
    then: Callable[[KnowledgeAnswer], None]


class Judge(msgspec.Struct, frozen=True):
    """A push, a request or what is handed back, to be verified and committed: so many statements, and so many bytes
    of `crdtmed.limits.MAX_INBOX_BYTES`.

    ``publics`` are its authors' keys.  With a ``check``, some of its signatures may have been verified elsewhere by the
    time the writer takes it.
    """

    item: Spoken
    publics: dict[str, bytes]
    statements: int
    size: int
    check: Check | None = None


def to_judge(item: Spoken, publics: dict[str, bytes], shared: bool) -> Judge:
    """What waits to be judged; ``shared``: its signatures may be checked by other processes."""
    said = _said(item)
    count = len(said)
    size = len(item.raw) if isinstance(item, Push) else sum([len(one.signed.encoded) for one in said])
    return Judge(item, publics, count, ITEM_BYTES + size, Check(_pairs(item, publics)) if shared and said else None)


def verified_elsewhere(judge: Judge) -> int:
    """How many of its signatures were checked by another process."""
    return 0 if judge.check is None else judge.check.answered


def unchecked(judge: Judge) -> int:
    """How many of its signatures nobody has checked yet."""
    return judge.statements if judge.check is None else judge.check.found.count(None)


def checked(inbox: deque[Judge], enough: int) -> tuple[int, bool]:
    """How many statements at the front have nothing to wait for, counted up to ``enough``; and whether all have."""
    count = 0
    for judge in inbox:
        if count >= enough or not _is_done(judge):
            return count, False
        count += judge.statements or 1
    return count, True


def _is_done(judge: Judge) -> bool:
    return judge.check is None or judge.check.done


def take(inbox: deque[Judge], most: int, done: bool = False) -> list[Judge]:
    """The first of what waits, about ``most`` statements; at least one item, and one without statements counts as one.

    ``done``: only as far as there is nothing to wait for.  What nobody has verified yet is left to whoever takes it.
    """
    taken: list[Judge] = []
    count = 0
    while inbox and (not done or _is_done(inbox[0])):
        count += inbox[0].statements or 1
        if taken and count > most:
            break
        taken.append(inbox.popleft())
        if (check := taken[-1].check) is not None:
            check.taken = True
    return taken


def verified(judge: Judge) -> Judge:
    """The item with every signature checked; without keys where one is wrong.

    Of what is handed back, statements that no key fits are left out: it is others' statements that are kept.
    """
    item = judge.item
    if isinstance(item, HandBack):
        signed = list(_signed(judge))
        forged = tuple(said.signed.statement.ref for said, good in zip(item.said, signed, strict=True) if not good)
        kept = tuple(compress(item.said, signed))
        left = HandBack(item.connection, item.device, item.document, kept, forged)
        return structs.replace(judge, item=left, statements=len(kept), check=None)
    return judge if all(_signed(judge)) else structs.replace(judge, publics={}, check=None)


def _signed(judge: Judge) -> Iterator[bool]:
    """Of each statement whether its author signed it: as another process has found, else found out here."""
    if judge.check is None:
        return (signed_by(public, encoded) for public, encoded in _pairs(judge.item, judge.publics))
    return (
        signed_by(public, encoded) if found is None else found
        for (public, encoded), found in zip(judge.check.pairs, judge.check.found, strict=True)
    )


def _said(item: Spoken) -> tuple[Said, ...]:
    return (item.said,) if isinstance(item, Request) else item.said


def _pairs(item: Spoken, publics: Mapping[str, bytes]) -> list[tuple[bytes, bytes]]:
    """Each statement with the key that it should be signed with: no key at all where its author is not known."""
    if isinstance(item, HandBack):
        return [(publics.get(said.signed.statement.device, b""), said.signed.encoded) for said in item.said]
    public = publics[item.device]
    return [(public, said.signed.encoded) for said in _said(item)]


def read_all(reader: Reader, reads: Sequence[Read]) -> list[tuple[Read, Any]]:
    """Runs reads one after the other; the result of each, or what it raised."""
    done: list[tuple[Read, Any]] = []
    for read in reads:
        try:
            done.append((read, read.run(reader)))
        except Exception as error:  # noqa: BLE001 - one read must not take the others with it
            done.append((read, error))
    return done
