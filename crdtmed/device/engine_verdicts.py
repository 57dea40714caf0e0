"""Verdicts: what becomes of what this device said."""

from collections.abc import Sequence

import msgspec

from crdtmed import clock, statement
from crdtmed.codec import Undecodable
from crdtmed.contract import Kind, needs_challenge
from crdtmed.device import inbox, store
from crdtmed.device.engine_bases import Burst
from crdtmed.device.engine_core import Core
from crdtmed.device.engine_types import Alarm, VerdictCame
from crdtmed.device.outbox import Item, Phase, back_off
from crdtmed.device.store_database import Connection
from crdtmed.documents import is_request
from crdtmed.reasons import Awaits, Busy, Reason, SegmentClosed, code_of
from crdtmed.verdict import Flag, Status, Verdict, decode_verdict


def take(core: Core, burst: Burst, verdicts: Sequence[bytes]) -> list[Verdict]:
    """Takes verdicts in; gives those that are final, for `write`."""
    final: list[Verdict] = []
    for data in verdicts:
        try:
            verdict = decode_verdict(data)
        except Undecodable as error:
            burst.alarms.append(Alarm("unreadable", f"the relay sent no verdict: {error.says}"))
            continue
        item = core.outbox.items.get(verdict.ref)
        if verdict.final:
            burst.judged_back[verdict.ref] = verdict
            if item is None or item.phase is not Phase.JUDGED:
                final.append(verdict)
            if item is not None:
                _judged(core, burst, item, verdict)
        elif item is None:
            _hand_again(core, verdict.ref)
        elif item.phase is not Phase.JUDGED:
            _again(core, burst, item, verdict)
        if verdict.ref.startswith(f"{core.ports.device}."):
            burst.events.append(VerdictCame(verdict))
    return final


def write(core: Core, final: Sequence[Verdict], connection: Connection) -> bool:
    """Keeps final verdicts, and puts into the inbox what a person must look at; the caller's transaction carries it.

    Gives whether the inbox may have changed.
    """
    now = core.ports.now_ms()
    own = [verdict for verdict in final if verdict.ref.startswith(f"{core.ports.device}.")]
    store.put_verdicts(connection, own, now)
    told = False
    accepted: list[str] = []
    for verdict in own:
        item = core.outbox.items.get(verdict.ref)
        if item is None:
            _judged_anew(connection, verdict, now)
            told = True
            continue
        if verdict.status is not Status.ACCEPTED:
            inbox.put(connection, verdict.code, says(verdict.reason), now, item.said.signed, verdict)
            told = True
            continue
        accepted.append(verdict.ref)
        if is_request(item.statement.kind) or item.statement.kind is Kind.DRAFT_WRITE:
            store.keep_request(connection, item.said.signed, now)
    return inbox.close_of(connection, accepted) or told


def _judged_anew(connection: Connection, verdict: Verdict, now: int) -> None:
    """A statement that had left the outbox was judged again, after the relay was restored."""
    data = store.hand_back_of(connection, verdict.ref)
    if data is None:
        return
    signed = statement.decode(data)
    if verdict.status is not Status.ACCEPTED:
        inbox.put(connection, verdict.code, says(verdict.reason), now, signed, verdict)
        return
    inbox.close_of(connection, [verdict.ref])
    if is_request(signed.statement.kind) or signed.statement.kind is Kind.DRAFT_WRITE:
        # The next relay that is restored may lack it as well.
        store.keep_request(connection, signed, now)


def leaving(core: Core) -> list[Item]:
    """The judged statements whose base has reached their verdict: they are in it, or nowhere, for good."""
    return [item for ref in core.judged if (item := core.outbox.items[ref]) and _has_left(core, item)]


def coming(core: Core, burst: Burst) -> dict[str, Verdict]:
    """The verdicts on statements that were handed back, and that the base has not reached yet.

    Until it does, nothing else here tells of them, and a relay that is restored once more may lack them again.
    """
    shown = [ref for handed in core.handing.values() for ref in handed]
    judged = core.coming | burst.judged_back if shown else {}
    return {
        ref: verdict
        for ref in shown
        if (verdict := judged.get(ref)) is not None
        and verdict.status is not Status.REFUSED
        and not _reached(core, verdict, core.conversation)
    }


def says(reason: Reason | None) -> str:
    """A reason for people: its code in words, and its details."""
    if reason is None:
        return "no reason was given"
    details = {
        name: value
        for name, value in msgspec.structs.asdict(reason).items()
        if isinstance(value, str | int) or (isinstance(value, tuple) and all(isinstance(one, str) for one in value))
    }
    shown = ", ".join(
        f"{name.replace('_', ' ')} {', '.join(value) if isinstance(value, tuple) else value}"
        for name, value in details.items()
    )
    words = code_of(reason).replace("_", " ")
    return f"{words}: {shown}" if shown else words


def _judged(core: Core, burst: Burst, item: Item, verdict: Verdict) -> None:
    core.outbox.judged(item, verdict)
    item.judged_in = core.conversation
    core.judged.add(verdict.ref)
    core.found.discard(verdict.ref)
    burst.changed[item.statement.document] = None
    if Flag.CLOCK_SUSPECT in verdict.flags:
        # Stamps start again from the relay's time, else everything said from now on would be suspect too.
        core.stamp = clock.stamp(core.relay_now())
    if Flag.NUMBER_REUSED in verdict.flags:
        says = f"number {item.said.number} was given out twice: this store is an older copy, or another copy is in use"
        burst.alarms.append(Alarm("store_older", says))


def _hand_again(core: Core, ref: str) -> None:
    """What was handed back has no final verdict yet: it waits for another statement, or the relay for its disk."""
    if not core.hand_again:
        core.hand_again_at = core.ports.now_ms() + back_off(core.hand_attempts, core.jitter())
        core.hand_attempts += 1
    core.hand_again.add(ref)


def _again(core: Core, burst: Burst, item: Item, verdict: Verdict) -> None:
    now = core.ports.now_ms()
    later = now + back_off(item.attempts, core.jitter())
    match verdict.reason:
        case SegmentClosed(segment=segment):
            item.segment = segment
            core.outbox.again(item, verdict, now if item.attempts < 3 else later)
        case Awaits(ref=ref):
            core.outbox.again(item, verdict, later, ref)
        case Busy(after_ms=after):
            core.outbox.not_before = max(core.outbox.not_before, now + int(after * (1 + core.jitter())))
            core.outbox.again(item, verdict, later if item.attempts > 3 else 0)
        case _ if verdict.code == "restamp":
            core.outbox.again(item, verdict, now if item.attempts < 3 else later)
            burst.restamp.append(verdict.ref)
        case _ if verdict.code == "patient_moved":
            core.outbox.again(item, verdict, now if item.attempts < 3 else later)
            item.stale = needs_challenge(item.statement.kind)
        case _:
            core.outbox.again(item, verdict, later)


def _has_left(core: Core, item: Item) -> bool:
    return item.verdict is not None and _reached(core, item.verdict, item.judged_in)


def _reached(core: Core, verdict: Verdict, judged_in: int) -> bool:
    place = core.stands(verdict.document)
    if place is None:
        # Nothing will come of it; but what is wanted is asked for only when the conversation is open.
        return core.session is not None and bool(core.session.places)
    if place.epoch == verdict.epoch:
        return place.position >= verdict.position
    # Without a base the relay has no such document: its first change is on its way, or was lost with a backup.
    return place.live and (verdict.document in core.rows or judged_in != core.conversation)
