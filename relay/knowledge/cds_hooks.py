"""A knowledge base behind CDS Hooks 2.0: discovery, the hook ``order-sign`` with prefetch, cards, override reasons.

The service is asked with what this relay holds; it gets no access to a FHIR server, so what it wants prefetched must
be among `PREFETCH`.  Whatever is wrong with an answer makes the knowledge base *unavailable*, with what was wrong:
an alert that could not be read is never taken for none.
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Annotated, Any, Final, Literal, TypeVar
from uuid import uuid4

import httpx
import msgspec

from crdtmed.aggregates.alert_override_record import Card, Severity
from crdtmed.limits import (
    KNOWLEDGE_TIMEOUT_MS,
    MAX_CARDS,
    MAX_CODE_CHARS,
    MAX_KNOWLEDGE_RESPONSE_BYTES,
    MAX_LONG_TEXT_CHARS,
    MAX_SHORT_TEXT_CHARS,
)
from relay.admission.facts import KnowledgeAnswer, KnowledgeQuestion
from relay.knowledge.fhir import ExactNumber, Json, active_bundle, allergies_bundle, draft_bundle, patient_resource

HOOK: Final = "order-sign"

PREFETCH: Final[Mapping[str, Callable[[KnowledgeQuestion], Json | None]]] = {
    "Patient/": lambda question: patient_resource(question.patient),
    "AllergyIntolerance?": lambda question: allergies_bundle(question.patient),
    "MedicationRequest?": active_bundle,
}
"""What a prefetch template may begin with, and what is given for it."""


class Unusable(Exception):
    """The service's answer cannot be used; the message says why, without any of its content."""


class _Service(msgspec.Struct, frozen=True):
    hook: str
    id: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z")]
    prefetch: dict[str, str] = {}


class _Discovery(msgspec.Struct, frozen=True):
    services: tuple[_Service, ...]


class _Source(msgspec.Struct, frozen=True):
    label: Annotated[str, msgspec.Meta(min_length=1)]


class _OverrideReason(msgspec.Struct, frozen=True):
    code: str
    display: str
    system: str = ""


class _Card(msgspec.Struct, frozen=True, rename="camel"):
    summary: Annotated[str, msgspec.Meta(min_length=1)]
    indicator: Literal["info", "warning", "critical"]
    source: _Source
    uuid: str | None = None
    detail: str | None = None
    override_reasons: tuple[_OverrideReason, ...] = ()


class _Response(msgspec.Struct, frozen=True):
    cards: Annotated[tuple[_Card, ...], msgspec.Meta(max_length=MAX_CARDS)]


_NUMBER: Final = re.compile(r'"\\u0000number:([0-9.]+)"')


def _encode(value: Json) -> bytes:
    """JSON in which an `ExactNumber` stands as the number that it spells, since a float would change it."""

    def marked(part: Any) -> Any:
        if isinstance(part, ExactNumber):
            return f"\x00number:{part}"
        if isinstance(part, dict):
            return {name: marked(inner) for name, inner in part.items()}
        return [marked(inner) for inner in part] if isinstance(part, list) else part

    return _NUMBER.sub(r"\1", json.dumps(marked(value))).encode()


