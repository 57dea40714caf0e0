"""A device that says much that nobody can count: nothing of it is lost, and a site's document stays readable."""

from functools import partial
from typing import Any

import pytest

from crdtmed.aggregates.stock_item import Receipt
from crdtmed.statement import SignedStatement
from crdtmed.updates import ItemId
from crdtmed.verdict import Status
from relay import batch, commit
from relay.quarantine import hand_over
from tests.relay.world import Tablet, World

MOST = 4_000
SITE = "site/pharmacy"


def received(tablet: Tablet, note: int, **changed: Any) -> SignedStatement:
    """A delivery."""
    said = Receipt("Acme", f"N-{note}", "amox-500", f"L{note}", "2099-12-31", 10, "{capsule}", tablet.now())
    return tablet.say(said, f"{SITE}/log", **changed)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A hospital whose documents list little."""
    monkeypatch.setattr(batch, "MAX_LISTED_BYTES", MOST)
    return World()


def listed(world: World, word: str) -> list[str]:
    """What a site's document has under that word."""
    return [row.key for row in world.record.registers(SITE, word)]


def full(world: World) -> list[tuple[str, str]]:
    """Alarms of documents that are full: kind and device."""
    return [(row[2], row[3]) for row in world.record.alarms() if row[2] == "document_full"]


def test_conflicts_without_end_are_all_on_record_and_listed_as_long_as_there_is_room(world: World) -> None:
    bad, good = world.tablet(), world.tablet()
    said = [received(bad, note, grant="vera/aaaaaaaa") for note in range(20)]
    for at, one in enumerate(said):
        # Each in a commit of its own: what a commit has gathered is counted with the next.
        origin = ItemId(1, at - 1) if at else None
        world.commit(world.push(bad, world.log(SITE), bad.into_log(world.log(SITE), 1, one, origin=origin)))
    kept = world.task(lambda it: [it.statement(one.statement.ref) for one in said])
    assert {(each.verdict.status, each.verdict.code) for each in kept} == {(Status.CONFLICT, "grant_unknown")}
    assert 0 < len(listed(world, "conflict")) < 20
    assert full(world) == [("document_full", bad.id)]
    world.live.drop()
    assert world.task(lambda it: it.is_full(SITE))
    # Stock and everything else goes on.
    delivery = received(good, 99)
    world.commit(world.push(good, world.log(SITE), good.into_log(world.log(SITE), 2, delivery)))
    assert listed(world, "stock") == ["stock/amox-500/L99"]
    assert not world.task(lambda it: it.is_full("patient/p1"))
    assert world.verify().findings == ()


def test_a_document_that_grows_large_is_told_to_the_operator_once_and_long_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "COMPACT_AFTER", 2)
    monkeypatch.setattr(commit, "LARGE_BYTES", 3_000)
    good = world.tablet()
    told: list[int] = []
    for note in range(20):
        origin = ItemId(1, note - 1) if note else None
        said = received(good, note)
        world.commit(world.push(good, world.log(SITE), good.into_log(world.log(SITE), 1, said, origin=origin)))
        told.append(sum(row[2] == "document_large" for row in world.record.alarms()))
    assert (told[0], told[-1]) == (0, 1)
    assert world.verify().findings == ()


def test_what_is_quarantined_without_end_is_listed_as_long_as_there_is_room(world: World) -> None:
    stolen = world.tablet()
    said = [received(stolen, note) for note in range(20)]
    world.task(lambda it: world.identity.revoke(it.record.connection, stolen.id, "stolen", False, world.now_ms))
    for one in said:
        taken = world.task(partial(hand_over, device=stolen.id, public=stolen.signer.public, statements=[one]))
        assert taken.taken == 1
    assert world.record.quarantine_count(stolen.id) == 20
    assert 0 < len(listed(world, "quarantine")) < 20
    assert full(world) == [("document_full", stolen.id)]
