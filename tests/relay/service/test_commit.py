"""Commits inline: places, tombstones, gaps, bindings, days, and that everything follows from the statements."""

from collections.abc import Iterable

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtmed.aggregates.draft_view import draft_digest, draft_view
from crdtmed.aggregates.elements import Quantity
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
from crdtmed.aggregates.stock_item import StockRegister
from crdtmed.documents import parse
from crdtmed.limits import SEGMENT_GRACE_MS
from crdtmed.signed import Register, unseal
from crdtmed.statement import SignedStatement
from crdtmed.updates import ItemId, read_relay_update
from crdtmed.verdict import Status
from relay.admission.facts import ChallengeState, KnowledgeAnswer
from relay.items import Outcome
from relay.reading import whole
from tests.relay.service.commits import DRAFTS, base_of, fold, given_dose, receipt, verdicts
from tests.relay.world import START, World


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


# ---- any history ---------------------------------------------------------------------------------------------------


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
