"""The verbs and views by themselves: what they refuse before anything is said, and when a view is made anew."""

import pkgutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

import crdtmed.aggregates
from crdtmed.aggregates.conflict import Action
from crdtmed.aggregates.dispensing_event import Dispense
from crdtmed.aggregates.medication import MedicationRegister, Pack
from crdtmed.aggregates.medication_administration import OfVerbal
from crdtmed.aggregates.stock_item import StockRegister
from crdtmed.contract import Kind, Role
from crdtmed.device import drafting, pharmacy, prescribing, resolving, ward_verbs
from crdtmed.device.engine import Engine
from crdtmed.device.engine_core import READER
from crdtmed.device.engine_types import DeviceError, NotAllowed
from crdtmed.device.inbox import InboxEntry
from crdtmed.device.pharmacy import ScannedPack
from crdtmed.device.replicas import fresh
from crdtmed.device.site_view import _stock
from crdtmed.device.store import BaseRow
from crdtmed.device.views import Registers, Waiting, age_of, kept, waiting_in
from crdtmed.limits import KEPT_VIEWS
from crdtmed.reasons import StockShort
from crdtmed.verdict import Status, Verdict
from tests.device.world import P1, Device, administer, run


@dataclass
class Desk:
    """The least that verbs are said at."""

    engine: Engine


def at_a_desk(tmp_path: Path, story: Callable[[Desk], Awaitable[None]]) -> None:
    """Runs ``story`` on an offline device with everybody's roles signed in at ward and pharmacy."""

    async def whole() -> None:
        device = Device("aaaaaaaa", tmp_path / "a.db")
        async with device.engine() as engine:
            engine.use(structs.replace(device.grant(), roles=tuple(Role), sites=("ward", "pharm")))
            await story(Desk(engine))

    run(whole())


# ---- views that are kept ------------------------------------------------------------------------------------------


