"""What the writer keeps in memory of the database: as good as asking it, whoever else writes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed.aggregates.medication_administration import Administer, OfVerbal
from crdtmed.documents import log_of
from crdtmed.limits import FREE_NUMBERS
from crdtmed.verdict import Flag, Status
from relay.batch import Batch
from relay.identity import users
from relay.items import Outcome
from relay.live import LiveAuthor
from tests.relay.service.commits import DRAFTS, base_of, fold, verdicts
from tests.relay.world import ALL_ROLES, START, Tablet, World


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
