"""What several test modules generate: devices with real keys, stamps, signed statements, and whole histories.

A history is made by devices that write and exchange what they hold, under clocks that agree on nothing; with each
statement it keeps what its author held, which is the truth that views are compared with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from crdtmed import clock, documents, ids, keys, statement
from crdtmed.aggregates.content import encode_content
from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.medication_administration import Administer, Correct, OfPrescription
from crdtmed.aggregates.prescription_draft import (
    Dose,
    DraftWrite,
    Group,
    GroupValue,
    Instructions,
    Medication,
    Route,
    Supply,
    Timing,
)
from crdtmed.contract import Kind
from crdtmed.statement import SignedStatement, Statement

PATIENT: Final = "p-1"
DRAFT: Final = "rx-1"
START_MS: Final = 1_770_000_000_000
DAY_MS: Final = 86_400_000
ZERO: Final = clock.stamp(0)


@dataclass(frozen=True)
class Device:
    """A device of a test: its id, its key and the grant under which its user speaks."""

    id: str
    signer: keys.SoftwareSigner
    grant: str


@cache
def device(number: int) -> Device:
    """The device with this number, always the same."""
    name = ids.device_id(number.to_bytes(ids.DEVICE_BYTES, "big"))
    return Device(name, keys.SoftwareSigner.from_scalar(1_000 + number), f"user{number}/aaaaaaaa")


def statement_id(number: int) -> str:
    """A statement id from a number."""
    return ids.statement_id(number.to_bytes(ids.STATEMENT_ID_BYTES, "big"))


def stamps() -> st.SearchStrategy[clock.Stamp]:
    """Stamps of all sizes, near ones often."""
    near = st.builds(clock.stamp, st.integers(START_MS, START_MS + 3), st.integers(0, 3))
    return near | st.builds(clock.stamp, st.integers(0, clock.MAX_MS), st.integers(0, clock.MAX_COUNTER))


def references() -> st.SearchStrategy[str]:
    """References to statements."""
    return st.builds(
        lambda device, number: ids.ref(device, statement_id(number)),
        st.integers(1, 4).map(lambda number: device(number).id),
        st.integers(0, 2**80 - 1),
    )


def raw_values() -> st.SearchStrategy[msgspec.Raw]:
    """Any content that a statement or register may carry, as canonical MessagePack."""
    leaves = (
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=20) | st.binary(max_size=20)
    )
    values: st.SearchStrategy[Any] = st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
        max_leaves=8,
    )
    return values.map(lambda value: msgspec.Raw(msgspec.msgpack.encode(value)))


@st.composite
def statements(draw: st.DrawFn) -> tuple[Statement, Device]:
    """Any well-formed statement, with the device that may sign it; its content is of no model."""
    author = device(draw(st.integers(1, 4)))
    kind = draw(st.sampled_from(Kind))
    targets = ["directory", "patient/p-1", "patient/p-1/drafts", "patient/p-1/log", "site/ward-3/log"]
    return Statement(
        version=statement.VERSION,
        kind=kind,
        id=statement_id(draw(st.integers(0, 2**80 - 1))),
        document=draw(st.sampled_from(targets)),
        device=author.id,
        number=draw(st.integers(1, 2**53 - 1)),
        grant=author.grant,
        stamp=draw(stamps()),
        seen=tuple(sorted(draw(st.sets(references(), max_size=5)))),
        challenge=draw(st.none() | st.binary(min_size=16, max_size=16)),
        content=draw(raw_values()),
    ), author


VALUES: Final[Mapping[Group, tuple[GroupValue, ...]]] = {
    Group.MEDICATION: (
        Medication("amox-500", "Amoxicillin", "capsule", "500 mg"),
        Medication("para-500", "Paracetamol", "tablet", "500 mg"),
    ),
    Group.DOSE: (Dose(Quantity("500", "mg")), Dose(Quantity("1", "g"))),
    Group.ROUTE: (Route("26643006", "oral"), Route("47625008", "intravenous")),
    Group.TIMING: (Timing(frequency=3, period="1", period_unit="d"), Timing(count=1)),
    Group.SUPPLY: (Supply(21, "{tablet}", 0, "ward-3"), Supply(10, "{tablet}", 1, "ward-3")),
    Group.INSTRUCTIONS: (Instructions("with food"), Instructions("before meals")),
}
"""Two values for each group that a generated draft writes."""


@dataclass(frozen=True, repr=False)
class History:
    """Statements in the order in which they were made, and what their authors held when they made them.

    ``knew`` of a statement holds the references of what its author held, those before it in its transaction included.
    """

    statements: tuple[SignedStatement, ...]
    knew: Mapping[str, frozenset[str]]

    @property
    def refs(self) -> tuple[str, ...]:
        """The references, in the order in which the statements were made."""
        return tuple(signed.statement.ref for signed in self.statements)

    def __repr__(self) -> str:
        """Line by line: place, author, stamp, content, and the places of what its author held."""
        place = {ref: at for at, ref in enumerate(self.refs)}
        lines = [
            f"{at}: {said.device} at {said.stamp} says {msgspec.msgpack.decode(said.content)}"
            f" holding {sorted(place[ref] for ref in self.knew[said.ref])}"
            for at, said in enumerate(signed.statement for signed in self.statements)
        ]
        return "\n".join(["<History", *lines, ">"])


@dataclass
class Author:
    """A device while a history is made: what it holds, its clock's error and its last stamp and number."""

    device: Device
    skew_ms: int
    held: dict[str, SignedStatement] = field(default_factory=dict)
    number: int = 0
    last: clock.Stamp = ZERO

    def say(
        self, now_ms: int, kind: Kind, target: str, name: str, seen: Sequence[str], content: Any
    ) -> SignedStatement:
        """Signs a statement with the next number and stamp, and holds it."""
        self.number += 1
        self.last = clock.next_stamp(self.last, max(0, now_ms + self.skew_ms))
        said = statement.sign(
            Statement(
                version=statement.VERSION,
                kind=kind,
                id=name,
                document=target,
                device=self.device.id,
                number=self.number,
                grant=self.device.grant,
                stamp=self.last,
                seen=tuple(sorted(seen)),
                challenge=None,
                content=msgspec.Raw(encode_content(content)),
            ),
            self.device.signer,
        )
        self.held[said.statement.ref] = said
        return said


