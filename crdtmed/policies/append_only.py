"""``append_only``: a log of what happened.  Entries are never changed; a correction is an entry of its own.

Entries are the same where author device and id are the same.  A correction names the entry that it
corrects, which may be a correction itself.  Two corrections of one entry are both kept and told
(*competing*): a log never chooses between two accounts of what happened.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from crdtmed.statement import Statement, same


@dataclass(frozen=True, slots=True)
class Log:
    """A log, folded.  Entries are in order of stamp, device, number and reference wherever there are
    several.

    ``entries``: every entry by reference.  ``corrections``: the direct corrections of an entry that is
    present. ``roots``: the entries that correct none, with whom a chain starts.  ``pending``: corrections
    whose target is not here, by target, or that name each other in a circle; each is shown like a root
    until the target arrives. ``reused``: entries under one reference that say different things (the first
    in order stands); an alarm.
    """

    entries: Mapping[str, Statement]
    corrections: Mapping[str, tuple[str, ...]]
    roots: tuple[str, ...]
    pending: Mapping[str, tuple[str, ...]]
    reused: Mapping[str, tuple[Statement, ...]]

    @property
    def competing(self) -> Mapping[str, tuple[str, ...]]:
        """The entries with two or more direct corrections, and those."""
        return {ref: by for ref, by in self.corrections.items() if len(by) > 1}

    @property
    def starts(self) -> tuple[str, ...]:
        """Where every chain starts: roots, and pending corrections.  Each entry is in the chain of exactly
        one.
        """
        waiting = {ref for refs in self.pending.values() for ref in refs}
        roots = set(self.roots)
        return tuple(ref for ref in self.entries if ref in roots or ref in waiting)

    def chain(self, start: str) -> tuple[str, ...]:
        """``start`` and everything that corrects it, directly or not, each after what it corrects."""
        found = [start]
        for ref in found:
            found.extend(self.corrections.get(ref, ()))
        return tuple(found)

    def latest(self, start: str) -> tuple[str, ...]:
        """What ``start`` has become: the ends of its chain, more than one where corrections compete."""
        return tuple(ref for ref in self.chain(start) if ref not in self.corrections)


def fold(statements: Iterable[Statement], corrects: Callable[[Statement], str | None]) -> Log:
    """The log of ``statements``, the same for any order and repetition of them.

    ``corrects`` gives the reference that an entry corrects, or None; it must be a pure function of the
    content.  No statement is dropped, whatever it names.
    """
    entries, reused = _distinct(statements)
    targets = {ref: target for ref, entry in entries.items() if (target := corrects(entry)) is not None}
    broken = _circle_starts(targets, entries)
    corrections: dict[str, list[str]] = defaultdict(list)
    pending: dict[str, list[str]] = defaultdict(list)
    for ref in entries:
        target = targets.get(ref)
        if target is not None:
            (pending if target not in entries or ref in broken else corrections)[target].append(ref)
    return Log(
        entries=entries,
        corrections={ref: tuple(corrections[ref]) for ref in sorted(corrections)},
        roots=tuple(ref for ref in entries if ref not in targets),
        pending={ref: tuple(pending[ref]) for ref in sorted(pending)},
        reused=reused,
    )


def _distinct(
    statements: Iterable[Statement],
) -> tuple[dict[str, Statement], dict[str, tuple[Statement, ...]]]:
    by_ref: dict[str, list[Statement]] = defaultdict(list)
    for statement in statements:
        by_ref[statement.ref].append(statement)
    first: dict[str, Statement] = {}
    reused: dict[str, tuple[Statement, ...]] = {}
    for ref, found in by_ref.items():
        said = _different(found) if len(found) > 1 else found
        first[ref] = said[0]
        if len(said) > 1:
            reused[ref] = tuple(said)
    entries = dict(sorted(first.items(), key=lambda item: (*item[1].order, item[1].number, item[0])))
    return entries, {ref: reused[ref] for ref in sorted(reused)}


def _different(found: list[Statement]) -> list[Statement]:
    """Of statements under one reference, the least of each that say the same, in order."""
    said: list[Statement] = []
    for statement in sorted(found, key=_whole):
        if not any(same(statement, other) for other in said):
            said.append(statement)
    return said


def _whole(statement: Statement) -> tuple[object, ...]:
    return (
        *statement.order,
        statement.number,
        int(statement.kind),
        statement.document,
        statement.seen,
        bytes(statement.content),
        statement.grant,
        statement.challenge or b"",
    )


def _circle_starts(targets: Mapping[str, str], entries: Mapping[str, Statement]) -> frozenset[str]:
    """Of each circle of corrections, the earliest entry: its link is not followed, so that all stay
    reachable.
    """
    state: dict[str, int] = {}
    starts: set[str] = set()
    rank = {ref: at for at, ref in enumerate(entries)}
    for walk, first in enumerate(entries):
        path: list[str] = []
        ref: str | None = first
        while ref is not None and ref in entries and ref not in state:
            state[ref] = walk
            path.append(ref)
            ref = targets.get(ref)
        if ref is not None and state.get(ref) == walk:
            starts.add(min(path[path.index(ref) :], key=rank.__getitem__))
    return frozenset(starts)