class CdsHooksKnowledge:
    """A `relay.knowledge.port.KnowledgeBase` over the ``order-sign`` services below ``base_url``."""

    def __init__(self, base_url: str, client: httpx.AsyncClient, timeout_ms: int = KNOWLEDGE_TIMEOUT_MS) -> None:
        self._base = base_url.rstrip("/")
        self._client = client
        self._timeout = timeout_ms / 1000
        self._services: tuple[_Service, ...] = ()

    @property
    def snapshot(self) -> str | None:
        """The services that answer, by their ids; a hosted knowledge base has no version of its own in CDS Hooks."""
        return "+".join(sorted(one.id for one in self._services))[:MAX_CODE_CHARS] or None

    async def ask(self, question: KnowledgeQuestion) -> KnowledgeAnswer:
        try:
            async with asyncio.timeout(self._timeout):
                if not self._services:
                    self._services = await self._discover()
                answers = [await self._call(service, question) for service in self._services]
        except TimeoutError:
            return _unavailable(question, f"the service did not answer within {self._timeout:g} s")
        except httpx.HTTPError as error:
            self._services = ()
            return _unavailable(question, f"the service cannot be reached ({type(error).__name__})")
        except Unusable as error:
            self._services = ()
            return _unavailable(question, str(error))
        cards = {card.id: card for cards in answers for card in cards}
        if len(cards) > MAX_CARDS:
            return _unavailable(question, f"{len(cards)} cards, at most {MAX_CARDS} can be kept")
        return KnowledgeAnswer(question.position, question.digest, self.snapshot or "", tuple(cards.values()))

    async def _discover(self) -> tuple[_Service, ...]:
        found = _read(_Discovery, await self._fetch("GET", f"{self._base}/cds-services", None), "discovery")
        services = tuple(one for one in found.services if one.hook == HOOK)
        if not services:
            raise Unusable(f"the service offers no hook {HOOK}")
        for service in services:
            for name, template in service.prefetch.items():
                if not template.startswith(tuple(PREFETCH)):
                    raise Unusable(f"service {service.id} wants {name[:40]!r} prefetched, which this relay cannot give")
        return services

    async def _call(self, service: _Service, question: KnowledgeQuestion) -> tuple[Card, ...]:
        body = _encode(hook_request(service.prefetch, question, str(uuid4())))
        data = await self._fetch("POST", f"{self._base}/cds-services/{service.id}", body)
        response = _read(_Response, data, f"the answer of {service.id}")
        return tuple(_card(service.id, card) for card in response.cards)

    async def _fetch(self, method: str, url: str, body: bytes | None) -> bytes:
        headers = {"content-type": "application/json", "accept": "application/json"}
        async with self._client.stream(method, url, content=body, headers=headers, follow_redirects=False) as got:
            if got.status_code != 200:
                raise Unusable(f"the service answered with status {got.status_code}")
            data = bytearray()
            async for chunk in got.aiter_bytes():
                data += chunk
                if len(data) > MAX_KNOWLEDGE_RESPONSE_BYTES:
                    raise Unusable(f"the service answered with more than {MAX_KNOWLEDGE_RESPONSE_BYTES} bytes")
            return bytes(data)


def hook_request(prefetch: Mapping[str, str], question: KnowledgeQuestion, hook_instance: str) -> Json:
    """The request of the hook: context as ``order-sign`` 1.1 has it, and what the service wants prefetched."""
    return {
        "hook": HOOK,
        "hookInstance": hook_instance,
        "context": {
            "userId": "Practitioner/prescriber",
            "patientId": question.patient.id,
            "draftOrders": draft_bundle(question),
        },
        "prefetch": {
            name: next(give(question) for start, give in PREFETCH.items() if template.startswith(start))
            for name, template in prefetch.items()
        },
    }


T = TypeVar("T")


def _read(of: type[T], data: bytes, what: str) -> T:
    try:
        return msgspec.json.decode(data, type=of)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # The message names a path and types, never the value that was wrong.
        raise Unusable(f"{what} is not what CDS Hooks 2.0 says: {error}") from None


_PRINTABLE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def _card(service: str, card: _Card) -> Card:
    """The card as it is kept.

    Its id follows from what it says, not from the uuid, which a service makes anew with each call: an override has to
    fit the same card when the question is asked again.
    """
    named = sha256("\x00".join((service, card.indicator, card.summary)).encode()).hexdigest()[:16]
    reasons = ", ".join(reason.display for reason in card.override_reasons)
    detail = "\n".join(part for part in (card.detail, reasons and f"Reasons to go on: {reasons}") if part)
    return Card(
        f"cds.{named}",
        Severity(card.indicator),
        "cds-hooks",
        _PRINTABLE.sub(" ", card.summary)[:MAX_SHORT_TEXT_CHARS],
        _PRINTABLE.sub(" ", card.source.label)[:MAX_SHORT_TEXT_CHARS],
        _PRINTABLE.sub(" ", detail)[:MAX_LONG_TEXT_CHARS] or None,
    )


def _unavailable(question: KnowledgeQuestion, says: str) -> KnowledgeAnswer:
    return KnowledgeAnswer(question.position, question.digest, "", unavailable=says[:MAX_LONG_TEXT_CHARS])
