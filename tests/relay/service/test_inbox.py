"""What waits to be judged is bounded, whatever it is that waits."""

from collections import deque
from dataclasses import dataclass

from crdtmed.limits import ITEM_BYTES
from crdtmed.wire import frames
from relay.hub import Hub
from relay.jobs import take, verified
from relay.reading import Reader
from relay.session import State
from tests.relay.service.commits import DRAFTS
from tests.relay.world import World


@dataclass
class Silent:
    """A peer that takes everything; it should not be hung up on."""

    def write(self, messages: list[bytes]) -> None:
        pass

    def waiting(self) -> int:
        return 0

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def close(self, code: str, says: str) -> None:
        raise AssertionError((code, says))


def test_what_is_handed_back_without_a_statement_weighs_something_and_makes_no_document() -> None:
    world = World()
    tablet = world.tablet()
    before = world.record.documents()
    reader = Reader(world.record, world.identity, world.now, world.random)
    hub = Hub(world.identity, world.random)
    connection = hub.opened(Silent(), world.now_ms)
    assert connection is not None
    connection.session.device, connection.session.state = tablet.id, State.OPEN
    for number in range(20):
        hub.received(connection, frames.encode_frame(frames.HandBack(f"patient/p{number}/drafts", ())), world.now_ms)
        read = hub.reads.popleft()
        read.then(read.run(reader))
    assert hub.inbox_bytes == 20 * ITEM_BYTES
    judges = take(hub.inbox, 256)
    assert [len(take(deque(judges), most)) for most in (5, 256)] == [5, 20]
    hub.settled(judges, world.commit(*[verified(judge).item for judge in judges]))
    assert hub.inbox_bytes == 0
    assert world.record.documents() == before


def test_what_waits_weighs_its_bytes_until_it_is_settled() -> None:
    world = World()
    tablet = world.tablet()
    hub = Hub(world.identity, world.random)
    connection = hub.opened(Silent(), world.now_ms)
    assert connection is not None
    connection.session.device, connection.session.state = tablet.id, State.OPEN
    update = tablet.into_drafts(DRAFTS, 9, tablet.dose("p1", "rx1"))
    hub.received(connection, frames.encode_frame(frames.Push(DRAFTS, update)), world.now_ms)
    assert hub.inbox_bytes == ITEM_BYTES + len(update)
    hub.settled(take(hub.inbox, 256), world.commit())
    assert hub.inbox_bytes == 0
