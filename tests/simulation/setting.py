"""The hospital that every history begins with: one relay, four enrolled devices, their people, patients and stock."""

import asyncio
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from random import Random

from crdtmed.aggregates.medication import MedicationRegister
from crdtmed.aggregates.patient import Allergy, Identifier, PatientRegister
from crdtmed.aggregates.reconciliation_session import HomeMedication
from crdtmed.aggregates.site import SiteRegister
from crdtmed.aggregates.stock_item import Movement, MovementType, StockRegister
from crdtmed.contract import Role
from crdtmed.device.clocks import Clock
from crdtmed.device.enrolment import enrol
from crdtmed.device.files import DeviceFiles, write_whole
from crdtmed.device.keyfile import SoftwareKeys, new_keys
from crdtmed.ids import ref, to_text
from crdtmed.sealing import Cost, lock, unlock
from crdtmed.wire.enrolment import encode_message, read_enrol
from relay.admission.effects import Move
from relay.applying import apply
from relay.batch import Batch
from relay.commit import commit_batch
from relay.identity import enrolment, users
from relay.identity.keyring import Keyring, keyring, new_secrets
from relay.identity.leases import Terms
from relay.identity.service import open_identity, put_knowledge
from relay.items import Task
from relay.live import Live
from relay.own_documents import write_directory
from relay.storage.record import SqlRecord
from relay.storage.sqlite import open_sqlite

T0 = 1_780_000_000_000
TERMS = Terms(login_cost=Cost(8, 1, 1), pin_cost=Cost(8, 1, 1))
SITES = ("ward", "pharm")
PATIENTS = ("p1", "p2", "p3")
CARE = {"p1": ("pharm", "ward"), "p2": ("pharm", "ward"), "p3": ("ward",)}
NAMES = {"p1": "Maria Muster", "p2": "Otto Beispiel", "p3": "Ida Exempel"}
ITEMS = {"amox": ("Amoxicillin 500 mg", "{capsule}"), "para": ("Paracetamol 500 mg", "{tablet}")}
STOCK = {("pharm", "amox", "A1"): 21, ("pharm", "amox", "A2"): 42, ("pharm", "para", "P1"): 30}
STAFF: dict[str, tuple[tuple[Role, ...], tuple[str, ...]]] = {
    "ana": ((Role.PRESCRIBER,), ("ward", "pharm")),
    "ben": ((Role.PRESCRIBER,), ("ward", "pharm")),
    "nia": ((Role.NURSE,), ("ward",)),
    "pia": ((Role.PHARMACIST,), ("ward", "pharm")),
    "qun": ((Role.PHARMACIST,), ("pharm",)),
    "sam": ((Role.STOCK_SUPERVISOR, Role.STOCK_CLERK), ("pharm",)),
}
DEVICES = ("ward-1", "ward-2", "pharm-1", "pharm-2")
WORKS = {
    "ward-1": ("ana", "nia"),
    "ward-2": ("ben", "nia", "pia"),
    "pharm-1": ("pia", "sam", "ana"),
    "pharm-2": ("qun", "pia", "sam"),
}
SNAPSHOT = "2026-11"


def password(user: str) -> str:
    """The password of a user."""
    return f"password-of-{user}"


def ring() -> Keyring:
    """The relay's keys."""
    return keyring(new_secrets("relay-1", Random("ring").randbytes))


def seal_to(sealing_public: bytes, secret: bytes, info: bytes) -> bytes:
    """Stands in for HPKE, which draws randomness of its own: the same bytes for the same secret."""
    key = sha256(b"simulated sealing" + sealing_public).digest()
    return lock(key, sha256(info + secret).digest()[:12], secret, info) + sha256(info + secret).digest()[:12]


@dataclass(frozen=True)
class SimulatedKeys:
    """Keys of a device that open what `seal_to` sealed."""

    inner: SoftwareKeys

    @property
    def public(self) -> bytes:
        return self.inner.public

    @property
    def sealing_public(self) -> bytes:
        return self.inner.sealing_public

    def sign(self, tag: bytes, body: bytes) -> bytes:
        return self.inner.sign(tag, body)

    def open(self, sealed: bytes, info: bytes, what: str) -> bytes:
        key = sha256(b"simulated sealing" + self.sealing_public).digest()
        return unlock(key, sealed[-12:], sealed[:-12], info, what)


