"""A patient as a device shows one: what is confirmed, what waits for the relay, and how old it is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from crdtmed import documents
from crdtmed.aggregates.alert_override_record import AlertsRegister
from crdtmed.aggregates.conflict import Action, ConflictRegister, Resolve
from crdtmed.aggregates.content import Content, embedded
from crdtmed.aggregates.draft_view import DraftView, drafts_view
from crdtmed.aggregates.mar_view import MarView, mar_view
from crdtmed.aggregates.patient import PatientLabel, PatientRegister, label_of
from crdtmed.aggregates.prescription import Amend, Hold, PrescriptionRegister, Resume, Sign, Stop
from crdtmed.aggregates.reconciliation_session import (
    Complete,
    HomeMedication,
    Open,
    Record,
    SessionItem,
    SessionRegister,
    SessionStatus,
)
from crdtmed.aggregates.site import SiteRegister
from crdtmed.device.engine import Engine
from crdtmed.device.engine_types import DeviceError
from crdtmed.device.views import (
    Age,
    ConflictView,
    QuarantineView,
    Registers,
    Waiting,
    age_of,
    conflicts_in,
    content_of,
    kept,
    quarantined_in,
    registers_of,
    tentative_refs,
    waiting_in,
)
from crdtmed.verdict import Flag

_WORDS: Final = {Sign: "sign", Stop: "stop", Hold: "hold", Resume: "resume", Amend: "amend"}
_Asked = Sign | Stop | Hold | Resume | Amend


@dataclass(frozen=True, slots=True)
class PrescriptionView:
    """A signed prescription, and what this device asked about it that the relay has not answered."""

    register: PrescriptionRegister
    label: PatientLabel
    waiting: tuple[Waiting, ...]

    @property
    def status(self) -> str:
        """For people: *active*, or *active, stop pending*."""
        words = [_WORDS[type(asked)] for one in self.waiting if (asked := _asked(one.content)) is not None]
        return ", ".join((str(self.register.status), *(f"{word} pending" for word in words)))


@dataclass(frozen=True, slots=True)
class SessionView:
    """A reconciliation session: as the relay keeps it (None before it knows of it), with what waits applied to it.

    ``status`` is *pending* before the relay knows of it.  ``tentative`` are the medicines whose decision here the relay
    has not confirmed.
    """

    id: str
    register: SessionRegister | None
    status: str
    items: tuple[SessionItem, ...]
    tentative: frozenset[str]
    waiting: tuple[Waiting, ...]


@dataclass(frozen=True, slots=True)
class PatientView:
    """Everything that a device holds of a patient.

    ``label`` are the identifiers to show.  ``drafts`` are by prescription id; ``record`` is what was administered;
    ``tentative`` the statements in drafts and record that the relay has not confirmed; ``time_zone`` that of the
    patient's site, None where no site is held and times of day count as UTC.  ``unreadable`` is what this software
    cannot read: keys of registers, references of statements.
    """

    label: PatientLabel
    register: PatientRegister
    age: Age
    prescriptions: tuple[PrescriptionView, ...]
    drafts: Mapping[str, DraftView]
    record: MarView
    tentative: frozenset[str]
    sessions: tuple[SessionView, ...]
    alerts: Mapping[str, AlertsRegister]
    conflicts: tuple[ConflictView, ...]
    quarantined: tuple[QuarantineView, ...]
    waiting: tuple[Waiting, ...]
    time_zone: str | None
    unreadable: tuple[str, ...]

    def prescription(self, name: str) -> PrescriptionView | None:
        """The signed prescription of that id."""
        return next((one for one in self.prescriptions if one.register.id == name), None)

    def session(self, name: str) -> SessionView | None:
        """The reconciliation session of that id."""
        return next((one for one in self.sessions if one.id == name), None)


async def patient_register(engine: Engine, patient: str) -> tuple[PatientRegister, Registers]:
    """The patient's register and all others of the document; raises `DeviceError` ``not_held``."""
    registers = await registers_of(engine, documents.patient(patient))
    register = registers.values.get("patient")
    if not isinstance(register, PatientRegister):
        raise DeviceError("not_held", f"this device does not hold patient {patient}", "hold the patient, and connect")
    return register, registers


async def zone_of(engine: Engine, sites: tuple[str, ...]) -> tuple[tzinfo, str | None]:
    """The time zone of the first of ``sites`` that is held, with its name; UTC and None where none is."""
    for site in sites:
        value = (await registers_of(engine, documents.site(site))).values.get("site")
        if isinstance(value, SiteRegister):
            try:
                return ZoneInfo(value.time_zone), value.time_zone
            except (KeyError, ValueError, OSError):
                continue
    return UTC, None


