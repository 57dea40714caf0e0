"""The embedded identity service: `relay.identity.port.Identity` over the relay's own database."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from crdtmed.keys import Signer
from crdtmed.signed import Certificate, Grant, KnowledgeInForce, RelayKey, Revocation, read
from crdtmed.trust import DEVICE, KNOWLEDGE, RELAY, introduce
from crdtmed.wire.enrolment import Enrol, Enrolled, NotEnrolled
from crdtmed.wire.frames import SealedGrant
from relay.identity import directory, enrolment, grants, leases, revocation, rows
from relay.identity.enrolment import CodeCheck
from relay.identity.grants import SignInCheck, SignInChecked, SignInFailure
from relay.identity.keyring import Keyring
from relay.identity.leases import Terms
from relay.identity.port import RandomBytes, Renewed


@dataclass(frozen=True, slots=True)
class EmbeddedIdentity:
    """Implements `relay.identity.port.Identity`; `open_identity` makes it."""

    ring: Keyring
    terms: Terms
    relay_key: bytes
    seal_to: Callable[[bytes, bytes, bytes], bytes] = field(default=leases.hpke_seal)

    @property
    def relay_signer(self) -> Signer:
        return self.ring.relay

    def certificate(self, connection: Any, device: str) -> Certificate | None:
        data = rows.entry(connection, DEVICE + device)
        return read(Certificate, data) if data is not None else None

    def revocation(self, connection: Any, device: str) -> tuple[Revocation, bytes] | None:
        return revocation.revocation(connection, device)

    def grant(self, connection: Any, grant: str) -> Grant | None:
        row = rows.grant(connection, grant)
        return read(Grant, row.data) if row is not None else None

    def withdrawn_at(self, connection: Any, user: str) -> int | None:
        row = rows.user(connection, user)
        return row.withdrawn_at if row is not None else None

    def sites(self, connection: Any, device: str, now_ms: int) -> frozenset[str]:
        return grants.sites_open(connection, device, now_ms)

    def enrol(self, connection: Any, request: Enrol, now_ms: int, random: RandomBytes) -> Enrolled | NotEnrolled:
        check = self.enrol_begin(connection, request, now_ms)
        if isinstance(check, NotEnrolled):
            return check
        return self.enrol_finish(connection, check, check.matches(), now_ms, random)

    def enrol_begin(self, connection: Any, request: Enrol, now_ms: int) -> CodeCheck | NotEnrolled:
        return enrolment.begin(connection, self.terms, request, now_ms)

    def enrol_finish(
        self, connection: Any, check: CodeCheck, matched: bool, now_ms: int, random: RandomBytes
    ) -> Enrolled | NotEnrolled:
        return enrolment.finish(connection, self.ring, self.terms, check, matched, now_ms, random, self.seal_to)

    def sign_in(
        self,
        connection: Any,
        device: str,
        user: str,
        password: str,
        pin: str | None,
        now_ms: int,
        random: RandomBytes,
    ) -> bytes | SignInFailure:
        check = self.sign_in_begin(connection, device, user, password, pin, random)
        if isinstance(check, SignInFailure):
            return check
        return self.sign_in_finish(connection, check.run(), now_ms, random)

    def sign_in_begin(
        self, connection: Any, device: str, user: str, password: str, pin: str | None, random: RandomBytes
    ) -> SignInCheck | SignInFailure:
        return grants.begin(connection, self.terms, device, user, password, pin, random)

    def sign_in_finish(
        self, connection: Any, checked: SignInChecked, now_ms: int, random: RandomBytes
    ) -> bytes | SignInFailure:
        return grants.finish(connection, self.ring, self.terms, checked, now_ms, random)

    def roster(
        self, connection: Any, device: str, site: str, now_ms: int, random: RandomBytes
    ) -> tuple[SealedGrant, ...]:
        return grants.roster(connection, self.ring, self.terms, device, site, now_ms, random)

    def renew(
        self, connection: Any, device: str, last_number: int, lease: int, now_ms: int, random: RandomBytes
    ) -> Renewed:
        alarms = leases.marks(connection, device, last_number, lease)
        given = leases.issue(connection, self.ring, self.terms, device, now_ms, random, self.seal_to)
        return Renewed(given, alarms)

    def revoke(self, connection: Any, device: str, reason: str, now: bool, now_ms: int) -> bytes:
        return revocation.revoke(connection, self.ring, device, reason, now, now_ms)

    def may_hand_over(self, connection: Any, device: str) -> bool:
        return revocation.may_hand_over(connection, device)

    def handed_over(self, connection: Any, device: str, count: int) -> None:
        row = rows.device(connection, device)
        if row is not None:
            rows.set_handed_over(connection, device, row.handed_over + count)

    def wiped(self, connection: Any, device: str, at: int, last_number: int, signature: bytes, now_ms: int) -> bool:
        return revocation.wiped(connection, device, at, last_number, signature, now_ms)

    def directory(self, connection: Any, now_ms: int) -> Mapping[str, bytes]:
        return directory.current(connection, self.ring.identity, now_ms)

    def snapshot_in_force(self, connection: Any) -> str | None:
        data = rows.entry(connection, KNOWLEDGE)
        return read(KnowledgeInForce, data).snapshot if data is not None else None


def open_identity(
    db: Any,
    ring: Keyring,
    terms: Terms,
    now_ms: int,
    seal_to: Callable[[bytes, bytes, bytes], bytes] = leases.hpke_seal,
) -> EmbeddedIdentity:
    """The service over ``db`` (in a transaction): this relay's key stands in the directory from now on.

    Raises `relay.identity.directory.AnotherIdentity` where the database belongs to another identity key, and
    `ValueError` where a key of this name is another one, or was retired.
    """
    data = rows.entry(db, RELAY + ring.relay_name)
    if data is None:
        data = directory.put(db, ring.identity, RelayKey(ring.relay_name, ring.relay.public, now_ms, None), now_ms)
    held = read(RelayKey, data)
    if held.public != ring.relay.public or held.retired_at is not None:
        raise ValueError(f"relay {ring.relay_name} has another key in the directory, or a retired one: name it anew")
    directory.check(db, ring.identity)
    return EmbeddedIdentity(ring, terms, introduce(directory.rotations(db), data), seal_to)


def identity_in_force(db: Any, candidates: tuple[Signer, ...]) -> Signer:
    """Which of these signers the directory is signed with; the first where there is no directory yet.

    Raises `relay.identity.directory.AnotherIdentity` where it is none of them.
    """
    for signer in candidates[:-1]:
        try:
            directory.check(db, signer)
        except directory.AnotherIdentity:
            continue
        return signer
    directory.check(db, candidates[-1])
    return candidates[-1]


def put_knowledge(db: Any, ring: Keyring, snapshot: str, now_ms: int) -> None:
    """The knowledge-base snapshot that is in force from now on."""
    directory.put(db, ring.identity, KnowledgeInForce(snapshot, now_ms), now_ms)


def retire_relay_key(db: Any, ring: Keyring, relay_name: str, now_ms: int) -> None:
    """Nothing that this relay key dates later than now is believed any more.

    Raises `ValueError` where there is no such key, or it is the one this relay signs with.
    """
    data = rows.entry(db, RELAY + relay_name)
    if data is None or relay_name == ring.relay_name:
        raise ValueError(f"{relay_name!r} is no other relay's key")
    held = read(RelayKey, data)
    if held.retired_at is None:
        directory.put(db, ring.identity, RelayKey(held.relay, held.public, held.since, now_ms), now_ms)
