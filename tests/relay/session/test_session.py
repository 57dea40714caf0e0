"""The relay's session by itself: who may say what when, and that a wrong frame ends it and nothing else."""

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtmed import keys
from crdtmed.aggregates.prescription import Stop
from crdtmed.limits import CHALLENGE_MS, MAX_CHALLENGES, MAX_FRAMES_PER_S, MAX_HANDSHAKE_FRAME_BYTES
from crdtmed.signed import Certificate
from crdtmed.statement import SignedStatement
from crdtmed.updates import write_array_update
from crdtmed.wire import frames
from crdtmed.wire.plain import size_of
from relay.admission.facts import ChallengeState
from relay.session import Session, State
from relay.session_events import (
    Authenticated,
    Closed,
    GivenBack,
    GivenOver,
    Proven,
    Pushed,
    Requested,
    SignInAsked,
    Unwanted,
    VerdictsAsked,
    Wanted,
    WipeConfirmed,
)
from tests.relay.world import Tablet, World, seeded

NOW = 1_780_000_000_000
DRAFTS = "patient/p1/drafts"


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture
def tablet(world: World) -> Tablet:
    return world.tablet()


def fresh(world: World, seed: int = 1) -> Session:
    return Session(world.ring.relay, world.identity.relay_key, seeded(seed))


def tell(session: Session, frame: frames.ToRelay, now: int = NOW) -> list[object]:
    return list(session.receive(frames.encode_frame(frame), now))


def heard(session: Session) -> list[frames.ToDevice]:
    return [frames.read_from_relay(data) for data in session.drain()]


def certificate(tablet: Tablet) -> Certificate:
    return Certificate(tablet.id, tablet.signer.public, bytes(32), "Tablet", 0)


def to_proof(session: Session, tablet: Tablet, signer: keys.Signer | None = None) -> list[object]:
    nonce = b"n" * 16
    assert tell(session, frames.Hello(frames.PROTOCOL, tablet.id, nonce)) == []
    (challenge,) = heard(session)
    assert isinstance(challenge, frames.Challenge)
    body = frames.handshake_body(tablet.id, nonce, challenge.nonce, tablet.relay_public)
    assert keys.verify(tablet.relay_public, frames.RELAY_PROOF_TAG, body, challenge.signature)
    signature = (signer or tablet.signer).sign(frames.DEVICE_PROOF_TAG, body)
    return tell(session, frames.Proof(signature, 4, 5))


def opened(world: World, tablet: Tablet) -> Session:
    session = fresh(world)
    assert to_proof(session, tablet) == [Proven(tablet.id)]
    assert session.identified(certificate(tablet)) == [Authenticated(tablet.id, 4, 5)]
    session.welcome(NOW, b"lease", 9)
    (welcome,) = heard(session)
    assert isinstance(welcome, frames.Welcome)
    assert (welcome.now, welcome.lease, welcome.last_number) == (NOW, b"lease", 9)
    return session


def closes(session: Session, code: str, events: Sequence[object]) -> None:
    """It is over: the device is told why, and nothing that it says counts any more."""
    (closed,) = events
    assert isinstance(closed, Closed)
    assert closed.code == code
    bye = heard(session)[-1]
    assert isinstance(bye, frames.Bye)
    assert bye.code == code
    assert bye.says
    assert session.state is State.CLOSED
    assert tell(session, frames.AskChallenges(1)) == []
    assert session.drain() == []


# ---- the handshake -----------------------------------------------------------------------------------------------


def test_both_sides_prove_themselves(world: World, tablet: Tablet) -> None:
    assert opened(world, tablet).state is State.OPEN


def test_a_replayed_proof_is_none(world: World, tablet: Tablet) -> None:
    first = fresh(world, seed=1)
    nonce = b"n" * 16
    tell(first, frames.Hello(frames.PROTOCOL, tablet.id, nonce))
    (challenge,) = heard(first)
    assert isinstance(challenge, frames.Challenge)
    body = frames.handshake_body(tablet.id, nonce, challenge.nonce, tablet.relay_public)
    proof = frames.Proof(tablet.signer.sign(frames.DEVICE_PROOF_TAG, body), 4, 5)
    second = fresh(world, seed=2)
    tell(second, frames.Hello(frames.PROTOCOL, tablet.id, nonce))
    heard(second)
    tell(second, proof)
    closes(second, "not_authenticated", list(second.identified(certificate(tablet))))


