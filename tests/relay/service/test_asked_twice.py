"""A document that a device asks for more than once: whatever comes meanwhile, what it is sent follows what it has."""

from dataclasses import dataclass, field

from hypothesis import example, given
from hypothesis import strategies as st

from crdtmed.wire import frames
from relay.hub import Hub
from relay.reading import Reader
from relay.session import State
from tests.relay.probe import Probe
from tests.relay.service.commits import DRAFTS
from tests.relay.world import World

ASK, READ, TELL, COMMIT, ASK_BESIDE = range(5)


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


@given(st.lists(st.sampled_from([ASK, ASK, READ, READ, TELL, COMMIT, ASK_BESIDE]), max_size=14))
@example([COMMIT, ASK, ASK, ASK, READ, TELL, READ, COMMIT, TELL])
@example([ASK, ASK, READ, TELL, READ, COMMIT])
@example([COMMIT, ASK, READ, ASK, ASK, TELL, READ, COMMIT, TELL, ASK])
def test_what_is_sent_goes_on_from_what_was_sent(steps: list[int]) -> None:
    world = World()
    tablet = world.tablet()
    reader = Reader(world.record, world.identity, world.now, world.random)
    hub = Hub(world.identity, world.random)
    holder = Holder(Probe(tablet, 0))
    connection = hub.opened(holder, world.now_ms)
    assert connection is not None
    connection.session.device, connection.session.state = tablet.id, State.OPEN
    results = []

    def read() -> None:
        if hub.reads:
            one = hub.reads.popleft()
            results.append((one, one.run(reader)))

    def tell() -> None:
        if results:
            one, result = results.pop(0)
            one.then(result)

    for step in (*steps, *[READ, TELL] * (2 * len(steps) + 4)):
        if step in (ASK, ASK_BESIDE):
            beside = [frames.Want("patient/p1", "", 0)] * (step == ASK_BESIDE)
            frame = frames.Subscribe((*beside, frames.Want(DRAFTS, "", 0)))
            hub.received(connection, frames.encode_frame(frame), world.now_ms)
        elif step == COMMIT:
            update = tablet.into_drafts(DRAFTS, 9, tablet.dose("p1", "rx1"))
            hub.settled((), world.commit(world.push(tablet, DRAFTS, update, connection=99)))
        elif step == READ:
            read()
        else:
            tell()
    row = world.record.document(DRAFTS)
    if row is not None and any(step in (ASK, ASK_BESIDE) for step in steps):
        assert holder.probe.replicas[DRAFTS].position == row.position
