"""Dispensing events: what the pharmacy took out of a lot for a prescription (FHIR MedicationDispense)."""

from typing import Annotated

from msgspec import Meta

from crdtmed.aggregates.elements import Instant, ItemCode, Lot, Model, ShortText, UcumUnit, Units, UnitsOrNone
from crdtmed.ids import Ref, ScopeId
from crdtmed.limits import MAX_NUMBER


class Dispense(Model, frozen=True):
    """One dispense: ``quantity`` counting units of ``item`` (formulary code) out of ``lot``.

    The site is that of the log it is said in.  ``handed_over`` (MedicationDispense.whenHandedOver) makes it a
    fact. ``reenters`` names the quarantined statement that is entered again.
    """

    prescription: ScopeId
    patient: ScopeId
    item: ItemCode
    lot: Lot
    quantity: Units
    unit: UcumUnit
    handed_over: bool
    occurred_at: Instant
    label_number: Annotated[int, Meta(ge=1, le=MAX_NUMBER)] | None = None
    reenters: Ref | None = None


class QueueEntry(Model, frozen=True):
    """A prescription in a site's dispensing queue; ``requeued`` are the dispenses of it that are in open
    conflict."""

    prescription: ScopeId
    patient: ScopeId
    item: ItemCode
    display: ShortText
    authorised: Units
    unit: UcumUnit
    since_at: Instant
    dispensed: UnitsOrNone = 0
    requeued: tuple[Ref, ...] = ()


def remaining(entry: QueueEntry) -> int:
    """How many counting units may still be dispensed; never below zero."""
    return max(0, entry.authorised - entry.dispensed)
