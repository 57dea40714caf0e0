"""What the relay must hold: killed at any moment, restored, flushed with conflicts, and short of stock."""

import asyncio
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from crdtmed.aggregates.conflict import Action, ConflictRegister, Resolve
from crdtmed.aggregates.content import Content
from crdtmed.aggregates.dispensing_event import Dispense
from crdtmed.aggregates.draft_view import draft_digest, draft_view
from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.medication_administration import Administer, OfVerbal
from crdtmed.aggregates.prescription import Sign
from crdtmed.aggregates.prescription_draft import (
    Dose,
    DraftWrite,
    GroupValue,
    Medication,
    Route,
    Supply,
    Timing,
    group_of,
)
from crdtmed.aggregates.registers import decode_register
from crdtmed.aggregates.stock_item import Receipt
from crdtmed.contract import Kind
from crdtmed.documents import DocumentKind, parse
from crdtmed.statement import SignedStatement, decode
from crdtmed.updates import ItemId
from crdtmed.verdict import Status, Verdict
from crdtmed.wire import frames
from relay.storage.restore import new_epochs
from relay.storage.sqlite import backup
from tests.relay.probe import Ended, Probe
from tests.relay.service.conftest import Running
from tests.relay.world import Tablet, World

DRAFTS = "patient/p1/drafts"
ROOT = Path(__file__).resolve().parents[3]


def run(story: Callable[[], Awaitable[None]], within_s: int = 120) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(within_s):
            await story()

    asyncio.run(bounded())


# ---- killed at any moment ------------------------------------------------------------------------------------------


