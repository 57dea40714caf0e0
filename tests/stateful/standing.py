"""What follows from the record so far: orders, lots, what was said, what waits for somebody; and what may come next."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.stateful.words import (
    Word,
)

Outcomes = dict[tuple[str, str], Callable[[], None]]
"""What may become of a statement, by status and code, and what each outcome does."""
IN_FORCE: Final = ("active", "on-hold")


@dataclass
class Order:
    """A signed prescription."""

    patient: str
    status: str
    authorised: int
    values: dict[str, Any]
    signed_by: str
    dispensed: int = 0
    successor: str | None = None


@dataclass
class Lot:
    """A lot of an item: what is on hand, and what left without having been there."""

    on_hand: int = 0
    shortage: int = 0
    expiry: str | None = None
    version: int = 0


@dataclass
class Case:
    """A statement in conflict."""

    word: Word
    actions: frozenset[str]
    open: bool = True


@dataclass
class Session:
    """A reconciliation session."""

    patient: str
    status: str
    restarts: tuple[str, ...]
    opened_by: str
    medicines: frozenset[str]
    restarted_by: str | None = None


@dataclass
class Standing:
    """Everything that follows from the record up to a row."""

    lots: dict[tuple[str, str], Lot]
    orders: dict[str, Order] = field(default_factory=dict)
    writes: dict[str, dict[str, Word]] = field(default_factory=dict)
    log: dict[str, Word] = field(default_factory=dict)
    receipts: set[tuple[Any, ...]] = field(default_factory=set)
    cases: dict[str, Case] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    overridden: set[str] = field(default_factory=set)
    alerted: set[str] = field(default_factory=set)


def accept(effect: Callable[[], Any]) -> Outcomes:
    """It is accepted."""
    return {("accepted", ""): effect}


def refuse(code: str) -> Outcomes:
    """It is refused, and nothing comes of it."""
    return {("refused", code): nothing}


def nothing() -> None:
    """Nothing comes of it."""
    return
