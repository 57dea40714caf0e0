"""What waits to be judged is bounded, whatever it is that waits."""

from collections import deque
from dataclasses import dataclass

import pytest

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
    """A peer that takes everything, and whether it is read; it should not be hung up on."""

    read: bool = True

    def write(self, messages: list[bytes]) -> None:
        pass

    def waiting(self) -> int:
        return 0

    def pause(self) -> None:
        self.read = False

    def resume(self) -> None:
        self.read = True

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


@pytest.mark.parametrize("end", ["settled", "failed", "lost"])
def test_nobody_who_sends_more_is_read_while_too_much_waits(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    tablet = world.tablet()
    hub = Hub(world.identity, world.random)
    monkeypatch.setattr("relay.hub.MAX_INBOX_BYTES", ITEM_BYTES + 1)
    peers = [Silent(), Silent(), Silent()]
    connections = [hub.opened(peer, world.now_ms) for peer in peers]
    for at, connection in enumerate(connections):
        assert connection is not None
        connection.session.device, connection.session.state = tablet.id, State.OPEN
        if at < 2:
            update = tablet.into_drafts(DRAFTS, at, tablet.dose("p1", "rx1"))
            hub.received(connection, frames.encode_frame(frames.Push(DRAFTS, update)), world.now_ms)
    assert [peer.read for peer in peers] == [False, False, True]
    if end == "lost":
        assert connections[0] is not None
        hub.lost(connections[0])
        assert list(hub.paused) == [2]
        return
    if end == "failed":
        monkeypatch.setattr(Silent, "close", lambda self, code, says: None)
        hub.failed(take(hub.inbox, 256))
    else:
        hub.settled(take(hub.inbox, 256), world.commit())
        assert [peer.read for peer in peers] == [True, True, True]
    assert not hub.paused
