"""Reconciliation sessions: one open session a patient; where two were opened, both are entered in error.

The outcome does not depend on the order in which concurrent openings arrive: as long as nobody has started the one new
session that takes their place, every further opening that does not name any of them joins them.
"""

from collections.abc import Sequence

from msgspec import structs

from crdtmed.aggregates.reconciliation_session import Complete, Open, Record, SessionItem, SessionRegister, recorded
from crdtmed.aggregates.reconciliation_session import SessionStatus as Standing
from crdtmed.codec import encode
from crdtmed.limits import MAX_RESTARTED_SESSIONS, MAX_SESSION_BYTES
from crdtmed.reasons import ContentInvalid, Reason, SessionDiverged, SessionStatus
from relay.admission import claim
from relay.admission.conflicts import closed, conflict, turned_down
from relay.admission.effects import Decision, Effect, Put, accept, also
from relay.admission.facts import FactsPort, Submission


def _patient(submission: Submission) -> str:
    patient = claim.scope_id(submission.statement.document, "patient")
    assert patient is not None, "the gates let nothing else through"
    return patient


def _sessions(port: FactsPort, patient: str) -> tuple[SessionRegister, ...]:
    found = port.registers(f"patient/{patient}", "session")
    return tuple(each for each in found if isinstance(each, SessionRegister))


def _opened(submission: Submission, said: Open, status: Standing) -> SessionRegister:
    return SessionRegister(
        id=said.session,
        patient=_patient(submission),
        status=status,
        opened_by=submission.ref,
        opened_by_user=claim.user(submission),
        opened_at=submission.judged_at,
        version=1,
        items=tuple(SessionItem(medicine) for medicine in said.home_medications),
    )


def open_session(port: FactsPort, submission: Submission) -> Decision:
    """Judges the opening of a session."""
    said, patient = submission.content, _patient(submission)
    assert isinstance(said, Open), "the gates let nothing else through"
    sessions = _sessions(port, patient)
    reason = _bad_restart(said, sessions)
    if reason is not None:
        return turned_down(port, submission, reason)
    running = next((each for each in sessions if each.status is Standing.IN_PROGRESS), None)
    lost = tuple(each for each in sessions if each.status is Standing.ENTERED_IN_ERROR and each.restarted_by is None)
    if running is not None:
        return _diverged(port, submission, said, running)
    named = [each for each in lost if each.id in said.restarts]
    if said.restarts and not named:
        return _late(port, submission, said, _restart_of(said, sessions))
    if lost and not named:
        return _joins(port, submission, said, lost[0])
    return _started(port, submission, said, lost)


def _bad_restart(said: Open, sessions: Sequence[SessionRegister]) -> Reason | None:
    """The session is new, and takes the place of sessions of this patient that were entered in error."""
    by_id = {each.id: each for each in sessions}
    if said.session in by_id:
        return SessionStatus(said.session, by_id[said.session].status)
    for name in said.restarts:
        if name not in by_id:
            return ContentInvalid("restarts", f"names {name}, which is no session of this patient; leave it out")
        if by_id[name].status is not Standing.ENTERED_IN_ERROR:
            return SessionStatus(name, by_id[name].status)
    return None


def _restart_of(said: Open, sessions: Sequence[SessionRegister]) -> str:
    """The session that was started already in the place of those that ``said`` names."""
    by_id = {each.id: each for each in sessions}
    return next(by_id[name].restarted_by or "" for name in said.restarts)


def _diverged(port: FactsPort, submission: Submission, said: Open, running: SessionRegister) -> Decision:
    """A second opening: both are entered in error, but for a restart that the second had not seen: that one stands."""
    if running.restarts and running.opened_by not in submission.statement.seen:
        return _late(port, submission, said, running.id)
    ref = submission.ref
    stopped = structs.replace(running, status=Standing.ENTERED_IN_ERROR, status_by=ref, version=running.version + 1)
    decision = _joins(port, submission, said, running)
    return also(decision, Put(f"patient/{running.patient}", stopped))


def _joins(port: FactsPort, submission: Submission, said: Open, other: SessionRegister) -> Decision:
    """This opening is entered in error too, and waits with the others for the one new session."""
    own = structs.replace(_opened(submission, said, Standing.ENTERED_IN_ERROR), status_by=submission.ref)
    decision = turned_down(port, submission, SessionDiverged(said.session, other.id))
    return also(decision, Put(f"patient/{own.patient}", own))


def _late(port: FactsPort, submission: Submission, said: Open, restart: str) -> Decision:
    """This opening alone is entered in error: the one new session was started already, and stands for it too."""
    ref = submission.ref
    own = structs.replace(
        _opened(submission, said, Standing.ENTERED_IN_ERROR), status_by=ref, restarted_by=restart or None
    )
    decision = turned_down(port, submission, SessionDiverged(said.session, restart))
    return also(decision, Put(f"patient/{own.patient}", own))


def _started(port: FactsPort, submission: Submission, said: Open, lost: tuple[SessionRegister, ...]) -> Decision:
    """The session is open.  It stands for every session that was lost before it, named or not yet seen.

    Those not named are added to ``restarts`` as far as it holds them; each says itself what stands for it.
    """
    others = [each.id for each in lost if each.id not in said.restarts]
    names = (*said.restarts, *others)[:MAX_RESTARTED_SESSIONS]
    own = structs.replace(_opened(submission, said, Standing.IN_PROGRESS), restarts=tuple(sorted(names)))
    effects: list[Effect] = [Put(f"patient/{own.patient}", own)]
    for each in lost:
        after = structs.replace(each, restarted_by=own.id, version=each.version + 1)
        effects.append(Put(f"patient/{own.patient}", after))
        found = conflict(port, submission.statement.document, each.opened_by)
        if found is not None and found.open:
            effects.extend(closed(found, submission.ref))
    return accept(*effects)


def _session(port: FactsPort, patient: str, name: str) -> SessionRegister | None:
    found = port.register(f"patient/{patient}", f"session/{name}")
    return found if isinstance(found, SessionRegister) else None


def _not_open(register: SessionRegister | None, name: str) -> Reason | None:
    if register is not None and register.status is Standing.IN_PROGRESS:
        return None
    return SessionStatus(name, register.status if register is not None else "unknown")


def record(port: FactsPort, submission: Submission) -> Decision:
    """Judges a decision on one home medicine of an open session."""
    said, patient = submission.content, _patient(submission)
    assert isinstance(said, Record), "the gates let nothing else through"
    register = _session(port, patient, said.session)
    reason = _not_open(register, said.session)
    after = recorded(register, said, submission.ref) if register is not None and reason is None else None
    if reason is None and after is None:
        reason = ContentInvalid("medicine", f"is {said.medicine!r}, which the session does not have; open one with it")
    if after is not None and len(encode(after)) > MAX_SESSION_BYTES:
        reason = ContentInvalid("note", "is more than the session can hold; shorten it")
    if reason is not None or after is None:
        return turned_down(port, submission, reason or SessionStatus(said.session, "unknown"))
    return accept(Put(f"patient/{patient}", after))


def complete(port: FactsPort, submission: Submission) -> Decision:
    """Judges the completion of an open session."""
    said, patient = submission.content, _patient(submission)
    assert isinstance(said, Complete), "the gates let nothing else through"
    register = _session(port, patient, said.session)
    reason = _not_open(register, said.session)
    if reason is not None or register is None:
        return turned_down(port, submission, reason or SessionStatus(said.session, "unknown"))
    after = structs.replace(register, status=Standing.COMPLETED, status_by=submission.ref, version=register.version + 1)
    return accept(Put(f"patient/{patient}", after))
