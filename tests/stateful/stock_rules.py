"""The rules of the pharmacy: lots, deliveries, dispenses, counts."""

from dataclasses import dataclass
from typing import Any

from tests.stateful.standing import Lot, Outcomes, Standing, accept, nothing, refuse
from tests.stateful.words import (
    Word,
)


@dataclass
class StockRules(Standing):
    """What may become of what moves stock."""

    def lot(self, content: Any) -> Lot | None:
        """The lot that a statement is about."""
        return self.lots.get((content["item"], content["lot"]))

    def short(self, content: Any, at_ms: int) -> str | None:
        """Why a dispense cannot be."""
        order, lot = self.orders.get(content["prescription"]), self.lot(content)
        if order is None or order.patient != content["patient"]:
            return "prescription_unknown"
        if order.status != "active":
            return "superseded" if order.status == "superseded" else "prescription_status"
        if order.values["medication"]["code"] != content["item"]:
            return "wrong_item"
        if order.dispensed + content["quantity"] > order.authorised:
            return "over_authorised"
        if lot is None:
            return "lot_unknown"
        if lot.expiry is not None and lot.expiry < day_of(content["occurred_at"]):
            return "lot_expired"
        return "stock_short" if lot.on_hand < content["quantity"] else None

    def _counted(self, content: Any, *, dispensed: bool = True) -> None:
        lot = self.lots.setdefault((content["item"], content["lot"]), Lot())
        there = min(lot.on_hand, content["quantity"])
        lot.on_hand -= there
        lot.shortage += content["quantity"] - there
        lot.version += 1
        order = self.orders.get(content["prescription"])
        if dispensed and order is not None and order.patient == content["patient"]:
            order.dispensed += content["quantity"]

    def _dispense(self, word: Word) -> Outcomes:
        reason = self.short(word.content, word.stamp)
        if reason is not None:
            return {("conflict", reason): nothing}
        return accept(lambda: self._counted(word.content))

    def _uncountable(self, content: Any, *, separate: bool) -> str | None:
        lot = self.lot(content)
        if lot is not None and lot.expiry not in (None, content["expiry"]):
            return "content_invalid"
        return "possible_duplicate_receipt" if not separate and _delivery(content) in self.receipts else None

    def _booked(self, content: Any) -> None:
        lot = self.lots.setdefault((content["item"], content["lot"]), Lot())
        lot.on_hand += content["quantity"]
        lot.expiry, lot.version = content["expiry"], lot.version + 1
        self.receipts.add(_delivery(content))

    def _receipt(self, word: Word) -> Outcomes:
        reason = self._uncountable(word.content, separate=False)
        if reason is not None:
            return {("conflict", reason): nothing}
        return accept(lambda: self._booked(word.content))

    def _adjust(self, word: Word) -> Outcomes:
        lot, delta, closes = self.lot(word.content), word.content["delta"], word.content.get("closes_shortage", 0)
        if lot is None:
            return refuse("lot_unknown")
        if lot.version != word.content["version_seen"]:
            return {("conflict", "version_stale"): nothing}
        if lot.on_hand + delta < 0 or lot.shortage < closes:
            return refuse("below_zero")

        def adjust() -> None:
            lot.on_hand, lot.shortage, lot.version = lot.on_hand + delta, lot.shortage - closes, lot.version + 1

        return accept(adjust)


def day_of(ms: int) -> str:
    """The UTC day of an instant."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ms / 1000, UTC).date().isoformat()


def _delivery(content: Any) -> tuple[Any, ...]:
    return tuple(content[name] for name in ("supplier", "delivery_note", "item", "lot", "quantity"))
