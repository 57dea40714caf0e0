"""Commits inline: places, tombstones, gaps, bindings, epochs, and that everything follows from the statements."""

from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtmed import keys
from crdtmed.aggregates.draft_view import draft_digest, draft_view
from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.medication_administration import Administer, OfVerbal
from crdtmed.aggregates.patient import PatientRegister
from crdtmed.aggregates.prescription import Sign, Stop
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
from crdtmed.aggregates.registers import decode_register
from crdtmed.aggregates.stock_item import Movement, MovementType, Receipt, StockRegister
from crdtmed.contract import Kind
from crdtmed.documents import DocumentKind, log_of, parse
from crdtmed.limits import FREE_NUMBERS, SEGMENT_GRACE_MS
from crdtmed.replica import Replica
from crdtmed.signed import DigestOf, DocumentDigests, Register, Signed, seal, unseal
from crdtmed.statement import SignedStatement
from crdtmed.updates import ItemId, read_relay_update
from crdtmed.verdict import Flag, Status, Verdict, decode_verdict
from crdtmed.wire.frames import Want
from relay.admission.admit import JUDGE
from relay.admission.effects import Decision, Effect, Move, Note, Put, accept
from relay.admission.facts import ChallengeState, FactsPort, KnowledgeAnswer, Submission
from relay.applying import apply
from relay.batch import Batch
from relay.identity import users
from relay.items import HandBack, Outcome, Task
from relay.live import LiveAuthor
from relay.reading import Reader, whole
from relay.session import content_of
from relay.session_events import Said
from relay.storage.rebuild import RecordBroken
from relay.storage.restore import new_epochs
from tests.relay.world import ALL_ROLES, START, Tablet, World

DRAFTS = "patient/p1/drafts"


def verdicts(outcome: Outcome, connection: int = 1) -> list[Verdict]:
    return [decode_verdict(data) for data in outcome.verdicts.get(connection, [])]


def fold(*outcomes: Outcome, document: str = DRAFTS) -> Replica:
    """What a subscriber of every commit has."""
    replica = Replica.open(document, 1)
    for outcome in outcomes:
        change = outcome.changes.get(document)
        if change is not None:
            assert change.first == replica.position + 1
            for update in change.updates:
                replica.apply(update)
                replica.position += 1
    return replica


def base_of(world: World, document: str) -> Replica:
    row = world.record.document(document)
    assert row is not None
    made = whole(world.record, row)
    replica = Replica.load(document, 1, made.update, row.epoch, row.position)
    assert replica.digest() == made.digest
    return replica


def reader(world: World) -> Reader:
    return Reader(world.record, world.identity, world.now, world.random)


def given_dose(tablet: Tablet, patient: str = "p1") -> SignedStatement:
    content = Administer(
        subject=OfVerbal("Dr. Example", "by telephone", "Amoxicillin 500 mg"),
        status="given",
        occurred_at=tablet.now(),
        site="ward-a",
        dose=Quantity("5", "mg"),
    )
    return tablet.say(content, f"patient/{patient}/log")


def test_an_accepted_write_takes_its_place_and_is_fanned_out_as_it_came() -> None:
    world = World()
    tablet = world.tablet()
    said = tablet.dose("p1", "rx1")
    update = tablet.into_drafts(DRAFTS, 9, said)
    outcome = world.commit(world.push(tablet, DRAFTS, update))
    (verdict,) = verdicts(outcome)
    assert (verdict.status, verdict.document, verdict.position) == (Status.ACCEPTED, DRAFTS, 1)
    assert outcome.changes[DRAFTS].updates == [update]
    assert outcome.changes[DRAFTS].epoch == verdict.epoch
    assert base_of(world, DRAFTS).values() == [said.encoded]
    assert world.verify().findings == ()


