"""What a statement claims, as far as its own bytes tell: its nature, its time, its scope, what it names."""

from collections.abc import Iterator
from typing import Final

from crdtmed import documents
from crdtmed.aggregates.conflict import Action, Resolve, actions_for
from crdtmed.aggregates.content import CONTENT, Content, ContentError, decode_content, embedded, references
from crdtmed.aggregates.dispensing_event import Dispense
from crdtmed.aggregates.medication_administration import Administer, Correct
from crdtmed.aggregates.stock_item import Receipt
from crdtmed.contract import KINDS, Kind, Nature, Role, capability_of
from crdtmed.ids import user_of
from crdtmed.limits import LATE_MS
from crdtmed.statement import SignedStatement
from crdtmed.verdict import Flag
from relay.admission.facts import Submission

WAITS_FOR_SEEN: Final = frozenset(Kind) - {Kind.DRAFT_WRITE, Kind.ADMINISTER, Kind.CORRECT, Kind.OVERRIDE}
"""Kinds whose ``seen`` names what must have a final verdict first: of a dispense its receipts, of a stop the sign of
its prescription, of other requests what came before in their scope.  A draft merges whatever its writes had seen."""


_EVERY_ROLE: Final = frozenset(Role)
_REENTERING: Final = (Dispense, Receipt, Administer, Correct)
"""A tuple: a union would be made anew for every question, and this one is asked of every statement."""
REENTERING_KINDS: Final = frozenset(kind for kind, of in CONTENT.items() if of in _REENTERING)
"""What can be entered again after a quarantine: facts."""


def readable(signed: SignedStatement) -> Content | ContentError:
    """The content of a statement, or what is wrong with it."""
    try:
        return decode_content(signed.statement.kind, bytes(signed.statement.content))
    except ContentError as error:
        return error


def chain(signed: SignedStatement, content: Content | ContentError) -> Iterator[tuple[SignedStatement, Content | None]]:
    """The statement, the one it resolves, the one that resolves…, each with its content, None where unreadable."""
    while True:
        yield signed, None if isinstance(content, ContentError) else content
        if not isinstance(content, Resolve):
            return
        try:
            signed = embedded(content)
        except ContentError:
            return
        content = readable(signed)


def innermost(signed: SignedStatement, content: Content | ContentError) -> tuple[Kind, Content | None]:
    """The kind and content of what a resolution is about in the end; of any other statement its own.

    The kind is RESOLVE where that cannot be read.
    """
    if not isinstance(content, Resolve):
        return signed.statement.kind, None if isinstance(content, ContentError) else content
    *_, (last, said) = chain(signed, content)
    return last.statement.kind, said


def is_fact(signed: SignedStatement, content: Content | ContentError) -> bool:
    """Whether a statement tells what happened, so that it is never refused.

    What cannot be read might tell of medicine that was handed over: it counts as a fact where its kind may.
    """
    kind, said = innermost(signed, content)
    nature = KINDS[kind].nature
    if nature is not Nature.BY_CONTENT:
        return nature is Nature.FACT
    return said.handed_over if isinstance(said, Dispense) else True


def handed_over(signed: SignedStatement, content: Content | ContentError) -> bool:
    """Whether medicine left the pharmacy's hands, or may have."""
    kind, _ = innermost(signed, content)
    return kind in (Kind.DISPENSE, Kind.RESOLVE) and is_fact(signed, content)


def roles(signed: SignedStatement, content: Content | ContentError) -> frozenset[Role]:
    """Who may say it: whoever may say a statement may resolve its conflict; anybody where that cannot be read."""
    return capability_of(innermost(signed, content)[0]).roles or _EVERY_ROLE


def actions(code: str, signed: SignedStatement, content: Content | ContentError) -> tuple[Action, ...]:
    """What a person may choose where this statement is in conflict for the reason ``code``."""
    return actions_for(code, signed.statement.kind, handed_over(signed, content))


def flags(submission: Submission) -> tuple[Flag, ...]:
    """What stands beside a fact because of when it came; nothing beside intentions."""
    if not is_fact(submission.signed, submission.content):
        return ()
    if submission.ahead:
        return (Flag.CLOCK_SUSPECT,)
    return (Flag.LATE,) if submission.received_at - submission.judged_at > LATE_MS else ()


def user(submission: Submission) -> str:
    """Who says it."""
    return user_of(submission.statement.grant)


def scope(target: str) -> str:
    """``patient/<id>`` or ``site/<id>`` of a document or log; its own name for the directory and the formulary."""
    return "/".join(target.split("/")[:2])


def scope_id(target: str, word: str) -> str | None:
    """The id of the patient or site (``word``) that a document or log belongs to; None where it is another's."""
    first, _, rest = target.partition("/")
    return rest.partition("/")[0] if first == word else None


def home(target: str) -> str | None:
    """The document whose registers tell of statements to ``target``; None for the directory and the formulary."""
    name = scope(target)
    return name if "/" in name and documents.is_target(name) else None


def reenters(content: Content | ContentError) -> str | None:
    """The quarantined statement that this one enters again."""
    return content.reenters if isinstance(content, _REENTERING) else None


def waits_for(submission: Submission) -> tuple[str, ...]:
    """The statements that must have a final verdict before this one is judged, in order."""
    if isinstance(submission.content, ContentError):
        return ()
    named = references(submission.statement.kind, submission.content)
    seen = submission.statement.seen if submission.statement.kind in WAITS_FOR_SEEN else ()
    return tuple(sorted({*named, *seen})) if seen else named
