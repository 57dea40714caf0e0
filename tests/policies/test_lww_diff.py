"""The laws of `crdtmed.policies.lww_diff`, on writes of every shape, circles and lies included."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import permutations
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crdtmed.policies.lww_diff import Merged, Write, knows, merge

GROUPS = ("a", "b", "c")


def write(
    ref: str, stamp: int = 0, group: str = "a", seen: Iterable[str] = (), value: str = "", device: str = "d"
) -> Write:
    return Write(ref, (stamp, "d"), group, frozenset(seen), value)


@st.composite
def any_writes(draw: st.DrawFn, most: int = 10) -> list[Write]:
    """Writes that list each other at will: what is absent, what comes later, themselves, circles."""
    refs = [f"r{at}" for at in range(draw(st.integers(1, most)))]
    return [
        Write(
            ref,
            (draw(st.integers(0, 3)), draw(st.sampled_from("xyz"))),
            draw(st.sampled_from(GROUPS)),
            frozenset(draw(st.sets(st.sampled_from([*refs, "absent"]), max_size=3))),
            draw(st.sampled_from("uv")),
            draw(st.integers(0, 1)),
        )
        for ref in refs
    ]


@st.composite
def honest_writes(draw: st.DrawFn) -> list[Write]:
    """Writes that list earlier ones only, under stamps that rise but for a clock that is sometimes set back."""
    made: list[Write] = []
    for at in range(draw(st.integers(1, 12))):
        seen = draw(st.sets(st.sampled_from([one.ref for one in made]), max_size=2)) if made else set()
        stamp = at if draw(st.integers(0, 9)) else 0
        made.append(write(f"r{at:02}", stamp, draw(st.sampled_from(GROUPS)), seen, draw(st.sampled_from("uv"))))
    return made


def closure(writes: Sequence[Write]) -> Callable[[str, str], bool]:
    """Knowledge by the definition: repeat until nothing is added."""
    past = {one.ref: {one.ref, *one.seen} for one in writes}
    while True:
        grown = {ref: seen.union(*(past.get(other, set()) for other in seen)) for ref, seen in past.items()}
        if grown == past:
            return lambda author, other: author == other or other in past.get(author, set())
        past = grown


def heads_by_definition(writes: Sequence[Write]) -> Mapping[str, set[str]]:
    known = closure(writes)
    return {
        group: {
            one.ref
            for one in writes
            if one.group == group
            and not any(
                other.group == group and known(other.ref, one.ref) and not known(one.ref, other.ref) for other in writes
            )
        }
        for group in {one.group for one in writes}
    }


@given(any_writes() | honest_writes())
def test_heads_are_what_the_definition_says(writes: list[Write]) -> None:
    merged = merge(writes)
    assert {group: {head.ref for head in of.heads} for group, of in merged.items()} == heads_by_definition(writes)


@given(any_writes() | honest_writes())
def test_knowledge_is_what_the_definition_says(writes: list[Write]) -> None:
    known, expected = knows(writes), closure(writes)
    refs = [*(one.ref for one in writes), "absent", "elsewhere"]
    assert {(a, b) for a in refs for b in refs if known(a, b)} == {(a, b) for a in refs for b in refs if expected(a, b)}


@given(any_writes(), st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(writes: list[Write], random: Random) -> None:
    shuffled = writes + random.choices(writes, k=3)
    random.shuffle(shuffled)
    assert merge(shuffled) == merge(writes)
    assert list(merge(shuffled)) == sorted(merge(writes))


@given(any_writes())
def test_the_parts_of_a_group_fit_together(writes: list[Write]) -> None:
    for group, of in merge(writes).items():
        assert set(of.history) == {one for one in writes if one.group == group}
        assert [one.key for one in of.history] == sorted(one.key for one in of.history)
        assert of.winner is of.heads[0] is of.agreeing[0]
        assert [head.key for head in of.heads] == sorted((head.key for head in of.heads), reverse=True)
        assert set(of.concurrent) | set(of.agreeing) == set(of.heads)
        assert all(head.same_as != of.winner.same_as for head in of.concurrent)
        assert all(head.same_as == of.winner.same_as for head in of.agreeing)


@given(any_writes(), st.integers(0, 5), st.sampled_from("uv"))
def test_one_write_that_saw_everything_settles_its_group(writes: list[Write], stamp: int, value: str) -> None:
    confirm = Write("confirm", (stamp, "c"), "a", frozenset(one.ref for one in writes), value)
    assert merge([*writes, confirm])["a"].heads == (confirm,)
    heads = frozenset(head.ref for of in merge(writes).values() for head in of.heads)
    seeing_heads = Write("confirm", (stamp, "c"), "a", heads, value)
    assert merge([*writes, seeing_heads])["a"].heads == (seeing_heads,)


def test_a_write_beats_what_it_saw_whatever_the_clocks_say() -> None:
    of = merge([write("late", stamp=9), write("early", stamp=1, seen=["late"])])["a"]
    assert (of.winner.ref, of.concurrent) == ("early", ())
    assert [one.ref for one in of.history] == ["early", "late"]


@pytest.mark.parametrize("stamps", [(9, 5, 1), (1, 5, 9), (5, 5, 5), (5, 9, 1)])
def test_knowledge_passes_through_other_groups(stamps: tuple[int, int, int]) -> None:
    first, second, third = stamps
    of = merge([write("1", first), write("2", second, "b", seen=["1"]), write("3", third, seen=["2"])])["a"]
    assert [head.ref for head in of.heads] == ["3"]


def test_knowledge_does_not_pass_through_what_is_absent() -> None:
    chain = [write("1", 9), write("2", 5, "b", seen=["1"]), write("3", 1, seen=["2"])]
    of = merge([chain[0], chain[2]])["a"]
    assert [head.ref for head in of.heads] == ["1", "3"]


def test_concurrent_writes_stay_and_the_latest_wins() -> None:
    of = merge([write("1", 1, value="u"), write("2", 2, value="v"), write("3", 0, value="v")])["a"]
    assert [head.ref for head in of.heads] == ["2", "1", "3"]
    assert [head.ref for head in of.concurrent] == ["1"]
    assert [head.ref for head in of.agreeing] == ["2", "3"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Write("1", (1, "x"), "a", frozenset(), ""), Write("0", (1, "y"), "a", frozenset(), "")),
        (Write("1", (1, "x"), "a", frozenset(), "", 1), Write("0", (1, "x"), "a", frozenset(), "", 2)),
        (Write("0", (1, "x"), "a", frozenset(), "", 1), Write("1", (1, "x"), "a", frozenset(), "", 1)),
        (Write("1", (1, "z"), "a", frozenset(), "", 9), Write("0", (2, "a"), "a", frozenset(), "", 0)),
    ],
    ids=["device", "number", "reference", "stamp"],
)
def test_ties_go_by_device_then_number_then_reference(one: Write, other: Write) -> None:
    assert merge([one, other])["a"].winner == merge([other, one])["a"].winner == other


@pytest.mark.parametrize("size", [1, 2, 5])
def test_writes_in_a_circle_are_concurrent_and_known_to_each_other(size: int) -> None:
    circle = [write(str(at), at, seen=[str((at + 1) % size)], value=str(at)) for at in range(size)]
    merged = {str(merge(order)) for order in permutations(circle)}
    assert len(merged) == 1
    assert {head.ref for head in merge(circle)["a"].heads} == {one.ref for one in circle}
    assert all(knows(circle)(one.ref, other.ref) for one in circle for other in circle)


def test_a_transaction_whose_writes_list_each_other_supersedes_as_one() -> None:
    both = [write("m", 2, "a", seen=["n", "0"]), write("n", 2, "b", seen=["m"])]
    merged = merge([write("0", 9), write("1", 9, "b"), *both])
    assert [head.ref for head in merged["a"].heads] == ["m"]
    assert [head.ref for head in merged["b"].heads] == ["1", "n"]


@given(st.permutations([write("1", 5), write("1", 3, value="x"), write("1", 3, seen=["2"]), write("2", 1)]))
def test_a_reference_with_two_contents_has_one_view(writes: list[Write]) -> None:
    of = merge(writes)["a"]
    assert of.history == (write("2", 1), write("1", 3, value="x"))
    assert of.heads == (write("1", 3, value="x"), write("2", 1))


@example(5_000, True)
@example(5_000, False)
@given(st.integers(1, 300), st.booleans())
def test_chains_of_any_length_are_walked_without_recursion(length: int, rising: bool) -> None:
    stamps = range(length) if rising else range(length, 0, -1)
    chain = [write(str(at), stamps[at], GROUPS[at % 3], [str(at - 1)]) for at in range(length)]
    merged = merge(chain)
    assert {head.ref for of in merged.values() for head in of.heads} == {one.ref for one in chain[-3:]}
    assert knows(chain)(chain[-1].ref, "0")


def test_nothing_merges_to_nothing() -> None:
    nothing: dict[str, Merged] = {}
    assert merge([]) == nothing
    assert not knows([])("1", "2")