def test_what_is_not_accepted_takes_its_place_as_a_tombstone() -> None:
    world = World()
    tablet = world.tablet()
    good = tablet.dose("p1", "rx1", "5")
    bad = tablet.dose("p1", "rx1", "6", grant="vera/aaaaaaaa")
    last = tablet.dose("p1", "rx1", "7")
    first = world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, good, bad, last)))
    assert [verdict.status for verdict in verdicts(first)] == [Status.ACCEPTED, Status.REFUSED, Status.ACCEPTED]
    assert bad.encoded not in b"".join(first.changes[DRAFTS].updates)
    more = tablet.dose("p1", "rx1", "8")
    second = world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, more)))
    assert [verdict.status for verdict in verdicts(second)] == [Status.ACCEPTED]
    expected = sorted(said.encoded for said in (good, last, more))
    assert sorted(fold(first, second).values()) == sorted(base_of(world, DRAFTS).values()) == expected
    assert world.verify().findings == ()


def test_a_known_statement_gets_its_verdict_again_word_for_word() -> None:
    world = World()
    tablet = world.tablet()
    said = tablet.dose("p1", "rx1")
    bad = tablet.dose("p1", "rx1", grant="vera/aaaaaaaa")
    first = world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, said, bad)))
    world.now_ms += 5_000
    world.live.drop()
    again = world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, said, bad)))
    assert again.verdicts == first.verdicts
    assert base_of(world, DRAFTS).values() == [said.encoded]
    assert again.judged == {("known", ""): 2}
    assert world.verify().findings == ()


def test_an_id_that_stands_for_something_else_is_a_conflict_that_shows_what_is_recorded() -> None:
    world = World()
    tablet = world.tablet()
    said = tablet.dose("p1", "rx1", "5")
    other = tablet.dose("p1", "rx1", "6", id=said.statement.id)
    outcome = world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, said)))
    outcome = world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, other)))
    (verdict,) = verdicts(outcome)
    assert (verdict.status, verdict.code) == (Status.CONFLICT, "key_reused")
    assert base_of(world, DRAFTS).values() == [said.encoded]
    assert world.verify().findings == ()


def test_a_push_that_does_not_continue_its_client_is_a_gap_and_changes_nothing() -> None:
    world = World()
    tablet = world.tablet()
    tablet.into_drafts(DRAFTS, 9, tablet.dose("p1", "rx1"))
    late = world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, tablet.dose("p1", "rx1")))
    outcome = world.commit(late)
    assert [(gap.client, gap.clock) for gap in outcome.gaps[1]] == [(9, 0)]
    assert outcome.changes == {}
    assert list(world.record.statements()) == []


def test_a_client_id_belongs_to_the_device_that_used_it_first() -> None:
    world = World()
    one, other = world.tablet(), world.tablet()
    first = world.push(one, DRAFTS, one.into_drafts(DRAFTS, 9, one.dose("p1", "rx1")))
    world.commit(first)
    other.clocks[DRAFTS, 9] = 1
    foreign = world.push(other, DRAFTS, other.into_drafts(DRAFTS, 9, other.dose("p1", "rx1")), connection=2)
    innocent = world.push(one, DRAFTS, one.into_drafts(DRAFTS, 9, one.dose("p1", "rx1", "6")))
    outcome = world.commit(foreign, innocent)
    assert outcome.closes[2][0] == "foreign_client"
    assert [verdict.status for verdict in verdicts(outcome)] == [Status.ACCEPTED]
    assert outcome.changes[DRAFTS].updates == [innocent.raw]


def test_an_origin_that_is_not_there_closes_and_changes_nothing() -> None:
    world = World()
    tablet = world.tablet()
    log = world.log("patient/p1")
    update = tablet.into_log(log, 9, given_dose(tablet), origin=ItemId(55, 0))
    outcome = world.commit(world.push(tablet, log, update))
    assert outcome.closes[1][0] == "dangling_origin"
    assert outcome.changes == {}


def test_a_log_with_tombstones_reads_alike_update_by_update_and_whole() -> None:
    world = World()
    one, other = world.tablet(), world.tablet()
    log = world.log("patient/p1")
    outcomes = []
    kept = []
    origin: ItemId | None = None
    for turn in range(6):
        tablet, client = (one, 9) if turn % 2 == 0 else (other, 8)
        good, again = given_dose(tablet), given_dose(tablet)
        update = tablet.into_log(log, client, good, again, good, origin=origin)
        outcomes.append(world.commit(world.push(tablet, log, update)))
        kept += [good.encoded, again.encoded]
        origin = ItemId(9, 0)
    assert sorted(fold(*outcomes, document=log).values()) == sorted(base_of(world, log).values()) == sorted(kept)
    assert world.verify().findings == ()


