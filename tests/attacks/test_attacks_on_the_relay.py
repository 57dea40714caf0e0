"""Attacks on a running relay, over real websockets: each is refused with its reason, and nobody else notices.

The attacker speaks the protocol by hand and holds whatever the attack is about: an old proof, a stolen key, a grant of
somebody else, a list of bytes that were made to hurt.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from websockets.asyncio.client import connect

from crdtmed import keys
from crdtmed.limits import DRIFT_MS, GRANT_HOURS
from crdtmed.statement import SignedStatement
from crdtmed.verdict import Status
from crdtmed.wire import frames
from relay.identity import users
from tests.attacks.ward import DRAFTS, HOUR, given, refused, unharmed, verdict_of, ward
from tests.relay.world import Tablet

# ---- the handshake -----------------------------------------------------------------------------------------------


async def handshake(port: int, tablet: Tablet, proof: Callable[[frames.Challenge], frames.Proof]) -> str:
    """The code that ends a handshake in which the device answers with ``proof``."""
    async with connect(f"ws://127.0.0.1:{port}/sync", compression=None) as socket:
        await socket.send(frames.encode_frame(frames.Hello(frames.PROTOCOL, tablet.id, b"n" * 16)))
        challenge = frames.read_from_relay(await socket.recv(decode=False))
        assert isinstance(challenge, frames.Challenge)
        await socket.send(frames.encode_frame(proof(challenge)))
        answer = frames.read_from_relay(await socket.recv(decode=False))
        return answer.code if isinstance(answer, frames.Bye) else type(answer).__name__


def proved(
    tablet: Tablet, signer: keys.Signer, challenge: frames.Challenge, relay: bytes | None = None
) -> frames.Proof:
    body = frames.handshake_body(tablet.id, b"n" * 16, challenge.nonce, relay or tablet.relay_public)
    return frames.Proof(signer.sign(frames.DEVICE_PROOF_TAG, body), 0, 0)


def test_a_handshake_that_is_replayed_proves_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with ward(tmp_path) as (_, port, (victim, _other), _service):
            recorded: list[frames.Proof] = []

            def record(challenge: frames.Challenge) -> frames.Proof:
                recorded.append(proved(victim, victim.signer, challenge))
                return recorded[0]

            assert await handshake(port, victim, record) == "Welcome"
            assert await handshake(port, victim, lambda _: recorded[0]) == "not_authenticated"

    asyncio.run(run())


def test_a_proof_made_for_another_relay_or_by_another_key_proves_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with ward(tmp_path) as (_, port, (victim, other), _service):
            stranger = keys.SoftwareSigner.from_scalar(99)
            cases: tuple[Callable[[frames.Challenge], frames.Proof], ...] = (
                lambda challenge: proved(victim, other.signer, challenge),
                lambda challenge: proved(victim, stranger, challenge),
                lambda challenge: proved(victim, victim.signer, challenge, stranger.public),
                lambda challenge: proved(replace(victim, id=other.id), victim.signer, challenge),
                # the relay's own proof, reflected
                lambda challenge: frames.Proof(challenge.signature, 0, 0),
            )
            for case in cases:
                assert await handshake(port, victim, case) == "not_authenticated"
            nobody = replace(victim, id="aaaaaaaa")
            assert await handshake(port, nobody, lambda it: proved(nobody, victim.signer, it)) == "not_authenticated"

    asyncio.run(run())


# ---- who said it -------------------------------------------------------------------------------------------------


def test_a_forged_author_closes_the_connection_and_changes_nothing(tmp_path: Path) -> None:
    """A statement in another device's name, by its own key or another's; a signature of another statement; high s."""

    async def run() -> None:
        async with ward(tmp_path) as (_, port, (attacker, victim), _service):
            in_its_name = attacker.dose("p1", "rx1", device=victim.id)
            theirs = victim.dose("p1", "rx1")
            forged = replace(attacker, signer=victim.signer).dose("p1", "rx1")
            mine = attacker.dose("p1", "rx1")
            swapped = replace_bytes(mine, attacker.dose("p1", "rx1", "6").signature)
            s = keys.P256_ORDER - int.from_bytes(mine.signature[32:], "big")
            high = replace_bytes(mine, mine.signature[:32] + s.to_bytes(32, "big"))
            codes = []
            for at, said in enumerate((in_its_name, theirs, forged, swapped, high)):
                update = replace(attacker, id=said.statement.device, clocks={}).into_drafts(DRAFTS, 700 + at, said)
                codes.append(await refused(port, attacker, frames.Push(DRAFTS, update)))
            assert codes == ["foreign_author", "foreign_author", "bad_signature", "bad_signature", "bad_signature"]
            await unharmed(port, victim, 1)

    asyncio.run(run())


def replace_bytes(said: SignedStatement, signature: bytes) -> SignedStatement:
    return SignedStatement(said.statement, signature + said.body)


def test_a_grant_of_another_device_opens_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with ward(tmp_path) as (_, port, (attacker, victim), _service):
            stolen = {"grant": victim.grant.id}
            wish = attacker.dose("p1", "rx1", **stolen)
            assert await verdict_of(port, attacker, wish, 1) == (Status.REFUSED, "grant_unknown")
            fact = given(attacker, **stolen)
            assert await verdict_of(port, attacker, fact, 2) == (Status.CONFLICT, "grant_unknown")
            made_up = attacker.dose("p1", "rx1", grant="vera/aaaaaaaa")
            assert await verdict_of(port, attacker, made_up, 3) == (Status.REFUSED, "grant_unknown")
            await unharmed(port, victim, 1)

    asyncio.run(run())


def test_an_expired_grant_is_judged_as_of_the_stamp_and_a_stamp_from_the_future_does_not_help(tmp_path: Path) -> None:
    async def run() -> None:
        async with ward(tmp_path) as (world, port, (attacker, victim), _service):
            world.now_ms += (GRANT_HOURS + 1) * HOUR
            wish = attacker.dose("p1", "rx1")
            assert await verdict_of(port, attacker, wish, 1) == (Status.REFUSED, "grant_not_in_force")
            fact = given(attacker)
            assert await verdict_of(port, attacker, fact, 2) == (Status.CONFLICT, "grant_not_in_force")
            ahead = attacker.dose("p1", "rx1", stamp=(world.now_ms + DRIFT_MS + 60_000) << 16)
            status, code = await verdict_of(port, attacker, ahead, 3)
            assert (status, code) in ((Status.RETRY, "restamp"), (Status.REFUSED, "grant_not_in_force"))
            assert victim.number == 0

    asyncio.run(run())


def test_a_user_who_was_withdrawn_gains_nothing_by_backdating(tmp_path: Path) -> None:
    async def run() -> None:
        async with ward(tmp_path) as (world, port, (attacker, _other), service):
            before = attacker.dose("p1", "rx1")
            assert await verdict_of(port, attacker, before, 1) == (Status.ACCEPTED, "")
            world.now_ms += HOUR
            await service.write(lambda batch: users.withdraw(batch.record.connection, "vera", world.now_ms))
            backdated = (world.now_ms - HOUR) << 16
            wish = attacker.dose("p1", "rx1", stamp=backdated)
            fact = given(attacker, stamp=backdated + 1)
            codes = [await verdict_of(port, attacker, said, 10 + at) for at, said in enumerate((wish, fact))]
            assert codes == [(Status.REFUSED, "user_withdrawn"), (Status.CONFLICT, "user_withdrawn")]

    asyncio.run(run())
