"""Attacks by number and by copy: floods, clones, harmful bytes, guessed codes, and a revoked device that goes on."""

import asyncio
import json
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from msgspec import Raw
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from crdtmed import sealing
from crdtmed.aggregates.conflict import QuarantineRegister
from crdtmed.codec import encode
from crdtmed.device.enrolment import request
from crdtmed.device.keyfile import new_keys
from crdtmed.keys import SoftwareSigner
from crdtmed.limits import (
    ENROLMENT_ATTEMPTS,
    HANDSHAKE_TIMEOUT_MS,
    HIGH_WATER_BYTES,
    MAX_ENROLLING,
    MAX_ENROLMENT_BYTES,
    MAX_HANDSHAKE_FRAME_BYTES,
    MAX_QUESTIONS,
    MAX_UNAUTHENTICATED_CONNECTIONS,
)
from crdtmed.sealing import wiped_body
from crdtmed.verdict import Status, decode_verdict
from crdtmed.wire import frames
from crdtmed.wire.enrolment import Enrolled, NotEnrolled, encode_message, read_answer
from relay import app, hub, quarantine
from relay.batch import Batch
from relay.identity import enrolment, revocation
from relay.jobs import Write
from relay.own_documents import write_directory
from relay.reading import Reader
from relay.service import Service
from tests.attacks.ward import DRAFTS, HOUR, date_of, given, refused, unharmed, verdict_of, ward
from tests.relay.probe import PATIENCE_S, Ended, Probe
from tests.relay.world import seeded

SHARED = Path(os.environ.get("CRDTMED_SHARED", Path(__file__).resolve().parents[3] / "shared"))


async def alarms(service: Service) -> list[tuple[str, str]]:
    """The alarms so far: kind and device."""
    found = await service.write(lambda batch: list(batch.record.alarms()))
    return [(row[2], row[3]) for row in found]


# ---- clones ------------------------------------------------------------------------------------------------------


def test_a_cloned_device_is_noticed_by_the_number_it_uses_again(tmp_path: Path) -> None:
    async def run() -> None:
        async with ward(tmp_path) as (_, port, (original, other), service):
            copy = replace(original, clocks={}, random=seeded(999))
            first, second = original.dose("p1", "rx1"), copy.dose("p1", "rx1", "7")
            assert first.statement.number == second.statement.number
            assert await verdict_of(port, original, first, 1) == (Status.ACCEPTED, "")
            assert await alarms(service) == []
            await verdict_of(port, copy, second, 2)
            assert [device for _, device in await alarms(service)] == [original.id]
            await unharmed(port, other, 3)

    asyncio.run(run())


def test_two_copies_of_a_device_cannot_both_be_on_the_line(tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            ward(tmp_path) as (_, port, (original, _other), _service),
            Probe(original, port) as probe,
            Probe(replace(original, clocks={}), port) as copy,
        ):
            assert copy.welcome is not None
            with pytest.raises(Ended) as ended:
                await probe.ended()
            assert ended.value.code == "replaced"

    asyncio.run(run())


def test_a_store_put_back_from_an_older_copy_is_noticed_at_the_handshake(tmp_path: Path) -> None:
    async def run() -> None:
        async with ward(tmp_path) as (_, port, (tablet, _other), service):
            for value in ("1", "2", "3"):
                await verdict_of(port, tablet, tablet.dose("p1", "rx1", value), int(value))
            async with Probe(tablet, port) as probe:
                assert probe.welcome is not None
                assert probe.welcome.last_number == 3
            assert await alarms(service) == []
            async with Probe(replace(tablet, number=1), port) as probe:
                assert probe.welcome is not None
                assert probe.welcome.last_number == 3  # so that it goes on behind what it lost
            assert await alarms(service) == [("device_marks", tablet.id)]

    asyncio.run(run())


# ---- bytes that hurt ---------------------------------------------------------------------------------------------


def crafted() -> list[bytes]:
    """Updates that make an unguarded replica hang, die, or take half a gigabyte."""
    found = [
        b"",
        b"\x00",
        b"\x00\x00",
        bytes.fromhex("01010100" + "00" + "ffffffff0f" + "00"),  # a GC of four thousand million clocks
        bytes.fromhex("0101010004010161" + "ffffffff0f" + "00"),
        bytes.fromhex("010101000101" + "016d" + "ffffffff0f" + "00"),
        b"\x01" + b"\xff" * 9 + b"\x01",
        b"\xff" * 64,
    ]
    path = SHARED / "crashers.json"
    if path.exists():
        cases = json.loads(path.read_text())
        found += [bytes.fromhex(update) for case in cases["cases"] for update in case["updates"]]
    return found


