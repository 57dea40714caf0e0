"""A knowledge base behind CDS Hooks 2.0: discovery, the hook ``order-sign`` with prefetch, cards, override reasons.

The service is asked with what this relay holds; it gets no access to a FHIR server, so what it wants prefetched must
be among `PREFETCH`.  Whatever is wrong with an answer makes the knowledge base *unavailable*, with what was wrong:
an alert that could not be read is never taken for none.  Of the prescriber the service learns nothing: the hook's
``userId`` is the same for everybody.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from hashlib import sha256
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import parse_qsl
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
from relay.knowledge.rules import not_recorded

HOOK: Final = "order-sign"

REDISCOVER_S: Final = 300.0
"""A service that was added or taken away upstream is noticed after so long."""
ID: Final = "{{context.patientId}}"

Give = Callable[[KnowledgeQuestion], Json | None]

PREFETCH: Final[Mapping[str, Give]] = {
    "Patient": lambda question: patient_resource(question.patient),
    "AllergyIntolerance": lambda question: allergies_bundle(question.patient),
    "MedicationRequest": active_bundle,
}
"""What can be prefetched: the patient, their allergies, and their prescriptions in force."""

_OF_PATIENT: Final = {name: {ID, f"Patient/{ID}"} for name in ("patient", "subject")}
_FILTERS: Final[Mapping[str, Mapping[str, set[str]]]] = {
    "AllergyIntolerance": {**_OF_PATIENT, "clinical-status": {"active"}},
    "MedicationRequest": {**_OF_PATIENT, "status": {"active", "active,on-hold", "on-hold,active"}, "intent": {"order"}},
}
"""Searches that what this relay holds answers in full; any other filter would be answered wrongly."""


def giver(template: str) -> Give | None:
    """What answers a prefetch template; None where this relay cannot."""
    if template == f"Patient/{ID}":
        return PREFETCH["Patient"]
    resource, _, query = template.partition("?")
    allowed = _FILTERS.get(resource)
    parts = parse_qsl(query, keep_blank_values=True)
    if allowed is None or not {name for name, _ in parts} & set(_OF_PATIENT):
        return None
    return PREFETCH[resource] if all(value in allowed.get(name, ()) for name, value in parts) else None


class Unusable(Exception):
    """The service's answer cannot be used; the message says why, without any of its content."""


class _Service(msgspec.Struct, frozen=True):
    hook: str
    id: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}\Z")]
    prefetch: dict[str, str] | None = None


class _Discovery(msgspec.Struct, frozen=True):
    services: tuple[_Service, ...]


class _Source(msgspec.Struct, frozen=True):
    label: Annotated[str, msgspec.Meta(min_length=1)]


class _OverrideReason(msgspec.Struct, frozen=True):
    code: str
    display: str | None = None


class _Card(msgspec.Struct, frozen=True, rename="camel"):
    summary: Annotated[str, msgspec.Meta(min_length=1)]
    indicator: Literal["info", "warning", "critical"]
    source: _Source
    uuid: str | None = None
    detail: str | None = None
    override_reasons: tuple[_OverrideReason, ...] | None = None


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


Announce = Callable[[str], Awaitable[None]]


