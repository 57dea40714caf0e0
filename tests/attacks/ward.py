"""A running relay with tablets, for attacks on it: what attackers and bystanders do alike."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from crdtmed.aggregates.medication_administration import Administer, OfPrescription
from crdtmed.documents import utc_date
from crdtmed.statement import SignedStatement
from crdtmed.verdict import Status
from crdtmed.wire import frames
from relay.app import serving
from relay.service import Service
from tests.relay.probe import Ended, Probe
from tests.relay.world import Tablet, World

HOUR = 3_600_000
DRAFTS = "patient/p1/drafts"


@asynccontextmanager
async def ward(tmp_path: Path, tablets: int = 2) -> AsyncIterator[tuple[World, int, list[Tablet], Service]]:
    """A running relay, its port, enrolled tablets with somebody signed in, and the service itself."""
    world = World(tmp_path / "relay.db")
    made = [world.tablet() for _ in range(tablets)]
    service = world.service()
    async with serving(service) as port:
        yield world, port, made, service


async def refused(port: int, attacker: Tablet, *sent: frames.ToRelay | bytes) -> str:
    """The code with which the relay ends a conversation in which the attacker sends these."""
    try:
        async with Probe(attacker, port) as probe:
            for frame in sent:
                await probe.raw(frame if isinstance(frame, bytes) else frames.encode_frame(frame))
            await probe.ended()
    except Ended as ended:
        return ended.code
    raise AssertionError("the relay took it")


async def unharmed(port: int, tablet: Tablet, expected: int) -> None:
    """Another device goes on working: it subscribes, writes, and finds just what it and others rightly wrote."""
    async with Probe(tablet, port) as probe:
        await probe.subscribe(DRAFTS)
        said = tablet.dose("p1", "rx9", str(tablet.number + 1))
        client = 5_000 + tablet.number
        await probe.send(frames.Push(DRAFTS, tablet.into_drafts(DRAFTS, client, said)))
        assert (await probe.verdict(said.statement.ref)).status is Status.ACCEPTED
        await probe.until(lambda: said.encoded in probe.values(DRAFTS))
        assert len(probe.values(DRAFTS)) == expected


def given(tablet: Tablet, **changed: Any) -> SignedStatement:
    """An administration, which is a fact."""
    return tablet.say(Administer(OfPrescription("rx1"), "given", tablet.now(), "ward-a"), "patient/p1/log", **changed)


async def verdict_of(port: int, tablet: Tablet, said: SignedStatement, client: int) -> tuple[Status, str]:
    """The verdict of a statement pushed where it belongs."""
    async with Probe(tablet, port) as probe:
        await probe.subscribe(DRAFTS)
        if said.statement.document == DRAFTS:
            push = frames.Push(DRAFTS, tablet.into_drafts(DRAFTS, client, said))
        else:
            segment = f"{said.statement.document}/{date_of(tablet.now())}"
            push = frames.Push(segment, tablet.into_log(segment, client, said))
        await probe.send(push)
        verdict = await probe.verdict(said.statement.ref)
        return verdict.status, verdict.code


def date_of(now_ms: int) -> str:
    return f"{utc_date(now_ms):%Y-%m}"