def test_update_bytes_made_to_harm_other_replicas_reach_nobody(tmp_path: Path) -> None:
    async def run() -> None:
        async with ward(tmp_path) as (_, port, (attacker, bystander), service), Probe(bystander, port) as watching:
            documents = (DRAFTS, f"patient/p1/log/{date_of(bystander.now())}")
            await watching.subscribe(*documents)
            seen = len(watching.seen)
            for update in crafted():
                code = await refused(port, attacker, frames.Push(documents[len(update) % 2], update))
                assert code not in ("cut", "", "not_committed"), update.hex()
            assert len(service.hub.connections) <= 2
            assert len(watching.seen) == seen  # nothing of it was sent to anybody
            await watching.leave()
            await unharmed(port, bystander, 1)

    asyncio.run(run())


# ---- floods ------------------------------------------------------------------------------------------------------


def test_strangers_who_hold_the_line_keep_no_device_out(tmp_path: Path) -> None:
    """As many silent connections as the relay takes, and more: a device that can prove itself still gets in."""

    async def run() -> None:
        async with ward(tmp_path) as (_, port, (device, _other), service), AsyncExitStack() as stack:
            for _ in range(MAX_UNAUTHENTICATED_CONNECTIONS + 20):
                await stack.enter_async_context(connect(f"ws://127.0.0.1:{port}/sync", compression=None))
            assert len(service.hub.strangers) == len(service.hub.connections) == MAX_UNAUTHENTICATED_CONNECTIONS
            await unharmed(port, device, 1)
            assert service.hub.counts.closes.get("busy", 0) >= 21

    asyncio.run(run())


def test_strangers_who_send_slowly_keep_nobody_from_enrolling(tmp_path: Path) -> None:
    async def run() -> None:
        async with ward(tmp_path, 1) as (_, port, _tablets, _service), httpx.AsyncClient(trust_env=False) as client:
            url = f"http://127.0.0.1:{port}/enrol"
            slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_ENROLLING + 1)]
            for _, line in slow:
                line.write(b"POST /enrol HTTP/1.1\r\nHost: relay\r\nContent-Length: 300\r\n\r\nit is")
                await line.drain()
            for _ in range(3):  # whatever has arrived is with the relay by now
                await client.get(f"http://127.0.0.1:{port}/healthz")
            body = encode_message(request(new_keys(seeded(1)), "aaaa-bbbb-cccc", "a tablet"))
            answer = await client.post(url, content=body)
            assert read_answer(answer.content) == enrolment.CODE_WRONG
            for _, line in slow:
                line.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "said",
    [b"", b"GET /sync HTTP/1.1\r\nHost", b"POST /enrol HTTP/1.1\r\nHost: relay\r\nContent-Length: 300\r\n\r\nit is"],
    ids=["nothing", "half a head", "half a body"],
)
def test_strangers_who_ask_for_nothing_whole_do_not_hold_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    """Each line is a file that the relay has open; one that has become a websocket is a device's, and stays."""
    monkeypatch.setattr(app, "HTTP_S", 0.05)

    async def run() -> None:
        async with ward(tmp_path) as (_, port, (device, other), _service), Probe(device, port) as before:
            coming, line = await asyncio.open_connection("127.0.0.1", port)
            line.write(said)
            async with asyncio.timeout(PATIENCE_S):
                assert await coming.read() == b""
            line.close()
            await before.subscribe(DRAFTS)
            await unharmed(port, other, 1)

    asyncio.run(run())


def test_strangers_are_sent_away_when_their_time_is_up(tmp_path: Path) -> None:
    async def run() -> None:
        async with ward(tmp_path) as (world, port, _tablets, service):
            async with connect(f"ws://127.0.0.1:{port}/sync", compression=None) as silent:
                await silent.send(frames.encode_frame(frames.Hello(frames.PROTOCOL, "aaaaaaaa", b"n" * 16)))
                await silent.recv()
                service.hub.tick(world.now_ms + HANDSHAKE_TIMEOUT_MS + 1)
                bye = frames.read_from_relay(await silent.recv(decode=False))
                assert isinstance(bye, frames.Bye)
                assert bye.code == "handshake_timeout"
            assert (len(service.hub.connections), len(service.hub.strangers)) == (0, 0)

    asyncio.run(run())


