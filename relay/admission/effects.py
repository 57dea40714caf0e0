"""What a decision wants done.  Storage applies the effects in order, in the transaction of the statement.

Effects are whole: a register put replaces the one under its key, a movement is already reckoned, so that applying them
takes no judgement.
"""

from dataclasses import dataclass

import msgspec

from crdtmed.aggregates.conflict import Action
from crdtmed.aggregates.registers import RegisterValue
from crdtmed.aggregates.stock_item import Movement
from crdtmed.reasons import Reason
from crdtmed.verdict import Flag, Status


@dataclass(frozen=True, slots=True)
class Put:
    """Writes ``value`` into ``document`` (a patient or a site) under `crdtmed.aggregates.registers.register_key`."""

    document: str
    value: RegisterValue


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Withdraws the register under ``key``, if there is one."""

    document: str
    key: str


@dataclass(frozen=True, slots=True)
class CloseDraft:
    """Deletes the writes of a draft from the patient's drafts document; the statements stay on record."""

    patient: str
    prescription: str


@dataclass(frozen=True, slots=True)
class Move:
    """A row of the ledger.

    SHORTAGE and SHORTAGE_CLOSED count into the lot's shortage, every other type into on-hand; `Put` of the lot's
    register goes with it and says the same sums.
    """

    movement: Movement


@dataclass(frozen=True, slots=True)
class Note:
    """Keeps ``value`` under (kind, key) for `FactsPort.note`; it replaces an earlier one."""

    kind: str
    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Awaiting:
    """The statement ``ref`` was told to wait, first at ``since``.

    The one effect that goes with ``retry``: it is applied although nothing else of the statement is kept.
    """

    ref: str
    since: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """What the operator has to see: ``kind`` is a stable code, ``says`` one line for people."""

    kind: str
    device: str
    says: str


Effect = Put | Withdraw | CloseDraft | Move | Note | Awaiting | Alarm


class Decision(msgspec.Struct, frozen=True):
    """The judgement of one statement, all of the verdict but the place, which the commit fills in.

    With ``retry`` the statement is not recorded.  With the reason ``key_reused`` neither, since its reference is
    taken: the verdict is answered, and what was recorded under the reference keeps its own.
    """

    status: Status
    reason: Reason | None = None
    actions: tuple[Action, ...] = ()
    flags: tuple[Flag, ...] = ()
    effects: tuple[Effect, ...] = ()


def accept(*effects: Effect) -> Decision:
    """Accepted, with these effects."""
    return Decision(Status.ACCEPTED, effects=effects)


def also(decision: Decision, *effects: Effect) -> Decision:
    """``decision`` with more effects, after its own."""
    return msgspec.structs.replace(decision, effects=(*decision.effects, *effects))
