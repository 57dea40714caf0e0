"""What goes wrong in a history, and what the operator does."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any, Final

from relay.batch import Batch
from relay.own_documents import write_directory
from tests.simulation.tablet import Tablet

if TYPE_CHECKING:
    from tests.simulation.history import History

Trouble = Callable[["History", Tablet, Random], Awaitable[Any]]


async def cut(it: "History", tablet: Tablet, random: Random) -> None:
    """The line breaks."""
    tablet.weather.break_all()


async def half_open(it: "History", tablet: Tablet, random: Random) -> None:
    """Nothing gets through any more, and nobody is told."""
    for line in list(tablet.weather.lines):
        line.half_open(up=True, down=True)


async def mute(it: "History", tablet: Tablet, random: Random) -> None:
    """What the relay says is lost."""
    for line in list(tablet.weather.lines):
        line.half_open(up=False, down=True)


async def deaf(it: "History", tablet: Tablet, random: Random) -> None:
    """What the device says is lost."""
    for line in list(tablet.weather.lines):
        line.half_open(up=True, down=False)


async def offline(it: "History", tablet: Tablet, random: Random) -> None:
    """No network for a while, up to hours."""
    tablet.weather.down = True
    tablet.weather.break_all()
    await asyncio.sleep(random.choice((5.0, 120.0, 1_800.0, 14_000.0)) * random.random())
    tablet.weather.down = False


async def slow(it: "History", tablet: Tablet, random: Random) -> None:
    """A device that reads slowly."""
    tablet.weather.slow_s = random.choice((0.2, 2.0, 10.0))
    await asyncio.sleep(random.uniform(10, 600))
    tablet.weather.slow_s = 0.0


async def storm(it: "History", tablet: Tablet, random: Random) -> None:
    """Everybody's line breaks, and everybody comes back at once; some times in a row."""
    for _ in range(random.choice((1, 3, 8))):
        for each in it.tablets.values():
            each.weather.break_all()
        await asyncio.sleep(random.random() * 3)


async def _back(it: "History", tablet: Tablet, random: Random) -> None:
    await asyncio.sleep(random.choice((1.0, 30.0, 1_800.0)) * random.random())
    await tablet.on()


async def reboot(it: "History", tablet: Tablet, random: Random) -> None:
    """Switched off in order, and on again."""
    await tablet.off()
    await _back(it, tablet, random)


async def power(it: "History", tablet: Tablet, random: Random) -> None:
    """The battery is taken out."""
    if tablet.device is not None:
        tablet.cut()
        await _back(it, tablet, random)


async def power_write(it: "History", tablet: Tablet, random: Random) -> None:
    """The power goes before one of the next writes."""
    await _dies(it, tablet, random, torn=False)


async def torn(it: "History", tablet: Tablet, random: Random) -> None:
    """The power goes in the middle of the next commit."""
    await _dies(it, tablet, random, torn=True)


async def _dies(it: "History", tablet: Tablet, random: Random, *, torn: bool) -> None:
    power = tablet.power
    if tablet.device is None:
        return
    power.torn, power.writes = torn, 0 if torn else random.randrange(14)
    for _ in range(60):
        await asyncio.sleep(5)
        if not power.on:
            break
    power.writes = None
    if not power.on:
        await _back(it, tablet, random)


async def disk_full(it: "History", tablet: Tablet, random: Random) -> None:
    """No space is left on the device for a while."""
    tablet.full = True
    await asyncio.sleep(random.uniform(1, 400))
    tablet.full = False


async def disk_fails(it: "History", tablet: Tablet, random: Random) -> None:
    """The device's disk neither reads nor writes for a while."""
    tablet.fails = True
    await asyncio.sleep(random.uniform(0.01, 100))
    tablet.fails = False


async def skew(it: "History", tablet: Tablet, random: Random) -> None:
    """Somebody sets the device's clock."""
    tablet.skew_ms = int(
        random.choice((-1, 1)) * random.choice((2_000, 100_000, 3_600_000, 86_400_000)) * random.random()
    )


async def copy(it: "History", tablet: Tablet, random: Random) -> None:
    """Somebody copies the device's store."""
    tablet.copy()


async def put_back(it: "History", tablet: Tablet, random: Random) -> None:
    """The copy of the store is put back: what was said since, and not sent, is gone."""
    if tablet.copies and tablet.wiped_at is None:
        await tablet.off()
        while tablet.booting:
            await asyncio.sleep(1)
        await tablet.off()
        if tablet.put_back():
            it.excuse(tablet)
        await tablet.on()


