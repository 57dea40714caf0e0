"""A document that a device asks for more than once: whatever comes meanwhile, what it is sent follows what it has."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crdtmed.aggregates.patient import PatientRegister
from crdtmed.wire import frames
from relay.batch import Batch
from relay.connection import Connection
from relay.hub import Hub
from relay.jobs import Read
from relay.reading import Reader
from relay.session import State
from tests.relay.probe import Probe
from tests.relay.service.commits import DRAFTS
from tests.relay.world import World

ASK, READ, TELL, COMMIT, ASK_BESIDE, LEAVE = range(6)


@dataclass
class Holder:
    """A peer that keeps what it is sent as replicas, and minds what does not follow."""

    probe: Probe
    got: list[frames.ToDevice] = field(default_factory=list)

    def write(self, messages: list[bytes]) -> None:
        for message in messages:
            frame = frames.read_from_relay(message)
            self.got.append(frame)
            self.probe._keep(frame)

    def waiting(self) -> int:
        return 0

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def close(self, code: str, says: str) -> None:
        raise AssertionError((code, says))


@dataclass
class Line:
    """A device's connection to a hub whose reads are run, and told of, when the test says so."""

    world: World
    hub: Hub = field(init=False)
    holder: Holder = field(init=False)
    connection: Connection = field(init=False)
    results: list[tuple[Read, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        tablet = self.world.tablet()
        self.hub = Hub(self.world.identity, self.world.random)
        self.holder = Holder(Probe(tablet, 0))
        connection = self.hub.opened(self.holder, self.world.now_ms)
        assert connection is not None
        self.connection = connection
        connection.session.device, connection.session.state = tablet.id, State.OPEN
        self.reader = Reader(self.world.record, self.world.identity, self.world.now, self.world.random)

    def say(self, frame: frames.ToRelay) -> None:
        self.hub.received(self.connection, frames.encode_frame(frame), self.world.now_ms)

    def ask(self, *documents: str) -> None:
        self.say(frames.Subscribe(tuple(frames.Want(document, "", 0) for document in documents)))

    def read(self) -> None:
        if self.hub.reads:
            one = self.hub.reads.popleft()
            self.results.append((one, one.run(self.reader)))

    def tell(self) -> None:
        if self.results:
            one, result = self.results.pop(0)
            one.then(result)


@given(st.lists(st.sampled_from([ASK, ASK, READ, READ, TELL, COMMIT, ASK_BESIDE, LEAVE]), max_size=14))
@example([COMMIT, ASK, ASK, ASK, READ, TELL, READ, COMMIT, TELL])
@example([ASK, ASK, READ, TELL, READ, COMMIT])
@example([COMMIT, ASK, READ, ASK, ASK, TELL, READ, COMMIT, TELL, ASK])
@example([ASK_BESIDE, LEAVE, READ, TELL])
@example([COMMIT, ASK, READ, LEAVE, ASK, TELL, COMMIT])
def test_what_is_sent_goes_on_from_what_was_sent(steps: list[int]) -> None:
    line = Line(World())
    world, hub, tablet = line.world, line.hub, line.holder.probe.tablet
    for step in (*steps, *[READ, TELL] * (2 * len(steps) + 4)):
        if step == ASK:
            line.ask(DRAFTS)
        elif step == ASK_BESIDE:
            line.ask("patient/p1", DRAFTS)
        elif step == LEAVE:
            line.say(frames.Unsubscribe((DRAFTS,)))
        elif step == COMMIT:
            update = tablet.into_drafts(DRAFTS, 9, tablet.dose("p1", "rx1"))
            hub.settled((), world.commit(world.push(tablet, DRAFTS, update, connection=99)))
        elif step == READ:
            line.read()
        else:
            line.tell()
        assert line.connection.wants.keys() <= hub.fanout.at.get(line.connection.id, {}).keys()
    row = world.record.document(DRAFTS)
    asked = [step for step in steps if step in (ASK, ASK_BESIDE, LEAVE)]
    if row is not None and asked and asked[-1] != LEAVE:
        assert line.holder.probe.replicas[DRAFTS].position == row.position


def test_who_asks_again_and_again_for_what_it_then_leaves_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.reading.CHUNK_BYTES", 1)
    line = Line(World())
    for turn in range(20):
        names = [f"patient/x{turn}-{number}" for number in range(300)]
        line.ask("patient/p1", *names)
        if turn % 2:
            line.read()  # only the first of them is answered, and told of when they are given up
        line.say(frames.Unsubscribe(tuple(names)))
        line.tell()
        assert line.connection.wants.keys() <= {"patient/p1"}


def test_what_was_left_while_it_was_read_is_not_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.reading.CHUNK_BYTES", 1)
    line = Line(World())
    line.ask("patient/p1", "site/ward-a", "formulary")
    line.read()
    line.say(frames.Unsubscribe(("site/ward-a", "formulary")))
    line.tell()
    assert [type(frame) for frame in line.holder.got] == [frames.Bases]
    assert not line.hub.reads


def test_a_refusal_that_was_read_before_it_asked_again_is_not_told() -> None:
    line = Line(World())
    world = line.world

    def moved(*sites: str) -> None:
        def move(batch: Batch) -> None:
            register = batch.register("patient/p1", "patient")
            assert isinstance(register, PatientRegister)
            batch.put("patient/p1", msgspec.structs.replace(register, care_sites=sites))

        world.task(move)

    register = Batch(world.record, world.live, world.identity, 0, world.random).register("patient/p1", "patient")
    assert isinstance(register, PatientRegister)
    line.ask("patient/p1")
    moved("elsewhere")
    line.read()
    moved(*register.care_sites)
    line.ask("patient/p1")
    line.tell()
    assert line.holder.got == []
    line.read()
    line.tell()
    assert [type(frame) for frame in line.holder.got] == [frames.Bases]
