"""What people do on their devices: the moves of every aggregate and role, allowed and forbidden.

A move looks at what its device shows and does something with it, as a person would; what is not possible just now is
left out.  Whatever the device answers with a `DeviceError` was not said.
"""

from collections.abc import Awaitable, Callable
from datetime import date
from random import Random
from typing import Any, Final

from crdtmed.aggregates.alert_override_record import OverrideReason
from crdtmed.aggregates.conflict import Action
from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.medication_administration import Administer, OfDraft, OfPrescription, OfVerbal, Subject
from crdtmed.aggregates.prescription_draft import (
    Dose,
    DraftStatus,
    Group,
    Instructions,
    Medication,
    Route,
    Supply,
    Timing,
)
from crdtmed.aggregates.reconciliation_session import Decision
from crdtmed.aggregates.stock_item import AdjustReason
from crdtmed.device.device import Device
from crdtmed.device.patient_view import PatientView
from tests.simulation.setting import ITEMS, PATIENTS, T0
from tests.simulation.tablet import Tablet

Move = Callable[[Tablet, Device, Random], Awaitable[Any]]
"""Does something; gives the `Said`, the several of one transaction, or None where there was nothing to do."""

ORAL: Final = Route("26643006", "Oral")


def _medicine(random: Random) -> Medication:
    code = random.choice(sorted(ITEMS))
    return Medication(code, ITEMS[code][0])


def _value(group: Group, random: Random, view: Any) -> Any:
    match group:
        case Group.MEDICATION:
            return _medicine(random)
        case Group.DOSE:
            return Dose(Quantity(str(random.choice((250, 500, 1000))), "mg"))
        case Group.ROUTE:
            return ORAL
        case Group.TIMING:
            return Timing(frequency=random.choice((1, 2, 3)), period="1", period_unit="d")
        case Group.SUPPLY:
            held = view.groups.get(Group.MEDICATION) if view is not None else None
            code = held.value.code if held is not None and held.value is not None else "amox"
            return Supply(random.choice((7, 14, 21)), ITEMS[code][1], random.choice((0, 1)), "pharm")
        case Group.INSTRUCTIONS:
            return Instructions(random.choice(("with food", "before bed", "with much water")))
    raise AssertionError(group)


async def _patient(
    device: Device, random: Random, fits: Callable[[PatientView], object] = lambda view: True
) -> PatientView | None:
    """One of the patients that are held and whom the move fits."""
    names = [name for name in PATIENTS if name in device.patients and f"patient/{name}" in device.engine.core.rows]
    random.shuffle(names)
    for name in names:
        view = await device.patient(name)
        if fits(view):
            return view
    return None


async def draft(tablet: Tablet, device: Device, random: Random) -> Any:
    """A new draft, complete or not."""
    new = device.draft(random.choice(PATIENTS))
    medicine = _medicine(random)
    supply = Supply(random.choice((7, 14, 21)), ITEMS[medicine.code][1], random.choice((0, 1)), "pharm")
    timing = Timing(frequency=random.choice((1, 2, 3)), period="1", period_unit="d")
    if random.random() < 0.2:
        return await new.set(medication=medicine)
    return await new.set(
        medication=medicine, dose=Dose(Quantity("500", "mg")), route=ORAL, timing=timing, supply=supply
    )


async def _a_draft(device: Device, random: Random) -> Any:
    view = await _patient(device, random, lambda it: it.drafts)
    if view is None:
        return None
    return device.draft(view.register.id, random.choice(sorted(view.drafts)))


async def edit(tablet: Tablet, device: Device, random: Random) -> Any:
    """Some groups of a draft, written anew."""
    found = await _a_draft(device, random)
    if found is None:
        return None
    view = await found.view()
    groups = random.sample(
        [Group.MEDICATION, Group.DOSE, Group.TIMING, Group.SUPPLY, Group.INSTRUCTIONS], random.choice((1, 1, 2))
    )
    return await found.write([_value(group, random, view) for group in groups])


async def confirm(tablet: Tablet, device: Device, random: Random) -> Any:
    """Confirms what is concurrent or under review."""
    found = await _a_draft(device, random)
    return await found.confirm() if found is not None else None


async def discard(tablet: Tablet, device: Device, random: Random) -> Any:
    """A draft entered in error."""
    found = await _a_draft(device, random)
    return await found.set(status=DraftStatus("entered-in-error")) if found is not None else None


async def sign(tablet: Tablet, device: Device, random: Random) -> Any:
    """Signs a draft, after confirming what waits for it."""
    found = await _a_draft(device, random)
    if found is None:
        return None
    if random.random() < 0.7:
        await found.confirm()
    return await device.sign(found)


