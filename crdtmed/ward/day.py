"""A day on the ward and in the pharmacy, as acts in plain words; every act is real work of real devices."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from crdtmed.aggregates.alert_override_record import OverrideReason, open_cards
from crdtmed.aggregates.prescription_draft import Group, Supply
from crdtmed.device.device import Device
from crdtmed.device.drafting import Draft
from crdtmed.device.engine import Said
from crdtmed.device.engine_types import DeviceError, State
from crdtmed.ward.hospital import Hospital
from crdtmed.ward.plan import LOT, Plan
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
