"""One statement of a commit: judged, recorded and answered.

A statement that is already on record gets the verdict that it has; any other is what admission says of it.
"""

from crdtmed.limits import RETRY_FIRST_MS
from crdtmed.reasons import Busy
from crdtmed.statement import same
from crdtmed.verdict import FINAL, Status, Verdict, encode_verdict
from relay.admission.admit import admit
from relay.admission.effects import Decision
from relay.admission.facts import Submission, submitted
from relay.applying import apply
from relay.batch import Batch
from relay.items import Outcome
from relay.live import LiveClient, LiveDocument
from relay.session_events import Said


def judge(
    batch: Batch,
    connection: int,
    said: Said,
    document: str | None,
    target: LiveDocument,
    position: int,
    place: tuple[LiveClient, int] | None,
    outcome: Outcome,
    handed_back: bool = False,
) -> bool:
    """Judges one statement, records and answers it; whether its value stays in the document."""
    statement = said.signed.statement
    ref = statement.ref
    stored = batch.statement(ref)
    if stored is not None and same(stored.signed.statement, statement):
        outcome.judged["known", ""] += 1
        tell(outcome, connection, encode_verdict(stored.verdict))
        _lost(batch, target, position, place)
        return False
    submission = submitted(said.signed, said.content, document, batch.now_ms, said.challenge, handed_back, said.answer)
    decision = _decide(batch, submission)
    if place is None:
        position = batch.position(target.name)
    verdict = Verdict(
        ref,
        decision.status,
        batch.now_ms,
        target.name,
        target.epoch,
        position,
        decision.reason,
        tuple(map(str, decision.actions)),
        decision.flags,
    )
    code = verdict.code
    outcome.judged[decision.status, code] += 1
    outcome.told.append((ref, target.name, decision.status, code))
    if decision.status in FINAL and stored is None:
        tell(outcome, connection, batch.keep(said.signed, verdict, target, position, place))
    else:
        tell(outcome, connection, encode_verdict(verdict))
        _lost(batch, target, position, place)
    return decision.status is Status.ACCEPTED


def _lost(batch: Batch, target: LiveDocument, position: int, place: tuple[LiveClient, int] | None) -> None:
    """A clock that holds no statement of its own."""
    if place is not None:
        batch.record.add_tombstone(target.id, position, place[0].row, place[1], 1)


def _decide(batch: Batch, submission: Submission) -> Decision:
    """Admission's decision with its effects applied; where the database will not have them, nothing was done."""
    decision = admit(batch, submission)
    if decision.effects:
        try:
            apply(batch, decision.effects)
        except Exception as error:  # noqa: BLE001 - one statement must not take the batch with it; the operator sees why
            ref = submission.ref
            batch.alarm("not_applied", submission.statement.device, f"{ref}: {type(error).__name__}: {error}")
            return Decision(Status.RETRY, Busy(RETRY_FIRST_MS))
    return decision


def tell(outcome: Outcome, connection: int, verdict: bytes) -> None:
    """Answers a statement of this connection."""
    outcome.verdicts.setdefault(connection, []).append(verdict)


def aim(target: str) -> str:
    """The document that a request is filed under: a log has none of its own, so that it is its scope's."""
    return target.removesuffix("/log")