async def override(tablet: Tablet, device: Device, random: Random) -> Any:
    """Overrides an alert that is open, then signs again."""
    view = await _patient(device, random, lambda it: it.alerts)
    if view is None:
        return None
    for name, alerts in sorted(view.alerts.items()):
        open_ = {card.id for card in alerts.cards} - {alert for alert, _ in alerts.overridden}
        if open_ and name in view.drafts:
            reason = OverrideReason.TOLERATED_BEFORE
            said = await device.override(view.register.id, name, sorted(open_)[0], reason)
            await said.settled()
            return await device.sign(device.draft(view.register.id, name))
    return None


async def _an_order(device: Device, random: Random) -> tuple[PatientView, str] | None:
    view = await _patient(device, random, lambda it: it.prescriptions)
    if view is None:
        return None
    return view, random.choice(view.prescriptions).register.id


async def stop(tablet: Tablet, device: Device, random: Random) -> Any:
    """Stops a prescription."""
    found = await _an_order(device, random)
    return await device.stop(found[0].register.id, found[1], "rash") if found is not None else None


async def hold(tablet: Tablet, device: Device, random: Random) -> Any:
    """Puts a prescription on hold."""
    found = await _an_order(device, random)
    return await device.hold_prescription(found[0].register.id, found[1], "surgery") if found is not None else None


async def resume(tablet: Tablet, device: Device, random: Random) -> Any:
    """Resumes a prescription."""
    found = await _an_order(device, random)
    return await device.resume(found[0].register.id, found[1], "recovered") if found is not None else None


async def amend(tablet: Tablet, device: Device, random: Random) -> Any:
    """Amends a prescription."""
    found = await _an_order(device, random)
    if found is None:
        return None
    new = await device.start_amendment(found[0].register.id, found[1])
    await new.set(dose=Dose(Quantity("250", "mg")))
    return await device.amend(new, found[1], "weight")


async def dispense(tablet: Tablet, device: Device, random: Random) -> Any:
    """Dispenses for a prescription that the queue shows, mostly as it should be."""
    if "site/pharm" not in device.engine.core.rows:
        return None
    site = await device.site("pharm")
    if not site.queue:
        return None
    entry = random.choice(site.queue).entry
    lots = [each.lot for each in site.lots(entry.item)] or ["A1"]
    if random.random() < 0.05:
        lots = ["no-such-lot"]
    quantity = random.choice((7, 7, 14, 21, entry.authorised, 40))
    return await device.dispense(
        entry.patient,
        entry.prescription,
        lot=random.choice(lots),
        quantity=quantity,
        handed_over=random.random() < 0.7,
        label_number=random.randrange(1, 1_000),
    )


async def receive(tablet: Tablet, device: Device, random: Random) -> Any:
    """Goods received; the same delivery note comes twice now and then."""
    item = random.choice(sorted(ITEMS))
    return await device.receive(
        "pharm",
        supplier="Example Pharma",
        delivery_note=f"note {random.randrange(6)}",
        quantity=random.choice((10, 20)),
        item=item,
        lot=random.choice(("A1", "A2", "N1", "N2") if item == "amox" else ("P1", "P2")),
        expiry=date(2099, 12, 31),
    )


async def adjust(tablet: Tablet, device: Device, random: Random) -> Any:
    """Counts a lot, and says what is missing."""
    if "site/pharm" not in device.engine.core.rows:
        return None
    stock = (await device.site("pharm")).stock
    if not stock:
        return None
    of = random.choice(stock)
    short = min(of.shortage, 5)
    if short and random.random() < 0.5:
        reason = AdjustReason.CLOSES_SHORTAGE
        return await device.adjust("pharm", of.item, of.lot, 0, reason, closes_shortage=short)
    return await device.adjust("pharm", of.item, of.lot, random.choice((-3, -1, 2, 5)), AdjustReason.COUNT)


async def administer(tablet: Tablet, device: Device, random: Random) -> Any:
    """Something given, or not."""
    view = await _patient(device, random)
    patient = view.register.id if view is not None else random.choice(PATIENTS)
    subject: Subject = OfVerbal("Ana", "emergency", "Paracetamol 500 mg", "para")
    if view is not None and view.prescriptions and random.random() < 0.7:
        subject = OfPrescription(random.choice(view.prescriptions).register.id)
    elif view is not None and view.drafts and random.random() < 0.5:
        subject = OfDraft(random.choice(sorted(view.drafts)))
    given = random.random() < 0.8
    now = device.engine.core.relay_now()
    account = Administer(
        subject,
        "given" if given else "not-given",
        max(T0, now - random.randrange(3_600_000)),
        random.choice(("ward", "ward", "pharm")),
        status_reason=None if given else "asleep",
        dose=Quantity("500", "mg") if given else None,
    )
    return await device.administer(patient, account)


