"""A small hospital for tests of the relay: one site, a formulary, patients, users, and devices that speak frames."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from crdtmed import keys
from crdtmed.aggregates.content import Content, encode_content, kind_of
from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.medication import MedicationRegister
from crdtmed.aggregates.patient import Identifier, PatientRegister
from crdtmed.aggregates.prescription_draft import Dose, DraftWrite, Group, write_key
from crdtmed.aggregates.site import SiteRegister
from crdtmed.clock import stamp
from crdtmed.contract import Role
from crdtmed.documents import log_of, parse, segment, utc_date
from crdtmed.ids import statement_id
from crdtmed.sealing import Cost
from crdtmed.signed import Grant, read
from crdtmed.statement import SignedStatement, Statement, decode, sign
from crdtmed.updates import ItemId, read_device_update, write_array_update, write_map_update
from crdtmed.wire.enrolment import ENROLMENT_PROOF_TAG, Enrol, Enrolled, proof_body
from crdtmed.wire.frames import PROTOCOL
from relay.admission.facts import KnowledgeAnswer, KnowledgeQuestion
from relay.batch import Batch
from relay.commit import commit_batch
from relay.identity import enrolment, users
from relay.identity.keyring import Keyring, keyring, new_secrets
from relay.identity.leases import Terms
from relay.identity.service import EmbeddedIdentity, open_identity, put_knowledge
from relay.items import Item, Outcome, Push, Request, Task
from relay.knowledge.port import KnowledgeBase
from relay.live import Live
from relay.own_documents import write_directory
from relay.service import Service
from relay.session_events import Said
from relay.session_statements import content_of
from relay.storage.record import SqlRecord
from relay.storage.sqlite import open_sqlite
from relay.storage.verify import Keys, Verified, verify_record

START = 1_780_000_000_000
CHEAP = Cost(memory_kib=8, passes=1, lanes=1)
"""Argon2 at its least, since nobody attacks a test."""
ALL_ROLES = tuple(Role)


def seeded(seed: int) -> Callable[[int], bytes]:
    """Random bytes that a seed repeats."""
    import random

    return random.Random(seed).randbytes


@dataclass
class Tablet:
    """A device of the tests: its keys, its numbers and what it has written."""

    id: str
    signer: keys.SoftwareSigner
    grant: Grant
    random: Callable[[int], bytes]
    now: Callable[[], int]
    relay_public: bytes
    number: int = 0
    clocks: dict[tuple[str, int], int] = field(default_factory=dict)
    last: int = 0

    def say(self, content: Content, document: str, /, seen: tuple[str, ...] = (), **changed: Any) -> SignedStatement:
        """A signed statement; ``changed`` are fields of it to be other than they should."""
        self.number += 1
        self.last = max(self.last + 1, stamp(self.now()))
        fields: dict[str, Any] = {
            "version": 1,
            "kind": kind_of(content),
            "id": statement_id(self.random(10)),
            "document": document,
            "device": self.id,
            "number": self.number,
            "grant": self.grant.id,
            "stamp": self.last,
            "seen": tuple(sorted(seen)),
            "challenge": None,
            "content": msgspec.Raw(encode_content(content)),
        }
        return sign(Statement(**(fields | changed)), self.signer)

    def dose(self, patient: str, prescription: str, value: str = "5", **changed: Any) -> SignedStatement:
        """A write of a draft's dose."""
        content = DraftWrite(prescription, Group.DOSE, Dose(quantity=Quantity(value, "mg")))
        return self.say(content, f"patient/{patient}/drafts", **changed)

    def into_drafts(self, document: str, client: int, *said: SignedStatement) -> bytes:
        """The update that puts draft writes into their document."""
        from crdtmed.aggregates.content import decode_content

        entries = []
        for one in said:
            content = decode_content(one.statement.kind, bytes(one.statement.content))
            assert isinstance(content, DraftWrite)
            entries.append((write_key(content, self.id, one.statement.id), one.encoded))
        clock = self.clocks.get((document, client), 0)
        self.clocks[document, client] = clock + len(said)
        return write_map_update(client, clock, entries)

    def into_log(self, document: str, client: int, *said: SignedStatement, origin: ItemId | None = None) -> bytes:
        """The update that appends statements to a log's segment."""
        clock = self.clocks.get((document, client), 0)
        self.clocks[document, client] = clock + len(said)
        return write_array_update(
            client, clock, ItemId(client, clock - 1) if clock else origin, [one.encoded for one in said]
        )


class AllClear:
    """A knowledge base that has nothing against any order."""

    snapshot: str | None = "snapshot-1"

    async def ask(self, question: KnowledgeQuestion) -> KnowledgeAnswer:
        """No cards."""
        return KnowledgeAnswer(question.position, question.digest, "snapshot-1")