def keys_of(device: str) -> SimulatedKeys:
    """The keys of a device."""
    return SimulatedKeys(new_keys(Random(f"keys of {device}").randbytes))


@dataclass(frozen=True)
class Template:
    """A hospital as it lies on the disk before the first history; ``ids`` are the devices' ids by name."""

    folder: Path
    ids: dict[str, str]

    def copy(self, to: Path) -> None:
        """A hospital for one history."""
        shutil.copytree(self.folder, to, dirs_exist_ok=True)


def scratch() -> str | None:
    """Where files of simulations go: memory, where there is such a folder."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


@cache
def template() -> Template:
    """The hospital, made once a process."""
    folder = Path(tempfile.mkdtemp(prefix="crdtmed-template-", dir=scratch()))
    connection = open_sqlite(folder / "relay.sqlite")
    record, live, random = SqlRecord(connection), Live(), Random("template").randbytes
    connection.execute("BEGIN IMMEDIATE")
    identity = open_identity(connection, ring(), TERMS, T0, seal_to)
    connection.execute("COMMIT")

    def commit(act: object) -> object:
        return commit_batch(record, live, [Task(0, act)], identity, T0, random).results[0]  # type: ignore[arg-type]  # any act

    commit(_furnish)
    ids: dict[str, str] = {}
    for name in DEVICES:
        keys = keys_of(name)

        async def post(body: bytes) -> bytes:
            def act(batch: Batch) -> bytes:
                answer = identity.enrol(connection, read_enrol(body), batch.now_ms, random)
                write_directory(batch)
                return encode_message(answer)

            made = commit(act)
            assert isinstance(made, bytes)
            return made

        code = commit(lambda batch: enrolment.give_code(connection, TERMS, SITES, batch.now_ms, random).text)
        (folder / name).mkdir()
        files = DeviceFiles(folder / name)
        clock = Clock(lambda: T0, lambda: 0)
        profile, _ = asyncio.run(enrol(files, keys, "ws://127.0.0.1", str(code), name, post, clock.reading))
        write_whole(files.keys, b"the key file")
        ids[name] = profile.device
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return Template(folder, ids)


def _furnish(batch: Batch) -> None:
    db, random = batch.record.connection, Random("people").randbytes
    for site in SITES:
        users.add_site(db, site, site.title())
        batch.put(f"site/{site}", SiteRegister(site, site.title(), "1 Hospital Way", "Europe/Berlin"))
    for user, (roles, sites) in STAFF.items():
        users.add(db, TERMS, user, user.title(), roles, sites, password(user), random)
    for code, (display, unit) in ITEMS.items():
        batch.put("formulary", MedicationRegister(code, display, unit, 1))
    for patient in PATIENTS:
        homes = (HomeMedication("h1", "Ramipril 5 mg"), HomeMedication("h2", "Metformin 1 g"))
        identifier = Identifier("urn:example:mrn", f"MRN-{patient}")
        allergies = (Allergy("penicillin", "Penicillin", "rash"),) if patient == "p2" else ()
        batch.put(
            f"patient/{patient}",
            PatientRegister(patient, (identifier,), NAMES[patient], "1950-03-01", CARE[patient], 1, allergies, homes),
        )
    for (site, item, lot), quantity in STOCK.items():
        register = StockRegister(item, lot, "2099-12-31", quantity, ITEMS[item][1], 1)
        batch.put(f"site/{site}", register)
        by = ref("operator", to_text(sha256(f"{item} {lot}".encode()).digest()[:10]))
        movement = Movement(site, item, lot, MovementType.RECEIPT, quantity, by)
        apply(batch, (Move(movement),))
    put_knowledge(db, ring(), SNAPSHOT, T0)
    write_directory(batch)
