"""The bases that are in memory: what the relay admitted, decoded when read, and its authors yet to be verified."""

from collections.abc import Mapping
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
class Held:
    """One document in memory.

    ``unverified`` are values whose authors are not verified yet, ``bad`` those that are not authentic: they never
    count.  ``verified`` is the position up to which every author was verified, ``since_snapshot`` how many
    updates the store has after its snapshot.
    """

    replica: Replica
    verified: int
    unverified: dict[bytes, None] = field(default_factory=dict)
    bad: set[bytes] = field(default_factory=set)
    troubles: list[Trouble] = field(default_factory=list)
    since_snapshot: int = 0
    _statements: dict[str, SignedStatement] = field(default_factory=dict)
    _registers: dict[str, tuple[Register, bytes]] = field(default_factory=dict)
    _raw: dict[str, bytes] = field(default_factory=dict)
    _fresh: list[bytes] = field(default_factory=list)
    _all_anew: bool = True
    _shown: Mapping[str, Register] | None = None
    _stamps: list[int] = field(default_factory=list)
    _entries: tuple[Entry, ...] | None = None

    @property
    def document(self) -> Document:
        """Which document this is."""
        return self.replica.document

    def applied(self, read: RelayUpdate) -> None:
        """An update was applied to the replica: reading takes in what it brought."""
        if self.document.root is Root.MAP or read.deletes:
            self._all_anew = True
            if self.document.written_by_devices:
                self.unverified.update((value, None) for _, _, value in read.inserted)
        else:
            values = [value for _, _, value in read.inserted]
            self._fresh.extend(values)
            self.unverified.update((value, None) for value in values)

    def everything_unverified(self) -> None:
        """Nothing is known about the authors: all of them are to be verified."""
        self.unverified.update((value, None) for value in self.replica.values())

    def forged(self, value: bytes) -> None:
        """A value is not by whom it says: it does not count."""
        self.bad.add(value)
        self._all_anew = True

    def statements(self) -> Mapping[str, SignedStatement]:
        """The statements by reference, as the replica has them; of registers there are none."""
        if self._all_anew or self._fresh:
            self._entries = None
        if self._all_anew:
            self._all_anew = False
            self._fresh = []
            before = {one.encoded: one for one in self._statements.values()}
            self._statements = {}
            for value in self.replica.values():
                self._take(value, before.get(value))
        elif self._fresh:
            fresh, self._fresh = self._fresh, []
            for value in fresh:
                self._take(value, None)
        return self._statements

    def succeeds(self, before: "Held") -> None:
        """This base takes the place of another of the same epoch: no register may be older than it was there."""
        if is_register_document(self.document):
            before.registers()
            self._registers = dict(before._registers)

    def new_stamps(self) -> list[int]:
        """The stamps of statements that were read since the last time."""
        stamps, self._stamps = self._stamps, []
        return stamps

    def registers(self) -> Mapping[str, Register]:
        """The registers by key, withdrawn ones included; the same object until something changes."""
        if self._all_anew or self._shown is None:
            self._all_anew = False
            self._read_registers()
            self._shown = MappingProxyType(
                {key: register for key, (register, data) in sorted(self._registers.items()) if data not in self.bad}
            )
        return self._shown

    def content(self) -> Mapping[str, bytes]:
        """The bytes of a map by key."""
        return self.replica.map()

    def entries(self) -> tuple[Entry, ...]:
        """The statements as views see them; the same object until something changes."""
        statements = self.statements()
        if self._entries is None:
            self._entries = tuple([Entry(signed, Standing.CONFIRMED) for signed in statements.values()])
        return self._entries

    def _take(self, value: bytes, known: SignedStatement | None) -> None:
        if value in self.bad:
            return
        try:
            signed_statement = known if known is not None else statement.decode(value)
        except statement.BadStatement as error:
            self.bad.add(value)
            self.troubles.append(
                Trouble("unreadable", f"{self.document.name} holds what is no statement: {error.says}")
            )
            return
        if signed_statement.statement.document != self.document.target:
            self.bad.add(value)
            self.troubles.append(
                Trouble(
                    "misplaced",
                    f"{self.document.name} holds {signed_statement.statement.ref}, which belongs to "
                    f"{signed_statement.statement.document}",
                )
            )
            return
        self._statements[signed_statement.statement.ref] = signed_statement
        if known is None:
            self._stamps.append(signed_statement.statement.stamp)

    def _read_registers(self) -> None:
        raw = self.replica.map()
        for key in self._registers.keys() - raw.keys():
            del self._registers[key]
        for key, value in raw.items():
            if self._raw.get(key) != value:
                self.unverified[value] = None
                self._take_register(key, value)
        self._raw = raw

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
        self._registers[key] = (register, value)


def is_register_document(document: Document) -> bool:
    """Whether the relay's registers are in it: every document that devices do not write, but the directory."""
    return not document.written_by_devices and document.name != "directory"


def load(client: int, row: BaseRow, snapshot: bytes, updates: list[bytes]) -> Held:
    """A base from the store; raises `crdtmed.updates.Malformed` or `ReplicaBroken` where it is damaged."""
    replica = Replica.load(row.document, client, snapshot, row.epoch, row.position)
    for update in updates:
        replica.apply(update)
    held = Held(replica, row.verified, since_snapshot=len(updates))
    if is_register_document(replica.document):
        held.registers()  # registers are verified from what is read of them
        if row.verified >= row.position:
            held.unverified.clear()
    elif row.verified < row.position and replica.document.written_by_devices:
        held.everything_unverified()
    return held


def fresh(client: int, name: str) -> Held:
    """A document of which nothing is held; raises `crdtmed.documents.BadName`."""
    return Held(Replica.open(name, client), 0)
