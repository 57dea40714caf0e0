"""What a device holds follows what was asked for and the queues of its sites, and costs nothing while that stays."""

from pathlib import Path

import pytest

from crdtmed.aggregates.dispensing_event import QueueEntry
from crdtmed.device import engine_relay, engine_subset
from crdtmed.device.session import Place, Session
from crdtmed.wire import frames as wire
from tests.device.scripted_relay import NOW, ScriptedRelay
from tests.device.test_session import E1, holding, opened
from tests.device.world import P1, Device, linked, run, until


def queued(patient: str) -> QueueEntry:
    """A prescription of a patient in a site's queue."""
    return QueueEntry(f"rx-of-{patient}", patient, "item", "Amoxicillin", 20, "{tablet}", NOW)


def behind_anew(session: Session) -> int:
    """How many documents are not live, counted one by one."""
    return sum(not place.live for place in session.places.values())


def test_a_queue_is_followed_by_what_changed_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        device = Device("aaaaaaaa", tmp_path / "a.db")
        relay = ScriptedRelay()
        relay.enrol(device.name, device.signer.public)
        for number in range(20):
            relay.put_register("site/w1", f"queue/rx{number}", queued(f"q{number}"))
        read: list[bytes] = []
        decode = engine_subset._decode_queue

        def counted(data: bytes) -> QueueEntry:
            read.append(data)
            return decode(data)

        monkeypatch.setattr(engine_subset, "_decode_queue", counted)
        async with device.engine() as engine:
            core = engine.core
            await engine.subscribe(["site/w1"])
            async with linked(core, relay):
                await until(lambda: len(core.queue_patients) == 20 and not engine.status().behind)
                assert core.queue_patients == {f"q{number}" for number in range(20)}
                read.clear()
                relay.put_register("site/w1", "queue/rx20", queued("q20"))
                await until(lambda: "q20" in core.queue_patients)
                relay.put_register("site/w1", "queue/rx3", None)
                relay.put_register("site/w1", "stock/a", "no queue")
                await until(lambda: core.rows["site/w1"].position == 23 and not engine.status().behind)
                assert len(read) == 1, "only what came was read"
                assert "queue/rx3" not in core.queues["site/w1"]
                assert "q3" in core.queue_patients, "nothing vanishes under somebody's hands"
                assert core.session is not None
                assert behind_anew(core.session) == 0
            async with linked(core, relay):
                await until(lambda: engine.status().connected and not engine.status().behind)
                assert core.queue_patients == {f"q{number}" for number in range(21)} - {"q3"}
            await engine.unsubscribe(["site/w1"])
            assert not core.queues

    run(story())


def test_what_is_wanted_is_the_same_object_until_it_changes(tmp_path: Path) -> None:
    async def story() -> None:
        device = Device("aaaaaaaa", tmp_path / "a.db")
        async with device.engine() as engine:
            core = engine.core
            before = engine_subset.wanted(core)
            assert engine_subset.wanted(core) is before
            await engine.subscribe([P1])
            after = engine_subset.wanted(core)
            assert after != before
            assert engine_subset.wanted(core) is after
            device.now += 40 * 86_400_000
            assert engine_subset.wanted(core) != after, "the segments of another month"
            core.queue_patients = frozenset({"p9"})
            assert "patient/p9" in engine_subset.wanted(core)
            await engine.unsubscribe([P1])
            assert P1 not in engine_subset.wanted(core)

    run(story())


def test_what_was_refused_is_asked_for_when_it_is_wanted_again_and_not_before(tmp_path: Path) -> None:
    async def story() -> None:
        device = Device("aaaaaaaa", tmp_path / "a.db")
        async with device.engine() as engine:
            core = engine.core
            session = opened()
            core.session = session
            await engine.subscribe([P1])
            assert P1 in session.places
            session.receive(wire.encode_frame(wire.Evicted(P1, "not_granted")), 0)
            await engine_subset.evicted(core, P1, "not_granted")
            engine_subset.ask(core)
            assert P1 not in session.places
            await engine.subscribe([P1])
            assert P1 in session.places

    run(story())


def test_nothing_is_asked_for_before_both_sides_are_proved(tmp_path: Path) -> None:
    async def story() -> None:
        device = Device("aaaaaaaa", tmp_path / "a.db")
        async with device.engine() as engine:
            session = engine_relay.begin(engine.core)
            session.drain()
            await engine.subscribe([P1])
            assert not session.drain()
            assert not session.places

    run(story())


@pytest.mark.parametrize("first", [True, False])
def test_how_many_are_behind_is_counted_along(first: bool) -> None:
    session = holding(live=first)
    assert session.behind == behind_anew(session)
    session.subscribe([("patient/p2", "", 0), ("patient/p3", "", 0)])
    assert session.behind == behind_anew(session) == 2 + (not first)
    session.took("patient/p2", E1, 4)
    session.took("patient/p2", E1, 5)
    assert session.places["patient/p2"] == Place(E1, 5, live=True)
    assert session.behind == behind_anew(session) == 1 + (not first)
    session.refuse("patient/p2")
    assert session.behind == behind_anew(session) == 2 + (not first)
    session.unsubscribe(["patient/p2", "patient/p9"])
    assert session.behind == behind_anew(session) == 1 + (not first)
