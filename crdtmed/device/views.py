"""What views of a device share: registers decoded, what still waits for the relay, and how old the cache is."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar, cast

from crdtmed.aggregates.conflict import Action, ConflictRegister, QuarantineRegister, Resolve
from crdtmed.aggregates.content import Content, ContentError, decode_content, embedded
from crdtmed.aggregates.patient import PatientLabel, PatientRegister, label_of
from crdtmed.aggregates.registers import RegisterValue, decode_register
from crdtmed.contract import Kind
from crdtmed.device.engine import Engine
from crdtmed.device.engine_subset import documents_of
from crdtmed.device.engine_types import Standing
from crdtmed.documents import DocumentKind, parse, patient
from crdtmed.limits import KEPT_VIEWS, LIVE_REGISTERS
from crdtmed.policies.server_authoritative import is_withdrawn
from crdtmed.statement import BadStatement, Statement
from crdtmed.statement import decode as decode_statement
from crdtmed.verdict import Status, Verdict

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Age:
    """How old what is shown may be.

    ``synced_at`` is when it was last known to be up to date (device's clock, ms; None for never), ``age_ms`` how long
    ago that is; ``live`` whether the relay sends every change at once now; ``unverified`` the entries whose authors
    are still to be verified.
    """

    synced_at: int | None
    age_ms: int | None
    live: bool
    unverified: int


def age_of(engine: Engine, targets: Iterable[str]) -> Age:
    """The age of the oldest of ``targets`` (documents or logs) that is held; a log without entries has no age."""
    core = engine.core
    names = {name for target in targets for name in core.rows if name == target or name.startswith(f"{target}/")}
    times = [core.rows[name].synced_at for name in names]
    synced = min(times, default=None)
    session = core.session
    live = session is not None and bool(names) and all(session.is_live(name) for name in names)
    unverified = sum(len(core.held[name].unverified) for name in names if name in core.held)
    age = None if synced is None else 0 if live else max(0, core.ports.now_ms() - synced)
    return Age(synced, age, live, unverified)


async def kept(
    engine: Engine, name: str, scope: str, rests_on: Callable[[str], bool], make: Callable[[], Awaitable[T]]
) -> T:
    """The view ``name`` of a patient or a site: as it was made last, until something in it has changed.

    That is: where the documents of its scope stand, or anything told of a target that it ``rests_on``.
    """
    core = engine.core
    stands = _stands(engine, scope)
    held = core.shown.get(name)
    if held is not None and held[1] == stands:
        return cast(T, held[2])
    before = core.changes
    made = await make()
    if core.changes == before and _stands(engine, scope) == stands:  # else it may show what was before the change
        core.shown.pop(name, None)
        while len(core.shown) >= KEPT_VIEWS:
            del core.shown[next(iter(core.shown))]
        core.shown[name] = (rests_on, stands, made)
    return made


def _stands(engine: Engine, scope: str) -> tuple[object, ...]:
    """Where the documents of a scope stand in memory, which is ahead of what was told of them."""
    core = engine.core
    found: list[object] = []
    for name in documents_of(scope, core.relay_now(), core.days):
        row = core.rows.get(name)
        found.append((row.epoch, row.position, core.held.get(name)) if row is not None else None)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Registers:
    """The registers of a document by key, withdrawn ones left out, and the keys of those that cannot be read."""

    values: Mapping[str, RegisterValue]
    unreadable: tuple[str, ...]

    def of(self, kind: type[R]) -> tuple[R, ...]:
        """The values of one model, in the order of their keys."""
        return tuple(value for value in self.values.values() if isinstance(value, kind))


async def registers_of(engine: Engine, document: str) -> Registers:
    """What the relay's registers in ``document`` say; nothing where it is not held."""
    kind = parse(document).kind
    values: dict[str, RegisterValue] = {}
    unreadable: list[str] = []
    for key, register in sorted((await engine.registers(document)).items()):
        if is_withdrawn(register):
            continue
        try:
            values[key] = _decoded(kind, key, bytes(register.value))
        except ContentError:
            unreadable.append(key)
    return Registers(values, tuple(unreadable))


@lru_cache(maxsize=LIVE_REGISTERS)
def _decoded(kind: DocumentKind, key: str, data: bytes) -> RegisterValue:
    return decode_register(kind, key, data)


async def patient_label(engine: Engine, patient_id: str) -> PatientLabel | None:
    """Identifier, name and birth date of a patient; None where the patient is not held."""
    found = await engine.registers(patient(patient_id))
    register = found.get("patient")
    if register is None or is_withdrawn(register):
        return None
    try:
        value = _decoded(DocumentKind.PATIENT, "patient", bytes(register.value))
    except ContentError:
        return None
    assert isinstance(value, PatientRegister)
    return label_of(value)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A statement of this device that no base has yet: since when (device's clock, ms), and its last verdict.

    ``content`` is what it says.
    """

    ref: str
    kind: Kind
    user: str
    said_at: int
    content: Content
    statement: Statement
    verdict: Verdict | None

    @property
    def undecided(self) -> bool:
        """Whether the relay has not judged it, or has accepted it and the base does not show it yet."""
        return self.verdict is None or self.verdict.status not in (Status.CONFLICT, Status.REFUSED)


def waiting_in(engine: Engine, *targets: str) -> tuple[Waiting, ...]:
    """What this device said in these documents and logs and waits for the relay, in order."""
    return _waiting(engine, lambda of: of.document in targets)


def _waiting(engine: Engine, about: Callable[[Statement], bool]) -> tuple[Waiting, ...]:
    found = []
    for queued in engine.outbox():
        of = queued.signed.statement
        if not about(of):
            continue
        content = decode_content(of.kind, bytes(of.content))
        found.append(Waiting(of.ref, of.kind, of.user, queued.said_at, content, of, queued.verdict))
    return tuple(found)


async def tentative_refs(engine: Engine, target: str) -> frozenset[str]:
    """The statements in a document or log that the relay has not confirmed."""
    return frozenset(entry.ref for entry in await engine.statements(target) if entry.standing is Standing.TENTATIVE)


@dataclass(frozen=True, slots=True)
class ConflictView:
    """A statement in conflict as people see it.

    ``content`` is what it says, None where that cannot be read; ``label`` the patient whom it touches, where that
    patient is held.  ``resolving`` are the resolutions of this device that wait for the relay.
    """

    register: ConflictRegister
    statement: Statement
    content: Content | None
    label: PatientLabel | None
    resolving: tuple[str, ...]

    @property
    def ref(self) -> str:
        """The statement in conflict."""
        return self.register.ref

    @property
    def actions(self) -> tuple[Action, ...]:
        """What somebody may do about it; nothing once it is resolved."""
        return self.register.actions if self.register.open else ()


@dataclass(frozen=True, slots=True)
class QuarantineView:
    """A fact that came in the name of a revoked device, as people see it; ``reentering`` waits for the relay."""

    register: QuarantineRegister
    statement: Statement
    content: Content | None
    label: PatientLabel | None
    reentering: tuple[str, ...]


def content_of(statement: Statement) -> Content | None:
    """What a statement says; None where that cannot be read."""
    try:
        return decode_content(statement.kind, bytes(statement.content))
    except ContentError:
        return None


async def conflicts_in(engine: Engine, registers: Registers) -> tuple[ConflictView, ...]:
    """The conflicts of a patient or a site, oldest first, resolved ones too."""
    resolving: dict[str, list[str]] = {}
    for one in _waiting(engine, lambda of: of.kind is Kind.RESOLVE):
        if isinstance(one.content, Resolve) and one.undecided:
            resolving.setdefault(embedded(one.content).statement.ref, []).append(one.ref)
    found = []
    for register in registers.of(ConflictRegister):
        try:
            statement = decode_statement(register.statement).statement
        except BadStatement:
            continue
        label = await patient_label(engine, register.patient) if register.patient is not None else None
        label = label or await _label_in(engine, statement)
        found.append(
            ConflictView(register, statement, content_of(statement), label, tuple(resolving.get(register.ref, ())))
        )
    return tuple(sorted(found, key=lambda it: (it.register.received_at, it.ref)))


async def quarantined_in(
    engine: Engine, registers: Registers, waiting: Iterable[Waiting]
) -> tuple[QuarantineView, ...]:
    """The quarantined facts of a patient or a site, oldest first, those entered again too."""
    entering: dict[str, list[str]] = {}
    for one in waiting:
        again = getattr(one.content, "reenters", None)
        if again is not None and one.undecided:
            entering.setdefault(again, []).append(one.ref)
    found = []
    for register in registers.of(QuarantineRegister):
        try:
            statement = decode_statement(register.statement).statement
        except BadStatement:
            continue
        label = await _label_in(engine, statement)
        found.append(
            QuarantineView(register, statement, content_of(statement), label, tuple(entering.get(register.ref, ())))
        )
    return tuple(sorted(found, key=lambda it: (it.register.received_at, it.register.ref)))


async def _label_in(engine: Engine, statement: Statement) -> PatientLabel | None:
    """The patient whom a statement is about, by its document or its content."""
    first, _, rest = statement.document.partition("/")
    content = content_of(statement)
    name = rest.partition("/")[0] if first == "patient" else getattr(content, "patient", None)
    return await patient_label(engine, name) if isinstance(name, str) else None
