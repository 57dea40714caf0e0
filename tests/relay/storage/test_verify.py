"""The proof of a record: what admission should never have let through is found from the statements alone, and told."""

from collections.abc import Callable
from functools import partial

import msgspec
import pytest
from msgspec import structs

from crdtmed.aggregates.conflict import Action, ConflictRegister, Resolve
from crdtmed.aggregates.content import Content
from crdtmed.aggregates.dispensing_event import Dispense
from crdtmed.aggregates.draft_view import draft_digest, draft_view
from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.prescription import PrescriptionRegister, Sign
from crdtmed.aggregates.prescription_draft import (
    Dose,
    DraftWrite,
    GroupValue,
    Medication,
    Route,
    Supply,
    Timing,
    group_of,
)
from crdtmed.aggregates.stock_item import Adjust, AdjustReason, Movement, MovementType, Receipt, StockRegister
from crdtmed.contract import Kind
from crdtmed.statement import SignedStatement
from crdtmed.verdict import Status, Verdict, decode_verdict
from relay.admission.effects import Effect, Move, Put, Withdraw
from relay.admission.facts import ChallengeState, KnowledgeAnswer
from relay.applying import apply
from relay.batch import Batch
from tests.relay.world import Tablet, World

DRAFTS = "patient/p1/drafts"
GROUPS: tuple[GroupValue, ...] = (
    Medication("amox-500", "Amoxicillin 500 mg"),
    Dose(quantity=Quantity("1", "{capsule}")),
    Route("26643006", "Oral"),
    Timing(frequency=3, period="1", period_unit="d"),
    Supply(30, "{capsule}", 0, "pharmacy"),
)
NOBODY = "abcdefgh.aaaaaaaaaaaaaaaa"


