"""Statements of revoked devices: kept by order of arrival, never applied by themselves, shown where they belong."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from crdtmed.aggregates.conflict import QuarantineRegister
from crdtmed.aggregates.content import Content, ContentError, nature_of
from crdtmed.contract import Kind, Nature
from crdtmed.documents import DocumentKind, parse
from crdtmed.limits import MAX_QUARANTINE_PER_DEVICE
from crdtmed.statement import SignedStatement, same, verify
from relay.admission.room import listed
from relay.applying import apply
from relay.batch import Batch
from relay.session_statements import content_of

_SCOPES: Final = (DocumentKind.PATIENT, DocumentKind.SITE)


@dataclass(frozen=True, slots=True)
class HandOver:
    """How many statements were taken, and the references of those that were not."""

    taken: int
    refused: tuple[str, ...]


def hand_over(batch: Batch, device: str, public: bytes, statements: Sequence[SignedStatement]) -> HandOver:
    """Takes a revoked device's outbox, up to the cap; what the relay has already judged counts as taken."""
    if not batch.identity.may_hand_over(batch.record.connection, device):
        return HandOver(0, tuple(signed.statement.ref for signed in statements))
    taken, refused = 0, []
    for signed in statements:
        known = batch.statement(signed.statement.ref)
        judged = known is not None and same(known.signed.statement, signed.statement)
        if judged or (verify(signed, public) and quarantine(batch, signed)):
            taken += 1
        else:
            refused.append(signed.statement.ref)
    batch.identity.handed_over(batch.record.connection, device, taken)
    return HandOver(taken, tuple(refused))


def quarantine(batch: Batch, signed: SignedStatement) -> bool:
    """Keeps one statement of a revoked device; False where its share is full.  Once is enough, however often it comes.

    A fact is listed in the registers of its patient or site, as long as they have room, for a clinician to enter again.
    """
    statement, record = signed.statement, batch.record
    if record.quarantined(statement.ref) is not None:
        return True
    if record.quarantine_count(statement.device) >= MAX_QUARANTINE_PER_DEVICE:
        return False
    record.add_quarantine(statement.device, statement.ref, signed.encoded, batch.now_ms)
    content = content_of(signed)
    home = _home(statement.document)
    fact = _is_fact(statement.kind, content)
    if home is not None and fact:
        register = QuarantineRegister(
            statement.ref, statement.kind, signed.encoded, statement.device, batch.now_ms, open=True
        )
        apply(batch, tuple(listed(batch, home, register, statement.device)))
    return True


def _is_fact(kind: Kind, content: Content | ContentError) -> bool:
    """What cannot be read might be one, and is shown."""
    if isinstance(content, ContentError):
        return True
    try:
        return nature_of(kind, content) is Nature.FACT
    except ContentError:
        return True


def _home(target: str) -> str | None:
    """The patient's or site's document that a log belongs to."""
    scope = parse(target.removesuffix("/log")).scope
    return scope if parse(scope).kind in _SCOPES else None