def test_a_stranger_and_a_forger_get_one_answer(world: World, tablet: Tablet) -> None:
    unknown, forged = fresh(world), fresh(world)
    to_proof(unknown, tablet)
    to_proof(forged, tablet, keys.SoftwareSigner.from_scalar(12345))
    closes(unknown, "not_authenticated", list(unknown.identified(None)))
    closes(forged, "not_authenticated", list(forged.identified(certificate(tablet))))


def test_another_protocol_is_told_so(world: World, tablet: Tablet) -> None:
    session = fresh(world)
    closes(session, "protocol_unknown", tell(session, frames.Hello(99, tablet.id, b"n" * 16)))


def test_nothing_goes_before_hello_or_instead_of_proof(world: World, tablet: Tablet) -> None:
    session = fresh(world)
    closes(session, "out_of_turn", tell(session, frames.AskChallenges(1)))
    session = fresh(world)
    tell(session, frames.Hello(frames.PROTOCOL, tablet.id, b"n" * 16))
    heard(session)
    closes(session, "out_of_turn", tell(session, frames.Subscribe(())))


def test_nothing_is_heard_while_the_relay_judges_the_proof(world: World, tablet: Tablet) -> None:
    session = fresh(world)
    to_proof(session, tablet)
    closes(session, "out_of_turn", tell(session, frames.AskChallenges(1)))
    assert session.identified(certificate(tablet)) == []


def test_a_large_frame_is_not_read_before_the_handshake(world: World) -> None:
    session = fresh(world)
    events = list(session.receive(bytes(MAX_HANDSHAKE_FRAME_BYTES + 1), NOW))
    closes(session, "too_large", events)


def test_a_frame_that_would_become_large_is_not_read_before_the_handshake_either(world: World, tablet: Tablet) -> None:
    wants = tuple(frames.Want(f"patient/p{at:04}/drafts", "", 0) for at in range(900))
    data = frames.encode_frame(frames.Subscribe(wants))
    assert len(data) < MAX_HANDSHAKE_FRAME_BYTES < size_of(data)
    session = fresh(world)
    closes(session, "too_large", list(session.receive(data, NOW)))
    assert opened(world, tablet).receive(data, NOW) == [Wanted(wants)]


def test_a_second_hello_is_out_of_turn(world: World, tablet: Tablet) -> None:
    session = opened(world, tablet)
    closes(session, "out_of_turn", tell(session, frames.Hello(frames.PROTOCOL, tablet.id, b"n" * 16)))


# ---- pushes ------------------------------------------------------------------------------------------------------


def test_a_push_is_read_whole(world: World, tablet: Tablet) -> None:
    session = opened(world, tablet)
    said = [tablet.dose("p1", "rx1", "5"), tablet.dose("p1", "rx1", "6")]
    update = tablet.into_drafts(DRAFTS, 9, *said)
    (event,) = tell(session, frames.Push(DRAFTS, update))
    assert isinstance(event, Pushed)
    assert [one.signed.encoded for one in event.said] == [one.encoded for one in said]
    assert (event.document.name, event.raw, event.update.client) == (DRAFTS, update, 9)


def push(tablet: Tablet, said: SignedStatement, document: str = DRAFTS) -> frames.Push:
    return frames.Push(document, tablet.into_drafts(document, 9, said))


def no_delete_set(update: bytes) -> bytes:
    return update[:-1]


def with_delete_set(update: bytes) -> bytes:
    return no_delete_set(update) + b"\x01\x09\x01\x00\x01"


def second_root(update: bytes) -> bytes:
    return update.replace(b"\x28\x01\x01m", b"\x28\x01\x01n", 1)


