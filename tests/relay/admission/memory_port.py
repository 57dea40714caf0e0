"""A relay's memory for tests of admission: it answers `FactsPort`, applies effects, and keeps what was judged.

`Ward` adds a small hospital to it: two sites, two patients, a formulary, and devices on which people speak.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from crdtmed import clock, documents, ids, statement
from crdtmed.aggregates.conflict import Action, QuarantineRegister
from crdtmed.aggregates.content import Content, ContentError, decode_content, kind_of
from crdtmed.aggregates.medication import MedicationRegister
from crdtmed.aggregates.patient import Identifier, PatientRegister
from crdtmed.aggregates.prescription_draft import DraftWrite
from crdtmed.aggregates.registers import RegisterValue, encode_register, register_key
from crdtmed.aggregates.stock_item import Movement, StockRegister
from crdtmed.codec import encode
from crdtmed.contract import Kind, Role, needs_challenge
from crdtmed.signed import Grant
from crdtmed.statement import SignedStatement, Statement
from crdtmed.verdict import FINAL, Status, Verdict
from relay.admission import claim
from relay.admission.admit import admit
from relay.admission.effects import Alarm, Awaiting, CloseDraft, Decision, Effect, Move, Note, Put, Withdraw
from relay.admission.facts import ChallengeState, Stored, Submission, submitted
from relay.admission.ledger import SHORTAGE

NOW: Final = 1_770_000_000_000
HOUR: Final = 3_600_000
DAY: Final = 24 * HOUR
CHALLENGE: Final = bytes(16)


class Unsigned:
    """A signer for tests of what comes after the signature was verified."""

    public = b""

    def sign(self, tag: bytes, body: bytes) -> bytes:
        """Sixty-four zeros."""
        return bytes(64)


@dataclass
class MemoryPort:
    """What the relay holds."""

    held: dict[tuple[str, str], RegisterValue] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    stored: dict[str, Stored] = field(default_factory=dict)
    numbers: dict[tuple[str, int], str] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    notes: dict[tuple[str, str], bytes] = field(default_factory=dict)
    grants: dict[tuple[str, str], Grant] = field(default_factory=dict)
    withdrawn: dict[str, int] = field(default_factory=dict)
    full: set[str] = field(default_factory=set)
    closed: set[tuple[str, str]] = field(default_factory=set)
    ledger: list[Movement] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    snapshot: str | None = "2026-02"

    def grant(self, grant_id: str, device: str) -> Grant | None:
        return self.grants.get((grant_id, device))

    def user_withdrawn_at(self, user: str) -> int | None:
        return self.withdrawn.get(user)

    def statement(self, ref: str) -> Stored | None:
        return self.stored.get(ref)

    def number_holder(self, device: str, number: int) -> str | None:
        return self.numbers.get((device, number))

    def awaited_since(self, ref: str) -> int | None:
        return self.waiting.get(ref)

    def register(self, document: str, key: str) -> RegisterValue | None:
        return self.held.get((document, key))

    def registers(self, document: str, word: str) -> Sequence[RegisterValue]:
        found = sorted(key for name, key in self.held if name == document and key.startswith(f"{word}/"))
        return [self.held[document, key] for key in found]

    def is_full(self, document: str) -> bool:
        return document in self.full

    def position(self, document: str) -> int:
        return self.positions[document]

    def draft(self, patient: str, prescription: str) -> Sequence[Statement]:
        if (patient, prescription) in self.closed:
            return []
        found = []
        for each in self.stored.values():
            said = each.signed.statement
            if each.verdict.status is not Status.ACCEPTED or said.document != f"patient/{patient}/drafts":
                continue
            content = decode_content(said.kind, bytes(said.content))
            if isinstance(content, DraftWrite) and content.prescription == prescription:
                found.append(said)
        return found

    def note(self, kind: str, key: str) -> bytes | None:
        return self.notes.get((kind, key))

    def snapshot_in_force(self) -> str | None:
        return self.snapshot

    def put(self, document: str, value: RegisterValue) -> None:
        """Holds a register; raises where a device could not read it."""
        encode_register(value)
        self.held[document, register_key(value)] = value
        self.positions[document] += 1

    def apply(self, effects: Sequence[Effect]) -> None:
        """Does what a decision wants done."""
        for effect in effects:
            match effect:
                case Put(document=document, value=value):
                    assert documents.parse(document).scope == document
                    self.put(document, value)
                case Withdraw(document=document, key=key):
                    self.held.pop((document, key), None)
                    self.positions[document] += 1
                case CloseDraft(patient=patient, prescription=prescription):
                    self.closed.add((patient, prescription))
                case Move(movement=movement):
                    self.ledger.append(movement)
                case Note(kind=kind, key=key, value=value):
                    self.notes[kind, key] = value
                case Awaiting(ref=ref, since=since):
                    self.waiting[ref] = since
                case Alarm():
                    self.alarms.append(effect)

    def submit(self, submission: Submission) -> Decision:
        """Judges and keeps, as a commit does: what is known gets its verdict again, and nothing is done twice."""
        recorded = self.stored.get(submission.statement.ref)
        if recorded is not None and statement.same(recorded.signed.statement, submission.statement):
            verdict = recorded.verdict
            return Decision(verdict.status, verdict.reason, tuple(map(Action, verdict.actions)), verdict.flags)
        decision = admit(self, submission)
        ref, said = submission.statement.ref, submission.statement
        self.apply(decision.effects)
        if decision.status in FINAL and ref not in self.stored:
            verdict = Verdict(
                ref,
                decision.status,
                submission.received_at,
                reason=decision.reason,
                actions=decision.actions,
                flags=decision.flags,
            )
            self.stored[ref] = Stored(submission.signed, verdict, submission.received_at)
            self.numbers.setdefault((said.device, said.number), ref)
            self.waiting.pop(ref, None)
        return decision

    def lots(self) -> dict[tuple[str, str, str], StockRegister]:
        """Every lot by site, item and lot."""
        return {
            (document.removeprefix("site/"), value.item, value.lot): value
            for (document, _), value in self.held.items()
            if isinstance(value, StockRegister)
        }

    def reckoned(self) -> dict[tuple[str, str, str], tuple[int, int]]:
        """On-hand and shortage of every lot as the ledger alone has them."""
        sums: dict[tuple[str, str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
        for row in self.ledger:
            on_hand, shortage = sums[row.site, row.item, row.lot]
            if row.type in SHORTAGE:
                shortage += row.delta
            else:
                on_hand += row.delta
            sums[row.site, row.item, row.lot] = on_hand, shortage
        return dict(sums)


USERS: Final = {
    "prescriber": ("ada", (Role.PRESCRIBER,), ("ward",)),
    "pharmacist": ("bo", (Role.PHARMACIST,), ("pharmacy",)),
    "nurse": ("cy", (Role.NURSE,), ("ward",)),
    "clerk": ("di", (Role.STOCK_CLERK,), ("pharmacy",)),
    "supervisor": ("ed", (Role.STOCK_SUPERVISOR,), ("pharmacy",)),
}
"""Who speaks: user, roles and sites.  Each has a device of their own, where they are signed in from an hour ago."""

WHO: Final = {
    Kind.DRAFT_WRITE: "prescriber",
    Kind.SIGN: "prescriber",
    Kind.STOP: "prescriber",
    Kind.HOLD: "prescriber",
    Kind.RESUME: "prescriber",
    Kind.AMEND: "prescriber",
    Kind.OVERRIDE: "prescriber",
    Kind.DISPENSE: "pharmacist",
    Kind.RECEIPT: "clerk",
    Kind.ADJUST: "supervisor",
    Kind.RESOLVE: "pharmacist",
}
"""Who says a kind in these tests, where nobody else is named; a nurse says the rest."""


def target_of(kind: Kind) -> str:
    """Where a statement of this kind about patient p-1 or the pharmacy belongs."""
    if kind is Kind.DRAFT_WRITE:
        return "patient/p-1/drafts"
    if kind in (Kind.DISPENSE, Kind.RECEIPT, Kind.ADJUST, Kind.RESOLVE):
        return "site/pharmacy/log"
    if kind in (Kind.ADMINISTER, Kind.CORRECT, Kind.OVERRIDE):
        return "patient/p-1/log"
    return "directory" if kind is Kind.BREAK_GLASS else "patient/p-1"


@dataclass
class Ward(MemoryPort):
    """The port with a hospital in it."""

    made: int = 0
    people: dict[str, Grant] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for person, (user, roles, sites) in USERS.items():
            self.sign_in(person, user, roles, sites)
        for name, site in (("p-1", "ward"), ("p-2", "elsewhere")):
            number = Identifier("urn:mrn", f"00{name}")
            self.put(f"patient/{name}", PatientRegister(name, (number,), "Test Person", "1950-01-31", (site,), 1, ()))
        for code, ingredient in (("para", "acetaminophen"), ("para-b", "acetaminophen"), ("amox", "amoxicillin")):
            item = MedicationRegister(code, code, "{tablet}", 1, "tablet", "500 mg", (ingredient,))
            self.put("formulary", item)

    def sign_in(self, person: str, user: str, roles: tuple[Role, ...], sites: tuple[str, ...]) -> None:
        """A person on a device of their own, from a day ago for two days."""
        device = device_of(person)
        grant = Grant(f"{user}/aaaaaaaa", user, user, device, roles, sites, NOW - DAY, NOW + DAY)
        self.grants[grant.id, device] = grant
        self.people[person] = grant

    def say(self, content: Content, **how: Any) -> Submission:
        """A statement with this content.

        ``how``: who, target, document, seen, at (of the stamp), received_at, number, id, challenge, handed_back,
        answer; what is left out is what an honest device and its session would have.
        """
        kind = kind_of(content)
        self.made += 1
        grant = self.people[how.get("who", WHO.get(kind, "nurse"))]
        online = needs_challenge(kind) and how.get("challenge", ChallengeState.FRESH) is not ChallengeState.ABSENT
        target = how.get("target", target_of(kind))
        received_at = how.get("received_at", NOW)
        said = Statement(
            version=statement.VERSION,
            kind=kind,
            id=how.get("id") or ids.statement_id(self.made.to_bytes(10, "big")),
            document=target,
            device=grant.device,
            number=how.get("number", self.made),
            grant=how.get("grant", grant.id),
            stamp=clock.stamp(how.get("at", received_at)),
            seen=tuple(sorted(how.get("seen", ()))),
            challenge=CHALLENGE if online else None,
            content=msgspec.Raw(encode(content)),
        )
        fresh = ChallengeState.FRESH if online else ChallengeState.ABSENT
        return submitted(
            signed=statement.sign(said, Unsigned()),
            content=read(kind, content),
            document=how.get("document", pushed_in(kind, target, received_at)),
            received_at=received_at,
            challenge=how.get("challenge", fresh),
            handed_back=how.get("handed_back", False),
            answer=how.get("answer"),
        )

    def quarantine(self, content: Content, **how: Any) -> str:
        """Something that arrives in the name of a revoked device, and is listed; its reference."""
        signed = self.say(content, **how).signed
        said = signed.statement
        held = QuarantineRegister(said.ref, said.kind, signed.encoded, said.device, NOW, open=True)
        self.put(claim.scope(said.document), held)
        return said.ref

    def do(self, content: Content, **how: Any) -> tuple[SignedStatement, Decision]:
        """Says and submits."""
        submission = self.say(content, **how)
        return submission.signed, self.submit(submission)


def read(kind: Kind, content: Content) -> Content | ContentError:
    """What the relay makes of the bytes of a content."""
    try:
        return decode_content(kind, encode(content))
    except ContentError as error:
        return error


def device_of(person: str) -> str:
    """The id of a person's device."""
    return ids.device_id(person.encode()[:5].ljust(5, b"-"))


def pushed_in(kind: Kind, target: str, received_at: int) -> str | None:
    """The document that a statement is pushed in; None for a request."""
    if documents.is_request(kind):
        return None
    return documents.open_segments(target, received_at)[0] if target.endswith("/log") else target
