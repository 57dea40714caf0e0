"""Stories of devices and a relay that runs: told within a minute, and what most of them begin with."""

import asyncio
from collections.abc import Awaitable, Callable

from crdtmed.wire import frames
from tests.relay.probe import Probe

DRAFTS = "patient/p1/drafts"


def run(story: Callable[[], Awaitable[None]], loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
    """Tells a story, within a minute."""

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await story()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(bounded())


async def write(probe: Probe, *values: str, client: int = 9) -> list[str]:
    """Pushes a dose each; the references."""
    refs = []
    for value in values:
        said = probe.tablet.dose("p1", "rx1", value)
        await probe.send(frames.Push(DRAFTS, probe.tablet.into_drafts(DRAFTS, client, said)))
        refs.append(said.statement.ref)
    return refs
