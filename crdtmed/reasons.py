"""The one ordered list of reasons, each with its typed details.

A reason *is* its details: a frozen struct whose tag is the code.  The order of `REASONS` is the order in which
admission looks: the first that applies is the one that is told.
"""

from typing import Annotated, Final, get_args

import msgspec

from crdtmed.ids import Ref
from crdtmed.limits import MAX_CARDS, MAX_DOCUMENT_NAME_CHARS, MAX_LONG_TEXT_CHARS, MAX_SHORT_TEXT_CHARS

Text = Annotated[str, msgspec.Meta(max_length=MAX_SHORT_TEXT_CHARS)]
LongText = Annotated[str, msgspec.Meta(max_length=MAX_LONG_TEXT_CHARS)]
Name = Annotated[str, msgspec.Meta(max_length=MAX_DOCUMENT_NAME_CHARS)]


class _Details(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="code"):
    """A reason: its tag is the code that people, logs and metrics see."""


class KeyReused(_Details, frozen=True, tag="key_reused"):
    """The id stands for something else already; ``recorded`` is that statement."""

    recorded: bytes


class WrongDocument(_Details, frozen=True, tag="wrong_document"):
    """A statement of this kind does not belong to this document."""

    document: Name
    expected: Text


class ContentInvalid(_Details, frozen=True, tag="content_invalid"):
    """A field of the content is missing or wrong."""

    field: Text
    says: LongText


class DeviceRevoked(_Details, frozen=True, tag="device_revoked"):
    """The author's device was out of service when the relay first received this: it is kept in quarantine."""

    device: Text


class GrantUnknown(_Details, frozen=True, tag="grant_unknown"):
    """The grant was never issued to this device."""

    grant: Text


class UserWithdrawn(_Details, frozen=True, tag="user_withdrawn"):
    """The user was withdrawn before the relay first received this, whatever time it claims."""

    user: Text
    at: int


class GrantNotInForce(_Details, frozen=True, tag="grant_not_in_force"):
    """The grant had lapsed, or had not begun, as of the time judged."""

    not_before: int
    not_after: int
    judged_at: int


class RoleMissing(_Details, frozen=True, tag="role_missing"):
    """The grant holds none of the roles that may say this."""

    roles: tuple[Text, ...]


class SiteNotGranted(_Details, frozen=True, tag="site_not_granted"):
    """The grant does not cover this site."""

    site: Text


class PatientNotInCare(_Details, frozen=True, tag="patient_not_in_care"):
    """None of the grant's sites is among the patient's care sites, or the patient is unknown."""

    patient: Text


class NeedsChallenge(_Details, frozen=True, tag="needs_challenge"):
    """This may only be said online, and carried no challenge of this connection."""


class ChallengeSpent(_Details, frozen=True, tag="challenge_spent"):
    """The challenge is unknown on this connection, used, or older than a minute."""


class Restamp(_Details, frozen=True, tag="restamp"):
    """The stamp is too far ahead: sign the same content and id again with the relay's time."""

    now: int


class SegmentClosed(_Details, frozen=True, tag="segment_closed"):
    """That day's or month's segment is closed: push into the one named here."""

    segment: Name


class Awaits(_Details, frozen=True, tag="awaits"):
    """A statement that this one names has not arrived, or has no final verdict yet."""

    ref: Ref


class PatientMoved(_Details, frozen=True, tag="patient_moved"):
    """The patient's record changed while the knowledge base was asked: sign again."""

    position: int


class Busy(_Details, frozen=True, tag="busy"):
    """The relay takes no more from this device for now."""

    after_ms: int


class ReferenceUnknown(_Details, frozen=True, tag="reference_unknown"):
    """What it names did not arrive within a day."""

    ref: Ref


class Redo(_Details, frozen=True, tag="redo"):
    """It needed the relay, and the relay that judged it was restored to an earlier state: do it again."""


class DraftClosed(_Details, frozen=True, tag="draft_closed"):
    """The draft was signed or discarded meanwhile."""

    prescription: Text


class DraftUnknown(_Details, frozen=True, tag="draft_unknown"):
    """The relay holds no draft of that id for this patient."""

    prescription: Text


class DraftChanged(_Details, frozen=True, tag="draft_changed"):
    """The draft is not the one that the prescriber saw; ``groups`` differ."""

    groups: tuple[Text, ...]


class DraftIncomplete(_Details, frozen=True, tag="draft_incomplete"):
    """Groups that signing needs are missing or wrong."""

    groups: tuple[Text, ...]


class DraftUnsettled(_Details, frozen=True, tag="draft_unsettled"):
    """Groups are concurrent or under review: somebody has to confirm them."""

    groups: tuple[Text, ...]


class KnowledgeUnavailable(_Details, frozen=True, tag="knowledge_unavailable"):
    """The knowledge base did not answer, or not with sense."""

    says: LongText