@contextmanager
def process(path: Path, seed: int) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A relay in a process of its own, and its port; it is gone after the block, however that ends."""
    command = [sys.executable, "-m", "tests.relay.relay_process", str(path), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as made:
        try:
            assert made.stdout is not None
            line = made.stdout.readline()
            assert line, "the relay did not come up"
            yield made, int(line)
        finally:
            made.kill()


def test_killed_under_load_it_has_what_it_accepted_once_and_nobody_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "relay.sqlite"
    world = World(path, seed=7)
    writer, watcher = world.tablet(), world.tablet()
    world.connection.close()
    chance = random.Random(5)
    said: dict[str, SignedStatement] = {}
    verdicts: dict[str, Verdict] = {}
    held: dict[str, Probe] = {}

    async def load(port: int, client: int, kill: Callable[[], None]) -> None:
        """Writes until the relay is gone; it is killed when a random number of verdicts are in."""
        async with Probe(watcher, port) as b, Probe(writer, port) as a:
            for name, probe in (("a", a), ("b", b)):
                if name in held:
                    probe.replicas = held[name].replicas
                held[name] = probe
                had = DRAFTS in probe.replicas
                await probe.subscribe(DRAFTS)
                # Whoever held the document is brought up to date, and never takes it anew.
                assert not had or not [frame for frame in probe.seen if isinstance(frame, frames.Bases)]
            waiting = [each for ref, each in said.items() if ref not in verdicts]
            last = chance.randrange(20, 120)
            sent = 0
            try:
                while True:
                    while sent - len(a.verdicts) < 64:
                        grant = {} if chance.random() < 0.8 else {"grant": "vera/aaaaaaaa"}
                        one = waiting.pop() if waiting else writer.dose("p1", "rx1", str(len(said) + 1), **grant)
                        said[one.statement.ref] = one
                        await a.send(frames.Push(DRAFTS, writer.into_drafts(DRAFTS, client, one)))
                        sent += 1
                    await a.receive()
                    if len(a.verdicts) >= last:
                        kill()
            except Ended:
                pass
            verdicts.update(a.verdicts)
            try:
                while True:
                    await b.receive()
            except Ended:
                pass

    for turn in range(4):
        with process(path, seed=7) as (relay, port):
            run(partial(load, port, 100 + turn, partial(relay.send_signal, signal.SIGKILL)))

    async def settle(port: int) -> None:
        """Everything that was said is said again: what was judged gets its verdict, word for word."""
        async with Probe(writer, port) as a, Probe(watcher, port) as b:
            b.replicas = held["b"].replicas
            await b.subscribe(DRAFTS)
            for start in range(0, len(said), 50):
                part = list(said.values())[start : start + 50]
                await a.send(frames.Push(DRAFTS, writer.into_drafts(DRAFTS, 900, *part)))
                await a.verdict(part[-1].statement.ref)
            final = a.verdicts
            assert {ref: final[ref] for ref in verdicts} == verdicts
            await b.until(
                lambda: (
                    b.replicas[DRAFTS].position == max(it.position for it in final.values())
                    or sum(it.status is Status.ACCEPTED for it in final.values()) == len(b.values(DRAFTS))
                )
            )
            accepted = sorted(said[ref].encoded for ref, it in final.items() if it.status is Status.ACCEPTED)
            assert sorted(b.values(DRAFTS)) == accepted
            assert Counter(it.status for it in final.values()).keys() == {Status.ACCEPTED, Status.REFUSED}

    with process(path, seed=7) as (_, port):
        run(lambda: settle(port))
    again = World.beside(world)
    assert again.verify().findings == ()
    refs = [row.ref for row in again.record.statements()]
    assert len(refs) == len(set(refs)) == len(said)


# ---- restored from an hour ago -------------------------------------------------------------------------------------


def test_restored_from_a_backup_it_gets_back_what_devices_hold(running: Running, tmp_path: Path) -> None:
    world = running.world
    one, other = world.tablet(), world.tablet()
    log = world.log("patient/p1")

    async def before() -> dict[str, Probe]:
        async with running.up() as service, Probe(one, running.port) as a, Probe(other, running.port) as b:
            await a.subscribe(DRAFTS, log)
            await b.subscribe(DRAFTS, log)
            await push(a, DRAFTS, 9, one.dose("p1", "rx1", "5"))
            assert service.hub.connections
            backup(world.connection, tmp_path / "backup.sqlite")
            await push(a, DRAFTS, 9, one.dose("p1", "rx1", "6"))
            await push(b, DRAFTS, 8, other.dose("p1", "rx1", "7"))
            await push(b, log, 8, given(other))
            await a.until(lambda: a.replicas[DRAFTS].position == 3 and a.replicas[log].position == 1)
            await b.until(lambda: b.replicas[DRAFTS].position == 3 and b.replicas[log].position == 1)
        return {"a": a, "b": b}

    async def after(restored: Running, held: dict[str, Probe]) -> None:
        async with restored.up(), Probe(one, restored.port) as a, Probe(other, restored.port) as b:
            for probe, former in ((a, held["a"]), (b, held["b"])):
                old = {name: replica.values() for name, replica in former.replicas.items()}
                epochs = {name: replica.epoch for name, replica in former.replicas.items()}
                probe.replicas = dict(former.replicas)
                probe.replicas.pop(log)
                await probe.subscribe(DRAFTS)
                assert probe.replicas[DRAFTS].epoch != epochs[DRAFTS]
                for name, values in old.items():
                    await probe.send(frames.HandBack(name, tuple(values)))
                for values in old.values():
                    for value in values:
                        assert (await probe.verdict(decode(value).statement.ref)).status is Status.ACCEPTED
            await a.subscribe(log)
            await a.until(lambda: len(a.values(DRAFTS)) == 3 and len(a.values(log)) == 1)
            assert sorted(a.values(DRAFTS)) == sorted(held["a"].values(DRAFTS))

    async def story() -> None:
        held = await before()
        restored = World.beside(world)
        restored.path = tmp_path / "restored.sqlite"
        (tmp_path / "backup.sqlite").rename(restored.path)
        restored.open()
        assert new_epochs(restored.record, world.now_ms, world.random) > 3
        await after(Running(restored), held)
        assert restored.verify().findings == ()

    run(story)


async def push(probe: Probe, document: str, client: int, *said: SignedStatement) -> list[Verdict]:
    """Pushes statements as one update, and waits for their verdicts."""
    tablet = probe.tablet
    if parse(document).segment is None:
        update = tablet.into_drafts(document, client, *said)
    else:
        update = tablet.into_log(document, client, *said, origin=origin_in(probe, document))
    await probe.send(frames.Push(document, update))
    return [await probe.verdict(each.statement.ref) for each in said]


def origin_in(probe: Probe, document: str) -> ItemId | None:
    """The last item of a log that the probe holds, if any."""
    held = probe.replicas.get(document)
    return None if held is None else held.last_item


def given(tablet: Tablet, **changed: Any) -> SignedStatement:
    content = Administer(
        OfVerbal("Dr. Example", "by telephone", "Amoxicillin 500 mg"),
        "given",
        occurred_at=tablet.now(),
        site="ward-a",
        dose=Quantity("5", "mg"),
    )
    return tablet.say(content, "patient/p1/log", **changed)


# ---- a flush of two thousand, with conflicts ------------------------------------------------------------------------


@pytest.mark.parametrize("percent", [5, 20])
def test_a_flush_with_conflicts_takes_as_many_pushes_as_statements(running: Running, percent: int) -> None:
    world = running.world
    one, other = world.tablet(), world.tablet()
    log = world.log("patient/p1")
    chance = random.Random(percent)
    count = 2_000

    async def story() -> None:
        async with running.up() as service, Probe(one, service) as a, Probe(other, service) as b:
            await b.subscribe(log)
            refs: dict[str, bool] = {}
            pushes = 0
            for _ in range(count):
                bad = chance.random() * 100 < percent
                said = given(one, **({"grant": "vera/aaaaaaaa"} if bad else {}))
                refs[said.statement.ref] = not bad
                while pushes - len(a.verdicts) >= 200:
                    await a.receive()
                await a.send(frames.Push(log, one.into_log(log, 9, said)))
                pushes += 1
            await a.until(lambda: len(a.verdicts) == count)
            assert pushes == count
            assert not [frame for frame in a.seen if isinstance(frame, frames.Gap)]
            assert {ref: it.status is Status.ACCEPTED for ref, it in a.verdicts.items()} == refs
            conflicts = [it for it in a.verdicts.values() if it.status is Status.CONFLICT]
            assert len(conflicts) == count - sum(refs.values()) > count * percent // 200
            assert all(it.actions for it in conflicts)
            await b.until(lambda: b.replicas[log].position == count)
            assert len(b.values(log)) == sum(refs.values())

    run(story)
    assert world.verify().findings == ()


# ---- the last ten of a lot ------------------------------------------------------------------------------------------

GROUPS: tuple[GroupValue, ...] = (
    Medication("amox-500", "Amoxicillin 500 mg"),
    Dose(quantity=Quantity("1", "{capsule}")),
    Route("26643006", "Oral"),
    Timing(frequency=3, period="1", period_unit="d"),
    Supply(100, "{capsule}", 0, "pharmacy"),
)
PHARMACY = "site/pharmacy"


async def signed_prescription(probe: Probe, name: str) -> None:
    """Drafts and signs a prescription of a hundred capsules at the pharmacy."""
    tablet = probe.tablet
    writes: list[SignedStatement] = []
    for value in GROUPS:
        seen = tuple(each.statement.ref for each in writes)
        writes.append(tablet.say(DraftWrite(name, group_of(value), value), DRAFTS, seen=seen))
    assert {it.status for it in await push(probe, DRAFTS, 700, *writes)} == {Status.ACCEPTED}
    await probe.send(frames.AskChallenges(1))
    challenge = (await probe.next_of(frames.Challenges)).values[0]
    view = draft_view([each.statement for each in writes])
    seen = tuple(each.statement.ref for each in writes)
    sign = tablet.say(Sign(name, draft_digest(view)), "patient/p1", seen=seen, challenge=challenge)
    await probe.send(frames.Request(sign.encoded))
    verdict = await probe.verdict(sign.statement.ref)
    assert verdict.status is Status.ACCEPTED, verdict


def receipt(tablet: Tablet, note: str, quantity: int, lot: str) -> SignedStatement:
    content = Receipt("Supplier", note, "amox-500", lot, "2030-01-01", quantity, "{capsule}", tablet.now())
    return tablet.say(content, f"{PHARMACY}/log")


def dispense(tablet: Tablet, lot: str = "L1", **changed: Any) -> SignedStatement:
    content: Content = Dispense("rx1", "p1", "amox-500", lot, 1, "{capsule}", True, tablet.now())
    return tablet.say(content, f"{PHARMACY}/log", **changed)


def test_fifty_devices_dispense_the_last_ten(running: Running) -> None:
    world = running.world
    log = world.log(PHARMACY)
    first, *others = (world.tablet() for _ in range(51))

    async def story() -> None:
        async with running.up() as service, Probe(first, service) as a:
            await signed_prescription(a, "rx1")
            (booked,) = await push(a, log, 700, receipt(first, "n1", 10, "L1"))
            assert booked.status is Status.ACCEPTED
            await a.subscribe(log)
            probes = [Probe(tablet, service) for tablet in others]
            for probe in probes:
                await probe.__aenter__()
            said = [dispense(tablet) for tablet in others]
            verdicts = await asyncio.gather(
                *(push(probe, log, 1_000 + at, said[at]) for at, probe in enumerate(probes))
            )
            found = Counter((it.status, it.code) for (it,) in verdicts)
            assert found == {(Status.ACCEPTED, ""): 10, (Status.CONFLICT, "stock_short"): 40}
            offered = {it.actions for (it,) in verdicts if it.status is Status.CONFLICT}
            assert len(offered) == 1
            assert {Action.SWITCH_LOT, Action.DISPENSE_PART, Action.CONFIRM_AS_GIVEN} <= set(offered.pop())
            await resolve_at_once(world, a, probes, said, [it for (it,) in verdicts], log)
            for probe in probes:
                await probe.leave()

    run(story)
    again = World.beside(world)
    assert again.verify().findings == ()
    assert again.record.stock("pharmacy", "amox-500", "L1") == (0, 0)
    assert again.record.stock("pharmacy", "amox-500", "L2") == (4, 0)
    registers = [
        decode_register(DocumentKind.SITE, row.key, row.value) for row in again.record.registers(PHARMACY, "conflict")
    ]
    still_open = Counter(it.kind for it in registers if isinstance(it, ConflictRegister) and it.open)
    # The second resolution says that a medicine was handed over, so that it is kept as a conflict of its own.
    assert still_open == {Kind.DISPENSE: 39, Kind.RESOLVE: 1}


async def resolve_at_once(
    world: World, a: Probe, probes: list[Probe], said: list[SignedStatement], verdicts: list[Verdict], log: str
) -> None:
    """Two pharmacists switch one conflict to a lot with five: one does, and the other is told who."""
    (booked,) = await push(a, log, 700, receipt(a.tablet, "n2", 5, "L2"))
    assert booked.status is Status.ACCEPTED
    at = next(at for at, it in enumerate(verdicts) if it.status is Status.CONFLICT)
    pair = probes[:2]
    resolutions = [
        probe.tablet.say(Resolve(said[at].encoded, Action.SWITCH_LOT, lot="L2"), f"{PHARMACY}/log") for probe in pair
    ]
    both = await asyncio.gather(*(push(probe, log, 2_000 + turn, resolutions[turn]) for turn, probe in enumerate(pair)))
    statuses = sorted((it.status, it.code) for (it,) in both)
    assert statuses == [(Status.ACCEPTED, ""), (Status.CONFLICT, "already_resolved")]
