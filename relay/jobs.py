"""Work that the hub hands to its shell: each says what to run, and what to do with the result on the loop's thread.

A service runs them on its threads, a simulator inline; neither knows what they are about.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from crdtmed.statement import verify
from relay.admission.facts import KnowledgeAnswer, KnowledgeQuestion
from relay.batch import Batch
from relay.commit import HandBack, Push, Request
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
    """Something that takes a while and touches nothing: comparing a password."""

    run: Callable[[], Any]
    then: Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Ask:
    """A question to the knowledge base."""

    question: KnowledgeQuestion
    then: Callable[[KnowledgeAnswer], None]


class Judge(msgspec.Struct, frozen=True):
    """A push, a request or what is handed back, to be verified and committed; ``publics`` are its authors' keys."""

    item: Push | Request | HandBack
    publics: dict[str, bytes]
    size: int


def statements_of(judge: Judge) -> int:
    """How many statements are in it."""
    return 1 if isinstance(judge.item, Request) else len(judge.item.said)


def take(inbox: deque[Judge], most: int) -> list[Judge]:
    """The first of what waits, about ``most`` statements; at least one item."""
    taken: list[Judge] = []
    count = 0
    while inbox:
        count += statements_of(inbox[0])
        if taken and count > most:
            break
        taken.append(inbox.popleft())
    return taken


def verified(judge: Judge) -> Judge:
    """The item with every signature checked; without keys where one is wrong.

    Of what is handed back, statements that no key fits are left out: it is others' statements that are kept.
    """
    item = judge.item
    if isinstance(item, HandBack):
        good = tuple(said for said in item.said if _signed(said, judge.publics))
        forged = tuple(said.signed.statement.ref for said in item.said if said not in good)
        return Judge(HandBack(item.connection, item.device, item.document, good, forged), judge.publics, judge.size)
    public = judge.publics[item.device]
    every = (item.said,) if isinstance(item, Request) else item.said
    if all(verify(said.signed, public) for said in every):
        return judge
    return Judge(item, {}, judge.size)


def _signed(said: Said, publics: Mapping[str, bytes]) -> bool:
    """Whether its author signed it, as far as the author is known."""
    public = publics.get(said.signed.statement.device)
    return public is not None and verify(said.signed, public)


def read_all(reader: Reader, reads: Sequence[Read]) -> list[tuple[Read, Any]]:
    """Runs reads one after the other; the result of each, or what it raised."""
    done: list[tuple[Read, Any]] = []
    for read in reads:
        try:
            done.append((read, read.run(reader)))
        except Exception as error:  # noqa: BLE001 - one read must not take the others with it
            done.append((read, error))
    return done
