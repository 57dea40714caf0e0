"""The pharmacy: dispensing, receiving goods, adjusting what is on hand."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TypeVar

from crdtmed import documents
from crdtmed.aggregates.dispensing_event import Dispense, QueueEntry
from crdtmed.aggregates.medication import MedicationRegister, Pack, by_gtin
from crdtmed.aggregates.prescription import PrescriptionRegister
from crdtmed.aggregates.stock_item import Adjust, AdjustReason, Receipt
from crdtmed.contract import Kind
from crdtmed.device.desk import Desk, missing, now_ms, require_site
from crdtmed.device.engine import Said
from crdtmed.device.engine_types import DeviceError
from crdtmed.device.site_view import site_view
from crdtmed.device.views import registers_of, waiting_in
from crdtmed.gs1 import parse_scan

FORMULARY = "formulary"
T = TypeVar("T", str, date)


@dataclass(frozen=True, slots=True)
class ScannedPack:
    """What a scanned GS1 code says of a pack of the formulary; lot, expiry and serial as far as the code has them."""

    medicine: MedicationRegister
    pack: Pack
    lot: str | None
    expiry: date | None
    serial: str | None


async def formulary(desk: Desk) -> tuple[MedicationRegister, ...]:
    """Every medicine of the formulary, by code; search it with `crdtmed.aggregates.medication.search`."""
    return (await registers_of(desk.engine, FORMULARY)).of(MedicationRegister)


async def read_scan(desk: Desk, text: str) -> ScannedPack:
    """The pack that a scanner's text names.

    Raises `crdtmed.gs1.Gs1Error` where it is no medicine's code, `DeviceError` ``pack_unknown`` where the formulary has
    no such pack, ``pack_ambiguous`` where it has several.
    """
    today = datetime.fromtimestamp(now_ms(desk) / 1000, UTC).date()
    scan = parse_scan(text, today=today)
    found = by_gtin(await formulary(desk), scan.gtin)
    if not found:
        raise DeviceError(
            "pack_unknown", f"the formulary has no pack with GTIN {scan.gtin}", "choose the medicine by name"
        )
    if len(found) > 1:
        names = ", ".join(medicine.display for medicine, _ in found)
        raise DeviceError("pack_ambiguous", f"GTIN {scan.gtin} is a pack of {names}", "choose the medicine by name")
    ((medicine, pack),) = found
    return ScannedPack(medicine, pack, scan.lot, scan.expiry, scan.serial)


async def dispense(
    desk: Desk,
    patient: str,
    prescription: str,
    *,
    lot: str,
    quantity: int,
    handed_over: bool = True,
    site: str | None = None,
    item: str | None = None,
    unit: str | None = None,
    occurred_at: int | None = None,
    label_number: int | None = None,
    key: str | None = None,
) -> Said:
    """Dispenses ``quantity`` counting units of a lot for a prescription; what is on hand is tentative until accepted.

    Site, item and unit are those of the prescription where None; ``occurred_at`` (ms) is now; ``key`` is the
    idempotency key, fresh where None.  ``handed_over``: the medicine has left the pharmacy, which makes it a fact.
    """
    engine = desk.engine
    order = await _order(desk, patient, prescription, site)
    site = site or (order.site if order is not None else None)
    item = item or (order.item if order is not None else None)
    unit = unit or await _counting_unit(desk, item) or (order.unit if order is not None else None)
    if site is None or item is None or unit is None:
        raise missing(f"prescription {prescription} of patient {patient}", "name site, item and unit, or sync first")
    if not handed_over:
        require_site(desk, site)
    log = documents.log_of(documents.site(site))
    receipts = tuple(
        one.ref
        for one in waiting_in(engine, log)
        if one.undecided and isinstance(one.content, Receipt) and (one.content.item, one.content.lot) == (item, lot)
    )
    content = Dispense(
        prescription=prescription,
        patient=patient,
        item=item,
        lot=lot,
        quantity=quantity,
        unit=unit,
        handed_over=handed_over,
        occurred_at=now_ms(desk) if occurred_at is None else occurred_at,
        label_number=label_number,
    )
    return await engine.say(Kind.DISPENSE, log, content, seen=receipts, key=key)


@dataclass(frozen=True, slots=True)
class _Order:
    site: str
    item: str
    unit: str


async def _order(desk: Desk, patient: str, prescription: str, site: str | None) -> _Order | None:
    """What is to be dispensed, from the patient's document or a queue."""
    registers = await registers_of(desk.engine, documents.patient(patient))
    register = registers.values.get(f"prescription/{prescription}")
    if isinstance(register, PrescriptionRegister):
        return _Order(register.site, register.groups.medication.code, register.unit)
    sites = (
        [site] if site is not None else [n.removeprefix("site/") for n in desk.engine.scopes if n.startswith("site/")]
    )
    for name in sites:
        entry = (await registers_of(desk.engine, documents.site(name))).values.get(f"queue/{prescription}")
        if isinstance(entry, QueueEntry) and entry.patient == patient:
            return _Order(name, entry.item, entry.unit)
    return None


