"""The CDS Hooks client against a real service: what it asks, what it makes of cards, and of every bad answer."""

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from crdtmed.aggregates.alert_override_record import Severity
from crdtmed.aggregates.elements import Quantity, Range
from crdtmed.aggregates.patient import Allergy
from crdtmed.aggregates.prescription import PrescriptionStatus
from crdtmed.aggregates.prescription_draft import Dose, Duration, Indication, Instructions, MaxPerPeriod, Timing
from crdtmed.limits import MAX_KNOWLEDGE_RESPONSE_BYTES, MAX_LONG_TEXT_CHARS, MAX_SHORT_TEXT_CHARS
from relay.admission.facts import KnowledgeAnswer, KnowledgeQuestion
from relay.knowledge import cds_hooks
from relay.knowledge.cds_hooks import CdsHooksKnowledge, giver
from tests.relay.knowledge.questions import in_force, order, question

ASKED = question(order("aspi-100", "100"), in_force("rx2", order("warf-5", "5")))


def ask(base: str, *asked: KnowledgeQuestion, timeout_ms: int = 20_000) -> list[KnowledgeAnswer]:
    """The answers to questions that are asked one after the other of one client."""

    async def story() -> list[KnowledgeAnswer]:
        async with httpx.AsyncClient() as client:
            knowledge = CdsHooksKnowledge(base, client, timeout_ms)
            return [await knowledge.ask(each) for each in asked or (ASKED,)]

    return asyncio.run(story())


def asked_of(hooks: str, mode: str) -> list[Any]:
    """What the service was asked below a mode."""
    found: list[Any] = httpx.get(f"{hooks}/asked").json().get(mode, [])
    return found


def test_cards_become_alerts(hooks: str) -> None:
    [answer] = ask(f"{hooks}/good/")
    assert (answer.unavailable, answer.snapshot, answer.position, answer.digest) == (None, "checks", 7, b"d" * 32)
    [card] = answer.cards
    assert (card.severity, card.kind, card.summary, card.source) == (
        Severity.CRITICAL, "cds-hooks", "bleeding", "a service of the tests"
    )  # fmt: skip
    assert card.detail == "together they impair clotting\nReasons to go on: benefit outweighs risk, b"


def test_every_indicator_has_its_severity(hooks: str) -> None:
    [answer] = ask(f"{hooks}/kinds")
    assert [(card.summary, card.severity.value) for card in answer.cards] == [
        (kind, kind) for kind in ("info", "warning", "critical")
    ]


def test_what_the_service_is_asked(hooks: str) -> None:
    timing = Timing(
        frequency=2, period="1", period_unit="d", times=("08:00", "20:00"), as_needed=True, as_needed_reason="pain",
        max_dose=Quantity("200", "mg"), max_per_period=MaxPerPeriod(Quantity("1", "d"), doses=4),
    )  # fmt: skip
    groups = order(
        "aspi-100", timing=timing, dose=Dose(range=Range(Quantity("0.1", "mg"), Quantity("100.25", "mg"))),
        duration=Duration("5", "d"), instructions=Instructions("with food"), indication=Indication("fever"),
    )  # fmt: skip
    stopped = in_force("rx3", order("para-500"), PrescriptionStatus.STOPPED)
    allergies = (Allergy("penicillin", "Penicillin", "rash"),)
    ask(f"{hooks}/no-cards", question(groups, in_force("rx2", order("warf-5", "5")), stopped, allergies=allergies))
    [sent] = asked_of(hooks, "no-cards")
    assert sent["path"] == "cds-services/checks"
    assert sent["headers"]["content-type"] == "application/json"
    # Numbers as they are written, not as a float would have them.
    assert '"value": 100.25' in sent["body"]
    assert '"value": 0.1' in sent["body"]
    body = json.loads(sent["body"])
    assert (body["hook"], body["context"]["patientId"]) == ("order-sign", "p1")
    assert len(body["hookInstance"]) == 36
    [entry] = body["context"]["draftOrders"]["entry"]
    draft = entry["resource"]
    assert (draft["resourceType"], draft["status"], draft["intent"], draft["id"]) == (
        "MedicationRequest", "draft", "order", "rx1"
    )  # fmt: skip
    assert draft["subject"] == {"reference": "Patient/p1"}
    assert draft["reasonCode"] == [{"text": "fever"}]
    [dosage] = draft["dosageInstruction"]
    assert dosage["timing"]["repeat"] == {
        "frequency": 2, "period": 1, "periodUnit": "d", "timeOfDay": ["08:00:00", "20:00:00"],
        "boundsDuration": {"value": 5, "unit": "d", "system": "http://unitsofmeasure.org", "code": "d"},
    }  # fmt: skip
    assert dosage["asNeededCodeableConcept"] == {"text": "pain"}
    assert "asNeededBoolean" not in dosage
    assert dosage["maxDosePerAdministration"]["value"] == 200
    assert (dosage["maxDosePerPeriod"]["numerator"]["value"], dosage["maxDosePerPeriod"]["denominator"]["code"]) == (
        4,
        "d",
    )
    assert dosage["patientInstruction"] == "with food"
    assert set(body["prefetch"]) == {"patient", "allergies", "orders"}
    assert body["prefetch"]["patient"]["birthDate"] == "1950-03-01"
    [allergy] = body["prefetch"]["allergies"]["entry"]
    assert allergy["resource"]["code"]["coding"][0]["code"] == "penicillin"
    assert allergy["resource"]["reaction"] == [{"manifestation": [{"text": "rash"}]}]
    assert [each["resource"]["id"] for each in body["prefetch"]["orders"]["entry"]] == ["rx2"]