def nested_type(update: bytes) -> bytes:
    return update.replace(b"\x28\x01\x01m", b"\x27\x01\x01m", 1)


def trailing(update: bytes) -> bytes:
    return update + b"\x00"


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (no_delete_set, "truncated"),
        (with_delete_set, "has_deletes"),
        (second_root, "wrong_root"),
        (nested_type, "struct_not_allowed"),
        (trailing, "trailing_bytes"),
    ],
)
def test_an_update_that_no_device_makes_ends_it(
    world: World, tablet: Tablet, spoil: Callable[[bytes], bytes], code: str
) -> None:
    session = opened(world, tablet)
    update = spoil(tablet.into_drafts(DRAFTS, 9, tablet.dose("p1", "rx1")))
    closes(session, code, tell(session, frames.Push(DRAFTS, update)))


@pytest.mark.parametrize("document", ["directory", "formulary", "patient/p1", "site/ward-a"])
def test_what_the_relay_writes_nobody_else_does(world: World, tablet: Tablet, document: str) -> None:
    session = opened(world, tablet)
    update = tablet.into_drafts(DRAFTS, 9, tablet.dose("p1", "rx1"))
    closes(session, "not_writable", tell(session, frames.Push(document, update)))


def test_a_document_that_is_none_ends_it(world: World, tablet: Tablet) -> None:
    session = opened(world, tablet)
    closes(session, "unknown_document", tell(session, frames.Push("patient", b"\x01")))


def test_what_another_said_is_not_taken_from_this_device(world: World, tablet: Tablet) -> None:
    session = opened(world, tablet)
    other = world.tablet()
    closes(session, "foreign_author", tell(session, push(other, other.dose("p1", "rx1"))))


def test_a_value_under_a_key_that_is_not_its_own_ends_it(world: World, tablet: Tablet) -> None:
    from crdtmed.updates import write_map_update

    session = opened(world, tablet)
    said = tablet.dose("p1", "rx1")
    key = f"rx1/route/{tablet.id}/{said.statement.id}"
    closes(session, "wrong_key", tell(session, frames.Push(DRAFTS, write_map_update(9, 0, [(key, said.encoded)]))))


def test_a_statement_in_a_log_that_is_none_ends_it(world: World, tablet: Tablet) -> None:
    session = opened(world, tablet)
    update = write_array_update(9, 0, None, [b"\x00" * 80])
    closes(session, "not_msgpack", tell(session, frames.Push("patient/p1/log/2026-05", update)))


def test_more_pushes_than_may_be_in_flight_end_it(world: World, tablet: Tablet) -> None:
    session = opened(world, tablet)
    said = push(tablet, tablet.dose("p1", "rx1"))
    for _ in range(256):
        assert len(tell(session, said)) == 1
    session.answered(1)
    assert len(tell(session, said)) == 1
    closes(session, "too_many_in_flight", tell(session, said))


def test_too_many_frames_in_a_second_end_it_and_a_steady_flow_does_not(world: World, tablet: Tablet) -> None:
    session = opened(world, tablet)
    frame = frames.encode_frame(frames.Unsubscribe(()))
    for number in range(2 * MAX_FRAMES_PER_S):
        assert session.receive(frame, NOW + number) == [Unwanted(())]
    later = NOW + 10**7
    for _ in range(MAX_FRAMES_PER_S):
        session.receive(frame, later)
    closes(session, "too_many_frames", list(session.receive(frame, later)))


# ---- requests and challenges --------------------------------------------------------------------------------------


def challenge_of(session: Session, now: int = NOW) -> bytes:
    assert tell(session, frames.AskChallenges(1), now) == []
    (given_,) = heard(session)
    assert isinstance(given_, frames.Challenges)
    assert given_.until == now + CHALLENGE_MS
    return given_.values[0]


def state_of(session: Session, tablet: Tablet, challenge: bytes | None, now: int = NOW) -> ChallengeState:
    said = tablet.say(Stop("rx1", "why not"), "patient/p1", challenge=challenge)
    (event,) = tell(session, frames.Request(said.encoded), now)
    assert isinstance(event, Requested)
    return event.said.challenge


