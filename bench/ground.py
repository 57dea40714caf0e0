"""A hospital to measure in: a relay's folder with people, patients, formulary, stock, and devices that speak frames."""

import itertools
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from crdtmed import keys
from crdtmed.aggregates.content import Content, encode_content, kind_of
from crdtmed.aggregates.medication import MedicationRegister
from crdtmed.aggregates.patient import Allergy, Identifier, PatientRegister
from crdtmed.aggregates.site import SiteRegister
from crdtmed.clock import stamp
from crdtmed.contract import Role
from crdtmed.ids import ID_RANDOM_BYTES, fresh_id
from crdtmed.sealing import Cost
from crdtmed.signed import Grant, read
from crdtmed.statement import SignedStatement, Statement, sign
from crdtmed.wire.enrolment import ENROLMENT_PROOF_TAG, Enrol, Enrolled, proof_body
from crdtmed.wire.frames import PROTOCOL
from relay.batch import Batch
from relay.identity import enrolment, users
from relay.identity.keyring import keyring
from relay.identity.leases import Terms
from relay.identity.service import open_identity
from relay.imports import ImportKind
from relay.operator import people
from relay.operator.loading import load, load_knowledge
from relay.operator.office import Office, database_of, make_relay, open_office, read_secrets
from relay.own_documents import write_directory
from relay.settings import Settings
from relay.storage.record import SqlRecord
from relay.storage.sqlite import open_sqlite

USER: Final = "vera"
_LIGHT: Final = "light"
"""The user of thin devices, whose password cost nothing to keep: a thousand of them sign in while setting up."""
PASSWORD: Final = "a password of the bench"  # noqa: S105 - a secret of nobody's
SITES: Final = ("ward", "pharm")
ITEM: Final = "amox-500"
LOT: Final = "A1"
_CHEAP: Final = Cost(memory_kib=8, passes=1, lanes=1)
"""Argon2 at its least, for setting up; nothing measured stretches a password."""
_A_TASK: Final = 500
"""Patients or devices that one transaction writes."""
_STOCK_HEAD: Final = "site,item,lot,expiry,quantity,unit"
_KNOWLEDGE: Final = """{"format": "crdtmed-knowledge/1", "snapshot": "bench", "source": "bench", "interactions": [],
"allergy_classes": [], "duplicate_classes": [], "dose_ceilings": []}"""


@dataclass(slots=True)
class Thin:
    """A device that is a key, a grant and numbers; it holds nothing."""

    id: str
    signer: keys.SoftwareSigner
    grant: Grant
    relay_public: bytes
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    last: int = 0

    def say(self, content: Content, document: str, seen: tuple[str, ...] = ()) -> SignedStatement:
        """A signed statement."""
        now = int(time.time() * 1000)
        self.last = max(self.last + 1, stamp(now))
        return sign(
            Statement(
                version=1,
                kind=kind_of(content),
                id=fresh_id(now, os.urandom(ID_RANDOM_BYTES)),
                document=document,
                device=self.id,
                number=next(self.numbers),
                grant=self.grant.id,
                stamp=self.last,
                seen=seen,
                challenge=None,
                content=msgspec.Raw(encode_content(content)),
            ),
            self.signer,
        )


@contextmanager
def office(folder: Path) -> Iterator[Office]:
    """The relay of a folder, for setting it up."""
    settings = Settings(folder=folder)
    with closing(open_sqlite(database_of(settings))) as connection:
        now = int(time.time() * 1000)
        ring = keyring(read_secrets(settings))
        connection.execute("BEGIN IMMEDIATE")
        identity = open_identity(connection, ring, Terms(login_cost=_CHEAP, pin_cost=_CHEAP), now)
        connection.execute("COMMIT")
        yield Office(settings, SqlRecord(connection), identity, now)


def database(folder: Path) -> Path:
    """The relay's database in a folder."""
    return database_of(Settings(folder=folder))


def build(folder: Path, patients: int = 1) -> None:
    """Sets up a relay with two sites, one user of every role, ``patients`` patients (p0, p1, ...) and a lot."""
    make_relay(Settings(folder=folder))
    with office(folder) as it:
        it.run(_people)
        for first in range(0, patients, _A_TASK):
            it.run(partial(_patients, range(first, min(first + _A_TASK, patients))))
        files = {
            ImportKind.STOCK.value: f"{_STOCK_HEAD}\npharm,{ITEM},{LOT},2099-12-31,1000000,{{capsule}}\n",
            "knowledge": _KNOWLEDGE,
        }
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        load(it, ImportKind.STOCK, folder / ImportKind.STOCK.value)
        load_knowledge(it, folder / "knowledge")


def _people(batch: Batch) -> None:
    db = batch.record.connection
    for site in SITES:
        users.add_site(db, site, site.title())
        batch.put(f"site/{site}", SiteRegister(site, site.title(), "1 Example Street", "Europe/Berlin"))
    for user, terms in ((USER, Terms()), (_LIGHT, Terms(login_cost=_CHEAP, pin_cost=_CHEAP))):
        users.add(db, terms, user, "Vera Example", tuple(Role), SITES, PASSWORD, os.urandom)
    batch.put("formulary", MedicationRegister(ITEM, "Amoxicillin 500 mg capsule", "{capsule}", 1, "capsule", "500 mg"))
    write_directory(batch)


def _patients(which: range, batch: Batch) -> None:
    for number in which:
        register = PatientRegister(
            f"p{number}",
            (Identifier("urn:example:mrn", f"MRN-{number:06}"), Identifier("urn:example:visit", f"V-{number:06}")),
            f"Example Patient {number:06}",
            "1950-03-01",
            SITES,
            1,
            (Allergy("penicillin", "Penicillin", "rash"),),
        )
        batch.put(f"patient/p{number}", register)


def enrol(folder: Path, count: int) -> list[Thin]:
    """So many devices, each with the user signed in."""
    with office(folder) as it:
        made: list[Thin] = []
        while len(made) < count:
            made += it.run(partial(_thins, it, min(_A_TASK, count - len(made))))
        return made


def _thins(it: Office, count: int, batch: Batch) -> list[Thin]:
    return [_thin(it, batch) for _ in range(count)]


def _thin(it: Office, batch: Batch) -> Thin:
    db, identity = batch.record.connection, it.identity
    signer = keys.SoftwareSigner.from_scalar(int.from_bytes(os.urandom(31), "big") + 1)
    sealing = keys_sealing()
    code = enrolment.give_code(db, identity.terms, SITES, it.now_ms, os.urandom)
    body = proof_body(PROTOCOL, code.text, "Bench", signer.public, sealing)
    request = Enrol(PROTOCOL, code.text, "Bench", signer.public, sealing, signer.sign(ENROLMENT_PROOF_TAG, body))
    made = identity.enrol(db, request, it.now_ms, os.urandom)
    assert isinstance(made, Enrolled), made
    granted = identity.sign_in(db, made.device, _LIGHT, PASSWORD, None, it.now_ms, os.urandom)
    assert isinstance(granted, bytes), granted
    return Thin(made.device, signer, read(Grant, granted), identity.ring.relay.public)


def keys_sealing() -> bytes:
    """A public X25519 key of nobody's, to seal leases to."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(secrets.token_bytes(32)).public_key().public_bytes_raw()


def codes(folder: Path, count: int) -> Sequence[str]:
    """Codes to enrol devices with."""
    with open_office(Settings(folder=folder)) as it:
        return [people.give_code(it, SITES)["code"] for _ in range(count)]
