"""Signatures checked elsewhere: frames however they are cut, and answers that count only where they were asked for."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed.codec import encode
from relay.checks import (
    BULK,
    MAX_FRAME_BYTES,
    SHARE,
    Check,
    Cutter,
    Found,
    Garbled,
    Line,
    answer,
    next_unasked,
)
from relay.items import HandBack, Push
from relay.jobs import Judge, take, to_judge, verified, verified_elsewhere
from relay.verifiers import MAX_AUTOMATIC, how_many
from tests.relay.world import Tablet, World

DRAFTS = "patient/p1/drafts"
COUNT = 2 * SHARE + 5


def framed(data: bytes) -> bytes:
    """A frame with this content."""
    return len(data).to_bytes(4, "big") + data


def found(number: int, *good: bool) -> bytes:
    """A frame of an answer."""
    return framed(encode(Found(number, good)))


def unread(count: int = COUNT) -> Check:
    """A check of statements that nobody signed."""
    return Check([(b"key", b"%d" % number) for number in range(count)])


def push(world: World, tablet: Tablet, count: int, forged: int | None = None) -> Push:
    """A push, with one statement's signature spoilt."""
    said = [tablet.dose("p1", "rx1", str(number + 1)) for number in range(count)]
    if forged is not None:
        spoilt = bytes([said[forged].encoded[0] ^ 1]) + said[forged].encoded[1:]
        said[forged] = type(said[forged])(said[forged].statement, spoilt)
    return world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, *said))


# ---- frames --------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=40), max_size=6), st.data())
def test_frames_come_out_whole_however_the_stream_is_cut(contents: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(framed, contents))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    cutter = Cutter()
    parts = [stream[one:other] for one, other in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert [frame for part in parts for frame in cutter.feed(part)] == contents


def test_a_frame_that_is_too_long_is_refused_before_it_has_come() -> None:
    assert Cutter().feed(MAX_FRAME_BYTES.to_bytes(4, "big")) == []
    with pytest.raises(Garbled, match=f"at most {MAX_FRAME_BYTES} are read"):
        Cutter().feed((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))


@pytest.mark.parametrize("content", [b"", b"\xc0", encode([1]), encode([1, [[b"a"]]]), encode([1, [], 2]), b"\x92\x01"])
def test_what_is_no_question_is_not_answered(content: bytes) -> None:
    with pytest.raises(Garbled):
        answer(content)


# ---- questions and answers -----------------------------------------------------------------------------------------


def test_shares_of_a_check_are_asked_in_turn_and_their_answers_filled_in() -> None:
    world = World()
    tablet = world.tablet()
    judge = to_judge(push(world, tablet, COUNT, forged=SHARE + 3), {tablet.id: tablet.signer.public})
    assert judge.check is not None
    checks, line, cutter = deque([judge.check]), Line(), Cutter()
    questions = []
    while (check := next_unasked(checks)) is not None:
        questions += cutter.feed(line.ask(check))
    assert (len(questions), line.open, len(checks)) == (3, 3, 0)
    for turn, question in enumerate(questions, 1):
        line.receive(answer(question))
        assert judge.check.answered == min(COUNT, turn * SHARE)
    assert [at for at, good in enumerate(judge.check.found) if not good] == [SHARE + 3]
    assert line.open == 0


@pytest.mark.parametrize(
    "reply",
    [
        found(2, *[True] * SHARE),
        found(0, *[True] * SHARE),
        found(1, *[True] * (SHARE - 1)),
        found(1, *[True] * (SHARE + 1)),
        found(1),
        framed(encode([1, [1] * SHARE])),
        framed(b"\xc1"),
        framed(b""),
        b"\xff" * 8,
    ],
    ids=["the next", "none", "one too few", "one too many", "empty", "numbers", "no value", "nothing", "endless"],
)
def test_an_answer_to_something_else_counts_for_nothing(reply: bytes) -> None:
    line, check = Line(), unread()
    line.ask(check)
    line.ask(check)
    with pytest.raises(Garbled):
        line.receive(reply)
    assert check.answered == 0


def test_an_answer_counts_once_and_never_unasked() -> None:
    line, check = Line(), unread(SHARE)
    with pytest.raises(Garbled):
        line.receive(found(1, *[True] * SHARE))
    line.ask(check)
    line.receive(found(1, *[True] * SHARE))
    with pytest.raises(Garbled):
        line.receive(found(1, *[True] * SHARE))


def test_what_the_writer_has_taken_is_not_asked_about_and_not_changed_any_more() -> None:
    line, taken, waiting = Line(), unread(), unread()
    line.ask(taken)
    taken.taken = True
    line.receive(found(1, *[True] * SHARE))
    assert taken.answered == 0
    assert next_unasked(deque([taken, waiting])) is waiting


# ---- what the writer makes of it -----------------------------------------------------------------------------------


def test_only_what_comes_in_bulk_can_be_checked_elsewhere() -> None:
    world = World()
    tablet = world.tablet()
    publics = {tablet.id: tablet.signer.public}
    few, many = (to_judge(push(world, tablet, count), publics) for count in (BULK - 1, BULK))
    assert few.check is None
    assert many.check is not None
    assert [verified(judge) for judge in (few, many)] == [few, many]


@pytest.mark.parametrize("answered", [0, SHARE, COUNT])
@pytest.mark.parametrize("forged", [None, 3, SHARE + 3, COUNT - 1])
def test_what_has_no_answer_the_writer_finds_out_itself(answered: int, forged: int | None) -> None:
    world = World()
    tablet = world.tablet()
    judge = to_judge(push(world, tablet, COUNT, forged), {tablet.id: tablet.signer.public})
    assert judge.check is not None
    judge.check.found[:answered] = [number != forged for number in range(answered)]
    waiting = deque([judge])
    assert take(waiting, 1) == [judge]
    assert judge.check.taken
    assert verified_elsewhere(judge) == answered
    assert bool(verified(judge).publics) == (forged is None)


def test_what_another_process_found_to_be_forged_is_left_out_of_what_is_handed_back() -> None:
    world = World()
    one, other = world.tablet(), world.tablet()
    pushed = push(world, other, BULK)
    back = HandBack(1, one.id, pushed.document, pushed.said)
    judge = to_judge(back, {other.id: other.signer.public})
    assert judge.check is not None
    judge.check.found[7] = False
    left: Judge = verified(judge)
    assert isinstance(left.item, HandBack)
    assert left.item.said == pushed.said[:7] + pushed.said[8:]
    assert left.item.forged == (pushed.said[7].signed.statement.ref,)
    unknown = verified(to_judge(back, {})).item
    assert isinstance(unknown, HandBack)
    assert (unknown.said, len(unknown.forged)) == ((), BULK)


def test_how_many_processes_a_relay_has() -> None:
    assert [how_many(None, cores) for cores in (1, 2, 5, 64)] == [0, 1, MAX_AUTOMATIC, MAX_AUTOMATIC]
    assert [how_many(setting, 1) for setting in (0, 3)] == [0, 3]
