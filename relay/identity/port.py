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
from crdtmed.wire.enrolment import Enrol, Enrolled, NotEnrolled
from crdtmed.wire.frames import SealedGrant
from relay.identity.enrolment import CodeCheck
from relay.identity.grants import SignInCheck, SignInChecked, SignInFailure
from relay.identity.leases import OutOfService

__all__ = ["Identity", "OutOfService", "RandomBytes", "Renewed", "SignInFailure"]

RandomBytes = Callable[[int], bytes]
"""``n`` bytes from a cryptographic source; the simulator hands in a seeded one."""


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
        """What the handshake's ``relay_key`` carries (`crdtmed.trust.introduce`; the device reads it with
        `crdtmed.trust.meet`): the signed `crdtmed.signed.RelayKey` of that signer, and the chain of identity keys."""

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

    def enrol(self, connection: Any, request: Enrol, now_ms: int, random: RandomBytes) -> Enrolled | NotEnrolled:
        """Judges an enrolment; counts attempts in the same transaction.  The three steps below in one: slow."""

    def enrol_begin(self, connection: Any, request: Enrol, now_ms: int) -> CodeCheck | NotEnrolled:
        """First step, in a transaction.  Then `CodeCheck.matches`, slow and without database: in another thread."""

    def enrol_finish(
        self, connection: Any, check: CodeCheck, matched: bool, now_ms: int, random: RandomBytes
    ) -> Enrolled | NotEnrolled:
        """Last step, in a transaction; the directory has changed where it gives `Enrolled`."""

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
        """A signed `Grant` for the user on this device, or why not.  The three steps below in one: slow."""

    def sign_in_begin(
        self, connection: Any, device: str, user: str, password: str, pin: str | None, random: RandomBytes
    ) -> SignInCheck | SignInFailure:
        """First step, in a transaction.  Then `SignInCheck.run`, slow and without database: in another thread."""

    def sign_in_finish(
        self, connection: Any, checked: SignInChecked, now_ms: int, random: RandomBytes
    ) -> bytes | SignInFailure:
        """Last step, in a transaction."""

    def roster(
        self, connection: Any, device: str, site: str, now_ms: int, random: RandomBytes
    ) -> tuple[SealedGrant, ...]:
        """The grants issued ahead for a site on this device; empty where the device has no business there."""

    def renew(
        self, connection: Any, device: str, last_number: int, lease: int, now_ms: int, random: RandomBytes
    ) -> Renewed:
        """A new lease for a device in good standing; ``last_number`` and ``lease`` are its high-water marks.

        Raises `OutOfService` where the device was revoked or never enrolled.
        """

    def revoke(self, connection: Any, device: str, reason: str, now: bool, now_ms: int) -> bytes:
        """Takes a device out of service; the signed revocation, which the directory then holds.

        Raises `OutOfService` for a device that was never enrolled.
        """

    def may_hand_over(self, connection: Any, device: str) -> bool:
        """Whether a revoked device may still hand its outbox over."""

    def handed_over(self, connection: Any, device: str, count: int) -> None:
        """Records that a revoked device handed over so many more statements."""

    def wiped(self, connection: Any, device: str, at: int, last_number: int, signature: bytes, now_ms: int) -> bool:
        """Records a confirmation that a device destroyed its store; False where the signature is not its own."""

    def directory(self, connection: Any, now_ms: int) -> Mapping[str, bytes]:
        """Every entry of the directory document by key, signed, the head included, as it should stand now."""

    def snapshot_in_force(self, connection: Any) -> str | None:
        """The knowledge-base snapshot that the directory names; None before the first."""
