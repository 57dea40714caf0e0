"""Signed prescriptions: the requests that change them, and the register that the relay keeps (FHIR
MedicationRequest)."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType, convert, structs

from crdtmed.aggregates.elements import (
    Code,
    Digest,
    Instant,
    Model,
    Problem,
    ShortText,
    UcumUnit,
    Units,
    UnitsOrNone,
    text_problems,
)
from crdtmed.aggregates.prescription_draft import (
    REQUIRED,
    Dose,
    Duration,
    Group,
    GroupValue,
    Indication,
    Instructions,
    Medication,
    Route,
    Substitution,
    Supply,
    Timing,
    value_problems,
)
from crdtmed.ids import Ref, ScopeId, UserId
from crdtmed.limits import MAX_OVERRIDES


class Sign(Model, frozen=True):
    """Asks to make the draft ``prescription`` active; ``digest`` is `draft_digest` of the view the prescriber
    saw."""

    prescription: ScopeId
    digest: Digest


class Stop(Model, frozen=True):
    """Asks to stop a prescription (MedicationRequest.status *stopped*, statusReason)."""

    prescription: ScopeId
    reason: ShortText


class Hold(Model, frozen=True):
    """Asks to put a prescription on hold, until an instant or until it is resumed."""

    prescription: ScopeId
    reason: ShortText
    until_ms: Instant | None = None


class Resume(Model, frozen=True):
    """Asks to resume a prescription that is on hold."""

    prescription: ScopeId
    reason: ShortText


class Amend(Model, frozen=True):
    """Asks to sign the draft ``prescription`` in the place of ``prior``
    (MedicationRequest.priorPrescription)."""

    prescription: ScopeId
    digest: Digest
    prior: ScopeId
    reason: ShortText


class PrescriptionStatus(StrEnum):
    """MedicationRequest.status; *superseded* is FHIR's *cancelled* by a later prescription that replaces
    it."""

    ACTIVE = "active"
    ON_HOLD = "on-hold"
    STOPPED = "stopped"
    COMPLETED = "completed"
    SUPERSEDED = "superseded"
    ENTERED_IN_ERROR = "entered-in-error"


class SignedGroups(Model, frozen=True):
    """The groups of a prescription as they were signed; the five required ones are always there."""

    medication: Medication
    dose: Dose
    route: Route
    timing: Timing
    supply: Supply
    duration: Duration | None = None
    instructions: Instructions | None = None
    indication: Indication | None = None
    substitution: Substitution | None = None


# Every field is always written: where more than 15 fields may be left out, msgspec widens the header of the map, and
# the bytes are no longer the one encoding of their value.
class PrescriptionRegister(Model, frozen=True, omit_defaults=False):
    """A signed prescription as the relay keeps it.

    ``prescriber`` is the user; ``signed_by`` their statement; ``snapshot`` the knowledge base that checked
    it; ``overrides`` the alerts overridden, as statements; ``authorised`` and ``dispensed`` count ``unit``;
    ``site`` dispenses it; ``prior`` and ``successor`` link amendments; ``status_by`` is the statement that
    set the status.
    """

    id: ScopeId
    patient: ScopeId
    status: PrescriptionStatus
    groups: SignedGroups
    prescriber: UserId
    signed_by: Ref
    signed_at: Instant
    snapshot: Code
    authorised: Units
    unit: UcumUnit
    site: ScopeId
    overrides: Annotated[tuple[Ref, ...], Meta(max_length=MAX_OVERRIDES)] = ()
    dispensed: UnitsOrNone = 0
    prior: ScopeId | None = None
    successor: ScopeId | None = None
    status_by: Ref | None = None
    status_at: Instant | None = None
    status_reason: ShortText | None = None
    hold_until_ms: Instant | None = None


class Clinical(Model, frozen=True):
    """The part of a signed prescription that never changes."""

    id: ScopeId
    patient: ScopeId
    groups: SignedGroups
    prescriber: UserId
    signed_by: Ref
    signed_at: Instant
    snapshot: Code
    authorised: Units
    unit: UcumUnit
    site: ScopeId
    overrides: tuple[Ref, ...] = ()
    prior: ScopeId | None = None


def clinical(register: PrescriptionRegister) -> Clinical:
    """What of ``register`` no later version may differ in."""
    return Clinical(**{field: getattr(register, field) for field in Clinical.__struct_fields__})


def signed_groups(values: Mapping[Group, GroupValue]) -> SignedGroups:
    """The groups of a complete draft; raises `ValueError` naming the required groups that are missing."""
    missing = [group for group in REQUIRED if group not in values]
    if missing:
        raise ValueError(f"a prescription needs {', '.join(missing)} before it is signed")
    held = {field: values[Group(field)] for field in SignedGroups.__struct_fields__ if Group(field) in values}
    return convert(held, SignedGroups)


def with_status(
    register: PrescriptionRegister,
    status: PrescriptionStatus,
    by: str,
    at_ms: int,
    reason: str | None,
    hold_until_ms: int | None = None,
    successor: str | UnsetType = UNSET,
) -> PrescriptionRegister:
    """``register`` with the status that the statement ``by`` asked for at ``at_ms``."""
    changed = structs.replace(
        register,
        status=status,
        status_by=by,
        status_at=at_ms,
        status_reason=reason,
        hold_until_ms=hold_until_ms,
    )
    return changed if successor is UNSET else structs.replace(changed, successor=successor)


def prescription_problems(register: PrescriptionRegister) -> tuple[Problem, ...]:
    """What is wrong with a prescription's register."""
    return tuple(_problems(register))


def _problems(register: PrescriptionRegister) -> Iterable[Problem]:
    for field in SignedGroups.__struct_fields__:
        value = getattr(register.groups, field)
        for problem in value_problems(value) if value is not None else ():
            yield Problem(f"groups.{problem.field}", problem.says)
    yield from text_problems("status_reason", register.status_reason)


def reason_problems(request: Stop | Hold | Resume | Amend) -> tuple[Problem, ...]:
    """What is wrong with a request that gives a reason."""
    return tuple(_reason_problems(request))


def _reason_problems(request: Stop | Hold | Resume | Amend) -> Iterable[Problem]:
    yield from text_problems("reason", request.reason)
    if isinstance(request, Amend) and request.prior == request.prescription:
        yield Problem("prior", "is the new prescription itself; an amendment is a draft of its own")
