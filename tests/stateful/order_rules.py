"""The rules of drafts, orders and alerts."""

from dataclasses import dataclass
from typing import Any

from tests.stateful import drafts
from tests.stateful.standing import IN_FORCE, Order, Outcomes, Standing, accept, nothing, refuse
from tests.stateful.words import (
    AMEND,
    HOLD,
    RESUME,
    SIGN,
    STOP,
    Word,
)


@dataclass
class OrderRules(Standing):
    """What may become of what prescribers say."""

    def _draft_write(self, word: Word) -> Outcomes:
        name = word.content["prescription"]
        if name in self.orders:
            return {("conflict", "draft_closed"): nothing}
        return accept(lambda: self.writes.setdefault(name, {}).update({word.ref: word}))

    def _sign(self, word: Word) -> Outcomes:
        name = word.content["prescription"]
        groups = drafts.merged(self.writes.get(name, {}).values())
        if name in self.orders or drafts.aside(groups):
            return {("conflict", "draft_closed"): nothing}
        if not groups:
            return refuse("draft_unknown")
        if {ref for group in groups.values() for ref in group.heads} != set(word.seen):
            return {("conflict", "draft_changed"): nothing}
        if any(needed not in groups for needed in drafts.NEEDED):
            return refuse("draft_incomplete")
        if drafts.unsettled(groups):
            return refuse("draft_unsettled")
        barred = self._barred(word)
        if barred is not None:
            return barred
        values = {name: group.value for name, group in groups.items()}
        return self._alerts(name, word.scope, values) | (
            accept(lambda: self._signed(word, values)) if self._may_sign(name, word.scope, values) else {}
        )

    def _signed(self, word: Word, values: dict[str, Any]) -> None:
        supply, name = values["supply"], word.content["prescription"]
        units = supply["quantity"] * (1 + supply.get("repeats", 0))
        self.orders[name] = Order(word.scope, "active", units, values, word.ref)
        if word.kind == AMEND:
            prior = self.orders[word.content["prior"]]
            prior.status, prior.successor = "superseded", name

    def _alerts(self, name: str, patient: str, values: dict[str, Any]) -> Outcomes:
        """Refused with its cards, where there is something against an order."""
        if not critical(patient, values):
            return {}
        return {("refused", "alerts_open"): lambda: self.alerted.add(name)}

    def _may_sign(self, name: str, patient: str, values: dict[str, Any]) -> bool:
        return not critical(patient, values) or name in self.overridden

    def _barred(self, word: Word) -> Outcomes | None:
        """Why the signed prescription that a request is about cannot be changed so."""
        name = word.content.get("prior") if word.kind == AMEND else word.content["prescription"]
        if word.kind == SIGN:
            return None
        order = self.orders.get(name)
        if order is None or order.patient != word.scope:
            return refuse("prescription_unknown")
        if order.status == "superseded":
            return {("conflict", "superseded"): nothing}
        allowed = {STOP: IN_FORCE, HOLD: ("active",), RESUME: ("on-hold",), AMEND: IN_FORCE}[word.kind]
        return None if order.status in allowed else {("conflict", "prescription_status"): nothing}

    def _change(self, word: Word) -> Outcomes:
        barred = self._barred(word)
        if barred is not None:
            return barred
        name = word.content["prescription"]
        order = self.orders[name]
        after = {STOP: "stopped", HOLD: "on-hold", RESUME: "active"}[word.kind]

        def change() -> None:
            order.status = after

        if word.kind != RESUME:
            return accept(change)
        may = self._may_sign(name, order.patient, order.values)
        return self._alerts(name, order.patient, order.values) | (accept(change) if may else {})

    def _override(self, word: Word) -> Outcomes:
        name = word.content["prescription"]
        waits = name not in self.orders or self.orders[name].status == "on-hold"
        found = accept(lambda: self.overridden.add(name)) if name in self.alerted and waits else {}
        return found | refuse("alert_unknown")


def critical(patient: str, values: dict[str, Any]) -> bool:
    """Whether the knowledge base has something against an order: an allergy, none recorded, or too much a day."""
    item, dose, timing = values["medication"]["code"], values["dose"]["quantity"]["value"], values["timing"]
    too_much = item == "para-500" and int(dose) * timing["frequency"] > 4_000
    return too_much or (patient == "p2" and item == "amox-500")