class World:
    """A relay's database with people, places and medicines in it, driven inline."""

    def __init__(self, path: str | Path = ":memory:", seed: int = 7) -> None:
        self.path: str | Path = path
        self.knowledge: KnowledgeBase = AllClear()
        self.random = seeded(seed)
        self.now_ms = START
        self.open()
        self.terms = Terms(login_cost=CHEAP, pin_cost=CHEAP)
        self.ring: Keyring = keyring(new_secrets("relay-1", self.random))
        self.scalars = itertools.count(1_000 + seed * 100_000)
        self.connection.execute("BEGIN IMMEDIATE")
        self.identity: EmbeddedIdentity = open_identity(self.connection, self.ring, self.terms, self.now_ms)
        self.connection.execute("COMMIT")
        self.task(self._people)

    @classmethod
    def beside(cls, world: "World") -> "World":
        """Another process on the same database: the same keys, nothing in memory in common."""
        made = cls.__new__(cls)
        made.__dict__.update(world.__dict__)
        made.open()
        return made

    def open(self) -> None:
        """Opens the database at ``path``, with nothing in memory."""
        self.connection = open_sqlite(self.path)
        self.record = SqlRecord(self.connection)
        self.live = Live()

    def now(self) -> int:
        """The time, which the test moves."""
        return self.now_ms

    def commit(self, *items: Item) -> Outcome:
        """One commit."""
        return commit_batch(self.record, self.live, items, self.identity, self.now_ms, self.random)

    def push(self, tablet: "Tablet", document: str, update: bytes, connection: int = 1) -> Push:
        """A push as a session would give it."""
        name = parse(document)
        read_ = read_device_update(update, name.root)
        said = tuple(Said(one, content_of(one)) for one in map(decode, read_.values))
        return Push(connection, tablet.id, name, read_, update, said)

    def request(self, tablet: "Tablet", said: SignedStatement, connection: int = 1, **more: Any) -> Request:
        """A request as a session would give it."""
        return Request(connection, tablet.id, Said(said, content_of(said), **more))

    def verify(self) -> Verified:
        """Whether everything follows from the statements."""
        keys_ = Keys(lambda device: self.identity.certificate(self.connection, device), (self.ring.relay.public,))
        return verify_record(self.record, keys_)

    def task(self, act: Callable[[Batch], Any]) -> Any:
        """One task in a commit of its own; its result."""
        return self.commit(Task(0, act)).results[0]

    def _people(self, batch: Batch) -> None:
        db = self.connection
        for site in ("ward-a", "pharmacy"):
            users.add_site(db, site, site.title())
            batch.put(f"site/{site}", SiteRegister(site, site.title(), "1 Example Street", "Europe/Berlin"))
        users.add(db, self.terms, "vera", "Vera Example", ALL_ROLES, ("ward-a", "pharmacy"), "vera's word", self.random)
        batch.put("formulary", MedicationRegister("amox-500", "Amoxicillin 500 mg", "{capsule}", 1))
        self._patient(batch, "p1")
        put_knowledge(db, self.ring, "snapshot-1", self.now_ms)
        write_directory(batch)

    def _patient(self, batch: Batch, patient: str) -> None:
        identifier = Identifier("urn:example:mrn", f"MRN-{patient}")
        register = PatientRegister(patient, (identifier,), f"Pat {patient}", "1980-02-03", ("ward-a",), 1, ())
        batch.put(f"patient/{patient}", register)

    def patient(self, patient: str) -> None:
        """Another patient of ward-a."""
        self.task(lambda batch: self._patient(batch, patient))

    def tablet(self, user: str = "vera", password: str = "vera's word") -> Tablet:
        """A device that is enrolled, with a user signed in."""
        signer = keys.SoftwareSigner.from_scalar(next(self.scalars))
        sealing_key = bytes(self.random(32))

        def enrol(batch: Batch) -> Enrolled:
            code = enrolment.give_code(self.connection, self.terms, ("ward-a", "pharmacy"), self.now_ms, self.random)
            body = proof_body(PROTOCOL, code.text, "Tablet", signer.public, sealing_key)
            request = Enrol(
                PROTOCOL, code.text, "Tablet", signer.public, sealing_key, signer.sign(ENROLMENT_PROOF_TAG, body)
            )
            made = self.identity.enrol(self.connection, request, self.now_ms, self.random)
            assert isinstance(made, Enrolled), made
            write_directory(batch)
            return made

        device = self.task(enrol).device
        granted = self.task(
            lambda _: self.identity.sign_in(self.connection, device, user, password, None, self.now_ms, self.random)
        )
        return Tablet(device, signer, read(Grant, granted), self.random, self.now, self.ring.relay.public)

    def service(self, verifiers: int = 0) -> Service:
        """A relay on this world's database (which is a file); the world itself writes nothing meanwhile."""
        assert self.path != ":memory:"
        return Service(Path(self.path), self.ring, self.terms, self.knowledge, self.now, self.random, verifiers)

    def log(self, scope: str) -> str:
        """Today's segment of a scope's log."""
        return segment(log_of(scope), utc_date(self.now_ms))