def authors() -> st.SearchStrategy[list[Author]]:
    """Two to four devices, whose clocks are wrong by up to a day."""
    skews = st.sampled_from([0, 0, 1, -1, 60_000, -DAY_MS, DAY_MS])
    return st.lists(skews, min_size=2, max_size=4).map(
        lambda found: [Author(device(at + 1), skew) for at, skew in enumerate(found)]
    )


def group_in(content: bytes) -> Group:
    """The group that a draft write is about."""
    return Group(msgspec.msgpack.decode(content)["group"])


def heads_held(author: Author, knew: Mapping[str, frozenset[str]]) -> list[str]:
    """The heads of every group among what the author holds, by the truth of the history."""
    of = {ref: group_in(bytes(said.statement.content)) for ref, said in author.held.items()}
    return [
        ref
        for ref in author.held
        if not any(ref in knew[other] and of[other] is of[ref] for other in author.held if other != ref)
    ]


@st.composite
def draft_histories(draw: st.DrawFn, most: int = 14) -> History:
    """A draft with at least one write: several devices write it, now and then one hears all that another holds."""
    made: list[SignedStatement] = []
    knew: dict[str, frozenset[str]] = {}
    people = draw(authors())
    for step in range(draw(st.integers(1, most))):
        author = draw(st.sampled_from(people))
        if made and draw(st.integers(0, 2)) == 0:
            other = draw(st.sampled_from(people))
            author.held.update(other.held)
            continue
        for group in sorted(
            draw(st.sets(st.sampled_from(list(VALUES)), min_size=1, max_size=3)), key=list(Group).index
        ):
            value = draw(st.sampled_from(VALUES[group]) | st.none()) if draw(st.booleans()) else VALUES[group][0]
            held = frozenset(author.held)
            said = author.say(
                START_MS + step,
                Kind.DRAFT_WRITE,
                documents.drafts(PATIENT),
                statement_id(len(made)),
                heads_held(author, knew),
                DraftWrite(DRAFT, group, value),
            )
            knew[said.statement.ref] = held
            made.append(said)
    return History(tuple(made), knew)


def administration(step: int) -> Administer:
    """A dose that was given, a minute later with each step."""
    return Administer(
        subject=OfPrescription(DRAFT),
        status="given",
        occurred_at=START_MS + step * 60_000,
        site="ward-3",
        dose=Quantity("500", "mg"),
    )


def correction(of: str) -> Correct:
    """A correction that takes back the entry ``of``."""
    return Correct(corrects=of, status="entered-in-error", reason="another patient's")


@st.composite
def log_histories(draw: st.DrawFn, most: int = 12) -> History:
    """A patient's log: administrations, corrections of them and of corrections, by several devices."""
    made: list[SignedStatement] = []
    knew: dict[str, frozenset[str]] = {}
    people = draw(authors())
    for step in range(draw(st.integers(1, most))):
        author = draw(st.sampled_from(people))
        held = frozenset(author.held)
        corrected = draw(st.none() | st.sampled_from(sorted(held))) if held else None
        content = correction(corrected) if corrected else administration(step)
        kind = Kind.CORRECT if corrected else Kind.ADMINISTER
        log = documents.log_of(documents.patient(PATIENT))
        said = author.say(START_MS + step, kind, log, statement_id(len(made)), (), content)
        knew[said.statement.ref] = held
        made.append(said)
        if draw(st.booleans()):
            draw(st.sampled_from(people)).held.update(author.held)
    return History(tuple(made), knew)
