"""A relay on real sockets: the connection of who misbehaves closes, and nothing else happens."""

import asyncio
import random
from collections.abc import Callable

import pytest

from crdtmed.aggregates.prescription import Stop
from crdtmed.updates import Root, read_device_update, write_map_update
from crdtmed.verdict import Status
from crdtmed.wire import frames
from relay.admission.admit import admit as really_admit
from relay.admission.effects import Decision
from relay.admission.facts import FactsPort, Submission
from relay.service import Service
from tests.relay.probe import Ended, Probe
from tests.relay.service.conftest import Running
from tests.relay.service.stories import DRAFTS, run, write
from tests.relay.world import Tablet, World


def forged(tablet: Tablet) -> frames.ToRelay:
    from crdtmed.aggregates.prescription_draft import write_key

    said = tablet.dose("p1", "rx1")
    encoded = bytes([said.encoded[0] ^ 1]) + said.encoded[1:]
    from crdtmed.aggregates.content import decode_content
    from crdtmed.aggregates.prescription_draft import DraftWrite

    content = decode_content(said.statement.kind, bytes(said.statement.content))
    assert isinstance(content, DraftWrite)
    return frames.Push(DRAFTS, write_map_update(9, 0, [(write_key(content, tablet.id, said.statement.id), encoded)]))


def forged_request(tablet: Tablet) -> frames.ToRelay:
    said = tablet.say(Stop("rx1", "why"), "patient/p1")
    return frames.Request(bytes([said.encoded[0] ^ 1]) + said.encoded[1:])


def with_delete(tablet: Tablet) -> frames.ToRelay:
    update = tablet.into_drafts(DRAFTS, 9, tablet.dose("p1", "rx1"))
    return frames.Push(DRAFTS, update[:-1] + b"\x01\x09\x01\x00\x01")


def nested(tablet: Tablet) -> frames.ToRelay:
    update = tablet.into_drafts(DRAFTS, 9, tablet.dose("p1", "rx1"))
    return frames.Push(DRAFTS, update.replace(b"\x28\x01\x01m", b"\x27\x01\x01m", 1))


def second_root(tablet: Tablet) -> frames.ToRelay:
    update = tablet.into_drafts(DRAFTS, 9, tablet.dose("p1", "rx1"))
    return frames.Push(DRAFTS, update.replace(b"\x28\x01\x01m", b"\x28\x01\x01n", 1))


def over_long(tablet: Tablet) -> frames.ToRelay:
    content = b"\xc4" + b"x" * 20_000
    key = f"rx1/dose/{tablet.id}/aaaaaaaaaaaaaaaa"
    long = (
        b"\x01\x01\x09\x00\x28\x01\x01m" + bytes([len(key)]) + key.encode() + b"\x01t\xa1\x9c\x01" + content + b"\x00"
    )
    return frames.Push(DRAFTS, long)


def of_another_client(tablet: Tablet) -> frames.ToRelay:
    return frames.Push(DRAFTS, tablet.into_drafts(DRAFTS, 55, tablet.dose("p1", "rx1")))


@pytest.mark.parametrize(
    ("misbehave", "code"),
    [
        (forged, "bad_signature"),
        (forged_request, "bad_signature"),
        (with_delete, "has_deletes"),
        (nested, "struct_not_allowed"),
        (second_root, "wrong_root"),
        (over_long, "too_big"),
        (of_another_client, "foreign_client"),
    ],
)
def test_who_misbehaves_is_closed_and_nobody_else_hears_of_it(
    running: Running, misbehave: Callable[[Tablet], frames.ToRelay], code: str
) -> None:
    good, bad = running.world.tablet(), running.world.tablet()

    async def story() -> None:
        async with running.up(), Probe(good, running.port) as a, Probe(bad, running.port) as b:
            await a.subscribe(DRAFTS)
            refs = await write(a, "5", client=55)
            await a.verdict(refs[0])
            await b.send(misbehave(bad))
            with pytest.raises(Ended) as ended:
                await b.ended()
            assert ended.value.code == code
            refs = await write(a, "6", client=55)
            assert (await a.verdict(refs[0])).position == 2
            await a.until(lambda: a.replicas[DRAFTS].position == 2)

    run(story)
    assert len(list(running.world.record.statements())) == 2
    assert running.world.verify().findings == ()