class Pharmacy:
    """A pharmacy with an order of thirty capsules, twenty of lot L1 and five of L2."""

    def __init__(self) -> None:
        self.world = World()
        self.tablet: Tablet = self.world.tablet()
        self.refs: dict[str, str] = {}
        self.signs("rx1")
        self.receives("L1", 20)
        self.receives("L2", 5)

    def signs(self, name: str) -> None:
        """An order is drafted and signed."""
        world, tablet = self.world, self.tablet
        writes: list[SignedStatement] = []
        for value in GROUPS:
            seen = tuple(each.statement.ref for each in writes)
            writes.append(tablet.say(DraftWrite(name, group_of(value), value), DRAFTS, seen=seen))
        world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, *writes)))
        digest = draft_digest(draft_view([each.statement for each in writes]))
        seen = tuple(each.statement.ref for each in writes)
        sign = tablet.say(Sign(name, digest), "patient/p1", seen=seen, challenge=b"c" * 16)
        answer = KnowledgeAnswer(world.record.documents()["patient/p1"], digest, "snapshot-1")
        outcome = world.commit(world.request(tablet, sign, challenge=ChallengeState.FRESH, answer=answer))
        assert [decode_verdict(data).status for data in outcome.verdicts[1]] == [Status.ACCEPTED]

    def says(self, content: Content, challenge: bytes | None = None) -> tuple[SignedStatement, Verdict]:
        """Says something at the pharmacy."""
        log = self.world.log("site/pharmacy")
        said = self.tablet.say(content, "site/pharmacy/log", challenge=challenge)
        push = self.world.push(self.tablet, log, self.tablet.into_log(log, 7, said))
        fresh = tuple(structs.replace(each, challenge=ChallengeState.FRESH) for each in push.said)
        outcome = self.world.commit(structs.replace(push, said=fresh) if challenge else push)
        (verdict,) = map(decode_verdict, outcome.verdicts[1])
        return said, verdict

    def receives(self, lot: str, quantity: int) -> str:
        """Goods come."""
        note = f"note-{lot}"
        receipt = Receipt("S", note, "amox-500", lot, "2030-01-01", quantity, "{capsule}", self.world.now_ms)
        said, verdict = self.says(receipt)
        assert verdict.status is Status.ACCEPTED, verdict
        return said.statement.ref

    def dispenses(self, lot: str, quantity: int, code: str = "", order: str = "rx1") -> SignedStatement:
        """Medicine is handed over; accepted, or in conflict for that reason."""
        given = Dispense(order, "p1", "amox-500", lot, quantity, "{capsule}", True, self.world.now_ms)
        said, verdict = self.says(given)
        assert verdict.code == code, verdict
        return said

    def resolves(self, of: SignedStatement, action: Action, **how: object) -> SignedStatement:
        """A conflict is resolved, and that is accepted."""
        said, verdict = self.says(structs.replace(Resolve(of.encoded, action), **how))
        assert verdict.status is Status.ACCEPTED, verdict
        return said

    def adjusts(self, lot: str, delta: int, closes: int) -> None:
        """A supervisor counts."""
        version = self.stock(lot).version
        content = Adjust("amox-500", lot, delta, AdjustReason.CLOSES_SHORTAGE, version, closes_shortage=closes)
        _, verdict = self.says(content, b"d" * 16)
        assert verdict.status is Status.ACCEPTED, verdict

    def stock(self, lot: str) -> StockRegister:
        """What stands in the books of a lot."""
        found = self.world.task(lambda batch: batch.register("site/pharmacy", f"stock/amox-500/{lot}"))
        assert isinstance(found, StockRegister)
        return found

    def order(self) -> PrescriptionRegister:
        """The prescription as the relay keeps it."""
        found = self.world.task(lambda batch: batch.register("patient/p1", "prescription/rx1"))
        assert isinstance(found, PrescriptionRegister)
        return found

    def wrongly(self, *effects: Effect) -> None:
        """Admission does something that it should never do; documents, registers and sums agree with it."""
        self.world.task(lambda batch: apply(batch, effects))

    def wrongly_moves(self, lot: str, *changes: tuple[MovementType, int], by: str = NOBODY) -> None:
        """It moves stock without a reason."""
        before = self.stock(lot)
        after = structs.replace(before, version=before.version + 1)
        for kind, delta in changes:
            short = kind in (MovementType.SHORTAGE, MovementType.SHORTAGE_CLOSED)
            field = "shortage" if short else "on_hand"
            after = structs.replace(after, **{field: getattr(after, field) + delta})
        moves = [Move(Movement("pharmacy", "amox-500", lot, kind, delta, by)) for kind, delta in changes]
        self.wrongly(*moves, Put("site/pharmacy", after))

    def sql(self, *statements: str) -> None:
        """The database is changed by hand."""
        self.world.connection.execute("PRAGMA foreign_keys = OFF")
        for statement in statements:
            self.world.connection.execute(statement)


def busy() -> tuple[Pharmacy, dict[str, SignedStatement]]:
    """Everything that a pharmacy may count, and what does not count."""
    it = Pharmacy()
    said = {"plain": it.dispenses("L1", 10)}
    said["short"] = it.dispenses("L2", 8, "stock_short")
    said["as_given"] = it.resolves(said["short"], Action.CONFIRM_AS_GIVEN)
    said["much"] = it.dispenses("L1", 13, "over_authorised")
    said["part"] = it.resolves(said["much"], Action.DISPENSE_PART, quantity=3)
    said["beyond"] = it.dispenses("L1", 12, "over_authorised")
    said["confirmed"] = it.resolves(said["beyond"], Action.CONFIRM_AS_GIVEN, quantity=11)
    said["gone"] = it.dispenses("L2", 2, "over_authorised")
    said["lost"] = it.resolves(said["gone"], Action.LOST)
    said["back"] = it.dispenses("L2", 2, "over_authorised")
    said["returned"] = it.resolves(said["back"], Action.RETURNED)
    it.adjusts("L2", 4, 3)
    return it, said


def test_everything_that_a_pharmacy_counts_follows_from_what_was_said() -> None:
    it, _ = busy()
    assert it.world.verify().findings == ()
    assert (it.order().dispensed, it.order().authorised) == (32, 30)
    assert it.stock("L2").shortage == 2


