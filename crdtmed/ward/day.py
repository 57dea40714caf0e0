"""A day on the ward and in the pharmacy, as acts in plain words; every act is real work of real devices."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from crdtmed.aggregates.alert_override_record import OverrideReason, open_cards
from crdtmed.aggregates.conflict import Action
from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.prescription_draft import Dose, Group, Medication, Supply, Timing
from crdtmed.aggregates.reconciliation_session import Decision, HomeMedication
from crdtmed.aggregates.stock_item import AdjustReason
from crdtmed.device.device import Device
from crdtmed.device.drafting import Draft
from crdtmed.device.engine import Said
from crdtmed.device.engine_types import DeviceError, State
from crdtmed.gs1 import element_string
from crdtmed.ward.generator import ORAL
from crdtmed.ward.hospital import Hospital, WardFailed, pin_of
from crdtmed.ward.plan import LOT, PHARMACY, Plan
from crdtmed.ward.reading import Order

HOUR_MS: Final = 3_600_000
AT_ONCE: Final = 8
GENERATED: Final = "generated from the order"


@dataclass
class Progress:
    """What the board shows: the story so far, and how much of the day is done."""

    tell: Callable[[str], None]
    step: Callable[[int], None]
    goal: Callable[[int], None]


@dataclass
class Day:
    """What happens, and what it left: every statement that was said, and what the story expects of some."""

    hospital: Hospital
    plan: Plan
    progress: Progress
    said: list[Said] = field(default_factory=list)
    signed: dict[str, Order] = field(default_factory=dict)
    """Prescription: the order it came from."""
    numbers: dict[str, str] = field(default_factory=dict)
    """Number of an order in its file: its prescription."""
    unsigned: int = 0
    refused_signs: int = 0
    wiped_after_ms: int | None = None
    revoked: str = ""

    def tell(self, text: str) -> None:
        """One line of the story."""
        self.progress.tell(text)

    def keep(self, *said: Said) -> None:
        """Remembers what was said, for the balance."""
        self.said.extend(said)

    async def settle(self, doing: Awaitable[Said]) -> tuple[Said, State]:
        """Says something and waits for its verdict."""
        said = await doing
        self.keep(said)
        return said, await asyncio.wait_for(said.settled(), 60)


async def in_parts(items: Iterable[Order], act: Callable[[Order], Awaitable[None]]) -> None:
    """Does ``act`` for all of them, a few at a time; the first failure ends it."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(item: Order) -> None:
        async with gate:
            await act(item)

    async with asyncio.TaskGroup() as group:
        for item in items:
            group.create_task(one(item))


# ---- the orders of the day ----------------------------------------------------------------------------------------


async def write_orders(day: Day, tablet: Device) -> None:
    """Every order becomes a draft; those without blanks are signed, with an override where the rules ask for one."""
    orders = day.plan.orders
    day.tell(f"Ada writes {len(orders):,} orders as drafts; what could not be read stays blank")
    day.progress.goal(2 * len(orders))
    drafts: dict[str, Draft] = {}
    for order in orders:
        draft = tablet.draft(_patient(day, order))
        day.keep(*await draft.write(order.groups.values()))
        drafts[order.number] = draft
        day.numbers[order.number] = draft.prescription
        day.progress.step(1)
    await day.hospital.synced(tablet)
    whole = [order for order in orders if not order.blanks]
    day.unsigned = len(orders) - len(whole)
    day.progress.step(day.unsigned)
    day.tell(f"she signs the {len(whole):,} that lack nothing; {day.unsigned:,} stay drafts")

    async def sign(order: Order) -> None:
        draft = drafts[order.number]
        if await sign_with_overrides(day, tablet, draft) is State.ACCEPTED:
            day.signed[draft.prescription] = order
        else:
            day.refused_signs += 1
        day.progress.step(1)

    await in_parts(whole, sign)
    blank = next((order for order in orders if order.blanks), None)
    if blank is not None:
        try:
            await tablet.sign(drafts[blank.number])
        except DeviceError as error:
            names = ", ".join(blank.blanks)
            day.tell(f"a draft without {names} cannot be signed: {error.code}")


