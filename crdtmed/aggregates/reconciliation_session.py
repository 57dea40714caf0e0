"""Reconciliation of home medicines: requests, and the session that the relay keeps (FHIR List of
MedicationStatement)."""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, structs

from crdtmed.aggregates.elements import (
    Code,
    Instant,
    LongText,
    Model,
    Problem,
    ShortText,
    Version,
    text_problems,
)
from crdtmed.ids import Ref, ScopeId, UserId
from crdtmed.limits import MAX_HOME_MEDICATIONS, MAX_RESTARTED_SESSIONS


class HomeMedication(Model, frozen=True):
    """MedicationStatement: what the patient takes at home; ``key`` names it within its list."""

    key: Code
    display: ShortText
    code: Code | None = None
    dose_text: ShortText | None = None


class Decision(StrEnum):
    """What becomes of a home medicine during the stay."""

    CONTINUE = "continue"
    CHANGE = "change"
    STOP = "stop"
    UNKNOWN = "unknown"


class SessionStatus(StrEnum):
    """List.status, with ``completed`` for a list that nobody changes any more."""

    IN_PROGRESS = "in-progress"
    COMPLETED = "completed"
    ENTERED_IN_ERROR = "entered-in-error"


Homes = Annotated[tuple[HomeMedication, ...], Meta(max_length=MAX_HOME_MEDICATIONS)]
Restarts = Annotated[tuple[ScopeId, ...], Meta(max_length=MAX_RESTARTED_SESSIONS)]


class Open(Model, frozen=True):
    """Asks for a new session; ``restarts`` are the sessions entered in error that it takes the place of."""

    session: ScopeId
    restarts: Restarts = ()
    home_medications: Homes = ()


class Record(Model, frozen=True):
    """Records what is decided on one home medicine of an open session; a later record of it takes its
    place."""

    session: ScopeId
    medicine: Code
    decision: Decision
    note: LongText | None = None


class Complete(Model, frozen=True):
    """Asks to complete a session."""

    session: ScopeId


class SessionItem(Model, frozen=True):
    """A home medicine in a session, with the decision on it, if there is one yet, and who recorded it."""

    medicine: HomeMedication
    decision: Decision | None = None
    note: LongText | None = None
    recorded_by: Ref | None = None


class SessionRegister(Model, frozen=True):
    """A session as the relay keeps it; what was recorded stays, whatever becomes of the status."""

    id: ScopeId
    patient: ScopeId
    status: SessionStatus
    opened_by: Ref
    opened_by_user: UserId
    opened_at: Instant
    version: Version
    items: Annotated[tuple[SessionItem, ...], Meta(max_length=MAX_HOME_MEDICATIONS)] = ()
    restarts: Restarts = ()
    restarted_by: ScopeId | None = None
    status_by: Ref | None = None


def home_problems(field: str, homes: Sequence[HomeMedication]) -> Iterable[Problem]:
    """What is wrong with a list of home medicines."""
    first: dict[str, int] = {}
    for place, home in enumerate(homes):
        yield from text_problems(f"{field}.{place}.display", home.display)
        yield from text_problems(f"{field}.{place}.dose_text", home.dose_text)
        if first.setdefault(home.key, place) != place:
            yield Problem(
                f"{field}.{place}.key",
                f"is {home.key!r}, as that of entry {first[home.key]}; keys must differ",
            )


def open_problems(opening: Open) -> tuple[Problem, ...]:
    """What is wrong with a request to open a session."""
    return tuple(_open_problems(opening))


def _open_problems(opening: Open) -> Iterable[Problem]:
    yield from home_problems("home_medications", opening.home_medications)
    if opening.session in opening.restarts:
        yield Problem("restarts", "names the new session itself; a new session needs a new id")
    if list(opening.restarts) != sorted(set(opening.restarts)):
        yield Problem("restarts", "must be in order, each session once")


def record_problems(record: Record) -> tuple[Problem, ...]:
    """What is wrong with a request to record a decision."""
    return tuple(text_problems("note", record.note))


def recorded(register: SessionRegister, record: Record, by: str) -> SessionRegister | None:
    """``register`` with a decision on one of its items, recorded by the statement ``by``, one version on.

    None where the session has no such medicine.  Whether the session is still open is for the caller to
    judge.
    """
    if all(item.medicine.key != record.medicine for item in register.items):
        return None
    items = tuple(
        SessionItem(item.medicine, record.decision, record.note, by) if item.medicine.key == record.medicine else item
        for item in register.items
    )
    return structs.replace(register, items=items, version=register.version + 1)


def offered(sessions: Sequence[SessionRegister]) -> tuple[SessionItem, ...]:
    """What a new session that restarts ``sessions`` offers: every item they held, each medicine and decision
    once.

    Where two sessions decided differently on one medicine, both are offered, in the order of the sessions'
    ids.
    """
    found: dict[tuple[str, Decision | None, str | None], SessionItem] = {}
    decided: set[str] = set()
    for session in sorted(sessions, key=lambda of: of.id):
        for item in session.items:
            found.setdefault((item.medicine.key, item.decision, item.note), item)
            if item.decision is not None:
                decided.add(item.medicine.key)
    return tuple(item for item in found.values() if item.decision is not None or item.medicine.key not in decided)