@pytest.mark.parametrize("kind", [Kind.RECEIPT, Kind.DISPENSE])
def test_what_nobody_can_read_counts_nothing_once_a_person_has_closed_it(kind: Kind) -> None:
    it = Pharmacy()
    log = it.world.log("site/pharmacy")
    written = Receipt("S", "note-L3", "amox-500", "L3", "2030-01-01", 5, "{capsule}", it.world.now_ms)
    nonsense = msgspec.Raw(msgspec.msgpack.encode({"item": "amox-500", "quantity": -5}))
    said = it.tablet.say(written, "site/pharmacy/log", kind=kind, content=nonsense)
    outcome = it.world.commit(it.world.push(it.tablet, log, it.tablet.into_log(log, 7, said)))
    assert [decode_verdict(data).code for data in outcome.verdicts[1]] == ["content_invalid"]
    it.resolves(said, Action.ENTERED_IN_ERROR)
    assert it.world.verify().findings == ()


def test_what_was_given_before_there_was_an_order_counts_for_none() -> None:
    it = Pharmacy()
    early = it.dispenses("L1", 4, "prescription_unknown", "rx2")
    it.resolves(early, Action.CONFIRM_AS_GIVEN)
    it.signs("rx2")
    it.dispenses("L1", 5, order="rx2")
    assert it.world.verify().findings == ()


def _register(document: str, key: str, batch: Batch) -> object:
    return batch.register(document, key)


def reopened(it: Pharmacy, said: dict[str, SignedStatement]) -> None:
    """A conflict that was resolved is taken for open, and resolved once more."""
    key = f"conflict/{said['much'].statement.ref}"
    for document in ("site/pharmacy", "patient/p1"):
        register = it.world.task(partial(_register, document, key))
        assert isinstance(register, ConflictRegister)
        it.wrongly(Put(document, structs.replace(register, open=True, resolved_by=None)))
    it.wrongly(Put("patient/p1", structs.replace(it.order(), dispensed=0)))
    it.receives("L1", 7)
    it.resolves(said["much"], Action.DISPENSE_PART, quantity=1)
    it.wrongly(Put("patient/p1", structs.replace(it.order(), dispensed=33)))


Damage = Callable[[Pharmacy, dict[str, SignedStatement]], object]

