"""What every device shows must follow from what it has seen of the record, and from what it said itself."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from crdtmed.device.device import Device
from crdtmed.device.patient_view import PatientView
from tests.stateful import drafts
from tests.stateful.model import Model
from tests.stateful.words import (
    ADMINISTER,
    CORRECT,
    DISPENSE,
    DRAFT_WRITE,
    RECEIPT,
    Word,
    bottom,
)


async def wrong(device: Device, name: str, seen: Model, pending: Sequence[Word], patients: Iterable[str]) -> list[str]:
    """Everything that a device shows otherwise than ``seen``, its share of the record, and ``pending`` have it."""
    found = [f"{name}: {line}" for line in await _site(device, seen, pending)]
    if sorted(one.signed.statement.ref for one in device.outbox()) != sorted(word.ref for word in pending):
        found.append(f"{name}: its outbox holds {[one.signed.statement.ref for one in device.outbox()]}")
    shown = {case.ref for case in await device.conflicts()}
    if shown != seen.open_cases():
        found.append(f"{name}: open conflicts {sorted(shown)}, there are {sorted(seen.open_cases())}")
    for patient in patients:
        view = await device.patient(patient)
        mine = [word for word in pending if word.document.split("/")[:2] == ["patient", patient]]
        lines = (
            *_prescriptions(view, seen, patient),
            *_drafts(view, seen, mine, patient),
            *_record(view, seen, mine, patient),
            *_sessions(view, seen, patient),
        )
        found += [f"{name}, {patient}: {line}" for line in lines]
        if view.unreadable:
            found.append(f"{name}, {patient}: unreadable {view.unreadable}")
    return found


async def _site(device: Device, seen: Model, pending: Sequence[Word]) -> list[str]:
    view = await device.site("pharm")
    moves: dict[tuple[str, str], int] = {}
    for word in pending:
        if word.kind in (RECEIPT, DISPENSE):
            key = word.content["item"], word.content["lot"]
            delta = word.content["quantity"] if word.kind == RECEIPT else -word.content["quantity"]
            moves[key] = moves.get(key, 0) + delta
    for content in seen.handed_over():
        key = content["item"], content["lot"]
        moves[key] = moves.get(key, 0) - content["quantity"]
    wanted = {key: (lot.on_hand, lot.on_hand + moves.pop(key, 0), lot.shortage) for key, lot in seen.lots.items()}
    wanted |= {key: (0, moved, 0) for key, moved in moves.items()}
    shown = {(it.item, it.lot): (it.confirmed, it.tentative, it.shortage) for it in view.stock}
    lines = [] if shown == wanted else [f"stock is shown as {shown}, it is {wanted}"]
    queued = {one.entry.prescription: one.remaining for one in view.queue}
    due = {
        rx: max(0, order.authorised - order.dispensed)
        for rx, order in seen.orders.items()
        if (order.status in ("active", "on-hold") and order.dispensed < order.authorised) or rx in _requeued(seen)
    }
    return lines if queued == due else [*lines, f"the queue shows {queued}, due are {due}"]


def _requeued(seen: Model) -> set[str]:
    cases = [bottom(case.word) for case in seen.cases.values() if case.open]
    return {content["prescription"] for inner, content in cases if inner.kind == DISPENSE}


def _prescriptions(view: PatientView, seen: Model, patient: str) -> Iterator[str]:
    shown = {
        one.register.id: (
            str(one.register.status),
            one.register.dispensed,
            one.register.authorised,
            one.register.signed_by,
        )
        for one in view.prescriptions
    }
    wanted = {
        name: (order.status, order.dispensed, order.authorised, order.signed_by)
        for name, order in seen.orders.items()
        if order.patient == patient
    }
    if shown != wanted:
        yield f"prescriptions are shown as {shown}, they are {wanted}"
    for one in view.prescriptions:
        groups: dict[str, Any] = msgspec.to_builtins(one.register.groups)
        order = seen.orders.get(one.register.id)
        for group, value in (order.values if order is not None else {}).items():
            if group != "status" and groups.get(group) != value:
                yield f"{one.register.id} shows {group} as {groups.get(group)}, signed was {value}"


def _drafts(view: PatientView, seen: Model, pending: Sequence[Word], patient: str) -> Iterator[str]:
    writes = {name: dict(words) for name, words in seen.writes.items() if name not in seen.orders}
    for word in pending:
        if word.kind == DRAFT_WRITE and word.content["prescription"] not in seen.orders:
            writes.setdefault(word.content["prescription"], {})[word.ref] = word
    writes = {name: words for name, words in writes.items() if next(iter(words.values())).scope == patient}
    if view.drafts.keys() != writes.keys():
        yield f"drafts {sorted(view.drafts)} are shown, there are {sorted(writes)}"
        return
    for name, words in writes.items():
        groups = drafts.merged(words.values())
        wanted = {
            group: (of.winner.ref, sorted(map(repr, of.concurrent)), of.blind, of.heads) for group, of in groups.items()
        }
        shown = {
            str(group): (
                of.winner.ref,
                sorted(repr(msgspec.to_builtins(other.value)) for other in of.concurrent),
                frozenset(map(str, of.review)),
                frozenset(of.heads),
            )
            for group, of in view.drafts[name].groups.items()
        }
        if shown != wanted:
            yield f"draft {name} is shown as {shown}, it is {wanted}"
        if view.drafts[name].signable != drafts.signable(groups):
            yield f"draft {name} is signable: {view.drafts[name].signable}"


def _record(view: PatientView, seen: Model, pending: Sequence[Word], patient: str) -> Iterator[str]:
    log = {ref: word for ref, word in seen.log.items() if word.scope == patient}
    log |= {word.ref: word for word in pending if word.kind in (ADMINISTER, CORRECT)}
    corrected: dict[str, list[str]] = {}
    for ref, word in log.items():
        if word.kind == CORRECT:
            corrected.setdefault(word.content["corrects"], []).append(ref)

    def leaves(ref: str) -> set[str]:
        after = corrected.get(ref)
        return {ref} if after is None else {leaf for one in after for leaf in leaves(one)}

    wanted = {ref: leaves(ref) for ref, word in log.items() if word.kind == ADMINISTER}
    shown = {entry.ref: {it.ref for it in entry.versions} for entry in view.record.entries}
    if shown != wanted:
        yield f"the record shows {shown}, it is {wanted}"
    for entry in view.record.entries:
        for version in entry.versions:
            said = log[version.ref].content if version.ref in log else {}
            account = said if "corrects" not in said else said.get("administration")
            if version.ref in log and msgspec.to_builtins(version.administration) != account:
                yield f"{version.ref} is shown as {version.administration}, said was {account}"
    waiting = {word.ref for word in pending if word.document.endswith(("/drafts", "/log"))}
    if view.tentative != waiting:
        yield f"tentative are {sorted(view.tentative)}, waiting are {sorted(waiting)}"


def _sessions(view: PatientView, seen: Model, patient: str) -> Iterator[str]:
    shown = {one.id: str(one.register.status) for one in view.sessions if one.register is not None}
    wanted = {name: it.status for name, it in seen.sessions.items() if it.patient == patient}
    if shown != wanted:
        yield f"sessions are shown as {shown}, they are {wanted}"
