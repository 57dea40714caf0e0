"""What a device shows of stock: what the relay has confirmed, and what will be there if all that is pending holds."""

from collections import defaultdict
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
    told: dict[str, Receipt | Dispense] = {**out, **receipts}
    first = register if register is not None else told[min(told)] if told else None
    if first is None:
        raise ValueError("no register, receipt or dispense: there is no lot to show")
    lot, unit = (first.item, first.lot), first.unit
    here = _by_lot(receipts).get(lot, {})
    moved = {ref: (it.quantity, it.unit) for ref, it in here.items()}
    moved |= {ref: (-it.quantity, it.unit) for ref, it in _by_lot(out).get(lot, {}).items()}
    expiries = [register.expiry] if register is not None else []
    expiries += [here[ref].expiry for ref in sorted(here)]
    confirmed = register.on_hand if register is not None else 0
    return StockView(
        item=first.item,
        lot=first.lot,
        expiry=next((expiry for expiry in expiries if expiry is not None), None),
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
    """Every lot of a site, also those that only pending statements know, by item, expiry (first to expire first),
    lot."""
    by_lot = {(register.item, register.lot): register for register in registers}
    conflicts = {ref: it for ref, it in handed_over.items() if ref not in dispenses}
    come, gone, left = _by_lot(receipts), _by_lot(dispenses), _by_lot(conflicts)
    views = [
        tentative(by_lot.get(lot), come.get(lot, {}), gone.get(lot, {}), left.get(lot, {}))
        for lot in by_lot.keys() | come.keys() | gone.keys() | left.keys()
    ]
    return tuple(sorted(views, key=lambda it: (it.item, it.expiry is None, it.expiry or "", it.lot)))


_T = TypeVar("_T", Receipt, Dispense)


def _by_lot(statements: Mapping[str, _T]) -> dict[tuple[str, str], dict[str, _T]]:
    found: dict[tuple[str, str], dict[str, _T]] = defaultdict(dict)
    for ref, it in statements.items():
        found[it.item, it.lot][ref] = it
    return found
