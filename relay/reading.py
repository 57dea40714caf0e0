"""Reads of the record beside the writer: bases, what somebody lacks, verdicts, digests, and who may see what.

One reader has a connection of its own and is used by one thread at a time.  Each public read is one transaction, so
that what it says belongs to one moment.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import msgspec

from crdtmed.aggregates.patient import care_sites_of
from crdtmed.aggregates.prescription import PrescriptionRegister
from crdtmed.documents import BadName, Document, DocumentKind, map_digest, parse
from crdtmed.limits import BASE_CACHE_BYTES, KEPT_DIGESTS, MAX_CATCH_UP_UPDATES
from crdtmed.signed import Certificate, DigestOf, DocumentDigest, DocumentDigests, Revocation, seal
from crdtmed.updates import Root, read_relay_update
from crdtmed.wire.frames import BaseState, Run, Want
from relay.admission.admit import question
from relay.admission.facts import KnowledgeQuestion, submitted
from relay.batch import Batch, stored_verdict
from relay.identity.port import Identity, RandomBytes
from relay.live import Live
from relay.registers import load_replica
from relay.session_events import Said
from relay.storage.port import Record
from relay.storage.rebuild import Base, base, updates
from relay.storage.rows import DocumentRow

CHUNK_BYTES: Final = 524_288
"""How much one read gathers for one connection before it lets others have their turn."""
AT_ONCE: Final = 64
"""Documents that are looked up together."""
SMALL_BYTES: Final = 8_192
"""A first change that is kept in as many is read together with those of other documents."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What one wanted document gets: a whole base with its digest, a run of updates, or a code why not."""

    document: str
    epoch: str
    position: int
    base: BaseState | None = None
    digest: DigestOf | None = None
    run: Run | None = None
    refused: str | None = None

    @property
    def size(self) -> int:
        """Its bytes, about."""
        if self.base is not None:
            return len(self.base.update)
        return sum(map(len, self.run.updates)) if self.run is not None else 0


@dataclass(frozen=True, slots=True)
class Answers:
    """What the first wants of a connection get; ``digests`` is the signed list of the whole bases, if there are any."""

    each: tuple[Answer, ...]
    digests: bytes