def test_a_fact_is_pushed_into_the_relays_day_and_yesterday_stays_open_ten_minutes() -> None:
    world = World()
    tablet = world.tablet()
    month = world.log("patient/p1")
    world.now_ms += 45 * 86_400_000
    tablet = world.tablet()
    said = given_dose(tablet)
    outcome = world.commit(world.push(tablet, month, tablet.into_log(month, 9, said)))
    (verdict,) = verdicts(outcome)
    assert (verdict.status, verdict.code, verdict.position) == (Status.RETRY, "segment_closed", 0)
    assert outcome.changes == {}
    now = world.log("patient/p1")
    (verdict,) = verdicts(world.commit(world.push(tablet, now, tablet.into_log(now, 9, said))))
    assert verdict.status is Status.ACCEPTED


def test_the_segment_before_takes_entries_for_its_grace() -> None:
    world = World()
    day = 86_400_000
    world.now_ms = (START // day + 1) * day - 1_000
    tablet = world.tablet()
    log = world.log("site/ward-a")
    receipts = [receipt(tablet, str(number)) for number in range(3)]
    world.now_ms += SEGMENT_GRACE_MS
    outcome = world.commit(world.push(tablet, log, tablet.into_log(log, 9, receipts[0])))
    assert verdicts(outcome)[0].status is Status.ACCEPTED
    world.now_ms += 2_000
    outcome = world.commit(world.push(tablet, log, tablet.into_log(log, 9, receipts[1])))
    assert verdicts(outcome)[0].code == "segment_closed"


def receipt(tablet: Tablet, note: str, quantity: int = 10, lot: str = "L1") -> SignedStatement:
    content = Receipt("Supplier", note, "amox-500", lot, "2030-01-01", quantity, "{capsule}", tablet.now())
    return tablet.say(content, "site/ward-a/log")


def test_many_changes_of_a_register_are_one_update_of_its_document() -> None:
    world = World()
    tablet = world.tablet()
    log = world.log("site/ward-a")
    before = world.record.document("site/ward-a")
    assert before is not None
    pushes = [world.push(tablet, log, tablet.into_log(log, 9, receipt(tablet, str(each)))) for each in range(5)]
    outcome = world.commit(*pushes)
    change = outcome.changes["site/ward-a"]
    assert (change.first, len(change.updates)) == (before.position + 1, 1)
    sealed = base_of(world, "site/ward-a").map()["stock/amox-500/L1"]
    register = unseal(Register, sealed, world.ring.relay.public)
    value = msgspec.msgpack.decode(register.value, type=StockRegister)
    assert (register.version, value.on_hand, value.version) == (1, 50, 5)
    assert world.record.stock("ward-a", "amox-500", "L1") == (50, 0)
    assert world.verify().findings == ()


def test_a_request_takes_no_place_and_its_verdict_names_the_patients_document() -> None:
    world = World()
    tablet = world.tablet()
    said = tablet.say(Stop("rx9", "no longer needed"), "patient/p1")
    outcome = world.commit(world.request(tablet, said))
    (verdict,) = verdicts(outcome)
    assert (verdict.status, verdict.code, verdict.document) == (Status.REFUSED, "prescription_unknown", "patient/p1")
    assert verdict.position == world.record.documents()["patient/p1"]
    again = world.commit(world.request(tablet, said))
    assert again.verdicts == outcome.verdicts


def test_a_signed_draft_leaves_its_document_and_stays_on_record() -> None:
    world = World()
    tablet = world.tablet()
    groups: tuple[GroupValue, ...] = (
        Medication("amox-500", "Amoxicillin 500 mg"),
        Dose(quantity=Quantity("1", "{capsule}")),
        Route("26643006", "Oral"),
        Timing(frequency=3, period="1", period_unit="d"),
        Supply(30, "{capsule}", 0, "pharmacy"),
    )
    writes: list[SignedStatement] = []
    for value in groups:
        seen = tuple(each.statement.ref for each in writes)
        writes.append(tablet.say(DraftWrite("rx1", group_of(value), value), DRAFTS, seen=seen))
    other = tablet.dose("p1", "rx2")
    outcomes = [world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, *writes, other)))]
    held = base_of(world, DRAFTS)
    digest = draft_digest(draft_view([each.statement for each in writes]))
    seen = tuple(each.statement.ref for each in writes)
    sign = tablet.say(Sign("rx1", digest), "patient/p1", seen=seen, challenge=b"c" * 16)
    answer = KnowledgeAnswer(world.record.documents()["patient/p1"], digest, "snapshot-1")
    outcomes.append(world.commit(world.request(tablet, sign, challenge=ChallengeState.FRESH, answer=answer)))
    (verdict,) = verdicts(outcomes[-1])
    assert (verdict.status, verdict.code) == (Status.ACCEPTED, "")
    assert verdict.position == world.record.documents()["patient/p1"]
    # Who follows, who takes the whole, and who merges the whole into what it holds: all have the other draft alone.
    row = world.record.document(DRAFTS)
    assert row is not None
    held.apply(whole(world.record, row).update)
    for replica in (fold(*outcomes), base_of(world, DRAFTS), held):
        assert replica.values() == [other.encoded]
    assert {each.ref for each in world.record.statements()} >= {each.statement.ref for each in writes}
    again = world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, *writes)))
    assert {verdict.status for verdict in verdicts(again)} == {Status.ACCEPTED}
    assert base_of(world, DRAFTS).values() == [other.encoded]
    assert world.verify().findings == ()


