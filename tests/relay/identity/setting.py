"""An identity service over a database in memory, with devices and people, for the tests of both sides."""

import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crdtmed.contract import Role
from crdtmed.device.enrolment import request
from crdtmed.device.files import DeviceFiles
from crdtmed.device.keyfile import SoftwareKeys, new_keys
from crdtmed.device.lease import Holder
from crdtmed.sealing import Cost
from crdtmed.signed import Grant, Lease, read
from crdtmed.trust import Anchor
from crdtmed.wire.enrolment import Enrolled
from relay.identity import enrolment, users
from relay.identity.grants import SignInFailure
from relay.identity.keyring import Keyring, keyring, new_secrets
from relay.identity.leases import Terms
from relay.identity.service import EmbeddedIdentity, open_identity
from relay.storage.migrations import migrate

T0 = 1_800_000_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE
CHEAP = Cost(8, 1, 1)
TERMS = Terms(login_cost=CHEAP, pin_cost=CHEAP)
PASSWORD = "correct horse"
PIN = "2468"


def seeded(seed: int) -> Callable[[int], bytes]:
    """Random bytes that repeat."""
    return random.Random(seed).randbytes


@dataclass(frozen=True)
class World:
    """A relay's identity service; ``random`` is shared, so that nothing is drawn twice."""

    db: sqlite3.Connection
    ring: Keyring
    identity: EmbeddedIdentity
    random: Callable[[int], bytes]

    @property
    def anchor(self) -> Anchor:
        return Anchor(self.ring.identity.public)

    def enrol(self, *sites: str, now_ms: int = T0, keys: SoftwareKeys | None = None) -> tuple[SoftwareKeys, Enrolled]:
        """A new device of these sites."""
        code = enrolment.give_code(self.db, self.identity.terms, sites, now_ms, self.random)
        keys = keys or new_keys(self.random)
        answer = self.identity.enrol(self.db, request(keys, code.text, "a tablet"), now_ms, self.random)
        assert isinstance(answer, Enrolled), answer
        return keys, answer

    def sign_in(self, device: str, user: str, now_ms: int = T0, pin: str | None = PIN) -> Grant:
        """The grant of a user who signs in with the right password."""
        given = self.identity.sign_in(self.db, device, user, PASSWORD, pin, now_ms, self.random)
        assert not isinstance(given, SignInFailure), given
        return read(Grant, given)

    def renew(self, device: str, now_ms: int, number: int = 0, lease: int = 0) -> Lease:
        """The next lease of a device."""
        return read(Lease, self.identity.renew(self.db, device, number, lease, now_ms, self.random).lease)

    def holder(self, directory: Path, keys: SoftwareKeys, device: str) -> Holder:
        """A device's files under ``directory``."""
        return Holder(DeviceFiles(directory), keys, device, self.anchor)


def database() -> sqlite3.Connection:
    """An empty relay's database."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    migrate(db)
    return db


def world(seed: int = 1, db: sqlite3.Connection | None = None) -> World:
    """A relay with two sites and three people: ada (prescriber) and bo (nurse) at ward-a, cy (pharmacist) at both."""
    draw = seeded(seed)
    db = db or database()
    ring = keyring(new_secrets("main", draw))
    identity = open_identity(
        db,
        ring,
        TERMS,
        T0,
    )
    for site in ("ward-a", "pharmacy"):
        users.add_site(db, site, site.title())
    people = (
        ("ada", Role.PRESCRIBER, ["ward-a"]),
        ("bo", Role.NURSE, ["ward-a"]),
        ("cy", Role.PHARMACIST, ["pharmacy", "ward-a"]),
    )
    for key, role, sites in people:
        users.add(db, TERMS, key, key.title(), [role], sites, PASSWORD, draw)
    return World(db, ring, identity, draw)