class Reader:
    """Reads on a connection of its own."""

    def __init__(self, record: Record, identity: Identity, now: Callable[[], int], random: RandomBytes) -> None:
        self._record = record
        self._identity = identity
        self._now = now
        self._random = random
        self._bases: OrderedDict[str, tuple[BaseState, DigestOf]] = OrderedDict()
        self._held = 0
        self._signed: OrderedDict[tuple[bytes, DigestOf | tuple[DigestOf, ...]], bytes] = OrderedDict()

    @contextmanager
    def _moment(self) -> Iterator[Batch]:
        """One consistent view; a batch that is never finished serves as its facts."""
        connection = self._record.connection
        connection.execute("BEGIN")
        try:
            yield Batch(self._record, Live(), self._identity, self._now(), self._random)
        finally:
            connection.execute("ROLLBACK")

    # ---- who --------------------------------------------------------------------------------------------------

    def identify(self, device: str) -> tuple[Certificate | None, tuple[Revocation, bytes] | None, bool]:
        """A device's certificate, its revocation, and whether it may still hand over."""
        with self._moment():
            connection = self._record.connection
            revocation = self._identity.revocation(connection, device)
            may = revocation is not None and self._identity.may_hand_over(connection, device)
            return self._identity.certificate(connection, device), revocation, may

    def certificates(self, devices: Sequence[str]) -> dict[str, Certificate | None]:
        """The certificates of authors."""
        with self._moment():
            return {device: self._identity.certificate(self._record.connection, device) for device in devices}

    def revoked(self, devices: Sequence[str]) -> dict[str, tuple[bytes, bool]]:
        """Those of the devices that are out of service: the signed revocation, and whether they may hand over."""
        with self._moment():
            connection = self._record.connection
            found = {device: self._identity.revocation(connection, device) for device in devices}
            return {
                device: (revocation[1], self._identity.may_hand_over(connection, device))
                for device, revocation in found.items()
                if revocation is not None
            }

    # ---- documents --------------------------------------------------------------------------------------------

    def answers(self, device: str, wants: Sequence[Want]) -> Answers:
        """What to send for the first of ``wants``, as many as make a chunk; at least one."""
        made: list[Answer] = []
        size = 0
        with self._moment() as batch:
            access = self._access(device, batch)
            for answer in self._answers(access, wants):
                made.append(answer)
                size += answer.size
                if size >= CHUNK_BYTES:
                    break
        # A document that is wanted twice stands in the list once.
        distinct = tuple(dict.fromkeys(answer.digest for answer in made if answer.digest is not None))
        digests = self._sign(distinct, DocumentDigests(self._now(), distinct)) if distinct else b""
        return Answers(tuple(made), digests)

    def refusals(self, device: str, documents: Sequence[str]) -> dict[str, str]:
        """Which of the documents the device may not see, and why."""
        with self._moment() as batch:
            access = self._access(device, batch)
            access.look_up(documents)
            found = {document: access.refusal(document) for document in documents}
        return {document: refused for document, refused in found.items() if refused is not None}

    def positions(self) -> dict[str, int]:
        """Where every document stands."""
        with self._moment():
            return self._record.documents()

    def digest(self, document: str) -> bytes | None:
        """The signed digest of a document as it stands; None where nothing was ever committed to it."""
        with self._moment():
            row = self._record.document(document)
            if row is None:
                return None
            of = self._base(row, None)[1]
        return self._sign(of, DocumentDigest(of.document, of.epoch, of.position, self._now(), of.content))

    def _access(self, device: str, batch: Batch) -> "_Access":
        return _Access(batch, self._identity.sites(self._record.connection, device, batch.now_ms))

    def _answers(self, access: "_Access", wants: Sequence[Want]) -> Iterator[Answer]:
        """One answer each, as far as the caller takes them."""
        for first in range(0, len(wants), AT_ONCE):
            part = wants[first : first + AT_ONCE]
            names = [want.document for want in part]
            access.look_up(names)
            rows = self._record.documents_named(names)
            fresh = [row.id for row in rows.values() if _has_one_change(row) and row.name not in self._bases]
            changes = self._record.first_changes(fresh, SMALL_BYTES)
            for want in part:
                refused = access.refusal(want.document)
                row = rows.get(want.document)
                if refused is not None:
                    yield Answer(want.document, "", 0, refused=refused)
                elif row is None:
                    # Nothing was ever committed to it: of a patient's documents mostly two of three.
                    yield Answer(want.document, "", 0, run=Run(want.document, "", 1, ()))
                else:
                    yield self._answer(want, row, changes.get(row.id))

    def _answer(self, want: Want, row: DocumentRow, first: bytes | None) -> Answer:
        """What of a document, whose only change ``first`` may be at hand, is lacking."""
        lacks = row.position - want.position
        continues = want.epoch == row.epoch and row.floor <= want.position <= row.position
        if continues and lacks <= MAX_CATCH_UP_UPDATES:
            parts = tuple(self._updates(row, want.position)) if lacks else ()
            run = Run(row.name, row.epoch, want.position + 1, parts)
            return Answer(row.name, row.epoch, row.position, run=run)
        state, digest = self._base(row, first)
        return Answer(row.name, row.epoch, row.position, base=state, digest=digest)

    def _updates(self, row: DocumentRow, after: int) -> list[bytes]:
        document = parse(row.name)
        changes = self._record.changes(row.id, after, row.position)
        if not document.written_by_devices:
            return updates(document.root, (), (), changes, after, row.position)
        found = self._record.slots_of(row, after)
        return updates(document.root, self._record.clients(row.id), found, changes, after, row.position)

    def _base(self, row: DocumentRow, first: bytes | None) -> tuple[BaseState, DigestOf]:
        held = self._bases.get(row.name)
        if held is not None and (held[0].epoch, held[0].position) == (row.epoch, row.position):
            self._bases.move_to_end(row.name)
            return held
        made = whole(self._record, row, first)
        state = BaseState(row.name, row.epoch, row.position, made.update)
        found = (state, DigestOf(row.name, row.epoch, row.position, made.digest))
        self._forget(row.name)
        self._bases[row.name] = found
        self._held += len(state.update)
        while self._held > BASE_CACHE_BYTES and self._bases:
            self._forget(next(iter(self._bases)))
        return found

    def _forget(self, name: str) -> None:
        held = self._bases.pop(name, None)
        if held is not None:
            self._held -= len(held[0].update)

    def _sign(self, what: DigestOf | tuple[DigestOf, ...], value: DocumentDigest | DocumentDigests) -> bytes:
        """``value`` signed, or as the same key signed the same digests before."""
        signer = self._identity.relay_signer
        key = (signer.public, what)
        held = self._signed.get(key)
        if held is None:
            held = self._signed[key] = seal(value, signer)
            if len(self._signed) > KEPT_DIGESTS:
                self._signed.popitem(last=False)
        else:
            self._signed.move_to_end(key)
        return held

    # ---- statements -------------------------------------------------------------------------------------------

    def verdicts(self, refs: Sequence[str]) -> list[bytes]:
        """The stored verdicts of these statements; unknown ones are left out."""
        with self._moment():
            rows = [self._record.statement(ref) for ref in refs]
            return [stored_verdict(self._record, row) for row in rows if row is not None]

    def question(self, said: Said) -> KnowledgeQuestion | None:
        """What to ask the knowledge base about a request."""
        with self._moment() as batch:
            return question(batch, submitted(said.signed, said.content, None, batch.now_ms, said.challenge))


