"""Goods receipts, which are never refused, and adjustments, which need a supervisor, the relay and a fresh look."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from msgspec import structs

from crdtmed.aggregates.stock_item import Adjust, MovementType, Receipt, StockRegister
from crdtmed.codec import encode
from crdtmed.contract import Kind
from crdtmed.reasons import (
    BelowZero,
    ContentInvalid,
    ItemUnknown,
    LotUnknown,
    PossibleDuplicateReceipt,
    Reason,
    UnitMismatch,
    VersionStale,
)
from crdtmed.verdict import Status
from relay.admission import claim
from relay.admission.conflicts import turned_down, with_reentry
from relay.admission.dispensing import medicine
from relay.admission.effects import Decision, Effect, Note, accept
from relay.admission.facts import FactsPort, Submission
from relay.admission.ledger import empty, fits, lot, moved

RECEIPT_NOTE: Final = "receipt"
"""The kind of note under which a receipt that was counted is found by what it says."""


@dataclass(frozen=True, slots=True)
class Received:
    """A receipt to be counted, as said or as a resolution confirms it; ``by`` is the statement that counts it."""

    site: str
    said: Receipt
    by: str
    separate: bool = field(default=False)
    """A person confirmed that it is no duplicate."""


Rule = Callable[[FactsPort, Received], Reason | None]


def receipt_key(site: str, said: Receipt) -> str:
    """What two receipts of one delivery have in common: supplier, delivery note, item, lot and quantity at a site."""
    same = (site, said.supplier, said.delivery_note, said.item, said.lot, said.quantity)
    return hashlib.sha256(encode(same)).hexdigest()


def item_unknown(port: FactsPort, received: Received) -> Reason | None:
    """The formulary has the item."""
    return None if medicine(port, received.said.item) is not None else ItemUnknown(received.said.item)


def unit_mismatch(port: FactsPort, received: Received) -> Reason | None:
    """The unit is the item's counting unit."""
    item = medicine(port, received.said.item)
    if item is None or received.said.unit == item.counting_unit:
        return None
    return UnitMismatch(received.said.unit, item.counting_unit)


def other_expiry(port: FactsPort, received: Received) -> Reason | None:
    """A lot has one expiry."""
    of = _lot(port, received)
    if of.expiry in (None, received.said.expiry):
        return None
    return ContentInvalid(
        "expiry", f"is {received.said.expiry}, the lot stands in the books with {of.expiry}; look at the package"
    )


def too_much(port: FactsPort, received: Received) -> Reason | None:
    """The register can hold the sum."""
    if fits(_lot(port, received).on_hand + received.said.quantity):
        return None
    return ContentInvalid("quantity", "is more than the books can hold; correct it")


def possible_duplicate(port: FactsPort, received: Received) -> Reason | None:
    """No other receipt that was counted says the same, or somebody confirmed that they are two."""
    other = port.note(RECEIPT_NOTE, receipt_key(received.site, received.said))
    return PossibleDuplicateReceipt(other.decode()) if other is not None and not received.separate else None


def _lot(port: FactsPort, received: Received) -> StockRegister:
    it = received.said
    found = lot(port, received.site, it.item, it.lot)
    return found or empty(it.item, it.lot, it.unit, it.expiry)


RECEIPT_RULES: Final[tuple[Rule, ...]] = (item_unknown, unit_mismatch, other_expiry, too_much, possible_duplicate)
"""What a receipt has to meet to be counted, in the order in which it is asked."""


def uncountable(port: FactsPort, received: Received) -> Reason | None:
    """The first reason why a receipt cannot be counted."""
    return next((reason for rule in RECEIPT_RULES if (reason := rule(port, received)) is not None), None)


def booked(port: FactsPort, received: Received) -> tuple[Effect, ...]:
    """Counts a receipt, and remembers what it says."""
    of = structs.replace(_lot(port, received), expiry=received.said.expiry)
    rows = moved(received.site, of, received.by, ((MovementType.RECEIPT, received.said.quantity),))
    return (*rows, Note(RECEIPT_NOTE, receipt_key(received.site, received.said), received.by.encode()))


def receive(port: FactsPort, submission: Submission) -> Decision:
    """Judges a goods receipt: counted, or in conflict."""
    said, site = submission.content, claim.scope_id(submission.statement.document, "site")
    assert isinstance(said, Receipt), "the gates let nothing else through"
    assert site is not None, "the gates let nothing else through"
    received = Received(site, said, submission.ref)
    reason = uncountable(port, received)
    decision = turned_down(port, submission, reason) if reason is not None else accept(*booked(port, received))
    return with_reentry(port, submission, decision)


@dataclass(frozen=True, slots=True)
class _Adjusting:
    site: str
    said: Adjust
    of: StockRegister | None


def _lot_unknown(port: FactsPort, it: _Adjusting) -> Reason | None:
    return None if it.of is not None else LotUnknown(it.said.item, it.said.lot)


def _corrects_another(port: FactsPort, it: _Adjusting) -> Reason | None:
    """A wrong receipt that an adjustment names is one of this lot, and was counted."""
    if it.said.corrects is None:
        return None
    stored = port.statement(it.said.corrects)
    said = claim.readable(stored.signed) if stored is not None else None
    if stored is not None and stored.signed.statement.kind is Kind.RESOLVE:
        _, said = claim.innermost(stored.signed, claim.readable(stored.signed))
    if (
        stored is not None
        and isinstance(said, Receipt)
        and stored.verdict.status is Status.ACCEPTED
        and stored.signed.statement.document == f"site/{it.site}/log"
        and (said.item, said.lot) == (it.said.item, it.said.lot)
    ):
        return None
    return ContentInvalid("corrects", "names no receipt of this lot that was counted; name that, or another reason")


def _version_stale(port: FactsPort, it: _Adjusting) -> Reason | None:
    if it.of is None or it.of.version == it.said.version_seen:
        return None
    return VersionStale(it.said.version_seen, it.of.version)


def _below_zero(port: FactsPort, it: _Adjusting) -> Reason | None:
    of = it.of
    if of is None or (of.on_hand + it.said.delta >= 0 and of.shortage >= it.said.closes_shortage):
        return None
    return BelowZero(of.on_hand, of.shortage)


def _too_high(port: FactsPort, it: _Adjusting) -> Reason | None:
    if it.of is None or fits(it.of.on_hand + it.said.delta):
        return None
    return ContentInvalid("delta", "takes the lot beyond what the books can hold; correct it")


ADJUST_RULES: Final[tuple[Callable[[FactsPort, _Adjusting], Reason | None], ...]] = (
    _corrects_another,
    _lot_unknown,
    _version_stale,
    _below_zero,
    _too_high,
)
"""What an adjustment has to meet, in the order in which it is asked."""


def adjust(port: FactsPort, submission: Submission) -> Decision:
    """Judges an adjustment against the version that its supervisor saw."""
    said, site = submission.content, claim.scope_id(submission.statement.document, "site")
    assert isinstance(said, Adjust), "the gates let nothing else through"
    assert site is not None, "the gates let nothing else through"
    it = _Adjusting(site, said, lot(port, site, said.item, said.lot))
    reason = next((found for rule in ADJUST_RULES if (found := rule(port, it)) is not None), None)
    if reason is not None or it.of is None:
        return turned_down(port, submission, reason or LotUnknown(said.item, said.lot))
    changes = (
        (MovementType.ADJUSTMENT, said.delta),
        (MovementType.SHORTAGE_CLOSED, -said.closes_shortage),
    )
    return accept(*moved(site, it.of, submission.ref, changes))
