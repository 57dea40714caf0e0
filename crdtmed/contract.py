"""The sync contract as data: aggregates and their policies, gates, and the rules for conflicts.

Everything that decides by role, by policy or by network reads it here: admission, the device's own checks, the
documents, the table of the README and the tests.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Final


class Policy(StrEnum):
    """How a document merges; the values are the contract's own names."""

    LWW_DIFF = "lww+diff"
    APPEND_ONLY = "append_only"
    SERVER_AUTHORITATIVE = "server_authoritative"


class Aggregate(StrEnum):
    """The eight aggregates, under the contract's names."""

    PRESCRIPTION_DRAFT = "Prescription (draft)"
    PRESCRIPTION = "Prescription (signed/active)"
    DISPENSING_EVENT = "DispensingEvent"
    STOCK_ITEM = "StockItem"
    MEDICATION_ADMINISTRATION = "MedicationAdministration"
    RECONCILIATION_SESSION = "ReconciliationSession"
    ALERT_OVERRIDE_RECORD = "AlertOverrideRecord"
    MEDICATION = "Medication (reference)"


POLICIES: Final[Mapping[Aggregate, Policy]] = MappingProxyType(
    {
        Aggregate.PRESCRIPTION_DRAFT: Policy.LWW_DIFF,
        Aggregate.PRESCRIPTION: Policy.SERVER_AUTHORITATIVE,
        Aggregate.DISPENSING_EVENT: Policy.APPEND_ONLY,
        Aggregate.STOCK_ITEM: Policy.SERVER_AUTHORITATIVE,
        Aggregate.MEDICATION_ADMINISTRATION: Policy.APPEND_ONLY,
        Aggregate.RECONCILIATION_SESSION: Policy.SERVER_AUTHORITATIVE,
        Aggregate.ALERT_OVERRIDE_RECORD: Policy.APPEND_ONLY,
        Aggregate.MEDICATION: Policy.SERVER_AUTHORITATIVE,
    }
)
"""Section 2 of the contract."""


class Role(StrEnum):
    """What a user may be; a grant names the roles of its user."""

    PRESCRIBER = "prescriber"
    PHARMACIST = "pharmacist"
    NURSE = "nurse"
    STOCK_CLERK = "stock_clerk"
    STOCK_SUPERVISOR = "stock_supervisor"


class Kind(IntEnum):
    """What a statement says.  The numbers are on the wire and never change their meaning."""

    DRAFT_WRITE = 1
    SIGN = 2
    STOP = 3
    HOLD = 4
    RESUME = 5
    AMEND = 6
    DISPENSE = 7
    RECEIPT = 8
    ADJUST = 9
    ADMINISTER = 10
    CORRECT = 11
    OVERRIDE = 12
    RECONCILIATION_OPEN = 13
    RECONCILIATION_RECORD = 14
    RECONCILIATION_COMPLETE = 15
    RESOLVE = 16
    BREAK_GLASS = 17

    @property
    def label(self) -> str:
        """The kind as people and logs read it: ``draft_write``, ``sign``…"""
        return self.name.lower()


class Carrier(StrEnum):
    """How a statement travels: inside a document update that the device writes, or bare, as a request."""

    DRAFTS = "drafts"
    PATIENT_LOG = "patient log"
    SITE_LOG = "site log"
    SCOPE_LOG = "the log of what it resolves"
    PATIENT_REQUEST = "request to a patient"
    DEVICE_REQUEST = "request to the directory"


class Nature(StrEnum):
    """Whether a statement tells what happened (never refused) or what somebody wants."""

    FACT = "fact"
    INTENTION = "intention"
    BY_CONTENT = "by content"
    """A dispense and a resolution are facts where the medicine was handed over, else intentions."""


class Offline(StrEnum):
    """Whether something may be said without the relay."""

    CACHED = "cached"
    QUEUED = "queued"
    NEEDS_RELAY = "needs relay"


@dataclass(frozen=True, slots=True)
class Capability:
    """One row of the gate table.

    ``kinds`` are the statements it covers (none for reading); ``roles`` who may say them (none: whoever the ``rule``
    names); ``contract`` is the row of section 3 of the contract it comes from, or None where only the design has it.
    """

    name: str
    kinds: tuple[Kind, ...]
    roles: frozenset[Role]
    offline: Offline
    why: str
    contract: str | None = None


_P, _F, _N = Role.PRESCRIBER, Role.PHARMACIST, Role.NURSE