async def correct(tablet: Tablet, device: Device, random: Random) -> Any:
    """An administration corrected."""
    view = await _patient(device, random)
    if view is None:
        return None
    entries = await device.engine.statements(f"patient/{view.register.id}/log")
    refs = sorted(entry.ref for entry in entries if entry.statement.kind.label in ("administer", "correct"))
    return await device.correct(view.register.id, random.choice(refs), "wrong patient") if refs else None


async def open_session(tablet: Tablet, device: Device, random: Random) -> Any:
    """Opens a reconciliation."""
    view = await _patient(device, random)
    return (await device.open_reconciliation(view.register.id)).opened if view is not None else None


async def record(tablet: Tablet, device: Device, random: Random) -> Any:
    """Records a decision in a session, whatever its status."""
    view = await _patient(device, random, lambda it: it.sessions)
    if view is None:
        return None
    session = random.choice(view.sessions)
    if not session.items:
        return None
    key = random.choice(session.items).medicine.key
    work = device.reconciliation(view.register.id, session.id)
    return await work.record(key, random.choice(list(Decision)))


async def complete(tablet: Tablet, device: Device, random: Random) -> Any:
    """Completes a session, whatever its status."""
    view = await _patient(device, random, lambda it: it.sessions)
    if view is None:
        return None
    return await device.reconciliation(view.register.id, random.choice(view.sessions).id).complete()


async def resolve(tablet: Tablet, device: Device, random: Random) -> Any:
    """Chooses something about a conflict."""
    found = [one for one in await device.conflicts() if one.actions]
    if not found:
        return None
    one = random.choice(found)
    action = random.choice(one.actions)
    lot = random.choice(("A1", "A2", "P1")) if action is Action.SWITCH_LOT else None
    quantity = random.choice((1, 3)) if action is Action.DISPENSE_PART else None
    return await device.resolve(one, Action(action), lot=lot, quantity=quantity)


async def reenter(tablet: Tablet, device: Device, random: Random) -> Any:
    """Enters a quarantined fact again."""
    if "site/pharm" not in device.engine.core.rows:
        return None
    found = [*(await device.site("pharm")).quarantined]
    view = await _patient(device, random, lambda it: it.quarantined)
    found += view.quarantined if view is not None else ()
    found = [one for one in found if one.register.open]
    return await device.reenter(random.choice(found)) if found else None


MOVES: Final[dict[str, tuple[Move, tuple[str, ...]]]] = {
    "draft": (draft, ("ana", "ben")),
    "edit": (edit, ("ana", "ben")),
    "confirm": (confirm, ("ana", "ben")),
    "discard": (discard, ("ana", "ben")),
    "sign": (sign, ("ana", "ben")),
    "override": (override, ("ana", "ben")),
    "stop": (stop, ("ana", "ben")),
    "hold": (hold, ("ana", "ben")),
    "resume": (resume, ("ana", "ben")),
    "amend": (amend, ("ana", "ben")),
    "dispense": (dispense, ("pia", "qun")),
    "receive": (receive, ("pia", "qun", "sam")),
    "adjust": (adjust, ("sam",)),
    "administer": (administer, ("nia", "ana", "ben")),
    "correct": (correct, ("nia", "ana", "ben")),
    "open": (open_session, ("ana", "ben", "pia", "qun", "nia")),
    "record": (record, ("ana", "ben", "pia", "qun", "nia")),
    "complete": (complete, ("ana", "ben", "pia", "qun", "nia")),
    "resolve": (resolve, ("ana", "ben", "pia", "qun", "nia", "sam")),
    "reenter": (reenter, ("nia", "pia", "qun", "ana")),
}
"""Every move, and who may make it; now and then somebody else tries."""

INSTEAD: Final[dict[str, str]] = {
    **dict.fromkeys(("edit", "confirm", "discard", "sign"), "draft"),
    **dict.fromkeys(("override", "stop", "hold", "resume", "amend"), "sign"),
    **dict.fromkeys(("dispense", "adjust"), "receive"),
    **dict.fromkeys(("record", "complete"), "open"),
    **dict.fromkeys(("correct",), "administer"),
}
"""What somebody does who finds nothing to do."""