def test_no_known_allergies_are_an_empty_bundle_and_none_recorded_is_null_and_a_card(hooks: str) -> None:
    known, unknown = ask(f"{hooks}/kinds", question(order()), question(order(), allergies=None))
    *_, first, second = (json.loads(each["body"])["prefetch"]["allergies"] for each in asked_of(hooks, "kinds"))
    assert (first["entry"], second) == ([], None)
    assert [card.kind for card in known.cards] == ["cds-hooks"] * 3
    assert [card.kind for card in unknown.cards] == ["allergies-not-recorded", *["cds-hooks"] * 3]


def test_a_card_keeps_its_id_until_it_says_something_else(hooks: str) -> None:
    [one], [again], [same] = (ask(f"{hooks}/{mode}") for mode in ("good", "other-uuid", "same-summary"))
    assert one.cards[0].id == again.cards[0].id == same.cards[0].id
    assert len({card.id for card in same.cards}) == 2


def test_texts_are_cut_to_what_is_kept_and_made_printable(hooks: str) -> None:
    [answer] = ask(f"{hooks}/long-texts")
    [card] = answer.cards
    assert len(card.summary) == MAX_SHORT_TEXT_CHARS
    assert card.detail is not None
    assert len(card.detail) == MAX_LONG_TEXT_CHARS
    assert "\n" in card.detail
    assert "\x07" not in card.detail


def test_what_may_be_left_out_may_be_null(hooks: str) -> None:
    assert [(card.summary, card.detail) for card in ask(f"{hooks}/sparse")[0].cards] == [("s", None)]
    assert ask(f"{hooks}/null-prefetch")[0].unavailable is None
    assert json.loads(asked_of(hooks, "null-prefetch")[0]["body"])["prefetch"] == {}


def test_every_service_of_the_hook_is_asked(hooks: str) -> None:
    [answer] = ask(f"{hooks}/two")
    assert answer.snapshot == "also+checks"
    assert len(answer.cards) == 2
    assert [each["path"] for each in asked_of(hooks, "two")] == ["cds-services/checks", "cds-services/also"]


BAD = {
    "html": "is not what CDS Hooks 2.0 says",
    "empty": "is not what CDS Hooks 2.0 says",
    "half-json": "is not what CDS Hooks 2.0 says",
    "latin-1": "is not what CDS Hooks 2.0 says",
    "lone-surrogate": "is not what CDS Hooks 2.0 says",
    "deep": "is not what CDS Hooks 2.0 says",
    "number-that-never-ends": "is not what CDS Hooks 2.0 says",
    "cards-missing": "missing required field `cards`",
    "cards-null": "$.cards",
    "cards-is-a-text": "$.cards",
    "unknown-indicator": "$.cards[0].indicator",
    "no-indicator": "missing required field `indicator`",
    "no-source": "missing required field `source`",
    "blank-summary": "$.cards[0].summary",
    "summary-is-a-number": "$.cards[0].summary",
    "one-of-two-is-bad": "$.cards[1]",
    "too-many-cards": "$.cards",
    "huge": f"more than {MAX_KNOWLEDGE_RESPONSE_BYTES} bytes",
    "endless": f"more than {MAX_KNOWLEDGE_RESPONSE_BYTES} bytes",
    "gzip-bomb": "compressed its answer",
    "status-500": "status 500",
    "status-412": "status 412",
    "status-201": "status 201",
    "redirect": "status 307",
    "redirect-nowhere": "status 302",
    "hangs-up": "cannot be reached (RemoteProtocolError)",
    "hangs-up-half-way": "cannot be reached (RemoteProtocolError)",
    "no-http": "cannot be reached (RemoteProtocolError)",
    "endless-headers": "cannot be reached (RemoteProtocolError)",
    "no-services": "offers no hook order-sign",
    "other-hook": "offers no hook order-sign",
    "discovery-is-a-list": "discovery is not what CDS Hooks 2.0 says",
    "no-id": "missing required field `id`",
    "id-climbs": "$.services[0].id",
    "wants-observations": "wants 'labs' prefetched",
    "wants-past-orders": "wants 'past' prefetched",
    "wants-another-patient": "wants 'p' prefetched",
    "discovery-html": "discovery is not what CDS Hooks 2.0 says",
    "discovery-endless": f"more than {MAX_KNOWLEDGE_RESPONSE_BYTES} bytes",
    "discovery-status-500": "status 500",
    "discovery-redirect": "status 307",
    "discovery-hangs-up": "cannot be reached (RemoteProtocolError)",
}