def _patient(day: Day, order: Order) -> str:
    known = {one.identifiers[0].value: one.id for one in day.plan.patients}
    return order.patient if order.patient in {one.id for one in day.plan.patients} else known[order.patient]


async def sign_with_overrides(day: Day, tablet: Device, draft: Draft) -> State:
    """Signs; where critical cards are open, overrides each with a reason and signs again."""
    for _ in range(8):
        said, state = await day.settle(tablet.sign(draft))
        verdict = await said.verdict()
        code = verdict.code if verdict is not None else ""
        if code == "patient_moved":
            continue
        if state is not State.REFUSED or code != "alerts_open":
            return state
        await tablet.until(lambda: _caught_up(tablet), 10)
        alerts = (await tablet.patient(draft.patient)).alerts.get(draft.prescription)
        for card in open_cards(alerts) if alerts is not None else ():
            await day.settle(
                tablet.override(draft.patient, draft.prescription, card.id, OverrideReason.BENEFIT_OUTWEIGHS_RISK)
            )
    return State.REFUSED


def _caught_up(device: Device) -> bool:
    report = device.status().report
    return report is not None and report.behind == 0


async def give_doses(day: Day, tablet: Device) -> None:
    """One dose of every signed prescription is given, or not given with a reason; the accounts are generated."""
    day.tell(f"Nina gives the first dose of each ({GENERATED}), offline, in a part of the ward without network")
    day.progress.goal(len(day.signed))
    await tablet.disconnect()
    for place, (prescription, order) in enumerate(day.signed.items()):
        patient = _patient(day, order)
        given = place % 10 != 9
        account = await tablet.administration(
            patient,
            "given" if given else "not-given",
            prescription=prescription,
            note=GENERATED,
            status_reason=None if given else "patient asleep",
        )
        day.keep(await tablet.administer(patient, account))
        day.progress.step(1)
    await tablet.connect()
    await day.hospital.synced(tablet)
    day.tell("her tablet is back: everything she recorded has arrived")


async def dispense_orders(day: Day, till: Device) -> None:
    """Every signed prescription is dispensed once (generated), or as the file's dispenses say, in date order."""
    if day.plan.refills:
        await _refill(day, till)
        return
    day.tell(f"Pia dispenses every prescription once ({GENERATED})")
    day.progress.goal(len(day.signed))
    for prescription, order in day.signed.items():
        supply = order.groups[Group.SUPPLY]
        assert isinstance(supply, Supply)
        day.keep(await till.dispense(_patient(day, order), prescription, lot=LOT, quantity=supply.quantity))
        day.progress.step(1)
    await day.hospital.synced(till)


async def _refill(day: Day, till: Device) -> None:
    playable = [refill for refill in day.plan.refills if day.numbers.get(refill.order) in day.signed]
    rest = len(day.plan.refills) - len(playable)
    day.tell(f"Pia dispenses {len(playable):,} refills in date order; {rest:,} are of drafts that were not signed")
    day.progress.goal(len(playable))
    known = {one.identifiers[0].value: one.id for one in day.plan.patients}
    for refill in playable:
        at = int(_midnight(refill.day))
        day.keep(
            await till.dispense(
                known[refill.patient], day.numbers[refill.order], lot=LOT, quantity=refill.quantity, occurred_at=at
            )
        )
        day.progress.step(1)
    await day.hospital.synced(till)


def _midnight(day: str) -> int:
    return max(0, (date.fromisoformat(day) - date(1970, 1, 1)).days * 24 * HOUR_MS)


# ---- what else happens --------------------------------------------------------------------------------------------


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
    label = await pia.label(first, gtin=packs[0].gtin if packs else "09520000000004")
    day.tell(f"Pia receives a delivery, dispenses, and prints a label marked tentative ({len(label):,} bytes of PDF)")
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
