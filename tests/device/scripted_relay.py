"""A relay of few lines, for tests of the device: it keeps its word about frames, clocks and positions, and judges as
it is told to.  Frames go through memory; a link can be cut after any number of them.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from crdtmed import documents, keys, statement
from crdtmed.aggregates.content import decode_content
from crdtmed.aggregates.prescription_draft import DraftWrite, write_key
from crdtmed.codec import encode
from crdtmed.documents import map_digest, parse
from crdtmed.reasons import ChallengeSpent, Reason
from crdtmed.replica import Replica
from crdtmed.signed import (
    Certificate,
    DigestOf,
    DirectoryHead,
    DocumentDigest,
    DocumentDigests,
    Lease,
    Register,
    RelayKey,
    Revocation,
    Signed,
    seal,
)
from crdtmed.statement import Statement
from crdtmed.trust import introduce
from crdtmed.updates import Root, read_device_update, tombstoned
from crdtmed.updates.device_grammar import write_array_update, write_map_update
from crdtmed.verdict import Flag, Status, Verdict, encode_verdict
from crdtmed.wire import frames as wire

IDENTITY = keys.SoftwareSigner.from_scalar(11)
RELAY = keys.SoftwareSigner.from_scalar(12)
NOW = 1_790_000_000_000


@dataclass(frozen=True)
class Judgement:
    """What the script says of one statement."""

    status: Status = Status.ACCEPTED
    reason: Reason | None = None
    actions: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()


ACCEPTED = Judgement()


@dataclass
class Document:
    """A document: its updates by position, and what they come to."""

    name: str
    epoch: str
    updates: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.replica = Replica.open(self.name, 5, self.epoch)

    @property
    def position(self) -> int:
        return len(self.updates)

    def take(self, update: bytes) -> None:
        self.replica.apply(update)
        self.updates.append(update)


@dataclass(eq=False)
class Line:
    """One connection.  ``cut_after`` frames to the device it is cut; ``lose`` drops frames in a cut's last moment."""

    relay: "ScriptedRelay"
    out: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    wants: set[str] = field(default_factory=set)
    device: str = ""
    nonce: bytes = b""
    open: bool = False
    closed: bool = False
    cut_after: int | None = None
    cut_after_in: int | None = None
    challenges: set[bytes] = field(default_factory=set)

    def say(self, frame: wire.ToDevice) -> None:
        if not self.closed:
            self.out.put_nowait(wire.encode_frame(frame))

    def cut(self) -> None:
        self.closed = True
        self.out.put_nowait(None)
        self.relay.lines.discard(self)

    # ---- the device's side: a Transport

    async def send(self, data: bytes) -> None:
        if self.closed:
            raise ConnectionError("cut")
        if self.cut_after_in is not None:
            self.cut_after_in -= 1
            if self.cut_after_in < 0:
                self.cut()
                raise ConnectionError("cut")
        self.relay.frames_in.append(data)
        self.relay.receive(self, wire.read_from_device(data))

    async def recv(self) -> bytes:
        if self.cut_after is not None:
            self.cut_after -= 1
            if self.cut_after < 0:
                self.cut()
                raise ConnectionError("cut")
        data = await self.out.get()
        if data is None:
            raise ConnectionError("cut")
        return data

    async def close(self) -> None:
        self.closed = True
        self.relay.lines.discard(self)