async def patient_view(engine: Engine, patient: str) -> PatientView:
    """The patient as this device shows one now; raises `DeviceError` ``not_held``."""
    head, drafts_name = documents.patient(patient), documents.drafts(patient)
    targets = (head, drafts_name, documents.log_of(head))

    def rests_on(target: str) -> bool:
        return target in targets or not target.startswith("patient/")

    view = await kept(engine, f"view of {head}", head, rests_on, lambda: _view(engine, patient))
    return replace(view, age=age_of(engine, targets))


async def _view(engine: Engine, patient: str) -> PatientView:
    register, registers = await patient_register(engine, patient)
    head, drafts_name = documents.patient(patient), documents.drafts(patient)
    log = documents.log_of(head)
    waiting = waiting_in(engine, head, drafts_name, log)
    label = label_of(register)
    written = await engine.statements(drafts_name)
    drafts = drafts_view((entry.statement for entry in written), register)
    zone, zone_name = await zone_of(engine, register.care_sites)
    entries = await engine.statements(log)
    prescriptions = {one.id: one for one in registers.of(PrescriptionRegister)}
    record = mar_view(
        (entry.statement for entry in entries),
        prescriptions,
        zone,
        suspect=[e.ref for e in entries if e.verdict is not None and Flag.CLOCK_SUSPECT in e.verdict.flags],
        conflicts=registers.of(ConflictRegister),
        patient=register,
    )
    about = _by_prescription(prescriptions, waiting)
    return PatientView(
        label=label,
        register=register,
        age=age_of(engine, (head, drafts_name, log)),
        prescriptions=tuple(PrescriptionView(one, label, about.get(one.id, ())) for one in prescriptions.values()),
        drafts={name: view for name, view in drafts.views.items() if name not in prescriptions},
        record=record,
        tentative=await tentative_refs(engine, drafts_name) | await tentative_refs(engine, log),
        sessions=_sessions(registers, waiting),
        alerts={one.prescription: one for one in registers.of(AlertsRegister)},
        conflicts=await conflicts_in(engine, registers),
        quarantined=await quarantined_in(engine, registers, waiting),
        waiting=waiting,
        time_zone=zone_name,
        unreadable=(*registers.unreadable, *drafts.unreadable, *record.unreadable),
    )


def _by_prescription(
    prescriptions: Mapping[str, PrescriptionRegister], waiting: tuple[Waiting, ...]
) -> Mapping[str, tuple[Waiting, ...]]:
    """What waits about each prescription, by its id."""
    found: dict[str, tuple[Waiting, ...]] = {}
    for one in waiting:
        asked = _asked(one.content) if one.undecided else None
        if asked is None:
            continue
        name = asked.prescription if asked is one.content else _successor(prescriptions, asked.prescription)
        for about in {name, asked.prior if isinstance(asked, Amend) else name}:
            found[about] = (*found.get(about, ()), one)
    return found


def _asked(content: Content) -> _Asked | None:
    """What is asked about a prescription, also by resolving: a stop that is carried out on the successor is a stop."""
    if isinstance(content, Resolve) and content.action is Action.STOP_SUCCESSOR:
        inner = content_of(embedded(content).statement)
        return inner if isinstance(inner, Stop | Hold) else None
    return content if isinstance(content, _Asked) else None


def _successor(prescriptions: Mapping[str, PrescriptionRegister], name: str) -> str:
    """The prescription that stands in the place of ``name`` now, as far as this device knows."""
    visited: set[str] = set()
    while name not in visited and name in prescriptions and prescriptions[name].successor is not None:
        visited.add(name)
        name = prescriptions[name].successor or name
    return name


def _sessions(registers: Registers, waiting: tuple[Waiting, ...]) -> tuple[SessionView, ...]:
    """The sessions that the relay knows, oldest first, then those that this device opened and still waits for."""
    known = sorted(registers.of(SessionRegister), key=lambda it: (it.opened_at, it.id))
    said: dict[str, list[Waiting]] = {}
    for one in waiting:
        if one.undecided and isinstance(one.content, Open | Record | Complete):
            said.setdefault(one.content.session, []).append(one)
    views = [_session(it.id, it, said.pop(it.id, [])) for it in known]
    return (*views, *(_session(name, None, ones) for name, ones in said.items()))


def _session(name: str, register: SessionRegister | None, waiting: list[Waiting]) -> SessionView:
    items = {item.medicine.key: item for item in (register.items if register is not None else ())}
    tentative: set[str] = set()
    status = str(register.status) if register is not None else "pending"
    for one in waiting:
        match one.content:
            case Open(home_medications=homes) if register is None:
                items.update({home.key: SessionItem(home) for home in homes})
            case Record(medicine=key, decision=decision, note=note):
                medicine = items[key].medicine if key in items else HomeMedication(key, key)
                items[key] = SessionItem(medicine, decision, note, one.ref)
                tentative.add(key)
            case Complete() if status != SessionStatus.ENTERED_IN_ERROR:
                status = f"{status}, completion pending"
    return SessionView(name, register, status, tuple(items.values()), frozenset(tentative), tuple(waiting))
