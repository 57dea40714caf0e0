"""Stock: goods receipts, adjustments, and the register of one lot of one item at one site.

FHIR InventoryItem and SupplyDelivery.  Everything is a whole number of the item's counting unit; devices say
what moved, the relay alone says what is there.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from crdtmed.aggregates.elements import (
    DateText,
    Gtin,
    Instant,
    ItemCode,
    LongText,
    Lot,
    Model,
    Problem,
    ShortText,
    UcumUnit,
    Units,
    UnitsOrNone,
    Version,
    date_problems,
    text_problems,
)
from crdtmed.ids import Ref, ScopeId
from crdtmed.limits import MAX_QUANTITY_UNITS


class Receipt(Model, frozen=True):
    """Goods received (SupplyDelivery): ``quantity`` counting units of one lot, on a supplier's delivery
    note."""

    supplier: ShortText
    delivery_note: ShortText
    item: ItemCode
    lot: Lot
    expiry: DateText
    quantity: Units
    unit: UcumUnit
    occurred_at: Instant
    gtin: Gtin | None = None
    serial: Lot | None = None
    reenters: Ref | None = None


class AdjustReason(StrEnum):
    """Why stock is adjusted."""

    COUNT = "count"
    DAMAGED = "damaged"
    EXPIRED = "expired"
    LOST = "lost"
    RETURNED_TO_SUPPLIER = "returned-to-supplier"
    WRONG_RECEIPT = "wrong-receipt"
    CLOSES_SHORTAGE = "closes-shortage"


class Adjust(Model, frozen=True):
    """Asks to change what is on hand of a lot by ``delta``, and to close ``closes_shortage`` units of its
    shortage.

    ``version_seen`` is the version of the register that the supervisor saw; ``corrects`` names a wrong
    receipt.
    """

    item: ItemCode
    lot: Lot
    delta: Annotated[int, Meta(ge=-MAX_QUANTITY_UNITS, le=MAX_QUANTITY_UNITS)]
    reason: AdjustReason
    version_seen: Version
    corrects: Ref | None = None
    closes_shortage: UnitsOrNone = 0
    comment: LongText | None = None


class MovementType(StrEnum):
    """The kinds of movement in the ledger; what is on hand is the sum of those that are not of shortage."""

    RECEIPT = "receipt"
    DISPENSE = "dispense"
    ADJUSTMENT = "adjustment"
    RETURN = "return"
    SHORTAGE = "shortage"
    SHORTAGE_CLOSED = "shortage closed"


class Movement(Model, frozen=True):
    """One entry of the ledger: ``delta`` units of a lot, and the statement it follows from.

    The two kinds of shortage count into the shortage (SHORTAGE up, SHORTAGE_CLOSED down), the others into
    on-hand.
    """

    site: ScopeId
    item: ItemCode
    lot: Lot
    type: MovementType
    delta: Annotated[int, Meta(ge=-MAX_QUANTITY_UNITS, le=MAX_QUANTITY_UNITS)]
    by: Ref


class StockRegister(Model, frozen=True):
    """One lot of one item at a site (InventoryItem): ``on_hand`` is never below zero, ``shortage`` stands
    apart.

    A shortage counts units that were handed over and that the books did not have.  ``expiry`` is None of a lot that
    only a dispense has told of, until a receipt says it.
    """

    item: ItemCode
    lot: Lot
    expiry: DateText | None
    on_hand: UnitsOrNone
    unit: UcumUnit
    version: Version
    shortage: UnitsOrNone = 0


def receipt_problems(receipt: Receipt) -> tuple[Problem, ...]:
    """What is wrong with a goods receipt."""
    return (
        *text_problems("supplier", receipt.supplier),
        *text_problems("delivery_note", receipt.delivery_note),
        *date_problems("expiry", receipt.expiry),
    )


def adjust_problems(adjust: Adjust) -> tuple[Problem, ...]:
    """What is wrong with an adjustment."""
    return tuple(_adjust_problems(adjust))


def _adjust_problems(adjust: Adjust) -> Iterable[Problem]:
    yield from text_problems("comment", adjust.comment)
    if adjust.delta == 0 and adjust.closes_shortage == 0:
        yield Problem("delta", "is 0 and no shortage is closed: nothing would change; write what moved")
    if (adjust.reason is AdjustReason.WRONG_RECEIPT) != (adjust.corrects is not None):
        yield Problem("corrects", "names the receipt exactly where the reason is wrong-receipt; make them agree")
    if adjust.reason is AdjustReason.CLOSES_SHORTAGE and adjust.closes_shortage == 0:
        yield Problem("closes_shortage", "is 0 where the reason is closes-shortage; write how many units it closes")


def stock_problems(register: StockRegister) -> tuple[Problem, ...]:
    """What is wrong with a stock register."""
    return tuple(date_problems("expiry", register.expiry)) if register.expiry is not None else ()
