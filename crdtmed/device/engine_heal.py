"""What a device does about its own troubles: an old or copied store, a wrong clock, an update that nobody can read."""

import asyncio
from collections.abc import Sequence
from typing import Final

from crdtmed import clock, statement
from crdtmed.device import engine_say, inbox, store
from crdtmed.device.engine_core import Core, to_its_end
from crdtmed.device.engine_types import STATE_OF, Alarm, NeedsRelay, State
from crdtmed.device.outbox import Item, Phase
from crdtmed.device.store import Said
from crdtmed.device.store_database import Connection, StoreError
from crdtmed.documents import is_request
from crdtmed.limits import CHALLENGE_MS
from crdtmed.statement import SignedStatement

BLAMELESS: Final = frozenset(
    {
        "bye",
        "shutting_down",
        "closing",
        "replaced",
        "not_committed",
        "not_read",
        "handshake_timeout",
        "too_many_subscriptions",
        "too_many_frames",
        "too_many_in_flight",
        "too_many_challenges",
        "too_many_connections",
        "superseded",
        "not_authenticated",
        "revoked",
        "out_of_turn",
        "busy",
        "slow",
        "idle",
        "timeout",
        "internal",
    }
)
"""Codes with which the relay ends a conversation that say nothing about what was pushed."""

STRIKES: Final = 2
"""So often the relay must have closed the conversation over a statement alone before it is set aside."""


async def number_above(core: Core, number: int, why: str) -> None:
    """Takes a fresh range of numbers above ``number``, and signs again what is unsent: this store is not the newest.

    Its numbers may have been given out by another copy, so none of them is used twice.  Ids stay, so that nothing
    that the relay has already is doubled.
    """
    await to_its_end(_number_above(core, number))
    await core.alarm("store_older", why)


async def _number_above(core: Core, number: int) -> None:
    async with core.saying:
        items = [item for item in _in_order(core) if item.phase is not Phase.JUDGED]
        said: list[Said] = []
        for item in items:
            number += 1
            signed = engine_say.signed_again(core, item.said.signed, number=number)
            said.append(Said(signed, item.said.said_at, item.said.bundle))
        old = [item.said.number for item in items]
        await core.ports.database.run(lambda connection: store.replace(connection, old, said, number, core.stamp))
        core.number = number
        for item, again in zip(items, said, strict=True):
            core.outbox.replace(item, again)


async def read_anew(core: Core) -> None:
    """Memory goes back to what the store has; raises `StoreError` where that cannot be read, and changes nothing then.

    What is in the store and was never handed back stays to be handed back: no conversation begins before this is done.
    """
    opened, lacking = await core.ports.database.run(
        lambda connection: (store.open_store(connection, core.ports.device), store.hand_backs(connection))
    )
    core.rows, core.unread = opened.bases, False
    core.handing = shown(lacking)
    for said in opened.outbox:
        item = core.outbox.items.get(said.ref)
        verdict = opened.verdicts.get(said.ref)
        if item is not None and item.verdict is not None and item.verdict.final and verdict is None:
            core.outbox.remove(said.ref)
            core.outbox.add(said)
            core.judged.discard(said.ref)
    for ref in core.judged:
        # What was written after all, though whoever waited for the transaction had gone.
        judged = core.outbox.items[ref].verdict
        if judged is not None:
            core.settle(ref, STATE_OF[judged.status])


def shown(lacking: Sequence[tuple[str, str, bytes]]) -> dict[str, dict[str, SignedStatement]]:
    """What is to be handed back (document, reference, bytes), and shown as tentative meanwhile, by its target."""
    found: dict[str, dict[str, SignedStatement]] = {}
    for _, ref, data in lacking:
        signed = statement.decode(data)
        if not is_request(signed.statement.kind):
            found.setdefault(signed.statement.document, {})[ref] = signed
    return found


async def restamp(core: Core, refs: Sequence[str]) -> None:
    """Signs statements again with the relay's time, in order; their stamps were too far ahead of it."""
    await to_its_end(_restamp(core, refs))


async def _restamp(core: Core, refs: Sequence[str]) -> None:
    async with core.saying:
        now = core.relay_now()
        if clock.is_ahead(core.stamp, now):
            core.stamp = clock.stamp(now)
        stamp = core.stamp
        items = [item for item in _in_order(core) if item.statement.ref in refs and item.phase is Phase.WAITING]
        said: list[Said] = []
        for item in items:
            stamp = clock.next_stamp(stamp, now)
            said.append(Said(engine_say.signed_again(core, item.said.signed, stamp=stamp), *_when(item)))
        await _replace(core, items, said, stamp)


