"""The device's half of the conversation, frame by frame: who is proved, what continues, what ends it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed import keys
from crdtmed.device.session import BaseCame, Closed, Event, Opened, Place, RunCame, Self, Session, Stage
from crdtmed.signed import DigestOf, DocumentDigests, IdentityRotation, RelayKey, seal
from crdtmed.trust import Anchor, introduce
from crdtmed.wire import frames as wire
from tests.device.scripted_relay import IDENTITY, NOW, RELAY

DEVICE = keys.SoftwareSigner.from_scalar(21)
OTHER = keys.SoftwareSigner.from_scalar(22)
NONCE, THEIRS = b"n" * 16, b"t" * 16
E1, E2 = "a" * 16, "b" * 16
DOC = "patient/p1"


def session() -> Session:
    return Session(Self("aaaaaaaa", DEVICE, Anchor(IDENTITY.public), NONCE, 7, 3))


def body(relay: keys.SoftwareSigner = RELAY, device: str = "aaaaaaaa", nonce: bytes = NONCE) -> bytes:
    return wire.handshake_body(device, nonce, THEIRS, relay.public)


def challenge(
    signer: keys.SoftwareSigner = RELAY,
    vouching: keys.SoftwareSigner = IDENTITY,
    retired: int | None = None,
    over: bytes | None = None,
    rotations: tuple[bytes, ...] = (),
    protocol: int = wire.PROTOCOL,
) -> wire.Challenge:
    key = seal(RelayKey("r1", signer.public, 0, retired), vouching)
    signature = signer.sign(wire.RELAY_PROOF_TAG, over if over is not None else body(signer))
    return wire.Challenge(protocol, THEIRS, signature, introduce(rotations, key))


def tell(to: Session, frame: wire.ToDevice) -> list[Event]:
    return to.receive(wire.encode_frame(frame), NOW)


def said(by: Session) -> list[wire.ToRelay]:
    return [wire.read_from_device(data) for data in by.drain()]


WELCOME = wire.Welcome(NOW, b"", 0, 16, 60)


def opened() -> Session:
    it = session()
    tell(it, challenge())
    (event,) = tell(it, WELCOME)
    assert isinstance(event, Opened)
    assert [type(frame) for frame in said(it)] == [wire.Hello, wire.Proof]
    return it


def holding(epoch: str = E1, position: int = 5, live: bool = True) -> Session:
    it = opened()
    it.subscribe([(DOC, epoch, position)])
    if live:
        tell(it, run(epoch, position + 1))
    said(it)
    return it


def run(epoch: str, first: int, *updates: bytes, document: str = DOC) -> wire.Changes:
    return wire.Changes((wire.Run(document, epoch, first, updates),))


# ---- who is who -----------------------------------------------------------------------------------------------


def test_both_sides_prove_their_keys_over_both_nonces() -> None:
    it = session()
    (hello,) = said(it)
    assert hello == wire.Hello(wire.PROTOCOL, "aaaaaaaa", NONCE)
    assert tell(it, challenge()) == []
    (proof,) = said(it)
    assert isinstance(proof, wire.Proof)
    assert (proof.last_number, proof.lease) == (7, 3)
    assert keys.verify(DEVICE.public, wire.DEVICE_PROOF_TAG, body(), proof.signature)
    (event,) = tell(it, WELCOME)
    assert event == Opened(WELCOME, RelayKey("r1", RELAY.public, 0, None), Anchor(IDENTITY.public))


@pytest.mark.parametrize(
    "frame",
    [
        challenge(vouching=OTHER),
        challenge(retired=NOW - 1),
        challenge(over=body(nonce=b"x" * 16)),
        challenge(over=body(device="bbbbbbbb")),
        challenge(over=body(OTHER)),
        wire.Challenge(wire.PROTOCOL, THEIRS, bytes(64), b"nonsense"),
    ],
    ids=["another identity", "retired", "an old nonce", "another device", "another key signed", "nonsense"],
)
def test_a_relay_that_is_not_vouched_for_gets_no_proof(frame: wire.Challenge) -> None:
    it = session()
    said(it)
    (end,) = tell(it, frame)
    assert isinstance(end, Closed)
    assert end.code == "not_trusted"
    assert [type(frame) for frame in said(it)] == [wire.ByeRelay]
    assert it.stage is Stage.CLOSED
    assert tell(it, WELCOME) == []


def test_a_rotated_identity_key_is_followed_and_told() -> None:
    it = session()
    rotation = seal(IdentityRotation(OTHER.public, 5), IDENTITY)
    tell(it, challenge(vouching=OTHER, rotations=(rotation,)))
    (event,) = tell(it, WELCOME)
    assert isinstance(event, Opened)
    assert event.anchor.identity == OTHER.public


def test_another_version_of_the_protocol_is_told() -> None:
    it = session()
    (end,) = tell(it, challenge(protocol=wire.PROTOCOL + 1))
    assert isinstance(end, Closed)
    assert end.code == "protocol_version"


@pytest.mark.parametrize("frame", [WELCOME, run(E1, 1), wire.Revoked(b"", True), wire.Verdicts(NOW, ())])
def test_nothing_is_heard_before_the_relay_has_proved_itself(frame: wire.ToDevice) -> None:
    it = session()
    (end,) = tell(it, frame)
    assert isinstance(end, Closed)
    assert end.code == "protocol"


@pytest.mark.parametrize("frame", [challenge(), run(E1, 1), wire.Verdicts(NOW, ())])
def test_nothing_but_the_welcome_follows_the_proof(frame: wire.ToDevice) -> None:
    it = session()
    tell(it, challenge())
    (end,) = tell(it, frame)
    assert isinstance(end, Closed)
    assert end.code == "protocol"


def test_a_revocation_may_stand_for_the_welcome_and_then_only_hand_over_and_wiped_are_said() -> None:
    it = session()
    tell(it, challenge())
    assert tell(it, wire.Revoked(b"r", True)) == [wire.Revoked(b"r", True)]
    said(it)
    it.say(wire.HandOver(()))
    assert [type(frame) for frame in said(it)] == [wire.HandOver]


@given(st.binary(max_size=200))
def test_no_bytes_raise_and_nonsense_ends_it(data: bytes) -> None:
    for it in (session(), opened()):
        events = it.receive(data, NOW)
        assert all(isinstance(event, Closed) for event in events)


# ---- what continues -------------------------------------------------------------------------------------------


def test_a_run_that_continues_comes_through_and_moves_the_place() -> None:
    it = holding(position=5)
    assert tell(it, run(E1, 6, b"u6", b"u7")) == [RunCame(DOC, E1, 6, (b"u6", b"u7"))]
    assert it.places[DOC] == Place(E1, 7, live=True)


def test_what_is_here_already_is_cut_off() -> None:
    it = holding(position=5)
    assert tell(it, run(E1, 4, b"u4", b"u5", b"u6")) == [RunCame(DOC, E1, 6, (b"u6",))]
    assert tell(it, run(E1, 4, b"u4")) == []
    assert it.places[DOC].position == 6
    assert said(it) == []


def test_a_hole_is_asked_for_once() -> None:
    it = holding(position=5)
    assert tell(it, run(E1, 8, b"u8")) == []
    assert said(it) == [wire.Subscribe((wire.Want(DOC, E1, 5),))]
    assert not it.is_live(DOC)
    assert tell(it, run(E1, 9, b"u9")) == []
    assert said(it) == []
    assert tell(it, run(E1, 6, b"u6", b"u7", b"u8", b"u9")) == [RunCame(DOC, E1, 6, (b"u6", b"u7", b"u8", b"u9"))]
    assert it.is_live(DOC)


def test_another_epoch_is_not_a_continuation() -> None:
    it = holding(position=5)
    assert tell(it, run(E2, 6, b"u6")) == []
    assert said(it) == [wire.Subscribe((wire.Want(DOC, E1, 5),))]


def test_a_document_begins_with_its_first_run() -> None:
    it = opened()
    it.subscribe([(DOC, "", 0)])
    assert tell(it, run("", 1)) == [RunCame(DOC, "", 1, ())]
    assert it.is_live(DOC)
    assert tell(it, run(E1, 1, b"u1")) == [RunCame(DOC, E1, 1, (b"u1",))]
    assert it.places[DOC] == Place(E1, 1, live=True)


def test_a_relay_that_never_heard_of_what_is_held_is_told_as_such() -> None:
    it = holding(position=5, live=False)
    assert tell(it, run("", 1)) == [RunCame(DOC, "", 1, ())]
    assert it.places[DOC] == Place("", 0, live=True)


def test_a_relay_behind_this_device_under_the_same_epoch_is_asked_for_everything() -> None:
    it = holding(position=5, live=False)
    assert tell(it, run(E1, 3)) == []
    assert said(it) == [wire.Subscribe((wire.Want(DOC, "", 0),))]


def test_what_was_not_asked_for_is_not_heard() -> None:
    it = holding()
    assert tell(it, run(E1, 1, b"u", document="patient/p2")) == []
    base = wire.BaseState("patient/p2", E1, 1, b"")
    assert tell(it, wire.Bases((base,), b"", 0)) == []
    it.unsubscribe([DOC])
    assert tell(it, run(E1, 6, b"u6")) == []


def test_a_base_counts_once_it_was_taken() -> None:
    it = holding(live=False)
    base = wire.BaseState(DOC, E2, 9, b"u")
    assert tell(it, wire.Bases((base,), b"d", 4)) == [BaseCame(base, None, b"d", 4)]
    assert not it.is_live(DOC)
    it.took(DOC, E2, 9)
    assert it.places[DOC] == Place(E2, 9, live=True)
    it.refuse(DOC)
    assert said(it) == [wire.Subscribe((wire.Want(DOC, "", 0),))]
    assert not it.is_live(DOC)


def test_a_base_comes_with_what_the_list_of_its_frame_says_of_it() -> None:
    it = holding(live=False)
    bases = (wire.BaseState(DOC, E2, 9, b"u"), wire.BaseState("patient/p2", E2, 1, b"v"))
    of, beside = DigestOf(DOC, E2, 9, bytes(32)), DigestOf("patient/p9", E1, 4, bytes(32))
    it.subscribe([("patient/p2", "", 0)])
    for documents, digest in (
        ((beside, of), of),
        ((beside,), None),
        ((of, of), None),
        ((of, DigestOf(DOC, E2, 8, bytes(32))), None),
    ):
        listed = seal(DocumentDigests(5, documents), RELAY)
        assert tell(it, wire.Bases(bases, listed, 0)) == [
            BaseCame(bases[0], digest, listed, 0),
            BaseCame(bases[1], None, listed, 0),
        ]


def test_an_eviction_ends_a_subscription() -> None:
    it = holding()
    evicted = wire.Evicted(DOC, "patient_not_in_care")
    assert tell(it, evicted) == [evicted]
    assert DOC not in it.places


def test_large_subscriptions_are_several_frames() -> None:
    it = opened()
    it.subscribe([(f"patient/p{number}", "", 0) for number in range(4_500)])
    assert [len(frame.wants) for frame in said(it) if isinstance(frame, wire.Subscribe)] == [2_000, 2_000, 500]


# ---- how it ends ----------------------------------------------------------------------------------------------


def test_the_relays_goodbye_is_told_with_its_reason() -> None:
    it = opened()
    assert tell(it, wire.Bye("closing", "later")) == [Closed("closing", "later", by_relay=True)]
    assert it.end == Closed("closing", "later", by_relay=True)
    it.say(wire.AskChallenges(1))
    assert said(it) == []


def test_the_devices_goodbye_is_said_once() -> None:
    it = opened()
    it.leave("left", "enough")
    it.leave("left", "again")
    assert said(it) == [wire.ByeRelay("left", "enough")]
