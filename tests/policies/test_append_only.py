"""The laws of `crdtmed.policies.append_only`: nothing shrinks, doubles, hides, or gets lost."""

from collections import Counter
from collections.abc import Mapping
from random import Random

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from crdtmed.contract import Kind
from crdtmed.ids import ref
from crdtmed.policies.append_only import Log, fold
from crdtmed.statement import VERSION, Statement
from tests.strategies import START_MS, device, statement_id


def entry(
    ordinal: int, corrects: str | None = None, author: int = 1, stamp: int = START_MS, said: str = "", number: int = 1
) -> Statement:
    """An entry whose content is what it corrects and something that it says."""
    return Statement(
        version=VERSION,
        kind=Kind.ADMINISTER,
        id=statement_id(ordinal),
        document="patient/p-1/log",
        device=device(author).id,
        number=number,
        grant=device(author).grant,
        stamp=stamp,
        seen=(),
        challenge=None,
        content=msgspec.Raw(msgspec.msgpack.encode((corrects, said))),
    )


def name(number: int, author: int = 1) -> str:
    return ref(device(author).id, statement_id(number))


def corrects(statement: Statement) -> str | None:
    target = msgspec.msgpack.decode(statement.content)[0]
    assert target is None or isinstance(target, str)
    return target


@st.composite
def any_entries(draw: st.DrawFn) -> list[Statement]:
    """Entries that correct each other at will: what is absent, themselves, circles; some ids are used twice."""
    size = draw(st.integers(1, 9))
    targets = st.none() | st.integers(0, size + 1).map(name)
    return [
        entry(draw(st.integers(0, size - 1)), draw(targets), 1, draw(st.integers(0, 3)), draw(st.sampled_from("ab")))
        for _ in range(size)
    ]


def picture(log: Log) -> object:
    """A log with every order in it."""
    return (
        list(log.entries.items()),
        list(log.corrections.items()),
        log.roots,
        list(log.pending.items()),
        list(log.reused.items()),
        log.starts,
    )


@given(any_entries(), st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(entries: list[Statement], random: Random) -> None:
    shuffled = entries + random.choices(entries, k=3)
    random.shuffle(shuffled)
    assert picture(fold(shuffled, corrects)) == picture(fold(entries, corrects))


@given(any_entries())
def test_every_entry_is_there_once_and_in_exactly_one_chain(entries: list[Statement]) -> None:
    log = fold(entries, corrects)
    assert set(log.entries) == {one.ref for one in entries}
    assert Counter(at for start in log.starts for at in log.chain(start)) == Counter(list(log.entries))
    assert [(*one.order, one.number, at) for at, one in log.entries.items()] == sorted(
        (*one.order, one.number, at) for at, one in log.entries.items()
    )


@given(any_entries())
def test_every_link_is_kept_as_it_was_said(entries: list[Statement]) -> None:
    log = fold(entries, corrects)
    links = {(at, corrects(one)) for at, one in log.entries.items()}
    followed = {(by, target) for target, refs in log.corrections.items() for by in refs}
    waiting = {(by, target) for target, refs in log.pending.items() for by in refs}
    assert not followed & waiting
    assert followed | waiting | {(root, None) for root in log.roots} == links
    assert all(target in log.entries for _, target in followed)
    assert all(target not in log.entries or target in log.chain(by) for by, target in waiting)


@given(any_entries())
def test_the_ends_of_a_chain_are_what_nothing_corrects(entries: list[Statement]) -> None:
    log = fold(entries, corrects)
    for start in log.starts:
        assert log.latest(start)
        assert set(log.latest(start)) == {at for at in log.chain(start) if at not in log.corrections}


@given(any_entries(), any_entries())
def test_a_log_never_shrinks(entries: list[Statement], more: list[Statement]) -> None:
    before, after = fold(entries, corrects), fold(entries + more, corrects)
    assert set(before.entries) <= set(after.entries)
    assert set(before.reused) <= set(after.reused)


def test_a_correction_of_a_correction_follows_the_chain() -> None:
    log = fold([entry(0), entry(1, name(0), stamp=5), entry(2, name(1), stamp=1)], corrects)
    assert log.chain(name(0)) == (name(0), name(1), name(2))
    assert log.latest(name(0)) == (name(2),)
    assert log.roots == log.starts == (name(0),)
    assert not log.competing
    assert not log.pending


def test_two_corrections_of_one_entry_are_both_there() -> None:
    log = fold([entry(0), entry(1, name(0), 2, stamp=9), entry(2, name(0), 3, stamp=7)], corrects)
    both = (name(2, 3), name(1, 2))
    assert log.competing == {name(0): both}
    assert log.latest(name(0)) == both


def test_a_correction_waits_for_what_it_corrects() -> None:
    late = entry(1, name(0))
    log = fold([late], corrects)
    assert (log.pending, log.starts, log.roots) == ({name(0): (name(1),)}, (name(1),), ())
    log = fold([late, entry(0)], corrects)
    assert (dict(log.pending), log.corrections) == ({}, {name(0): (name(1),)})


def test_a_circle_opens_at_its_earliest_entry() -> None:
    circle = [entry(0, name(2), stamp=5), entry(1, name(0), stamp=3), entry(2, name(1), stamp=4)]
    log = fold([*circle, entry(3, name(2), stamp=0)], corrects)
    assert log.pending == {name(0): (name(1),)}
    assert log.chain(name(1)) == (name(1), name(2), name(3), name(0))
    assert log.latest(name(1)) == (name(3), name(0))
    assert log.starts == (name(1),)
    assert fold([entry(0, name(0))], corrects).pending == {name(0): (name(0),)}


def test_the_same_statement_signed_again_is_one_entry() -> None:
    first = entry(0, stamp=START_MS + 1, number=2)
    again = entry(0, stamp=START_MS, number=7)
    log = fold([first, again], corrects)
    assert (log.entries, log.reused) == ({name(0): again}, {})


def test_one_id_for_two_things_is_told() -> None:
    one, two = entry(0, said="a"), entry(0, said="b")
    expected: Mapping[str, tuple[Statement, ...]] = {name(0): (one, two)}
    for order in ([one, two], [two, one, two]):
        log = fold(order, corrects)
        assert (log.entries, log.reused) == ({name(0): one}, expected)


@example(5_000)
@given(st.integers(1, 50))
def test_chains_of_any_length_are_followed(length: int) -> None:
    log = fold([entry(at, name(at - 1) if at else None) for at in range(length)], corrects)
    assert log.latest(name(0)) == (name(length - 1),)
