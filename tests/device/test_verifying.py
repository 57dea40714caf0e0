"""Authors are verified once each, when nothing more is on its way; what this device has signed itself is not."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from crdtmed import (
    keys,
    statement,
)
from crdtmed.aggregates.content import encode_content
from crdtmed.aggregates.medication_administration import Correct
from crdtmed.contract import Kind
from crdtmed.device import engine_verify, link
from crdtmed.device.engine import Engine
from crdtmed.device.engine_core import Check
from crdtmed.device.engine_types import (
    NotVerified,
    State,
)
from crdtmed.signed import RelayKey
from crdtmed.statement import Statement
from tests.device.scripted_relay import NOW, ScriptedRelay
from tests.device.world import (
    LOG,
    P1,
    TODAY,
    Device,
    administer,
    device_in,
    draft,
    given,
    linked,
    relay_with,
    run,
    settle,
    until,
    verify,
)

SEGMENT = "patient/p1/log/2026-09"


def said_by(author: Device, count: int) -> list[bytes]:
    """Signed administrations of another device."""
    found = []
    for number in range(1, count + 1):
        of = Statement(
            version=statement.VERSION,
            kind=Kind.ADMINISTER,
            id=f"{'a' * 12}{''.join('abcdefghij'[int(digit)] for digit in f'{number:04}')}",
            document=LOG,
            device=author.name,
            number=number,
            grant=f"ann/{author.name}",
            stamp=(NOW << 16) + number,
            seen=(),
            challenge=None,
            content=msgspec.Raw(encode_content(given(number))),
        )
        found.append(statement.sign(of, author.signer).encoded)
    return found


class Watched:
    """Counts the signatures of statements that are checked, and can hold a check back."""

    def __init__(self) -> None:
        self.checked: list[bytes] = []
        self.may = asyncio.Event()
        self.may.set()

    async def verify(self, checks: Sequence[Check]) -> list[bool]:
        """The port of the engine."""
        self.checked += [signature for _, tag, _, signature in checks if tag == statement.TAG]
        await self.may.wait()
        return await verify(checks)


def watch(engine: Engine) -> Watched:
    """Puts a watched port in the place of the engine's."""
    watched = Watched()
    core = engine.core
    object.__setattr__(core.ports, "verify", watched.verify)
    return watched


def test_several_who_wait_for_a_document_verify_each_author_once(tmp_path: Path) -> None:
    async def story() -> None:
        device, author = Device("aaaaaaaa", tmp_path / "a.db"), Device("bbbbbbbb", tmp_path / "b.db")
        relay = ScriptedRelay()
        for one in (device, author):
            relay.enrol(one.name, one.signer.public)
        values = said_by(author, engine_verify.BATCH + 40)
        async with device.engine() as engine:
            watched = watch(engine)
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
                await until(lambda: engine.status().connected and not engine.status().behind)
                watched.may.clear()
                for start in range(0, len(values), 200):
                    relay.insert(SEGMENT, values[start : start + 200])
                await until(lambda: len(watched.checked) >= engine_verify.BATCH)
                waiting = [asyncio.create_task(engine.verify()) for _ in range(3)]
                await asyncio.sleep(0)
                watched.may.set()
                await asyncio.gather(*waiting)
                assert not engine.status().unverified
            assert sorted(watched.checked) == sorted(value[:64] for value in values)
            assert len(await engine.statements(LOG)) == len(values)

    run(story())


def test_a_forged_author_is_found_among_thousands_and_the_rest_counts(tmp_path: Path) -> None:
    async def story() -> None:
        device, author = Device("aaaaaaaa", tmp_path / "a.db"), Device("bbbbbbbb", tmp_path / "b.db")
        relay = ScriptedRelay()
        for one in (device, author):
            relay.enrol(one.name, one.signer.public)
        values = said_by(author, 600)
        values[555] = bytes([values[555][0] ^ 1]) + values[555][1:]
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
                await until(lambda: engine.status().connected and not engine.status().behind)
                for start in range(0, len(values), 200):
                    relay.insert(SEGMENT, values[start : start + 200])

                async def all_but_one() -> bool:
                    return len(await engine.statements(LOG)) == 599 and not engine.status().unverified

                await until(all_but_one)
            assert [one.code for one in await engine.inbox()] == ["forged"]

    run(story())


