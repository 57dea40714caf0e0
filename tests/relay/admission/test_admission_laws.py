"""Laws that hold whatever devices say and in whatever order it arrives."""

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from crdtmed import clock, statement
from crdtmed.aggregates.conflict import Action, ConflictRegister, Resolve
from crdtmed.aggregates.content import Content, encode_content
from crdtmed.aggregates.dispensing_event import Dispense, QueueEntry
from crdtmed.aggregates.medication_administration import Correct
from crdtmed.aggregates.prescription import Hold, Stop
from crdtmed.aggregates.stock_item import Adjust, AdjustReason, Receipt
from crdtmed.contract import Kind, Role
from crdtmed.limits import AWAITS_MS
from crdtmed.verdict import Status
from relay.admission import claim
from relay.admission.effects import Decision
from relay.admission.facts import ChallengeState, Submission, submitted
from relay.admission.gates import GATES, GATES_OF, first_reason
from tests.aggregates.contents import contents
from tests.relay.admission.memory_port import DAY, HOUR, NOW, Ward
from tests.relay.admission.stories import (
    administer,
    amended,
    dispense,
    later,
    prescribed,
    prescription,
    receipt,
    stocked,
)

LOTS = st.sampled_from(["L1", "L2", "L3"])
QUANTITIES = st.integers(1, 12)
STEPS = st.one_of(
    st.tuples(st.just("receive"), LOTS, QUANTITIES, st.integers(1, 3)),
    st.tuples(st.just("dispense"), LOTS, QUANTITIES, st.booleans()),
    st.tuples(st.just("adjust"), LOTS, st.integers(-12, 12), st.integers(0, 3)),
    st.tuples(st.just("resolve"), st.integers(0, 9), st.sampled_from(Action), st.tuples(LOTS, QUANTITIES)),
    st.tuples(st.just("again"), st.integers(0, 30), st.none(), st.none()),
    st.tuples(st.just("stop"), st.none(), st.none(), st.none()),
    st.tuples(st.just("amend"), st.none(), st.none(), st.none()),
)


class Run:
    """A ward that takes steps, and what a careful reader adds up beside it."""

    def __init__(self) -> None:
        self.ward = Ward()
        prescribed(self.ward)
        stocked(self.ward, 30, "L1")
        self.ward.sign_in("everybody", "zo", tuple(Role), ("ward", "pharmacy"))
        self.sent: list[Submission] = []
        self.names = ["rx-1"]

    def say(self, content: Content, **how: Any) -> Decision:
        submission = self.ward.say(content, who="everybody", **how)
        self.sent.append(submission)
        return self.ward.submit(submission)

    def take(self, step: tuple[Any, Any, Any, Any]) -> None:
        match step:
            case ("receive", lot, quantity, note):
                self.say(receipt(quantity, lot, note=f"N-{note}"))
            case ("dispense", lot, quantity, out):
                self.say(dispense(quantity, lot, out, prescription=self.names[-1]))
            case ("adjust", lot, delta, closes) if (delta, closes) != (0, 0):
                found = self.ward.lots().get(("pharmacy", "para", lot))
                version = found.version if found is not None else 1
                self.say(Adjust("para", lot, delta, AdjustReason.COUNT, version, closes_shortage=closes))
            case ("resolve", at, action, (lot, quantity)):
                self.resolve(at, action, lot, quantity)
            case ("again", at, _, _) if self.sent:
                self.ward.submit(self.sent[at % len(self.sent)])
            case ("stop", _, _, _):
                self.say(Stop(self.names[-1], "well"))
            case ("amend", _, _, _):
                name = f"rx-{len(self.names) + 1}"
                if amended(self.ward, name, self.names[-1])[1].status is Status.ACCEPTED:
                    self.names.append(name)

    def resolve(self, at: int, action: Action, lot: str, quantity: int) -> None:
        kept = conflicts(self.ward)
        if kept:
            register = kept[at % len(kept)]
            takes_lot = action in (Action.SWITCH_LOT, Action.CONFIRM_AS_GIVEN, Action.LOST)
            takes_quantity = takes_lot or action is Action.DISPENSE_PART
            content = Resolve(
                register.statement,
                action,
                lot if takes_lot else None,
                quantity if takes_quantity else None,
            )
            target = f"{claim.scope(self.target(register))}/log"
            self.say(content, target=target)

    def target(self, register: ConflictRegister) -> str:
        return f"site/{register.site}" if register.site is not None else f"patient/{register.patient}"


def conflicts(ward: Ward) -> list[ConflictRegister]:
    """Every conflict once, resolved or not, in the order of their references."""
    found = {value.ref: value for value in ward.held.values() if isinstance(value, ConflictRegister)}
    return [found[ref] for ref in sorted(found)]


