"""Work that the hub hands to its shell: each says what to run, and what to do with the result on the loop's thread.

A service runs them on its threads, a simulator inline; neither knows what they are about.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from relay.admission.facts import KnowledgeAnswer, KnowledgeQuestion
from relay.batch import Batch
from relay.commit import HandBack, Push, Request
from relay.reading import Reader


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


@dataclass(frozen=True, slots=True)
class Judge:
    """A push, a request or what is handed back, to be verified and committed; ``publics`` are its authors' keys."""

    item: Push | Request | HandBack
    publics: dict[str, bytes]
    size: int
