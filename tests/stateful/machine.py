"""People in a hospital, as a Hypothesis state machine: what they do, in any order, on real devices and a real relay.

After each step whoever can reach the relay settles, and everything that is on record or shown is compared with the
model (`tests.stateful.model`, `tests.stateful.shown`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec import to_builtins

from crdtmed.aggregates.alert_override_record import OverrideReason
from crdtmed.aggregates.conflict import Action
from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.prescription_draft import DraftStatus, Instructions, Supply, Timing
from crdtmed.aggregates.reconciliation_session import Decision, HomeMedication
from crdtmed.aggregates.stock_item import AdjustReason
from crdtmed.device.device import Device
from crdtmed.device.engine import Said
from crdtmed.device.engine_types import DeviceError
from crdtmed.device.pin import PinRefused
from tests.scenarios.hospital import AMOXICILLIN, PARACETAMOL, PATIENCE_S, mg, ordered
from tests.stateful import drafts
from tests.stateful.model import Model
from tests.stateful.shown import wrong
from tests.stateful.ward import CREW, PATIENTS, Template, Ward, day, lots, new_folder, somebody
from tests.stateful.words import (
    ADMINISTER,
    CORRECT,
    DISPENSE,
    DRAFT_WRITE,
    OPEN,
    RECEIPT,
    RESOLVE,
    Judged,
    Word,
    bottom,
    read,
)

TABLET = st.sampled_from(["tablet-1", "tablet-2"])
TILL = st.sampled_from(["till-1", "till-2"])
ANY = st.sampled_from(sorted(CREW))
PICK = st.integers(0, 11)
HOMES = (HomeMedication("h1", "Ramipril 5 mg"), HomeMedication("h2", "Metformin 500 mg"))


class Machine(RuleBasedStateMachine):
    """One example.  ``seen`` is the model as far as each device has the record; ``said`` what it confirmed."""

    template: ClassVar[Template]
    base: ClassVar[Path]
    examples: ClassVar[int] = 0
    steps: ClassVar[int] = 0
    judged: ClassVar[dict[str, int]] = {}
    slowest_s: ClassVar[float] = 0.0

    def __init__(self) -> None:
        super().__init__()
        type(self).examples += 1
        self.runner = asyncio.Runner()
        self.ward = Ward(self.template, new_folder(self.base))
        self.model = Model(lots())
        self.rows: dict[int, Judged] = {}
        self.seen: dict[str, Model] = {}
        self.said: dict[str, tuple[str, Word]] = {}
        self.signed: dict[str, Any] = {}
        self.told: dict[str, str] = {}
        self.tries: dict[str, int] = {}
        try:
            self.run(self._begin())
        except BaseException:
            self._end()
            raise

    def run(self, act: Coroutine[Any, Any, Any]) -> Any:
        """Does something, in bounded time."""

        async def bounded() -> Any:
            async with asyncio.timeout(2 * PATIENCE_S):
                return await act

        return self.runner.run(bounded())

    async def _begin(self) -> None:
        await self.ward.start()
        for name in CREW:
            await self.ward.open(name)

    # ---- saying -------------------------------------------------------------------------------------------

    def do(self, name: str, user: str, act: Callable[[Device], Awaitable[Any]], *expected: str) -> None:
        """Somebody says something on a device, which succeeds, or fails at once with one of the ``expected`` codes.

        With codes expected it must fail; nothing may be in the outbox then that was not there before.
        """

        async def step() -> None:
            device = self.ward.device(name)
            device.use(self.ward.template.grants[name, user])
            before = _outbox(device)
            failed, said = await _tried(act(device))
            assert (failed.code if failed else "") in (expected or ("",)), f"{name}: {failed}, expected was {expected}"
            if failed is None:
                self._note(name, said)
            else:
                assert _outbox(device) <= before, f"{name} said something in spite of {failed}"

        self.run(step())

    def _note(self, name: str, said: Any) -> None:
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

    def needs(self, name: str) -> tuple[str, ...]:
        """What a verb that needs the relay fails with."""
        return () if self.ward.reachable(name) else ("needs_relay",)

    # ---- prescribing --------------------------------------------------------------------------------------

    def _drafts(self, name: str) -> dict[str, dict[str, Word]]:
        seen = self.shown(name)
        found = {rx: dict(words) for rx, words in seen.writes.items() if rx not in seen.orders}
        for word in self.pending(name):
            if word.kind == DRAFT_WRITE and word.content["prescription"] not in seen.orders:
                found.setdefault(word.content["prescription"], {})[word.ref] = word
        return found

    def _draft(self, name: str, pick: int) -> tuple[str, str, dict[str, Word]] | None:
        """One of the drafts on a device: its id, its patient, its writes."""
        found = self._drafts(name)
        if not found:
            return None
        rx = list(found)[pick % len(found)]
        return rx, next(iter(found[rx].values())).scope, found[rx]

    @rule(
        name=TABLET,
        patient=st.sampled_from(PATIENTS),
        item=st.booleans(),
        dose=st.sampled_from(["500", "2000"]),
        units=st.sampled_from([15, 40]),
    )
    def writes_an_order(self, name: str, patient: str, item: bool, dose: str, units: int) -> None:
        """A whole order as a draft; two grams of paracetamol three times a day are too much."""
        medication, unit = (AMOXICILLIN, "{capsule}") if item else (PARACETAMOL, "{tablet}")

        async def write(device: Device) -> tuple[Said, ...]:
            before = _outbox(device)
            await ordered(device, patient, medication=medication, dose=mg(dose), units=units, unit=unit)
            return tuple(device.said(ref) for ref in sorted(_outbox(device) - before))

        self.do(name, somebody(name, "prescriber"), write)

    @rule(
        name=TABLET, pick=PICK, what=st.sampled_from(["dose", "timing", "text", "supply", "both", "aside"]), high=PICK
    )
    def changes_a_draft(self, name: str, pick: int, what: str, high: int) -> None:
        """Some groups of a draft are written again."""
        found = self._draft(name, pick)
        if found is None:
            return
        rx, patient, words = found
        unit = drafts.merged(words.values())["supply"].value["unit"]
        values: dict[str, dict[str, Any]] = {
            "dose": {"dose": mg(str(250 + 250 * (high % 3)))},
            "timing": {"timing": Timing(frequency=2 + high % 2, period="1", period_unit="d")},
            "text": {"instructions": Instructions(f"With water, {high}.")},
            "supply": {"supply": Supply(10 + high, unit, high % 2, "pharm")},
            "both": {"dose": mg("750"), "instructions": Instructions("750 mg, with food.")},
            "aside": {"status": DraftStatus("entered-in-error")} if high > 8 else {"dose": mg("500")},
        }
        self.do(name, somebody(name, "prescriber"), lambda device: device.draft(patient, rx).set(**values[what]))

    @rule(pick=PICK, what=st.sampled_from(["dose", "timing", "text"]))
    def both_tablets_change_a_draft(self, pick: int, what: str) -> None:
        """Two prescribers write one group of one draft, and not the same."""
        for high, name in enumerate(("tablet-1", "tablet-2")):
            self.changes_a_draft(name, pick, what, high)

    @rule(name=TABLET, pick=PICK)
    def confirms(self, name: str, pick: int) -> None:
        """What waits in a draft is confirmed: then nothing does."""
        found = self._draft(name, pick)
        if found is None:
            return
        rx, patient, _ = found
        self.do(name, somebody(name, "prescriber"), lambda device: device.draft(patient, rx).confirm())
        again = self._drafts(name)[rx]
        assert not drafts.unsettled(drafts.merged(again.values())), f"{rx} is unsettled after {name} confirmed it"

    @rule(name=TABLET, pick=PICK)
    def signs(self, name: str, pick: int) -> None:
        """A draft is signed."""
        found = self._draft(name, pick)
        if found is None:
            return
        rx, patient, words = found
        expected = self.needs(name) if drafts.signable(drafts.merged(words.values())) else ("draft_not_ready",)
        self.do(name, somebody(name, "prescriber"), lambda device: device.sign(device.draft(patient, rx)), *expected)

    def _orders(self, name: str, pick: int, *statuses: str) -> tuple[str, str] | None:
        """One of the signed prescriptions on a device, and its patient."""
        seen = self.shown(name)
        found = [rx for rx, order in seen.orders.items() if not statuses or order.status in statuses]
        return (found[pick % len(found)], seen.orders[found[pick % len(found)]].patient) if found else None

    @rule(name=TABLET, pick=PICK, dose=st.sampled_from(["250", "1000"]))
    def amends(self, name: str, pick: int, dose: str) -> None:
        """An amendment is drafted and signed in one go."""
        found = self._orders(name, pick)
        if found is None:
            return
        prior, patient = found

        async def begin(device: Device) -> tuple[Said, ...]:
            before = _outbox(device)
            new = await device.start_amendment(patient, prior)
            await new.set(dose=mg(dose))
            await new.confirm()
            self.amending = new.prescription
            return tuple(device.said(ref) for ref in sorted(_outbox(device) - before))

        self.do(name, somebody(name, "prescriber"), begin)
        self.run(self.ward.settle())
        self.run(self._compare())
        rx = self.amending
        self.do(
            name,
            somebody(name, "prescriber"),
            lambda device: device.amend(device.draft(patient, rx), prior, "another dose"),
            *self.needs(name),
        )

    @rule(name=TABLET, pick=PICK, what=st.sampled_from(["stop", "hold", "resume"]))
    def stops_holds_resumes(self, name: str, pick: int, what: str) -> None:
        """Stopping and holding may wait; resuming needs the relay."""
        found = self._orders(name, pick)
        if found is None:
            return
        rx, patient = found
        verbs: dict[str, Callable[[Device], Awaitable[Said]]] = {
            "stop": lambda device: device.stop(patient, rx, "rash"),
            "hold": lambda device: device.hold_prescription(patient, rx, "surgery"),
            "resume": lambda device: device.resume(patient, rx, "surgery over"),
        }
        self.do(name, somebody(name, "prescriber"), verbs[what], *(self.needs(name) if what == "resume" else ()))

    @rule(name=TABLET, pick=PICK)
    def overrides(self, name: str, pick: int) -> None:
        """Every alert that the relay raised on a draft is overridden with a reason."""
        found = self._draft(name, pick)
        if found is None or found[0] not in self.shown(name).alerted:
            return
        rx, patient, _ = found

        async def override(device: Device) -> tuple[Said, ...]:
            cards = (await device.patient(patient)).alerts[rx].cards
            reason = next(iter(OverrideReason))
            return tuple([await device.override(patient, rx, card.id, reason, "needed") for card in cards])

        self.do(name, somebody(name, "prescriber"), override, *self.needs(name))

    # ---- the pharmacy -------------------------------------------------------------------------------------

    def _lot(self, name: str, pick: int) -> tuple[str, str]:
        known = set(self.shown(name).lots)
        known |= {(it.content["item"], it.content["lot"]) for it in self.pending(name) if it.kind == RECEIPT}
        return sorted(known)[pick % len(known)]

    @rule(name=TILL, pick=PICK, lot=PICK, quantity=st.sampled_from([1, 5, 15, 30]), handed=st.booleans())
    def dispenses(self, name: str, pick: int, lot: int, quantity: int, handed: bool) -> None:
        """Something is taken from a lot for a prescription."""
        found = self._orders(name, pick)
        if found is None:
            return
        rx, patient = found
        item = self.shown(name).orders[rx].values["medication"]["code"]
        lots_ = sorted(lot for of, lot in {*self.shown(name).lots, self._lot(name, lot)} if of == item)

        def dispense(device: Device) -> Awaitable[Said]:
            chosen = lots_[lot % len(lots_)] if lot < 10 else "none"
            return device.dispense(patient, rx, lot=chosen, quantity=quantity, handed_over=handed)

        self.do(name, somebody(name, "pharmacist"), dispense)

    @rule(
        name=TILL,
        item=st.sampled_from(["amox-500", "para-500"]),
        lot=st.sampled_from(["A1", "N1", "N2"]),
        note=st.sampled_from(["LS-1", "LS-2"]),
        quantity=st.sampled_from([5, 50]),
        expiry=st.sampled_from(["2099-12-31", "2020-01-31"]),
    )
    def receives(self, name: str, item: str, lot: str, note: str, quantity: int, expiry: str) -> None:
        """Goods come; the same delivery note twice may be one delivery."""

        def receive(device: Device) -> Awaitable[Said]:
            return device.receive(
                "pharm",
                supplier="Wholesale",
                delivery_note=note,
                item=item,
                lot=lot,
                quantity=quantity,
                expiry=day(expiry),
            )

        self.do(name, CREW[name][quantity % 2], receive)

    @rule(pick=PICK, lot=PICK, quantity=st.sampled_from([15, 20]), handed=st.booleans())
    def both_tills_dispense(self, pick: int, lot: int, quantity: int, handed: bool) -> None:
        """Two pharmacists, one prescription: together they may take more than there is, or than is authorised."""
        for name in ("till-1", "till-2"):
            self.dispenses(name, pick, lot, quantity, handed)

    @rule(lot=st.sampled_from(["A1", "N1"]), quantity=st.sampled_from([5, 50]))
    def both_tills_receive(self, lot: str, quantity: int) -> None:
        """One delivery, entered at both tills."""
        for name in ("till-1", "till-2"):
            self.receives(name, "amox-500", lot, "LS-3", quantity, "2099-12-31")

    @rule(name=TILL, lot=PICK, delta=st.sampled_from([-50, -2, 3]), closes=st.booleans())
    def adjusts(self, name: str, lot: int, delta: int, closes: bool) -> None:
        """A supervisor counts; a shortage may be closed."""
        seen = self.shown(name).lots
        item, of = sorted(seen)[lot % len(seen)]
        short = seen[item, of].shortage if closes else 0
        reason = AdjustReason.CLOSES_SHORTAGE if short else AdjustReason.COUNT
        self.do(
            name,
            "sam",
            lambda device: device.adjust("pharm", item, of, delta, reason, closes_shortage=short),
            *self.needs(name),
        )

    # ---- the ward -----------------------------------------------------------------------------------------

    @rule(name=TABLET, pick=PICK, dose=st.sampled_from([None, "250", "500"]), nurse=st.booleans())
    def administers(self, name: str, pick: int, dose: str | None, nurse: bool) -> None:
        """A dose is given, or not."""
        found = self._orders(name, pick)
        if found is None:
            return
        rx, patient = found

        async def administer(device: Device) -> Said:
            account = await device.administration(
                patient,
                "given" if dose else "not-given",
                prescription=rx,
                dose=Quantity(dose, "mg") if dose else None,
                status_reason=None if dose else "asleep",
            )
            return await device.administer(patient, account)

        self.do(name, somebody(name, "nurse" if nurse else "prescriber"), administer)

    @rule(name=TABLET, pick=PICK, right=st.booleans())
    def corrects(self, name: str, pick: int, right: bool) -> None:
        """An entry of the record is corrected, also one that was corrected before."""
        entries = {
            **self.shown(name).log,
            **{it.ref: it for it in self.pending(name) if it.kind in (ADMINISTER, CORRECT)},
        }
        if not entries:
            return
        word = list(entries.values())[pick % len(entries)]

        async def correct(device: Device) -> Said:
            rx = self._orders(name, 0)
            account = None
            if right and rx is not None:
                account = await device.administration(
                    word.scope, "given", prescription=rx[0], dose=Quantity("125", "mg")
                )
            return await device.correct(word.scope, word.ref, "wrong", account)

        self.do(name, somebody(name, "nurse"), correct)

    @rule(name=TABLET, patient=st.sampled_from(PATIENTS))
    def opens_a_reconciliation(self, name: str, patient: str) -> None:
        """A session is opened, unless the device knows of one."""
        known = any(it.patient == patient and it.status == "in-progress" for it in self.shown(name).sessions.values())
        known = known or any(it.kind == OPEN and it.scope == patient for it in self.pending(name))

        async def opening(device: Device) -> Said:
            opened = (await device.open_reconciliation(patient, HOMES)).opened
            assert opened is not None
            return opened

        self.do(name, somebody(name, "nurse"), opening, *(("session_open",) if known else ()))

    @rule(name=TABLET, pick=PICK, medicine=st.sampled_from(["h1", "h2", None]))
    def records_or_completes(self, name: str, pick: int, medicine: str | None) -> None:
        """A decision in a session, or its end; also in one that is over."""
        known = {session: it.patient for session, it in self.shown(name).sessions.items()}
        known |= {it.content["session"]: it.scope for it in self.pending(name) if it.kind == OPEN}
        if not known:
            return
        session = list(known)[pick % len(known)]

        def act(device: Device) -> Awaitable[Said]:
            of = device.reconciliation(known[session], session)
            return of.record(medicine, Decision.CONTINUE) if medicine else of.complete()

        self.do(name, somebody(name, "nurse"), act)

    # ---- conflicts ----------------------------------------------------------------------------------------

    @rule(name=ANY, pick=PICK, action=PICK, lot=PICK, quantity=st.sampled_from([1, 6, 15]))
    def resolves(self, name: str, pick: int, action: int, lot: int, quantity: int) -> None:
        """Somebody chooses among what a conflict offers; two may do so at once."""
        cases = {ref: case for ref, case in self.shown(name).cases.items() if case.open}
        inner = {ref: bottom(case.word)[0] for ref, case in cases.items()}
        mine = [ref for ref, word in inner.items() if word.document.startswith("site") == name.startswith("till")]
        if not mine:
            return
        case = cases[mine[pick % len(mine)]]
        chosen = Action(sorted(case.actions)[action % len(case.actions)])
        more: dict[str, Any] = {}
        if inner[case.word.ref].kind == DISPENSE and case.word.kind != RESOLVE:
            if chosen is Action.SWITCH_LOT:
                more["lot"] = self._lot(name, lot)[1]
            if chosen is Action.DISPENSE_PART:
                more["quantity"] = quantity
        if case.word.kind == RESOLVE and chosen in (Action.SWITCH_LOT, Action.DISPENSE_PART):
            chosen = Action.RETURNED
        prescriber = inner[case.word.ref].kind in (1, 2, 3, 4, 5, 6)
        roles = ("prescriber",) if prescriber else ("nurse",) if name.startswith("tablet") else ("pharmacist",)
        self.do(name, somebody(name, *roles), lambda device: device.resolve(case.word.ref, chosen, **more))

    @rule(name=ANY)
    def reads_the_inbox(self, name: str) -> None:
        """Everything in it has a reason; what can only be read is marked as read."""

        async def look() -> None:
            device = self.ward.device(name)
            for entry in await device.inbox():
                assert entry.code, entry
                assert entry.says, entry
                if not entry.actions:
                    assert await device.dismiss(entry.id)

        self.run(look())

    @rule(name=ANY, pick=PICK)
    def the_wrong_person(self, name: str, pick: int) -> None:
        """Who may not say something is told so at once."""
        tablet = name.startswith("tablet")
        found = self._orders(name, pick)
        if found is None:
            return
        rx, patient = found
        self.do(
            name,
            "nia" if tablet else "sam",
            (lambda device: device.stop(patient, rx, "no"))
            if tablet
            else (lambda device: device.dispense(patient, rx, lot="A1", quantity=1)),
            "role_missing",
        )

    # ---- the network and the machines ---------------------------------------------------------------------

    @rule(name=ANY, alone=st.booleans())
    def goes_offline(self, name: str, alone: bool) -> None:
        """A device loses the network, by itself or with the other one of its kind."""
        for one in [name] if alone else [it for it in sorted(CREW) if it[:4] == name[:4]]:
            if one in self.ward.wanted:
                self.seen.setdefault(one, deepcopy(self.model))
                self.run(self.ward.disconnect(one))

    @rule(name=ANY)
    def comes_online(self, name: str) -> None:
        """A device has the network again."""
        if name not in self.ward.wanted:
            self.run(self.ward.connect(name))

    @rule(name=ANY)
    def everybody_comes_online(self, name: str) -> None:
        """The network is back for all, one device after the other, beginning with one."""
        if not self.ward.up:
            self.run(self.ward.start())
        for one in sorted(CREW, key=lambda it: (it != name, it)):
            if one not in self.ward.wanted:
                self.run(self.ward.connect(one))

    @rule(name=ANY)
    def is_restarted(self, name: str) -> None:
        """A device is closed and opened from its store."""

        async def restart() -> None:
            await self.ward.close(name)
            await self.ward.open(name)

        self.run(restart())

    @rule()
    def the_relay_goes(self) -> None:
        """The relay is stopped."""
        if self.ward.up:
            for name in CREW:
                self.seen.setdefault(name, deepcopy(self.model))
            self.run(self.ward.stop())

    @rule()
    def the_relay_comes(self) -> None:
        """The relay is started from its database."""
        if not self.ward.up:
            self.run(self.ward.start())

    @rule(name=ANY, right=st.booleans())
    def signs_in_another_user(self, name: str, right: bool) -> None:
        """By PIN, which works offline too, and with another PIN never does; the tries are limited, so few are wrong."""
        right = right or self.tries.get(name, 0) > 2

        async def unlock() -> None:
            device, user = self.ward.device(name), CREW[name][1]
            device.sign_out()
            with nullcontext() if right else pytest.raises(PinRefused):
                await device.unlock(user, f"pin-{user}" if right else "pin-of-nobody")
            assert (device.grant.user if device.grant else None) == (user if right else None)
            self.tries[name] = self.tries.get(name, 0) + (not right)

        self.run(unlock())

    # ---- what holds after each step -----------------------------------------------------------------------

    @invariant()
    def everything_follows(self) -> None:
        """The record is allowed by the rules, nothing is lost or doubled, and every device shows what it must."""
        type(self).steps += 1
        begun = self.runner.get_loop().time()
        self.run(self.ward.settle())
        type(self).slowest_s = max(self.slowest_s, self.runner.get_loop().time() - begun)
        self.run(self._compare())

    async def _compare(self) -> None:
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
            counts, key = type(self).judged, f"{row.word.kind} {row.status} {row.code}".strip()
            counts[key] = counts.get(key, 0) + 1
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
            assert verdicts[ref][0] == state, f"{name} tells {ref} as {state}, the record says {verdicts[ref]}"
            assert state == "accepted" or ref in entries, f"{name} told nobody that {ref} is {verdicts[ref]}"

    def _immutable(self, name: str, prescriptions: Iterable[Any]) -> None:
        """What was signed stays as it was signed."""
        for one in prescriptions:
            it = one.register
            fixed = to_builtins((it.groups, it.prescriber, it.signed_by, it.signed_at, it.authorised, it.unit, it.site))
            assert self.signed.setdefault(it.id, fixed) == fixed, f"{name} shows {it.id} otherwise than it was signed"

    def teardown(self) -> None:
        """Everything comes online and settles: all devices are equal, and everything said is on record."""
        try:
            if "tablet-1" in self.ward.it.devices:
                self.everybody_comes_online("tablet-1")
                self.everything_follows()
                self.ward.it.same_everywhere()
                on_record = {row.word.ref for row in self.rows.values()}
                assert self.said.keys() <= on_record, "something that was said is on no record"
        finally:
            self._end()

    def _end(self) -> None:
        try:
            self.run(self.ward.end())
        finally:
            self.runner.close()


async def _tried(doing: Awaitable[Any]) -> tuple[DeviceError | None, Any]:
    """The error with which something failed at once, or what came of it."""
    try:
        return None, await doing
    except DeviceError as error:
        return error, None


def _outbox(device: Device) -> set[str]:
    return {one.signed.statement.ref for one in device.outbox()}
