"""Conflicts: what a person may choose where the relay cannot apply a statement, and how they say it.

A conflict keeps its statement for ever.  A resolution is a statement of its own that embeds the one it
resolves; views and ledger count the embedded one through it.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Final

from msgspec import Meta

from crdtmed.aggregates.elements import Instant, LongText, Lot, Model, Problem, ShortText, Units, text_problems
from crdtmed.contract import KINDS, Kind, Nature
from crdtmed.ids import DeviceId, Ref, ScopeId
from crdtmed.limits import MAX_STATEMENT_BYTES
from crdtmed.reasons import Reason


class Action(StrEnum):
    """What a person may do about a statement that was not applied."""

    SWITCH_LOT = "switch_lot"
    DISPENSE_PART = "dispense_part"
    CANCEL = "cancel"
    TRY_AGAIN = "try_again"
    CONFIRM_AS_GIVEN = "confirm_as_given"
    RETURNED = "returned"
    LOST = "lost"
    CONFIRM_AS_SEPARATE = "confirm_as_separate"
    DISCARD_AS_DUPLICATE = "discard_as_duplicate"
    DISCARD = "discard"
    START_AMENDMENT = "start_amendment"
    STOP_SUCCESSOR = "stop_successor"
    REDO = "redo"
    RESTART_SESSION = "restart_session"
    ENTERED_IN_ERROR = "entered_in_error"


def _handed_over(*actions: Action) -> tuple[Action, ...]:
    """The actions of a dispense once the medicine is out of the pharmacy's hands: it cannot be cancelled any
    more."""
    kept = (action for action in actions if action is not Action.CANCEL)
    return (Action.CONFIRM_AS_GIVEN, *kept, Action.RETURNED, Action.LOST)


_DISPENSE: Final[Mapping[str, tuple[Action, ...]]] = {
    "stock_short": (Action.SWITCH_LOT, Action.DISPENSE_PART, Action.CANCEL, Action.TRY_AGAIN),
    "lot_unknown": (Action.SWITCH_LOT, Action.CANCEL, Action.TRY_AGAIN),
    "lot_expired": (Action.SWITCH_LOT, Action.CANCEL),
    "over_authorised": (Action.DISPENSE_PART, Action.CANCEL),
    "prescription_unknown": (Action.CANCEL, Action.TRY_AGAIN),
    "prescription_status": (Action.CANCEL, Action.TRY_AGAIN),
    "superseded": (Action.CANCEL,),
    "wrong_site": (Action.CANCEL,),
    "wrong_item": (Action.CANCEL,),
    "item_unknown": (Action.CANCEL, Action.TRY_AGAIN),
    "unit_mismatch": (Action.CANCEL,),
}

_GATES: Final = (
    "wrong_document",
    "grant_unknown",
    "user_withdrawn",
    "grant_not_in_force",
    "role_missing",
    "site_not_granted",
    "patient_not_in_care",
)
"""Reasons that say nothing about the world: for a fact they ask only whether it happened."""

_HAPPENED: Final = (Action.CONFIRM_AS_GIVEN, Action.ENTERED_IN_ERROR)
_TWICE: Final = (Action.CONFIRM_AS_SEPARATE, Action.DISCARD_AS_DUPLICATE)

ACTIONS: Final[Mapping[tuple[str, bool], tuple[Action, ...]]] = MappingProxyType(
    {(code, False): actions for code, actions in _DISPENSE.items()}
    | {(code, True): _handed_over(*actions) for code, actions in _DISPENSE.items()}
    | {(code, True): _HAPPENED for code in _GATES}
    | {
        ("key_reused", False): (Action.DISCARD,),
        ("key_reused", True): _TWICE,
        ("already_reentered", True): _TWICE,
        ("reference_unknown", True): (Action.CONFIRM_AS_GIVEN, Action.TRY_AGAIN, Action.ENTERED_IN_ERROR),
        ("content_invalid", True): (Action.ENTERED_IN_ERROR,),
        ("already_resolved", True): (
            Action.CONFIRM_AS_GIVEN,
            Action.DISCARD_AS_DUPLICATE,
            Action.RETURNED,
            Action.LOST,
        ),
        ("conflict_unknown", True): (Action.TRY_AGAIN, Action.ENTERED_IN_ERROR),
        ("action_not_offered", True): (Action.ENTERED_IN_ERROR,),
    }
)
"""Dispenses and resolutions of dispenses: by reason, and whether the medicine was handed over."""

FACT_ACTIONS: Final[Mapping[str, tuple[Action, ...]]] = MappingProxyType(
    dict.fromkeys(_GATES, _HAPPENED)
    | {
        "key_reused": _TWICE,
        "already_reentered": _TWICE,
        "possible_duplicate_receipt": _TWICE,
        "reference_unknown": (Action.TRY_AGAIN, Action.ENTERED_IN_ERROR),
        "item_unknown": (Action.TRY_AGAIN, Action.ENTERED_IN_ERROR),
        "unit_mismatch": (Action.ENTERED_IN_ERROR,),
        "content_invalid": (Action.ENTERED_IN_ERROR,),
    }
)
"""Facts other than dispenses: receipts, administrations, corrections."""

INTENTION_ACTIONS: Final[Mapping[str, tuple[Action, ...]]] = MappingProxyType(
    {
        "key_reused": (Action.DISCARD,),
        "redo": (Action.REDO, Action.DISCARD),
        "draft_closed": (Action.DISCARD, Action.START_AMENDMENT),
        "draft_changed": (Action.REDO, Action.DISCARD),
        "superseded": (Action.DISCARD,),
        "prescription_status": (Action.DISCARD,),
        "version_stale": (Action.REDO, Action.DISCARD),
        "session_status": (Action.RESTART_SESSION, Action.DISCARD),
        "session_diverged": (Action.RESTART_SESSION,),
    }
)
"""Intentions other than dispenses."""


def actions_for(code: str, kind: Kind, handed_over: bool) -> tuple[Action, ...]:
    """What a person may choose where a statement of ``kind`` is in conflict for the reason ``code``.

    ``handed_over`` tells, of a dispense or a resolution, whether the medicine left the pharmacy's hands.
    Empty where nothing can be done but to read the reason: then the statement should have been refused, not
    kept.
    """
    if kind in (Kind.STOP, Kind.HOLD) and code == "superseded":
        return (Action.STOP_SUCCESSOR, Action.DISCARD)
    if kind is Kind.DISPENSE or (kind is Kind.RESOLVE and handed_over):
        return ACTIONS.get((code, handed_over), ())
    if kind is Kind.RESOLVE:
        return (Action.DISCARD,)  # what it was about is still open, or resolved by somebody else: nothing is lost
    if KINDS[kind].nature is Nature.FACT:
        return FACT_ACTIONS.get(code, ())
    return INTENTION_ACTIONS.get(code, ())


StatementBytes = Annotated[bytes, Meta(min_length=65, max_length=MAX_STATEMENT_BYTES)]


class Resolve(Model, frozen=True):
    """Resolves the conflict of ``statement`` (embedded whole, signature and body) by one of the actions it
    offers.

    ``lot`` is the lot to dispense from instead, or the true one; ``quantity`` the part to dispense, or the
    true one.
    """

    statement: StatementBytes
    action: Action
    lot: Lot | None = None
    quantity: Units | None = None
    comment: LongText | None = None


_AS_IT_WAS: Final = {Action.CONFIRM_AS_GIVEN, Action.CONFIRM_AS_SEPARATE, Action.LOST}
TAKES_LOT: Final = frozenset({Action.SWITCH_LOT, *_AS_IT_WAS})
TAKES_QUANTITY: Final = frozenset({Action.SWITCH_LOT, Action.DISPENSE_PART, *_AS_IT_WAS})


class ConflictRegister(Model, frozen=True):
    """A statement in conflict as the relay keeps it, in the site's document and, if it touches one, the
    patient's.

    ``open`` until ``resolved_by``; a resolved conflict stays, since what was reported is never erased.
    """

    ref: Ref
    kind: Kind
    statement: StatementBytes
    reason: Reason
    actions: tuple[Action, ...]
    handed_over: bool
    open: bool
    received_at: Instant
    resolved_by: Ref | None = None
    patient: ScopeId | None = None
    site: ScopeId | None = None


class QuarantineRegister(Model, frozen=True):
    """A fact that arrived in the name of a revoked device: kept, never applied by itself, until somebody
    reenters it."""

    ref: Ref
    kind: Kind
    statement: StatementBytes
    device: DeviceId
    received_at: Instant
    open: bool
    reentered_by: Ref | None = None


class BreakGlass(Model, frozen=True):
    """Stretches the lease of the device that says it until ``until_ms``; the operator sees it, with the
    reason."""

    reason: ShortText
    until_ms: Instant


def resolve_problems(resolve: Resolve) -> tuple[Problem, ...]:
    """What is wrong with a resolution, apart from the statement embedded."""
    return tuple(_resolve_problems(resolve))


def _resolve_problems(resolve: Resolve) -> Iterable[Problem]:
    if resolve.action is Action.SWITCH_LOT and resolve.lot is None:
        yield Problem("lot", "is missing: name the lot to switch to")
    if resolve.action is Action.DISPENSE_PART and resolve.quantity is None:
        yield Problem("quantity", "is missing: say how much to dispense")
    if resolve.lot is not None and resolve.action not in TAKES_LOT:
        yield Problem("lot", f"has no meaning with {resolve.action}; leave it out")
    if resolve.quantity is not None and resolve.action not in TAKES_QUANTITY:
        yield Problem("quantity", f"has no meaning with {resolve.action}; leave it out")
    yield from text_problems("comment", resolve.comment)


def break_glass_problems(content: BreakGlass) -> tuple[Problem, ...]:
    """What is wrong with a break-glass statement."""
    return tuple(text_problems("reason", content.reason))
