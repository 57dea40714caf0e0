"""The ledger of a lot: a change is its movements and the register with their sums, reckoned together."""

from typing import Final

from crdtmed.aggregates.stock_item import Movement, MovementType, StockRegister
from crdtmed.limits import MAX_QUANTITY_UNITS
from relay.admission.effects import Effect, Move, Put
from relay.admission.facts import FactsPort

SHORTAGE: Final = frozenset({MovementType.SHORTAGE, MovementType.SHORTAGE_CLOSED})
"""Movements that count into the shortage; all others count into on-hand."""


def lot(port: FactsPort, site: str, item: str, name: str) -> StockRegister | None:
    """The register of a lot of an item at a site."""
    found = port.register(f"site/{site}", f"stock/{item}/{name}")
    return found if isinstance(found, StockRegister) else None


def fits(units: int) -> bool:
    """Whether a register can hold that many units."""
    return 0 <= units <= MAX_QUANTITY_UNITS


def empty(item: str, name: str, unit: str, expiry: str | None) -> StockRegister:
    """A lot that nothing is known of yet; its first change makes it version 1."""
    return StockRegister(item=item, lot=name, expiry=expiry, on_hand=0, unit=unit, version=0)


def moved(
    site: str, before: StockRegister, by: str, changes: tuple[tuple[MovementType, int], ...]
) -> tuple[Effect, ...]:
    """The effects of ``changes`` (type and delta) that follow from the statement ``by``, one version on.

    Raises `ValueError` where on-hand or shortage would leave their range: to look first is for the rules.
    """
    on_hand = before.on_hand + sum(delta for kind, delta in changes if kind not in SHORTAGE)
    shortage = before.shortage + sum(delta for kind, delta in changes if kind in SHORTAGE)
    if not fits(on_hand) or not fits(shortage):
        raise ValueError(f"{before.item}/{before.lot} at {site} would have {on_hand} on hand and {shortage} short")
    after = StockRegister(before.item, before.lot, before.expiry, on_hand, before.unit, before.version + 1, shortage)
    rows = tuple(Move(Movement(site, before.item, before.lot, kind, delta, by)) for kind, delta in changes if delta)
    return (*rows, Put(f"site/{site}", after))


def taken(site: str, before: StockRegister, by: str, quantity: int, kind: MovementType) -> tuple[Effect, ...]:
    """Takes ``quantity`` out as far as it is there; the rest, that the books do not have, is a shortage."""
    there = min(before.on_hand, quantity)
    return moved(site, before, by, ((kind, -there), (MovementType.SHORTAGE, quantity - there)))
