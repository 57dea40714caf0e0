"""What the engine says to its application: entries, handles, events and errors."""

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from crdtmed.aggregates.content import Content
from crdtmed.contract import Kind
from crdtmed.signed import Revocation
from crdtmed.statement import SignedStatement, Statement
from crdtmed.verdict import Status, Verdict


class State(StrEnum):
    """What has become of a statement of this device."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    CONFLICT = "conflict"
    REFUSED = "refused"
    SET_ASIDE = "set_aside"
    """The relay could not read it, so it was never judged; it is in the inbox, whole."""
    UNKNOWN = "unknown"
    """This store knows nothing of it."""


SETTLED = frozenset({State.ACCEPTED, State.CONFLICT, State.REFUSED, State.SET_ASIDE, State.UNKNOWN})
"""States that do not change by themselves."""

STATE_OF = {
    Status.ACCEPTED: State.ACCEPTED,
    Status.CONFLICT: State.CONFLICT,
    Status.REFUSED: State.REFUSED,
    Status.RETRY: State.PENDING,
    Status.GAP: State.PENDING,
}


class Standing(StrEnum):
    """Whether a view may call something confirmed."""

    CONFIRMED = "confirmed"
    """The relay admitted it: it is in the base."""
    TENTATIVE = "tentative"
    """It is in this device's outbox, and in no base yet."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A statement as views see it.  ``verdict`` is the last one that this device received on a statement of its own."""

    signed: SignedStatement
    standing: Standing
    verdict: Verdict | None = None

    @property
    def statement(self) -> Statement:
        """What was said."""
        return self.signed.statement

    @property
    def ref(self) -> str:
        """The reference of the statement."""
        return self.signed.statement.ref


@dataclass(frozen=True, slots=True)
class Utterance:
    """Something to be said.  ``seen`` may come in any order.  ``id`` is the idempotency key, fresh where None."""

    kind: Kind
    target: str
    content: Content
    seen: tuple[str, ...] = ()
    id: str | None = None


class Queued(msgspec.Struct, frozen=True, gc=False):
    """A statement of the outbox: since when (device's clock, ms), how often it was sent, its last verdict."""

    signed: SignedStatement
    said_at: int
    attempts: int
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class Report:
    """How the device stands.

    ``relay_ms`` is the relay's time as last reckoned, ``synced_at`` when the oldest of the held documents was last
    known to be up to date (both in ms; None for never); ``behind`` the documents that are still to come.
    """

    device: str
    connected: bool
    revoked: bool
    user: str | None
    outbox: int
    inbox: int
    documents: int
    behind: int
    unverified: int
    relay_ms: int
    synced_at: int | None
    directory_stale: bool
    last_number: int


# ---- errors ---------------------------------------------------------------------------------------------------


class DeviceError(Exception):
    """Something was not said or done, and nothing of it was kept; ``code`` is stable, ``step`` what to do next."""

    def __init__(self, code: str, says: str, step: str) -> None:
        super().__init__(f"{code}: {says}; {step}")
        self.code = code
        self.says = says
        self.step = step


class NeedsRelay(DeviceError):
    """This may only be said while the relay is there, and it is not."""

    def __init__(self, kind: Kind, why: str) -> None:
        super().__init__("needs_relay", f"{kind.label} needs the relay: {why}", "connect and do it then")
        self.kind = kind


class NotAllowed(DeviceError):
    """Nobody is signed in, or the grant does not allow this."""


class NotVerified(DeviceError):
    """The authors of what this would build upon are not verified yet."""


# ---- events ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Changed:
    """What views of ``target`` show changed: a document, or a log whichever of its segments it was."""

    target: str


@dataclass(frozen=True, slots=True)
class VerdictCame:
    """The relay judged a statement of this device."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Connected:
    """The conversation with the relay is open."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """It is not; ``code`` is the relay's reason where it gave one, else ``lost``, ``not_trusted``, ``protocol``…"""

    code: str
    says: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Long work: ``what`` is ``sync`` (documents), ``flush`` (statements), ``verify`` (statements)."""

    what: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that should never be; it is in the inbox as well."""

    code: str
    says: str


@dataclass(frozen=True, slots=True)
class Evicted:
    """A document is not, or no longer, for this device; its cache was purged."""

    document: str
    code: str


@dataclass(frozen=True, slots=True)
class LeaseCame:
    """A lease, as signed by the identity service, and the relay's time when it was given."""

    lease: bytes
    relay_ms: int


@dataclass(frozen=True, slots=True)
class Revoked:
    """This device is out of service; ``handed_over`` once its outbox was taken into quarantine, or must not be."""

    revocation: Revocation
    handed_over: bool


Event = Changed | VerdictCame | Connected | Disconnected | Progress | Alarm | Evicted | LeaseCame | Revoked
