"""On the ward: what was given, correcting it, and reconciling what the patient takes at home."""

from dataclasses import dataclass
from typing import Literal

from crdtmed import documents
from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.medication_administration import (
    Administer,
    Correct,
    OfDraft,
    OfPrescription,
    OfVerbal,
    Subject,
)
from crdtmed.aggregates.patient import PatientRegister
from crdtmed.aggregates.prescription_draft import Route
from crdtmed.aggregates.reconciliation_session import (
    Complete,
    Decision,
    HomeMedication,
    Open,
    Record,
    SessionRegister,
    SessionStatus,
    offered,
)
from crdtmed.contract import Kind
from crdtmed.device.desk import Desk, now_ms, require_care, signed_in
from crdtmed.device.engine import Said
from crdtmed.device.engine_types import DeviceError
from crdtmed.device.patient_view import SessionView, patient_register, patient_view
from crdtmed.device.views import registers_of, waiting_in
from crdtmed.limits import MAX_RESTARTED_SESSIONS


async def administration(
    desk: Desk,
    patient: str,
    status: Literal["given", "not-given"],
    *,
    prescription: str | None = None,
    draft: str | None = None,
    verbal: OfVerbal | None = None,
    dose: Quantity | None = None,
    route: Route | None = None,
    slot_at: int | None = None,
    occurred_at: int | None = None,
    site: str | None = None,
    status_reason: str | None = None,
    note: str | None = None,
) -> Administer:
    """An account of one administration, for `administer` or as what is right in `correct`; nothing is said yet.

    It is on exactly one of a signed ``prescription``, an unsigned ``draft`` and a ``verbal`` order.  ``slot_at`` (ms)
    is the scheduled instant it answers, ``occurred_at`` (ms) when it happened: now where None.  ``site`` is the first
    site of the patient's care that the user has, where None.
    """
    subjects: list[Subject] = [
        *([OfPrescription(prescription)] if prescription is not None else []),
        *([OfDraft(draft)] if draft is not None else []),
        *([verbal] if verbal is not None else []),
    ]
    if len(subjects) != 1:
        raise DeviceError(
            "incomplete", f"{len(subjects)} orders are named", "name one: a prescription, a draft, or a verbal order"
        )
    return Administer(
        subject=subjects[0],
        status=status,
        occurred_at=now_ms(desk) if occurred_at is None else occurred_at,
        site=site if site is not None else await _site(desk, patient),
        status_reason=status_reason,
        dose=dose,
        route=route,
        slot_at=slot_at,
        note=note,
    )


async def _site(desk: Desk, patient: str) -> str:
    grant = signed_in(desk)
    register = (await registers_of(desk.engine, documents.patient(patient))).values.get("patient")
    care = register.care_sites if isinstance(register, PatientRegister) else ()
    found = next((site for site in care if site in grant.sites), None)
    if found is None:
        raise DeviceError("incomplete", f"no site of {grant.user} cares for patient {patient}", "name the site")
    return found


async def administer(desk: Desk, patient: str, account: Administer, *, key: str | None = None) -> Said:
    """Records an administration (`administration` makes the account).  It may wait offline, and is never refused.

    ``key`` is the idempotency key, fresh where None.
    """
    log = documents.log_of(documents.patient(patient))
    return await desk.engine.say(Kind.ADMINISTER, log, account, key=key)


async def correct(
    desk: Desk, patient: str, entry: str, reason: str, account: Administer | None = None, *, key: str | None = None
) -> Said:
    """Corrects the administration or correction ``entry`` (a reference): with what is right instead, or, where
    ``account`` is None, as entered in error.  The entry corrected stays in the record."""
    content = Correct(entry, "amended" if account is not None else "entered-in-error", reason, account)
    log = documents.log_of(documents.patient(patient))
    return await desk.engine.say(Kind.CORRECT, log, content, key=key)


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """A reconciliation session, as it is worked on at a desk.  ``opened`` is its opening, where it was said here."""

    desk: Desk
    patient: str
    session: str
    opened: Said | None = None

    async def view(self) -> SessionView:
        """The session as it stands; raises `DeviceError` ``not_held`` where this device knows nothing of it."""
        found = (await patient_view(self.desk.engine, self.patient)).session(self.session)
        if found is None:
            raise DeviceError("not_held", f"this device knows no session {self.session}", "sync, and look again")
        return found

    async def record(self, medicine: str, decision: Decision, note: str | None = None) -> Said:
        """Records what is decided on one home medicine (its key in the session)."""
        content = Record(self.session, medicine, decision, note)
        return await self._say(Kind.RECONCILIATION_RECORD, content)

    async def complete(self) -> Said:
        """Completes the session."""
        return await self._say(Kind.RECONCILIATION_COMPLETE, Complete(self.session))

    async def _say(self, kind: Kind, content: Record | Complete) -> Said:
        head = documents.patient(self.patient)
        before = tuple(
            one.ref
            for one in waiting_in(self.desk.engine, head)
            if isinstance(one.content, Open | Record) and one.content.session == self.session
        )
        return await self.desk.engine.say(kind, head, content, seen=before)


def reconciliation(desk: Desk, patient: str, session: str) -> Reconciliation:
    """The session ``session`` of a patient."""
    return Reconciliation(desk, patient, session)


async def open_reconciliation(
    desk: Desk, patient: str, home_medications: tuple[HomeMedication, ...] | None = None
) -> Reconciliation:
    """Opens a reconciliation of a patient's home medicines; it may wait offline.

    Sessions that were entered in error because two were opened are restarted by it: it names them, and offers what they
    held.  The medicines are the patient's where None, with those offered.  Raises `DeviceError` ``session_open`` where
    a session is open already, as far as this device knows.
    """
    engine = desk.engine
    register, registers = await patient_register(engine, patient)
    require_care(desk, patient, register.care_sites)
    head = documents.patient(patient)
    sessions = registers.of(SessionRegister)
    running = [one.id for one in sessions if one.status is SessionStatus.IN_PROGRESS]
    running += [
        one.content.session for one in waiting_in(engine, head) if one.undecided and isinstance(one.content, Open)
    ]
    if running:
        raise DeviceError("session_open", f"session {running[0]} of patient {patient} is open", "work in that one")
    lost = [one for one in sessions if one.status is SessionStatus.ENTERED_IN_ERROR and one.restarted_by is None]
    lost = sorted(lost, key=lambda it: it.id)[:MAX_RESTARTED_SESSIONS]
    homes = {it.key: it for it in (home_medications if home_medications is not None else register.home_medications)}
    for item in offered(lost):
        homes.setdefault(item.medicine.key, item.medicine)
    session = engine.new_id()
    content = Open(session, tuple(one.id for one in lost), tuple(homes.values()))
    seen = tuple(one.opened_by for one in sessions)[-64:]
    said = await engine.say(Kind.RECONCILIATION_OPEN, head, content, seen=seen)
    return Reconciliation(desk, patient, session, said)
