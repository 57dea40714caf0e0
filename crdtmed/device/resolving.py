"""Resolving: choosing what to do about a statement in conflict, and entering a quarantined fact again."""

from typing import Final

from msgspec import structs

from crdtmed import documents
from crdtmed.aggregates.conflict import Action, ConflictRegister, QuarantineRegister, Resolve
from crdtmed.aggregates.content import ContentError, decode_content, embedded
from crdtmed.aggregates.dispensing_event import Dispense
from crdtmed.aggregates.medication_administration import Administer, Correct
from crdtmed.aggregates.stock_item import Receipt
from crdtmed.contract import Kind
from crdtmed.device.desk import Desk
from crdtmed.device.engine import Said
from crdtmed.device.engine_types import DeviceError
from crdtmed.device.inbox import InboxEntry
from crdtmed.device.outbox import scope_of
from crdtmed.device.views import ConflictView, QuarantineView, registers_of, waiting_in
from crdtmed.statement import BadStatement, SignedStatement, decode


async def resolve(
    desk: Desk,
    conflict: ConflictView | InboxEntry | str,
    action: Action,
    *,
    lot: str | None = None,
    quantity: int | None = None,
    comment: str | None = None,
) -> Said:
    """Resolves a conflict (its view, its entry in the inbox, or the reference of its statement) by one of its actions.

    It may wait offline; of two that resolve one conflict, the first to arrive does.  ``lot`` and ``quantity`` go with
    the actions that need them.  A resolution that left its conflict open stands for that conflict.  Raises
    `DeviceError` ``conflict_unknown`` or ``action_not_offered``; `NotAllowed` unless the user may say the statement in
    conflict.
    """
    signed, actions = await _conflict(desk, conflict)
    if action not in actions:
        raise DeviceError(
            "action_not_offered",
            f"{action} is not offered here",
            f"choose one of {', '.join(actions)}" if actions else "it is resolved already, or can only be read",
        )
    scope = scope_of(signed.statement.document)
    if "/" not in scope:
        raise DeviceError("conflict_unknown", f"nothing in {scope} is ever in conflict", "look at its scope")
    content = Resolve(signed.encoded, action, lot, quantity, comment)
    said = await desk.engine.say(Kind.RESOLVE, documents.log_of(scope), content)
    for entry in await desk.engine.inbox():
        if entry.statement is not None and signed.statement.ref in _about(entry.statement):
            await desk.engine.dismiss(entry.id)
    return said


def _about(signed: SignedStatement) -> tuple[str, ...]:
    """The statement, and where it is a resolution what it embeds: by reference."""
    inner = _embedded(signed)
    return (signed.statement.ref, *([inner.statement.ref] if inner is not None else []))


def _embedded(signed: SignedStatement) -> SignedStatement | None:
    try:
        content = decode_content(signed.statement.kind, bytes(signed.statement.content))
        return embedded(content) if isinstance(content, Resolve) else None
    except ContentError:
        return None


async def _conflict(desk: Desk, of: ConflictView | InboxEntry | str) -> tuple[SignedStatement, tuple[str, ...]]:
    if isinstance(of, ConflictView):
        return decode(of.register.statement), of.actions
    if isinstance(of, InboxEntry):
        if of.statement is None:
            raise DeviceError("conflict_unknown", "this entry is an alarm, about no statement", "dismiss it when read")
        return await _of_entry(desk, of, of.statement)
    for scope in desk.engine.scopes:
        register = (await registers_of(desk.engine, scope)).values.get(f"conflict/{of}")
        if isinstance(register, ConflictRegister):
            return decode(register.statement), register.actions if register.open else ()
    for entry in await desk.engine.inbox(closed=True):
        if entry.statement is not None and entry.statement.statement.ref == of:
            return await _of_entry(desk, entry, entry.statement)
    raise DeviceError("conflict_unknown", f"this device holds no conflict of {of}", "hold its patient or site")


_OF_ITS_OWN: Final = frozenset({"already_resolved", "conflict_unknown", "key_reused"})
"""Reasons for which a resolution is a conflict of its own; for any other it leaves the one that it is about open."""


async def _of_entry(desk: Desk, entry: InboxEntry, signed: SignedStatement) -> tuple[SignedStatement, tuple[str, ...]]:
    """What an entry offers is offered of the conflict that the relay keeps: of a resolution in vain, the one before."""
    inner = _embedded(signed)
    if inner is None or not entry.actions or entry.code in _OF_ITS_OWN:
        return signed, entry.actions
    registers = (await registers_of(desk.engine, scope_of(signed.statement.document))).values
    if f"conflict/{signed.statement.ref}" in registers:
        return signed, entry.actions
    before = registers.get(f"conflict/{inner.statement.ref}")
    if isinstance(before, ConflictRegister):
        return inner, before.actions if before.open else ()
    return inner, entry.actions


async def reenter(desk: Desk, quarantined: QuarantineView | str) -> Said:
    """Says a quarantined fact again, as a statement of who is signed in; it names the one that it enters again.

    A correction of what is in quarantine too corrects what that was entered again as.  Raises `DeviceError`
    ``quarantine_unknown``, ``already_reentered``, or ``not_reentered`` where something has to be done before, or
    instead.
    """
    register = (
        quarantined.register if isinstance(quarantined, QuarantineView) else await _quarantined(desk, quarantined)
    )
    if not register.open:
        raise DeviceError("already_reentered", f"{register.ref} was entered again before", "look at the record")
    try:
        statement = decode(register.statement).statement
        content = decode_content(statement.kind, bytes(statement.content))
    except (BadStatement, ContentError) as error:
        raise DeviceError("content_invalid", f"{register.ref} cannot be read: {error}", "write it by hand") from None
    if not isinstance(content, Dispense | Receipt | Administer | Correct):
        raise DeviceError(
            "not_reentered", f"a {statement.kind.label} is not entered again", "do it anew, as it is right now"
        )
    if isinstance(content, Correct):
        content = structs.replace(content, corrects=await _entered_again(desk, statement.document, content.corrects))
    again = structs.replace(content, reenters=register.ref)
    return await desk.engine.say(statement.kind, statement.document, again)


async def _entered_again(desk: Desk, log: str, ref: str) -> str:
    """What a statement of this log counts as: another, here or at the relay, where it was quarantined; else itself."""
    for one in waiting_in(desk.engine, log):
        if one.undecided and getattr(one.content, "reenters", None) == ref:
            return one.ref
    registers = await registers_of(desk.engine, scope_of(log))
    register = registers.values.get(f"quarantine/{ref}")
    if not isinstance(register, QuarantineRegister):
        return ref
    if register.reentered_by is None:
        raise DeviceError("not_reentered", f"it corrects {ref}, which is in quarantine too", "enter that again first")
    return register.reentered_by


async def _quarantined(desk: Desk, ref: str) -> QuarantineRegister:
    for scope in desk.engine.scopes:
        register = (await registers_of(desk.engine, scope)).values.get(f"quarantine/{ref}")
        if isinstance(register, QuarantineRegister):
            return register
    raise DeviceError("quarantine_unknown", f"this device holds no quarantined {ref}", "hold its patient or site")
