"""Revoked, a device is wiped within five minutes of online time: over many histories, and once on the real clock.

A history revokes a device that works, its outbox full or empty, while the network, the relay or the device itself
fails in one of the ways that matter.  *Online time* runs while the device is awake, the relay runs and the network is
there, from the commit of the revocation on.  ``REVOCATION_HISTORIES`` sets how many histories of each kind are played.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from crdtmed.contract import Role
from crdtmed.device import keeper, life
from crdtmed.limits import WIPE_DEADLINE_S
from crdtmed.signed import Grant
from crdtmed.wire import frames
from relay.batch import Batch
from relay.identity import revocation
from relay.own_documents import write_directory
from tests.device.world import administer
from tests.relay.identity.setting import HOUR, T0
from tests.revocation.virtual import Net, Tablet, VirtualLoop, open_inline, verify_inline, virtual_world

HISTORIES = int(os.environ.get("REVOCATION_HISTORIES", "3"))
STEP_S = 0.2
"""How finely online time is counted."""


@dataclass
class History:
    """One history: its world, and what is found out; times in seconds."""

    net: Net
    tablet: Tablet
    random: Random
    device: str = ""
    now: bool = False
    counting: asyncio.Future[None] | None = None
    running: bool = True
    online_s: float = 0.0
    wiped: asyncio.Event = field(default_factory=asyncio.Event)

    def revoke(self, *, heard: bool = True) -> None:
        """The operator takes the device out of service."""

        def act(batch: Batch) -> None:
            self.net.setting.identity.revoke(self.net.setting.db, self.device, "lost", self.now, batch.now_ms)
            write_directory(batch)

        self.counting = asyncio.ensure_future(self._count())
        self.net.commit(act, heard=heard)

    def cut(self) -> None:
        """Every connection is gone."""
        for line in list(self.net.lines):
            line.cut()

    async def pause(self, least: float, most: float) -> None:
        """Some seconds pass."""
        await asyncio.sleep(self.random.uniform(least, most))

    async def connected(self) -> None:
        """The device is on the line, and has been for a moment."""
        while not self.net.lines:
            await asyncio.sleep(STEP_S)
        await asyncio.sleep(20 * self.net.delay_s)

    async def _count(self) -> None:
        while not self.wiped.is_set():
            await asyncio.sleep(STEP_S)
            awake = self.tablet.asleep_since is None and self.running
            if awake and self.net.up and self.net.hub is not None:
                self.online_s += STEP_S


# ---- what goes wrong -------------------------------------------------------------------------------------------------


async def push_delivered(it: History) -> None:
    await it.pause(60, 70)  # for what was cut before
    it.revoke()


async def without_hand_over(it: History) -> None:
    await it.pause(60, 70)
    it.now = True
    it.revoke()


async def relay_does_not_notice(it: History) -> None:
    """Committed by another process, and the relay never looks: the next renewal finds out."""
    it.revoke(heard=False)


async def push_lost(it: History) -> None:
    """Nothing that the relay says arrives from then on; keepalive finds out."""
    await it.connected()
    for line in it.net.lines:
        line.half_open()
    it.revoke()


async def relay_hangs(it: History) -> None:
    """It answers pings and nothing else, for as long as the connection lasts."""
    await it.connected()
    for line in it.net.lines:
        line.mute = True
    it.revoke(heard=False)


async def half_open_before(it: History) -> None:
    await it.connected()
    for line in it.net.lines:
        line.half_open()
    await it.pause(0, 39)
    it.revoke(heard=False)


async def relay_killed_before(it: History) -> None:
    it.net.kill()
    await it.pause(0, 60)
    it.revoke(heard=False)
    await it.pause(0, 300)
    it.net.start()


async def relay_killed_after(it: History) -> None:
    await it.connected()
    it.revoke()
    await it.pause(0, 2 * it.net.delay_s)
    it.net.kill()
    await it.pause(0, 300)
    it.net.start()


async def relay_restarts_often(it: History) -> None:
    it.revoke(heard=False)
    for _ in range(10):
        await it.pause(0, 4)
        if it.wiped.is_set():
            return
        it.net.kill()
        await it.pause(0, 30)
        it.net.start()


async def network_flaps(it: History) -> None:
    it.revoke(heard=False)
    for _ in range(20):
        it.net.up = False
        it.cut()
        await it.pause(0, 30)
        it.net.up = True
        await it.pause(0, 4)


async def relay_disk_full(it: History) -> None:
    """Nobody can be told anything new until the operator has made space, and uses it for the revocation first."""
    it.net.full = True
    await it.pause(0, 3_600)
    it.net.full = False
    it.revoke(heard=False)


async def relay_disk_full_again(it: History) -> None:
    """There is space for the revocation, and none for what comes after it until somebody makes some."""
    it.net.full = True
    await it.pause(0, 3_600)
    it.revoke(heard=False)
    await it.pause(0, 600)
    it.net.full = False


async def asleep(it: History) -> None:
    """The lid is closed, and opened again after a while."""
    await it.connected()
    it.tablet.sleep()
    for line in it.net.lines:
        line.half_open()
    await it.pause(0, 600)
    it.revoke()
    await it.pause(0, 3_000)
    it.tablet.wake()


async def asleep_in_the_middle(it: History) -> None:
    """It has heard of it, and falls asleep while it hands over."""
    it.revoke()
    await it.pause(0, 4 * it.net.delay_s)
    if it.wiped.is_set():
        return
    it.tablet.sleep()
    for line in it.net.lines:
        line.half_open()
    await it.pause(10, 3_000)
    it.tablet.wake()


async def offline(it: History) -> None:
    it.net.up = False
    it.cut()
    await it.pause(0, 3_000)
    it.revoke()
    await it.pause(0, 3_000)
    it.net.up = True


async def answer_lost(it: History) -> None:
    """The relay takes the outbox, and that it did is never heard: the device waits no longer than it may."""
    it.net.lose = lambda data: isinstance(frames.read_from_relay(data), frames.HandedOver)
    it.revoke()


async def lapsed(it: History) -> None:
    """Offline until the lease lapsed: the cache is locked, and the first thing the device hears is its end."""
    it.net.up = False
    it.cut()
    await it.pause(13 * 3_600, 20 * 3_600)
    it.revoke()
    await it.pause(0, 3_000)
    it.net.up = True


async def new_identity_key(it: History) -> None:
    """While the device is offline the hospital takes another identity key, and it is that which signs its end."""
    it.net.up = False
    it.cut()
    await it.pause(0, 3_000)
    it.net.take_new_identity_key()
    it.revoke()
    await it.pause(0, 3_000)
    it.net.up = True


async def new_identity_key_and_lapsed(it: History) -> None:
    """The same, and nothing of the device is open any more when it hears of both at once."""
    it.net.up = False
    it.cut()
    await it.pause(13 * 3_600, 20 * 3_600)
    it.revoke()
    it.net.take_new_identity_key()
    await it.pause(0, 3_000)
    it.net.up = True


async def device_restarted(it: History) -> None:
    """The device was off when it was revoked, and is switched on later."""
    held = it.tablet.life
    assert held is not None
    it.running = False
    await keeper.close(held)
    it.revoke()
    await it.pause(0, 3_000)
    await it.tablet.begin(held.keys, it.wiped)
    it.running = True


KINDS: tuple[Callable[[History], Awaitable[None]], ...] = (
    push_delivered,
    without_hand_over,
    relay_does_not_notice,
    push_lost,
    half_open_before,
    relay_hangs,
    relay_killed_before,
    relay_killed_after,
    relay_restarts_often,
    network_flaps,
    relay_disk_full,
    relay_disk_full_again,
    asleep,
    asleep_in_the_middle,
    offline,
    answer_lost,
    lapsed,
    new_identity_key,
    new_identity_key_and_lapsed,
    device_restarted,
)


# ---- the histories ---------------------------------------------------------------------------------------------------


async def play(kind: Callable[[History], Awaitable[None]], seed: int, folder: Path) -> History:
    """Plays one history to its end, and checks what holds of every one."""
    random = Random(f"{kind.__name__}{seed}")
    net = Net(virtual_world(seed), delay_s=random.uniform(0.001, 0.5))
    tablet = Tablet(net, folder, seed)
    it = History(net, tablet, random)
    keys, it.device = await tablet.enrolled()
    held = await tablet.begin(keys, it.wiped)
    await it.pause(5, 200)
    assert held.engine is not None
    grant = Grant(f"bo/{it.device}", "bo", "Bo", it.device, (Role.NURSE,), ("ward-a",), 0, T0 + 99 * HOUR)
    held.engine.use(grant)
    if random.random() < 0.7:
        net.up = False  # so that something is queued
        it.cut()
        await it.pause(1, 30)
        for note in range(random.randrange(1, 12)):
            await administer(held.engine, note)
        net.up = True
        await it.pause(0, 5)
    going_wrong = asyncio.ensure_future(kind(it))
    async with asyncio.timeout(100_000):
        await it.wiped.wait()
    await going_wrong
    assert it.counting is not None
    await it.counting
    await asyncio.sleep(60)
    assert tablet.life is not None
    assert tablet.life.wiped
    assert tablet.life.engine is None
    assert sorted(path.name for path in folder.iterdir()) == []
    await keeper.close(tablet.life)
    return it


def run_virtual(kind: Callable[[History], Awaitable[None]], seed: int, folder: Path) -> History:
    """One history in a loop of virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(play(kind, seed, folder))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_revoked_device_is_wiped_within_five_minutes_of_online_time(
    kind: Callable[[History], Awaitable[None]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    monkeypatch.setattr(life, "open_or_salvage", open_inline)
    monkeypatch.setattr(life, "_verify", verify_inline)
    found = []
    for seed in range(HISTORIES):
        folder = tmp_path / str(seed)
        folder.mkdir()
        it = run_virtual(kind, seed, folder)
        assert it.online_s <= WIPE_DEADLINE_S, f"seed {seed}: {it.online_s:.1f} s of online time"
        status = revocation.status(it.net.setting.db, it.device, [])
        assert status.wiped_at is not None, f"seed {seed}: the operator never hears of the wipe"
        found.append((it.online_s, status.handed_over))
    times = sorted(online for online, _ in found)
    record_property("online_s", times)
    middle, most = times[len(times) // 2], times[-1]
    print(
        f"{kind.__name__}: {len(times)} histories, online seconds from revocation to wipe: median {middle:.1f}, "
        f"most {most:.1f}; handed over {sum(count for _, count in found)} statements"
    )