def test_the_statement_of_a_revoked_device_is_not_judged() -> None:
    world = World()
    tablet = world.tablet()
    push = world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, tablet.dose("p1", "rx1")))
    world.task(lambda _: world.identity.revoke(world.connection, tablet.id, "lost", False, world.now_ms))
    outcome = world.commit(push)
    assert outcome.closes[1][0] == "revoked"
    assert list(world.record.statements()) == []


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


@given(st.integers(0, 5), st.lists(st.integers(1, 12) | st.sampled_from((50, 2**50, 2**50 + 3))))
def test_a_number_that_was_taken_is_never_thought_free(last: int, numbers: list[int]) -> None:
    """What the record has of before is not known in memory; what is said to be free, really is."""
    author = LiveAuthor(1, last)
    taken: set[int] = set()
    for number in numbers:
        author.took(number)
        taken.add(number)
        assert author.last == max(last, *taken)
        assert len(author.free) <= FREE_NUMBERS
        for asked in (*range(1, 14), 50, 2**50, 2**50 + 1):
            assert author.has_none(asked) <= (asked not in taken and asked > last)
        for asked in range(last + 1, 13):
            assert author.has_none(asked) or asked in taken or author.last > FREE_NUMBERS


def test_a_device_fills_its_numbers_document_by_document_and_a_reused_one_is_seen() -> None:
    world = World()
    tablet = world.tablet()
    log = world.log("patient/p1")
    doses = [tablet.dose("p1", "rx1", number=number) for number in (1, 3, 5)]
    given = [
        tablet.say(
            Administer(OfVerbal("Dr Example", "by voice", "Amoxicillin"), "given", START, "ward-a"),
            log_of("patient/p1"),
            number=number,
        )
        for number in (2, 4, 3)
    ]
    asked: list[int] = []
    holder = world.record.number_holder

    def noted(device: str, number: int) -> str | None:
        asked.append(number)
        return holder(device, number)

    world.record.number_holder = noted  # type: ignore[method-assign]  # to hear what it is asked
    first = world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, *doses)))
    second = world.commit(world.push(tablet, log, tablet.into_log(log, 10, *given)))
    assert [verdict.flags for verdict in verdicts(first)] == [(), (), ()]
    assert [Flag.NUMBER_REUSED in verdict.flags for verdict in verdicts(second)] == [False, False, True]
    assert asked == [3], "the record is asked where it alone can tell"
    assert world.record.last_number(tablet.id) == 5


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