def test_what_is_handed_back_and_was_not_signed_by_its_author_is_left_out_and_told(running: Running) -> None:
    one, other = running.world.tablet(), running.world.tablet()
    good, spoilt, foreign = other.dose("p1", "rx1", "5"), other.dose("p1", "rx1", "6"), other.dose("p1", "rx1", "7")
    broken = bytes([spoilt.encoded[0] ^ 1]) + spoilt.encoded[1:]
    stranger = one.dose("p1", "rx1", "8", device="abcdefgh")

    async def story() -> None:
        async with running.up(), Probe(one, running.port) as a:
            handed = (good.encoded, broken, foreign.encoded, stranger.encoded)
            await a.send(frames.HandBack(DRAFTS, handed))
            for said in (good, foreign):
                assert (await a.verdict(said.statement.ref)).status is Status.ACCEPTED
            await a.subscribe(DRAFTS)
            assert sorted(a.values(DRAFTS)) == sorted([good.encoded, foreign.encoded])

    run(story)
    record = World.beside(running.world).record
    assert [says.split()[3].rstrip(",") for _, _, kind, _, says in record.alarms() if kind == "forged_statement"] == [
        spoilt.statement.ref,
        stranger.statement.ref,
    ]
    assert len(list(record.statements())) == 2


def test_what_cannot_be_judged_fails_alone(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = running.world.tablet(), running.world.tablet()

    def admit(port: FactsPort, submission: Submission) -> Decision:
        if submission.statement.device == bad.id:
            raise RuntimeError("on purpose")
        return really_admit(port, submission)

    monkeypatch.setattr("relay.judging.admit", admit)

    async def story() -> None:
        async with running.up() as service, Probe(good, service) as a, Probe(bad, service) as b:
            for value in range(1, 6):
                await write(a, str(value), client=9)
                await write(b, str(value), client=8)
            with pytest.raises(Ended) as ended:
                await b.ended()
            assert ended.value.code == "not_committed"
            await a.until(lambda: len(a.verdicts) == 5)
            assert {verdict.status for verdict in a.verdicts.values()} == {Status.ACCEPTED}
            assert service.timings.failed > 0

    run(story)
    assert running.world.verify().findings == ()


def test_a_request_that_names_a_log_is_refused_with_the_rest(running: Running) -> None:
    one = running.world.tablet()
    wrong = one.say(Stop("rx1", "why"), "patient/p1/log")

    async def story() -> None:
        async with running.up(), Probe(one, running.port) as a:
            await a.send(frames.Request(wrong.encoded), frames.HandBack("patient/p1", (wrong.encoded,)))
            verdict = await a.verdict(wrong.statement.ref)
            assert (verdict.status, verdict.code) == (Status.REFUSED, "wrong_document")
            refs = await write(a, "5")
            await a.verdict(refs[0])

    run(story)
    assert running.world.verify().findings == ()


def test_a_device_that_connects_twice_keeps_the_later_connection(running: Running) -> None:
    one = running.world.tablet()

    async def story() -> None:
        async with running.up(), Probe(one, running.port) as a, Probe(one, running.port) as b:
            with pytest.raises(Ended) as ended:
                await a.ended()
            assert ended.value.code == "replaced"
            refs = await write(b, "5")
            assert (await b.verdict(refs[0])).status is Status.ACCEPTED

    run(story)


def test_who_subscribes_to_all_it_may_can_ask_again_and_for_no_more(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = running.world.tablet()
    monkeypatch.setattr("relay.catching_up.MAX_SUBSCRIPTIONS", 2)

    async def story() -> None:
        async with running.up() as service, Probe(one, running.port) as a:
            for _ in range(2):
                await a.subscribe(DRAFTS, "directory")
            (connection,) = service.hub.connections.values()
            assert service.hub.fanout.count(connection.id) == 2
            await a.send(frames.Subscribe((frames.Want("patient/p1", "", 0),)))
            with pytest.raises(Ended) as ended:
                await a.ended()
            assert ended.value.code == "too_many_subscriptions"

    run(story)


def test_who_says_nothing_is_let_go(running: Running) -> None:
    one = running.world.tablet()

    async def story() -> None:
        from websockets.asyncio.client import connect

        async with running.up() as service, connect(f"ws://127.0.0.1:{running.port}/sync") as silent:
            running.world.now_ms += 11_000
            service.hub.tick(running.world.now_ms)
            message = await silent.recv()
            assert isinstance(message, bytes)
            bye = frames.read_from_relay(message)
            assert isinstance(bye, frames.Bye)
            assert bye.code == "handshake_timeout"
            async with Probe(one, running.port) as a:
                service.hub.tick(running.world.now_ms + 60_000)
                refs = await write(a, "5")
                await a.verdict(refs[0])

    run(story)


def test_text_is_no_frame(running: Running) -> None:
    async def story() -> None:
        from websockets.asyncio.client import connect

        async with running.up(), connect(f"ws://127.0.0.1:{running.port}/sync") as talker:
            await talker.send("hello")
            message = await talker.recv()
            assert isinstance(message, bytes)
            bye = frames.read_from_relay(message)
            assert isinstance(bye, frames.Bye)
            assert bye.code == "bad_frame"

    run(story)


def test_websockets_are_spoken_at_one_path(running: Running) -> None:
    async def story() -> None:
        from websockets.asyncio.client import connect
        from websockets.exceptions import InvalidStatus

        async with running.up():
            with pytest.raises(InvalidStatus, match="404"):
                await connect(f"ws://127.0.0.1:{running.port}/elsewhere")

    run(story)


# ---- hostile bytes -------------------------------------------------------------------------------------------------


def test_ten_thousand_mutated_frames_touch_nobody_else(running: Running) -> None:
    good, *bad = (running.world.tablet() for _ in range(5))
    chance = random.Random(11)
    said = bad[0].dose("p1", "rx1")
    update = bad[0].into_drafts(DRAFTS, 9, said)
    assert read_device_update(update, Root.MAP)
    seeds = [
        frames.encode_frame(frame)
        for frame in (
            frames.Push(DRAFTS, update),
            frames.Request(bad[0].say(Stop("rx1", "why"), "patient/p1").encoded),
            frames.Subscribe((frames.Want(DRAFTS, "", 0),)),
            frames.HandBack(DRAFTS, (said.encoded,)),
            frames.AskChallenges(3),
            frames.SignIn("vera", "x" * 8, None),
        )
    ]

    def mutated() -> bytes:
        data = bytearray(chance.choice(seeds) if chance.random() < 0.9 else chance.randbytes(chance.randrange(1, 400)))
        for _ in range(chance.randrange(0, 4)):
            at = chance.randrange(len(data))
            data[at : at + chance.randrange(0, 4)] = chance.randbytes(chance.randrange(0, 4))
            if not data:
                data = bytearray(b"\xc0")
        return bytes(data)

    async def attack(tablet: Tablet, line: int | Service, count: int) -> int:
        """Sends frames, each of which the relay has read before the next, over as many connections as it takes."""
        connections = sent = 0
        while sent < count:
            connections += 1
            try:
                async with Probe(tablet, line) as probe:
                    for _ in range(12):
                        sent += 1
                        await probe.raw(mutated())
                        await probe.send(frames.AskChallenges(1))
                        await probe.next_of(frames.Challenges)
            except Ended:
                continue
        return connections

    async def story() -> None:
        async with running.up() as service, Probe(good, running.port) as a:
            await a.subscribe(DRAFTS)
            attacking = asyncio.ensure_future(
                asyncio.gather(
                    attack(bad[0], running.port, 500), *(attack(tablet, service, 3_200) for tablet in bad[1:])
                )
            )
            value = 0
            while not attacking.done():
                value += 1
                running.world.now_ms += 1  # however quickly it is answered, it says less than a second allows
                refs = await write(a, str(value))
                assert (await a.verdict(refs[0])).status is Status.ACCEPTED
            assert sum(attacking.result()) > 1_000
            assert service.hub.counts.frames_in > 10_000
            for _ in range(2):
                refs = await write(a, "1")
                await a.verdict(refs[0])
            assert service.hub.inbox_bytes == 0
            await a.until(lambda: len(a.replicas[DRAFTS].map()) >= value)

    async def bounded() -> None:
        async with asyncio.timeout(240):
            await story()

    asyncio.run(bounded())
    assert running.world.verify().findings == ()
