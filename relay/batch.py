"""One transaction of the relay under way: what admission reads of it, and what its decisions do to it.

Reads answer as of this moment of the batch.  Registers are gathered and written once a document at the end, since each
costs a signature and every device a verification.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from crdtmed.aggregates.registers import RegisterValue, decode_register, register_key
from crdtmed.aggregates.stock_item import Movement
from crdtmed.documents import parse
from crdtmed.ids import ref, to_text
from crdtmed.limits import MAX_DRAWS, MAX_LISTED_BYTES
from crdtmed.policies.server_authoritative import NIL
from crdtmed.signed import Grant
from crdtmed.statement import SignedStatement, Statement, decode
from crdtmed.verdict import Status, Verdict, decode_verdict, encode_verdict
from relay.admission.effects import Alarm
from relay.admission.facts import Stored
from relay.identity.port import Identity, RandomBytes
from relay.live import Held, Live, LiveAuthor, LiveClient, LiveDocument, live_document
from relay.storage.packing import pack, raw_id, words_of
from relay.storage.port import Record
from relay.storage.rebuild import draft_head
from relay.storage.restore import EPOCH_BYTES
from relay.storage.rows import PLACE_OF, STATUS_OF, NewStatement, Place, StatementRow

_COLUMN_OF: Final = {status: int(place) for status, place in PLACE_OF.items()}

CLIENT_BYTES: Final = 4
"""Client ids of the relay have 32 bits: every byte is in every update."""


@dataclass(slots=True)
class Change:
    """What a commit did to a document: updates from position ``first`` on."""

    epoch: str
    first: int
    updates: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """The transaction; `relay.commit` opens and closes it.  It is admission's `FactsPort`.

    ``careful``: every register is held against its model as soon as it is put, so that the statement that wants a wrong
    one is found; else only what is written at the end is, once for all the statements that changed it.

    Until that end it gathers registers by document (``staged``), the ``sums`` of lots and what ``moved`` them, and the
    clients whose clocks ``advanced``.  ``snapshot`` is the name of the knowledge in force, once somebody has asked.
    """

    record: Record
    live: Live
    identity: Identity
    now_ms: int
    random: RandomBytes
    careful: bool = False
    changes: dict[str, Change] = field(default_factory=dict)
    alarms: list[Alarm] = field(default_factory=list)
    staged: dict[str, dict[str, RegisterValue | None]] = field(default_factory=dict)
    sums: dict[tuple[str, str, str], tuple[int, int]] = field(default_factory=dict)
    moved: list[Movement] = field(default_factory=list)
    advanced: dict[int, LiveClient] = field(default_factory=dict)
    snapshot: tuple[str | None] | None = None
    _found: dict[str, Stored | None] = field(default_factory=dict)
    _raw: dict[str, bytes] = field(default_factory=dict)

    # ---- facts ----------------------------------------------------------------------------------------------

    def grant(self, grant_id: str, device: str) -> Grant | None:
        grants = self.live.known.grants
        if grant_id not in grants:
            grants[grant_id] = self.identity.grant(self.record.connection, grant_id)
        grant = grants[grant_id]
        return grant if grant is not None and grant.device == device else None

    def user_withdrawn_at(self, user: str) -> int | None:
        withdrawn = self.live.known.withdrawn
        if user not in withdrawn:
            withdrawn[user] = self.identity.withdrawn_at(self.record.connection, user)
        return withdrawn[user]

    def statement(self, ref: str) -> Stored | None:
        if ref in self._found:
            return self._found[ref]
        row = self.record.statement(ref)
        found = None
        if row is not None:
            verdict = decode_verdict(stored_verdict(self.record, row))
            found = Stored(decode(row.encoded), verdict, row.received_at)
        self._found[ref] = found
        return found

    def expect(self, device: str, ids: Sequence[str]) -> None:
        """These statements of a device are about to be judged: those that are new are found out together."""
        author = self.live.authors.get(device)
        if author is None:
            return
        raw = {ref(device, sid): raw_id(sid) for sid in ids}
        self._raw.update(raw)
        asked = [at for at in raw.values() if at <= author.newest]
        known = self.record.known_statements(author.row, asked) if asked else set()
        self._found.update({name: None for name, at in raw.items() if at not in known})

    def revoked(self, device: str) -> bool:
        """Whether the device is out of service."""
        revoked = self.live.known.revoked
        if device not in revoked:
            revoked[device] = self.identity.revocation(self.record.connection, device) is not None
        return revoked[device]

    def number_holder(self, device: str, number: int) -> str | None:
        if self._author(device).has_none(number):
            return None
        return self.record.number_holder(device, number)

    def awaited_since(self, ref: str) -> int | None:
        return self.awaited().get(ref)

    def awaited(self) -> dict[str, int]:
        """Every statement that was told to wait, and since when."""
        if self.live.awaited is None:
            self.live.awaited = self.record.all_awaited()
        return self.live.awaited

    def register(self, document: str, key: str) -> RegisterValue | None:
        put = self.staged.get(document)
        if put is not None and key in put:
            return put[key]
        return self.held(document, key).value

    def registers(self, document: str, word: str) -> Sequence[RegisterValue]:
        kind = parse(document).kind
        found: dict[str, RegisterValue | None] = {
            row.key: None if row.value == NIL else decode_register(kind, row.key, row.value)
            for row in self.record.registers(document, word)
        }
        found.update({key: value for key, value in self.staged.get(document, {}).items() if key.startswith(word + "/")})
        return [value for _, value in sorted(found.items()) if value is not None]

    def is_full(self, document: str) -> bool:
        live = self.find(document)
        if live is None:
            return False
        if live.listed is None:
            live.listed = self.record.register_bytes(document)
        return live.listed > MAX_LISTED_BYTES

    def position(self, document: str) -> int:
        live = self.find(document)
        stands = 0 if live is None else live.position
        return stands + 1 if self.staged.get(document) else stands

    def draft(self, patient: str, prescription: str) -> Sequence[Statement]:
        return [decode(row.encoded).statement for row in self.draft_rows(patient, prescription)]

    def note(self, kind: str, key: str) -> bytes | None:
        return self.record.note(kind, key)

    def snapshot_in_force(self) -> str | None:
        if self.snapshot is None:
            self.snapshot = (self.identity.snapshot_in_force(self.record.connection),)
        return self.snapshot[0]

    # ---- documents ------------------------------------------------------------------------------------------

    def find(self, name: str) -> LiveDocument | None:
        """A document, if anything was ever committed to it."""
        live = self.live.documents.get(name)
        if live is not None:
            self.live.documents.move_to_end(name)
            return live
        row = self.record.document(name)
        if row is None:
            return None
        live = self.live.documents[name] = live_document(row, self.record)
        return live

    def open(self, name: str) -> LiveDocument:
        """A document, made at a fresh epoch where there is none."""
        live = self.find(name)
        if live is None:
            row = self.record.add_document(name, to_text(self.random(EPOCH_BYTES)))
            live = self.live.documents[name] = live_document(row, self.record)
        return live

    def held(self, document: str, key: str) -> Held:
        """A register as the last commit left it."""
        at = (document, key)
        held = self.live.registers.get(at)
        if held is not None:
            self.live.registers.move_to_end(at)
            return held
        row = self.record.register(document, key)
        if row is None:
            held = Held(0, None)
        else:
            value = None if row.value == NIL else decode_register(parse(document).kind, key, row.value)
            held = Held(row.version, value)
        self.live.registers[at] = held
        return held

    def author(self, device: str) -> int:
        """The row of a device that says something."""
        return self._author(device).row

    def _author(self, device: str) -> LiveAuthor:
        held = self.live.authors.get(device)
        if held is None:
            held = self.live.authors[device] = LiveAuthor(*self.record.author(device))
        return held

    def fresh_client(self, live: LiveDocument) -> int:
        """A client id that the document has never seen."""
        known = live.replica.state_vector if live.replica is not None else live.clients
        for _ in range(MAX_DRAWS):
            client = int.from_bytes(self.random(CLIENT_BYTES), "big")
            if client not in known:
                return client
        raise RuntimeError(f"no free client id of {live.name} was drawn; the source of random bytes is broken")

    def bind(self, live: LiveDocument, client: int, author: int | None, origin: tuple[int, int] | None) -> LiveClient:
        """A new client id of a document, bound to its device, or to the relay."""
        row = self.record.add_client(live.id, client, author, origin)
        made = live.clients[client] = LiveClient(row, author, 0)
        return made

    def changed(self, live: LiveDocument, update: bytes) -> int:
        """The next position of a document, at which ``update`` is; gives the position."""
        change = self.changes.get(live.name)
        if change is None:
            change = self.changes[live.name] = Change(live.epoch, live.position + 1)
        change.updates.append(update)
        live.position += 1
        return live.position

    def take_clocks(self, client: LiveClient, length: int) -> int:
        """The first of ``length`` clocks that a client now has taken."""
        first, client.clock = client.clock, client.clock + length
        self.advanced[client.row] = client
        return first

    # ---- what decisions do ----------------------------------------------------------------------------------

    def keep(
        self,
        signed: SignedStatement,
        verdict: Verdict,
        target: LiveDocument,
        position: int,
        place: tuple[LiveClient, int] | None,
    ) -> bytes:
        """Records a statement with its final verdict; gives the verdict's bytes."""
        statement, name, author = signed.statement, verdict.ref, self._author(signed.statement.device)
        sid = self._raw.get(name) or raw_id(statement.id)
        encoded = encode_verdict(verdict)
        # Where nothing was written, the document may stand where the epoch before its own ended.
        wrote = place is not None or position > target.position
        says_more = verdict.reason or verdict.actions or verdict.flags
        plain = verdict.status is Status.ACCEPTED and wrote and not says_more
        client, clock = place or (None, None)
        self.record.add_statement(
            NewStatement(
                author.row,
                sid,
                statement.number,
                target.id,
                position,
                None if client is None else client.row,
                clock,
                self.now_ms,
                _COLUMN_OF[verdict.status],
                None if plain else encoded,
                self._packed(signed, target.document.target, client),
            )
        )
        self._found[name] = Stored(signed, verdict, self.now_ms)
        author.took(statement.number, sid)
        if name in self.awaited():
            self.record.drop_awaited(name)
            del self.awaited()[name]
        return encoded

    def _packed(self, signed: SignedStatement, target: str, client: LiveClient | None) -> bytes:
        """What is kept of a statement; the first of a client gives the words for all of them."""
        if client is not None and client.words is None:
            client.words = words_of(signed, target)
            if client.words is not None:
                self.record.put_words(client.row, client.words)
        return pack(signed, target, None if client is None else client.words)

    def put(self, document: str, value: RegisterValue) -> None:
        """Writes a register, for those who are not admission: imports, the operator."""
        self.stage(document, register_key(value), value, [])

    def withdraw(self, document: str, key: str) -> None:
        """Withdraws a register, if there is one."""
        if self.register(document, key) is not None:
            self.stage(document, key, None, [])

    def alarm(self, kind: str, device: str, says: str) -> None:
        """Something that the operator has to see."""
        self.record.add_alarm(self.now_ms, kind, device, says)
        self.alarms.append(Alarm(kind, device, says))

    def stage(self, document: str, key: str, value: RegisterValue | None, undo: list[Callable[[], object]]) -> None:
        put = self.staged.setdefault(document, {})
        if key in put:
            before = put[key]
            undo.append(lambda: put.__setitem__(key, before))
        else:
            undo.append(lambda: put.pop(key))
        put[key] = value

    def draft_rows(self, patient: str, prescription: str) -> list[StatementRow]:
        live = self.find(f"patient/{patient}/drafts")
        if live is None:
            return []
        return [
            row
            for row in self.record.statements_of(live.id, 0, live.position)
            if row.place is Place.ACCEPTED and draft_head(row.encoded)[0] == prescription
        ]


def stored_verdict(record: Record, row: StatementRow) -> bytes:
    """A row's verdict, word for word: as it was kept, or made again from a row that says all of it."""
    if row.verdict is not None:
        return row.verdict
    document = record.document(row.document)
    assert document is not None
    epoch = record.epoch_at(document.id, row.position)
    return encode_verdict(Verdict(row.ref, STATUS_OF[row.place], row.received_at, row.document, epoch, row.position))
