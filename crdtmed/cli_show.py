"""What the command line shows: plain data for JSON, and the same as lines for people."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from crdtmed.aggregates.directions import directions
from crdtmed.aggregates.patient import PatientLabel
from crdtmed.aggregates.stock_view import StockView
from crdtmed.device.device import DeviceStatus
from crdtmed.device.engine_types import Queued
from crdtmed.device.engine_verdicts import says
from crdtmed.device.inbox import InboxEntry
from crdtmed.device.patient_view import PatientView
from crdtmed.device.views import Age, ConflictView, content_of
from crdtmed.leasing import Locked

Shown = Mapping[str, Any]


def status(of: DeviceStatus) -> Shown:
    """How a device stands."""
    report = of.report
    lease = {"locked": str(of.lease.why)} if isinstance(of.lease, Locked) else {"until": when(of.lease.until_ms)}
    shown: dict[str, Any] = {"device": of.device, "label": of.label, "relay": of.url, "lease": lease}
    if report is not None:
        shown |= {
            "connected": report.connected,
            "signed_in": of.grant.user if of.grant is not None else None,
            "documents": report.documents,
            "outbox": report.outbox,
            "inbox": report.inbox,
            "synced_at": when(report.synced_at),
            "unverified": report.unverified,
            "directory_stale": report.directory_stale,
        }
    return shown


def patient_line(view: PatientView) -> Shown:
    """A patient on one line: two identifiers, and what there is."""
    return {
        **identifiers(view.label),
        "prescriptions": len(view.prescriptions),
        "drafts": len(view.drafts),
        "waiting": len(view.waiting),
        "conflicts": sum(one.register.open for one in view.conflicts),
        "age": age(view.age),
    }


def patient(view: PatientView) -> Shown:
    """A patient whole."""
    allergies = view.register.allergies
    return {
        **identifiers(view.label),
        "age_of_cache": age(view.age),
        "allergies": "not recorded" if allergies is None else [one.display for one in allergies] or "none known",
        "prescriptions": [
            {
                "prescription": one.register.id,
                "status": one.status,
                "medicine": one.register.groups.medication.display,
                "directions": _directions(one.register.groups),
                "dispensed": f"{one.register.dispensed} of {one.register.authorised} {one.register.unit}",
            }
            for one in view.prescriptions
        ],
        "drafts": [
            {
                "prescription": name,
                "groups": {str(group): msgspec.to_builtins(value) for group, value in draft.values.items()},
                "blockers": [f"{field} {text}" for field, text in draft.blockers],
            }
            for name, draft in view.drafts.items()
        ],
        "record": [
            {
                "entry": entry.ref,
                "at": when(entry.occurred_at),
                "what": " or ".join(
                    "entered in error" if it.administration is None else it.administration.status
                    for it in entry.versions
                ),
                "flags": [str(flag) for flag in entry.flags],
                "confirmed": not view.tentative.intersection(entry.chain),
            }
            for entry in view.record.entries
        ],
        "sessions": [{"session": one.id, "status": one.status} for one in view.sessions],
    }


def _directions(groups: Any) -> str:
    try:
        return directions(groups)
    except ValueError as error:
        return f"({error})"


def identifiers(label: PatientLabel | None) -> Shown:
    """Two identifiers and the name."""
    if label is None:
        return {"patient": None, "identifier": None, "name": None, "born": None}
    return {"patient": label.id, "identifier": label.identifier, "name": label.name, "born": label.birth_date}


def queued(of: Queued) -> Shown:
    """A statement of the outbox."""
    it = of.signed.statement
    return {
        "statement": it.ref,
        "what": it.kind.label,
        "about": it.document,
        "by": it.user,
        "said_at": when(of.said_at),
        "attempts": of.attempts,
        "verdict": str(of.verdict.status) if of.verdict is not None else None,
        "reason": says(of.verdict.reason) if of.verdict is not None and of.verdict.reason is not None else None,
    }


def inbox_entry(of: InboxEntry) -> Shown:
    """An entry of the inbox."""
    it = of.statement.statement if of.statement is not None else None
    return {
        "entry": of.id,
        "at": when(of.at),
        "code": of.code,
        "says": of.says,
        "statement": it.ref if it is not None else None,
        "what": it.kind.label if it is not None else "alarm",
        "about": it.document if it is not None else None,
        "actions": list(of.actions),
        "open": of.open,
    }


def conflict(of: ConflictView) -> Shown:
    """A conflict, with what can be done about it."""
    return {
        "conflict": of.ref,
        "what": of.register.kind.label,
        **identifiers(of.label),
        "site": of.register.site,
        "reason": says(of.register.reason),
        "handed_over": of.register.handed_over,
        "said": _said(of),
        "actions": [str(action) for action in of.actions],
        "resolving": list(of.resolving),
    }


def _said(of: ConflictView) -> Any:
    content = content_of(of.statement)
    shown = msgspec.to_builtins(content) if content is not None else None
    return {k: v for k, v in shown.items() if k != "statement"} if isinstance(shown, dict) else shown


def stock(site: str, of: StockView) -> Shown:
    """One lot."""
    return {
        "site": site,
        "item": of.item,
        "lot": of.lot,
        "expiry": of.expiry,
        "confirmed": of.confirmed,
        "tentative": of.tentative if of.is_tentative else None,
        "shortage": of.shortage,
        "unit": of.unit,
    }


def age(of: Age) -> str:
    """How old a cache is, for people."""
    if of.live:
        return "live"
    if of.age_ms is None:
        return "never synced"
    minutes = of.age_ms // 60_000
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"


def when(at_ms: int | None) -> str | None:
    """A time in UTC, ISO 8601."""
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write(answer: Shown | Sequence[Shown], as_json: bool) -> str:
    """The answer of a command: JSON, or lines for people."""
    if as_json:
        return json.dumps(answer, ensure_ascii=False, indent=2)
    if isinstance(answer, Mapping):
        return "\n".join(_fields(answer, ""))
    return "\n".join(_table(answer)) if answer else "none"


def _fields(of: Shown, indent: str) -> Iterable[str]:
    for name, value in of.items():
        label = f"{indent}{name.replace('_', ' ')}:"
        if isinstance(value, Mapping):
            yield label
            yield from _fields(value, f"{indent}  ")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            yield label
            yield from (f"{indent}  {line}" for line in _table(value))
        else:
            yield f"{label} {_cell(value)}"


def _table(rows: Sequence[Shown]) -> Iterable[str]:
    # A row about which nothing is known yet has fewer columns, and must not hide the others'.
    known = max(rows, key=len)
    names = [name for name in known if any(row.get(name) not in (None, [], "") for row in rows)]
    cells = [[name.replace("_", " ") for name in names], *([_cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(names))]
    for line in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(_cell(one) for one in value) or "-"
        case Mapping():
            return ", ".join(f"{key} {_cell(one)}" for key, one in value.items())
        case _:
            return str(value).replace("\n", " ")
