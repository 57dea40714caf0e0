"""What anybody does about what did not go as they meant it: conflicts, the inbox, a role that is missing."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from crdtmed.aggregates.conflict import Action
from tests.stateful.settling import ANY, PICK, Settling
from tests.stateful.ward import somebody
from tests.stateful.words import (
    ADJUST,
    AMEND,
    DISPENSE,
    DRAFT_WRITE,
    HOLD,
    RESOLVE,
    RESUME,
    SIGN,
    STOP,
    bottom,
)

ROLES = dict.fromkeys((DRAFT_WRITE, SIGN, STOP, HOLD, RESUME, AMEND), "prescriber") | {ADJUST: "supervisor"}
"""Who resolves the conflict of what; of the rest a nurse or a pharmacist."""


class Conflicts(Settling):
    """Conflicts and refusals."""

    @rule(name=ANY, pick=PICK, action=PICK, lot=PICK, quantity=st.sampled_from([1, 6, 15]))
    def resolves(self, name: str, pick: int, action: int, lot: int, quantity: int) -> None:
        """Somebody chooses among what a conflict offers."""
        self._resolve(name, pick, action, lot, quantity)

    @rule(pick=PICK, action=PICK, lot=PICK)
    def both_tills_resolve(self, pick: int, action: int, lot: int) -> None:
        """Two pharmacists choose the same, of one conflict; the second may have heard of the first by then."""
        for name in ("till-1", "till-2"):
            self._resolve(name, pick, action, lot, 6, maybe="action_not_offered")

    def _resolve(self, name: str, pick: int, action: int, lot: int, quantity: int, maybe: str = "") -> None:
        cases = {ref: case for ref, case in self.witness.shown(name).cases.items() if case.open}
        inner = {ref: bottom(case.word)[0] for ref, case in cases.items()}
        mine = [ref for ref, word in inner.items() if word.document.startswith("site") == name.startswith("till")]
        if not mine:
            return
        case = cases[mine[pick % len(mine)]]
        chosen = Action(sorted(case.actions)[action % len(case.actions)])
        more: dict[str, Any] = {}
        if inner[case.word.ref].kind == DISPENSE and case.word.kind != RESOLVE:
            if chosen is Action.SWITCH_LOT:
                more["lot"] = self.witness.lot(name, lot)[1]
            if chosen is Action.DISPENSE_PART:
                more["quantity"] = quantity
        if case.word.kind == RESOLVE and chosen in (Action.SWITCH_LOT, Action.DISPENSE_PART):
            chosen = Action.RETURNED
        role = ROLES.get(inner[case.word.ref].kind, "nurse" if name.startswith("tablet") else "pharmacist")
        self.do(name, somebody(name, role), lambda device: device.resolve(case.word.ref, chosen, **more), maybe=maybe)

    @rule(name=ANY)
    def reads_the_inbox(self, name: str) -> None:
        """Everything in it has a reason; what can only be read is marked as read."""

        async def look() -> None:
            device = self.ward.device(name)
            for entry in await device.inbox():
                assert entry.code, entry
                assert entry.says, entry
                if not entry.actions:
                    assert await device.dismiss(entry.id)

        self.run(look())

    @rule(name=ANY, pick=PICK)
    def the_wrong_person(self, name: str, pick: int) -> None:
        """Who may not say something is told so at once."""
        tablet = name.startswith("tablet")
        found = self.witness.orders(name, pick)
        if found is None:
            return
        rx, patient = found
        self.do(
            name,
            "nia" if tablet else "sam",
            (lambda device: device.stop(patient, rx, "no"))
            if tablet
            else (lambda device: device.dispense(patient, rx, lot="A1", quantity=1)),
            "role_missing",
        )
