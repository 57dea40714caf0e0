"""What is waiting to be committed, and what a commit then has to tell."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from crdtmed.documents import Document
from crdtmed.updates import DeviceUpdate
from relay.batch import Batch, Change
from relay.session_events import Said


class Push(msgspec.Struct, frozen=True):
    """A device's update of a document, with the statements that are its values, in order."""

    connection: int
    device: str
    document: Document
    update: DeviceUpdate
    raw: bytes
    said: tuple[Said, ...]


class Request(msgspec.Struct, frozen=True):
    """A statement that asks for a change of registers."""

    connection: int
    device: str
    said: Said


@dataclass(frozen=True, slots=True)
class HandBack:
    """Statements of any author that a device gives back after a restore, into the document they were in.

    ``forged`` are the references of those that no key fits; they are left out, and the operator hears of them.
    """

    connection: int
    device: str
    document: Document
    said: tuple[Said, ...]
    forged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """Anything else that writes: the identity service, an import, the operator.

    Its result is in `Outcome.results` under ``key``; what it raises undoes the batch, so that tasks share none with
    statements.
    """

    key: int
    act: Callable[[Batch], Any]


Spoken = Push | Request | HandBack
"""What comes from devices, and is verified and judged."""
Item = Spoken | Task


@dataclass(frozen=True, slots=True)
class Gapped:
    """A push did not continue its client: ``clock`` is the one due."""

    document: str
    client: int
    clock: int


@dataclass(slots=True)
class Outcome:
    """What a commit has to tell: verdicts and gaps by connection, connections to close, updates by document."""

    now_ms: int
    verdicts: dict[int, list[bytes]] = field(default_factory=dict)
    gaps: dict[int, list[Gapped]] = field(default_factory=dict)
    closes: dict[int, tuple[str, str]] = field(default_factory=dict)
    changes: dict[str, Change] = field(default_factory=dict)
    results: dict[int, Any] = field(default_factory=dict)
    judged: Counter[tuple[str, str]] = field(default_factory=Counter)
    """New judgements by status and reason's code; ``known`` where a verdict was only given again."""
    told: list[tuple[str, str, str, str]] = field(default_factory=list)
    """The new judgements one by one: reference, document, status and reason's code."""
    alarms: int = 0
    external: bool = False
    """Another process has written: everybody has to be brought up to date from the record."""
