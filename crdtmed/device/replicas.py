"""The bases that are in memory: what the relay admitted, decoded when read, and its authors yet to be verified."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from crdtmed import signed, statement
from crdtmed.device.engine_types import Entry, Standing
from crdtmed.device.store import BaseRow
from crdtmed.documents import Document
from crdtmed.policies.server_authoritative import newer
from crdtmed.replica import Replica
from crdtmed.signed import Register
from crdtmed.statement import SignedStatement
from crdtmed.updates import RelayUpdate, Root


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something in a base that an honest relay never sends: an alarm."""

    code: str
    says: str


@dataclass(slots=True, eq=False)
class Keys:
    """Under which keys the items of a Map stand, so that an update says which keys it touches.

    ``at`` knows the last item of each key by client and clock, of every key while it is ``complete``.
    """

    at: dict[tuple[int, int], str] = field(default_factory=dict)
    complete: bool = True

    def touched_by(self, read: RelayUpdate) -> set[str] | None:
        """The keys whose values ``read`` may change; None where that cannot be told, and then all may have."""
        at, touched = self.at, set(read.keys)
        at.update((last, key) for key, last in read.keys.items())
        for item in read.follows:
            row = [item]
            while row[-1] in read.follows and row[-1] not in at:
                row.append(read.follows[row[-1]])
            key = at.get(row[-1])
            if key is None:
                self.complete = False
            else:
                at.update(dict.fromkeys(row, key))
                touched.add(key)
        for origin in read.follows.values():
            at.pop(origin, None)
        for client, first, length in read.deletes:
            if length < len(at):
                found = [at.get((client, clock)) for clock in range(first, first + length)]
            else:
                found = [key for (by, clock), key in at.items() if by == client and first <= clock < first + length]
            touched.update(key for key in found if key is not None)
        told = self.complete or not (read.follows or read.deletes)
        return touched if told else None