def test_a_stranger_who_pings_and_never_reads_is_not_read_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each ping is answered, and what answers it waits in the relay's memory."""
    monkeypatch.setattr(hub, "SEND_BUDGET_BYTES", 2 * HIGH_WATER_BYTES)
    ping = b"\x89\xfd\x00\x00\x00\x00" + bytes(125)

    async def run() -> None:
        async with ward(tmp_path) as (_, port, (device, _other), service):
            coming, line = await asyncio.open_connection("127.0.0.1", port)
            line.write(
                b"GET /sync HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            await coming.readuntil(b"\r\n\r\n")
            sent = 0
            async with asyncio.timeout(PATIENCE_S):
                while not service.hub.paused:
                    line.write(ping * 100)
                    sent += 100
                    await asyncio.sleep(0)
                await unharmed(port, device, 1)
                await coming.readexactly(sent * (2 + 125))  # read at last, it is read again, and loses nothing
            assert not service.hub.paused
            line.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"x" * (MAX_HANDSHAKE_FRAME_BYTES + 1), "too_large"),
        (b"", "bad_frame"),
        (b"\xc1", "bad_frame"),
        (b"\xdd\xff\xff\xff\xff", "bad_frame"),
        (b"\x91" * 4_000, "bad_frame"),
        (frames.encode_frame(frames.Renew(0, 0)), "out_of_turn"),
        (frames.encode_frame(frames.SignIn("vera", "guess", None)), "out_of_turn"),
        (frames.encode_frame(frames.Hello(frames.PROTOCOL + 1, "aaaaaaaa", b"n" * 16)), "protocol_unknown"),
    ],
)
def test_what_a_stranger_may_say_is_little(tmp_path: Path, sent: bytes, code: str) -> None:
    async def run() -> None:
        async with ward(tmp_path, 1) as (_, port, _tablets, service):
            async with connect(f"ws://127.0.0.1:{port}/sync", compression=None) as stranger:
                await stranger.send(sent)
                bye = frames.read_from_relay(await stranger.recv(decode=False))
                assert isinstance(bye, frames.Bye)
                assert bye.code == code
                with pytest.raises(ConnectionClosed):
                    await stranger.recv()
            assert service.hub.counts.closes == {code: 1}

    asyncio.run(run())


def test_however_much_one_device_asks_others_wait_for_little_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it gets every answer, in order, and each verdict once however often it names it."""
    waiting: list[int] = []
    really = Reader.verdicts

    async def run() -> None:
        async with ward(tmp_path) as (_, port, (attacker, other), service), Probe(attacker, port) as probe:

            def noted(reader: Reader, refs: Sequence[str]) -> list[bytes]:
                waiting.append(len(service.hub.reads))
                return really(reader, refs)

            monkeypatch.setattr(Reader, "verdicts", noted)
            await probe.subscribe(DRAFTS)
            said = [attacker.dose("p1", "rx1", str(value)) for value in range(1, 7)]
            await probe.send(frames.Push(DRAFTS, attacker.into_drafts(DRAFTS, 1, *said)))
            await probe.verdict(said[-1].statement.ref)
            probe.seen.clear()
            await probe.send(*[frames.AskVerdicts((one.statement.ref,) * 1_000) for one in said * 10])
            answers = [await probe.next_of(frames.Verdicts) for _ in said * 10]
            assert [decode_verdict(*answer.verdicts).ref for answer in answers] == [
                one.statement.ref for one in said * 10
            ]
            assert max(waiting) < MAX_QUESTIONS
            assert not service.hub.paused
            await unharmed(port, other, 7)

    asyncio.run(run())


def test_who_reads_no_verdicts_is_let_go_before_they_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict on an id that was used before brings what was said under it, however little is said now."""
    monkeypatch.setattr(hub, "MAX_WAITING_BYTES", 8 * HIGH_WATER_BYTES)

    async def run() -> None:
        async with ward(tmp_path) as (_, port, (attacker, other), service), Probe(attacker, port) as probe:
            segment = f"patient/p1/log/{date_of(attacker.now())}"
            long = given(attacker, content=Raw(encode(["x" * 16_000])))
            await probe.send(frames.Push(segment, attacker.into_log(segment, 1, long)))
            await probe.verdict(long.statement.ref)
            short = given(attacker, id=long.statement.id)
            for _ in range(30):
                await probe.send(frames.Push(segment, attacker.into_log(segment, 1, *[short] * 200)))
            async with asyncio.timeout(PATIENCE_S):
                while service.hub.devices:
                    await asyncio.sleep(0)
            assert service.hub.counts.closes == {"slow": 1}
            await unharmed(port, other, 1)

    asyncio.run(run())


