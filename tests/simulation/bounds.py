"""That memory is bounded: what relay and devices keep is within the limits, all the time, and nothing is left over.

Some histories are played with limits so small that they are always in force.
"""

from typing import TYPE_CHECKING

from crdtmed.limits import (
    KEPT_VIEWS,
    MAX_CHALLENGES,
    MAX_CONNECTIONS,
    MAX_FRAME_BYTES,
    MAX_INBOX_BYTES,
    MAX_INBOX_ENTRIES,
    MAX_NOTES,
    MAX_OUTBOX_STATEMENTS,
    MAX_PUSHES_IN_FLIGHT,
    MAX_SUBSCRIPTIONS,
    MAX_UNAUTHENTICATED_CONNECTIONS,
)

if TYPE_CHECKING:
    from relay.jobs import Judge
    from tests.simulation.history import History
    from tests.simulation.tablet import Tablet


def within(it: "History") -> None:
    """Looks at everything that could grow; called every few seconds of a history."""
    if it.relay.service is not None:
        _relay(it)
    for tablet in it.tablets.values():
        if tablet.works:
            _device(it, tablet)


def _relay(it: "History") -> None:
    service = it.relay.service
    assert service is not None
    hub, live, reader = service.hub, service._writer.live, service._reader
    lines = sum(line.relay_open for line in it.relay.lines)
    sessions = [each.session for each in hub.connections.values()]
    sizes = {
        "connections": (len(hub.connections), min(lines, MAX_CONNECTIONS)),
        "connections that have not said who they are": (len(hub.strangers), MAX_UNAUTHENTICATED_CONNECTIONS),
        "devices": (len(hub.devices), len(it.tablets)),
        "subscribers": (len(hub.fanout.at), len(hub.connections)),
        "subscriptions": (max((len(at) for at in hub.fanout.at.values()), default=0), MAX_SUBSCRIPTIONS),
        "bytes to be judged": (hub.inbox_bytes, MAX_INBOX_BYTES + MAX_FRAME_BYTES * len(hub.connections)),
        "notes": (len(hub.notes), MAX_NOTES),
        "challenges": (max((len(one._challenges) for one in sessions), default=0), MAX_CHALLENGES),
        "pushes in flight": (max((one.in_flight for one in sessions), default=0), MAX_PUSHES_IN_FLIGHT),
        "documents": (len(live.documents), it.plan.live_documents),
        "authors": (len(live.authors), it.plan.live_documents),
        "free numbers": (max((len(one.free) for one in live.authors.values()), default=0), it.plan.live_documents),
        "what identity said": (live.known.count, it.plan.live_documents),
        "registers": (len(live.registers), it.plan.live_registers),
        "bytes of bases": (reader._held, it.plan.base_cache),
        "items whose signatures are to be checked": (len(hub.checks), len(hub.inbox)),
        "processes that check signatures": (len(service.verifiers.all), it.plan.help.processes),
    }
    _told(it, "the relay", sizes)
    _goes_on(it, hub.inbox[0] if hub.inbox else None)


def _goes_on(it: "History", first: "Judge | None") -> None:
    """What was the first to be judged seconds ago is so no longer, whatever others do whom the relay has asked."""
    stands = it.looking.get("first") is first
    if first is not None and stands:
        it.witness.complain(f"the relay has not judged {first.item} for seconds, and nothing is before it")
    it.looking["first"] = first


def _device(it: "History", tablet: "Tablet") -> None:
    core = tablet.engine.core
    stay = core.dirty | core.newly_verified
    idle = sum(not held.unverified and name not in stay for name, held in core.held.items())
    places = core.session.places if core.session is not None else {}
    sizes = {
        "statements in its outbox": (len(core.outbox), MAX_OUTBOX_STATEMENTS),
        "entries in its inbox": (core.inbox_open, MAX_INBOX_ENTRIES),
        "pushes in flight": (core.outbox.in_flight, core.pushes_in_flight),
        # What is not verified yet, or not in its store, stays; so do the document that came last, and the directory.
        "documents": (idle, it.plan.live_documents + 2),
        "views": (len(core.shown), KEPT_VIEWS),
        "subscriptions": (len(places), MAX_SUBSCRIPTIONS),
        "judged statements that are in no outbox": (len(core.judged - core.outbox.items.keys()), 0),
        "writers of documents that nobody asked for": (len(core.writers), 2 * len(core.rows) + len(core.outbox) + 1),
    }
    _told(it, tablet.name, sizes)


def _told(it: "History", who: str, sizes: dict[str, tuple[int, int]]) -> None:
    for what, (size, most) in sizes.items():
        if size > most:
            it.witness.complain(f"{who} keeps {size} {what}, at most {most} are allowed")


def nothing_left(it: "History") -> None:
    """In the end nothing is kept in memory of what is over."""
    service = it.relay.service
    assert service is not None
    hub, online = service.hub, [each for each in it.tablets.values() if each.works]
    if hub.inbox_bytes or hub.inbox or hub.writes or hub.reads or hub.slow or hub.asks or service._asking:
        it.witness.complain("work is left at a relay that nobody asks for anything")
    if any(each.line.open for each in service.verifiers.all):
        it.witness.complain("a process was asked about signatures that nobody waits for, and is left alone with them")
    if len(hub.connections) > len(online) or len(hub.fanout.at) > len(online) or hub.strangers or hub.paused:
        it.witness.complain(f"{len(hub.connections)} connections are left for {len(online)} devices")
    for tablet in online:
        core = tablet.engine.core
        left = {
            "waiters": any(core.waiters.values()),
            "challenges": core.challenges,
            "answers": any(core.answers.values()),
            "tasks": core.tasks,
            "hand-backs": any(core.handing.values()) or core.hand_again,
            "statements": core.found or core.judged,
        }
        if any(left.values()):
            it.witness.complain(
                f"{tablet.name} keeps what is over: {[what for what, is_left in left.items() if is_left]}"
            )