def whole(record: Record, row: DocumentRow, first: bytes | None = None) -> Base:
    """A document whole, out of the record; ``first`` is its only change, where that is at hand."""
    document = parse(row.name)
    if document.written_by_devices:
        return base(document.root, record.clients(row.id), record.slots_of(row))
    if _has_one_change(row):
        changes = [(1, first)] if first is not None else record.changes(row.id, 0, 1)
        for _, update in changes:
            # It is that change, for which it takes no pycrdt document, unless the bytes do not tell what they hold.
            content = read_relay_update(update, Root.MAP, {}).alone(Root.MAP)
            if isinstance(content, dict):
                return Base(update, map_digest(content))
    replica = load_replica(record, document, 1)
    return Base(replica.snapshot(), replica.digest())


def _has_one_change(row: DocumentRow) -> bool:
    """Whether it may be a document of the relay's with one change so far."""
    return row.position == 1 and not row.snapshot_position


class _Access:
    """What the sites of a device's grants open."""

    def __init__(self, batch: Batch, sites: frozenset[str]) -> None:
        self._batch = batch
        self._sites = sites
        self._care: dict[str, bytes] = {}
        self._patients: dict[str, str | None] = {}

    def look_up(self, names: Iterable[str]) -> None:
        """These documents are about to be asked about: what that rests on is read together."""
        scopes = {f"patient/{name.split('/', 2)[1]}": None for name in names if name.startswith("patient/")}
        new = [scope for scope in scopes if scope not in self._patients]
        self._care.update(self._batch.record.registers_under("patient", new))

    def refusal(self, name: str) -> str | None:
        """Why the document is not for it, which was looked up; None where it is."""
        try:
            document = parse(name)
        except BadName:
            return "unknown_document"
        if document.kind in (DocumentKind.DIRECTORY, DocumentKind.FORMULARY):
            return None
        if document.kind in (DocumentKind.SITE, DocumentKind.SITE_LOG):
            return None if document.scope_id in self._sites else "site_not_granted"
        if document.scope not in self._patients:
            self._patients[document.scope] = self._patient(document)
        return self._patients[document.scope]

    def _patient(self, document: Document) -> str | None:
        register = self._care.pop(document.scope, None)
        sites = None if register is None else care_sites_of(register)
        if sites is None:
            return "unknown_document" if self._sites else "patient_not_in_care"
        if not self._sites.isdisjoint(sites):
            return None
        prescriptions = self._batch.registers(document.scope, "prescription")
        served = {each.site for each in prescriptions if isinstance(each, PrescriptionRegister)}
        return "patient_not_in_care" if self._sites.isdisjoint(served) else None
