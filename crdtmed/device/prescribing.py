"""Prescribing: signing a draft, changing what is signed, and going on in spite of an alert."""

from crdtmed import documents
from crdtmed.aggregates.alert_override_record import AlertsRegister, Override, OverrideReason
from crdtmed.aggregates.draft_view import DraftView, draft_digest
from crdtmed.aggregates.prescription import Amend, Hold, Resume, Sign, Stop
from crdtmed.contract import Kind
from crdtmed.device.desk import Desk, missing, require_care
from crdtmed.device.drafting import Draft
from crdtmed.device.engine import Said
from crdtmed.device.engine_types import DeviceError
from crdtmed.device.patient_view import patient_register
from crdtmed.device.views import waiting_in


async def sign(desk: Desk, draft: Draft) -> Said:
    """Asks the relay to make a draft an active prescription: the very draft that this device shows now.

    Raises `NeedsRelay` at once without one; `DeviceError` ``draft_not_ready`` naming what is missing, concurrent or
    under review.  The relay refuses with `alerts_open` and the cards where something has to be overridden first.
    """
    view = await _ready(desk, draft)
    content = Sign(draft.prescription, draft_digest(view))
    return await desk.engine.say(Kind.SIGN, documents.patient(draft.patient), content, seen=view.seen)


async def amend(desk: Desk, draft: Draft, prior: str, reason: str) -> Said:
    """Asks the relay to sign a draft in the place of the signed prescription ``prior``; otherwise as `sign`."""
    view = await _ready(desk, draft)
    content = Amend(draft.prescription, draft_digest(view), prior, reason)
    return await desk.engine.say(Kind.AMEND, documents.patient(draft.patient), content, seen=view.seen)


async def stop(desk: Desk, patient: str, prescription: str, reason: str) -> Said:
    """Stops a prescription.  It may wait offline, and is shown as *stop pending*; it never waits for anything else."""
    seen = await _before(desk, patient, prescription, (Kind.SIGN, Kind.AMEND))
    return await desk.engine.say(Kind.STOP, documents.patient(patient), Stop(prescription, reason), seen=seen)


async def hold_prescription(
    desk: Desk, patient: str, prescription: str, reason: str, until_ms: int | None = None
) -> Said:
    """Puts a prescription on hold, until an instant (ms) or until it is resumed; otherwise as `stop`."""
    seen = await _before(desk, patient, prescription, (Kind.SIGN, Kind.AMEND))
    content = Hold(prescription, reason, until_ms)
    return await desk.engine.say(Kind.HOLD, documents.patient(patient), content, seen=seen)


async def resume(desk: Desk, patient: str, prescription: str, reason: str) -> Said:
    """Resumes a prescription that is on hold; checked by the knowledge base, so it raises `NeedsRelay` without."""
    seen = await _before(desk, patient, prescription, (Kind.HOLD, Kind.STOP))
    return await desk.engine.say(Kind.RESUME, documents.patient(patient), Resume(prescription, reason), seen=seen)


async def override(
    desk: Desk,
    patient: str,
    prescription: str,
    alert: str,
    reason: OverrideReason,
    comment: str | None = None,
) -> Said:
    """Overrides one alert that the relay raised on a draft (or on resuming) under the snapshot that raised it.

    Raises `NeedsRelay` without one, `DeviceError` ``alert_unknown`` where no such alert is held.
    """
    register, registers = await patient_register(desk.engine, patient)
    require_care(desk, patient, register.care_sites)
    alerts = registers.values.get(f"alerts/{prescription}")
    if not isinstance(alerts, AlertsRegister) or alert not in {card.id for card in alerts.cards}:
        raise DeviceError(
            "alert_unknown", f"the relay raised no alert {alert} on {prescription}", "sign first, and read its cards"
        )
    content = Override(prescription, alerts.digest, alert, reason, alerts.snapshot, comment)
    log = documents.log_of(documents.patient(patient))
    return await desk.engine.say(Kind.OVERRIDE, log, content)


async def _ready(desk: Desk, draft: Draft) -> DraftView:
    view = await draft.view()
    register, _ = await patient_register(desk.engine, draft.patient)
    require_care(desk, draft.patient, register.care_sites)
    if not view.signable:
        says = "; ".join(f"{field or 'the draft'} {text}" for field, text in view.blockers)
        raise DeviceError("draft_not_ready", f"this draft cannot be signed: {says}", "write or confirm what is named")
    return view


async def _before(desk: Desk, patient: str, prescription: str, kinds: tuple[Kind, ...]) -> tuple[str, ...]:
    """What was said here about the prescription, waits, and must be judged first."""
    register, registers = await patient_register(desk.engine, patient)
    require_care(desk, patient, register.care_sites)
    waiting = waiting_in(desk.engine, documents.patient(patient))
    mine = tuple(
        one.ref for one in waiting if one.kind in kinds and getattr(one.content, "prescription", None) == prescription
    )
    if f"prescription/{prescription}" not in registers.values and not mine:
        raise missing(f"a signed prescription {prescription} of patient {patient}", "sync, and look again")
    return mine
