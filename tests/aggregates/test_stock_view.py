"""Stock on a device: confirmed and tentative are told apart, and nothing pending is counted twice or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed.aggregates.dispensing_event import Dispense, QueueEntry, remaining
from crdtmed.aggregates.stock_item import Receipt, StockRegister
from crdtmed.aggregates.stock_view import StockView, site_stock, tentative

TABLET = "{tablet}"


def lot(on_hand: int, name: str = "L1", shortage: int = 0, expiry: str | None = "2027-01-31") -> StockRegister:
    return StockRegister("para", name, expiry, on_hand, TABLET, 7, shortage)


def receipt(quantity: int, name: str = "L1", unit: str = TABLET, expiry: str = "2028-01-31") -> Receipt:
    return Receipt("S", "N1", "para", name, expiry, quantity, unit, 0)


def dispense(quantity: int, name: str = "L1", unit: str = TABLET) -> Dispense:
    return Dispense("rx-1", "p-1", "para", name, quantity, unit, True, 0)


def test_what_is_pending_is_counted_and_marked() -> None:
    view = tentative(lot(10, shortage=2), {"r": receipt(5)}, {"d": dispense(3)}, {"c": dispense(4)})
    assert view == StockView("para", "L1", "2027-01-31", TABLET, 10, 8, 2, 7, ("c", "d", "r"), ())
    assert view.is_tentative
    assert not tentative(lot(10), {}, {}, {}).is_tentative


def test_a_dispense_that_is_pending_and_in_conflict_counts_once() -> None:
    assert tentative(lot(10), {}, {"d": dispense(3)}, {"d": dispense(3)}).tentative == 7


def test_more_than_the_books_have_is_shown_below_zero() -> None:
    assert tentative(lot(1), {}, {"d": dispense(3)}, {}).tentative == -2


def test_another_unit_is_not_added_up_and_not_hidden() -> None:
    view = tentative(lot(10), {"r": receipt(5, unit="mL")}, {"d": dispense(1, unit="mL")}, {})
    assert (view.tentative, view.pending, view.uncounted, view.is_tentative) == (10, (), ("d", "r"), True)


def test_other_lots_are_left_out() -> None:
    assert tentative(lot(10), {"r": receipt(5, "L2")}, {"d": dispense(3, "L2")}, {}).tentative == 10


def test_a_lot_that_only_pending_statements_know() -> None:
    new = tentative(None, {"r": receipt(5, "L2")}, {"s": dispense(2, "L2")}, {})
    assert (new.lot, new.confirmed, new.tentative, new.expiry, new.version) == ("L2", 0, 3, "2028-01-31", 0)
    unknown = tentative(None, {}, {"d": dispense(2, "L3")}, {})
    assert (unknown.tentative, unknown.expiry) == (-2, None)
    told = tentative(lot(0, expiry=None), {"r": receipt(5)}, {}, {})
    assert told.expiry == "2028-01-31"
    with pytest.raises(ValueError, match="no lot to show"):
        tentative(None, {}, {}, {})


def test_a_site_shows_every_lot_first_to_expire_first() -> None:
    views = site_stock(
        [lot(1, "L1"), lot(2, "L0", expiry=None)],
        {"r": receipt(5, "L2", expiry="2026-01-31")},
        {"d": dispense(1, "L1")},
        {"c": dispense(4, "L3")},
    )
    assert [(view.lot, view.tentative) for view in views] == [("L2", 5), ("L1", 0), ("L0", 2), ("L3", -4)]


amounts = st.dictionaries(st.text("abc", min_size=1, max_size=2), st.tuples(st.integers(1, 9), st.sampled_from("12")))


@given(st.integers(0, 20), amounts, amounts, amounts)
def test_the_parts_of_a_site_add_up(
    on_hand: int,
    come: dict[str, tuple[int, str]],
    gone: dict[str, tuple[int, str]],
    left: dict[str, tuple[int, str]],
) -> None:
    views = site_stock(
        [lot(on_hand, "1")],
        {f"r{ref}": receipt(quantity, name) for ref, (quantity, name) in come.items()},
        {ref: dispense(quantity, name) for ref, (quantity, name) in gone.items()},
        {ref: dispense(quantity, name) for ref, (quantity, name) in left.items()},
    )
    out = {**left, **gone}
    expected = on_hand + sum(it[0] for it in come.values()) - sum(it[0] for it in out.values())
    assert sum(view.tentative for view in views) == expected
    assert sum(view.confirmed for view in views) == on_hand
    assert sum(len(view.pending) for view in views) == len(come) + len(out)


def test_what_remains_of_an_order_is_never_below_zero() -> None:
    entry = QueueEntry("rx-1", "p-1", "para", "Paracetamol", 20, TABLET, 0, 15)
    assert remaining(entry) == 5
    assert remaining(QueueEntry("rx-1", "p-1", "para", "Paracetamol", 20, TABLET, 0, 25)) == 0
