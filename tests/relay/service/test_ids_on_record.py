"""Whether a statement is new is known from its device's highest id, or asked of the record: never guessed."""

import sqlite3
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from crdtmed.ids import statement_id
from crdtmed.verdict import Status, decode_verdict
from tests.relay.world import World

DRAFTS: Final = "patient/p1/drafts"
IDS: Final = [statement_id(bytes((number,)) * 10) for number in range(8)]


def asked(world: World) -> list[str]:
    """The questions about ids that the record is asked from now on."""
    made: list[str] = []

    def trace(sql: str) -> None:
        if sql.startswith("SELECT statement.sid") and "statement.sid =" in sql:
            made.append(sql)

    connection = world.record.connection
    assert isinstance(connection, sqlite3.Connection)
    connection.set_trace_callback(trace)
    return made


COMMITS: Final = st.lists(
    st.tuples(st.lists(st.integers(0, len(IDS) - 1), min_size=1, max_size=6), st.booleans()), min_size=1, max_size=6
)


@settings(max_examples=60)
@given(COMMITS)
def test_in_whatever_order_ids_come_each_is_judged_once(commits: list[tuple[list[int], bool]]) -> None:
    world = World()
    tablet = world.tablet()
    says = [tablet.dose("p1", "rx1", id=sid) for sid in IDS]
    first: dict[str, bytes] = {}
    for numbers, forgets in commits:
        if forgets:
            world.live.drop()
        pushes = [
            world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, says[number])) for number in numbers
        ]  # one update never holds a key twice
        outcome = world.commit(*pushes)
        new = {says[number].statement.ref for number in numbers} - set(first)
        assert outcome.judged[Status.ACCEPTED, ""] == len(new)
        assert outcome.judged["known", ""] == len(numbers) - len(new)
        for number, verdict in zip(numbers, outcome.verdicts[1], strict=True):
            assert decode_verdict(verdict).ref == says[number].statement.ref
            assert first.setdefault(says[number].statement.ref, verdict) == verdict
    assert world.verify().findings == ()


def test_what_comes_behind_everything_on_record_asks_the_record_nothing() -> None:
    world = World()
    tablet = world.tablet()
    old = tablet.dose("p1", "rx1", id=IDS[0])
    world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, old)))
    questions = asked(world)
    for sid in IDS[2:5]:
        world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, tablet.dose("p1", "rx1", id=sid))))
    assert questions == []
    late = tablet.dose("p1", "rx1", id=IDS[1])
    world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, late)))
    assert len(questions) == 1
