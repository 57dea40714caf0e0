"""A site as a device shows it: stock confirmed and tentative, the dispensing queue, and what is in conflict."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from crdtmed import documents
from crdtmed.aggregates.conflict import ConflictRegister
from crdtmed.aggregates.content import Content
from crdtmed.aggregates.dispensing_event import Dispense, QueueEntry, remaining
from crdtmed.aggregates.patient import PatientLabel
from crdtmed.aggregates.site import SiteRegister
from crdtmed.aggregates.stock_item import Receipt, StockRegister
from crdtmed.aggregates.stock_view import StockView, site_stock
from crdtmed.device.engine import Engine
from crdtmed.device.engine_types import DeviceError, Standing
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
    patient_label,
    quarantined_in,
    registers_of,
    waiting_in,
)
from crdtmed.statement import BadStatement, decode


@dataclass(frozen=True, slots=True)
class QueueView:
    """A prescription in the site's queue.

    ``label`` are the patient's identifiers (None where the patient is not held yet); ``remaining`` what the relay says
    may still be dispensed, ``pending`` the units of this device's dispenses that wait, and the statements.
    """

    entry: QueueEntry
    label: PatientLabel | None
    remaining: int
    pending: int
    waiting: tuple[str, ...]

    @property
    def tentative(self) -> int:
        """What is left if everything that waits is accepted; never below zero."""
        return max(0, self.remaining - self.pending)


@dataclass(frozen=True, slots=True)
class SiteView:
    """Everything that a device holds of a site.

    ``stock`` tells confirmed and tentative apart, lot by lot; ``waiting`` is what this device said here and the relay
    has not confirmed; ``unreadable`` are the keys of registers that this software cannot read.
    """

    register: SiteRegister
    age: Age
    stock: tuple[StockView, ...]
    queue: tuple[QueueView, ...]
    conflicts: tuple[ConflictView, ...]
    quarantined: tuple[QuarantineView, ...]
    waiting: tuple[Waiting, ...]
    unreadable: tuple[str, ...]

    def lots(self, item: str) -> tuple[StockView, ...]:
        """The lots of an item, first to expire first."""
        return tuple(one for one in self.stock if one.item == item)

    def lot(self, item: str, lot: str) -> StockView | None:
        """One lot of an item, None where nobody has told of it."""
        return next((one for one in self.stock if (one.item, one.lot) == (item, lot)), None)

    @property
    def open_conflicts(self) -> tuple[ConflictView, ...]:
        """What waits for somebody to choose."""
        return tuple(one for one in self.conflicts if one.register.open)


async def site_view(engine: Engine, site: str) -> SiteView:
    """The site as this device shows it now; raises `DeviceError` ``not_held``."""
    head = documents.site(site)
    view = await kept(engine, f"view of {head}", head, _rests_on, lambda: _view(engine, site))
    return replace(view, age=age_of(engine, (head, documents.log_of(head))))


def _rests_on(target: str) -> bool:
    """Whatever changes but what patients' drafts and records say: the registers of patients name them in the queue."""
    return not (target.startswith("patient/") and target.count("/") > 1)


async def _view(engine: Engine, site: str) -> SiteView:
    head = documents.site(site)
    log = documents.log_of(head)
    registers = await registers_of(engine, head)
    register = registers.values.get("site")
    if not isinstance(register, SiteRegister):
        raise DeviceError("not_held", f"this device does not hold site {site}", "hold the site, and connect")
    waiting = waiting_in(engine, head, log)
    return SiteView(
        register=register,
        age=age_of(engine, (head, log)),
        stock=_stock(registers, waiting, await _handed_back(engine, log)),
        queue=await _queue(engine, registers, waiting),
        conflicts=await conflicts_in(engine, registers),
        quarantined=await quarantined_in(engine, registers, waiting),
        waiting=waiting,
        unreadable=registers.unreadable,
    )


def _stock(registers: Registers, waiting: tuple[Waiting, ...], back: Mapping[str, Content]) -> tuple[StockView, ...]:
    receipts = {ref: it for ref, it in back.items() if isinstance(it, Receipt)}
    receipts |= {one.ref: one.content for one in waiting if one.undecided and isinstance(one.content, Receipt)}
    dispenses = {ref: it for ref, it in back.items() if isinstance(it, Dispense)}
    dispenses |= {one.ref: one.content for one in waiting if _leaves(one) and isinstance(one.content, Dispense)}
    return site_stock(registers.of(StockRegister), receipts, dispenses, _handed_over(registers))


async def _handed_back(engine: Engine, log: str) -> dict[str, Content]:
    """What a relay that was restored lacks, and has not judged anew: on hand is as if it had never been said."""
    back = engine.core.handing.get(log)
    if not back:
        return {}
    waits = [
        entry.statement
        for entry in await engine.statements(log)
        if entry.ref in back and entry.standing is Standing.TENTATIVE and entry.verdict is None
    ]
    return {it.ref: content for it in waits if (content := content_of(it)) is not None}


def _leaves(one: Waiting) -> bool:
    """Whether a dispense takes from the shelf as far as this device knows: it waits, or it was handed over anyway."""
    return isinstance(one.content, Dispense) and (one.undecided or one.content.handed_over)


def _handed_over(registers: Registers) -> dict[str, Dispense]:
    found: dict[str, Dispense] = {}
    for conflict in registers.of(ConflictRegister):
        if not conflict.open or not conflict.handed_over:
            continue
        try:
            content = content_of(decode(conflict.statement).statement)
        except BadStatement:
            continue
        if isinstance(content, Dispense):
            found[conflict.ref] = content
    return found


async def _queue(engine: Engine, registers: Registers, waiting: tuple[Waiting, ...]) -> tuple[QueueView, ...]:
    pending: dict[str, list[tuple[str, int]]] = {}
    for one in waiting:
        if one.undecided and isinstance(one.content, Dispense):
            pending.setdefault(one.content.prescription, []).append((one.ref, one.content.quantity))
    found = []
    for entry in sorted(registers.of(QueueEntry), key=lambda it: (it.since_at, it.prescription)):
        mine = pending.get(entry.prescription, [])
        label = await patient_label(engine, entry.patient)
        units = sum(quantity for _, quantity in mine)
        found.append(QueueView(entry, label, remaining(entry), units, tuple(ref for ref, _ in mine)))
    return tuple(found)
