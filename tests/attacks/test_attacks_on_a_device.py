"""Attacks on a device, by whoever stands between it and its relay or pretends to be one: nothing forged ever counts.

A real engine on a real encrypted store talks to a relay of the test's, which lies in one way at a time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec import Raw

from crdtmed import keys
from crdtmed.codec import encode
from crdtmed.device.engine import Engine
from crdtmed.device.engine_types import Alarm, Connected, Disconnected, Revoked
from crdtmed.documents import map_digest
from crdtmed.signed import (
    Certificate,
    DirectoryHead,
    IdentityRotation,
    Register,
    RelayKey,
    Revocation,
    seal,
)
from crdtmed.trust import introduce
from crdtmed.wire import frames as wire
from tests.device.scripted_relay import IDENTITY, NOW, RELAY, Line, ScriptedRelay
from tests.device.world import LOG, P1, Device, administer, linked, relay_with, settle, until

STRANGER = keys.SoftwareSigner.from_scalar(4_711)
Act = Callable[[Engine, ScriptedRelay, list[object]], Awaitable[None]]


def lied_to(tmp_path: Path, act: Act) -> None:
    """Runs ``act`` on a device that has been online and holds a patient, with what it is told as events."""

    async def run() -> None:
        device = Device("aaaaaaaa", tmp_path / "a.db")
        relay = relay_with(device)
        relay.put_register(P1, "patient", {"name": "true"})
        async with device.engine() as engine:
            told: list[object] = []
            engine.core.listeners.append(told.append)
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
                await until(lambda: any(isinstance(event, Connected) for event in told))
                await until(lambda: shows(engine, "true"))
            await act(engine, relay, told)

    asyncio.run(run())


def alarms(told: list[object]) -> list[str]:
    return [event.code for event in told if isinstance(event, Alarm)]


async def shows(engine: Engine, words: str) -> bool:
    """Whether the patient's registers say so, as the application reads them."""
    return words in repr(await values(engine))


async def values(engine: Engine) -> dict[str, bytes]:
    """The patient's registers, as the application reads them."""
    return {key: bytes(register.value) for key, register in (await engine.registers(P1)).items()}


async def refuses(engine: Engine, relay: ScriptedRelay, told: list[object]) -> str:
    """Connects, and gives the code with which the device hangs up; nothing of it may reach an open conversation."""
    told.clear()
    frames_before = len(relay.frames_in)
    async with linked(engine.core, relay):
        await until(lambda: any(isinstance(event, Disconnected) for event in told))
    assert not any(isinstance(event, Connected) for event in told)
    said = [type(wire.read_from_device(data)) for data in relay.frames_in[frames_before:]]
    assert set(said) <= {wire.Hello, wire.ByeRelay}, "it told a stranger more than hello"
    return next(event.code for event in told if isinstance(event, Disconnected))


# ---- the relay's key ---------------------------------------------------------------------------------------------


def test_a_relay_of_another_identity_hears_nothing_but_hello(tmp_path: Path) -> None:
    async def act(engine: Engine, relay: ScriptedRelay, told: list[object]) -> None:
        await administer(engine, 1)
        relay.relay_key = seal(RelayKey("r1", RELAY.public, 0, None), STRANGER)
        assert await refuses(engine, relay, told) == "not_trusted"
        assert relay.judged == []

    lied_to(tmp_path, act)


def test_a_relay_that_shows_a_true_key_and_cannot_sign_with_it_hears_nothing_but_hello(tmp_path: Path) -> None:
    async def act(engine: Engine, relay: ScriptedRelay, told: list[object]) -> None:
        real = relay.receive

        def receive(line: Line, frame: wire.ToRelay) -> None:
            if isinstance(frame, wire.Hello):
                body = wire.handshake_body(frame.device, frame.nonce, bytes(16), RELAY.public)
                signature = STRANGER.sign(wire.RELAY_PROOF_TAG, body)
                line.say(wire.Challenge(wire.PROTOCOL, bytes(16), signature, introduce((), relay.relay_key)))
            else:
                real(line, frame)

        relay.receive = receive  # type: ignore[method-assign]  # the script is what lies here
        assert await refuses(engine, relay, told) == "not_trusted"

    lied_to(tmp_path, act)


def test_a_relays_proof_that_was_recorded_earlier_is_none(tmp_path: Path) -> None:
    async def act(engine: Engine, relay: ScriptedRelay, told: list[object]) -> None:
        real = relay.receive
        recorded: list[bytes] = []

        def receive(line: Line, frame: wire.ToRelay) -> None:
            if isinstance(frame, wire.Hello) and not recorded:
                body = wire.handshake_body(frame.device, b"o" * 16, bytes(16), RELAY.public)
                recorded.append(RELAY.sign(wire.RELAY_PROOF_TAG, body))  # made for an older nonce of the device
            if isinstance(frame, wire.Hello):
                line.say(wire.Challenge(wire.PROTOCOL, bytes(16), recorded[0], introduce((), relay.relay_key)))
            else:
                real(line, frame)

        relay.receive = receive  # type: ignore[method-assign]  # the script is what lies here
        assert await refuses(engine, relay, told) == "not_trusted"

    lied_to(tmp_path, act)


