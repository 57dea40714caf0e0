"""What nobody can read, or nobody signed: it does not count, it is told, and the rest arrives."""

from pathlib import Path

from crdtmed.device import engine_heal
from crdtmed.device.engine_types import (
    State,
)
from crdtmed.wire import frames as wire
from tests.device.scripted_relay import Line
from tests.device.world import (
    DRAFTS,
    LOG,
    P1,
    TODAY,
    administer,
    device_in,
    equal,
    linked,
    relay_with,
    run,
    settle,
    tablet_and_relay,
    until,
)


def test_a_statement_that_the_relay_cannot_read_is_set_aside_and_the_rest_arrives(tmp_path: Path) -> None:
    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (_, relay, engine):
            poison: set[str] = set()
            honest = relay._push

            def push(line: Line, name: str, data: bytes) -> None:
                if any(ref.encode().partition(b".")[2] in data for ref in poison):
                    line.say(wire.Bye("content_unreadable", "an update with a value that is none"))
                    line.closed = True
                    relay.lines.discard(line)
                    return
                honest(line, name, data)

            relay._push = push  # type: ignore[method-assign]  # a relay that stumbles over one statement
            said = [await administer(engine, number) for number in range(30)]
            poison.add(said[11].ref)
            async with linked(engine.core, relay):
                await settle(engine)
                await equal(engine, relay)
                more = await administer(engine, 99)
                assert await more.settled() is State.ACCEPTED
            inbox = await engine.inbox()
            assert [entry.code for entry in inbox] == ["set_aside"]
            assert inbox[0].statement is not None
            assert inbox[0].statement.statement.ref == said[11].ref
            assert await said[11].settled() is State.SET_ASIDE
            assert len(await engine.statements(LOG)) == 30
            assert not engine.core.outbox.careful

    run(story())


def test_what_closes_the_conversation_once_when_alone_is_tried_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with tablet_and_relay(tmp_path) as (_, relay, engine):
            stumbles = [engine_heal.STRIKES]
            honest = relay._push

            def push(line: Line, name: str, data: bytes) -> None:
                """Two that came together close it, then one that is alone; the same one comes through the next time."""
                if stumbles[0]:
                    stumbles[0] -= 1
                    line.say(wire.Bye("content_unreadable", "an update with a value that is none"))
                    line.closed = True
                    relay.lines.discard(line)
                    return
                honest(line, name, data)

            relay._push = push  # type: ignore[method-assign]  # a relay that stumbles for a while
            said = [await administer(engine, number) for number in range(2)]
            async with linked(engine.core, relay):
                await settle(engine)
            assert [await one.settled() for one in said] == [State.ACCEPTED] * 2
            assert not await engine.inbox()

    run(story())


def test_a_base_that_is_not_what_its_digest_says_is_not_believed(tmp_path: Path) -> None:
    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        async with other.engine() as theirs, linked(theirs.core, relay):
            await administer(theirs, 1)
            await settle(theirs)
        honest = relay._digest
        relay._digest = lambda document: honest(relay.document(DRAFTS))  # type: ignore[method-assign]  # it lies
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):

                async def told() -> bool:
                    return "base_unreadable" in [entry.code for entry in await engine.inbox()]

                await until(told)
                assert not await engine.statements(LOG)
            relay._digest = honest  # type: ignore[method-assign]  # and stops lying
            async with linked(engine.core, relay):

                async def there() -> bool:
                    return len(await engine.statements(LOG)) == 1

                await until(there)

    run(story())


def test_a_base_whose_digest_the_relay_did_not_sign_is_not_believed(tmp_path: Path) -> None:
    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        async with other.engine() as theirs, linked(theirs.core, relay):
            await administer(theirs, 1)
            await settle(theirs)
        honest = relay._digest
        relay._digest = lambda document: bytes(64) + honest(document)[64:]  # type: ignore[method-assign]  # a digest that nobody signed
        async with device.engine() as engine:
            await engine.subscribe([P1])
            said = await administer(engine, 2)
            async with linked(engine.core, relay):

                async def told() -> bool:
                    return "forged" in [entry.code for entry in await engine.inbox()]

                await until(told)
            assert [entry.ref for entry in await engine.statements(LOG)] == [said.ref]
            assert not engine.core.rows
            relay._digest = honest  # type: ignore[method-assign]  # and its end
            async with linked(engine.core, relay):
                await settle(engine)
            assert len(await engine.statements(LOG)) == 2

    run(story())


def test_a_statement_of_another_document_does_not_count_and_is_told_once(tmp_path: Path) -> None:
    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        async with other.engine() as theirs:
            right, wrong = await administer(theirs, 1), await administer(theirs, 2, "patient/p2/log")
            values = {one.signed.statement.ref: one.signed.encoded for one in theirs.outbox()}
        relay.insert(TODAY, [values[right.ref], values[wrong.ref]])
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):
                await until(lambda: TODAY in engine.core.rows)
                assert [entry.ref for entry in await engine.statements(LOG)] == [right.ref]

                async def alarmed() -> bool:
                    return [entry.code for entry in await engine.inbox()] == ["misplaced"]

                await until(alarmed)
                mine = await administer(engine, 3)
                await settle(engine)
                assert {entry.ref for entry in await engine.statements(LOG)} == {right.ref, mine.ref}
                assert len(await engine.inbox()) == 1

    run(story())


def test_a_forged_author_does_not_count_and_is_an_alarm(tmp_path: Path) -> None:
    async def story() -> None:
        device, other = device_in(tmp_path), device_in(tmp_path, "bbbbbbbb")
        relay = relay_with(device, other)
        async with other.engine() as theirs:
            good, bad = await administer(theirs, 1), await administer(theirs, 2)
            values = {one.signed.statement.ref: one.signed.encoded for one in theirs.outbox()}
        forged = bytes([values[bad.ref][0] ^ 1]) + values[bad.ref][1:]
        relay.insert(TODAY, [values[good.ref], forged])
        async with device.engine() as engine:
            await engine.subscribe([P1])
            async with linked(engine.core, relay):

                async def alarmed() -> bool:
                    return [entry.code for entry in await engine.inbox()] == ["forged"]

                await until(alarmed)
                assert [entry.ref for entry in await engine.statements(LOG)] == [good.ref]

    run(story())
