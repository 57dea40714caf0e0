"""What cannot be committed: it leaves nothing, in the database or in memory, and what comes next goes on."""

import pytest

from crdtmed.aggregates.registers import decode_register
from crdtmed.aggregates.stock_item import Movement, MovementType, StockRegister
from crdtmed.contract import Kind
from crdtmed.documents import DocumentKind
from crdtmed.verdict import Status
from relay.admission.admit import JUDGE
from relay.admission.effects import Decision, Effect, Move, Note, Put, accept
from relay.admission.facts import FactsPort, Submission
from relay.applying import apply
from relay.batch import Batch
from tests.relay.service.commits import DRAFTS, base_of, given_dose, verdicts
from tests.relay.world import World


def test_an_effect_the_database_refuses_undoes_that_statement_alone() -> None:
    world = World()
    lot = StockRegister("amox-500", "L9", "2030-01-01", 0, "{capsule}", 1)
    effects: list[Effect] = [
        Note("receipt", "k", b"1"),
        Put("site/ward-a", lot),
        Move(Movement("ward-a", "amox-500", "L9", MovementType.DISPENSE, -1, "abcdefgh.aaaaaaaaaaaaaaaa")),
    ]

    def act(batch: Batch) -> None:
        with pytest.raises(ValueError, match="-1 on hand"):
            apply(batch, effects)
        assert batch.register("site/ward-a", "stock/amox-500/L9") is None

    world.task(act)
    assert world.record.register("site/ward-a", "stock/amox-500/L9") is None
    assert world.record.note("receipt", "k") is None
    assert list(world.record.movements()) == []


def test_a_register_that_no_model_allows_takes_nothing_but_the_statement_that_wants_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Registers are held against their models once a commit; where one is wrong, it is found whose doing that is."""
    world = World()
    tablet = world.tablet()
    log = world.log("patient/p1")
    good, bad, other = (given_dose(tablet) for _ in range(3))

    def judged(_: FactsPort, submission: Submission) -> Decision:
        wrong = submission.ref == bad.statement.ref
        name, units = ("L8", -1) if wrong else ("L9", 1)
        return accept(Put("site/ward-a", StockRegister("amox-500", name, "2030-01-01", units, "{capsule}", 1)))

    monkeypatch.setitem(JUDGE, Kind.ADMINISTER, judged)  # a rule that is wrong, on purpose
    outcome = world.commit(world.push(tablet, log, tablet.into_log(log, 9, good, bad, other)))
    assert [(verdict.ref, verdict.status.value, verdict.code) for verdict in verdicts(outcome)] == [
        (good.statement.ref, "accepted", ""),
        (bad.statement.ref, "retry", "busy"),
        (other.statement.ref, "accepted", ""),
    ]
    assert [(kind, device) for _, _, kind, device, _ in world.record.alarms()] == [("not_applied", tablet.id)]
    assert base_of(world, log).values() == [good.encoded, other.encoded]
    (lot,) = world.record.registers("site/ward-a", "stock")
    assert decode_register(DocumentKind.SITE, lot.key, lot.value) == StockRegister(
        "amox-500", "L9", "2030-01-01", 1, "{capsule}", 1
    )


def test_movements_of_a_decision_that_fails_are_taken_back_in_memory_too() -> None:
    world = World()

    def move(kind: MovementType, delta: int) -> Move:
        return Move(Movement("ward-a", "amox-500", "L9", kind, delta, "abcdefgh.aaaaaaaaaaaaaaaa"))

    def act(batch: Batch) -> None:
        for effects in (
            (move(MovementType.RECEIPT, 5), move(MovementType.DISPENSE, -9)),
            (move(MovementType.SHORTAGE, 2), move(MovementType.SHORTAGE_CLOSED, -3)),
        ):
            with pytest.raises(ValueError, match="L9 would have"):
                apply(batch, effects)
        apply(batch, (move(MovementType.RECEIPT, 3), move(MovementType.SHORTAGE, 1)))
        with pytest.raises(ValueError, match="-1 on hand"):
            apply(batch, (move(MovementType.SHORTAGE_CLOSED, -1), move(MovementType.DISPENSE, -4)))
        apply(batch, (move(MovementType.DISPENSE, -1),))

    world.task(act)
    assert world.record.stock("ward-a", "amox-500", "L9") == (2, 1)
    assert [row[4:6] for row in world.record.movements()] == [("receipt", 3), ("shortage", 1), ("dispense", -1)]


def test_a_failed_commit_leaves_nothing_and_the_next_one_goes_on() -> None:
    world = World()
    tablet = world.tablet()

    def fails(batch: Batch) -> None:
        batch.put("patient/p1", batch.register("patient/p1", "patient"))  # type: ignore[arg-type]  # it is there
        raise RuntimeError("on purpose")

    before = world.record.documents()
    with pytest.raises(RuntimeError, match="on purpose"):
        world.task(fails)
    assert world.record.documents() == before
    outcome = world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, tablet.dose("p1", "rx1"))))
    assert verdicts(outcome)[0].status is Status.ACCEPTED
    assert world.verify().findings == ()


def test_what_the_disk_did_not_take_is_in_no_memory_either(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    tablet = world.tablet()
    first = world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, tablet.dose("p1", "rx1", "5")))
    assert verdicts(world.commit(first))[0].position == 1
    again = world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, tablet.dose("p1", "rx1", "6")))

    def full() -> None:
        raise OSError("no space left")

    with monkeypatch.context() as disk:
        disk.setattr(world.record, "commit", full)
        with pytest.raises(OSError, match="no space"):
            world.commit(again)
    outcome = world.commit(again)
    assert not outcome.gaps, "the clock of the push that failed is still due"
    assert [(verdict.status, verdict.position) for verdict in verdicts(outcome)] == [(Status.ACCEPTED, 2)]
    assert world.verify().findings == ()


def test_an_author_that_was_rolled_back_is_not_taken_for_the_next() -> None:
    world = World()
    first, second = world.tablet(), world.tablet()

    def fails(batch: Batch) -> None:
        batch.author(first.id)
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        world.task(fails)
    said = second.dose("p1", "rx1")
    world.commit(world.push(second, DRAFTS, second.into_drafts(DRAFTS, 9, said)))
    assert base_of(world, DRAFTS).values() == [said.encoded]
    assert world.verify().findings == ()