def test_a_retired_relay_key_and_a_stolen_old_identity_key_prove_nothing(tmp_path: Path) -> None:
    async def act(engine: Engine, relay: ScriptedRelay, told: list[object]) -> None:
        good = relay.relay_key
        relay.relay_key = seal(RelayKey("r1", RELAY.public, 0, NOW - 1), IDENTITY)
        assert await refuses(engine, relay, told) == "not_trusted"
        rotation = seal(IdentityRotation(STRANGER.public, NOW), STRANGER)
        relay.relay_key = good
        real = relay.receive

        def receive(line: Line, frame: wire.ToRelay) -> None:
            if isinstance(frame, wire.Hello):
                body = wire.handshake_body(frame.device, frame.nonce, bytes(16), STRANGER.public)
                signature = STRANGER.sign(wire.RELAY_PROOF_TAG, body)
                mine = seal(RelayKey("r1", STRANGER.public, 0, None), STRANGER)
                line.say(wire.Challenge(wire.PROTOCOL, bytes(16), signature, introduce((rotation,), mine)))
            else:
                real(line, frame)

        relay.receive = receive  # type: ignore[method-assign]  # the script is what lies here
        assert await refuses(engine, relay, told) == "not_trusted"

    lied_to(tmp_path, act)


# ---- registers ---------------------------------------------------------------------------------------------------


def register(name: str, version: int, signer: keys.SoftwareSigner, key: str = "patient", document: str = P1) -> bytes:
    return seal(Register(document, key, version, NOW, Raw(encode({"name": name}))), signer)


def after(relay: ScriptedRelay, entries: dict[str, bytes], expected: str) -> Act:
    """Sends these as the next change of the patient's document; the device says so, and goes on without them."""

    async def act(engine: Engine, _: ScriptedRelay, told: list[object]) -> None:
        async with linked(engine.core, relay):
            relay.write_map(P1, entries)
            await until(lambda: expected in alarms(told))
        assert not await shows(engine, "false")

    return act


def test_a_forged_register_never_counts(tmp_path: Path) -> None:
    async def act(engine: Engine, relay: ScriptedRelay, told: list[object]) -> None:
        await after(relay, {"patient": register("false", 2, STRANGER)}, "forged")(engine, relay, told)

    lied_to(tmp_path, act)


def test_a_register_that_a_device_signed_never_counts(tmp_path: Path) -> None:
    async def act(engine: Engine, relay: ScriptedRelay, told: list[object]) -> None:
        signer = Device("aaaaaaaa", tmp_path / "unused.db").signer
        await after(relay, {"patient": register("false", 2, signer)}, "forged")(engine, relay, told)

    lied_to(tmp_path, act)


def test_an_older_register_never_replaces_a_newer_one(tmp_path: Path) -> None:
    async def act(engine: Engine, relay: ScriptedRelay, told: list[object]) -> None:
        async with linked(engine.core, relay):
            relay.write_map(P1, {"patient": register("truer", 5, RELAY)})
            await until(lambda: shows(engine, "truer"))
        await after(relay, {"patient": register("false", 4, RELAY)}, "rolled_back")(engine, relay, told)
        assert await shows(engine, "truer")

    lied_to(tmp_path, act)


def test_a_register_of_another_document_or_key_is_not_taken_for_this_one(tmp_path: Path) -> None:
    async def act(engine: Engine, relay: ScriptedRelay, told: list[object]) -> None:
        other = {"prescription/rx1": register("false", 9, RELAY, "prescription/rx1", "patient/p2")}
        await after(relay, other, "misplaced")(engine, relay, told)
        told.clear()
        moved = {"prescription/rx2": register("false", 9, RELAY, "prescription/rx1")}
        await after(relay, moved, "misplaced")(engine, relay, told)

    lied_to(tmp_path, act)


# ---- the directory -----------------------------------------------------------------------------------------------


def headed(entries: dict[str, bytes], version: int, signer: keys.SoftwareSigner) -> dict[str, bytes]:
    return {**entries, "head": seal(DirectoryHead(version, NOW, map_digest(entries)), signer)}


