"""Alerts of the knowledge base and the log of overriding them (FHIR DetectedIssue with mitigation; CDS Hooks
cards)."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from crdtmed.aggregates.elements import Code, Digest, LongText, Model, Problem, ShortText, text_problems
from crdtmed.ids import Ref, ScopeId
from crdtmed.limits import MAX_CARDS, MAX_OVERRIDES


class Severity(StrEnum):
    """How grave a card is; only ``critical`` ones stop a signature until they are overridden."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Card(Model, frozen=True):
    """One alert on an order: ``id`` names it among the cards of a draft digest, ``kind`` is what it is about.

    Kinds of the embedded rules: ``interaction``, ``allergy``, ``duplicate-therapy``, ``dose-ceiling``,
    ``allergies-not-recorded``; a service may send others.
    """

    id: Code
    severity: Severity
    kind: Code
    summary: ShortText
    source: ShortText
    detail: LongText | None = None


class AlertsRegister(Model, frozen=True):
    """The cards that the knowledge base raised on one draft digest, and who overrode which of them.

    ``overridden`` holds pairs of an alert's id and the statement that overrides it.
    """

    prescription: ScopeId
    digest: Digest
    snapshot: Code
    cards: Annotated[tuple[Card, ...], Meta(max_length=MAX_CARDS)]
    overridden: Annotated[tuple[tuple[Code, Ref], ...], Meta(max_length=MAX_OVERRIDES)] = ()


def open_cards(register: AlertsRegister) -> tuple[Card, ...]:
    """The critical cards that nobody has overridden yet."""
    done = {alert for alert, _ in register.overridden}
    return tuple(card for card in register.cards if card.severity is Severity.CRITICAL and card.id not in done)


class OverrideReason(StrEnum):
    """Why a prescriber goes on in spite of an alert."""

    BENEFIT_OUTWEIGHS_RISK = "benefit-outweighs-risk"
    TOLERATED_BEFORE = "tolerated-before"
    WILL_MONITOR = "will-monitor"
    DOSE_ADJUSTED = "dose-adjusted"
    NOT_APPLICABLE = "not-applicable"
    SPECIALIST_ADVICE = "specialist-advice"
    PALLIATIVE = "palliative"
    OTHER = "other"


class Override(Model, frozen=True):
    """Overrides the alert ``alert`` that the relay raised on the draft with this digest under
    ``snapshot``."""

    prescription: ScopeId
    digest: Digest
    alert: Code
    reason: OverrideReason
    snapshot: Code
    comment: LongText | None = None


def override_problems(override: Override) -> tuple[Problem, ...]:
    """What is wrong with an override."""
    return tuple(_problems(override))


def _problems(override: Override) -> Iterable[Problem]:
    yield from text_problems("comment", override.comment)
    if override.reason is OverrideReason.OTHER and override.comment is None:
        yield Problem("comment", "is missing where the reason is other; say why")
