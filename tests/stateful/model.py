"""The rules of the hospital, written anew from the contract in plain Python; it shares no code with what it checks.

The model reads the relay's record in order.  For each statement it says which outcomes the rules allow and what each
does; whatever is shown anywhere must follow from it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.stateful import drafts
from tests.stateful.words import (
    ADJUST,
    ADMINISTER,
    AMEND,
    COMPLETE,
    CORRECT,
    DISPENSE,
    DRAFT_WRITE,
    HOLD,
    OPEN,
    OVERRIDE,
    RECEIPT,
    RECORD,
    RESOLVE,
    RESUME,
    SIGN,
    STOP,
    Judged,
    Word,
    bottom,
    chain,
    happened,
    read,
)

Outcomes = dict[tuple[str, str], Callable[[], None]]
IN_FORCE: Final = ("active", "on-hold")
OFFERS: Final = {
    ("stock_short", False): {"switch_lot", "dispense_part", "cancel"},
    ("stock_short", True): {"switch_lot", "dispense_part", "confirm_as_given", "returned", "lost"},
    ("possible_duplicate_receipt", True): {"confirm_as_separate", "discard_as_duplicate"},
    ("session_diverged", False): {"restart_session"},
    ("draft_closed", False): {"discard", "start_amendment"},
}
"""What a person must at least be offered, by reason and whether it happened."""


@dataclass
class Order:
    """A signed prescription."""

    patient: str
    status: str
    authorised: int
    values: dict[str, Any]
    signed_by: str
    dispensed: int = 0
    successor: str | None = None


@dataclass
class Lot:
    """A lot of an item: what is on hand, and what left without having been there."""

    on_hand: int = 0
    shortage: int = 0
    expiry: str | None = None
    version: int = 0


@dataclass
class Case:
    """A statement in conflict."""

    word: Word
    actions: frozenset[str]
    open: bool = True


@dataclass
class Session:
    """A reconciliation session."""

    patient: str
    status: str
    restarts: tuple[str, ...]
    opened_by: str
    medicines: frozenset[str]
    restarted_by: str | None = None


@dataclass
class Model:
    """Everything that follows from the record up to a row."""

    lots: dict[tuple[str, str], Lot]
    orders: dict[str, Order] = field(default_factory=dict)
    writes: dict[str, dict[str, Word]] = field(default_factory=dict)
    log: dict[str, Word] = field(default_factory=dict)
    receipts: set[tuple[Any, ...]] = field(default_factory=set)
    cases: dict[str, Case] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    overridden: set[str] = field(default_factory=set)
    alerted: set[str] = field(default_factory=set)

    def take(self, judged: Judged) -> str | None:
        """The next row of the record; what is wrong with its verdict, None where the rules allow it."""
        allowed = self.outcomes(judged.word)
        effect = allowed.get((judged.status, judged.code))
        if effect is None:
            return (
                f"kind {judged.word.kind} {judged.word.ref} {judged.word.content} is {judged.status} "
                f"({judged.code}), the rules allow {sorted(allowed)}"
            )
        effect()
        if judged.status == "conflict":
            missing = OFFERS.get((judged.code, happened(judged.word)), set()) - judged.actions
            if missing:
                return f"{judged.word.ref} is in conflict ({judged.code}) and does not offer {sorted(missing)}"
            if not self._stands_already(judged.word):
                self.cases[judged.word.ref] = Case(judged.word, judged.actions)
        return None

    def _stands_already(self, word: Word) -> bool:
        """A resolution that fails leaves the conflict open that it was about: that tells of it already."""
        inner = read(word.content["statement"]).ref if word.kind == RESOLVE else ""
        return inner in self.cases and self.cases[inner].open

    def open_cases(self) -> set[str]:
        """The conflicts that wait for somebody."""
        return {ref for ref, case in self.cases.items() if case.open}

    def handed_over(self) -> Iterable[Any]:
        """Dispenses in open conflict whose medicine has left."""
        for case in self.cases.values():
            if case.open and case.word.kind == DISPENSE and case.word.content["handed_over"]:
                yield case.word.content

    def outcomes(self, word: Word) -> Outcomes:
        """What may become of a statement, and what each outcome does."""
        return {
            DRAFT_WRITE: self._draft_write,
            SIGN: self._sign,
            AMEND: self._sign,
            STOP: self._change,
            HOLD: self._change,
            RESUME: self._change,
            DISPENSE: self._dispense,
            RECEIPT: self._receipt,
            ADJUST: self._adjust,
            ADMINISTER: self._log,
            CORRECT: self._log,
            OVERRIDE: self._override,
            OPEN: self._open,
            RECORD: self._record,
            COMPLETE: self._record,
            RESOLVE: self._resolve,
        }[word.kind](word)

    # ---- prescriptions

    def _draft_write(self, word: Word) -> Outcomes:
        name = word.content["prescription"]
        if name in self.orders:
            return {("conflict", "draft_closed"): _nothing}
        return _accept(lambda: self.writes.setdefault(name, {}).update({word.ref: word}))

    def _sign(self, word: Word) -> Outcomes:
        name = word.content["prescription"]
        groups = drafts.merged(self.writes.get(name, {}).values())
        if name in self.orders or drafts.aside(groups):
            return {("conflict", "draft_closed"): _nothing}
        if not groups:
            return _refuse("draft_unknown")
        if {ref for group in groups.values() for ref in group.heads} != set(word.seen):
            return {("conflict", "draft_changed"): _nothing}
        if any(needed not in groups for needed in drafts.NEEDED):
            return _refuse("draft_incomplete")
        if drafts.unsettled(groups):
            return _refuse("draft_unsettled")
        barred = self._barred(word)
        if barred is not None:
            return barred
        values = {name: group.value for name, group in groups.items()}
        return self._alerts(name, word.scope, values) | (
            _accept(lambda: self._signed(word, values)) if self._may_sign(name, word.scope, values) else {}
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
            return _refuse("prescription_unknown")
        if order.status == "superseded":
            return {("conflict", "superseded"): _nothing}
        allowed = {STOP: IN_FORCE, HOLD: ("active",), RESUME: ("on-hold",), AMEND: IN_FORCE}[word.kind]
        return None if order.status in allowed else {("conflict", "prescription_status"): _nothing}

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
            return _accept(change)
        may = self._may_sign(name, order.patient, order.values)
        return self._alerts(name, order.patient, order.values) | (_accept(change) if may else {})

    def _override(self, word: Word) -> Outcomes:
        name = word.content["prescription"]
        waits = name not in self.orders or self.orders[name].status == "on-hold"
        found = _accept(lambda: self.overridden.add(name)) if name in self.alerted and waits else {}
        return found | _refuse("alert_unknown")

    # ---- the pharmacy

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
            return {("conflict", reason): _nothing}
        return _accept(lambda: self._counted(word.content))

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
            return {("conflict", reason): _nothing}
        return _accept(lambda: self._booked(word.content))

    def _adjust(self, word: Word) -> Outcomes:
        lot, delta, closes = self.lot(word.content), word.content["delta"], word.content.get("closes_shortage", 0)
        if lot is None:
            return _refuse("lot_unknown")
        if lot.version != word.content["version_seen"]:
            return {("conflict", "version_stale"): _nothing}
        if lot.on_hand + delta < 0 or lot.shortage < closes:
            return _refuse("below_zero")

        def adjust() -> None:
            lot.on_hand, lot.shortage, lot.version = lot.on_hand + delta, lot.shortage - closes, lot.version + 1

        return _accept(adjust)

    # ---- the ward

    def _log(self, word: Word) -> Outcomes:
        def keep() -> None:
            self.log[word.ref] = word

        target = word.content.get("corrects")
        known = target is None or (target in self.log and self.log[target].document == word.document)
        return _accept(keep) if known else {("conflict", "content_invalid"): _nothing}

    def _open(self, word: Word) -> Outcomes:
        said, patient = word.content, word.scope
        mine = {name: it for name, it in self.sessions.items() if it.patient == patient}
        restarts = tuple(said.get("restarts", ()))
        if any(mine[name].status != "entered-in-error" for name in restarts):
            return {("conflict", "session_status"): _nothing}
        running = next((name for name, it in mine.items() if it.status == "in-progress"), None)
        lost = [it for it in mine.values() if it.status == "entered-in-error" and it.restarted_by is None]
        homes = frozenset(home["key"] for home in said.get("home_medications", ()))
        own = Session(patient, "entered-in-error", restarts, word.ref, homes)
        named = [name for name in restarts if mine[name] in lost]

        def error() -> None:
            self.sessions[said["session"]] = own
            if running is not None:
                of = mine[running]
                if of.restarts and of.opened_by not in word.seen:
                    own.restarted_by = running
                else:
                    of.status = "entered-in-error"
            elif restarts:
                own.restarted_by = mine[restarts[0]].restarted_by

        def start() -> None:
            self.sessions[said["session"]] = own
            own.status = "in-progress"
            own.restarts = tuple(sorted(name for name, it in mine.items() if it in lost))
            for it in lost:
                it.restarted_by = said["session"]
                if it.opened_by in self.cases:
                    self.cases[it.opened_by].open = False

        apart = running is not None or (restarts and not named) or (lost and not named)
        return {("conflict", "session_diverged"): error} if apart else _accept(start)

    def _record(self, word: Word) -> Outcomes:
        session = self.sessions.get(word.content["session"])
        if session is None or session.status != "in-progress":
            return {("conflict", "session_status"): _nothing}
        if word.kind == RECORD:
            known = word.content["medicine"] in session.medicines
            return _accept(_nothing) if known else _refuse("content_invalid")

        def complete() -> None:
            session.status = "completed"

        return _accept(complete)

    # ---- conflicts

    def _resolve(self, word: Word) -> Outcomes:
        about = read(word.content["statement"])
        case = self.cases.get(about.ref)
        down = "conflict" if happened(word) else "refused"
        if case is None:
            return {(down, "conflict_unknown"): _nothing}
        if not case.open:
            return {(down, "already_resolved"): _nothing}
        inner, said = bottom(word)
        if word.content["action"] not in case.actions or _oversized(word, inner):
            return {(down, "action_not_offered"): _nothing}
        reason, deed = self._deed(word, inner, said)
        if reason is not None:
            return {(down, reason): _nothing}

        def settle() -> None:
            deed()
            for each in chain(word):
                if each.ref in self.cases:
                    self.cases[each.ref].open = False

        return _accept(settle)

    def _deed(self, word: Word, inner: Word, said: Any) -> tuple[str | None, Callable[[], None]]:
        """What a resolution comes to: why it cannot be, or what it does."""
        actions = [each.content["action"] for each in chain(word) if each.kind == RESOLVE]
        sure = any(action.startswith("confirm_as") for action in actions)
        rest = [it for it in actions if it != "try_again" and not it.startswith("confirm_as")]
        action = rest[0] if rest else "try_again"
        counts = action in ("switch_lot", "dispense_part", "try_again")
        if inner.kind == DISPENSE and action == "lost":
            return None, lambda: self._counted(said, dispensed=False)
        if inner.kind == DISPENSE and counts:
            return (None if sure else self.short(said, word.stamp)), lambda: self._counted(said)
        if inner.kind == RECEIPT and counts:
            return self._uncountable(said, separate=sure), lambda: self._booked(said)
        if action == "stop_successor":
            return self._stop_successor(inner)
        return None, _nothing

    def _stop_successor(self, inner: Word) -> tuple[str | None, Callable[[], None]]:
        order = self.orders[inner.content["prescription"]]
        while order.status == "superseded" and order.successor is not None:
            order = self.orders[order.successor]
        if order.status not in (IN_FORCE if inner.kind == STOP else ("active",)):
            return "prescription_status", _nothing

        def stop() -> None:
            order.status = "stopped" if inner.kind == STOP else "on-hold"

        return None, stop


def critical(patient: str, values: dict[str, Any]) -> bool:
    """Whether the knowledge base has something against an order: an allergy, none recorded, or too much a day."""
    item, dose, timing = values["medication"]["code"], values["dose"]["quantity"]["value"], values["timing"]
    too_much = item == "para-500" and int(dose) * timing["frequency"] > 4_000
    return too_much or (patient == "p2" and item == "amox-500")


def day_of(ms: int) -> str:
    """The UTC day of an instant."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ms / 1000, UTC).date().isoformat()


def _delivery(content: Any) -> tuple[Any, ...]:
    return tuple(content[name] for name in ("supplier", "delivery_note", "item", "lot", "quantity"))


def _oversized(word: Word, inner: Word) -> bool:
    """A part is less than the whole; nothing switched is more than it."""
    quantity = word.content.get("quantity")
    if quantity is None or inner.kind != DISPENSE:
        return False
    if word.content["action"] == "dispense_part":
        return bool(quantity >= inner.content["quantity"])
    return bool(word.content["action"] == "switch_lot" and quantity > inner.content["quantity"])


def _nothing() -> None:
    return


def _accept(effect: Callable[[], Any]) -> Outcomes:
    return {("accepted", ""): effect}


def _refuse(code: str) -> Outcomes:
    return {("refused", code): _nothing}