@pytest.mark.parametrize("elsewhere", [False, True], ids=["by a task", "by another process"])
def test_who_is_out_of_service_is_known_at_once(elsewhere: bool, tmp_path: Path) -> None:
    """The writer keeps in memory what the identity service says, until anybody may have changed it."""
    world = World(tmp_path / "relay.db")
    world.task(
        lambda _: users.add(
            world.connection, world.terms, "nia", "Nia", ALL_ROLES, ("ward-a",), "nia's word", world.random
        )
    )
    lost, leaver = world.tablet(), world.tablet("nia", "nia's word")

    def write(who: Tablet, prescription: str) -> Outcome:
        said = who.dose("p1", prescription)
        return world.commit(world.push(who, DRAFTS, who.into_drafts(DRAFTS, 1 + int(who is lost), said)))

    for who in (lost, leaver):
        assert [verdict.status for verdict in verdicts(write(who, "rx1"))] == [Status.ACCEPTED]

    writer = World.beside(world) if elsewhere else world

    def change(batch: Batch) -> None:
        world.identity.revoke(writer.connection, lost.id, "lost", False, world.now_ms)
        users.withdraw(writer.connection, "nia", world.now_ms)

    writer.task(change)
    assert write(lost, "rx2").closes[1][0] == "revoked"
    (verdict,) = verdicts(write(leaver, "rx2"))
    assert (verdict.status, verdict.code) == (Status.REFUSED, "user_withdrawn")


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


def test_another_process_that_wrote_is_noticed_before_anything_is_judged(tmp_path: object) -> None:
    from pathlib import Path

    path = Path(str(tmp_path)) / "relay.db"
    world = World(path)
    other = World.beside(world)
    tablet = world.tablet()
    assert not world.commit().external
    outcomes = []
    for turn, process in enumerate((world, other, world, other)):
        said = tablet.dose("p1", "rx1", str(turn + 1))
        outcome = process.commit(process.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, said)))
        # The other one's first look at the database finds nothing that it had in memory.
        assert outcome.external is (turn > 1)
        assert [verdict.position for verdict in verdicts(outcome)] == [turn + 1]
        outcomes.append(outcome)
    assert fold(*outcomes).digest() == base_of(world, DRAFTS).digest()
    assert world.verify().findings == ()


def test_another_process_that_wrote_is_noticed_again_after_a_commit_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path / "relay.db")
    other = World.beside(world)
    tablet = world.tablet()
    world.commit()
    other.commit(other.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 8, tablet.dose("p1", "rx1", "5"))))

    def full() -> None:
        raise OSError("no space left")

    with monkeypatch.context() as disk:
        disk.setattr(world.record, "commit", full)
        with pytest.raises(OSError, match="no space"):
            world.commit()
    assert world.commit().external, "whoever holds the document was not told yet of what the other has written"
    assert not world.commit().external


# ---- what a device that was away gets -------------------------------------------------------------------------------


def test_who_was_away_gets_what_it_lacks_or_the_whole() -> None:
    world = World()
    tablet = world.tablet()
    outcomes = [
        world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, tablet.dose("p1", "rx1", str(n + 1)))))
        for n in range(4)
    ]
    epoch = outcomes[0].changes[DRAFTS].epoch
    (answer,) = reader(world).answers(tablet.id, [Want(DRAFTS, epoch, 1)]).each
    assert answer.run is not None
    assert (answer.run.first, answer.position) == (2, 4)
    assert list(answer.run.updates) == [update for it in outcomes[1:] for update in it.changes[DRAFTS].updates]
    (answer,) = reader(world).answers(tablet.id, [Want(DRAFTS, epoch, 4)]).each
    assert answer.run is not None
    assert (answer.run.first, answer.run.updates) == (5, ())
    for want in (Want(DRAFTS, "", 0), Want(DRAFTS, "a" * 16, 2), Want(DRAFTS, epoch, 9)):
        answers = reader(world).answers(tablet.id, [want])
        (answer,) = answers.each
        assert answer.base is not None
        digests = unseal(DocumentDigests, answers.digests, world.ring.relay.public)
        held = Replica.load(DRAFTS, 1, answer.base.update, epoch, 4)
        assert digests.documents == (DigestOf(DRAFTS, epoch, 4, held.digest()),)


