"""What is known of an example: what was said, what is on record, what each device has of it; and whether all agree."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from msgspec import to_builtins

from crdtmed.device.device import Device
from crdtmed.device.engine import Said
from tests.stateful.model import Model
from tests.stateful.shown import wrong
from tests.stateful.ward import CREW, PATIENTS, Ward, lots
from tests.stateful.words import DRAFT_WRITE, RECEIPT, Judged, Word, read


@dataclass(eq=False)
class Witness:
    """Remembers and compares.

    ``model`` follows the record, ``seen`` is the model as an offline device has it; ``said`` is what devices confirmed,
    ``told`` what they told of it, ``signed`` the prescriptions as they were signed.  ``judged`` counts outcomes.
    """

    ward: Ward
    judged: Counter[str]
    model: Model = field(default_factory=lambda: Model(lots()))
    rows: dict[int, Judged] = field(default_factory=dict)
    seen: dict[str, Model] = field(default_factory=dict)
    said: dict[str, tuple[str, Word]] = field(default_factory=dict)
    signed: dict[str, Any] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)

    def note(self, name: str, said: Any) -> None:
        """Keeps what a device confirmed, by its bytes where they are still in the outbox."""
        device = self.ward.device(name)
        queued = {one.signed.statement.ref: one.signed.encoded for one in device.outbox()}
        for one in said if isinstance(said, tuple) else (said,):
            assert isinstance(one, Said)
            raw = queued.get(one.ref)
            if raw is None:
                raw = next(row.word.raw for row in self.ward.record().rows if row.word.ref == one.ref)
            self.said[one.ref] = (name, read(raw))

    def pending(self, name: str) -> list[Word]:
        """What a device said and the record does not have."""
        on_record = {row.word.ref for row in self.rows.values()}
        return [word for ref, (of, word) in self.said.items() if of == name and ref not in on_record]

    def shown(self, name: str) -> Model:
        """The model as a device has it."""
        return self.seen.get(name, self.model)

    def drafts(self, name: str) -> dict[str, dict[str, Word]]:
        """The drafts on a device: the writes of each."""
        seen = self.shown(name)
        found = {rx: dict(words) for rx, words in seen.writes.items() if rx not in seen.orders}
        for word in self.pending(name):
            if word.kind == DRAFT_WRITE and word.content["prescription"] not in seen.orders:
                found.setdefault(word.content["prescription"], {})[word.ref] = word
        return found

    def draft(self, name: str, pick: int) -> tuple[str, str, dict[str, Word]] | None:
        """One of the drafts on a device: its id, its patient, its writes."""
        found = self.drafts(name)
        if not found:
            return None
        rx = list(found)[pick % len(found)]
        return rx, next(iter(found[rx].values())).scope, found[rx]

    def orders(self, name: str, pick: int, *statuses: str) -> tuple[str, str] | None:
        """One of the signed prescriptions on a device, and its patient."""
        seen = self.shown(name)
        found = [rx for rx, order in seen.orders.items() if not statuses or order.status in statuses]
        return (found[pick % len(found)], seen.orders[found[pick % len(found)]].patient) if found else None

    def lot(self, name: str, pick: int) -> tuple[str, str]:
        """One of the lots that a device knows: item and lot."""
        known = set(self.shown(name).lots)
        known |= {(it.content["item"], it.content["lot"]) for it in self.pending(name) if it.kind == RECEIPT}
        return sorted(known)[pick % len(known)]

    async def compare(self) -> None:
        """Takes what is new on record, and holds everything that is shown against it."""
        record = self.ward.record()
        self._judge(record.rows)
        wanted = {key: (lot.on_hand, lot.shortage) for key, lot in self.model.lots.items()}
        assert record.stock == wanted, f"the books say {record.stock}, the rules {wanted}"
        assert record.sums == wanted, f"the ledger adds up to {record.sums}, the rules to {wanted}"
        found: list[str] = []
        for name in CREW:
            if self.ward.reachable(name):
                self.seen.pop(name, None)
                assert not self.pending(name), f"{name} confirmed {self.pending(name)}, and they are on no record"
            device = self.ward.device(name)
            found += await wrong(device, name, self.shown(name), self.pending(name), PATIENTS)
            await self._told(name, device)
            for patient in PATIENTS:
                self._immutable(name, (await device.patient(patient)).prescriptions)
        assert not found, "\n".join(found)

    def _judge(self, rows: Iterable[Judged]) -> None:
        """Takes what is new on record; what was there is as it was."""
        refs: set[str] = set()
        for row in rows:
            assert row.word.ref not in refs, f"{row.word.ref} is on record twice"
            refs.add(row.word.ref)
            before = self.rows.get(row.row)
            self.rows[row.row] = row
            if before is not None:
                same = (before.word, before.status, before.verdict) == (row.word, row.status, row.verdict)
                assert same, f"{row.word.ref} was {before.status}, and is {row.status} now"
                continue
            said = self.said.get(row.word.ref)
            assert said is None or said[1].means == row.word.means, f"{row.word.ref} is not what was said"
            problem = self.model.take(row)
            assert problem is None, problem
            self.judged[f"{row.word.kind} {row.status} {row.code}".strip()] += 1
        assert len(refs) == len(self.rows), "statements are gone from the record"

    async def _told(self, name: str, device: Device) -> None:
        """What a device tells of its own statements is what the record says, for ever; what went wrong was told."""
        verdicts = {row.word.ref: (row.status, row.code) for row in self.rows.values()}
        entries = {one.statement.statement.ref for one in await device.inbox(closed=True) if one.statement is not None}
        for ref, (of, _) in self.said.items():
            if of != name:
                continue
            state = str(await device.said(ref).state())
            if state == "pending":
                assert ref not in self.told, f"{ref} was {self.told[ref]}, and is pending again"
                assert not self.ward.reachable(name), f"{ref} is pending on {name}, which is online"
                continue
            assert self.told.setdefault(ref, state) == state, f"{ref} was {self.told[ref]}, and is {state}"
            assert ref in verdicts, f"{name} confirmed {ref}, and it is on no record and in no outbox ({state})"
            assert verdicts[ref][0] == state, f"{name} tells {ref} as {state}, the record says {verdicts[ref]}"
            assert state == "accepted" or ref in entries, f"{name} told nobody that {ref} is {verdicts[ref]}"

    def _immutable(self, name: str, prescriptions: Iterable[Any]) -> None:
        """What was signed stays as it was signed."""
        for one in prescriptions:
            it = one.register
            fixed = to_builtins((it.groups, it.prescriber, it.signed_by, it.signed_at, it.authorised, it.unit, it.site))
            assert self.signed.setdefault(it.id, fixed) == fixed, f"{name} shows {it.id} otherwise than it was signed"
