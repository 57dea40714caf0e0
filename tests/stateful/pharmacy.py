"""What the pharmacy does: dispenses, receives and counts."""

from collections.abc import Awaitable

from hypothesis import strategies as st
from hypothesis.stateful import rule

from crdtmed.aggregates.stock_item import AdjustReason
from crdtmed.device.device import Device
from crdtmed.device.engine import Said
from tests.stateful.settling import PICK, TILL, Settling
from tests.stateful.ward import CREW, day, somebody


class Pharmacy(Settling):
    """What moves stock."""

    @rule(name=TILL, pick=PICK, lot=PICK, quantity=st.sampled_from([1, 5, 15, 30]), handed=st.booleans())
    def dispenses(self, name: str, pick: int, lot: int, quantity: int, handed: bool) -> None:
        """Something is taken from a lot for a prescription."""
        found = self.witness.orders(name, pick)
        if found is None:
            return
        rx, patient = found
        item = self.witness.shown(name).orders[rx].values["medication"]["code"]
        lots_ = sorted(lot for of, lot in {*self.witness.shown(name).lots, self.witness.lot(name, lot)} if of == item)

        def dispense(device: Device) -> Awaitable[Said]:
            chosen = lots_[lot % len(lots_)] if lot < 10 else "none"
            return device.dispense(patient, rx, lot=chosen, quantity=quantity, handed_over=handed)

        self.do(name, somebody(name, "pharmacist"), dispense)

    @rule(
        name=TILL,
        item=st.sampled_from(["amox-500", "para-500"]),
        lot=st.sampled_from(["A1", "N1", "N2"]),
        note=st.sampled_from(["LS-1", "LS-2"]),
        quantity=st.sampled_from([5, 50]),
        expiry=st.sampled_from(["2099-12-31", "2020-01-31"]),
    )
    def receives(self, name: str, item: str, lot: str, note: str, quantity: int, expiry: str) -> None:
        """Goods come; the same delivery note twice may be one delivery."""

        def receive(device: Device) -> Awaitable[Said]:
            return device.receive(
                "pharm",
                supplier="Wholesale",
                delivery_note=note,
                item=item,
                lot=lot,
                quantity=quantity,
                expiry=day(expiry),
            )

        self.do(name, CREW[name][quantity % 2], receive)

    @rule(pick=PICK, lot=PICK, quantity=st.sampled_from([15, 20]), handed=st.booleans())
    def both_tills_dispense(self, pick: int, lot: int, quantity: int, handed: bool) -> None:
        """Two pharmacists, one prescription: together they may take more than there is, or than is authorised."""
        for name in ("till-1", "till-2"):
            self.dispenses(name, pick, lot, quantity, handed)

    @rule(lot=st.sampled_from(["A1", "N1"]), quantity=st.sampled_from([5, 50]))
    def both_tills_receive(self, lot: str, quantity: int) -> None:
        """One delivery, entered at both tills."""
        for name in ("till-1", "till-2"):
            self.receives(name, "amox-500", lot, "LS-3", quantity, "2099-12-31")

    @rule(name=TILL, lot=PICK, delta=st.sampled_from([-50, -2, 3]), closes=st.booleans())
    def adjusts(self, name: str, lot: int, delta: int, closes: bool) -> None:
        """A supervisor counts; a shortage may be closed."""
        seen = self.witness.shown(name).lots
        item, of = sorted(seen)[lot % len(seen)]
        short = seen[item, of].shortage if closes else 0
        reason = AdjustReason.CLOSES_SHORTAGE if short else AdjustReason.COUNT
        self.do(
            name,
            "sam",
            lambda device: device.adjust("pharm", item, of, delta, reason, closes_shortage=short),
            *self.needs(name),
        )

    @rule(lot=PICK, delta=st.sampled_from([-2, 3]))
    def both_tills_adjust(self, lot: int, delta: int) -> None:
        """Two counts of one lot at once: the second was made of another state than there is."""
        for name in ("till-1", "till-2"):
            self.adjusts(name, lot, delta, False)
