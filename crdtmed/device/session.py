"""The device's half of the conversation with a relay, without I/O: bytes and a time go in, bytes and events come out.

It proves who both are, keeps track of where each subscribed document stands, and lets through only what continues
there.  A relay's bytes never raise: what is wrong closes the conversation, with the reason as its last event.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from crdtmed import keys
from crdtmed.limits import MAX_LONG_TEXT_CHARS, MAX_SHORT_TEXT_CHARS, MAX_SUBSCRIPTIONS_PER_FRAME
from crdtmed.signed import DigestOf, DocumentDigests, Forged, RelayKey, read
from crdtmed.trust import Anchor, meet
from crdtmed.wire import frames as wire


class Stage(Enum):
    """How far the conversation is."""

    GREETING = "greeting"
    PROVING = "proving"
    OPEN = "open"
    REVOKED = "revoked"
    """The device may hand over its outbox and confirm the wipe, and nothing else."""
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Opened:
    """Both sides are proved.  ``relay`` is the relay's key, ``anchor`` what is pinned from now on."""

    welcome: wire.Welcome
    relay: RelayKey
    anchor: Anchor


@dataclass(frozen=True, slots=True)
class BaseCame:
    """A whole document.  `Session.took` or `Session.refuse` says what became of it.

    ``digest`` is what the list of the frame says of it, None where it says nothing; ``digests`` is that list, whose
    signature is still to be checked.
    """

    base: wire.BaseState
    digest: DigestOf | None
    digests: bytes
    remaining: int


@dataclass(frozen=True, slots=True)
class RunCame:
    """Updates that continue a document at position ``first``; none where it merely is up to date.

    An empty ``epoch`` says that the relay has nothing of the document.
    """

    document: str
    epoch: str
    first: int
    updates: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Closed:
    """The conversation is over.  ``by_relay`` where the relay said so; ``code`` and ``says`` are why."""

    code: str
    says: str
    by_relay: bool


Told = (
    wire.Evicted | wire.Verdicts | wire.Gap | wire.Challenges | wire.LeaseGiven | wire.SignedIn | wire.SignInFailed
    | wire.Roster | wire.HandedOver | wire.DigestGiven | wire.Revoked
)  # fmt: skip
"""Frames that are events as they are."""

Event = Opened | BaseCame | RunCame | Closed | Told


@dataclass(frozen=True, slots=True)
class Place:
    """Where a document stands here, and whether the relay has answered the subscription in this conversation."""

    epoch: str
    position: int
    live: bool


_TOLD: Final = (
    wire.Evicted,
    wire.Verdicts,
    wire.Gap,
    wire.Challenges,
    wire.LeaseGiven,
    wire.SignedIn,
    wire.SignInFailed,
    wire.Roster,
    wire.HandedOver,
    wire.DigestGiven,
)


@dataclass(frozen=True, slots=True)
class Self:
    """Who speaks: the device, its key, what it pins, a nonce of 16 random bytes, and its high-water marks."""

    device: str
    signer: keys.Signer
    anchor: Anchor
    nonce: bytes
    last_number: int
    lease: int


