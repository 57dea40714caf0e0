"""A relay on real sockets: enrolment, sign-in, leases, and devices that lose their access."""

import asyncio

import httpx

from crdtmed import keys
from crdtmed.codec import encode
from crdtmed.signed import Grant, read
from crdtmed.verdict import Status
from crdtmed.wire import frames
from crdtmed.wire.enrolment import ENROLMENT_PROOF_TAG, Enrol, Enrolled, NotEnrolled, proof_body, read_answer
from crdtmed.wire.frames import PROTOCOL
from relay.identity import enrolment
from relay.own_documents import write_directory
from relay.service import Service
from tests.relay.probe import Probe
from tests.relay.service.conftest import Running
from tests.relay.service.stories import DRAFTS, run, write
from tests.relay.world import World

X25519_BASE = b"\x09" + bytes(31)


def enrolling(code: str, scalar: int = 999, sealing: bytes = X25519_BASE) -> Enrol:
    signer = keys.SoftwareSigner.from_scalar(scalar)
    body = proof_body(PROTOCOL, code, "Tablet", signer.public, sealing)
    return Enrol(PROTOCOL, code, "Tablet", signer.public, sealing, signer.sign(ENROLMENT_PROOF_TAG, body))


def test_a_device_enrols_over_http_and_is_in_the_directory_at_once(running: Running) -> None:
    world = running.world
    watcher = world.tablet()
    code = world.task(
        lambda batch: enrolment.give_code(world.connection, world.terms, ("ward-a",), world.now_ms, world.random)
    ).text

    async def story() -> None:
        async with running.up(), Probe(watcher, running.port) as a, httpx.AsyncClient() as http:
            await a.subscribe("directory")
            url = f"http://127.0.0.1:{running.port}/enrol"
            bad = await http.post(url, content=encode(enrolling("aaaa-bbbb-cccc")))
            assert isinstance(read_answer(bad.content), NotEnrolled)
            assert bad.status_code == 403
            weak = await http.post(url, content=encode(enrolling(code, sealing=bytes(32))))
            assert isinstance(read_answer(weak.content), NotEnrolled)
            good = await http.post(url, content=encode(enrolling(code)))
            made = read_answer(good.content)
            assert isinstance(made, Enrolled)
            await a.until(lambda: f"device/{made.device}" in a.replicas["directory"].map())
            twice = await http.post(url, content=encode(enrolling(code, scalar=998)))
            assert isinstance(read_answer(twice.content), NotEnrolled)
            assert (await http.post(url, content=b"\x00" * 5_000)).status_code == 413
            assert (await http.post(url, content=b"nonsense")).status_code == 400
            assert (await http.get(f"http://127.0.0.1:{running.port}/healthz")).json()["status"] == "ok"

    run(story)


def test_a_user_signs_in_on_a_connected_device(running: Running) -> None:
    one = running.world.tablet()

    async def story() -> None:
        async with running.up(), Probe(one, running.port) as a:
            await a.send(frames.SignIn("vera", "not her word", None))
            failed = await a.next_of(frames.SignInFailed)
            assert (failed.user, failed.code) == ("vera", "wrong")
            await a.send(frames.SignIn("vera", "vera's word", None))
            grant = read(Grant, (await a.next_of(frames.SignedIn)).grant)
            assert (grant.user, grant.device) == ("vera", one.id)
            await a.send(frames.Renew(0, 0))
            assert (await a.next_of(frames.LeaseGiven)).lease
            await a.send(frames.AskRoster("ward-a"))
            assert (await a.next_of(frames.Roster)).site == "ward-a"

    run(story)


def test_who_loses_access_is_evicted_at_the_next_renewal(running: Running) -> None:
    one = running.world.tablet()

    async def story() -> None:
        async with running.up(), Probe(one, running.port) as a:
            await a.subscribe(DRAFTS, "directory")
            running.world.now_ms += 40 * 3_600_000  # its grants have lapsed
            await a.send(frames.Renew(0, 0))
            evicted = await a.next_of(frames.Evicted)
            assert (evicted.document, evicted.code) == (DRAFTS, "patient_not_in_care")

    run(story)


def test_who_loses_access_and_never_renews_is_evicted_all_the_same(running: Running) -> None:
    """What a device sees must not hang on what it chooses to ask."""
    one, other = running.world.tablet(), running.world.tablet()

    async def story() -> None:
        async with running.up() as service, Probe(one, running.port) as a, Probe(other, running.port) as b:
            await a.subscribe(DRAFTS, "directory")
            await b.subscribe(DRAFTS)
            running.world.now_ms += 40 * 3_600_000  # its grants have lapsed
            service.hub.tick(running.world.now_ms)
            evicted = await a.next_of(frames.Evicted)
            assert (evicted.document, evicted.code) == (DRAFTS, "patient_not_in_care")
            await write(b, "5")
            await a.send(frames.AskDigest("directory"))
            await a.next_of(frames.DigestGiven)
            assert a.replicas[DRAFTS].position == 0

    run(story)


async def revoke(service: Service, device: str, now: bool = False) -> None:
    """What the operator's command does, inside this relay."""

    def act(batch: object) -> None:
        from relay.batch import Batch

        assert isinstance(batch, Batch)
        service.identity.revoke(batch.record.connection, device, "lost", now, batch.now_ms)
        write_directory(batch)

    await service.write(act)


def test_a_revoked_device_hears_of_it_and_hands_over_what_it_has(running: Running) -> None:
    one, other = running.world.tablet(), running.world.tablet()

    async def story() -> None:
        async with running.up() as service, Probe(one, running.port) as a, Probe(other, running.port) as b:
            await a.subscribe(DRAFTS)
            await b.subscribe("patient/p1")
            await revoke(service, one.id)
            told = await a.next_of(frames.Revoked)
            assert told.hand_over
            said = one.dose("p1", "rx1")
            await a.send(frames.HandOver((said.encoded,)))
            assert (await a.next_of(frames.HandedOver)) == frames.HandedOver(1, ())
            async with Probe(one, running.port) as again:
                assert again.welcome is None
                await again.send(frames.HandOver((said.encoded,)))
                assert (await again.next_of(frames.HandedOver)).taken == 1

    run(story)
    record = running.world.record
    assert [ref for ref, _, _ in record.quarantine_of(one.id)] == [
        f"{one.id}.{ref.split('.')[1]}" for ref, _, _ in record.quarantine_of(one.id)
    ]
    assert record.quarantine_count(one.id) == 1
    assert list(record.statements()) == []


def test_a_revocation_by_another_process_reaches_who_is_connected(running: Running) -> None:
    one, other = running.world.tablet(), running.world.tablet()

    async def story() -> None:
        async with running.up(), Probe(one, running.port) as a, Probe(other, running.port) as b:
            await b.subscribe("directory", "patient/p1")
            beside = World.beside(running.world)

            def act(batch: object) -> None:
                beside.identity.revoke(beside.connection, one.id, "lost", True, beside.now_ms)
                write_directory(batch)  # type: ignore[arg-type]  # a batch, as tasks are handed one

            await asyncio.to_thread(lambda: beside.task(act))
            told = await a.next_of(frames.Revoked)
            assert not told.hand_over
            await b.until(lambda: f"revoked/{one.id}" in b.replicas["directory"].map())
            refs = await write(b, "5")
            assert (await b.verdict(refs[0])).status is Status.ACCEPTED

    run(story)