def test_what_this_device_signed_is_not_verified_again_and_what_only_says_so_is(tmp_path: Path) -> None:
    async def story() -> None:
        device = Device("aaaaaaaa", tmp_path / "a.db")
        relay = ScriptedRelay()
        relay.enrol(device.name, device.signer.public)
        async with device.engine() as engine:
            watched = watch(engine)
            await engine.subscribe([P1])
            said = await administer(engine, 1)
            own = engine.outbox()[0].signed
            async with linked(engine.core, relay):
                await settle(engine)
                await until(lambda: not engine.status().unverified)
                assert watched.checked == []
                assert engine.core.rows[SEGMENT].position == 1
                forged = bytes([own.encoded[0] ^ 1]) + own.encoded[1:].replace(own.statement.id.encode(), b"b" * 16)
                relay.insert(SEGMENT, [forged])
                await until(lambda: watched.checked == [forged[:64]])
                await until(lambda: engine.core.inbox_open == 1)
            assert [entry.ref for entry in await engine.statements(LOG)] == [said.ref]

    run(story())


def test_authors_are_verified_when_nothing_more_comes_but_not_never(tmp_path: Path) -> None:
    async def story() -> None:
        device, author = Device("aaaaaaaa", tmp_path / "a.db"), Device("bbbbbbbb", tmp_path / "b.db")
        relay = ScriptedRelay()
        for one in (device, author):
            relay.enrol(one.name, one.signer.public)
        values = said_by(author, 40)
        pauses: list[float] = []

        async with device.engine() as engine:
            watched = watch(engine)
            await engine.subscribe([P1])

            async def more_comes(seconds: float) -> None:
                """While it waits for calm, another update comes; between conversations nothing does."""
                if engine.core.session is not None and values:
                    assert not watched.checked
                    pauses.append(seconds)
                    bursts = engine.core.bursts
                    relay.insert(SEGMENT, [values.pop()])
                    await until(lambda: engine.core.bursts > bursts)
                else:
                    await asyncio.sleep(0)

            task = asyncio.create_task(link.run(engine.core, relay.dial, more_comes))
            await until(lambda: engine.status().connected and not engine.status().behind)
            relay.insert(SEGMENT, [values.pop()])
            await until(lambda: bool(watched.checked))
            assert pauses == [link.CALM_S] * link.CALM_LOOKS
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    run(story())


def test_nothing_is_done_to_a_document_whose_authors_cannot_be_verified(tmp_path: Path) -> None:
    async def story() -> None:
        device, stranger = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device)
        async with stranger.engine() as theirs:
            said = await administer(theirs, 1)
            relay.insert(TODAY, [theirs.outbox()[0].signed.encoded])
        correction = Correct(said.ref, "entered-in-error", "wrong patient")
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):

                async def here() -> bool:
                    return len(await engine.statements(LOG)) == 1

                await until(here)
                with pytest.raises(NotVerified):
                    await engine.say(Kind.CORRECT, LOG, correction, seen=[said.ref])
                await draft(engine, "a")
                await settle(engine)  # with its verdict the store is told what was verified
        async with device.engine() as engine:
            with pytest.raises(NotVerified):  # that it was looked at once does not make it verified for the next start
                await engine.say(Kind.CORRECT, LOG, correction, seen=[said.ref])
            async with linked(engine.core, relay):
                await administer(engine, 2)
                relay.enrol(stranger.name, stranger.signer.public)
                await until(lambda: engine.directory is not None and "bbbbbbbb" in engine.directory.certificates)
                done = await engine.say(Kind.CORRECT, LOG, correction, seen=[said.ref])
                assert await done.settled() is State.ACCEPTED

    run(story())


@pytest.mark.parametrize(
    ("at", "counts"),
    [(NOW - 1, False), (NOW, True), (NOW + 20, True), (NOW + 21, False)],
    ids=["before it was in service", "from then on", "until it is retired", "after that"],
)
def test_a_relay_key_signs_for_the_time_of_its_service_alone(tmp_path: Path, at: int, counts: bool) -> None:
    async def story() -> None:
        device, before = device_in(tmp_path), keys.SoftwareSigner.from_scalar(99)
        relay = relay_with(device)
        relay.put_entries({"relay/before": RelayKey("before", before.public, NOW, NOW + 20)})
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
                await until(lambda: engine.status().connected and not engine.status().behind)
                relay.now = at
                relay.put_register(P1, "alerts/rx1", "said by the key before", before)
                relay.now = NOW + 30
                relay.put_register(P1, "alerts/rx2", "said by this relay")

                async def both_looked_at() -> bool:
                    return "alerts/rx2" in await engine.registers(P1) and not engine.status().unverified

                await until(both_looked_at)
                assert ("alerts/rx1" in await engine.registers(P1)) is counts
            assert [entry.code for entry in await engine.inbox()] == ([] if counts else ["forged"])

    run(story())
