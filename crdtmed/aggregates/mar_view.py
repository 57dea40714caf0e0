"""The medication administration record as people read it: every account of what happened, folded, with its flags.

Nothing is left out: entries in error, competing corrections, corrections whose target has not arrived and facts that
the relay keeps in conflict are all shown, and marked.  The view is a pure function of the sets handed in.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import tzinfo

from crdtmed.aggregates.conflict import Action, ConflictRegister, Resolve
from crdtmed.aggregates.content import ContentError, decode_content, embedded
from crdtmed.aggregates.mar_flags import Account, MarFlag, computed_flags
from crdtmed.aggregates.medication_administration import Administer, Correct
from crdtmed.aggregates.patient import PatientLabel, PatientRegister, label_of
from crdtmed.aggregates.prescription import PrescriptionRegister
from crdtmed.contract import Kind
from crdtmed.policies import append_only
from crdtmed.statement import BadStatement, Statement, decode

COUNTS = frozenset({Action.CONFIRM_AS_GIVEN, Action.CONFIRM_AS_SEPARATE, Action.TRY_AGAIN})
"""The resolutions through which the statement in conflict counts; through any other it is shown, set aside."""


@dataclass(frozen=True, slots=True)
class Version:
    """One account that stands for an entry now, and who gave it; ``administration`` is None where it is in error."""

    ref: str
    user: str
    device: str
    stamp: int
    administration: Administer | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class MarEntry:
    """One administration with everything that corrects it.

    ``ref`` names the first account (with ``#reported`` after it, where it is a fact in conflict whose reference stands
    for something else already), ``chain`` all of them, each after what it corrects; ``said`` is what was said
    first (None where only a correction in error is at hand).  ``versions`` are the accounts that stand: more than one
    where corrections compete.
    """

    ref: str
    said: Administer | None
    versions: tuple[Version, ...]
    chain: tuple[str, ...]
    flags: tuple[MarFlag, ...]

    @property
    def in_error(self) -> bool:
        """Whether every account that stands says that it was entered in error."""
        return all(version.administration is None for version in self.versions)

    @property
    def occurred_at(self) -> int:
        """When it happened, as the earliest account that stands says; else as was said first; 0 where nobody said."""
        stated = [it.administration.occurred_at for it in self.versions if it.administration is not None]
        return min(stated) if stated else self.said.occurred_at if self.said is not None else 0


@dataclass(frozen=True, slots=True)
class MarView:
    """A patient's record: entries by time of occurrence, and statements whose content this software cannot read."""

    label: PatientLabel | None
    entries: tuple[MarEntry, ...]
    unreadable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Said:
    """What a statement of the log says; ``original`` is the one that a resolution embeds, else the statement itself.

    ``aside`` is the action of a resolution through which it does not count.
    """

    statement: Statement
    content: Administer | Correct
    original: Statement
    aside: Action | None


def mar_view(
    statements: Iterable[Statement],
    prescriptions: Mapping[str, PrescriptionRegister],
    tz: tzinfo,
    *,
    suspect: Collection[str] = (),
    conflicts: Iterable[ConflictRegister] = (),
    patient: PatientRegister | None = None,
) -> MarView:
    """The record from a patient's log, the patient's prescriptions by id, and the site's time zone.

    ``suspect`` are the statements that the relay flagged ``clock_suspect``; ``conflicts`` the patient's conflict
    registers, whose open facts are shown as reported and counted with the rest.  What is neither administration nor
    correction is left out.
    """
    said, unreadable = _all_said(statements)
    entries = _folded(said)
    entries = _with_reported(entries, said, conflicts, unreadable)
    flags = computed_flags([account for entry in entries for account in _accounts(entry)], prescriptions, tz)
    doubtful = frozenset(suspect)
    flagged = [
        replace(entry, flags=_flags(entry, flags.get(entry.ref, frozenset()), not doubtful.isdisjoint(entry.chain)))
        for entry in entries
    ]
    label = label_of(patient) if patient is not None else None
    return MarView(label, tuple(sorted(flagged, key=lambda it: (it.occurred_at, it.ref))), tuple(sorted(unreadable)))


def _all_said(statements: Iterable[Statement]) -> tuple[list[_Said], set[str]]:
    """What is said, of several resolutions of one statement only the first; and the references of the unreadable."""
    found: list[_Said] = []
    resolving: dict[str, _Said] = {}
    unreadable: set[str] = set()
    for statement in statements:
        if statement.kind not in (Kind.ADMINISTER, Kind.CORRECT, Kind.RESOLVE):
            continue
        try:
            said = _said(statement)
        except ContentError:
            unreadable.add(statement.ref)
            continue
        if said is None:
            continue
        if statement.kind is not Kind.RESOLVE:
            found.append(said)
        elif _place(said) <= _place(resolving.setdefault(said.original.ref, said)):
            resolving[said.original.ref] = said
    return [*found, *resolving.values()], unreadable