def test_whoever_asks_for_leases_without_an_end_keeps_no_statement_waiting(tmp_path: Path) -> None:
    async def run() -> None:
        async with ward(tmp_path, 1) as (_, port, (device,), service):
            asks = True

            def ask(_: object = None) -> None:
                if asks:
                    service.hub.writes.append(Write(lambda batch: None, ask, ask))

            ask()
            try:
                await unharmed(port, device, 1)
            finally:
                asks = False

    asyncio.run(run())


def test_a_code_is_not_guessed_over_the_network(tmp_path: Path) -> None:
    """Wrong codes, too much, nonsense; then the right code, which is dead by then, and a new one, used twice."""

    async def run() -> None:
        async with ward(tmp_path, 1) as (world, port, _tablets, service):

            async def post(body: bytes) -> Enrolled | NotEnrolled:
                async with httpx.AsyncClient(trust_env=False) as client:
                    answer = await client.post(f"http://127.0.0.1:{port}/enrol", content=body)
                return read_answer(answer.content)

            async def code() -> str:
                return await service.write(
                    lambda batch: (
                        enrolment.give_code(
                            batch.record.connection, world.terms, ("ward-a",), batch.now_ms, batch.random
                        ).text
                    )
                )

            def asked(text: str, seed: int) -> bytes:
                return encode_message(request(new_keys(seeded(seed)), text, "a tablet"))

            true = await code()
            guesses = [true[:-1] + letter for letter in "abcdefgh" if letter != true[-1]][:ENROLMENT_ATTEMPTS]
            answers = [await post(asked(guess, at)) for at, guess in enumerate(guesses)]
            assert set(answers) == {enrolment.CODE_WRONG}
            assert await post(asked(true, 50)) == enrolment.CODE_WRONG
            for body in (b"", b"nonsense", b"x" * (MAX_ENROLMENT_BYTES + 1)):
                answer = await post(body)
                assert isinstance(answer, NotEnrolled)
                assert answer.code == "malformed"
            fresh = await code()
            assert isinstance(await post(asked(fresh, 51)), Enrolled)
            assert await post(asked(fresh, 52)) == enrolment.CODE_WRONG

    asyncio.run(run())