@dataclass(slots=True, eq=False)
class Held:
    """One document in memory.

    ``unverified`` are values whose authors are not verified yet (of a log and of drafts each with its statement, once
    that was read), ``bad`` those that are not authentic: they never count.  ``verified`` is the position up to which
    every author was verified, ``since_snapshot`` how many updates the store has after its snapshot, ``verifying`` is
    held by whoever verifies a part of it.

    What is read is kept, and each update adds what it brought; whatever cannot be told from an update alone is read
    anew as a whole.
    """

    replica: Replica
    verified: int
    unverified: dict[bytes, SignedStatement | None] = field(default_factory=dict)
    bad: set[bytes] = field(default_factory=set)
    troubles: list[Trouble] = field(default_factory=list)
    since_snapshot: int = 0
    verifying: asyncio.Lock = field(default_factory=asyncio.Lock)
    _statements: dict[str, SignedStatement] = field(default_factory=dict)
    _registers: dict[str, tuple[Register, bytes]] = field(default_factory=dict)
    _raw: dict[str, bytes] = field(default_factory=dict)
    _fresh: list[bytes] = field(default_factory=list)
    _keys: Keys = field(default_factory=Keys)
    _known_keys: set[str] = field(default_factory=set)
    _touched: set[str] = field(default_factory=set)
    _own: dict[bytes, SignedStatement] = field(default_factory=dict)
    _changed: set[str] | None = None
    _all_anew: bool = True
    _shown: Mapping[str, Register] | None = None
    _stamps: list[int] = field(default_factory=list)
    _entries: tuple[Entry, ...] | None = None

    @property
    def document(self) -> Document:
        """Which document this is."""
        return self.replica.document

    def applied(self, read: RelayUpdate) -> list[bytes]:
        """An update was applied to the replica: reading takes in what it brought; gives the values among that."""
        values = read.values
        if self.document.root is Root.MAP:
            touched = self._keys.touched_by(read)
            if self.document.written_by_devices:
                # Devices only insert, each under a new key; what else there is may hide what was there.
                if touched is None or len(touched) != len(values) or not self._known_keys.isdisjoint(touched):
                    self._all_anew = True
                self._known_keys |= touched or set()
            elif touched is None:
                self._all_anew = True
            else:
                self._touched |= touched
        elif read.deletes:
            self._all_anew = True
        if self.document.written_by_devices:
            self.unverified.update(dict.fromkeys(values))
            if self._all_anew:
                self._fresh.clear()
            else:
                self._fresh += values
        return values

    def forged(self, value: bytes) -> None:
        """A value is not by whom it says: it does not count."""
        self.bad.add(value)
        self._all_anew = True

    @property
    def to_verify(self) -> bool:
        """Whether verifying it would do anything: a value, a trouble, or a position to be noted."""
        unread = is_register_document(self.document) and (self._all_anew or bool(self._touched))
        return bool(self.unverified or self.troubles or unread or self.verified < self.replica.position)

    def statements(self) -> Mapping[str, SignedStatement]:
        """The statements by reference, as the replica has them; of registers there are none."""
        if self._all_anew or self._fresh:
            self._entries = None
        if self._all_anew:
            self._all_anew = False
            self._fresh = []
            before = {one.encoded: one for one in self._statements.values()} | self._own
            self._statements = {}
            self._take(self.replica.values(), before)
        elif self._fresh:
            fresh, self._fresh = self._fresh, []
            self._take(fresh, self._own)
        self._own.clear()
        return self._statements

    def own(self, of: SignedStatement) -> None:
        """A value came that is, byte for byte, what this device has signed: it is read, and its author verified."""
        if self.unverified.pop(of.encoded, of) is None:
            self._own[of.encoded] = of

    def succeeds(self, before: "Held") -> None:
        """This base takes the place of another of the same epoch: no register may be older than it was there."""
        if is_register_document(self.document):
            before.registers()
            self._registers = dict(before._registers)

    def new_stamps(self) -> list[int]:
        """The stamps of statements that were read since the last time."""
        stamps, self._stamps = self._stamps, []
        return stamps

    def read(self) -> None:
        """Reads what came, as views and verification will."""
        if is_register_document(self.document):
            self.registers()
        elif self.document.written_by_devices:
            self.statements()

    def registers(self) -> Mapping[str, Register]:
        """The registers by key, withdrawn ones included; the same object until something changes."""
        if self._all_anew or self._touched:
            self._read_registers()
        if self._shown is None:
            self._shown = MappingProxyType(
                {key: register for key, (register, data) in sorted(self._registers.items()) if data not in self.bad}
            )
        return self._shown

    def register(self, key: str) -> Register | None:
        """The register under one key, None where there is none; as `registers` has it."""
        if self._all_anew or self._touched:
            self._read_registers()
        register, data = self._registers.get(key, (None, b""))
        return register if data not in self.bad else None

    def changed_keys(self) -> set[str] | None:
        """The keys whose registers may have changed since the last time; None for all, the first time."""
        if self._all_anew or self._touched:
            self._read_registers()
        changed, self._changed = self._changed, set()
        return changed

    def content(self) -> Mapping[str, bytes]:
        """The bytes of a map by key."""
        return self.replica.map()

    def entries(self) -> tuple[Entry, ...]:
        """The statements as views see them; the same object until something changes."""
        statements = self.statements()
        if self._entries is None:
            confirmed = Standing.CONFIRMED
            self._entries = tuple([Entry(signed, confirmed) for signed in statements.values()])
        return self._entries

    def _take(self, values: Iterable[bytes], known: Mapping[bytes, SignedStatement]) -> None:
        """Takes statements in; ``known`` are those that were read before, by their bytes."""
        target, bad, unverified = self.document.target, self.bad, self.unverified
        statements, stamps, decode = self._statements, self._stamps, statement.decode
        for value in values:
            if value in bad:
                continue
            found = known.get(value)
            if found is None:
                try:
                    found = decode(value)
                except statement.BadStatement as error:
                    self._refuse(value, "unreadable", f"what is no statement: {error.says}")
                    continue
            of = found.statement
            if of.document != target:
                self._refuse(value, "misplaced", f"{of.ref}, which belongs to {of.document}")
                continue
            ref = of.ref
            other = statements.setdefault(ref, found)
            if other is not found and other.encoded > value:
                statements[ref] = found  # said twice, which no honest relay admits: which one is shown is the same
            if value in unverified:
                unverified[value] = found
            if value not in known:
                stamps.append(of.stamp)

    def _refuse(self, value: bytes, code: str, what: str) -> None:
        self.bad.add(value)
        self.troubles.append(Trouble(code, f"{self.document.name} holds {what}"))

    def _read_registers(self) -> None:
        """Reads the registers that updates have touched, or all."""
        all_anew, self._all_anew = self._all_anew, False
        touched, self._touched = self._touched, set()
        raw = self.replica.map() if all_anew else {}
        if all_anew:
            touched = raw.keys() | self._raw.keys() | self._registers.keys()
        for key in sorted(touched):
            value = raw.get(key) if all_anew else self.replica.value(key)
            if value is None:
                self._registers.pop(key, None)
                self._raw.pop(key, None)
            elif self._raw.get(key) != value:
                self._raw[key] = value
                self.unverified.setdefault(value)
                self._take_register(key, value)
        self._shown = None
        if all_anew or self._changed is None:
            self._changed = None
        else:
            self._changed |= touched

    def _take_register(self, key: str, value: bytes) -> None:
        name = self.document.name
        try:
            register = signed.read(Register, value)
        except signed.Forged as error:
            self.troubles.append(Trouble("unreadable", f"{name} {key} is no register: {error.says}"))
            return
        if register.document != name or register.key != key:
            self.troubles.append(Trouble("misplaced", f"{name} {key} holds {register.document} {register.key}"))
            return
        held = self._registers.get(key)
        if held is not None and held[1] == value:
            return
        if held is not None and not newer(held[0], register):
            self.troubles.append(
                Trouble("rolled_back", f"{name} {key}: version {register.version} came after {held[0].version}")
            )
            return
        if held is not None:
            self.unverified.pop(held[1], None)  # it is shown no more, and never again
        self._registers[key] = (register, value)


def is_register_document(document: Document) -> bool:
    """Whether the relay's registers are in it: every document that devices do not write, but the directory."""
    return not document.written_by_devices and document.name != "directory"


def load(client: int, row: BaseRow, snapshot: bytes, updates: list[bytes]) -> Held:
    """A base from the store; raises `crdtmed.updates.Malformed` or `ReplicaBroken` where it is damaged."""
    held = Held(Replica(row.document, client, row.epoch, row.position), row.verified, since_snapshot=len(updates))
    for update in (snapshot, *updates):
        held.applied(held.replica.apply(update))
    if is_register_document(held.document):
        held.registers()  # registers are verified from what is read of them
    if row.verified >= row.position:
        held.unverified.clear()
    return held


def fresh(client: int, name: str) -> Held:
    """A document of which nothing is held; raises `crdtmed.documents.BadName`."""
    return Held(Replica.open(name, client), 0)