def _place(said: _Said) -> tuple[object, ...]:
    return (*said.statement.order, said.statement.ref, bytes(said.statement.content))


def _said(statement: Statement) -> _Said | None:
    content = decode_content(statement.kind, bytes(statement.content))
    if isinstance(content, (Administer, Correct)):
        return _Said(statement, content, statement, None)
    assert isinstance(content, Resolve)
    inner = embedded(content).statement
    if inner.kind not in (Kind.ADMINISTER, Kind.CORRECT):
        return None
    resolved = decode_content(inner.kind, bytes(inner.content))
    assert isinstance(resolved, (Administer, Correct))
    return _Said(statement, resolved, inner, None if content.action in COUNTS else content.action)


def _folded(said: list[_Said]) -> list[MarEntry]:
    by_content: dict[tuple[str, bytes], _Said] = {(it.statement.ref, bytes(it.statement.content)): it for it in said}
    present = {it.statement.ref for it in said}
    # A correction names what it corrects by its own reference, also where that counts through a resolution.
    moved = {it.original.ref: it.statement.ref for it in said if it.original.ref not in present}

    def of(statement: Statement) -> _Said:
        return by_content[statement.ref, bytes(statement.content)]

    def corrects(statement: Statement) -> str | None:
        it = of(statement)
        if it.aside is not None or not isinstance(it.content, Correct):
            return None
        return moved.get(it.content.corrects, it.content.corrects)

    log = append_only.fold((it.statement for it in said), corrects)
    waiting = {ref for refs in log.pending.values() for ref in refs}
    entries = []
    for start in log.starts:
        first = of(log.entries[start])
        entries.append(
            MarEntry(
                ref=start,
                said=first.content if isinstance(first.content, Administer) else first.content.administration,
                versions=tuple(_version(of(log.entries[ref])) for ref in log.latest(start)),
                chain=log.chain(start),
                flags=tuple(
                    flag
                    for flag, holds in (
                        (MarFlag.COMPETING_CORRECTIONS, any(ref in log.competing for ref in log.chain(start))),
                        (MarFlag.TARGET_MISSING, start in waiting),
                        (MarFlag.SAID_TWICE, any(ref in log.reused for ref in log.chain(start))),
                    )
                    if holds
                ),
            )
        )
    return entries


def _version(said: _Said) -> Version:
    content = said.content
    administration = content if isinstance(content, Administer) else content.administration
    return Version(
        ref=said.statement.ref,
        user=said.statement.user,
        device=said.statement.device,
        stamp=said.statement.stamp,
        administration=administration if said.aside is None else None,
        reason=said.aside or (content.reason if isinstance(content, Correct) else None),
    )


def _with_reported(
    entries: list[MarEntry], said: list[_Said], conflicts: Iterable[ConflictRegister], unreadable: set[str]
) -> list[MarEntry]:
    """``entries`` and the facts in open conflict, each by itself: the relay has not judged what it corrects."""
    said_by = {(it.original.ref, bytes(it.original.content)): it.statement.ref for it in said}
    found = {entry.ref: entry for entry in entries}
    chain_of = {ref: entry.ref for entry in entries for ref in entry.chain}
    for conflict in sorted(conflicts, key=lambda it: it.ref):
        if not conflict.open or conflict.kind not in (Kind.ADMINISTER, Kind.CORRECT):
            continue
        try:
            reported = _said(decode(conflict.statement).statement)
        except (BadStatement, ContentError):
            unreadable.add(conflict.ref)
            continue
        if reported is None:
            continue
        ref = reported.statement.ref
        twin = said_by.get((ref, bytes(reported.statement.content)))
        if twin is not None:
            entry = found[chain_of[twin]]
        else:
            content = reported.content
            first = content if isinstance(content, Administer) else content.administration
            name = ref if ref not in found else f"{ref}#reported"
            entry = MarEntry(name, first, (_version(reported),), (ref,), ())
        found[entry.ref] = replace(entry, flags=(*entry.flags, MarFlag.REPORTED))
    return list(found.values())


def _accounts(entry: MarEntry) -> Iterable[Account]:
    return (Account(entry.ref, it.administration) for it in entry.versions if it.administration is not None)


def _flags(entry: MarEntry, computed: Collection[MarFlag], doubtful: bool) -> tuple[MarFlag, ...]:
    held = {*entry.flags, *computed, *([MarFlag.CLOCK_SUSPECT] if doubtful else [])}
    return tuple(flag for flag in MarFlag if flag in held)