def test_documents_that_are_sent_together_share_one_signature_which_is_made_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    tablet = world.tablet()
    for turn in range(2):
        world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9 + turn, tablet.dose("p1", "rx1"))))
    read = reader(world)
    wants = [
        Want(document, "", 0) for document in ("directory", DRAFTS, "patient/p1", DRAFTS, "patient/p1/log/2026-05")
    ]
    first = read.answers(tablet.id, wants)
    listed = unseal(DocumentDigests, first.digests, world.ring.relay.public).documents
    whole = {answer.document: answer for answer in first.each if answer.base is not None}
    assert [digest.document for digest in listed] == list(whole) == ["directory", DRAFTS, "patient/p1"]
    for digest in listed:
        base = whole[digest.document].base
        assert base is not None
        held = Replica.load(digest.document, 1, base.update, base.epoch, base.position)
        assert (digest.epoch, digest.position, digest.content) == (base.epoch, base.position, held.digest())
    made: list[bytes] = []

    def counted(value: Signed, signer: keys.Signer) -> bytes:
        made.append(seal(value, signer))
        return made[-1]

    monkeypatch.setattr("relay.reading.seal", counted)
    assert read.answers(tablet.id, wants) == first
    assert not made
    assert read.digest(DRAFTS) == read.digest(DRAFTS) == made[0]
    assert len(made) == 1
    world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 20, tablet.dose("p1", "rx1"))))
    changed = unseal(DocumentDigests, read.answers(tablet.id, wants).digests, world.ring.relay.public).documents
    assert [digest.document for digest in changed if digest not in listed] == [DRAFTS]
    assert read.answers(tablet.id, wants[-1:]).digests == b""


def test_a_document_nothing_was_committed_to_is_up_to_date_at_nothing() -> None:
    world = World()
    tablet = world.tablet()
    (answer,) = reader(world).answers(tablet.id, [Want(DRAFTS, "", 0)]).each
    assert answer.run is not None
    assert (answer.run.epoch, answer.run.first, answer.run.updates) == ("", 1, ())


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("directory", None),
        ("formulary", None),
        ("site/ward-a", None),
        ("site/ward-a/log/2026-05-01", None),
        ("patient/p1/log/2026-05", None),
        ("site/elsewhere", "site_not_granted"),
        ("patient/nobody", "unknown_document"),
        ("patient/p2", "patient_not_in_care"),
        ("ward", "unknown_document"),
        ("patient/p1/drafts/more", "unknown_document"),
    ],
)
def test_a_device_gets_what_its_grants_open(document: str, code: str | None) -> None:
    world = World()
    tablet = world.tablet()

    def elsewhere(batch: Batch) -> None:
        register = batch.register("patient/p1", "patient")
        assert register is not None
        batch.put("patient/p2", msgspec.structs.replace(register, id="p2", care_sites=("elsewhere",)))

    world.task(elsewhere)
    (answer,) = reader(world).answers(tablet.id, [Want(document, "", 0)]).each
    assert answer.refused == code
    world.now_ms += 40 * 3_600_000  # the grant has lapsed
    (answer,) = reader(world).answers(tablet.id, [Want(document, "", 0)]).each
    assert (answer.refused is None) is (document in ("directory", "formulary"))


def test_a_long_catch_up_comes_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    tablet = world.tablet()
    wants = [Want(document, "", 0) for document in ("directory", "formulary", "patient/p1", "site/ward-a")]
    monkeypatch.setattr("relay.reading.CHUNK_BYTES", 1)
    read = reader(world)
    assert [answer.document for answer in read.answers(tablet.id, wants).each] == ["directory"]
    monkeypatch.undo()
    assert [answer.document for answer in read.answers(tablet.id, wants).each] == [want.document for want in wants]