def directory_attack(tmp_path: Path, change: Callable[[ScriptedRelay], dict[str, bytes]], expected: str) -> None:
    """The directory becomes what ``change`` says; the device keeps the one it believed."""

    async def act(engine: Engine, relay: ScriptedRelay, told: list[object]) -> None:
        async with linked(engine.core, relay):
            relay.put_entries({"device/bbbbbbbb": Certificate("bbbbbbbb", STRANGER.public, bytes(32), "b", 0)})
            await until(lambda: engine.core.directory is not None and "bbbbbbbb" in engine.core.directory.certificates)
            believed = engine.core.directory
            assert believed is not None
            relay.write_map("directory", change(relay))
            await until(lambda: expected in alarms(told))
            assert engine.core.directory is not None
            assert engine.core.directory.head.version == believed.head.version
            assert engine.core.directory.certificates == believed.certificates
            assert engine.core.anchor.identity == IDENTITY.public
            await administer(engine, 1, LOG)  # and work goes on
            await settle(engine)

    lied_to(tmp_path, act)


def test_a_directory_head_that_was_rolled_back_is_refused(tmp_path: Path) -> None:
    directory_attack(tmp_path, lambda relay: headed(relay.entries, relay.head - 1, IDENTITY), "directory_rolled_back")


def test_a_directory_under_another_head_key_is_refused(tmp_path: Path) -> None:
    directory_attack(tmp_path, lambda relay: headed(relay.entries, relay.head + 1, RELAY), "directory_forged")


def test_a_certificate_that_the_identity_key_did_not_sign_is_refused(tmp_path: Path) -> None:
    def change(relay: ScriptedRelay) -> dict[str, bytes]:
        mine = seal(Certificate("cccccccc", STRANGER.public, bytes(32), "c", 0), STRANGER)
        return headed({**relay.entries, "device/cccccccc": mine}, relay.head + 1, STRANGER)

    directory_attack(tmp_path, change, "directory_forged")


def test_a_revocation_left_out_under_an_older_truth_is_refused(tmp_path: Path) -> None:
    def change(relay: ScriptedRelay) -> dict[str, bytes]:
        fewer = {key: data for key, data in relay.entries.items() if key != "device/bbbbbbbb"}
        return {**headed(fewer, relay.head, IDENTITY), "device/bbbbbbbb": relay.entries["device/bbbbbbbb"]}

    directory_attack(tmp_path, change, "directory_incomplete")


# ---- revocation --------------------------------------------------------------------------------------------------


def test_a_forged_or_foreign_revocation_wipes_nothing(tmp_path: Path) -> None:
    async def act(engine: Engine, relay: ScriptedRelay, told: list[object]) -> None:
        for data, code in (
            (seal(Revocation("aaaaaaaa", NOW, "x", True), STRANGER), "forged"),
            (seal(Revocation("aaaaaaaa", NOW, "x", True), RELAY), "forged"),
            (seal(Revocation("bbbbbbbb", NOW, "x", True), IDENTITY), "misplaced"),
        ):
            told.clear()
            relay.revocation = data
            async with linked(engine.core, relay):
                await until(lambda code=code: code in alarms(told))  # type: ignore[misc]  # bound at once
            assert not any(isinstance(event, Revoked) for event in told)
            assert not engine.core.revoked

    lied_to(tmp_path, act)


def test_a_true_revocation_is_believed(tmp_path: Path) -> None:
    async def act(engine: Engine, relay: ScriptedRelay, told: list[object]) -> None:
        said = await administer(engine, 1)
        relay.revocation = seal(Revocation("aaaaaaaa", NOW, "x", False), IDENTITY)
        async with linked(engine.core, relay):
            await until(lambda: any(isinstance(event, Revoked) and event.handed_over for event in told))
        assert len(relay.handed_over) == 1
        assert said.ref.encode()[9:] in relay.handed_over[0]

    lied_to(tmp_path, act)


# ---- bytes -------------------------------------------------------------------------------------------------------


def test_update_bytes_from_a_relay_that_would_hang_or_kill_are_not_applied(tmp_path: Path) -> None:
    async def act(engine: Engine, relay: ScriptedRelay, told: list[object]) -> None:
        before = await values(engine)
        for update in (
            b"",
            b"\xff" * 40,
            bytes.fromhex("0101010000ffffffff0f00"),
            bytes.fromhex("01010100040101617fffffffff0f00"),
        ):
            told.clear()
            async with linked(engine.core, relay):
                await until(lambda: any(isinstance(event, Connected) for event in told))
                position = relay.document(P1).position
                run = wire.Run(P1, relay.epoch, position + 1, (update,))
                for line in tuple(relay.lines):
                    line.say(wire.Changes((run,)))
                    line.say(wire.Changes((run,)))
                await administer(engine, 1, LOG)
                await settle(engine)
            assert await values(engine) == before

    lied_to(tmp_path, act)
