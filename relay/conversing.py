"""What a conversation asks for besides judging and documents: leases, sign-ins, verdicts, hand-overs, revocations."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from msgspec import structs

from crdtmed.limits import MAX_QUESTIONS
from crdtmed.signed import Certificate
from crdtmed.wire import frames
from relay.admission.facts import KnowledgeAnswer, KnowledgeQuestion
from relay.batch import Batch
from relay.identity.grants import SignInCheck
from relay.identity.port import OutOfService, SignInFailure
from relay.items import HandBack
from relay.jobs import Ask, Read, Slow, Write
from relay.quarantine import hand_over
from relay.reading import Reader
from relay.session import State
from relay.session_events import (
    Authenticated,
    DigestAsked,
    Event,
    GivenBack,
    GivenOver,
    Proven,
    RenewAsked,
    RosterAsked,
    Said,
    SignInAsked,
    VerdictsAsked,
    WipeConfirmed,
)

if TYPE_CHECKING:
    from relay.connection import Connection
    from relay.hub import Hub

LOG: Final = logging.getLogger("crdtmed.relay")


def ask(hub: Hub, connection: Connection, event: Event) -> None:
    """Everything a session may ask that is neither a statement nor a subscription; in order, and a few at a time.

    However much one device asks, others' questions wait for `MAX_QUESTIONS` of it and no more.
    """
    if connection.later or connection.asked >= MAX_QUESTIONS:
        connection.later.append(event)
        hub.pause(connection)
    else:
        _answer(hub, connection, event)


def _answered(hub: Hub, connection: Connection) -> None:
    """Something that it asked is done: the next may come."""
    connection.asked -= 1
    while connection.later and connection.asked < MAX_QUESTIONS:
        _answer(hub, connection, connection.later.popleft())
    hub.let_go(connection)


def _answer(hub: Hub, connection: Connection, event: Event) -> None:
    device = connection.device
    match event:
        case Proven():
            _read(hub, connection, lambda reader: reader.identify(device), lambda it: _identified(hub, connection, it))
        case RenewAsked(last_number=number, lease=lease):
            _renew(hub, connection, number, lease, lambda made: _renewed(hub, connection, made))
        case SignInAsked(user=user, password=password, pin=pin):
            _sign_in(hub, connection, user, password, pin)
        case RosterAsked(site=site):
            _write(
                hub,
                connection,
                lambda batch: hub.identity.roster(batch.record.connection, device, site, batch.now_ms, hub.random),
                lambda grants: hub.send(connection, frames.Roster(site, grants)),
            )
        case VerdictsAsked(refs=refs):
            once = tuple(dict.fromkeys(refs))
            _read(
                hub,
                connection,
                lambda reader: reader.verdicts(once),
                lambda found: hub.send(connection, frames.Verdicts(hub.now_ms, tuple(found))),
            )
        case GivenBack():
            _given_back(hub, connection, event)
        case DigestAsked(document=document):
            _digest(hub, connection, document)
        case GivenOver(statements=statements):
            _write(
                hub,
                connection,
                lambda batch: hand_over(batch, device, connection.public, statements),
                lambda done: hub.send(connection, frames.HandedOver(done.taken, done.refused)),
            )
        case WipeConfirmed(at=at, last_number=number, signature=signature):
            _write(
                hub,
                connection,
                lambda batch: hub.identity.wiped(batch.record.connection, device, at, number, signature, batch.now_ms),
                lambda done: hub.close(connection, "wiped" if done else "wipe_not_proven", "the wipe is on record"),
            )
        case _:
            raise AssertionError(f"nobody answers {type(event).__name__}")


def _given_back(hub: Hub, connection: Connection, event: GivenBack) -> None:
    back = HandBack(connection.id, connection.device, event.document, event.said)
    authors = sorted({one.signed.statement.device for one in event.said})

    def known(found: dict[str, Certificate | None]) -> None:
        publics = {device: held.signing for device, held in found.items() if held is not None}
        hub.judge(connection, back, publics)

    _read(hub, connection, lambda reader: reader.certificates(authors), known)


def _identified(hub: Hub, connection: Connection, found: Any) -> None:
    certificate, revocation, may_hand_over = found
    if connection.id not in hub.connections:
        return
    if certificate is not None:
        connection.public = certificate.signing
    events = connection.session.identified(certificate)
    if revocation is not None and connection.session.state is State.JUDGING:
        hub.proved(connection)
        connection.session.revoke(revocation[1], may_hand_over)
        hub.flush(connection)
        return
    hub.events(connection, events)


def begin(hub: Hub, connection: Connection, it: Authenticated) -> None:
    """A lease, then the welcome."""

    def then(made: tuple[bytes, int]) -> None:
        connection.looked_ms = hub.now_ms
        connection.session.welcome(hub.now_ms, made[0], made[1])
        hub.flush(connection)

    _renew(hub, connection, it.last_number, it.lease, then)


def _renew(
    hub: Hub, connection: Connection, number: int, lease: int, then: Callable[[tuple[bytes, int]], None]
) -> None:
    device = connection.device

    def run(batch: Batch) -> tuple[bytes, int] | None:
        db = batch.record.connection
        try:
            renewed = hub.identity.renew(db, device, number, lease, batch.now_ms, hub.random)
        except OutOfService:
            return None
        for says in renewed.alarms:
            batch.alarm("device_marks", device, says)
        return renewed.lease, batch.record.last_number(device)

    def done(made: tuple[bytes, int] | None) -> None:
        if made is None:
            check_revocations(hub)
        elif connection.id in hub.connections:
            then(made)

    _write(hub, connection, run, done)


def _renewed(hub: Hub, connection: Connection, made: tuple[bytes, int]) -> None:
    hub.send(connection, frames.LeaseGiven(hub.now_ms, made[0]))
    look(hub, connection)


def look(hub: Hub, connection: Connection) -> None:
    """Looks whether what a device subscribes to is still for it: grants lapse, and patients move."""
    connection.looked_ms = hub.now_ms
    held = tuple(hub.fanout.at.get(connection.id, ()))
    if held:
        device = connection.device
        _read(
            hub,
            connection,
            lambda reader: reader.refusals(device, held),
            lambda refused: _evict(hub, connection, refused),
        )


def _evict(hub: Hub, connection: Connection, refused: dict[str, str]) -> None:
    hub.fanout.unwant(connection.id, refused)
    for document, code in refused.items():
        hub.send(connection, frames.Evicted(document, code))


def _sign_in(hub: Hub, connection: Connection, user: str, password: str, pin: str | None) -> None:
    device, identity = connection.device, hub.identity

    def failed(failure: SignInFailure) -> None:
        hub.send(connection, frames.SignInFailed(user, failure.code))

    def told(granted: bytes | SignInFailure) -> None:
        if isinstance(granted, SignInFailure):
            failed(granted)
        else:
            hub.send(connection, frames.SignedIn(granted))

    def begun(check: SignInCheck | SignInFailure) -> None:
        if isinstance(check, SignInFailure):
            failed(check)
            return
        _slow(
            hub,
            connection,
            check.run,
            lambda checked: _write(
                hub,
                connection,
                lambda batch: identity.sign_in_finish(batch.record.connection, checked, batch.now_ms, hub.random),
                told,
            ),
        )

    _write(
        hub,
        connection,
        lambda batch: identity.sign_in_begin(batch.record.connection, device, user, password, pin, hub.random),
        begun,
    )


def _digest(hub: Hub, connection: Connection, document: str) -> None:
    def then(digest: bytes | None) -> None:
        if digest is not None:
            hub.send(connection, frames.DigestGiven(digest))

    if hub.fanout.wants(connection.id, document):
        _read(hub, connection, lambda reader: reader.digest(document), then)


def _write(hub: Hub, connection: Connection, run: Callable[[Batch], Any], then: Callable[[Any], None]) -> None:
    hub.writes.append(Write(run, _under_way(hub, connection, then), _in_vain(hub, connection, _undone)))


def _read(hub: Hub, connection: Connection, run: Callable[[Reader], Any], then: Callable[[Any], None]) -> None:
    hub.reads.append(Read(run, _under_way(hub, connection, then), _in_vain(hub, connection, unread)))


def _slow(hub: Hub, connection: Connection, run: Callable[[], Any], then: Callable[[Any], None]) -> None:
    hub.slow.append(Slow(run, _under_way(hub, connection, then), _in_vain(hub, connection, _undone)))


def _under_way(hub: Hub, connection: Connection, then: Callable[[Any], None]) -> Callable[[Any], None]:
    """A part of what a device asks: counted from now until it is done and has asked for what follows."""
    connection.asked += 1

    def done(result: Any) -> None:
        then(result)
        _answered(hub, connection)

    return done


def _in_vain(
    hub: Hub, connection: Connection, ends: Callable[[Hub, Connection, Exception], None]
) -> Callable[[Exception], None]:
    """The same part where it fails: it is under way no more, and ``ends`` says why the conversation is over."""

    def failed(error: Exception) -> None:
        connection.asked -= 1
        ends(hub, connection, error)

    return failed


def _undone(hub: Hub, connection: Connection, error: Exception) -> None:
    """What a device asked for was not done: it connects anew and asks again."""
    hub.close(connection, "not_committed", f"the relay could not do that ({type(error).__name__}): try again")


def unread(hub: Hub, connection: Connection, error: Exception) -> None:
    """What a device asked for could not be read: it connects anew and asks again."""
    hub.close(connection, "not_read", f"the relay could not read its record ({type(error).__name__}): try again")


def with_knowledge(hub: Hub, connection: Connection, said: Said, ready: Callable[[Said], None]) -> None:
    """Asks the knowledge base about a request before it is judged, where there is something to ask."""

    def answered(given: KnowledgeAnswer) -> None:
        ready(structs.replace(said, answer=given))

    def asked(question: KnowledgeQuestion | None) -> None:
        if question is None:
            ready(said)
        else:
            hub.asks.append(Ask(question, answered))

    _read(hub, connection, lambda reader: reader.question(said), asked)


def check_revocations(hub: Hub) -> None:
    """Tells connected devices that are out of service so; what they subscribed to ends."""
    devices = tuple(hub.devices)

    def then(revoked: dict[str, tuple[bytes, bool]]) -> None:
        for device, (register, may_hand_over) in revoked.items():
            connection = hub.devices.get(device)
            if connection is not None and connection.session.state in (State.OPEN, State.JUDGING):
                hub.fanout.leave(connection.id)
                connection.wants.clear()
                connection.session.revoke(register, may_hand_over)
                hub.flush(connection)

    if devices:
        hub.reads.append(Read(lambda reader: reader.revoked(devices), then, unread_all))


def unread_all(error: Exception) -> None:
    """Nobody in particular asked: the next change, or the next renewal, looks again."""
    LOG.error("reading the record failed", exc_info=error)