def test_a_challenge_is_good_once_for_a_minute_on_its_connection(world: World, tablet: Tablet) -> None:
    session = opened(world, tablet)
    assert state_of(session, tablet, None) is ChallengeState.ABSENT
    challenge = challenge_of(session)
    assert state_of(session, tablet, challenge) is ChallengeState.FRESH
    assert state_of(session, tablet, challenge) is ChallengeState.SPENT
    old = challenge_of(session)
    assert state_of(session, tablet, old, NOW + CHALLENGE_MS) is ChallengeState.SPENT
    last = challenge_of(session)
    assert state_of(session, tablet, last, NOW + CHALLENGE_MS - 1) is ChallengeState.FRESH
    elsewhere = challenge_of(opened(world, tablet))
    other = fresh(world, seed=9)
    to_proof(other, tablet)
    other.identified(certificate(tablet))
    other.welcome(NOW, b"", 0)
    heard(other)
    assert state_of(other, tablet, elsewhere) is ChallengeState.SPENT


def test_challenges_are_counted(world: World, tablet: Tablet) -> None:
    session = opened(world, tablet)
    for _ in range(MAX_CHALLENGES // 16):
        assert tell(session, frames.AskChallenges(16)) == []
    session.drain()
    closes(session, "too_many_challenges", tell(session, frames.AskChallenges(1)))


def test_challenges_that_lapsed_make_room(world: World, tablet: Tablet) -> None:
    session = opened(world, tablet)
    for turn in range(3 * MAX_CHALLENGES // 16):
        assert tell(session, frames.AskChallenges(16), NOW + turn * CHALLENGE_MS) == []


def test_what_belongs_in_a_document_is_no_request(world: World, tablet: Tablet) -> None:
    session = opened(world, tablet)
    closes(session, "not_a_request", tell(session, frames.Request(tablet.dose("p1", "rx1").encoded)))


def test_a_request_of_another_ends_it(world: World, tablet: Tablet) -> None:
    session = opened(world, tablet)
    other = world.tablet()
    said = other.say(Stop("rx1", "why not"), "patient/p1")
    closes(session, "foreign_author", tell(session, frames.Request(said.encoded)))


# ---- the rest -----------------------------------------------------------------------------------------------------


def test_what_else_is_asked_comes_out_as_it_went_in(world: World, tablet: Tablet) -> None:
    session = opened(world, tablet)
    want = frames.Want(DRAFTS, "", 0)
    ref = f"{tablet.id}.aaaaaaaaaaaaaaaa"
    assert tell(session, frames.Subscribe((want,))) == [Wanted((want,))]
    assert tell(session, frames.Unsubscribe((DRAFTS,))) == [Unwanted((DRAFTS,))]
    assert tell(session, frames.AskVerdicts((ref,))) == [VerdictsAsked((ref,))]
    (sign_in,) = tell(session, frames.SignIn("vera", "secret-word", "2468"))
    assert isinstance(sign_in, SignInAsked)
    assert (sign_in.password, sign_in.pin) == ("secret-word", "2468")
    assert "secret-word" not in repr(sign_in)
    assert "2468" not in repr(sign_in)


def test_verdicts_of_others_are_not_asked_for(world: World, tablet: Tablet) -> None:
    session = opened(world, tablet)
    closes(session, "foreign_author", tell(session, frames.AskVerdicts(("abcdefgh.aaaaaaaaaaaaaaaa",))))


def test_what_is_handed_back_may_be_of_any_author(world: World, tablet: Tablet) -> None:
    session = opened(world, tablet)
    other = world.tablet()
    said = other.dose("p1", "rx1")
    (event,) = tell(session, frames.HandBack(DRAFTS, (said.encoded,)))
    assert isinstance(event, GivenBack)
    assert event.said[0].signed.encoded == said.encoded


def test_a_device_out_of_service_may_hand_over_and_confirm_and_nothing_else(world: World, tablet: Tablet) -> None:
    session = opened(world, tablet)
    session.revoke(b"register", hand_over=True)
    assert heard(session) == [frames.Revoked(b"register", True)]
    said = tablet.dose("p1", "rx1")
    assert tell(session, push(tablet, said)) == []
    (event,) = tell(session, frames.HandOver((said.encoded,)))
    assert isinstance(event, GivenOver)
    assert tell(session, frames.Wiped(session.device, NOW, 3, b"s" * 64)) == [WipeConfirmed(NOW, 3, b"s" * 64)]
    closes(session, "revoked", tell(session, frames.SignIn("vera", "x", None)))


def test_a_revoked_device_hands_over_its_own_statements_alone(world: World, tablet: Tablet) -> None:
    session = opened(world, tablet)
    session.revoke(b"register", hand_over=True)
    heard(session)
    closes(session, "foreign_author", tell(session, frames.HandOver((world.tablet().dose("p1", "rx1").encoded,))))


def test_bye_ends_it_without_an_answer(world: World, tablet: Tablet) -> None:
    session = opened(world, tablet)
    (closed,) = tell(session, frames.ByeRelay("done", ""))
    assert isinstance(closed, Closed)
    assert session.drain() == []


# ---- hostile bytes --------------------------------------------------------------------------------------------------

_STATES = ("greeting", "proving", "open", "revoked")


def in_state(world: World, tablet: Tablet, name: str) -> Session:
    if name == "greeting":
        return fresh(world)
    if name == "proving":
        session = fresh(world)
        tell(session, frames.Hello(frames.PROTOCOL, tablet.id, b"n" * 16))
        return session
    session = opened(world, tablet)
    if name == "revoked":
        session.revoke(b"register", hand_over=True)
    return session


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=300), name=st.sampled_from(_STATES))
def test_no_bytes_raise(data: bytes, name: str) -> None:
    world, tablet = _shared()
    session = in_state(world, tablet, name)
    events = session.receive(data, NOW)
    assert all(isinstance(event, Closed) for event in events) or session.state is not State.CLOSED


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), name=st.sampled_from(_STATES))
def test_no_mutation_of_a_frame_raises(seed: int, name: str) -> None:
    world, tablet = _shared()
    chance = random.Random(seed)
    session = in_state(world, tablet, name)
    data = bytearray(chance.choice(_seeds()))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                del data[at : at + chance.randint(1, 8)]
            case 2:
                data[at:at] = chance.randbytes(chance.randint(1, 8))
            case _:
                data[at] = chance.choice((0xC1, 0xDF, 0xDD, 0xFF, 0x00))
        if not data:
            break
    session.drain()
    events = session.receive(bytes(data), NOW)
    if session.state is State.CLOSED:
        (closed,) = events
        assert isinstance(closed, Closed)
        told = heard(session)
        assert closed.code == "bye" or isinstance(told[-1], frames.Bye)


_CACHE: list[tuple[World, Tablet]] = []
_FRAMES: list[bytes] = []


def _shared() -> tuple[World, Tablet]:
    if not _CACHE:
        made = World()
        _CACHE.append((made, made.tablet()))
    return _CACHE[0]


def _seeds() -> list[bytes]:
    if not _FRAMES:
        _, tablet = _shared()
        said = tablet.dose("p1", "rx1")
        stop = tablet.say(Stop("rx1", "why"), "patient/p1")
        _FRAMES.extend(
            frames.encode_frame(frame)
            for frame in (
                frames.Hello(frames.PROTOCOL, tablet.id, b"n" * 16),
                frames.Proof(b"s" * 64, 1, 1),
                frames.Subscribe((frames.Want(DRAFTS, "", 0),)),
                push(tablet, said),
                frames.Request(stop.encoded),
                frames.HandBack(DRAFTS, (said.encoded,)),
                frames.HandOver((said.encoded,)),
                frames.SignIn("vera", "x", None),
                frames.AskVerdicts((said.statement.ref,)),
            )
        )
    return _FRAMES
