"""The rules of the hospital, written anew from the contract in plain Python; it shares no code with what it checks.

The model reads the relay's record in order.  For each statement it says which outcomes the rules allow and what each
does; whatever is shown anywhere must follow from it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from tests.stateful.order_rules import OrderRules
from tests.stateful.standing import IN_FORCE, Case, Outcomes, Session, accept, nothing, refuse
from tests.stateful.stock_rules import StockRules
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

OFFERS: Final = {
    ("stock_short", False): {"switch_lot", "dispense_part", "cancel"},
    ("stock_short", True): {"switch_lot", "dispense_part", "confirm_as_given", "returned", "lost"},
    ("possible_duplicate_receipt", True): {"confirm_as_separate", "discard_as_duplicate"},
    ("session_diverged", False): {"restart_session"},
    ("draft_closed", False): {"discard", "start_amendment"},
}
"""What a person must at least be offered, by reason and whether it happened."""


@dataclass
class Model(OrderRules, StockRules):
    """The rules of the rest, and all of them together."""

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

    # ---- the ward

    def _log(self, word: Word) -> Outcomes:
        def keep() -> None:
            self.log[word.ref] = word

        target = word.content.get("corrects")
        known = target is None or (target in self.log and self.log[target].document == word.document)
        return accept(keep) if known else {("conflict", "content_invalid"): nothing}

    def _open(self, word: Word) -> Outcomes:
        said, patient = word.content, word.scope
        mine = {name: it for name, it in self.sessions.items() if it.patient == patient}
        restarts = tuple(said.get("restarts", ()))
        if any(mine[name].status != "entered-in-error" for name in restarts):
            return {("conflict", "session_status"): nothing}
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
        return {("conflict", "session_diverged"): error} if apart else accept(start)

    def _record(self, word: Word) -> Outcomes:
        session = self.sessions.get(word.content["session"])
        if session is None or session.status != "in-progress":
            return {("conflict", "session_status"): nothing}
        if word.kind == RECORD:
            known = word.content["medicine"] in session.medicines
            return accept(nothing) if known else refuse("content_invalid")

        def complete() -> None:
            session.status = "completed"

        return accept(complete)

    # ---- conflicts

    def _resolve(self, word: Word) -> Outcomes:
        about = read(word.content["statement"])
        case = self.cases.get(about.ref)
        down = "conflict" if happened(word) else "refused"
        if case is None:
            return {(down, "conflict_unknown"): nothing}
        if not case.open:
            return {(down, "already_resolved"): nothing}
        inner, said = bottom(word)
        if word.content["action"] not in case.actions or _oversized(word, inner):
            return {(down, "action_not_offered"): nothing}
        reason, deed = self._deed(word, inner, said)
        if reason is not None:
            return {(down, reason): nothing}

        def settle() -> None:
            deed()
            for each in chain(word):
                if each.ref in self.cases:
                    self.cases[each.ref].open = False

        return accept(settle)

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
        return None, nothing

    def _stop_successor(self, inner: Word) -> tuple[str | None, Callable[[], None]]:
        order = self.orders[inner.content["prescription"]]
        while order.status == "superseded" and order.successor is not None:
            order = self.orders[order.successor]
        if order.status not in (IN_FORCE if inner.kind == STOP else ("active",)):
            return "prescription_status", nothing

        def stop() -> None:
            order.status = "stopped" if inner.kind == STOP else "on-hold"

        return None, stop


def _oversized(word: Word, inner: Word) -> bool:
    """A part is less than the whole; nothing switched is more than it."""
    quantity = word.content.get("quantity")
    if quantity is None or inner.kind != DISPENSE:
        return False
    if word.content["action"] == "dispense_part":
        return bool(quantity >= inner.content["quantity"])
    return bool(word.content["action"] == "switch_lot" and quantity > inner.content["quantity"])
