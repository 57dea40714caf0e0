"""The label of a dispense, made from what the device holds, offline: numbered per print, tentative until accepted."""

from collections.abc import Sequence
from datetime import date, datetime, tzinfo
from typing import TYPE_CHECKING, Final

from crdtmed import documents
from crdtmed.aggregates.content import decode_content
from crdtmed.aggregates.directions import directions
from crdtmed.aggregates.dispensing_event import Dispense
from crdtmed.aggregates.medication import MedicationRegister
from crdtmed.aggregates.prescription import PrescriptionRegister
from crdtmed.aggregates.site import SiteRegister
from crdtmed.codec import decoder, encode
from crdtmed.contract import Kind
from crdtmed.device.desk import Desk, missing
from crdtmed.device.engine import Engine, Said
from crdtmed.device.engine_types import DeviceError, Standing, State
from crdtmed.device.patient_view import patient_register, zone_of
from crdtmed.device.site_view import site_view
from crdtmed.device.views import registers_of
from crdtmed.dose_text import number_text, quantity_text

if TYPE_CHECKING:
    from crdtmed.device.label import LabelContent

PRINTS: Final = "label prints"
"""Under which the store counts the prints of each dispense."""
_decode_count = decoder(int, 16)


async def label(
    desk: Desk,
    said: Said | str,
    *,
    cautions: Sequence[str] = (),
    gtin: str | None = None,
    prescriber: str | None = None,
) -> bytes:
    """The label of a dispense of this site as a PDF; every call is one more numbered print.

    ``gtin`` is that of the pack dispensed: the item's first where None.  ``prescriber`` is the name to print: the user
    id where None.  Raises `DeviceError` ``not_held`` or ``label_incomplete`` naming what is missing, and what
    `crdtmed.device.label.render_label` raises for text that does not fit: nothing is ever cut.
    """
    # Drawing loads fonts and a PDF writer, which a device that never prints does without.
    from crdtmed.device.label import render_label

    engine = desk.engine
    ref = said if isinstance(said, str) else said.ref
    site, dispense, tentative = await _dispense(engine, ref)
    count = await _prints(engine, ref) + 1
    content = await _content(engine, site, dispense, (tuple(cautions), gtin, prescriber), count, tentative)
    data = render_label(content)
    await engine.keep(PRINTS, ref, encode(count))
    return data


async def _dispense(engine: Engine, ref: str) -> tuple[str, Dispense, bool]:
    for scope in engine.scopes:
        if not scope.startswith("site/"):
            continue
        for entry in await engine.statements(documents.log_of(scope)):
            if entry.ref == ref and entry.statement.kind is Kind.DISPENSE:
                content = decode_content(Kind.DISPENSE, bytes(entry.statement.content))
                assert isinstance(content, Dispense)
                accepted = entry.standing is Standing.CONFIRMED or await engine.state(ref) is State.ACCEPTED
                return scope.removeprefix("site/"), content, not accepted
    raise missing(f"a dispense {ref}", "hold its site, and look at the reference again")


async def _prints(engine: Engine, ref: str) -> int:
    data = (await engine.kept(PRINTS)).get(ref)
    return _decode_count(data) if data is not None else 0


async def _content(
    engine: Engine,
    site: str,
    dispense: Dispense,
    given: tuple[tuple[str, ...], str | None, str | None],
    count: int,
    tentative: bool,
) -> "LabelContent":
    from crdtmed.device.label import LabelContent

    cautions, gtin, prescriber = given
    patient, registers = await patient_register(engine, dispense.patient)
    order = registers.values.get(f"prescription/{dispense.prescription}")
    if not isinstance(order, PrescriptionRegister):
        raise missing(f"the prescription {dispense.prescription}", "sync first: its directions go on the label")
    place = (await registers_of(engine, documents.site(site))).values.get("site")
    item = (await registers_of(engine, "formulary")).values.get(f"item/{dispense.item}")
    if not isinstance(place, SiteRegister) or not isinstance(item, MedicationRegister):
        raise missing(f"site {site} or item {dispense.item}", "sync first")
    lot = (await site_view(engine, site)).lot(dispense.item, dispense.lot)
    expiry = lot.expiry if lot is not None else None
    code = gtin or (item.packs[0].gtin if item.packs else None)
    lacking = [
        name
        for name, value in (("expiry", expiry), ("gtin", code), ("strength", item.strength), ("form", item.form))
        if value is None
    ]
    if expiry is None or code is None or item.strength is None or item.form is None:
        raise DeviceError(
            "label_incomplete", f"nobody has told the {' or '.join(lacking)} of {item.display}", "complete it first"
        )
    zone, _ = await zone_of(engine, (site,))
    text = directions(order.groups)
    if order.groups.instructions is not None:
        text = f"{text}\n{order.groups.instructions.text}"
    return LabelContent(
        patient_name=patient.name,
        birth_date=date.fromisoformat(patient.birth_date),
        medicine=item.display,
        strength=item.strength,
        form=item.form,
        quantity_text=amount_text(dispense),
        directions=text,
        cautions=cautions,
        prescriber=prescriber or order.prescriber,
        pharmacy_name=place.name,
        pharmacy_address=place.address,
        dispensed_on=_day(dispense.occurred_at, zone),
        lot=dispense.lot,
        expiry=date.fromisoformat(expiry),
        gtin=code,
        prescription_number=order.id,
        print_number=count,
        tentative=tentative,
    )


def amount_text(dispense: Dispense) -> str:
    """What was dispensed, by the rules of `crdtmed.dose_text`; a unit that has no text there stands as it is."""
    try:
        return quantity_text(str(dispense.quantity), dispense.unit)
    except ValueError:
        return f"{number_text(str(dispense.quantity))} {dispense.unit.strip('{}')}"


def _day(at_ms: int, zone: tzinfo) -> date:
    return datetime.fromtimestamp(at_ms / 1000, zone).date()
