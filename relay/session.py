"""The relay's side of a conversation with one device, without sockets, clocks or disks.

Bytes and the time go in, events come out; what is to be sent gathers in `Session.drain`.  A peer's bytes never raise:
whatever is wrong with a frame ends this conversation, with a code and a reason, and touches nothing else.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from crdtmed import keys
from crdtmed.documents import is_request
from crdtmed.keys import Signer
from crdtmed.limits import (
    CHALLENGE_MS,
    LEASE_RENEWAL_S,
    MAX_CHALLENGES,
    MAX_FRAMES_PER_S,
    MAX_HANDSHAKE_FRAME_BYTES,
    MAX_LONG_TEXT_CHARS,
    MAX_PUSHES_IN_FLIGHT,
    MAX_SHORT_TEXT_CHARS,
)
from crdtmed.signed import Certificate
from crdtmed.statement import SignedStatement
from crdtmed.updates import Malformed, MapInsert, read_device_update
from crdtmed.wire import frames
from crdtmed.wire.plain import size_of
from relay.admission.facts import ChallengeState
from relay.session_events import (
    Authenticated,
    Closed,
    DigestAsked,
    Event,
    GivenBack,
    GivenOver,
    Proven,
    Pushed,
    RenewAsked,
    Requested,
    RosterAsked,
    Said,
    SignInAsked,
    Unwanted,
    VerdictsAsked,
    Wanted,
    WipeConfirmed,
)
from relay.session_statements import Wrong, check_key, decoded, read_any, read_document, read_statement

NONCE_BYTES: Final = 16


class State(Enum):
    """Where a conversation stands."""

    GREETING = auto()
    """Waits for `Hello`."""
    PROVING = auto()
    """Waits for `Proof`."""
    JUDGING = auto()
    """Waits for the shell; the device has nothing to say until it was answered."""
    OPEN = auto()
    REVOKED = auto()
    """It may hand over its outbox and confirm the wipe, and nothing else."""
    CLOSED = auto()


class Session:
    """One conversation.  ``signer`` and ``relay_key`` are the relay's; ``random`` gives bytes for nonces."""

    def __init__(self, signer: Signer, relay_key: bytes, random: Callable[[int], bytes]) -> None:
        self.state = State.GREETING
        self.device = ""
        self.in_flight = 0
        self._signer = signer
        self._relay_key = relay_key
        self._random = random
        self._body = b""
        self._proof: frames.Proof | None = None
        self._challenges: dict[bytes, int] = {}
        self._second = 0
        self._frames = 0
        self._out: list[bytes] = []

    def drain(self) -> list[bytes]:
        """The frames to send, in order; each is given once."""
        out, self._out = self._out, []
        return out

    def send(self, frame: frames.ToDevice) -> None:
        """Adds a frame to what is to be sent."""
        self._out.append(frames.encode_frame(frame))

    def receive(self, data: bytes, now_ms: int) -> list[Event]:
        """What a message of the device asks for; nothing once the conversation is over."""
        if self.state is State.CLOSED:
            return []
        try:
            self._count(data, now_ms)
            return self._frame(frames.read_from_device(data), now_ms)
        except Wrong as wrong:
            return self.close(wrong.code, wrong.says)
        except frames.BadFrame as bad:
            return self.close("bad_frame", f"{bad.reason}: {bad.says}")

    def close(self, code: str, says: str) -> list[Event]:
        """Ends the conversation: says goodbye to the device and tells the shell."""
        if self.state is State.CLOSED:
            return []
        self.state = State.CLOSED
        self.send(frames.Bye(code[:MAX_SHORT_TEXT_CHARS], says[:MAX_LONG_TEXT_CHARS]))
        return [Closed(code, says)]

    def identified(self, certificate: Certificate | None) -> list[Event]:
        """Judges the proof under the device's certificate; None where nobody was ever enrolled under that name."""
        proof = self._proof
        if self.state is not State.JUDGING or proof is None:
            return []
        self._proof = None
        if certificate is None or not keys.verify(
            certificate.signing, frames.DEVICE_PROOF_TAG, self._body, proof.signature
        ):
            # One answer for both: who is enrolled here is nobody's business.
            return self.close("not_authenticated", "this relay does not know that device, or the proof is not its own")
        return [Authenticated(self.device, proof.last_number, proof.lease)]

    def welcome(self, now_ms: int, lease: bytes, last_number: int) -> None:
        """Opens the conversation."""
        if self.state is State.JUDGING:
            self.state = State.OPEN
            self.send(frames.Welcome(now_ms, lease, last_number, MAX_PUSHES_IN_FLIGHT, LEASE_RENEWAL_S))

    def revoke(self, revocation: bytes, hand_over: bool) -> None:
        """Tells the device that it is out of service; from now on it may only hand over and confirm."""
        if self.state in (State.JUDGING, State.OPEN):
            self.state = State.REVOKED
            self.send(frames.Revoked(revocation, hand_over))

    def answered(self, pushes: int) -> None:
        """So many of its pushes and requests have their verdicts."""
        self.in_flight = max(0, self.in_flight - pushes)

    # ---- frames -----------------------------------------------------------------------------------------------

    def _count(self, data: bytes, now_ms: int) -> None:
        shaking = self.state is not State.OPEN and self.state is not State.REVOKED
        if shaking and size_of(data) > MAX_HANDSHAKE_FRAME_BYTES:
            raise Wrong("too_large", f"{size_of(data)} bytes before the handshake is done")
        second = now_ms // 1_000
        if second != self._second:
            self._second, self._frames = second, 0
        self._frames += 1
        if self._frames > MAX_FRAMES_PER_S:
            raise Wrong("too_many_frames", f"more than {MAX_FRAMES_PER_S} in a second")

    def _frame(self, frame: frames.ToRelay, now_ms: int) -> list[Event]:
        if isinstance(frame, frames.ByeRelay):
            self.state = State.CLOSED
            return [Closed("bye", frame.code)]
        match self.state:
            case State.OPEN:
                return self._open(frame, now_ms)
            case State.GREETING:
                return self._hello(frame)
            case State.PROVING:
                return self._prove(frame)
            case State.REVOKED:
                return self._revoked(frame)
            case _:
                raise Wrong("out_of_turn", f"{_name(frame)} before the relay has answered")

    def _hello(self, frame: frames.ToRelay) -> list[Event]:
        if isinstance(frame, frames.Wiped):
            self.device = frame.device
            self.state = State.JUDGING
            return [WipeConfirmed(frame.at, frame.last_number, frame.signature)]
        if not isinstance(frame, frames.Hello):
            raise Wrong("out_of_turn", f"a conversation begins with hello, not with {_name(frame)}")
        if frame.protocol != frames.PROTOCOL:
            raise Wrong("protocol_unknown", f"protocol {frame.protocol}, this relay speaks {frames.PROTOCOL}")
        nonce = self._random(NONCE_BYTES)
        self.device = frame.device
        self._body = frames.handshake_body(frame.device, frame.nonce, nonce, self._signer.public)
        signature = self._signer.sign(frames.RELAY_PROOF_TAG, self._body)
        self.send(frames.Challenge(frames.PROTOCOL, nonce, signature, self._relay_key))
        self.state = State.PROVING
        return []

    def _prove(self, frame: frames.ToRelay) -> list[Event]:
        if not isinstance(frame, frames.Proof):
            raise Wrong("out_of_turn", f"proof was due, not {_name(frame)}")
        self._proof = frame
        self.state = State.JUDGING
        return [Proven(self.device)]

    def _open(self, frame: frames.ToRelay, now_ms: int) -> list[Event]:
        match frame:
            case frames.Push():
                return [self._push(frame, now_ms)]
            case frames.Request(statement=statement):
                self._take()
                said = self._said(statement, now_ms)
                if not is_request(said.signed.statement.kind):
                    raise Wrong("not_a_request", f"a {said.signed.statement.kind.label} travels in a document")
                return [Requested(said)]
            case frames.Subscribe(wants=wants):
                return [Wanted(wants)]
            case frames.Unsubscribe(documents=documents):
                return [Unwanted(documents)]
            case frames.AskChallenges(count=count):
                self._give_challenges(count, now_ms)
                return []
            case frames.AskVerdicts(refs=refs):
                if any(not ref.startswith(self.device + ".") for ref in refs):
                    raise Wrong("foreign_author", "verdicts are given to the device that said it")
                return [VerdictsAsked(refs)]
            case frames.AskDigest(document=document):
                return [DigestAsked(document)]
            case frames.Renew(last_number=number, lease=lease):
                return [RenewAsked(number, lease)]
            case frames.SignIn(user=user, password=password, pin=pin):
                return [SignInAsked(user, password, pin)]
            case frames.AskRoster(site=site):
                return [RosterAsked(site)]
            case frames.HandBack(document=name, statements=statements):
                return [GivenBack(read_document(name), tuple(read_any(statement) for statement in statements))]
            case _:
                raise Wrong("out_of_turn", f"{_name(frame)} in an open conversation")

    def _revoked(self, frame: frames.ToRelay) -> list[Event]:
        match frame:
            case frames.HandOver(statements=statements):
                return [GivenOver(tuple(self._own(statement) for statement in statements))]
            case frames.Wiped(device=self.device, at=at, last_number=number, signature=signature):
                return [WipeConfirmed(at, number, signature)]
            case frames.Push() | frames.Request() | frames.Renew() | frames.Subscribe() | frames.Unsubscribe():
                return []  # sent before it knew
            case _:
                raise Wrong("revoked", f"{_name(frame)} from a device that is out of service")

    # ---- statements -------------------------------------------------------------------------------------------

    def _take(self) -> None:
        self.in_flight += 1
        if self.in_flight > MAX_PUSHES_IN_FLIGHT:
            raise Wrong("too_many_in_flight", f"more than {MAX_PUSHES_IN_FLIGHT} without a verdict")

    def _push(self, frame: frames.Push, now_ms: int) -> Pushed:
        self._take()
        document = read_document(frame.document)
        if not document.written_by_devices:
            raise Wrong("not_writable", f"{document.name} is written by the relay alone")
        try:
            update = read_device_update(frame.update, document.root)
        except Malformed as malformed:
            raise Wrong(malformed.reason, f"an update of {document.name}: {malformed}") from None
        said = tuple([self._said(value, now_ms) for value in update.values])
        for insert, one in zip(update.inserts, said, strict=False):
            if isinstance(insert, MapInsert):
                check_key(insert.key, one)
        return Pushed(document, update, frame.update, said)

    def _own(self, data: bytes) -> SignedStatement:
        signed = decoded(data)
        self._check_author(signed)
        return signed

    def _check_author(self, signed: SignedStatement) -> None:
        if signed.statement.device != self.device:
            raise Wrong("foreign_author", f"a statement of {signed.statement.device}, this is {self.device}")

    def _said(self, data: bytes, now_ms: int) -> Said:
        signed, content = read_statement(data)
        self._check_author(signed)
        return Said(signed, content, self._challenge(signed.statement.challenge, now_ms))

    def _challenge(self, challenge: bytes | None, now_ms: int) -> ChallengeState:
        if challenge is None:
            return ChallengeState.ABSENT
        until = self._challenges.pop(challenge, None)
        fresh = until is not None and now_ms < until
        return ChallengeState.FRESH if fresh else ChallengeState.SPENT

    def _give_challenges(self, count: int, now_ms: int) -> None:
        held = {value: until for value, until in self._challenges.items() if now_ms < until}
        if len(held) + count > MAX_CHALLENGES:
            raise Wrong("too_many_challenges", f"at most {MAX_CHALLENGES} are open at a time")
        until = now_ms + CHALLENGE_MS
        made = tuple(self._random(NONCE_BYTES) for _ in range(count))
        self._challenges = held | dict.fromkeys(made, until)
        self.send(frames.Challenges(made, until))


def _name(frame: frames.ToRelay) -> str:
    return str(type(frame).__struct_config__.tag)
