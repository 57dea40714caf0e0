"""What an accepted statement counts, by its own words and those that it embeds: units of a lot, and of a prescription.

The rules of resolutions are written here anew: nothing of admission is used, so that the two are held against each
other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import structs

from crdtmed.aggregates.conflict import Action, Resolve
from crdtmed.aggregates.content import Content, ContentError, decode_content, embedded
from crdtmed.aggregates.dispensing_event import Dispense
from crdtmed.aggregates.stock_item import Adjust, MovementType, Receipt
from crdtmed.statement import SignedStatement

Lot = tuple[str, str, str]
"""Site, item and lot."""
Moved = tuple[Lot, str, int]
"""One movement: of what, its type, its units."""

_CONFIRMED: Final = frozenset({Action.CONFIRM_AS_GIVEN, Action.CONFIRM_AS_SEPARATE})
_CARRIED_OUT: Final = frozenset({Action.SWITCH_LOT, Action.DISPENSE_PART, Action.TRY_AGAIN})


@dataclass(frozen=True, slots=True)
class Count:
    """What one accepted statement counts.

    ``delta`` units of ``lot`` as movements of ``type``, and ``closes`` units of its shortage.  ``of`` are the bytes of
    what was said first, which a resolution embeds.  ``confirmed``: a person said that it happened, so the books need
    not have had it, and what they did not have is a shortage.  ``dispensed`` are the patient and the prescription that
    it is counted for.
    """

    lot: Lot
    type: MovementType
    delta: int
    of: bytes
    closes: int = 0
    confirmed: bool = False
    dispensed: tuple[str, str] | None = None


def count_of(signed: SignedStatement) -> Count | None:
    """What an accepted statement counts; None where it counts nothing.

    Raises `ContentError` where it cannot be read, or what it embeds, unless a person closed that without counting it.
    """
    resolutions, said, content = _chain(signed)
    site = signed.statement.document.partition("/")[2].partition("/")[0]
    action, confirmed = _what_was_chosen(resolutions)
    if action is not None and action not in _CARRIED_OUT and action is not Action.LOST:
        return None
    if isinstance(content, ContentError):
        if action is Action.LOST:
            return None
        raise content
    match content:
        case Dispense():
            lost = action is Action.LOST
            given = _as_resolved(content, resolutions)
            return Count(
                (site, given.item, given.lot),
                MovementType.ADJUSTMENT if lost else MovementType.DISPENSE,
                -given.quantity,
                said.encoded,
                confirmed=confirmed or lost,
                dispensed=None if lost else (given.patient, given.prescription),
            )
        case Receipt(item=item, lot=lot, quantity=quantity) if action is not Action.LOST:
            return Count((site, item, lot), MovementType.RECEIPT, quantity, said.encoded, confirmed=confirmed)
        case Adjust(item=item, lot=lot, delta=delta, closes_shortage=closes) if not resolutions:
            return Count((site, item, lot), MovementType.ADJUSTMENT, delta, said.encoded, closes)
    return None


def agrees(count: Count | None, moved: Sequence[Moved]) -> bool:
    """Whether these movements are exactly those that a statement counts, each once and of its own lot."""
    if count is None:
        return not moved
    units = {kind: delta for _, kind, delta in moved}
    if len(units) != len(moved) or any(lot != count.lot for lot, _, _ in moved):
        return False
    delta = units.pop(count.type, 0)
    lacked = units.pop(MovementType.SHORTAGE, 0)
    closed = units.pop(MovementType.SHORTAGE_CLOSED, 0)
    if units:
        return False
    if count.confirmed and count.delta < 0:
        return closed == 0 and delta <= 0 <= lacked and delta - lacked == count.delta
    return (delta, lacked, closed) == (count.delta, 0, -count.closes)


def _chain(signed: SignedStatement) -> tuple[list[Resolve], SignedStatement, Content | ContentError]:
    """The resolutions, the outermost first, and the statement that they resolve in the end, with its content or what
    is wrong with it; of any other statement itself."""
    resolutions: list[Resolve] = []
    while True:
        try:
            content = decode_content(signed.statement.kind, bytes(signed.statement.content))
            if not isinstance(content, Resolve):
                return resolutions, signed, content
            inner = embedded(content)
        except ContentError as error:
            return resolutions, signed, error
        resolutions.append(content)
        signed = inner


def _what_was_chosen(resolutions: Sequence[Resolve]) -> tuple[Action | None, bool]:
    """What the last word of a chain comes to, and whether a person confirmed on the way that it happened.

    To try a resolution again, or to confirm it, is to do what it says.
    """
    confirmed = False
    for each in resolutions:
        if each.action in _CONFIRMED:
            confirmed = True
        elif each.action is not Action.TRY_AGAIN:
            return each.action, confirmed
    return None, confirmed


def _as_resolved(said: Dispense, resolutions: Sequence[Resolve]) -> Dispense:
    """A dispense with the lot and the quantity that the last resolution to name one gave it."""
    lot = next((each.lot for each in resolutions if each.lot is not None), said.lot)
    quantity = next((each.quantity for each in resolutions if each.quantity is not None), said.quantity)
    return structs.replace(said, lot=lot, quantity=quantity)