@pytest.mark.parametrize(("mode", "words"), BAD.items(), ids=BAD.keys())
def test_a_bad_answer_is_none_and_says_why(hooks: str, mode: str, words: str) -> None:
    [answer] = ask(f"{hooks}/{mode}")
    assert answer.unavailable is not None
    assert words in answer.unavailable
    assert (answer.snapshot, answer.cards, answer.position, answer.digest) == ("", (), 7, b"d" * 32)
    # What was wrong may be told to people; what the answer held may not.
    assert "it works" not in answer.unavailable
    assert "hard-stop" not in answer.unavailable


@pytest.mark.parametrize("mode", ["silent", "silent-after-headers", "discovery-silent"])
def test_a_slow_answer_is_none_in_time(hooks: str, mode: str) -> None:
    [answer] = ask(f"{hooks}/{mode}", timeout_ms=200)
    assert answer.unavailable == "the service did not answer within 0.2 s"


def test_nobody_there() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        [answer] = ask(f"http://127.0.0.1:{held.getsockname()[1]}")
    assert answer.unavailable == "the service cannot be reached (ConnectError)"


def test_an_address_that_is_none() -> None:
    [answer] = ask("http://127.0.0.1:99999")
    assert answer.unavailable is not None


def test_after_a_failure_services_are_discovered_anew(hooks: str) -> None:
    """A client whose service was down, and is not any more, needs nobody to restart it."""
    paths: list[str] = []
    down: list[bool] = [True]

    async def seen(request: httpx.Request) -> None:
        paths.append(request.method)
        if down[0]:
            raise httpx.ConnectError("down")

    async def story() -> None:
        async with httpx.AsyncClient(event_hooks={"request": [seen]}) as client:
            knowledge = CdsHooksKnowledge(f"{hooks}/good", client)
            assert (await knowledge.ask(ASKED)).unavailable is not None
            assert knowledge.snapshot is None
            down[0] = False
            assert (await knowledge.ask(ASKED)).unavailable is None
            assert (await knowledge.ask(ASKED)).unavailable is None
            down[0] = True
            assert (await knowledge.ask(ASKED)).unavailable is not None
            down[0] = False
            assert (await knowledge.ask(ASKED)).unavailable is None

    asyncio.run(story())
    assert paths == ["GET", "GET", "POST", "POST", "POST", "GET", "POST"]


def test_who_answers_is_announced_before_the_first_answer_and_looked_for_again(
    hooks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    methods: list[str] = []

    async def announce(name: str) -> None:
        told.append(name)
        methods.append("announced")

    async def seen(request: httpx.Request) -> None:
        methods.append(request.method)

    async def story() -> None:
        async with httpx.AsyncClient(event_hooks={"request": [seen]}) as client:
            knowledge = CdsHooksKnowledge(f"{hooks}/good", client)
            knowledge.announce = announce
            await knowledge.ask(ASKED)
            await knowledge.ask(ASKED)
            monkeypatch.setattr(cds_hooks, "REDISCOVER_S", -1.0)
            await knowledge.ask(ASKED)

    asyncio.run(story())
    assert told == ["checks"]
    assert methods == ["GET", "announced", "POST", "POST", "GET", "POST"]


@pytest.mark.parametrize(
    ("template", "given"),
    [
        ("Patient/{{context.patientId}}", True),
        ("Patient/{{context.userId}}", False),
        ("Patient?_id={{context.patientId}}", False),
        ("AllergyIntolerance?patient={{context.patientId}}", True),
        ("AllergyIntolerance?patient=Patient/{{context.patientId}}&clinical-status=active", True),
        ("AllergyIntolerance?patient={{context.patientId}}&clinical-status=resolved", False),
        ("AllergyIntolerance", False),
        ("AllergyIntolerance?clinical-status=active", False),
        ("MedicationRequest?subject={{context.patientId}}&status=active&intent=order", True),
        ("MedicationRequest?subject={{context.patientId}}&status=", False),
        ("MedicationRequest?subject=42&status=active", False),
        ("MedicationRequest?subject={{context.patientId}}&_include=MedicationRequest:medication", False),
        ("MedicationRequestX?subject={{context.patientId}}", False),
        ("", False),
    ],
)
def test_only_a_template_that_can_be_answered_in_full_is(template: str, given: bool) -> None:
    assert (giver(template) is not None) == given


def test_a_name_cannot_pass_for_a_number(hooks: str) -> None:
    """However a text of the patient's looks, it arrives as that text."""
    names: list[Callable[[], str]] = [lambda: 'number:5", "x": "', lambda: "\\u0000number:5", lambda: "number:12"]
    for name in names:
        ask(f"{hooks}/good", question(order(), name=name()))
        body = json.loads(asked_of(hooks, "good")[-1]["body"])
        assert body["prefetch"]["patient"]["name"] == [{"text": name()}]
