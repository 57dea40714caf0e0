"""Who is sent what: every live subscriber each position once, in order, whatever is read and spread in between."""

from hypothesis import given
from hypothesis import strategies as st

from crdtmed.wire.frames import Changes, Want, read_from_relay
from relay.batch import Change
from relay.fanout import Fanout

EPOCH = "aaaaaaaaaaaaaaaa"


def change(first: int, count: int = 1, epoch: str = EPOCH) -> Change:
    return Change(epoch, first, [bytes([first + each]) for each in range(count)])


def sent(fanout: Fanout, **changes: Change) -> dict[int, list[tuple[str, int, tuple[bytes, ...]]]]:
    """What each connection gets of a commit."""
    out = {}
    for number, (frame, _) in fanout.spread(changes).frames.items():
        read = read_from_relay(frame)
        assert isinstance(read, Changes)
        out[number] = [(run.document, run.first, run.updates) for run in read.runs]
    return out


def test_who_needs_the_same_gets_one_encoding() -> None:
    fanout = Fanout()
    for number in (1, 2, 3):
        fanout.want(number, "doc")
        assert fanout.caught(number, "doc", EPOCH, 4) is None
    spread = fanout.spread({"doc": change(5)})
    assert len({id(frame) for frame, _ in spread.frames.values()}) == 1
    assert spread.frames.keys() == {1, 2, 3}


def test_who_read_further_gets_the_rest_alone() -> None:
    fanout = Fanout()
    for number, position in ((1, 4), (2, 5), (3, 6)):
        fanout.want(number, "doc")
        fanout.caught(number, "doc", EPOCH, position)
    fanout.standing["doc"] = (EPOCH, 4)
    assert sent(fanout, doc=change(5, 2)) == {1: [("doc", 5, (b"\x05", b"\x06"))], 2: [("doc", 6, (b"\x06",))]}


def test_who_is_behind_gets_nothing_until_it_has_caught_up() -> None:
    fanout = Fanout()
    fanout.want(1, "doc")
    fanout.want(2, "doc")
    fanout.caught(2, "doc", EPOCH, 0)
    assert sent(fanout, doc=change(1)).keys() == {2}
    assert fanout.caught(1, "doc", EPOCH, 0) == (EPOCH, 0)
    assert fanout.caught(1, "doc", EPOCH, 1) is None
    assert sent(fanout, doc=change(2)).keys() == {1, 2}


def test_a_document_that_was_made_while_it_was_read_is_read_again() -> None:
    fanout = Fanout()
    fanout.want(1, "doc")
    fanout.want(2, "doc")
    assert fanout.caught(2, "doc", "", 0) is None
    assert sent(fanout, doc=change(1)).keys() == {2}
    assert fanout.caught(1, "doc", "", 0) == ("", 0)


def test_who_asks_twice_is_sent_nothing_that_does_not_follow_the_second_answer() -> None:
    """The second answer, read before a commit that was spread to the first, takes the device back."""
    fanout = Fanout()
    fanout.want(1, "doc")
    fanout.want(1, "doc")
    assert fanout.caught(1, "doc", EPOCH, 3) is None
    assert sent(fanout, doc=change(4)).keys() == {1}
    assert fanout.caught(1, "doc", EPOCH, 3) == (EPOCH, 3), "it stands at 3 again"
    assert sent(fanout, doc=change(5)) == {}, "nothing before it was told of 4"
    assert fanout.caught(1, "doc", EPOCH, 5) is None
    assert sent(fanout, doc=change(6)) == {1: [("doc", 6, (b"\x06",))]}


def test_a_hole_is_never_papered_over() -> None:
    fanout = Fanout()
    fanout.want(1, "doc")
    fanout.caught(1, "doc", EPOCH, 3)
    spread = fanout.spread({"doc": change(6)})
    assert spread.frames == {}
    assert spread.lost == [(1, "doc", 3)]
    assert fanout.drop(1, "doc") is None


def test_who_left_is_forgotten() -> None:
    fanout = Fanout()
    for document in ("a", "b"):
        fanout.want(1, document)
        fanout.caught(1, document, EPOCH, 0)
    fanout.unwant(1, ("a", "never"))
    assert not fanout.wants(1, "a")
    assert fanout.count(1) == 1
    fanout.leave(1)
    assert (fanout.subscribers, fanout.at, fanout.standing) == ({}, {}, {})
    assert fanout.caught(1, "b", EPOCH, 3) is None
    assert sent(fanout, b=change(1)) == {}


@given(st.lists(st.sampled_from(["commit", "read", "answer", "drop"]), max_size=60))
def test_every_position_arrives_once_and_in_order(steps: list[str]) -> None:
    """Reads are answered late, commits overtake them, slow readers are dropped: the subscriber misses nothing."""
    fanout = Fanout()
    fanout.want(1, "doc")
    position = 0
    got: list[int] = []
    want: Want | None = Want("doc", EPOCH, 0)
    reading: tuple[int, int] | None = None

    def answer() -> None:
        nonlocal reading, want
        if reading is None:
            return
        start, stand = reading
        reading = None
        got.extend(range(start + 1, stand + 1))
        more = fanout.caught(1, "doc", EPOCH, stand)
        want = None if more is None else Want("doc", *more)

    for step in [*steps, "answer", "read", "answer", "read", "answer"]:
        match step:
            case "commit":
                position += 1
                for runs in sent(fanout, doc=change(position)).values():
                    got.extend(runs[0][1] + each for each in range(len(runs[0][2])))
            case "read" if want is not None and reading is None:
                reading, want = (want.position, position), None
            case "answer":
                answer()
            case "drop" if want is None and reading is None:
                held = fanout.drop(1, "doc")
                assert held is not None
                want = Want("doc", *held)
    assert got == list(range(1, position + 1))