class CdsHooksKnowledge:
    """A `relay.knowledge.port.KnowledgeBase` over the ``order-sign`` services below ``base_url``.

    ``announce`` is awaited with the name of what answers before it first answers under it, so that overrides can name
    it as the snapshot in force.
    """

    def __init__(self, base_url: str, client: httpx.AsyncClient, timeout_ms: int = KNOWLEDGE_TIMEOUT_MS) -> None:
        self._base = base_url.rstrip("/")
        self._client = client
        self._timeout = timeout_ms / 1000
        self._services: tuple[_Service, ...] = ()
        self._found_at = 0.0
        self.announce: Announce | None = None

    @property
    def snapshot(self) -> str | None:
        """The services that answer, by their ids; a hosted knowledge base has no version of its own in CDS Hooks."""
        return name_of(self._services)

    async def ask(self, question: KnowledgeQuestion) -> KnowledgeAnswer:
        try:
            async with asyncio.timeout(self._timeout):
                services = await self._current()
                answers = [await self._call(service, question) for service in services]
        except TimeoutError:
            return self._none(question, f"the service did not answer within {self._timeout:g} s")
        except httpx.HTTPError as error:
            return self._none(question, f"the service cannot be reached ({type(error).__name__})")
        except Unusable as error:
            return self._none(question, str(error))
        except Exception as error:  # noqa: BLE001 - whatever a stranger's bytes do to a library, a sign must not hang
            return self._none(question, f"the service's answer could not be read ({type(error).__name__})")
        own = not_recorded(question, "this relay")
        cards = {card.id: card for held in (own, *answers) for card in held}
        if len(cards) > MAX_CARDS:
            return self._none(question, f"{len(cards)} cards, at most {MAX_CARDS} can be kept")
        return KnowledgeAnswer(question.position, question.digest, name_of(services) or "", tuple(cards.values()))

    def _none(self, question: KnowledgeQuestion, says: str) -> KnowledgeAnswer:
        self._services = ()
        return KnowledgeAnswer(question.position, question.digest, "", unavailable=says[:MAX_LONG_TEXT_CHARS])

    async def _current(self) -> tuple[_Service, ...]:
        now = asyncio.get_running_loop().time()
        if not self._services or now - self._found_at > REDISCOVER_S:
            found = await self._discover()
            name = name_of(found)
            if self.announce is not None and name is not None and name != self.snapshot:
                await self.announce(name)
            self._services, self._found_at = found, now
        return self._services

    async def _discover(self) -> tuple[_Service, ...]:
        found = _read(_Discovery, await self._fetch("GET", f"{self._base}/cds-services", None), "discovery")
        services = tuple(one for one in found.services if one.hook == HOOK)
        if not services:
            raise Unusable(f"the service offers no hook {HOOK}")
        for service in services:
            for name, template in (service.prefetch or {}).items():
                if giver(template) is None:
                    raise Unusable(f"service {service.id} wants {name[:40]!r} prefetched, which this relay cannot give")
        return services

    async def _call(self, service: _Service, question: KnowledgeQuestion) -> tuple[Card, ...]:
        body = _encode(hook_request(service.prefetch or {}, question, str(uuid4())))
        data = await self._fetch("POST", f"{self._base}/cds-services/{service.id}", body)
        response = _read(_Response, data, f"the answer of {service.id}")
        return tuple(_card(service.id, card) for card in response.cards)

    async def _fetch(self, method: str, url: str, body: bytes | None) -> bytes:
        # Not compressed: a little that unpacks to a lot would be in memory before it could be counted.
        headers = {"content-type": "application/json", "accept": "application/json", "accept-encoding": "identity"}
        async with self._client.stream(method, url, content=body, headers=headers, follow_redirects=False) as got:
            if got.status_code != 200:
                raise Unusable(f"the service answered with status {got.status_code}")
            if got.headers.get("content-encoding", "identity") != "identity":
                raise Unusable("the service compressed its answer, which was not asked for")
            data = bytearray()
            async for chunk in got.aiter_raw():
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
            name: give(question) for name, template in prefetch.items() if (give := giver(template)) is not None
        },
    }


T = TypeVar("T")


def _read(of: type[T], data: bytes, what: str) -> T:
    try:
        return msgspec.json.decode(data, type=of)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # The message names a path and types; of a value that was wrong it must not.
        says = re.sub(r"enum value '.*'", "enum value", str(error), flags=re.DOTALL)
        raise Unusable(f"{what} is not what CDS Hooks 2.0 says: {says}") from None


_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_BUT_LINES: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def name_of(services: Iterable[_Service]) -> str | None:
    """What stands for the services where a snapshot's name is wanted; None where there are none."""
    name = "+".join(sorted(one.id for one in services))
    if len(name) <= MAX_CODE_CHARS:
        return name or None
    return sha256(name.encode()).hexdigest()[:MAX_CODE_CHARS]


def _card(service: str, card: _Card) -> Card:
    """The card as it is kept.

    Its id follows from what it says, not from the uuid, which a service makes anew with each call: an override has to
    fit the same card when the question is asked again, and no card that says anything else.
    """
    said = (service, card.indicator, card.source.label, card.summary, card.detail or "")
    named = sha256("\x00".join(said).encode()).hexdigest()[:16]
    reasons = ", ".join(reason.display or reason.code for reason in card.override_reasons or ())
    detail = "\n".join(part for part in (card.detail, reasons and f"Reasons to go on: {reasons}") if part)
    return Card(
        f"cds.{named}",
        Severity(card.indicator),
        "cds-hooks",
        _CONTROL.sub(" ", card.summary)[:MAX_SHORT_TEXT_CHARS],
        _CONTROL.sub(" ", card.source.label)[:MAX_SHORT_TEXT_CHARS],
        _CONTROL_BUT_LINES.sub(" ", detail)[:MAX_LONG_TEXT_CHARS] or None,
    )