def test_a_view_is_kept_until_something_that_it_rests_on_changes(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        engine, made = desk.engine, []

        async def look() -> int:
            async def make() -> int:
                made.append(1)
                return len(made)

            return await kept(engine, "view", P1, P1.__eq__, make)

        assert (await look(), await look()) == (1, 1)
        engine.core.changed("patient/p2")
        assert await look() == 1, "another patient's change leaves it"
        engine.core.changed(P1)
        assert await look() == 2

    at_a_desk(tmp_path, story)


def test_a_view_made_while_something_changed_is_not_kept(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        engine = desk.engine
        values = iter((1, 2))

        async def make() -> int:
            value = next(values)
            if value == 1:
                engine.core.changed(P1)
            return value

        assert await kept(engine, "view", P1, P1.__eq__, make) == 1
        assert await kept(engine, "view", P1, P1.__eq__, make) == 2

    at_a_desk(tmp_path, story)


def test_a_view_is_made_anew_when_memory_is_ahead_of_what_was_told(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        engine, values = desk.engine, iter((1, 2, 3))

        async def make() -> int:
            return next(values)

        async def look() -> int:
            return await kept(engine, "view", P1, P1.__eq__, make)

        assert await look() == 1
        engine.core.rows[P1] = BaseRow(P1, "e", 1, 0, 5)
        assert await look() == 2, "the base went on"
        engine.core.rows[P1] = BaseRow(P1, "e", 1, 1, 9)
        assert await look() == 2, "that it was verified and synced changes nothing that is shown"
        engine.core.held[P1] = fresh(READER, P1)
        assert await look() == 3, "the base was taken anew"

    at_a_desk(tmp_path, story)


def test_views_that_are_kept_are_bounded(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        async def make() -> int:
            return 1

        for number in range(KEPT_VIEWS + 5):
            await kept(desk.engine, f"view {number}", P1, P1.__eq__, make)
        assert len(desk.engine.core.shown) == KEPT_VIEWS

    at_a_desk(tmp_path, story)


def test_what_was_said_here_is_waiting_and_has_no_age(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        said = await administer(desk.engine, 1)
        (waiting,) = waiting_in(desk.engine, "patient/p1/log")
        assert (waiting.ref, waiting.kind, waiting.undecided) == (said.ref, Kind.ADMINISTER, True)
        assert waiting_in(desk.engine, "patient/p2/log") == ()
        age = age_of(desk.engine, (P1,))
        assert (age.synced_at, age.age_ms, age.live) == (None, None, False)

    at_a_desk(tmp_path, story)


# ---- stock that is tentative --------------------------------------------------------------------------------------

LOT = StockRegister("amox", "A1", "2099-01-31", 20, "{capsule}", 3)


def waiting_dispense(*, handed_over: bool, status: Status | None) -> Waiting:
    """A dispense of 5 that waits, with a verdict of that status."""
    content = Dispense("rx", "p1", "amox", "A1", 5, "{capsule}", handed_over, 1_000)
    ref = "aaaaaaaa.aaaaaaaaaaaaaaaa"
    verdict = Verdict(ref, status, 1, reason=StockShort(1, 5)) if status is not None else None
    return Waiting(ref, Kind.DISPENSE, "pia", 1, content, None, verdict)  # type: ignore[arg-type]  # not looked at here


@pytest.mark.parametrize(
    ("handed_over", "status", "tentative"),
    [
        (True, None, 15),
        (False, None, 15),
        (True, Status.RETRY, 15),
        (True, Status.ACCEPTED, 15),
        (True, Status.CONFLICT, 15),
        (False, Status.CONFLICT, 20),
        (False, Status.REFUSED, 20),
    ],
)
def test_a_dispense_takes_from_the_shelf_while_it_waits_and_when_it_was_handed_over(
    handed_over: bool, status: Status | None, tentative: int
) -> None:
    registers = Registers({"stock/amox/A1": LOT}, ())
    (view,) = _stock(registers, (waiting_dispense(handed_over=handed_over, status=status),), {})
    assert (view.confirmed, view.tentative) == (20, tentative)


# ---- what verbs refuse --------------------------------------------------------------------------------------------

MEDICINE = MedicationRegister("amox", "Amoxicillin", "{capsule}", 1, packs=(Pack("09506000134352", 21),))
SCAN = ScannedPack(MEDICINE, MEDICINE.packs[0], "A1", date(2050, 1, 31), None)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"lot": "A1", "expiry": date(2050, 1, 31)}, "incomplete"),
        ({"item": "amox", "expiry": date(2050, 1, 31)}, "incomplete"),
        ({"item": "amox", "lot": "A1"}, "incomplete"),
        ({"item": "amox", "lot": "A1", "expiry": date(2050, 1, 31)}, "not_held"),
        ({"scan": SCAN, "lot": "B2"}, "scan_differs"),
        ({"scan": SCAN, "expiry": date(2050, 2, 28)}, "scan_differs"),
        ({"scan": SCAN, "item": "other"}, "scan_differs"),
    ],
)
def test_a_receipt_that_lacks_something_or_contradicts_its_scan_is_not_said(
    tmp_path: Path, given: dict[str, object], code: str
) -> None:
    async def story(desk: Desk) -> None:
        with pytest.raises(DeviceError) as caught:
            await pharmacy.receive(desk, "pharm", supplier="S", delivery_note="N", quantity=1, **given)  # type: ignore[arg-type]  # as the table has it
        assert caught.value.code == code
        assert caught.value.step
        assert not desk.engine.outbox()

    at_a_desk(tmp_path, story)


def test_a_scan_fills_a_receipt_in(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        await pharmacy.receive(
            desk, "pharm", supplier="S", delivery_note="N", quantity=21, scan=SCAN, unit="{capsule}", lot="A1"
        )
        (waiting,) = waiting_in(desk.engine, "site/pharm/log")
        found = msgspec.to_builtins(waiting.content)
        assert (found["item"], found["lot"], found["expiry"], found["gtin"]) == (
            *("amox", "A1", "2050-01-31", "09506000134352"),
        )

    at_a_desk(tmp_path, story)


def test_a_dispense_waits_for_the_receipt_of_its_own_lot(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        said = {}
        for lot in ("A1", "A2"):
            said[lot] = await pharmacy.receive(
                *(desk, "pharm"),
                supplier="S",
                delivery_note="N",
                quantity=1,
                item="amox",
                lot=lot,
                expiry=date(2050, 1, 1),
                unit="{capsule}",
            )
        await pharmacy.dispense(
            desk, "p1", "rx", lot="A2", quantity=1, site="pharm", item="amox", unit="{capsule}", handed_over=False
        )
        *_, dispensed = waiting_in(desk.engine, "site/pharm/log")
        assert dispensed.statement.seen == (said["A2"].ref,)
        with pytest.raises(NotAllowed, match="site_not_granted"):
            await pharmacy.dispense(
                desk, "p1", "rx", lot="A2", quantity=1, site="other", item="amox", unit="{capsule}", handed_over=False
            )

    at_a_desk(tmp_path, story)


def test_an_administration_is_on_exactly_one_order(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        verbal = OfVerbal("Dr Who", "emergency", "Adrenaline")
        for orders in ({}, {"prescription": "rx", "draft": "d"}, {"draft": "d", "verbal": verbal}):
            with pytest.raises(DeviceError, match="name one"):
                await ward_verbs.administration(desk, "p1", "given", site="ward", **orders)
        with pytest.raises(DeviceError, match="name the site"):
            await ward_verbs.administration(desk, "p1", "given", prescription="rx")

    at_a_desk(tmp_path, story)


def test_nothing_is_done_to_a_patient_who_is_not_held(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        draft = drafting.draft(desk, "p1")
        for doing in (
            draft.confirm(),
            draft.discard(),
            prescribing.sign(desk, draft),
            prescribing.stop(desk, "p1", "rx", "no"),
            ward_verbs.open_reconciliation(desk, "p1"),
            drafting.start_amendment(desk, "p1", "rx"),
        ):
            with pytest.raises(DeviceError, match="not_held"):
                await doing
        assert not desk.engine.outbox()

    at_a_desk(tmp_path, story)


def test_only_what_is_in_conflict_can_be_resolved(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        with pytest.raises(DeviceError, match="conflict_unknown"):
            await resolving.resolve(desk, "aaaaaaaa.aaaaaaaaaaaaaaaa", Action.DISCARD)
        alarm = InboxEntry(1, 1, "forged", "a forged one", True, None, None)
        with pytest.raises(DeviceError, match="alarm"):
            await resolving.resolve(desk, alarm, Action.DISCARD)
        with pytest.raises(DeviceError, match="quarantine_unknown"):
            await resolving.reenter(desk, "aaaaaaaa.aaaaaaaaaaaaaaaa")

    at_a_desk(tmp_path, story)


# ---- one encoding -------------------------------------------------------------------------------------------------


def test_a_model_of_many_fields_always_writes_them_all() -> None:
    """Else msgspec widens the header of the map, and the bytes are not the one encoding of their value."""
    seen = 0
    for module in pkgutil.iter_modules(crdtmed.aggregates.__path__, "crdtmed.aggregates."):
        for model in vars(import_module(module.name)).values():
            if isinstance(model, type) and issubclass(model, msgspec.Struct):
                seen += 1
                fields = len(model.__struct_fields__) + (model.__struct_config__.tag is not None)
                assert fields <= 15 or not model.__struct_config__.omit_defaults, model.__name__
    assert seen > 30