class Session:
    """One conversation, from the first byte to the last.

    ``places`` are where the documents stand that were asked for, ``behind`` how many of them are not live yet.
    """

    def __init__(self, own: Self) -> None:
        self.stage = Stage.GREETING
        self.places: dict[str, Place] = {}
        self.behind = 0
        self.end: Closed | None = None
        self._own = own
        self._out: list[bytes] = []
        self._relay: RelayKey | None = None
        self._anchor = own.anchor
        self._send(wire.Hello(wire.PROTOCOL, own.device, own.nonce))

    def drain(self) -> list[bytes]:
        """The frames to send now, in order; each is given once."""
        out, self._out = self._out, []
        return out

    def receive(self, data: bytes, now_ms: int) -> list[Event]:
        """What a frame of the relay means; ``now_ms`` is the device's clock.  Nothing after the end."""
        if self.stage is Stage.CLOSED:
            return []
        try:
            frame = wire.read_from_relay(data)
        except wire.BadFrame as error:
            return self._close("protocol", f"the relay sent no frame: {error}")
        if isinstance(frame, wire.Bye):
            self.stage = Stage.CLOSED
            self.end = Closed(frame.code, frame.says, by_relay=True)
            return [self.end]
        if isinstance(frame, wire.Revoked) and self.stage is not Stage.GREETING:
            self.stage = Stage.REVOKED
            return [frame]
        match self.stage:
            case Stage.GREETING:
                return self._greeted(frame, now_ms)
            case Stage.PROVING:
                return self._welcomed(frame)
            case _:
                return self._told(frame)

    # ---- what the device says -----------------------------------------------------------------------------

    def subscribe(self, wants: Iterable[tuple[str, str, int]]) -> None:
        """Asks for documents, each from its epoch and position on (empty and 0 where nothing is held)."""
        all_wants = [wire.Want(*want) for want in wants]
        for want in all_wants:
            self._stands(want.document, Place(want.epoch, want.position, live=False))
        for start in range(0, len(all_wants), MAX_SUBSCRIPTIONS_PER_FRAME):
            self._send(wire.Subscribe(tuple(all_wants[start : start + MAX_SUBSCRIPTIONS_PER_FRAME])))

    def unsubscribe(self, documents: Sequence[str]) -> None:
        """Asks for no more of these."""
        for document in documents:
            self._forget(document)
        for start in range(0, len(documents), MAX_SUBSCRIPTIONS_PER_FRAME):
            self._send(wire.Unsubscribe(tuple(documents[start : start + MAX_SUBSCRIPTIONS_PER_FRAME])))

    def say(self, frame: wire.ToRelay) -> None:
        """Any other frame; while the conversation is not open it is not sent."""
        if self.stage in (Stage.OPEN, Stage.REVOKED):
            self._send(frame)

    def leave(self, code: str, says: str) -> None:
        """Ends the conversation; of words that are too many for a frame the relay is told the beginning."""
        if self.stage is not Stage.CLOSED:
            self._send(wire.ByeRelay(code[:MAX_SHORT_TEXT_CHARS], says[:MAX_LONG_TEXT_CHARS]))
            self.stage = Stage.CLOSED
            self.end = Closed(code, says, by_relay=False)

    def took(self, document: str, epoch: str, position: int) -> None:
        """The base that came was taken: the document stands there now."""
        if document in self.places:
            self._stands(document, Place(epoch, position, live=True))

    def refuse(self, document: str) -> None:
        """What came cannot be right: asks for the whole document anew."""
        if document in self.places:
            self.subscribe([(document, "", 0)])

    @property
    def anchor(self) -> Anchor:
        """What this device pins, with the identity keys that the relay has announced by the chain from there."""
        return self._anchor

    @property
    def relay_proved(self) -> bool:
        """Whether the relay has proved who it is."""
        return self._relay is not None

    def is_live(self, document: str) -> bool:
        """Whether the document is up to date as far as this conversation knows."""
        place = self.places.get(document)
        return place is not None and place.live

    # ---- inside -------------------------------------------------------------------------------------------

    def _stands(self, document: str, place: Place) -> None:
        before = self.places.get(document)
        self.behind += (before is None or before.live) and not place.live
        self.behind -= before is not None and not before.live and place.live
        self.places[document] = place

    def _forget(self, document: str) -> None:
        place = self.places.pop(document, None)
        self.behind -= place is not None and not place.live

    def _send(self, frame: wire.ToRelay) -> None:
        self._out.append(wire.encode_frame(frame))

    def _close(self, code: str, says: str) -> list[Event]:
        self.leave(code, says)
        return [Closed(code, says, by_relay=False)]

    def _greeted(self, frame: wire.ToDevice, now_ms: int) -> list[Event]:
        if not isinstance(frame, wire.Challenge):
            return self._out_of_turn(frame)
        if frame.protocol != wire.PROTOCOL:
            return self._close(
                "protocol_version", f"the relay speaks protocol {frame.protocol}, this device {wire.PROTOCOL}: update"
            )
        try:
            self._anchor, relay = meet(frame.relay_key, self._own.anchor, now_ms)
        except Forged as error:
            return self._close("not_trusted", f"the relay's key is not vouched for: {error.says}")
        body = wire.handshake_body(self._own.device, self._own.nonce, frame.nonce, relay.public)
        if not keys.verify(relay.public, wire.RELAY_PROOF_TAG, body, frame.signature):
            return self._close("not_trusted", "the relay does not prove the key that it shows")
        self._relay = relay
        self.stage = Stage.PROVING
        signature = self._own.signer.sign(wire.DEVICE_PROOF_TAG, body)
        self._send(wire.Proof(signature, self._own.last_number, self._own.lease))
        return []

    def _welcomed(self, frame: wire.ToDevice) -> list[Event]:
        if not isinstance(frame, wire.Welcome) or self._relay is None:
            return self._out_of_turn(frame)
        self.stage = Stage.OPEN
        return [Opened(frame, self._relay, self._anchor)]

    def _out_of_turn(self, frame: wire.ToDevice) -> list[Event]:
        return self._close("protocol", f"the relay sent {type(frame).__name__} while {self.stage.value}")

    def _told(self, frame: wire.ToDevice) -> list[Event]:
        if isinstance(frame, wire.Bases):
            listed = _listed(frame.digests)
            return [
                BaseCame(base, listed.get(base.document), frame.digests, frame.remaining)
                for base in frame.documents
                if base.document in self.places
            ]
        if isinstance(frame, wire.Changes):
            return [event for run in frame.runs for event in self._run(run)]
        if isinstance(frame, wire.Evicted):
            self._forget(frame.document)
        if isinstance(frame, _TOLD):
            return [frame]
        return self._out_of_turn(frame)

    def _run(self, run: wire.Run) -> list[Event]:
        place = self.places.get(run.document)
        if place is None:
            return []
        last = run.first + len(run.updates) - 1
        begins = place.position == 0 and not place.epoch and run.first == 1
        if not run.epoch and not run.updates and not place.live:
            # The relay has never heard of the document: what is here, if anything, is of an epoch that is gone.
            self._stands(run.document, Place("", 0, live=True))
            return [RunCame(run.document, "", 1, ())]
        if (run.epoch != place.epoch and not begins) or run.first > place.position + 1:
            # While the subscription is unanswered, what is missing is on its way.
            if place.live:
                self.subscribe([(run.document, place.epoch, place.position)])
            return []
        if last < place.position:
            # The relay stands behind this device under the same epoch: what is here cannot be trusted to be the same.
            if not place.live:
                self.refuse(run.document)
            return []
        self._stands(run.document, Place(run.epoch, last, live=True))
        known = place.position + 1 - run.first
        return [RunCame(run.document, run.epoch, run.first + known, run.updates[known:])]


def _listed(digests: bytes) -> dict[str, DigestOf]:
    """What a list of digests says of each document; nothing where it is none, or names a document twice."""
    try:
        documents = read(DocumentDigests, digests).documents
    except Forged:
        return {}
    listed = {digest.document: digest for digest in documents}
    return listed if len(listed) == len(documents) else {}