def test_a_relay_that_had_no_memory_enrols_and_signs_in_when_it_has_some_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes memory fails while there is none; nobody waits for it for ever, and no place stays taken by it."""

    def full(*given: object) -> bytes:
        raise MemoryError

    async def run() -> None:
        async with (
            ward(tmp_path, 1) as (world, port, (tablet,), service),
            httpx.AsyncClient(trust_env=False) as client,
        ):

            async def enrols(seed: int) -> Enrolled | NotEnrolled:
                text = await service.write(
                    lambda batch: (
                        enrolment.give_code(
                            batch.record.connection, world.terms, ("ward-a",), batch.now_ms, batch.random
                        ).text
                    )
                )
                with monkeypatch.context() as patched:
                    if seed < MAX_ENROLLING:
                        patched.setattr(sealing, "stretch", full)
                    body = encode_message(request(new_keys(seeded(seed)), text, "a tablet"))
                    answer = await client.post(f"http://127.0.0.1:{port}/enrol", content=body)
                return read_answer(answer.content)

            for seed in range(MAX_ENROLLING):
                answer = await enrols(seed)
                assert isinstance(answer, NotEnrolled)
                assert answer.code == "busy"
            assert isinstance(await enrols(MAX_ENROLLING), Enrolled)

            signs_in = frames.SignIn("vera", "vera's word", None)
            with monkeypatch.context() as patched:
                patched.setattr(sealing, "stretch", full)
                assert await refused(port, tablet, signs_in) == "not_committed"
            async with Probe(tablet, port) as probe:
                await probe.send(signs_in)
                await probe.next_of(frames.SignedIn)

    asyncio.run(run())


# ---- a revoked device that goes on -------------------------------------------------------------------------------


async def revoke(service: Service, device: str, now: bool = False) -> None:
    def act(batch: Batch) -> None:
        service.identity.revoke(batch.record.connection, device, "lost", now, batch.now_ms)
        write_directory(batch)

    await service.write(act)


async def quarantined(service: Service, device: str) -> list[str]:
    found = await service.write(lambda batch: batch.record.quarantine_of(device))
    return [ref for ref, _, _ in found]


def test_a_revoked_device_writes_nothing_and_hands_over_in_order_of_arrival(tmp_path: Path) -> None:
    """Whatever time its statements claim."""

    async def run() -> None:
        async with ward(tmp_path) as (world, port, (thief, other), service):
            late, early = given(thief, stamp=world.now_ms << 16), given(thief, stamp=(world.now_ms - HOUR) << 16)
            wish = thief.dose("p1", "rx1")
            async with Probe(thief, port) as probe:
                await revoke(service, thief.id)
                told = await probe.next_of(frames.Revoked)
                assert told.hand_over
                await probe.send(frames.Push(DRAFTS, thief.into_drafts(DRAFTS, 1, wish)))
                await probe.send(frames.HandOver((late.encoded, early.encoded, wish.encoded)))
                done = await probe.next_of(frames.HandedOver)
                assert (done.taken, done.refused) == (3, ())
                assert await quarantined(service, thief.id) == [said.statement.ref for said in (late, early, wish)]
                signature = thief.signer.sign(frames.WIPED_TAG, wiped_body(thief.id, world.now_ms, thief.number))
                await probe.send(frames.Wiped(thief.id, world.now_ms, thief.number, signature))
                with pytest.raises(Ended) as ended:
                    await probe.ended()
                assert ended.value.code == "wiped"
            await unharmed(port, other, 1)
            listed = await service.write(
                lambda batch: [
                    value.ref
                    for value in batch.registers("patient/p1", "quarantine")
                    if isinstance(value, QuarantineRegister) and value.open
                ]
            )
            assert sorted(listed) == sorted([late.statement.ref, early.statement.ref])  # facts, not the wish

    asyncio.run(run())


def test_quarantine_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "MAX_QUARANTINE_PER_DEVICE", 5)

    async def run() -> None:
        async with ward(tmp_path) as (_, port, (thief, other), service):
            await revoke(service, thief.id)
            said = [given(thief) for _ in range(12)]
            async with Probe(thief, port) as probe:
                assert probe.welcome is None
                for start in (0, 6):
                    await probe.send(frames.HandOver(tuple(one.encoded for one in said[start : start + 6])))
                first, second = [await probe.next_of(frames.HandedOver) for _ in range(2)]
            assert (first.taken, len(first.refused), second.taken, len(second.refused)) == (5, 1, 0, 6)
            assert len(await quarantined(service, thief.id)) == 5
            await unharmed(port, other, 1)

    asyncio.run(run())


def test_no_hand_over_after_now_nor_of_anothers_or_a_forged_statement(tmp_path: Path) -> None:
    async def run() -> None:
        async with ward(tmp_path, 3) as (_, port, (thief, second, victim), service):
            await revoke(service, thief.id, now=True)
            async with Probe(thief, port) as probe:
                await probe.send(frames.HandOver((given(thief).encoded,)))
                assert (await probe.next_of(frames.HandedOver)).taken == 0
            await revoke(service, second.id)
            forged = given(replace(second, signer=SoftwareSigner.from_scalar(99)))
            async with Probe(second, port) as probe:
                await probe.send(frames.HandOver((forged.encoded,)))
                done = await probe.next_of(frames.HandedOver)
                assert (done.taken, done.refused) == (0, (forged.statement.ref,))
            assert await refused(port, second, frames.HandOver((given(victim).encoded,))) == "foreign_author"
            for device in (thief.id, second.id, victim.id):
                assert await quarantined(service, device) == []

    asyncio.run(run())


def test_a_revoked_device_holds_one_line_however_often_it_connects(tmp_path: Path) -> None:
    """Else whoever stole it could take all the connections that there are."""

    async def run() -> None:
        async with ward(tmp_path) as (_, port, (thief, other), service), AsyncExitStack() as stack:
            await revoke(service, thief.id)
            first, *_, last = [await stack.enter_async_context(Probe(thief, port)) for _ in range(5)]
            assert len(service.hub.connections) == 1
            with pytest.raises(Ended) as ended:
                await first.ended()
            assert ended.value.code == "replaced"
            await last.send(frames.HandOver((given(thief).encoded,)))
            assert (await last.next_of(frames.HandedOver)).taken == 1
            await unharmed(port, other, 1)

    asyncio.run(run())


def test_a_revoked_device_may_ask_for_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with ward(tmp_path) as (_, port, (thief, _other), service):
            await revoke(service, thief.id)
            for frame in (frames.SignIn("vera", "vera's word", None), frames.AskRoster("ward-a")):
                assert await refused(port, thief, frame) == "revoked"
            async with Probe(thief, port) as probe:
                await probe.send(frames.Renew(0, 0), frames.Subscribe((frames.Want(DRAFTS, "", 0),)))
                await probe.send(frames.HandOver(()))
                await probe.next_of(frames.HandedOver)
                assert {type(frame) for frame in probe.seen} == {
                    frames.Challenge,
                    frames.Revoked,
                    frames.HandedOver,
                }

    asyncio.run(run())


def test_an_accomplice_cannot_bring_in_what_a_revoked_device_says_afterwards(tmp_path: Path) -> None:
    """Handed back by another device as if the relay had lost it, and dated before the revocation."""

    async def run() -> None:
        async with ward(tmp_path, 3) as (world, port, (thief, accomplice, other), service):
            assert await verdict_of(port, thief, thief.dose("p1", "rx1"), 1) == (Status.ACCEPTED, "")
            await revoke(service, thief.id)
            world.now_ms += 2 * HOUR
            backdated = thief.dose("p1", "rx1", "99", stamp=(world.now_ms - 3 * HOUR) << 16)
            async with Probe(accomplice, port) as probe:
                await probe.subscribe(DRAFTS)
                await probe.send(frames.HandBack(DRAFTS, (backdated.encoded,)))
                verdict = await probe.verdict(backdated.statement.ref)
                assert (verdict.status, verdict.code) == (Status.REFUSED, "device_revoked")
                assert backdated.encoded not in probe.values(DRAFTS)
            assert await quarantined(service, thief.id) == [backdated.statement.ref]
            await unharmed(port, other, 2)

    asyncio.run(run())


def test_a_wipe_is_confirmed_by_the_device_alone(tmp_path: Path) -> None:
    async def run() -> None:
        async with ward(tmp_path) as (world, port, (thief, other), service):
            await revoke(service, thief.id)
            body = wiped_body(thief.id, world.now_ms, 0)
            signature = other.signer.sign(frames.WIPED_TAG, body)
            assert await refused(port, thief, frames.Wiped(thief.id, world.now_ms, 0, signature)) == "wipe_not_proven"

    asyncio.run(run())


def test_a_wiped_device_that_has_no_key_left_still_tells_what_it_signed_before(tmp_path: Path) -> None:
    """In place of hello, and only what the device itself signed."""

    async def run() -> None:
        async with ward(tmp_path) as (world, port, (device, other), service):
            await revoke(service, device.id)
            body = wiped_body(device.id, world.now_ms, 7)
            for signer, code in ((other.signer, "wipe_not_proven"), (device.signer, "wiped"), (device.signer, "wiped")):
                said = frames.Wiped(device.id, world.now_ms, 7, signer.sign(frames.WIPED_TAG, body))
                async with connect(f"ws://127.0.0.1:{port}/sync", compression=None) as line:
                    await line.send(frames.encode_frame(said))
                    bye = frames.read_from_relay(await line.recv(decode=False))
                    assert isinstance(bye, frames.Bye)
                    assert bye.code == code
            status = await service.write(lambda batch: revocation.status(batch.record.connection, device.id, []))
            assert (status.wiped_at, status.last_number) == (world.now_ms, 7)

    asyncio.run(run())
