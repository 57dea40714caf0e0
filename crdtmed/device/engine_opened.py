"""What a conversation begins with: numbers compared, the subset asked for, the past made up for.

And what keeps replicas honest while it lasts: the digest of one document after the other.
"""

from collections.abc import Sequence

from crdtmed.device import engine_bases, engine_heal, engine_revoked, engine_subset, store
from crdtmed.device.engine_bases import Burst
from crdtmed.device.engine_core import Core
from crdtmed.device.engine_types import Alarm, Connected, LeaseCame
from crdtmed.device.session import Opened
from crdtmed.limits import MAX_PUSHES_IN_FLIGHT, MAX_VERDICTS_ASKED, RETRY_MOST_MS
from crdtmed.signed import DocumentDigest, Forged, unseal
from crdtmed.wire import frames as wire


async def opened(core: Core, burst: Burst, event: Opened) -> None:
    """The relay is proved, and this device to it: everything that it missed is asked for."""
    welcome, now = event.welcome, core.ports.now_ms()
    core.relay = event.relay
    core.offset_ms = welcome.now - now
    core.pushes_in_flight = max(1, min(welcome.pushes_in_flight, MAX_PUSHES_IN_FLIGHT))
    core.renew_ms = max(1, welcome.renew_s) * 1_000
    core.renew_at = now + core.renew_ms
    core.renewals_unanswered = 0
    core.welcomed_at = now
    if event.anchor != core.anchor:
        core.anchor = event.anchor
        core.ports.anchored(event.anchor)
    burst.events += [LeaseCame(welcome.lease, welcome.now), Connected()]
    if welcome.last_number > core.number:
        await engine_heal.number_above(
            core,
            welcome.last_number,
            f"the relay has statement {welcome.last_number} of this device, this store goes up to {core.number}: "
            "it is an older copy, or another copy is in use; what is unsent was numbered anew",
        )
    engine_heal.renew_challenges(core)
    await engine_subset.follow_queues(core)
    await engine_subset.purge_unwanted(core)
    core.withdrawn.clear()
    core.sync_total = 0
    engine_subset.ask(core)
    core.flush_total = len(core.outbox)
    await _speak_of_the_past(core, now)


async def _speak_of_the_past(core: Core, now: int) -> None:
    """Asks for verdicts that were missed, and hands back what a new epoch lacked."""
    session = core.session
    if session is None:
        return
    found = sorted(core.found & core.outbox.items.keys())
    for start in range(0, len(found), MAX_VERDICTS_ASKED):
        session.say(wire.AskVerdicts(tuple(found[start : start + MAX_VERDICTS_ASKED])))
    for ref in found:
        core.outbox.items[ref].not_before = now + RETRY_MOST_MS // 6
    core.hand_again.clear()
    core.coming.clear()
    core.hand_attempts = 0
    rows = await core.ports.database.run(store.hand_backs)
    for name, lacking in engine_bases.in_order(rows):
        hand_back(core, name, lacking)


async def hand_back_again(core: Core) -> None:
    """Hands back once more, when it is time, what the relay could not judge the last time."""
    if not core.hand_again or core.ports.now_ms() < core.hand_again_at:
        return
    again, core.hand_again = core.hand_again, set()
    rows = [row for row in await core.ports.database.run(store.hand_backs) if row[1] in again]
    for name, lacking in engine_bases.in_order(rows):
        hand_back(core, name, lacking)


def hand_back(core: Core, name: str, statements: Sequence[bytes]) -> None:
    """Hands statements of an old epoch back, in frames that the relay takes."""
    session = core.session
    if session is None:
        return
    for chunk in engine_revoked.in_frames(statements):
        session.say(wire.HandBack(name, chunk))


def ask_a_digest(core: Core) -> None:
    """Asks for the digest of one live document after the other, so that replicas that differ are found."""
    session = core.session
    live = [name for name in core.held if session is not None and session.is_live(name)]
    if session is not None and live:
        session.say(wire.AskDigest(live[core.number_of_digests % len(live)]))
        core.number_of_digests += 1


async def compare(core: Core, burst: Burst, data: bytes) -> None:
    """Holds a document against the relay's digest; one that differs is told, and taken anew."""
    if core.relay is None:
        return
    try:
        digest = unseal(DocumentDigest, data, core.relay.public)
    except Forged as error:
        burst.alarms.append(Alarm("forged", f"a digest: {error.says}"))
        return
    held = core.held.get(digest.document)
    if held is None or (held.replica.epoch, held.replica.position) != (digest.epoch, digest.position):
        return
    if held.replica.digest() != digest.content:
        says = f"{digest.document} differs from the relay's at position {digest.position}; it is taken anew"
        burst.alarms.append(Alarm("diverged", says))
        await core.forget(digest.document)