def test_a_relays_document_is_compacted_and_its_last_changes_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.batch.COMPACT_AFTER", 4)
    world = World()
    tablet = world.tablet()
    name = "patient/p1"
    outcomes = []
    for turn in range(9):

        def rename(batch: Batch, turn: int = turn) -> None:
            register = batch.register(name, "patient")
            assert isinstance(register, PatientRegister)
            batch.put(name, msgspec.structs.replace(register, name=f"Name {turn}", version=turn + 2))

        outcomes.append(world.commit(Task(0, rename)))
        if turn % 3 == 0:
            world.live.drop()  # the relay writes on under another client id
    row = world.record.document(name)
    assert row is not None
    assert 0 < row.floor < row.snapshot_position <= row.position == 10
    assert [at for at, _ in world.record.changes(row.id, 0, 99)] == list(range(row.floor + 1, 11))
    (behind, near) = (Want(name, row.epoch, row.floor - 1), Want(name, row.epoch, row.floor))
    answers = reader(world).answers(tablet.id, [behind, near]).each
    assert answers[0].base is not None
    assert answers[1].run is not None
    assert len(answers[1].run.updates) == 10 - row.floor
    sealed = base_of(world, name).map()["patient"]
    assert unseal(Register, sealed, world.ring.relay.public).version == 10
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


# ---- restored from a backup --------------------------------------------------------------------------------------


def test_after_a_restore_statements_come_back_and_what_needed_the_relay_is_to_be_done_again() -> None:
    world = World()
    tablet = world.tablet()
    early = tablet.dose("p1", "rx1", "5")
    world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, early)))
    before = world.record.document(DRAFTS)
    assert before is not None
    assert new_epochs(world.record, world.now_ms, world.random) == len(world.record.documents())
    world.live.drop()
    after = world.record.document(DRAFTS)
    assert after is not None
    assert after.epoch != before.epoch
    lost = tablet.dose("p1", "rx1", "6")  # said and admitted after the backup was made
    other = world.tablet()
    foreign = other.dose("p1", "rx1", "7")
    back = HandBack(1, tablet.id, parse(DRAFTS), tuple(Said(each, content_of(each)) for each in (early, lost, foreign)))
    outcome = world.commit(back)
    assert [verdict.status for verdict in verdicts(outcome)] == [Status.ACCEPTED] * 3
    assert verdicts(outcome)[0].epoch == before.epoch
    assert verdicts(outcome)[1].epoch == after.epoch
    expected = sorted(each.encoded for each in (early, lost, foreign))
    assert sorted(base_of(world, DRAFTS).values()) == expected
    again = world.commit(back)
    assert again.verdicts == outcome.verdicts
    assert again.changes == {}
    assert world.verify().findings == ()


def test_facts_handed_back_follow_what_the_log_has() -> None:
    world = World()
    tablet = world.tablet()
    log = world.log("patient/p1")
    first = given_dose(tablet)
    world.commit(world.push(tablet, log, tablet.into_log(log, 9, first)))
    new_epochs(world.record, world.now_ms, world.random)
    world.live.drop()
    world.now_ms += 60 * 86_400_000  # the segment is long closed for pushes
    lost = [given_dose(tablet) for _ in range(3)]
    outcome = world.commit(HandBack(1, tablet.id, parse(log), tuple(Said(each, content_of(each)) for each in lost)))
    assert all(verdict.final for verdict in verdicts(outcome))
    accepted = [
        each.encoded for each, verdict in zip(lost, verdicts(outcome), strict=True) if verdict.status is Status.ACCEPTED
    ]
    assert sorted(base_of(world, log).values()) == sorted([first.encoded, *accepted])
    assert world.verify().findings == ()


# ---- the proof finds what is wrong ---------------------------------------------------------------------------------


