"""What a device shows of stock: what the relay has confirmed, and what will be there if all that is pending holds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from crdtmed.aggregates.dispensing_event import Dispense
from crdtmed.aggregates.stock_item import Receipt, StockRegister


@dataclass(frozen=True, slots=True)
class StockView:
    """One lot of one item at a site, in counting units.

    ``confirmed`` is on-hand as the relay last said (0 where it has not said anything of this lot); ``tentative`` adds
    the device's own pending receipts and takes away its pending dispenses and the open conflicts of medicine that was
    handed over.  It may be below zero: then more left the shelf than the books have, and nothing hides that.
    ``pending`` are the statements counted; ``uncounted`` those in another unit, which cannot be.
    """

    item: str
    lot: str
    expiry: str | None
    unit: str
    confirmed: int
    tentative: int
    shortage: int
    version: int
    pending: tuple[str, ...]
    uncounted: tuple[str, ...]

    @property
    def is_tentative(self) -> bool:
        """Whether it rests on anything that the relay has not confirmed."""
        return bool(self.pending or self.uncounted)


def tentative(
    register: StockRegister | None,
    receipts: Mapping[str, Receipt],
    dispenses: Mapping[str, Dispense],
    handed_over: Mapping[str, Dispense],
) -> StockView:
    """The view of one lot: its register, and by reference what is pending on it.

    ``handed_over`` are dispenses in open conflict whose medicine has left; one that is pending too counts once.  What
    is of another item or lot is left out; without a register, the first receipt or dispense in order of reference says
    which lot it is.  Raises `ValueError` where nothing at all is handed in.
    """
    out = {**handed_over, **dispenses}
    first: StockRegister | Receipt | Dispense | None = register
    for ref in sorted({**out, **receipts}) if register is None else ():
        first = receipts[ref] if ref in receipts else out[ref]
        break
    if first is None:
        raise ValueError("no register, receipt or dispense: there is no lot to show")
    lot, unit = (first.item, first.lot), first.unit
    moved = {
        **{ref: (it.quantity, it.unit) for ref, it in receipts.items() if (it.item, it.lot) == lot},
        **{ref: (-it.quantity, it.unit) for ref, it in out.items() if (it.item, it.lot) == lot},
    }
    confirmed = register.on_hand if register is not None else 0
    return StockView(
        item=first.item,
        lot=first.lot,
        expiry=None if isinstance(first, Dispense) else first.expiry,
        unit=unit,
        confirmed=confirmed,
        tentative=confirmed + sum(delta for delta, of in moved.values() if of == unit),
        shortage=register.shortage if register is not None else 0,
        version=register.version if register is not None else 0,
        pending=tuple(sorted(ref for ref, (_, of) in moved.items() if of == unit)),
        uncounted=tuple(sorted(ref for ref, (_, of) in moved.items() if of != unit)),
    )


def site_stock(
    registers: Iterable[StockRegister],
    receipts: Mapping[str, Receipt],
    dispenses: Mapping[str, Dispense],
    handed_over: Mapping[str, Dispense],
) -> tuple[StockView, ...]:
    """Every lot of a site, also those that only pending statements know, by item, expiry and lot (first to expire
    first)."""
    by_lot = {(register.item, register.lot): register for register in registers}
    touched = {(it.item, it.lot) for of in (receipts, dispenses, handed_over) for it in of.values()}
    views = []
    for lot in sorted(by_lot.keys() | touched):
        views.append(tentative(by_lot.get(lot), _of(receipts, lot), _of(dispenses, lot), _of(handed_over, lot)))
    return tuple(sorted(views, key=lambda it: (it.item, it.expiry is None, it.expiry or "", it.lot)))


_T = TypeVar("_T", Receipt, Dispense)


def _of(statements: Mapping[str, _T], lot: tuple[str, str]) -> dict[str, _T]:
    return {ref: it for ref, it in statements.items() if (it.item, it.lot) == lot}