async def _relay_back(it: "History", random: Random) -> None:
    await asyncio.sleep(random.choice((0.5, 20.0, 900.0)) * random.random())
    await _started(it)


async def _started(it: "History") -> None:
    """Until the relay runs: where its disk is full, whoever starts it tries again."""
    await it.relay.start()
    while it.relay.service is None:
        await asyncio.sleep(5)
        await it.relay.start()


async def relay_kill(it: "History", tablet: Tablet, random: Random) -> None:
    """The relay is killed."""
    if it.relay.service is not None:
        it.relay.kill()
        await _relay_back(it, random)


async def relay_stop(it: "History", tablet: Tablet, random: Random) -> None:
    """The relay is stopped in order."""
    if it.relay.service is not None:
        await it.relay.stop()
        await _relay_back(it, random)


async def relay_power_write(it: "History", tablet: Tablet, random: Random) -> None:
    """The relay's power goes before one of its next writes."""
    await _relay_dies(it, random, torn=False)


async def relay_torn(it: "History", tablet: Tablet, random: Random) -> None:
    """The relay's power goes in the middle of a commit."""
    await _relay_dies(it, random, torn=True)


async def _relay_dies(it: "History", random: Random, *, torn: bool) -> None:
    power = it.relay.power
    power.torn, power.writes = torn, random.randrange(3) if torn else random.randrange(40)
    for _ in range(60):
        await asyncio.sleep(2)
        if not power.on:
            break
    power.writes = None
    if not power.on:
        await _relay_back(it, random)


async def relay_full(it: "History", tablet: Tablet, random: Random) -> None:
    """No space is left at the relay for a while."""
    it.relay.full = True
    await asyncio.sleep(random.uniform(0.1, 60))
    it.relay.full = False


async def backup(it: "History", tablet: Tablet, random: Random) -> None:
    """A backup of the relay."""
    it.relay.take_backup()


async def restore(it: "History", tablet: Tablet, random: Random) -> None:
    """The relay is restored from its last backup; the operator takes out of service again whom they had."""
    if it.relay.backups and it.relay.service is not None:
        it.relay.kill()
        it.relay.restore()
        it.restored()
        await _started(it)
        for each in it.tablets.values():
            if each.id in it.revoked:
                await _revoke(it, each, now=False)


async def knowledge(it: "History", tablet: Tablet, random: Random) -> None:
    """The knowledge base does not answer for a while."""
    it.relay.knowledge.trouble = 1.0
    await asyncio.sleep(random.uniform(5, 300))
    it.relay.knowledge.trouble = it.plan.knowledge_trouble


async def revoke(it: "History", tablet: Tablet, random: Random) -> None:
    """A device is lost, and taken out of service."""
    await _revoke(it, tablet, now=False)


async def revoke_now(it: "History", tablet: Tablet, random: Random) -> None:
    """A device is stolen, and taken out of service at once."""
    await _revoke(it, tablet, now=True)


async def _revoke(it: "History", tablet: Tablet, *, now: bool) -> None:
    if tablet.id not in it.revoked and len(it.revoked) + 2 > len(it.tablets):
        return  # somebody has to be left

    def act(batch: Batch) -> None:
        batch.identity.revoke(batch.record.connection, tablet.id, "lost", now, batch.now_ms)
        write_directory(batch)

    await _started(it)  # the operator who takes a device out of service finds the relay down, and starts it
    service = it.relay.service
    try:
        await it.relay.write(act)
    except Exception:  # noqa: BLE001 - the relay has no space just now: the operator sees it, and does it again later
        service = None
    else:
        if now:
            it.stolen.add(tablet.id)
    if service is not None and it.relay.service is service:
        it.revoked.setdefault(tablet.id, it.now_ms())
        it.forgotten.discard(tablet.name)
    elif tablet.id in it.revoked:
        it.forgotten.add(tablet.name)


async def revoke_again(it: "History") -> None:
    """The operator takes out of service again whom a restored relay has forgotten, as soon as it can be written to."""
    for name in sorted(it.forgotten):
        if it.relay.service is not None and not it.relay.full:
            await _revoke(it, it.tablets[name], now=it.tablets[name].id in it.stolen)


TROUBLES: Final[dict[str, Trouble]] = {
    each.__name__: each
    for each in (
        *(cut, half_open, mute, deaf, offline, slow, storm),
        *(reboot, power, power_write, torn, disk_full, disk_fails, skew, copy, put_back),
        *(relay_kill, relay_stop, relay_power_write, relay_torn, relay_full, backup, restore, knowledge),
        *(revoke, revoke_now),
    )
}
"""Everything that can go wrong, by name."""