class ScriptedRelay:
    """The relay: documents, recorded statements with their verdicts, and a script."""

    def __init__(self) -> None:
        self.now = NOW
        self.epoch = "aaaaaaaaaaaaaaaa"
        self.documents: dict[str, Document] = {}
        self.statements: dict[str, tuple[bytes, Verdict]] = {}
        self.judge: Callable[[Statement], Judgement] = lambda statement: ACCEPTED
        self.lines: set[Line] = set()
        self.numbers: dict[str, int] = {}
        self.evict: dict[str, str] = {}
        self.silent = False
        self.frames_in: list[bytes] = []
        self.judged: list[str] = []
        self.handed_over: list[bytes] = []
        self.handed_back: list[bytes] = []
        self.wiped: list[wire.Wiped] = []
        self.revocation: bytes | None = None
        self.lease = 0
        self.versions: dict[tuple[str, str], int] = {}
        self.relay_key = seal(RelayKey("r1", RELAY.public, 0, None), IDENTITY)
        self.entries: dict[str, bytes] = {"relay/r1": self.relay_key}
        self.head = 0

    # ---- what a test does to it

    def enrol(self, device: str, public: bytes) -> None:
        """Puts a device into the directory."""
        self.put_entries({f"device/{device}": Certificate(device, public, bytes(32), device, 0)})

    def put_entries(self, entries: dict[str, Signed]) -> None:
        """Changes the directory, with a new head over it."""
        self.head += 1
        made = {key: seal(value, IDENTITY) for key, value in entries.items()}
        self.entries.update(made)
        head = seal(DirectoryHead(self.head, self.now, map_digest(self.entries)), IDENTITY)
        self.write_map("directory", {**made, "relay/r1": self.relay_key, "head": head})

    def put_register(self, document: str, key: str, value: object, signer: keys.SoftwareSigner = RELAY) -> None:
        """Writes a register."""
        from msgspec import Raw

        version = self.versions[(document, key)] = self.versions.get((document, key), 0) + 1
        register = Register(document, key, version, self.now, Raw(encode(value)))
        self.write_map(document, {key: seal(register, signer)})

    def write_map(self, name: str, entries: dict[str, bytes], deleted: Sequence[str] = ()) -> None:
        """The relay's own change of a map."""
        document = self.document(name)
        update = document.replica.change(entries, deleted)
        document.updates.append(update)
        self.spread({name: document.position})

    def document(self, name: str) -> Document:
        """A document, empty where there was none."""
        return self.documents.setdefault(name, Document(name, self.epoch))

    def insert(self, name: str, values: Sequence[bytes], client: int = 77) -> None:
        """Statements of another device, admitted."""
        document = self.document(name)
        clock = document.replica.state_vector.get(client, 0)
        if parse(name).root is Root.ARRAY:
            for start in range(0, len(values), 256):
                chunk = values[start : start + 256]
                last = document.replica.last_item
                document.take(write_array_update(client, clock + start, last, chunk))
        else:
            for at, value in enumerate(values):
                one = statement.decode(value).statement
                content = decode_content(one.kind, bytes(one.content))
                assert isinstance(content, DraftWrite)
                key = write_key(content, one.device, one.id)
                document.take(write_map_update(client, clock + at, [(key, value)]))
        self.spread({name: document.position - (len(values) + 255) // 256 + 1})

    def restored(self, keep: Callable[[str], bool]) -> None:
        """As from a backup: a new epoch, and only those statements that ``keep`` names."""
        self.epoch = "b" * 15 + chr(ord(self.epoch[-1]) + 1)
        old, self.documents = self.documents, {}
        for name, document in old.items():
            values = document.replica.values() if parse(name).written_by_devices else []
            if not parse(name).written_by_devices:
                self.write_map(name, document.replica.map())
                continue
            self.document(name)
            kept = [value for value in values if keep(statement.decode(value).statement.ref)]
            if kept:
                self.insert(name, kept, 88)
        self.statements = {ref: known for ref, known in self.statements.items() if keep(ref)}
        for line in list(self.lines):
            line.cut()

    async def dial(self) -> Line:
        """A connection to it."""
        if self.silent:
            raise ConnectionError("no network")
        line = Line(self)
        self.lines.add(line)
        return line

    # ---- frames

    def receive(self, line: Line, frame: wire.ToRelay) -> None:
        match frame:
            case wire.Hello(device=device, nonce=nonce):
                line.device, line.nonce = device, nonce
                self.theirs = bytes(16)
                body = wire.handshake_body(device, nonce, self.theirs, RELAY.public)
                line.say(
                    wire.Challenge(
                        wire.PROTOCOL,
                        self.theirs,
                        RELAY.sign(wire.RELAY_PROOF_TAG, body),
                        introduce((), self.relay_key),
                    )
                )
            case wire.Proof():
                for other in [other for other in self.lines if other is not line and other.device == line.device]:
                    other.say(wire.Bye("replaced", "the device has connected anew"))
                    self.lines.discard(other)
                line.open = True
                if self.revocation is not None:
                    line.say(wire.Revoked(self.revocation, True))
                    return
                self.lease += 1
                line.say(wire.Welcome(self.now, self._lease(line), self.numbers.get(line.device, 0), 16, 60))
            case wire.Subscribe(wants=wants):
                for want in wants:
                    self._want(line, want)
            case wire.Unsubscribe(documents=names):
                line.wants.difference_update(names)
            case wire.Push(document=name, update=update):
                self._push(line, name, update)
            case wire.Request(statement=data):
                one = statement.decode(data).statement
                verdict = self._judge(line, data, self.document(one.document))
                line.say(wire.Verdicts(self.now, (encode_verdict(verdict),)))
            case wire.AskVerdicts(refs=refs):
                known = tuple(encode_verdict(self.statements[ref][1]) for ref in refs if ref in self.statements)
                line.say(wire.Verdicts(self.now, known))
            case wire.AskChallenges(count=count):
                values = tuple((len(self.frames_in) * 100 + at).to_bytes(16, "big") for at in range(count))
                line.challenges.update(values)
                line.say(wire.Challenges(values, self.now + 60_000))
            case wire.Renew():
                self.lease += 1
                line.say(wire.LeaseGiven(self.now, self._lease(line)))
            case wire.HandBack(document=name, statements=given):
                self._hand_back(line, name, given)
            case wire.HandOver(statements=given):
                self.handed_over += given
                line.say(wire.HandedOver(len(given), ()))
            case wire.Wiped():
                self.wiped.append(frame)
            case wire.AskDigest(document=name):
                line.say(wire.DigestGiven(self._alone(self.document(name))))
            case wire.ByeRelay():
                line.cut()
            case _:
                raise AssertionError(f"the script has no line for {frame}")

    def _lease(self, line: Line) -> bytes:
        return seal(Lease(line.device, self.lease, self.now, self.now + 10**7, 0, "k" * 16, b""), IDENTITY)

    def _alone(self, document: Document) -> bytes:
        """The signed digest of one document."""
        content = document.replica.digest()
        return seal(DocumentDigest(document.name, document.epoch, document.position, self.now, content), RELAY)

    def _digest(self, document: Document) -> bytes:
        """The signed list of a base."""
        of = DigestOf(document.name, document.epoch, document.position, document.replica.digest())
        return seal(DocumentDigests(self.now, (of,)), RELAY)

    def _want(self, line: Line, want: wire.Want) -> None:
        code = self.evict.get(want.document) or self.evict.get(parse(want.document).scope)
        if code is not None:
            line.say(wire.Evicted(want.document, code))
            return
        line.wants.add(want.document)
        document = self.documents.get(want.document)
        if document is None:
            line.say(wire.Changes((wire.Run(want.document, "", 1, ()),)))
        elif want.epoch == document.epoch and want.position <= document.position:
            missing = tuple(document.updates[want.position :])
            line.say(wire.Changes((wire.Run(document.name, document.epoch, want.position + 1, missing),)))
        else:
            base = wire.BaseState(
                document.name,
                document.epoch,
                document.position,
                document.replica.snapshot(),
            )
            line.say(wire.Bases((base,), self._digest(document), 0))

    def _push(self, line: Line, name: str, data: bytes) -> None:
        parsed = parse(name)
        if parsed.segment is not None and name not in documents.open_segments(parsed.target, self.now):
            raise AssertionError(f"{name} is closed: the script's tests push into today")
        update = read_device_update(data, parsed.root)
        document = self.document(name)
        due = document.replica.state_vector.get(update.client, 0)
        if update.clock != due:
            line.say(wire.Gap(name, update.client, due))
            return
        document.updates.append(b"")
        verdicts = [self._judge(line, value, document) for value in update.values]
        kept = [verdict.status is Status.ACCEPTED and verdict.position == document.position for verdict in verdicts]
        fanned = data if all(kept) else tombstoned(update, kept)
        document.replica.apply(fanned)
        document.updates[-1] = fanned
        line.say(wire.Verdicts(self.now, tuple(encode_verdict(verdict) for verdict in verdicts)))
        self.spread({name: document.position})

    def _judge(self, line: Line, data: bytes, document: Document, inserts: bool = False) -> Verdict:
        signed = statement.decode(data)
        one = signed.statement
        known = self.statements.get(one.ref)
        if known is not None:
            assert statement.same(statement.decode(known[0]).statement, one), "an id was used twice"
            return known[1]
        self.judged.append(one.ref)
        spent = one.challenge is not None and one.challenge not in line.challenges
        said = Judgement(Status.REFUSED, ChallengeSpent()) if spent else self.judge(one)
        verdict = Verdict(
            one.ref,
            said.status,
            self.now,
            document.name,
            document.epoch,
            document.position + (inserts and said.status is Status.ACCEPTED),
            said.reason,
            said.actions,
            said.flags,
        )
        if verdict.final:
            self.statements[one.ref] = (data, verdict)
            self.numbers[one.device] = max(one.number, self.numbers.get(one.device, 0))
        return verdict

    def _hand_back(self, line: Line, name: str, given: Sequence[bytes]) -> None:
        self.handed_back += given
        verdicts = []
        for data in given:
            ref = statement.decode(data).statement.ref
            known = ref in self.statements
            document = self.document(name)
            inserts = not known and parse(name).written_by_devices
            verdict = self._judge(line, data, document, inserts)
            if not known and verdict.status is Status.ACCEPTED and parse(name).written_by_devices:
                self.insert(name, [data], 99)
            verdicts.append(encode_verdict(verdict))
        line.say(wire.Verdicts(self.now, tuple(verdicts)))

    def spread(self, first: dict[str, int]) -> None:
        """Tells every subscriber of what was committed from these positions on."""
        for line in list(self.lines):
            runs = tuple(
                wire.Run(name, self.documents[name].epoch, at, tuple(self.documents[name].updates[at - 1 :]))
                for name, at in first.items()
                if name in line.wants
            )
            if runs:
                line.say(wire.Changes(runs))

    def revoke(self, device: str, now: bool = False) -> None:
        """Takes a device out of service and tells it."""
        self.revocation = seal(Revocation(device, self.now, "lost", now), IDENTITY)
        for line in self.lines:
            line.say(wire.Revoked(self.revocation, not now))
