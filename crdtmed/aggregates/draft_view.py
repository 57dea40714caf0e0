"""What a prescriber sees of a draft: every group's winner, what is concurrent with it, what is under review, and why.

The view is a pure function of the set of writes: order, repetition and grouping do not matter.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import msgspec

from crdtmed import documents
from crdtmed.aggregates.content import ContentError, decode_content
from crdtmed.aggregates.elements import Problem
from crdtmed.aggregates.patient import PatientLabel, PatientRegister, label_of
from crdtmed.aggregates.prescription_draft import DraftStatus, DraftWrite, Group, GroupValue, incomplete
from crdtmed.codec import encode
from crdtmed.contract import Kind
from crdtmed.limits import KEPT_WRITES
from crdtmed.policies import lww_diff
from crdtmed.statement import Statement

DEPENDS: Final[Mapping[Group, tuple[Group, ...]]] = MappingProxyType(
    {
        Group.DOSE: (Group.MEDICATION,),
        Group.ROUTE: (Group.MEDICATION,),
        Group.TIMING: (Group.MEDICATION,),
        Group.SUPPLY: (Group.MEDICATION,),
        Group.INSTRUCTIONS: (Group.DOSE, Group.TIMING),
    }
)
"""The groups that mean nothing without others: their author must have seen the others' winners."""

_DIGEST_TAG: Final = b"crdtmed/draft-digest/1"


class Entry(msgspec.Struct, frozen=True):
    """One write of one group, as the view shows it; a ``value`` of None clears the group."""

    ref: str
    user: str
    device: str
    stamp: int
    value: GroupValue | None


@dataclass(frozen=True, slots=True)
class GroupView:
    """One group of a draft.

    ``value`` is the winner's.  ``concurrent``: writes that say something else, that the winner's author had not seen
    and nobody has settled, the latest first.  ``review``: the groups whose winner the author of this one had not
    seen.  ``heads``: the writes that a next one lists as seen.  ``history``: every write, oldest first.
    """

    winner: Entry
    concurrent: tuple[Entry, ...]
    review: tuple[Group, ...]
    heads: tuple[str, ...]
    history: tuple[Entry, ...]

    @property
    def value(self) -> GroupValue | None:
        """What the group says now."""
        return self.winner.value

    @property
    def settled(self) -> bool:
        """Whether nothing waits for somebody to confirm it."""
        return not self.concurrent and not self.review


@dataclass(frozen=True, slots=True)
class DraftView:
    """A draft as it stands.

    ``patient`` is the id, ``label`` the identifiers to show (None where the patient's register is not at hand).
    ``blockers`` say what keeps it from being signed, by group.  ``unreadable`` are writes whose content is not what
    this software reads; they are shown, and block.
    """

    prescription: str
    patient: str
    label: PatientLabel | None
    groups: Mapping[Group, GroupView]
    blockers: tuple[Problem, ...]
    unreadable: tuple[str, ...]

    @property
    def signable(self) -> bool:
        """Whether nothing keeps it from being signed."""
        return not self.blockers

    @property
    def unsettled(self) -> tuple[Group, ...]:
        """The groups that somebody has to confirm."""
        return tuple(group for group, view in self.groups.items() if not view.settled)

    @property
    def values(self) -> Mapping[Group, GroupValue]:
        """The winners' values, cleared groups left out."""
        return {group: view.value for group, view in self.groups.items() if view.value is not None}

    @property
    def seen(self) -> tuple[str, ...]:
        """What a statement made in sight of this view lists as seen: the heads of every group, ascending."""
        return tuple(sorted(ref for view in self.groups.values() for ref in view.heads))


@dataclass(frozen=True, slots=True)
class Drafts:
    """The drafts of one patient by prescription id, in order, and the writes that cannot be read."""

    views: Mapping[str, DraftView]
    unreadable: tuple[str, ...]


def drafts_view(statements: Iterable[Statement], patient: PatientRegister | None = None) -> Drafts:
    """Every draft in a patient's drafts document; what is no draft write is left out."""
    by_draft: dict[str, dict[str, _Read]] = defaultdict(dict)
    unreadable: set[str] = set()
    label = label_of(patient) if patient is not None else None
    for statement in statements:
        if statement.kind is not Kind.DRAFT_WRITE:
            continue
        read = _read(statement)
        if read is None:
            unreadable.add(statement.ref)
        else:
            _keep(by_draft[read.said.prescription], read)
    views = {name: _view(name, by_draft[name], label) for name in sorted(by_draft)}
    return Drafts(views, tuple(sorted(unreadable)))


def draft_view(statements: Iterable[Statement], patient: PatientRegister | None = None) -> DraftView:
    """The view of one draft; raises `ValueError` where the statements hold no readable write, or several drafts'.

    Writes that cannot be read block the draft, since which draft they belong to is not known.
    """
    every = drafts_view(statements, patient)
    if len(every.views) != 1:
        names = ", ".join(every.views) or "none"
        raise ValueError(f"these are the writes of {len(every.views)} drafts ({names}); hand in those of one")
    ((_, view),) = every.views.items()
    if not every.unreadable:
        return view
    return replace(view, blockers=(*view.blockers, *_unreadable(every.unreadable)), unreadable=every.unreadable)


def draft_digest(view: DraftView) -> bytes:
    """SHA-256 over what a prescriber signs: draft, patient, and of each group the winner's value and all heads.

    Two views have one digest exactly when they show the same values and rest on the same writes.
    """
    groups = [(str(group), encode(of.value), sorted(of.heads)) for group, of in sorted(view.groups.items())]
    return hashlib.sha256(_DIGEST_TAG + encode((view.prescription, view.patient, groups))).digest()