class OpenAlert(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A critical card of the knowledge base that nobody has overridden."""

    id: Text
    summary: LongText
    source: Text = ""


class AlertsOpen(_Details, frozen=True, tag="alerts_open"):
    """Critical alerts are open; override each, or change the draft."""

    snapshot: Text
    alerts: Annotated[tuple[OpenAlert, ...], msgspec.Meta(max_length=MAX_CARDS)]


class AlertUnknown(_Details, frozen=True, tag="alert_unknown"):
    """The relay raised no such alert for this draft digest."""

    alert: Text


class SnapshotNotInForce(_Details, frozen=True, tag="snapshot_not_in_force"):
    """The knowledge-base snapshot named is not the one in force."""

    in_force: Text


class PrescriptionUnknown(_Details, frozen=True, tag="prescription_unknown"):
    """The relay knows no signed prescription of that id for this patient."""

    prescription: Text


class Superseded(_Details, frozen=True, tag="superseded"):
    """The prescription was amended meanwhile."""

    prescription: Text
    successor: Text


class PrescriptionStatus(_Details, frozen=True, tag="prescription_status"):
    """The prescription's status does not allow this."""

    prescription: Text
    status: Text


class WrongSite(_Details, frozen=True, tag="wrong_site"):
    """The prescription is dispensed at another site."""

    site: Text


class WrongItem(_Details, frozen=True, tag="wrong_item"):
    """The item is not the medicine prescribed, and substitution is not allowed."""

    item: Text
    prescribed: Text


class OverAuthorised(_Details, frozen=True, tag="over_authorised"):
    """More than quantity × (1 + repeats) would be dispensed in all."""

    authorised: int
    dispensed: int
    wanted: int


class UnitMismatch(_Details, frozen=True, tag="unit_mismatch"):
    """The unit is not the item's counting unit."""

    unit: Text
    counting_unit: Text


class ItemUnknown(_Details, frozen=True, tag="item_unknown"):
    """The formulary has no such item."""

    item: Text


class LotUnknown(_Details, frozen=True, tag="lot_unknown"):
    """The site has no such lot of the item."""

    item: Text
    lot: Text


class LotExpired(_Details, frozen=True, tag="lot_expired"):
    """The lot had expired when it was dispensed."""

    lot: Text
    expiry: Text


class StockShort(_Details, frozen=True, tag="stock_short"):
    """Not enough is on hand in this lot."""

    on_hand: int
    wanted: int


class PossibleDuplicateReceipt(_Details, frozen=True, tag="possible_duplicate_receipt"):
    """Supplier, delivery note, item, lot and quantity are those of another receipt."""

    of: Ref


class VersionStale(_Details, frozen=True, tag="version_stale"):
    """The stock item changed since the version that the supervisor saw."""

    seen: int
    now: int


class BelowZero(_Details, frozen=True, tag="below_zero"):
    """The adjustment would take on-hand, or the shortage, below zero."""

    on_hand: int
    shortage: int


class AlreadyResolved(_Details, frozen=True, tag="already_resolved"):
    """The conflict was resolved before."""

    by: Ref


class ConflictUnknown(_Details, frozen=True, tag="conflict_unknown"):
    """The statement embedded is in no conflict."""

    ref: Ref


class ActionNotOffered(_Details, frozen=True, tag="action_not_offered"):
    """The conflict does not offer this action, or it lacks what the action needs."""

    action: Text
    offered: tuple[Text, ...]


class AlreadyReentered(_Details, frozen=True, tag="already_reentered"):
    """The quarantined fact was entered again before."""

    by: Ref


class SessionStatus(_Details, frozen=True, tag="session_status"):
    """The reconciliation session's status does not allow this."""

    session: Text
    status: Text


class SessionDiverged(_Details, frozen=True, tag="session_diverged"):
    """Another session of the patient was open: both are entered in error; start one new session."""

    session: Text
    other: Text


Reason = (
    KeyReused | WrongDocument | ContentInvalid | DeviceRevoked | GrantUnknown | UserWithdrawn | GrantNotInForce
    | RoleMissing | SiteNotGranted | PatientNotInCare | NeedsChallenge | ChallengeSpent | Restamp | SegmentClosed
    | Busy | Redo | Awaits | ReferenceUnknown | AlreadyReentered | ConflictUnknown | AlreadyResolved
    | ActionNotOffered | DraftClosed | DraftUnknown | DraftChanged | DraftIncomplete | DraftUnsettled
    | SnapshotNotInForce | AlertUnknown | KnowledgeUnavailable | PatientMoved | AlertsOpen | PrescriptionUnknown
    | Superseded | PrescriptionStatus | WrongSite | WrongItem | OverAuthorised | ItemUnknown | UnitMismatch
    | LotUnknown | LotExpired | StockShort | PossibleDuplicateReceipt | VersionStale | BelowZero | SessionStatus
    | SessionDiverged
)  # fmt: skip
"""One of the reasons, in the order in which admission looks."""

REASONS: Final[tuple[type[_Details], ...]] = get_args(Reason)
"""Every reason, in that order."""

CODES: Final[tuple[str, ...]] = tuple(str(reason.__struct_config__.tag) for reason in REASONS)

RETRIES: Final = frozenset({"restamp", "segment_closed", "awaits", "patient_moved", "busy"})
"""Codes that come with ``retry`` and with nothing else."""


def code_of(reason: Reason) -> str:
    """The code of a reason: its tag."""
    return str(type(reason).__struct_config__.tag)
