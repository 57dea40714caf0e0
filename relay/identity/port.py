"""What the relay's core asks of the identity service.

Every function is synchronous and works on the connection it is handed, inside the caller's transaction: the embedded
service keeps its tables in the relay's database, so that a revocation and the directory document that tells of it
commit together.  Time and random bytes are arguments.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from crdtmed.keys import Signer
from crdtmed.signed import Certificate, Grant, Revocation
from crdtmed.wire.frames import SealedGrant

RandomBytes = Callable[[int], bytes]
"""``n`` bytes from a cryptographic source; the simulator hands in a seeded one."""


@dataclass(frozen=True, slots=True)
class SignInFailure:
    """``code`` is ``wrong``, ``locked``, ``withdrawn`` or ``no_grant``, as the frame `SignInFailed` has it."""

    code: str


@dataclass(frozen=True, slots=True)
class EnrolRequest:
    """What a device sends to enrol: the one-time code, its public keys, its label, and the proof of its keys."""

    code: str
    signing: bytes
    sealing: bytes
    label: str
    proof: bytes


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What it gets: its certificate, the identity key to pin, the relay's key as vouched for, and its first lease."""

    device: str
    certificate: bytes
    identity: bytes
    relay_key: bytes
    lease: bytes


@dataclass(frozen=True, slots=True)
class EnrolFailure:
    """``code`` is stable (``code_wrong``, ``code_spent``, ``code_expired``, ``locked``, ``bad_proof``…)."""

    code: str
    says: str


@dataclass(frozen=True, slots=True)
class Renewed:
    """A lease, signed by the identity key; ``alarms`` are what the high-water marks gave away (a cloned store)."""

    lease: bytes
    alarms: tuple[str, ...] = ()


class Identity(Protocol):
    """The identity service as the relay sees it; ``connection`` is a DBAPI connection of the relay's database."""

    @property
    def relay_signer(self) -> Signer:
        """Signs registers, digests and the handshake in this relay's name."""

    @property
    def relay_key(self) -> bytes:
        """The signed `crdtmed.signed.RelayKey` of that signer."""

    def certificate(self, connection: Any, device: str) -> Certificate | None:
        """The certificate of a device, revoked or not; None where it was never enrolled."""

    def revocation(self, connection: Any, device: str) -> tuple[Revocation, bytes] | None:
        """The revocation of a device with its signed bytes; None while it is in service."""

    def grant(self, connection: Any, grant: str) -> Grant | None:
        """The grant of that id; None where it was never issued."""

    def withdrawn_at(self, connection: Any, user: str) -> int | None:
        """When the user was withdrawn, in milliseconds; None while they are in service."""

    def sites(self, connection: Any, device: str, now_ms: int) -> frozenset[str]:
        """The sites that grants in force at ``now_ms`` open on this device."""

    def enrol(
        self, connection: Any, request: EnrolRequest, now_ms: int, random: RandomBytes
    ) -> Enrolled | EnrolFailure:
        """Judges an enrolment; counts failed attempts in the same transaction."""

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
        """A signed `Grant` for the user on this device, or why not."""

    def roster(
        self, connection: Any, device: str, site: str, now_ms: int, random: RandomBytes
    ) -> tuple[SealedGrant, ...]:
        """The grants issued ahead for a site on this device; empty where the device has no business there."""

    def renew(
        self, connection: Any, device: str, last_number: int, lease: int, now_ms: int, random: RandomBytes
    ) -> Renewed:
        """A new lease for a device in good standing; ``last_number`` and ``lease`` are its high-water marks."""

    def wiped(self, connection: Any, device: str, at: int, last_number: int, signature: bytes, now_ms: int) -> bool:
        """Records a confirmation that a device destroyed its store; False where the signature is not its own."""

    def directory(self, connection: Any, now_ms: int) -> Mapping[str, bytes]:
        """Every entry of the directory document by key, signed, the head included, as it should stand now."""

    def snapshot_in_force(self, connection: Any) -> str | None:
        """The knowledge-base snapshot that the directory names; None before the first."""
