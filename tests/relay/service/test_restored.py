"""A relay restored from a backup: what devices hand back takes its place again."""

from crdtmed.aggregates.conflict import BreakGlass
from crdtmed.documents import parse
from crdtmed.verdict import Status
from relay.items import HandBack
from relay.session_events import Said
from relay.session_statements import content_of
from relay.storage.restore import new_epochs
from tests.relay.service.commits import DRAFTS, base_of, given_dose, verdicts
from tests.relay.world import World


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


def test_a_verdict_on_what_wrote_nothing_since_a_restore_is_given_again_word_for_word() -> None:
    world = World()
    tablet = world.tablet()
    new_epochs(world.record, world.now_ms, world.random)
    world.live.drop()
    glass = tablet.say(BreakGlass("the network is down", world.now_ms), "directory")
    first, again = (verdicts(world.commit(world.request(tablet, glass))) for _ in range(2))
    document = world.record.document("directory")
    assert document is not None
    assert [verdict.epoch for verdict in first] == [document.epoch]
    assert again == first
    assert world.verify().findings == ()
