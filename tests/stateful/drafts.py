"""Drafts, merged once more in a few lines: the latest write that nobody has seen wins, the others stay in sight."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.stateful.words import Word

RESTS_ON: Final = {
    "dose": ("medication",),
    "route": ("medication",),
    "timing": ("medication",),
    "supply": ("medication",),
    "instructions": ("dose", "timing"),
}
NEEDED: Final = ("medication", "dose", "route", "timing", "supply")


@dataclass(frozen=True)
class Group:
    """One group: what wins, what else was written at the same time, on what it was written blindly, its heads."""

    winner: Word
    heads: frozenset[str]
    concurrent: tuple[Any, ...]
    blind: frozenset[str]

    @property
    def value(self) -> Any:
        """What the group says."""
        return self.winner.content["value"]


def past(ref: str, writes: Mapping[str, Word]) -> set[str]:
    """Everything that the author of a write had seen, itself included."""
    found, ahead = {ref}, [ref]
    while ahead:
        word = writes.get(ahead.pop())
        for seen in word.seen if word is not None else ():
            if seen not in found:
                found.add(seen)
                ahead.append(seen)
    return found


def _heads(group: str, writes: Mapping[str, Word]) -> list[Word]:
    mine = {ref: word for ref, word in writes.items() if word.content["group"] == group}
    known = {seen for ref in mine for seen in past(ref, writes) - {ref}}
    return sorted((word for ref, word in mine.items() if ref not in known), key=lambda it: (it.stamp, it.device))


def _sight(group: str, author: Word, writes: Mapping[str, Word]) -> bool:
    """Whether the author of a write had before them what a group says now."""
    heads = _heads(group, writes)
    if not heads:
        return True
    knew = {ref: writes[ref] for ref in past(author.ref, writes) if ref in writes}
    before = _heads(group, knew)
    if not before:
        return False
    if len(heads) == 1:
        return heads[-1].ref in knew
    agreeing = {it.ref for it in heads if it.content["value"] == heads[-1].content["value"]}
    return before[-1].ref in agreeing


def merged(words: Iterable[Word]) -> dict[str, Group]:
    """The groups of one draft."""
    writes = {word.ref: word for word in words}
    found = {}
    for group in {word.content["group"] for word in writes.values()}:
        heads = _heads(group, writes)
        winner = heads[-1]
        others = [it.content["value"] for it in heads if it.content["value"] != winner.content["value"]]
        blind = frozenset(on for on in RESTS_ON.get(group, ()) if not _sight(on, winner, writes))
        found[group] = Group(winner, frozenset(it.ref for it in heads), tuple(others), blind)
    return found


def unsettled(groups: Mapping[str, Group]) -> set[str]:
    """The groups that somebody has to confirm."""
    return {name for name, group in groups.items() if group.concurrent or group.blind}


def aside(groups: Mapping[str, Group]) -> bool:
    """Whether the draft was marked as entered in error."""
    return "status" in groups and groups["status"].value["status"] == "entered-in-error"


def signable(groups: Mapping[str, Group]) -> bool:
    """Whether nothing keeps it from being signed."""
    return all(name in groups for name in NEEDED) and not unsettled(groups) and not aside(groups)