async def _replace(core: Core, items: Sequence[Item], said: Sequence[Said], stamp: clock.Stamp) -> None:
    if not items:
        return
    old = [item.said.number for item in items]
    await core.ports.database.run(lambda connection: store.replace(connection, old, said, core.number, stamp))
    core.stamp = stamp
    for item, again in zip(items, said, strict=True):
        core.outbox.replace(item, again)


def keep_challenges_fresh(core: Core) -> None:
    """What waits for others in the conversation that it was said in gets a new challenge before its own is spent."""
    now = core.ports.now_ms()
    for item in core.outbox.challenged():
        conversation, given = item.challenged
        if conversation == core.conversation and now - given > CHALLENGE_MS // 2:
            item.stale = True
        if item.stale and item.not_before <= now:
            _begin_anew(core, item)


def _begin_anew(core: Core, item: Item) -> None:
    """Begins to sign a statement again under a fresh challenge; it waits until that is done."""
    if not item.renewing:
        item.renewing = True
        task = asyncio.ensure_future(_challenge_anew(core, item))
        core.tasks.add(task)
        task.add_done_callback(core.tasks.discard)


async def _challenge_anew(core: Core, item: Item) -> None:
    try:
        challenge = await engine_say.challenge(core, item.statement.kind)
        async with core.saying:
            if core.outbox.items.get(item.statement.ref) is item and item.phase is Phase.WAITING:
                signed = engine_say.signed_again(core, item.said.signed, challenge=challenge)
                await _replace(core, [item], [Said(signed, *_when(item))], core.stamp)
                item.challenged = (core.conversation, core.ports.now_ms())
    except (NeedsRelay, StoreError):
        return  # nothing has changed; it is tried again, at the latest in the next conversation
    finally:
        item.renewing = False
    core.wake()


def renew_challenges(core: Core) -> None:
    """After the relay was away: what needs it gets a fresh challenge where it was said just now.

    Older ones go as they are: they get the verdict that they had, or are refused, and their author does it again
    knowing what time it is.
    """
    now = core.ports.now_ms()
    for item in core.outbox.challenged():
        item.stale = now - item.said.said_at < CHALLENGE_MS


async def blame(core: Core, code: str, says: str, flying: Sequence[Item]) -> None:
    """The relay closed the conversation, perhaps over something that was ``flying``.

    What was under way travels alone from now on, one at a time; what is alone and closes it again is set aside, whole,
    in the inbox.
    """
    if code in BLAMELESS or not flying:
        return
    core.outbox.careful = True
    if len(flying) > 1 or not flying[0].alone:
        for item in flying:
            item.alone = True
        return
    item = flying[0]
    item.strikes += 1
    if item.strikes < STRIKES:
        core.writers.pop(item.document or "", None)
        return
    await to_its_end(_set_aside(core, item, f"the relay could not read it ({code}: {says}) and never judged it"))


async def _set_aside(core: Core, item: Item, says: str) -> None:
    now, signed = core.ports.now_ms(), item.said.signed

    def work(connection: Connection) -> int:
        inbox.put(connection, inbox.SET_ASIDE, says, now, signed)
        store.remove(connection, [signed.statement.number])
        return inbox.count(connection)

    core.inbox_open = await core.ports.database.run(work)
    core.outbox.remove(signed.statement.ref)
    core.writers.pop(item.document or "", None)
    core.settle(signed.statement.ref, State.SET_ASIDE)
    core.tell(Alarm(inbox.SET_ASIDE, f"{signed.statement.ref}: {says}"))
    core.changed(signed.statement.document)


def be_careful(core: Core) -> None:
    """Ends the one-at-a-time mode when nothing that is alone waits any more."""
    if core.outbox.careful:
        core.outbox.careful = any(item.alone for item in core.outbox.waiting()) or bool(core.outbox.in_flight)


def _in_order(core: Core) -> list[Item]:
    return sorted(core.outbox.items.values(), key=lambda item: item.said.number)


def _when(item: Item) -> tuple[int, int]:
    return item.said.said_at, item.said.bundle