CAPABILITIES: Final[tuple[Capability, ...]] = (
    Capability("read", (), frozenset(), Offline.CACHED, "by grant, under a lease", "Read prescriptions"),
    Capability(
        "draft",
        (Kind.DRAFT_WRITE,),
        frozenset({_P}),
        Offline.QUEUED,
        "synced on reconnect",
        "Draft prescription",
    ),
    Capability(
        "sign",
        (Kind.SIGN, Kind.RESUME, Kind.AMEND),
        frozenset({_P}),
        Offline.NEEDS_RELAY,
        "knowledge-base check",
        "Sign prescription",
    ),
    Capability("stop", (Kind.STOP, Kind.HOLD), frozenset({_P}), Offline.QUEUED, "never waits for the knowledge base"),
    Capability(
        "dispense",
        (Kind.DISPENSE,),
        frozenset({_F}),
        Offline.QUEUED,
        "stock tentative until sync",
        "Record dispense",
    ),
    Capability("resolve", (Kind.RESOLVE,), frozenset(), Offline.QUEUED, "whoever may say the statement in conflict"),
    Capability(
        "receive",
        (Kind.RECEIPT,),
        frozenset({_F, Role.STOCK_CLERK}),
        Offline.QUEUED,
        "keyed by its own id",
        "Receive stock (GRN)",
    ),
    Capability(
        "adjust",
        (Kind.ADJUST,),
        frozenset({Role.STOCK_SUPERVISOR}),
        Offline.NEEDS_RELAY,
        "supervisor gate",
        "Inventory adjustments",
    ),
    Capability(
        "administer",
        (Kind.ADMINISTER, Kind.CORRECT),
        frozenset({_N, _P}),
        Offline.QUEUED,
        "append queue",
        "Record MAR event",
    ),
    Capability(
        "override",
        (Kind.OVERRIDE,),
        frozenset({_P}),
        Offline.NEEDS_RELAY,
        "snapshot in force",
        "Alert override",
    ),
    Capability(
        "reconcile",
        (Kind.RECONCILIATION_OPEN, Kind.RECONCILIATION_RECORD, Kind.RECONCILIATION_COMPLETE),
        frozenset({_P, _F, _N}),
        Offline.QUEUED,
        "the relay judges the session's status",
    ),
    Capability(
        "break_glass",
        (Kind.BREAK_GLASS,),
        frozenset({_P, _F, _N}),
        Offline.QUEUED,
        "at the device; the operator sees it",
    ),
)
"""The gate table.  Entering a quarantined fact again is saying that fact, under the fact's own row."""


@dataclass(frozen=True, slots=True)
class KindRule:
    """What follows from a kind alone."""

    carrier: Carrier
    nature: Nature
    aggregate: Aggregate | None


KINDS: Final[Mapping[Kind, KindRule]] = MappingProxyType(
    {
        Kind.DRAFT_WRITE: KindRule(Carrier.DRAFTS, Nature.INTENTION, Aggregate.PRESCRIPTION_DRAFT),
        Kind.SIGN: KindRule(Carrier.PATIENT_REQUEST, Nature.INTENTION, Aggregate.PRESCRIPTION),
        Kind.STOP: KindRule(Carrier.PATIENT_REQUEST, Nature.INTENTION, Aggregate.PRESCRIPTION),
        Kind.HOLD: KindRule(Carrier.PATIENT_REQUEST, Nature.INTENTION, Aggregate.PRESCRIPTION),
        Kind.RESUME: KindRule(Carrier.PATIENT_REQUEST, Nature.INTENTION, Aggregate.PRESCRIPTION),
        Kind.AMEND: KindRule(Carrier.PATIENT_REQUEST, Nature.INTENTION, Aggregate.PRESCRIPTION),
        Kind.DISPENSE: KindRule(Carrier.SITE_LOG, Nature.BY_CONTENT, Aggregate.DISPENSING_EVENT),
        Kind.RECEIPT: KindRule(Carrier.SITE_LOG, Nature.FACT, Aggregate.STOCK_ITEM),
        Kind.ADJUST: KindRule(Carrier.SITE_LOG, Nature.INTENTION, Aggregate.STOCK_ITEM),
        Kind.ADMINISTER: KindRule(Carrier.PATIENT_LOG, Nature.FACT, Aggregate.MEDICATION_ADMINISTRATION),
        Kind.CORRECT: KindRule(Carrier.PATIENT_LOG, Nature.FACT, Aggregate.MEDICATION_ADMINISTRATION),
        Kind.OVERRIDE: KindRule(Carrier.PATIENT_LOG, Nature.INTENTION, Aggregate.ALERT_OVERRIDE_RECORD),
        Kind.RECONCILIATION_OPEN: KindRule(Carrier.PATIENT_REQUEST, Nature.INTENTION, Aggregate.RECONCILIATION_SESSION),
        Kind.RECONCILIATION_RECORD: KindRule(
            Carrier.PATIENT_REQUEST, Nature.INTENTION, Aggregate.RECONCILIATION_SESSION
        ),
        Kind.RECONCILIATION_COMPLETE: KindRule(
            Carrier.PATIENT_REQUEST, Nature.INTENTION, Aggregate.RECONCILIATION_SESSION
        ),
        Kind.RESOLVE: KindRule(Carrier.SCOPE_LOG, Nature.BY_CONTENT, None),
        Kind.BREAK_GLASS: KindRule(Carrier.DEVICE_REQUEST, Nature.FACT, None),
    }
)


@dataclass(frozen=True, slots=True)
class ConflictRule:
    """One rule of section 4 of the contract: what happens, who decides, and among which actions."""

    when: str
    outcome: str
    actions: tuple[str, ...]


CONFLICT_RULES: Final[tuple[ConflictRule, ...]] = (
    ConflictRule(
        "a tentative offline dispense fails stock reservation on sync",
        "flagged to the pharmacist and requeued",
        ("switch_lot", "dispense_part", "cancel"),
    ),
    ConflictRule(
        "two devices opened a reconciliation session",
        "both become entered-in-error",
        ("restart_session",),
    ),
)

_CAPABILITY_OF: Final[Mapping[Kind, Capability]] = MappingProxyType(
    {kind: row for row in CAPABILITIES for kind in row.kinds}
)


def capability_of(kind: Kind) -> Capability:
    """The gate row that covers ``kind``; every kind has exactly one."""
    return _CAPABILITY_OF[kind]


def may_queue(kind: Kind) -> bool:
    """Whether a statement of this kind may be made offline and queued."""
    return capability_of(kind).offline is Offline.QUEUED


def needs_challenge(kind: Kind) -> bool:
    """Whether a statement of this kind must carry a fresh challenge of the relay."""
    return capability_of(kind).offline is Offline.NEEDS_RELAY
