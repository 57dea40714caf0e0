"""Signatures checked elsewhere: frames however they are cut, and answers that count only where they were asked for."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed.codec import encode
from crdtmed.limits import MAX_AUTOMATIC
from relay.checks import (
    MAX_FRAME_BYTES,
    SHARE,
    Check,
    Cutter,
    Found,
    Garbled,
    Line,
    Part,
    answer,
    check_here,
    forgo,
    next_share,
    next_unasked,
    tell,
)
from relay.items import HandBack, Push
from relay.jobs import Judge, take, to_judge, unchecked, verified, verified_elsewhere
from relay.verifiers import how_many
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


def ask(line: Line, *checks: Check) -> bytes:
    """Asks about the next share of them."""
    return line.ask(next_share(deque(checks)))


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
    judge = to_judge(push(world, tablet, COUNT, forged=SHARE + 3), {tablet.id: tablet.signer.public}, shared=True)
    assert judge.check is not None
    checks, line, cutter = deque([judge.check]), Line(), Cutter()
    questions = []
    while next_unasked(checks) is not None:
        questions += cutter.feed(line.ask(next_share(checks)))
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
    ask(line, check)
    ask(line, check)
    with pytest.raises(Garbled):
        line.receive(reply)
    assert check.answered == 0


def test_an_answer_counts_once_and_never_unasked() -> None:
    line, check = Line(), unread(SHARE)
    with pytest.raises(Garbled):
        line.receive(found(1, *[True] * SHARE))
    ask(line, check)
    line.receive(found(1, *[True] * SHARE))
    with pytest.raises(Garbled):
        line.receive(found(1, *[True] * SHARE))


def test_what_the_writer_has_taken_is_not_asked_about_and_not_changed_any_more() -> None:
    line, taken, waiting = Line(), unread(), unread()
    ask(line, taken)
    taken.taken = True
    line.receive(found(1, *[True] * SHARE))
    assert taken.answered == 0
    assert next_unasked(deque([taken, waiting])) is waiting


def test_small_pushes_share_a_question_and_a_large_one_fills_several() -> None:
    checks = deque([unread(1), unread(SHARE - 3), unread(SHARE + 3), unread(2)])
    first, second = checks[0], checks[2]
    shares = [[end - start for _, start, end in next_share(checks)] for _ in range(4)]
    assert shares == [[1, SHARE - 3, 2], [SHARE], [1, 2], []]
    assert (first.done, second.asked, second.open, len(checks)) == (False, SHARE + 3, SHARE + 3, 0)


def test_of_a_line_that_hangs_up_nothing_is_waited_for_any_more() -> None:
    line, check, other = Line(), unread(SHARE + 1), unread(1)
    ask(line, check)
    ask(line, check, other)
    line.receive(found(1, *[True] * SHARE))
    assert (check.done, check.open, other.done) == (False, 1, False)
    line.hang_up()
    assert (line.open, check.done, other.done) == (0, True, True)
    assert (check.answered, other.answered) == (SHARE, 0)


def test_what_the_relay_checks_itself_counts_as_its_own() -> None:
    world = World()
    tablet = world.tablet()
    judge = to_judge(push(world, tablet, 5, forged=2), {tablet.id: tablet.signer.public}, shared=True)
    assert judge.check is not None
    check_here(next_share(deque([judge.check])))
    assert judge.check.found == [True, True, False, True, True]
    assert (judge.check.done, unchecked(judge), verified_elsewhere(judge)) == (True, 0, 0)


@given(st.lists(st.integers(1, 70), max_size=6), st.data())
def test_every_signature_is_asked_about_once_and_nothing_is_waited_for_that_will_not_come(
    sizes: list[int], data: st.DataObject
) -> None:
    every = [unread(size) for size in sizes]
    checks, under_way, told = deque(every), list[tuple[Part, ...]](), dict[int, list[bool | None]]()
    for check in every:
        told[id(check)] = [None] * len(check.pairs)
    for _ in range(data.draw(st.integers(0, 25))):
        match data.draw(st.sampled_from(["ask", "tell", "forgo", "take"])):
            case "ask":
                share = next_share(checks)
                assert sum(end - first for _, first, end in share) <= SHARE
                under_way += [share] if share else []
            case "tell" if under_way:
                share = under_way.pop(data.draw(st.integers(0, len(under_way) - 1)))
                good = [data.draw(st.booleans()) for _, first, end in share for _ in range(first, end)]
                tell(share, good)
                for check, first, end in share:
                    part, good = good[: end - first], good[end - first :]
                    if not check.taken:
                        told[id(check)][first:end] = part
            case "forgo" if under_way:
                forgo(under_way.pop())
            case "take" if every:
                data.draw(st.sampled_from(every)).taken = True
        for check in every:
            assert check.found == told[id(check)]
            assert check.open == sum(end - first for share in under_way for it, first, end in share if it is check)
    while share := next_share(checks):
        under_way.append(share)
    for share in under_way:
        forgo(share)
    assert all(check.done or check.taken for check in every)


# ---- what the writer makes of it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("forged", [None, 0])
def test_without_other_processes_there_is_nothing_to_check_elsewhere(forged: int | None) -> None:
    world = World()
    tablet = world.tablet()
    publics = {tablet.id: tablet.signer.public}
    alone, shared = (to_judge(push(world, tablet, 1, forged), publics, shared) for shared in (False, True))
    assert alone.check is None
    assert shared.check is not None
    for judge in (alone, shared):
        assert unchecked(judge) == 1
        assert bool(verified(judge).publics) == (forged is None)
    nothing = HandBack(1, tablet.id, push(world, tablet, 1).document, ())
    assert to_judge(nothing, publics, shared=True).check is None


@pytest.mark.parametrize("answered", [0, SHARE, COUNT])
@pytest.mark.parametrize("forged", [None, 3, SHARE + 3, COUNT - 1])
def test_what_has_no_answer_the_writer_finds_out_itself(answered: int, forged: int | None) -> None:
    world = World()
    tablet = world.tablet()
    judge = to_judge(push(world, tablet, COUNT, forged), {tablet.id: tablet.signer.public}, shared=True)
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
    pushed = push(world, other, COUNT)
    back = HandBack(1, one.id, pushed.document, pushed.said)
    judge = to_judge(back, {other.id: other.signer.public}, shared=True)
    assert judge.check is not None
    judge.check.found[7] = False
    left: Judge = verified(judge)
    assert isinstance(left.item, HandBack)
    assert left.item.said == pushed.said[:7] + pushed.said[8:]
    assert left.item.forged == (pushed.said[7].signed.statement.ref,)
    unknown = verified(to_judge(back, {}, shared=True)).item
    assert isinstance(unknown, HandBack)
    assert (unknown.said, len(unknown.forged)) == ((), COUNT)


def test_how_many_processes_a_relay_has() -> None:
    assert [how_many(None, cores) for cores in (1, 2, 5, 64)] == [0, 1, MAX_AUTOMATIC, MAX_AUTOMATIC]
    assert [how_many(setting, 1) for setting in (0, 3)] == [0, 3]