def unseen_groups(view: DraftView, seen: Collection[str]) -> tuple[Group, ...]:
    """The groups with a head that is not among ``seen``: in what the draft differs from what a signer had before
    them."""
    known = frozenset(seen)
    return tuple(group for group, of in view.groups.items() if not known.issuperset(of.heads))


def confirming(view: DraftView, groups: Collection[Group] = ()) -> tuple[DraftWrite, ...]:
    """The writes that confirm ``groups`` (none named: every group that waits for it) as the view shows them.

    Written as one transaction in this order, each having seen `DraftView.seen` and the ones before it, they leave
    those groups neither concurrent nor under review.  Groups that rest on one of them are confirmed with it, since
    their author has not seen the new write.
    """
    wanted = set(groups or view.unsettled)
    order = [Group.MEDICATION, *DEPENDS, *(group for group in Group if group not in DEPENDS)]
    written: list[Group] = []
    for group in dict.fromkeys(order):
        if group in view.groups and (group in wanted or any(on in written for on in DEPENDS.get(group, ()))):
            written.append(group)
    return tuple(DraftWrite(view.prescription, group, view.groups[group].value) for group in written)


class _Read(msgspec.Struct, frozen=True):
    statement: Statement
    ref: str
    said: DraftWrite
    same_as: bytes


def _read(statement: Statement) -> _Read | None:
    said = _said(bytes(statement.content))
    return _Read(statement, statement.ref, *said) if said is not None else None


@lru_cache(maxsize=KEPT_WRITES)
def _said(content: bytes) -> tuple[DraftWrite, bytes] | None:
    """A write and the bytes of its value; kept, since a view reads all of a draft again after each write to it."""
    try:
        said = decode_content(Kind.DRAFT_WRITE, content)
    except ContentError:
        return None
    return (said, encode(said.value)) if isinstance(said, DraftWrite) else None


def _keep(reads: dict[str, _Read], read: _Read) -> None:
    """Keeps ``read``; of two that say different things under one reference, which no honest device makes, the least."""
    other = reads.setdefault(read.ref, read)
    if other is not read:
        reads[read.ref] = min(other, read, key=lambda it: encode(it.statement))


def _view(name: str, reads: Mapping[str, _Read], label: PatientLabel | None) -> DraftView:
    writes = [_write(read) for read in reads.values()]
    merged = lww_diff.merge(writes)
    knows = lww_diff.knows(writes)
    entries = {ref: _entry(read) for ref, read in reads.items()}
    groups: dict[Group, GroupView] = {}
    for group in Group:
        of = merged.get(group)
        if of is None:
            continue
        cleared = reads[of.winner.ref].said.value is None
        groups[group] = GroupView(
            winner=entries[of.winner.ref],
            concurrent=tuple([entries[write.ref] for write in of.concurrent]),
            review=() if cleared else _review(group, of.winner.ref, writes, merged, knows),
            heads=tuple([write.ref for write in of.heads]),
            history=tuple([entries[write.ref] for write in of.history]),
        )
    patient = min(documents.parse(read.statement.document).scope_id for read in reads.values())
    return DraftView(name, patient, label, MappingProxyType(groups), tuple(_blockers(groups)), ())


def _entry(read: _Read) -> Entry:
    it = read.statement
    return Entry(read.ref, it.user, it.device, it.stamp, read.said.value)


def _write(read: _Read) -> lww_diff.Write:
    it = read.statement
    return lww_diff.Write(
        ref=read.ref,
        order=it.order,
        group=str(read.said.group),
        seen=frozenset(it.seen),
        same_as=read.same_as,
        number=it.number,
    )


def _review(
    group: Group,
    author: str,
    writes: Sequence[lww_diff.Write],
    merged: Mapping[str, lww_diff.Merged],
    knows: Callable[[str, str], bool],
) -> tuple[Group, ...]:
    found = []
    for on in DEPENDS.get(group, ()):
        of = merged.get(on)
        if of is not None and not _had_seen(author, of, writes, knows):
            found.append(on)
    return tuple(found)


def _had_seen(
    author: str, of: lww_diff.Merged, writes: Sequence[lww_diff.Write], knows: Callable[[str, str], bool]
) -> bool:
    """Whether the author of a write had the group's winner before them: that very write, or a head that says the same.

    What they had before them is the winner among the writes that they knew, not anything that they had once seen.
    """
    if len(of.heads) == 1:
        return knows(author, of.winner.ref)
    before_them = lww_diff.merge(write for write in writes if knows(author, write.ref)).get(of.winner.group)
    return before_them is not None and before_them.winner in of.agreeing


def _blockers(groups: Mapping[Group, GroupView]) -> Iterable[Problem]:
    for field in incomplete({group: view.value for group, view in groups.items()}):
        yield Problem(field, "is missing; write it before signing")
    for group, view in groups.items():
        if view.concurrent:
            yield Problem(group, f"was written {1 + len(view.concurrent)} times at once, differently; confirm one")
        if view.review:
            yield Problem(group, f"was written without sight of the {' and '.join(view.review)} now; confirm it")
    status = groups.get(Group.STATUS)
    if status is not None and isinstance(status.value, DraftStatus) and status.value.status == "entered-in-error":
        yield Problem(Group.STATUS, "is entered-in-error; start a new draft")


def _unreadable(refs: tuple[str, ...]) -> Iterable[Problem]:
    for ref in refs:
        yield Problem("", f"holds the write {ref} that this software cannot read; update the device")
