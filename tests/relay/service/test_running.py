"""A relay on real sockets: what devices get, also those that were away, read slowly or meet it restarted."""

import pytest

from crdtmed.limits import SEND_BUDGET_BYTES
from crdtmed.signed import DocumentDigest, unseal
from crdtmed.verdict import Status
from crdtmed.wire import frames
from relay.connection import Peer
from tests.relay.probe import Ended, Probe
from tests.relay.service.conftest import Running
from tests.relay.service.stories import DRAFTS, run, write


def test_what_one_writes_the_other_has(running: Running) -> None:
    one, other = running.world.tablet(), running.world.tablet()

    async def story() -> None:
        async with running.up(), Probe(one, running.port) as a, Probe(other, running.port) as b:
            await a.subscribe(DRAFTS, "patient/p1", "directory", "site/elsewhere")
            await b.subscribe(DRAFTS)
            refs = await write(a, "5", "6", "7")
            verdicts = [await a.verdict(ref) for ref in refs]
            assert {verdict.status for verdict in verdicts} == {Status.ACCEPTED}
            await b.until(lambda: b.replicas[DRAFTS].position == 3)
            await a.until(lambda: a.replicas[DRAFTS].position == 3)
            assert b.values(DRAFTS) == a.values(DRAFTS)
            assert len(b.values(DRAFTS)) == 3
            assert frames.Evicted("site/elsewhere", "site_not_granted") in a.seen
            assert {"patient/p1", "directory"} <= a.replicas.keys()

    run(story)
    assert running.world.verify().findings == ()


def test_a_subscriber_that_was_away_gets_only_what_it_lacks(running: Running) -> None:
    one, other = running.world.tablet(), running.world.tablet()

    async def story() -> None:
        async with running.up(), Probe(one, running.port) as a:
            await a.subscribe(DRAFTS)
            await write(a, "5")
            await a.until(lambda: a.replicas[DRAFTS].position == 1)
            async with Probe(other, running.port) as b:
                await b.subscribe(DRAFTS)
            refs = await write(a, "6", "7")
            await a.verdict(refs[-1])
            async with Probe(other, running.port) as again:
                again.replicas = b.replicas
                await again.subscribe(DRAFTS)
                assert not [frame for frame in again.seen if isinstance(frame, frames.Bases)]
                assert again.replicas[DRAFTS].position == 3
                assert len(again.values(DRAFTS)) == 3
                await again.send(frames.Subscribe((frames.Want(DRAFTS, "a" * 16, 3),)))
                bases = await again.next_of(frames.Bases)
                assert bases.documents[0].position == 3
                await again.send(frames.AskDigest(DRAFTS))
                told = await again.next_of(frames.DigestGiven)
                digest = unseal(DocumentDigest, told.digest, running.world.ring.relay.public)
                assert digest.content == again.replicas[DRAFTS].digest()

    run(story)


def test_a_relay_that_was_stopped_goes_on_where_it_stood(running: Running) -> None:
    one = running.world.tablet()

    async def story() -> None:
        async with running.up(), Probe(one, running.port) as a:
            await a.subscribe(DRAFTS)
            refs = await write(a, "5")
            await a.verdict(refs[0])
            await a.until(lambda: a.replicas[DRAFTS].position == 1)
            assert running.service is not None
            running.service.hub.stop()
            with pytest.raises(Ended, match="closing"):
                await a.ended()
        async with running.up(), Probe(one, running.port) as again:
            again.replicas = a.replicas
            await again.subscribe(DRAFTS)
            assert again.welcome is not None
            assert again.welcome.last_number == 1
            refs += await write(again, "6")
            verdict = await again.verdict(refs[1])
            assert (verdict.status, verdict.position) == (Status.ACCEPTED, 2)
            await again.send(frames.AskVerdicts((refs[0], f"{one.id}.aaaaaaaaaaaaaaaa")))
            assert await again.verdict(refs[0]) == a.verdicts[refs[0]]

    run(story)


# ---- slow readers --------------------------------------------------------------------------------------------------


class Stuck:
    """A peer whose socket takes nothing, as far as the relay can see."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.held = SEND_BUDGET_BYTES + 1

    def waiting(self) -> int:
        return self.held

    def write(self, messages: list[bytes]) -> None:
        self.peer.write(messages)

    def pause(self) -> None:
        self.peer.pause()

    def resume(self) -> None:
        self.peer.resume()

    def close(self, code: str, says: str) -> None:
        self.peer.close(code, says)


def test_a_slow_reader_is_bounded_and_gets_what_it_lacks_once_it_reads(running: Running) -> None:
    one, slow = running.world.tablet(), running.world.tablet()

    async def story() -> None:
        async with running.up() as service, Probe(one, running.port) as a, Probe(slow, running.port) as b:
            await a.subscribe(DRAFTS)
            await b.subscribe(DRAFTS)
            connection = service.hub.devices[slow.id]
            stuck = connection.peer = Stuck(connection.peer)
            refs = await write(a, "5", "6", "7")
            await a.verdict(refs[-1])
            await a.until(lambda: a.replicas[DRAFTS].position == 3)
            assert service.hub.counts.dropped >= 1
            assert b.replicas[DRAFTS].position == 0
            stuck.held = 0
            service.drained(connection)
            await b.until(lambda: b.replicas[DRAFTS].position == 3)
            assert b.values(DRAFTS) == a.values(DRAFTS)
            refs = await write(a, "8")
            await b.until(lambda: b.replicas[DRAFTS].position == 4)

    run(story)
