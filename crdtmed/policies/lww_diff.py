"""``lww_diff``: field-level last writer wins, with everything that nobody chose between kept beside the
winner.

Last writer wins alone loses what the other person wrote, and trusts clocks; here causality comes first.
Each write lists the writes that its author saw.  A write *knows* what it lists, what those list, and so on,
over the writes that are present.  A write is **superseded** where a write of the same group knows it and is
not known by it; the rest are the group's **heads**, of which the latest stamp is the winner.  So a write
never loses to one that it had seen, and a head never disappears without a write that saw it.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec


class Write(msgspec.Struct, frozen=True):
    """One write of one group.

    ``order`` is (stamp, device); ``seen`` the references that its author saw, of any group, present here or
    not; ``same_as`` stands for the value: equal where two writes say the same; ``number`` is the author
    device's number.
    """

    ref: str
    order: tuple[int, str]
    group: str
    seen: frozenset[str]
    same_as: Hashable
    number: int = 0

    @property
    def key(self) -> tuple[int, str, int, str]:
        """The total order of writes: by stamp, device, number and reference."""
        return (*self.order, self.number, self.ref)


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of one group.

    ``heads`` are the writes that none supersedes, the winner first and then the latest first;
    ``concurrent`` those heads that say something else than the winner, ``agreeing`` those that say the same
    (the winner among them), in the same order; ``history`` every write of the group, oldest first.
    """

    winner: Write
    heads: tuple[Write, ...]
    concurrent: tuple[Write, ...]
    agreeing: tuple[Write, ...]
    history: tuple[Write, ...]


def merge(writes: Iterable[Write]) -> Mapping[str, Merged]:
    """The groups of ``writes``, in the order of their names; the same for any order and repetition.

    Where one reference comes with two contents, which an honest device never makes and the relay refuses, the
    least in order stands.  Linear in writes and references, but for sorting.
    """
    present = _distinct(writes)
    ordered = sorted(present.values(), key=lambda write: write.key)
    superseded = _superseded(ordered, present)
    groups: dict[str, list[Write]] = defaultdict(list)
    for write in ordered:
        groups[write.group].append(write)
    return {group: _merged(tuple(groups[group]), superseded) for group in sorted(groups)}


def knows(writes: Iterable[Write]) -> Callable[[str, str], bool]:
    """A function that says whether the author of the first reference had seen the second, itself included.

    What is absent knows nothing; it can be known where a present write lists it.  Each first reference
    costs one walk over its past, kept for the next question.
    """
    present = _distinct(writes)
    pasts: dict[str, frozenset[str]] = {}

    def known(author: str, other: str) -> bool:
        past = pasts.get(author)
        if past is None:
            past = pasts[author] = _past(author, present)
        return other in past

    return known


def _distinct(writes: Iterable[Write]) -> dict[str, Write]:
    present: dict[str, Write] = {}
    for write in writes:
        other = present.setdefault(write.ref, write)
        if other is not write and other != write:
            present[write.ref] = min(other, write, key=_whole)
    return present


def _whole(write: Write) -> tuple[tuple[int, str, int, str], str, list[str], str]:
    return write.key, write.group, sorted(write.seen), repr(write.same_as)


def _merged(history: tuple[Write, ...], superseded: Collection[str]) -> Merged:
    heads = tuple(write for write in reversed(history) if write.ref not in superseded)
    winner = heads[0]
    return Merged(
        winner=winner,
        heads=heads,
        concurrent=tuple(write for write in heads if write.same_as != winner.same_as),
        agreeing=tuple(write for write in heads if write.same_as == winner.same_as),
        history=history,
    )


def _past(ref: str, present: Mapping[str, Write]) -> frozenset[str]:
    past = {ref}
    open_refs = [ref]
    while open_refs:
        write = present.get(open_refs.pop())
        if write is not None:
            fresh = write.seen - past
            past |= fresh
            open_refs.extend(fresh)
    return frozenset(past)


def _superseded(ordered: list[Write], present: Mapping[str, Write]) -> set[str]:
    """The writes that a write of their group knows without being known by it.

    From the newest to the oldest, each passes down the set of groups that were written above it, as the bits of an
    integer.  Stamps nearly always rise with what was seen; where a write had seen one with a later stamp, what knows
    what is found out first.
    """
    bits = {group: 1 << at for at, group in enumerate({write.group for write in ordered})}
    above = dict.fromkeys(present, 0)
    superseded: set[str] = set()
    for write in reversed(ordered):
        bit = bits[write.group]
        inherited = above.pop(write.ref)
        if inherited & bit:
            superseded.add(write.ref)
        for seen in write.seen:
            if seen in above:
                above[seen] |= inherited | bit
            elif seen in present:
                return _superseded_by_circles(bits, present)
    return superseded


def _superseded_by_circles(bits: Mapping[str, int], present: Mapping[str, Write]) -> set[str]:
    """As `_superseded`, whatever the stamps."""
    above = dict.fromkeys(present, 0)
    superseded: set[str] = set()
    for circle in reversed(list(_circles(present))):
        inherited = 0
        for ref in circle:
            inherited |= above[ref]
        handed_down = inherited
        for ref in circle:
            bit = bits[present[ref].group]
            handed_down |= bit
            if inherited & bit:
                superseded.add(ref)
        for ref in circle:
            for seen in present[ref].seen:
                if seen in above:
                    above[seen] |= handed_down
    return superseded


def _circles(present: Mapping[str, Write]) -> Iterator[list[str]]:
    """The writes in sets that know each other, what is known before what knows it (Tarjan 1972, without
    recursion).

    A set is one write but for the writes of one transaction that list each other, or for a device that
    lies; neither may make a view depend on order or lose a write.
    """
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    for root in present:
        if root in index:
            continue
        walk: list[tuple[str, Iterator[str]]] = []
        entering: str | None = root
        while entering is not None or walk:
            if entering is not None:
                index[entering] = low[entering] = len(index)
                stack.append(entering)
                on_stack.add(entering)
                walk.append((entering, iter(present[entering].seen)))
                entering = None
            ref, rest = walk[-1]
            for seen in rest:
                if seen not in present:
                    continue
                if seen not in index:
                    entering = seen
                    break
                if seen in on_stack:
                    low[ref] = min(low[ref], index[seen])
            if entering is not None:
                continue
            walk.pop()
            if walk:
                low[walk[-1][0]] = min(low[walk[-1][0]], low[ref])
            if low[ref] == index[ref]:
                circle: list[str] = []
                while not circle or circle[-1] != ref:
                    circle.append(stack.pop())
                    on_stack.discard(circle[-1])
                yield circle