def counted_by_hand(ward: Ward, name: str) -> tuple[int, int]:
    """What was dispensed of a prescription by the rules, and what was by a person's word, from the verdicts alone."""
    within = beyond = 0
    for stored in ward.stored.values():
        if stored.verdict.status is not Status.ACCEPTED:
            continue
        content = claim.readable(stored.signed)
        _, said = claim.innermost(stored.signed, content)
        if not isinstance(said, Dispense) or said.prescription != name:
            continue
        if isinstance(content, Dispense):
            within += said.quantity
        elif isinstance(content, Resolve):
            quantity = effective(stored.signed, content, said)
            if content.action in (Action.SWITCH_LOT, Action.DISPENSE_PART, Action.TRY_AGAIN):
                within += quantity
            elif content.action in (Action.CONFIRM_AS_GIVEN, Action.CONFIRM_AS_SEPARATE):
                beyond += quantity
    return within, beyond


def effective(signed: Any, content: Resolve, said: Dispense) -> int:
    """The quantity that a chain of resolutions comes to: the outermost that says one."""
    for _, each in claim.chain(signed, content):
        if isinstance(each, Resolve) and each.quantity is not None:
            return each.quantity
    return said.quantity


@given(st.lists(STEPS, max_size=25))
def test_stock_is_never_below_zero_and_the_ledger_adds_up(steps: Sequence[tuple[Any, Any, Any, Any]]) -> None:
    run = Run()
    for step in steps:
        run.take(step)
        lots = run.ward.lots()
        assert all(lot.on_hand >= 0 and lot.shortage >= 0 for lot in lots.values())
        assert {key: (lot.on_hand, lot.shortage) for key, lot in lots.items()} == run.ward.reckoned()


@given(st.lists(STEPS, max_size=25))
def test_no_more_is_dispensed_than_authorised_but_by_a_persons_word(steps: Sequence[tuple[Any, Any, Any, Any]]) -> None:
    run = Run()
    for step in steps:
        run.take(step)
    for name in run.names:
        register = prescription(run.ward, name)
        within, beyond = counted_by_hand(run.ward, name)
        assert register.dispensed == within + beyond
        assert beyond or register.dispensed <= register.authorised


@given(st.lists(STEPS, max_size=25))
def test_the_queue_shows_what_is_left_and_what_waits(steps: Sequence[tuple[Any, Any, Any, Any]]) -> None:
    run = Run()
    for step in steps:
        run.take(step)
    for name in run.names:
        register = prescription(run.ward, name)
        entry = run.ward.register("site/pharmacy", f"queue/{name}")
        waiting = {each.ref for each in conflicts(run.ward) if each.open and dispenses(each, name)}
        assert entry is None or isinstance(entry, QueueEntry)
        assert (set(entry.requeued) if entry is not None else set()) == waiting
        assert entry is None or entry.dispensed == register.dispensed
        left = register.status.value in ("active", "on-hold") and register.dispensed < register.authorised
        assert (entry is not None) is (left or bool(waiting))


def dispenses(register: ConflictRegister, name: str) -> bool:
    """Whether a conflict is of a dispense of that prescription, or of a resolution of one."""
    signed = statement.decode(register.statement)
    _, said = claim.innermost(signed, claim.readable(signed))
    return isinstance(said, Dispense) and said.prescription == name


ODD = st.sampled_from(["", "site/pharmacy/log", "patient/p-1/log", "patient/p-9/log", "site/ward/log"])


FACTS: Sequence[Content] = (
    administer(),
    administer(status="not-given"),
    administer(site="elsewhere"),
    receipt(),
    receipt(unit="mL"),
    receipt(item="nothing", expiry="never"),
    dispense(out=True),
    dispense(99, "L9", out=True, patient="p-9"),
    Correct(f"{'a' * 8}.{'b' * 16}", "amended", "dose"),
    Correct(f"{'a' * 8}.{'b' * 16}", "entered-in-error", "dose"),
)


@st.composite
def facts(draw: st.DrawFn) -> tuple[Content, dict[str, Any]]:
    """Anything that tells what happened, from anybody, anywhere, at any time, well-formed or not."""
    content = draw(st.sampled_from(FACTS))
    how: dict[str, Any] = {
        "who": draw(st.sampled_from(["prescriber", "pharmacist", "nurse", "clerk", "supervisor"])),
        "at": NOW + draw(st.integers(-5, 5)) * DAY,
        "received_at": NOW + draw(st.integers(0, 3)) * HOUR,
        "handed_back": draw(st.booleans()),
    }
    target = draw(ODD)
    if target:
        how["target"] = target
    if draw(st.booleans()):
        how["id"] = "a" * 16
    return content, how


