"""What else happens in a day: work at once, an outage, conflicts, corrections, a refusal and a theft."""

import asyncio
from datetime import date

from crdtmed.aggregates.conflict import Action
from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.prescription_draft import Dose, Medication, Supply, Timing
from crdtmed.aggregates.reconciliation_session import Decision, HomeMedication
from crdtmed.aggregates.stock_item import AdjustReason
from crdtmed.device.device import Device
from crdtmed.device.engine_types import DeviceError, State
from crdtmed.gs1 import element_string
from crdtmed.ward.day import HOUR_MS, Day, sign_with_overrides
from crdtmed.ward.generator import ORAL
from crdtmed.ward.hospital import WardFailed, pin_of
from crdtmed.ward.plan import LOT, PHARMACY


async def two_tablets_draft(day: Day, one: Device, two: Device, patient: str) -> str:
    """Two prescribers write one draft at once; one confirms what was merged, and it is signed."""
    day.tell("Ada and Bo draft for one patient at once, Bo without network")
    draft = one.draft(patient)
    medicine = _medicine(day, 0)
    values = (
        medicine,
        Dose(quantity=Quantity("500", "mg")),
        ORAL,
        Timing(frequency=3, period="1", period_unit="d"),
        Supply(10, _unit(day, medicine.code), 1, PHARMACY),
    )
    day.keep(*await draft.write(values))
    await day.hospital.synced(one, two)
    same = two.draft(patient, draft.prescription)
    await two.disconnect()
    day.keep(*await draft.set(dose=Dose(quantity=Quantity("1000", "mg"))))
    day.keep(*await same.set(dose=Dose(quantity=Quantity("250", "mg"))))
    day.keep(*await same.set(timing=Timing(frequency=2, period="1", period_unit="d")))
    await two.connect()
    await day.hospital.synced(one, two)
    view = await draft.view()
    heads = [group for group, each in view.groups.items() if each.concurrent or each.review]
    day.tell(f"both doses are kept and shown; to be looked at: {', '.join(heads) or 'nothing'}")
    if not view.signable:
        day.keep(*await draft.confirm(*heads))
        await day.hospital.synced(one)
    state = await sign_with_overrides(day, one, draft)
    day.tell(f"Ada confirms and signs: {state}")
    if state is not State.ACCEPTED:
        raise WardFailed("a confirmed draft could not be signed")
    await day.hospital.synced(one, two)
    return draft.prescription


def _medicine(day: Day, place: int) -> Medication:
    one = day.plan.medicines[place]
    return Medication(one.code, one.display)


def _unit(day: Day, code: str) -> str:
    return next(one.counting_unit for one in day.plan.medicines if one.code == code)


async def cards_and_override(day: Day, tablet: Device, patient: str) -> None:
    """A dose over the ceiling: the sign is refused with cards, the override is recorded, the next sign goes through."""
    if not any(one.code == "para-500" for one in day.plan.medicines):
        return
    draft = tablet.draft(patient)
    day.keep(
        *await draft.set(
            medication=Medication("para-500", "Paracetamol 500 mg tablet"),
            dose=Dose(quantity=Quantity("1500", "mg")),
            route=ORAL,
            timing=Timing(frequency=4, period="1", period_unit="d"),
            supply=Supply(12, "{tablet}", 0, PHARMACY),
        )
    )
    await day.hospital.synced(tablet)
    said, state = await day.settle(tablet.sign(draft))
    verdict = await said.verdict()
    day.tell(f"six grams of paracetamol a day: the sign is {state} ({verdict.code if verdict else ''}), with its cards")
    day.tell(f"Ada gives her reason and signs again: {await sign_with_overrides(day, tablet, draft)}")


async def pharmacy_outage(day: Day, tills: tuple[Device, Device], patient: str, prescription: str) -> None:
    """Four hours without network: receipts and dispenses queue, shifts change, and the last pack is dispensed twice."""
    pia, quentin = tills
    day.tell("the pharmacy's network fails")
    await pia.disconnect()
    await quentin.disconnect()
    code = day.plan.medicines[0].code
    unit = _unit(day, code)
    packs = day.plan.medicines[0].packs
    scan = None
    if packs:
        scan = await pia.read_scan(element_string(packs[0].gtin, lot="N1", expiry=date(2059, 1, 31), serial="S1"))
    for note in ("LS-1", "LS-2"):
        day.keep(
            await pia.receive(PHARMACY, supplier="Wholesale", delivery_note=note, quantity=10, scan=scan)
            if scan is not None
            else await pia.receive(
                *(PHARMACY,), supplier="Wholesale", delivery_note=note, quantity=10, item=code, lot="N1",
                expiry=date(2059, 1, 31), unit=unit,
            )
        )  # fmt: skip
    first = await pia.dispense(patient, prescription, lot="N1", quantity=10)
    day.keep(first)
    try:
        label = await pia.label(first, gtin=packs[0].gtin if packs else "09520000000004")
    except DeviceError as error:
        day.tell(f"Pia receives a delivery and dispenses; a label is refused rather than printed short: {error.says}")
    else:
        day.tell(
            f"Pia receives a delivery, dispenses, and prints a label marked tentative ({len(label):,} bytes of PDF)"
        )
    day.keep(await quentin.dispense(patient, prescription, lot=LOT, quantity=10))
    day.keep(await pia.dispense(patient, prescription, lot=LOT, quantity=10))
    for hour in range(1, 5):
        day.hospital.clock_file.advance(HOUR_MS)
        await asyncio.sleep(0.1)
        if hour == 3:
            await pia.unlock("quentin", pin_of("quentin"))
            day.tell("the shift changes: Quentin unlocks Pia's till with his PIN, offline")
    day.tell("four hours later the network is back: both tills send what they queued")
    for till in tills:
        await till.connect()
        await day.hospital.online(till)
    await day.hospital.synced(*tills)