DAMAGES: dict[str, tuple[Damage, str, str]] = {
    "a statement stands there twice": (
        lambda it, said: it.sql(
            "CREATE TABLE copied AS SELECT * FROM statement",
            "INSERT INTO copied SELECT 1000, author, sid, number, target, position, client, clock, received_at, status,"
            " verdict, data FROM statement WHERE id = 6",
            "DROP TABLE statement",
            "ALTER TABLE copied RENAME TO statement",
        ),
        "statement_twice",
        "it is on record more than once; an id is judged once",
    ),
    "a dispense moves another lot": (
        lambda it, said: it.sql(
            "UPDATE movement SET stock = 3 - stock WHERE delta = -10",
        ),
        "movement_wrong",
        "it says dispense -10 of pharmacy/amox-500/L1, and the ledger has dispense -10 of pharmacy/amox-500/L2",
    ),
    "a dispense moves its units in two parts": (
        lambda it, said: it.sql(
            "UPDATE movement SET delta = -4 WHERE delta = -10",
            "INSERT INTO movement SELECT 1000, stock, type, -6, by, at FROM movement WHERE delta = -4",
        ),
        "movement_wrong",
        "dispense -4 of pharmacy/amox-500/L1, dispense -6 of pharmacy/amox-500/L1",
    ),
    "a dispense is taken back by itself": (
        lambda it, said: it.sql(
            "UPDATE movement SET id = id + 100",
            "INSERT INTO movement SELECT 1, stock, type, 10, by, at FROM movement WHERE delta = -10",
        ),
        "movement_wrong",
        "the ledger has dispense 10 of pharmacy/amox-500/L1, dispense -10 of pharmacy/amox-500/L1",
    ),
    "a dispense brings something back": (
        lambda it, said: it.wrongly_moves("L1", (MovementType.RETURN, 2), by=said["plain"].statement.ref),
        "movement_wrong",
        "the ledger has dispense -10 of pharmacy/amox-500/L1, return 2 of pharmacy/amox-500/L1",
    ),
    "a shortage is less than what was not there": (
        lambda it, said: it.sql("UPDATE movement SET delta = 2 WHERE type = 'shortage' AND delta = 3"),
        "movement_wrong",
        "it says dispense -8 of pharmacy/amox-500/L2, and the ledger has dispense -5 of",
    ),
    "a resolution moves more than it says": (
        lambda it, said: it.wrongly_moves("L1", (MovementType.ADJUSTMENT, 5), by=said["as_given"].statement.ref),
        "movement_wrong",
        "it says dispense -8 of pharmacy/amox-500/L2, and the ledger has dispense -5 of",
    ),
    "what came back moves stock": (
        lambda it, said: it.wrongly_moves("L1", (MovementType.RETURN, 2), by=said["returned"].statement.ref),
        "movement_wrong",
        "it says nothing of stock, and the ledger has return 2 of pharmacy/amox-500/L1",
    ),
    "a statement in conflict moves stock": (
        lambda it, said: it.wrongly_moves("L1", (MovementType.RECEIPT, 2), by=said["short"].statement.ref),
        "movement_unfounded",
        "it moved stock and was not accepted",
    ),
    "somebody of whom nothing is on record moves stock": (
        lambda it, said: it.wrongly_moves("L1", (MovementType.RECEIPT, 2)),
        "movement_unfounded",
        "it moved stock and was not accepted",
    ),
    "stock was moved in front of everything": (
        lambda it, said: it.sql(
            "INSERT INTO movement SELECT -9223372036854775808, stock, type, 0, zeroblob(15), at FROM movement LIMIT 1"
        ),
        "movement_unfounded",
        "it moved stock and was not accepted",
    ),
    "a resolution moves nothing": (
        lambda it, said: it.sql("DELETE FROM movement WHERE delta = -3 AND type = 'dispense'"),
        "movement_missing",
        "it says dispense -3 of pharmacy/amox-500/L1, and moved nothing",
    ),
    "more was taken than there was": (
        lambda it, said: it.sql("UPDATE movement SET id = 1000 WHERE delta = 20"),
        "ledger_below_zero",
        "left -10 on hand and 0 short",
    ),
    "an order forgets what was dispensed": (
        lambda it, said: it.wrongly(Put("patient/p1", structs.replace(it.order(), dispensed=10))),
        "dispensed_differs",
        "it says that 10 were dispensed, what was accepted comes to 32",
    ),
    "an order was dispensed beyond what it authorises": (
        lambda it, said: it.wrongly(Put("patient/p1", structs.replace(it.order(), authorised=20))),
        "over_authorised",
        "with it 21 of p1/rx1 are dispensed, 20 are authorised, and nobody confirmed that it was given",
    ),
    "an order that is not there was dispensed": (
        lambda it, said: it.wrongly(Withdraw("patient/p1", "prescription/rx1")),
        "dispensed_unfounded",
        "it dispenses for p1/rx1, which was not signed by then",
    ),
    "a conflict is resolved twice": (
        reopened,
        "counted_twice",
        "has counted the same statement, and nobody confirmed another",
    ),
}
BESIDE = {
    "a dispense moves another lot": {"ledger_differs", "ledger_below_zero"},
    "a dispense is taken back by itself": {"ledger_differs"},
    "a shortage is less than what was not there": {"ledger_differs"},
    "a resolution moves nothing": {"ledger_differs"},
    "a conflict is resolved twice": {"over_authorised"},
}
"""What else such damage does; what only admission did wrong is found for that alone."""


@pytest.mark.parametrize("name", DAMAGES)
def test_what_does_not_follow_is_told_in_words(name: str) -> None:
    damage, code, words = DAMAGES[name]
    it, said = busy()
    damage(it, said)
    found = it.world.verify().findings
    assert any(each.what == code and words in each.says for each in found), found
    assert {each.what for each in found} == {code} | BESIDE.get(name, set()), found