async def _counting_unit(desk: Desk, item: str | None) -> str | None:
    found = (await registers_of(desk.engine, FORMULARY)).values.get(f"item/{item}")
    return found.counting_unit if isinstance(found, MedicationRegister) else None


async def receive(
    desk: Desk,
    site: str,
    *,
    supplier: str,
    delivery_note: str,
    quantity: int,
    scan: ScannedPack | None = None,
    item: str | None = None,
    lot: str | None = None,
    expiry: date | None = None,
    unit: str | None = None,
    occurred_at: int | None = None,
    key: str | None = None,
) -> Said:
    """Records goods received: ``quantity`` counting units of one lot; it may wait offline, and counts as tentative.

    A ``scan`` (`read_scan`) gives item, lot, expiry and serial; what is named beside it must agree.  A pack is
    ``scan.pack.units`` counting units.
    """
    item = _agreed("item", item, scan.medicine.code if scan is not None else None)
    lot = _agreed("lot", lot, scan.lot if scan is not None else None)
    expires = _agreed("expiry", expiry, scan.expiry if scan is not None else None)
    unit = unit or await _counting_unit(desk, item)
    if unit is None:
        raise missing(f"the medicine {item} in its formulary", "name its counting unit, or sync first")
    content = Receipt(
        supplier=supplier,
        delivery_note=delivery_note,
        item=item,
        lot=lot,
        expiry=expires.isoformat(),
        quantity=quantity,
        unit=unit,
        occurred_at=now_ms(desk) if occurred_at is None else occurred_at,
        gtin=scan.pack.gtin if scan is not None else None,
        serial=scan.serial if scan is not None else None,
    )
    log = documents.log_of(documents.site(site))
    return await desk.engine.say(Kind.RECEIPT, log, content, key=key)


def _agreed(field: str, named: T | None, scanned: T | None) -> T:
    if named is not None and scanned is not None and named != scanned:
        raise DeviceError(
            "scan_differs", f"the {field} named is {named}, the scanned code says {scanned}", "correct one of them"
        )
    value = named if named is not None else scanned
    if value is None:
        raise DeviceError("incomplete", f"the {field} is missing", "name it, or scan a code that has it")
    return value


async def adjust(
    desk: Desk,
    site: str,
    item: str,
    lot: str,
    delta: int,
    reason: AdjustReason,
    *,
    corrects: str | None = None,
    closes_shortage: int = 0,
    comment: str | None = None,
) -> Said:
    """Changes what is on hand of a lot by ``delta``, as seen now on this device; raises `NeedsRelay` without one.

    ``corrects`` names a wrong receipt, ``closes_shortage`` the units of a shortage that it closes.
    """
    require_site(desk, site)
    view = (await site_view(desk.engine, site)).lot(item, lot)
    if view is None or view.version == 0:
        raise missing(f"lot {lot} of {item} at {site}", "sync, and look at the stock again")
    content = Adjust(item, lot, delta, reason, view.version, corrects, closes_shortage, comment)
    return await desk.engine.say(Kind.ADJUST, documents.log_of(documents.site(site)), content)