async def resolve_conflicts(day: Day, tills: tuple[Device, Device]) -> None:
    """Both pharmacists take up the same conflict: one resolves it, the other is told."""
    pia, quentin = tills
    conflicts = await pia.conflicts()
    day.tell(f"{len(conflicts)} conflict(s) wait in the pharmacy, on every till")
    for place, conflict in enumerate(conflicts[:3]):
        action = Action.CONFIRM_AS_GIVEN if Action.CONFIRM_AS_GIVEN in conflict.actions else Action(conflict.actions[0])
        _, state = await day.settle(pia.resolve(conflict, action))
        day.tell(f"{conflict.label.name if conflict.label else 'a conflict'}: {action} is {state}")
        if place == 0:
            try:
                said = await quentin.resolve(conflict, action)
            except DeviceError as error:
                day.tell(f"Quentin, too late, is told: {error.code}")
            else:
                day.keep(said)
                state = await said.settled()
                verdict = await said.verdict()
                day.tell(f"Quentin did the same a moment later: {state} ({verdict.code if verdict else ''})")
    await day.hospital.synced(*tills)


async def corrections(day: Day, tablet: Device, patient: str, prescription: str) -> None:
    """A dose recorded wrongly is corrected by an entry of its own; a stop is queued offline."""
    account = await tablet.administration(patient, "given", prescription=prescription, note="by hand")
    wrong, _ = await day.settle(tablet.administer(patient, account))
    right = await tablet.administration(
        patient, "not-given", prescription=prescription, status_reason="refused by the patient"
    )
    _, state = await day.settle(tablet.correct(patient, wrong.ref, "recorded for the wrong dose", right))
    day.tell(f"Nina corrects an entry: {state}; the wrong one stays, linked")


async def two_reconciliations(day: Day, one: Device, two: Device, patient: str) -> None:
    """Two tablets open one reconciliation: both sessions are entered in error, and somebody starts again."""
    homes = (HomeMedication("home-1", "Blood pressure tablets"),)
    await one.disconnect()
    await two.disconnect()
    first = await one.open_reconciliation(patient, homes)
    second = await two.open_reconciliation(patient, homes)
    for session in (first, second):
        if session.opened is not None:
            day.keep(session.opened)
    await one.connect()
    await two.connect()
    await day.hospital.synced(one, two)
    view = await one.patient(patient)
    states = sorted(str(session.status) for session in view.sessions)
    day.tell(f"two tablets opened one reconciliation: {', '.join(states)}")
    again = await one.open_reconciliation(patient)
    if again.opened is not None:
        day.keep(again.opened)
    await day.hospital.synced(one)
    day.keep(await again.record("home-1", Decision.CONTINUE))
    day.keep(await again.complete())
    await day.hospital.synced(one, two)
    day.tell("Nina starts a single session, which offers what both held, and completes it")


async def refused_and_adjusted(day: Day, nurse: Device, supervisor: Device) -> None:
    """What a role may not is refused at the device; stock is adjusted online, with the version seen."""
    code = day.plan.medicines[0].code
    await day.hospital.synced(nurse, supervisor)
    try:
        await nurse.adjust(PHARMACY, code, LOT, -1, AdjustReason.DAMAGED)
    except DeviceError as error:
        day.tell(f"Nina may not adjust stock: {error.code}")
    _, state = await day.settle(supervisor.adjust(PHARMACY, code, LOT, -1, AdjustReason.DAMAGED))
    day.tell(f"Sol takes a broken tablet off the books: {state}")
    await supervisor.disconnect()
    try:
        await supervisor.adjust(PHARMACY, code, LOT, -1, AdjustReason.DAMAGED)
    except DeviceError as error:
        day.tell(f"without network the adjustment is refused at once: {error.code}")
    await supervisor.connect()
    await day.hospital.online(supervisor)


async def stolen_tablet(day: Day, name: str, patient: str, prescription: str) -> None:
    """A tablet is stolen with unsent work on it; it is revoked, hands over what it has, and destroys its cache."""
    tablet = day.hospital.devices[name]
    await tablet.disconnect()
    account = await tablet.administration(patient, "given", prescription=prescription, note="never sent")
    day.keep(await tablet.administer(patient, account))
    day.tell("a tablet is stolen, with one entry on it that was never sent")
    day.revoked = day.hospital.ids[name]
    began = day.hospital.clock_file.wall_ms()
    await day.hospital.operator("revoke", day.revoked, "--reason", "stolen")
    await tablet.connect()
    for _ in range(3000):
        status = await day.hospital.operator("device", day.revoked)
        if status["wiped_at"] is not None:
            day.wiped_after_ms = status["wiped_at"] - began
            break
        await asyncio.sleep(0.1)
    else:
        raise WardFailed("the stolen tablet did not confirm its wipe within five minutes")
    day.tell(
        f"it hands {status['handed_over']} statement(s) into quarantine and is wiped "
        f"{day.wiped_after_ms / 1000:.1f} s after the revocation"
    )


async def reenter(day: Day, tablet: Device, patient: str) -> None:
    """A clinician enters the quarantined fact again, in their own name."""
    await day.hospital.synced(tablet)
    for one in (await tablet.patient(patient)).quarantined:
        if one.register.open:
            _, state = await day.settle(tablet.reenter(one))
            day.tell(f"Nina enters the quarantined dose again as her own statement: {state}")
