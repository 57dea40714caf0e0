"""What a device's conversation asks of the relay: what `relay.session` gives its shell."""

from dataclasses import dataclass

import msgspec

from crdtmed.aggregates.content import Content, ContentError
from crdtmed.documents import Document
from crdtmed.statement import SignedStatement
from crdtmed.updates import DeviceUpdate
from crdtmed.wire.frames import Want
from relay.admission.facts import ChallengeState, KnowledgeAnswer


class Said(msgspec.Struct, frozen=True):
    """A statement as it came in, with its content, what became of its challenge, and the knowledge base's answer.

    Its signature is not checked by the session: that is the shell's, off the loop, before anything is judged.
    """

    signed: SignedStatement
    content: Content | ContentError
    challenge: ChallengeState = ChallengeState.ABSENT
    answer: KnowledgeAnswer | None = None


@dataclass(frozen=True, slots=True)
class Proven:
    """Who it claims to be, and its proof, which `Session.identified` judges once the certificate is there."""

    device: str


@dataclass(frozen=True, slots=True)
class Authenticated:
    """It is that device; these are its high-water marks.  `Session.welcome` opens the conversation."""

    device: str
    last_number: int
    lease: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """It subscribes."""

    wants: tuple[Want, ...]


@dataclass(frozen=True, slots=True)
class Unwanted:
    """It no longer wants these."""

    documents: tuple[str, ...]


class Pushed(msgspec.Struct, frozen=True):
    """A well-formed update of a document that devices write; every value of it is a statement of this device."""

    document: Document
    update: DeviceUpdate
    raw: bytes
    said: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class Requested:
    """A statement of this device that asks for a change of registers."""

    said: Said


@dataclass(frozen=True, slots=True)
class VerdictsAsked:
    """It wants these verdicts again; they are of its own statements."""

    refs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DigestAsked:
    """It wants the digest of a document."""

    document: str


@dataclass(frozen=True, slots=True)
class RenewAsked:
    """It wants its lease renewed."""

    last_number: int
    lease: int


@dataclass(frozen=True, slots=True)
class SignInAsked:
    """A user signs in on it."""

    user: str
    password: str
    pin: str | None

    def __repr__(self) -> str:
        """Without the secrets, since values end up in logs."""
        return f"SignInAsked(user={self.user!r})"


@dataclass(frozen=True, slots=True)
class RosterAsked:
    """It wants the grants issued ahead for a site."""

    site: str


@dataclass(frozen=True, slots=True)
class GivenBack:
    """Statements of its former base that a restored relay may lack, of any author."""

    document: Document
    said: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class GivenOver:
    """The outbox of a revoked device; ``statements`` are its own."""

    statements: tuple[SignedStatement, ...]


@dataclass(frozen=True, slots=True)
class WipeConfirmed:
    """A revoked device says that key and cache are destroyed."""

    at: int
    last_number: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The conversation is over, once the output is sent.  ``code`` is stable, ``says`` is for people."""

    code: str
    says: str


Event = (
    Proven
    | Authenticated
    | Wanted
    | Unwanted
    | Pushed
    | Requested
    | VerdictsAsked
    | DigestAsked
    | RenewAsked
    | SignInAsked
    | RosterAsked
    | GivenBack
    | GivenOver
    | WipeConfirmed
    | Closed
)
