"""What admission reads: the statement as it arrived, and a port to what the relay holds.

Storage implements `FactsPort`.  Every read answers as of the batch under way: what an earlier statement of the same
batch had done (registers put, notes made, statements stored, drafts closed) is already there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import msgspec

from crdtmed import clock
from crdtmed.aggregates.alert_override_record import Card
from crdtmed.aggregates.content import Content, ContentError
from crdtmed.aggregates.medication import MedicationRegister
from crdtmed.aggregates.patient import PatientRegister
from crdtmed.aggregates.prescription import PrescriptionRegister, SignedGroups
from crdtmed.aggregates.registers import RegisterValue
from crdtmed.signed import Grant
from crdtmed.statement import SignedStatement, Statement
from crdtmed.verdict import Verdict


class ChallengeState(StrEnum):
    """What the session found out about the challenge that a statement carries."""

    ABSENT = "absent"
    """It carries none."""
    FRESH = "fresh"
    """This relay gave it on this connection less than `crdtmed.limits.CHALLENGE_MS` ago, and it is used up now."""
    SPENT = "spent"
    """Anything else: unknown here, used before, or too old."""


@dataclass(frozen=True, slots=True)
class KnowledgeQuestion:
    """What the knowledge base is asked before a transaction opens.

    ``order`` is what would become active, ``digest`` names it (of a draft: `draft_digest`); ``active`` are the
    patient's other prescriptions in force, and those on hold that come back by themselves; ``medicines`` the
    formulary's entries of all of them by code, where it has one.  ``position`` is that of the patient's document, and
    must still be it at commit.
    """

    patient: PatientRegister
    position: int
    prescription: str
    digest: bytes
    order: SignedGroups
    active: tuple[PrescriptionRegister, ...]
    medicines: Mapping[str, MedicationRegister]


@dataclass(frozen=True, slots=True)
class KnowledgeAnswer:
    """What it said.

    ``position`` and ``digest`` are those of the question.  ``unavailable`` says why there is no answer (down, slow,
    nonsense); then ``snapshot`` is empty and there are no cards.
    """

    position: int
    digest: bytes
    snapshot: str
    cards: tuple[Card, ...] = ()
    unavailable: str | None = None


class Submission(msgspec.Struct, frozen=True):
    """One statement as it arrived: its signature verified against its author's certificate, its content decoded.

    ``document`` is the segment or drafts document that it was pushed in, None for a request.  ``received_at`` is the
    relay's time, milliseconds.  ``handed_back``: a device gives back what a restored relay lacks.  ``answer`` is the
    knowledge base's to `relay.admission.admit.question`, None where there was no question.  The rest follows from
    these: the statement itself, its reference ``ref``, whether its stamp is too far ``ahead`` of the relay's clock, and
    ``judged_at``, as of when its gates are judged, milliseconds: its stamp, or its arrival where the stamp is ahead.
    `submitted` makes one.
    """

    signed: SignedStatement
    content: Content | ContentError
    document: str | None
    received_at: int
    challenge: ChallengeState
    handed_back: bool
    answer: KnowledgeAnswer | None
    statement: Statement
    ref: str
    ahead: bool
    judged_at: int


def submitted(
    signed: SignedStatement,
    content: Content | ContentError,
    document: str | None,
    received_at: int,
    challenge: ChallengeState = ChallengeState.ABSENT,
    handed_back: bool = False,
    answer: KnowledgeAnswer | None = None,
) -> Submission:
    """A submission with what follows from the statement, which rules ask for some thirty times."""
    statement = signed.statement
    stamp = clock.Stamp(statement.stamp)
    ahead = clock.is_ahead(stamp, received_at)
    return Submission(
        signed,
        content,
        document,
        received_at,
        challenge,
        handed_back,
        answer,
        statement,
        statement.ref,
        ahead,
        received_at if ahead else clock.milliseconds(stamp),
    )


class Stored(msgspec.Struct, frozen=True):
    """A statement with a final verdict, as the relay recorded it."""

    signed: SignedStatement
    verdict: Verdict
    received_at: int


class FactsPort(Protocol):
    """What admission asks of the relay; small synchronous reads, none of them raises for what is not there."""

    def grant(self, grant_id: str, device: str) -> Grant | None:
        """The grant of that id as it was issued to that device, lapsed or not."""

    def user_withdrawn_at(self, user: str) -> int | None:
        """Since when, in milliseconds, the user is withdrawn; None while not."""

    def statement(self, ref: str) -> Stored | None:
        """The statement recorded under a reference, with its final verdict."""

    def number_holder(self, device: str, number: int) -> str | None:
        """The reference of the statement recorded with that number of the device."""

    def awaited_since(self, ref: str) -> int | None:
        """Since when the statement ``ref`` has been told to wait for another (the effect `Awaiting`)."""

    def register(self, document: str, key: str) -> RegisterValue | None:
        """The value of a register; None where there is none, or it was withdrawn."""

    def registers(self, document: str, word: str) -> Sequence[RegisterValue]:
        """The values of all registers of a document whose key is ``word/…``, in the order of their keys."""

    def is_full(self, document: str) -> bool:
        """Whether its registers take more than `crdtmed.limits.MAX_LISTED_BYTES`, so that no more is listed there."""

    def position(self, document: str) -> int:
        """The document's position; one higher as soon as this batch has put or withdrawn a register of it."""

    def draft(self, patient: str, prescription: str) -> Sequence[Statement]:
        """The admitted writes of a draft that is not closed; empty where there is none."""

    def note(self, kind: str, key: str) -> bytes | None:
        """What the effect `Note` kept."""

    def snapshot_in_force(self) -> str | None:
        """The knowledge-base snapshot in force; None before the first."""