def busy_world() -> World:
    world = World()
    tablet = world.tablet()
    log = world.log("site/ward-a")
    world.commit(world.push(tablet, log, tablet.into_log(log, 9, receipt(tablet, "n1"), receipt(tablet, "n2"))))
    said = (tablet.dose("p1", "rx1", "5"), tablet.dose("p1", "rx1", "6", grant="vera/aaaaaaaa"))
    world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, *said)))
    assert world.verify().findings == ()
    return world


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        ("UPDATE statement SET data = zeroblob(length(data)) WHERE id = 1", "statement_unreadable"),
        ("UPDATE statement SET number = 99 WHERE id = 1", "statement_misfiled"),
        ("UPDATE statement SET status = 2 WHERE id = 1", "document_differs|movement_unfounded|verdict"),
        ("UPDATE statement SET status = 0 WHERE status = 2", "verdict_contradicts"),
        ("UPDATE statement SET clock = 5 WHERE id = 1", "document_broken"),
        ("UPDATE client SET clock = clock + 1", "document_broken"),
        ("DELETE FROM relay_change WHERE position = 2", "document_broken"),
        ("UPDATE register SET value = x'c0' WHERE key LIKE 'stock/%'", "register_differs"),
        ("DELETE FROM register WHERE key LIKE 'stock/%'", "register_missing"),
        ("UPDATE stock SET on_hand = on_hand + 1", "ledger_differs"),
        ("UPDATE movement SET delta = delta + 1 WHERE id = 1", "ledger_differs"),
        ("DELETE FROM movement WHERE id = 1", "movement_missing"),
    ],
)
def test_the_proof_names_what_does_not_follow(damage: str, code: str) -> None:
    world = busy_world()
    world.connection.execute("PRAGMA foreign_keys = OFF")
    world.connection.execute(damage)
    codes = {finding.what for finding in world.verify().findings}
    assert any(found.startswith(wanted) for found in codes for wanted in code.split("|")), codes


def test_the_proof_checks_every_signature() -> None:
    world = busy_world()
    (data,) = world.connection.execute("SELECT data FROM statement WHERE id = 1").fetchone()
    world.connection.execute("UPDATE statement SET data = ? WHERE id = 1", (bytes([data[0] ^ 1]) + data[1:],))
    assert {finding.what for finding in world.verify().findings} == {"statement_forged"}


def test_a_document_with_a_hole_is_refused_not_mended() -> None:
    world = busy_world()
    world.connection.execute("UPDATE statement SET clock = 7 WHERE clock = 1")
    row = world.record.document(DRAFTS)
    assert row is not None
    with pytest.raises(RecordBroken):
        whole(world.record, row)


# ---- any history ------------------------------------------------------------------------------------------------


steps = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["good", "bad", "again", "gap", "drop", "fresh"]), st.integers(1, 3)),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_any_history_folds_to_its_base(history: Iterable[tuple[int, str, int]]) -> None:
    world = World(seed=3)
    tablets = [world.tablet() for _ in range(3)]
    clients = [100, 200, 300]
    outcomes: list[Outcome] = []
    accepted: dict[str, bytes] = {}
    for who, what, count in history:
        tablet = tablets[who]
        if what == "drop":
            world.live.drop()
            continue
        if what == "fresh":
            clients[who] += 1
            continue
        wrong = {"grant": "vera/aaaaaaaa"} if what == "bad" else {}
        said = [tablet.dose("p1", "rx1", str(n + 1), **wrong) for n in range(count)]
        update = tablet.into_drafts(DRAFTS, clients[who], *said)
        if what == "gap":
            update = tablet.into_drafts(DRAFTS, clients[who], *said)  # the one before was lost
        outcome = world.commit(world.push(tablet, DRAFTS, update))
        outcomes.append(outcome)
        if outcome.gaps:
            clients[who] += 1
            continue
        if what == "again":
            outcomes.append(world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, clients[who], *said))))
        for each, verdict in zip(said, verdicts(outcome), strict=True):
            if verdict.status is Status.ACCEPTED:
                accepted[each.statement.ref] = each.encoded
    if world.record.document(DRAFTS) is None:
        return
    expected = sorted(accepted.values())
    assert sorted(fold(*outcomes).values()) == sorted(base_of(world, DRAFTS).values()) == expected
    found = world.verify()
    assert found.findings == ()
    for outcome in outcomes:
        for update in outcome.changes[DRAFTS].updates if DRAFTS in outcome.changes else ():
            read_relay_update(update, parse(DRAFTS).root)