@given(st.lists(facts(), min_size=1, max_size=8))
def test_a_fact_is_never_refused_and_never_lost(said: list[tuple[Content, dict[str, Any]]]) -> None:
    ward = Ward()
    prescribed(ward)
    for content, how in said:
        submission = ward.say(content, **how)
        decision = ward.submit(submission)
        if decision.status is Status.RETRY:
            decision = ward.submit(later(submission, submission.received_at + 2 * DAY))
        assert decision.status in (Status.ACCEPTED, Status.CONFLICT)
        if decision.status is Status.CONFLICT:
            kept = [each.statement for each in ward.held.values() if isinstance(each, ConflictRegister)]
            kept += [value for (kind, _), value in ward.notes.items() if kind == "variant"]
            assert decision.actions
            assert any(statement.same(statement.decode(each).statement, submission.statement) for each in kept)


@given(st.lists(STEPS, max_size=12), st.randoms(use_true_random=False))
def test_replayed_in_any_order_nothing_counts_twice(steps: Sequence[tuple[Any, Any, Any, Any]], order: Any) -> None:
    run = Run()
    for step in steps:
        run.take(step)
    once = (run.ward.lots(), list(run.ward.ledger), conflicts(run.ward))
    again = [each for each in run.sent if run.ward.statement(each.statement.ref) is not None]
    order.shuffle(again)
    for submission in again:
        run.ward.submit(later(submission, NOW + DAY))
    assert (run.ward.lots(), run.ward.ledger, conflicts(run.ward)) == once


@given(st.permutations(range(8)), st.data())
def test_in_whatever_order_it_arrives_the_ledger_adds_up(order: list[int], data: st.DataObject) -> None:
    ward = Ward()
    prescribed(ward)
    said: list[Content] = [receipt(5, "L1", note=f"N-{each}") for each in range(3)]
    said += [dispense(data.draw(QUANTITIES), "L1", out=data.draw(st.booleans())) for _ in range(4)]
    said.append(Hold("rx-1", "surgery"))
    submissions = [ward.say(each) for each in said]
    outcomes = {each: ward.submit(submissions[each]) for each in order}
    received = sum(each.quantity for each in said if isinstance(each, Receipt))
    out = sum(
        each.quantity
        for at, each in enumerate(said)
        if isinstance(each, Dispense) and outcomes[at].status is Status.ACCEPTED
    )
    assert ward.lots()["pharmacy", "para", "L1"].on_hand == received - out
    assert prescription(ward).dispensed == out
    assert {key: (lot.on_hand, lot.shortage) for key, lot in ward.lots().items()} == ward.reckoned()


TARGETS = ("patient/p-1/drafts", "patient/p-1/log", "patient/p-1", "patient/p-2", "site/pharmacy/log", "directory")
PUSHED = (
    None,
    "patient/p-1/drafts",
    "patient/p-1/log/2026-02",
    "site/pharmacy/log/2026-02-02",
    "nonsense",
    "directory",
)


@given(contents(), st.data())
def test_no_gate_is_left_out_that_would_have_spoken_first(of: tuple[Kind, Content], data: st.DataObject) -> None:
    draw = data.draw
    kind, content = of
    ward = Ward()
    key, held = draw(st.sampled_from(sorted(ward.grants.items(), key=str)))
    roles = draw(st.sampled_from([held.roles, tuple(Role), ()]))
    sites = draw(st.sampled_from([held.sites, ("ward", "pharmacy", "elsewhere"), ()]))
    ward.grants[key] = structs.replace(held, roles=roles, sites=sites)
    if draw(st.booleans()):
        ward.withdrawn[held.user] = NOW + draw(st.integers(-2, 2))
    said = statement.Statement(
        version=statement.VERSION,
        kind=draw(st.just(kind) | st.sampled_from(Kind)),
        id="a" * 16,
        document=draw(st.sampled_from(TARGETS)),
        device=held.device,
        number=5,
        grant=draw(st.sampled_from([held.id, "nobody/aaaaaaaa"])),
        stamp=clock.stamp(NOW + draw(st.sampled_from([0, -3 * DAY, 3 * DAY]))),
        seen=(),
        challenge=None,
        content=msgspec.Raw(encode_content(content)),
    )
    if draw(st.booleans()):
        ward.waiting[said.ref] = NOW - draw(st.sampled_from([0, AWAITS_MS]))
    signed = statement.SignedStatement(said, bytes(64))
    submission = submitted(
        signed,
        claim.readable(signed),
        draw(st.sampled_from(PUSHED)),
        NOW,
        draw(st.sampled_from(ChallengeState)),
        draw(st.booleans()),
    )
    every, of_kind = (first_reason(rules, ward, submission) for rules in (GATES, GATES_OF[said.kind]))
    assert every == of_kind
