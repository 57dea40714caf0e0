"""People in a hospital, as a Hypothesis state machine: what they do, in any order, on real devices and a real relay.

After each step whoever can reach the relay settles, and everything that is on record or shown is compared with the
model (`tests.stateful.model`, `tests.stateful.shown`).
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

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
from tests.stateful.ward import CREW, PATIENTS, Template, Ward, day, new_folder, somebody
from tests.stateful.witness import Witness
from tests.stateful.words import (
    ADJUST,
    ADMINISTER,
    AMEND,
    CORRECT,
    DISPENSE,
    DRAFT_WRITE,
    HOLD,
    OPEN,
    RESOLVE,
    RESUME,
    SIGN,
    STOP,
    bottom,
)

TABLET = st.sampled_from(["tablet-1", "tablet-2"])
TILL = st.sampled_from(["till-1", "till-2"])
ANY = st.sampled_from(sorted(CREW))
PICK = st.integers(0, 11)
ROLES = dict.fromkeys((DRAFT_WRITE, SIGN, STOP, HOLD, RESUME, AMEND), "prescriber") | {ADJUST: "supervisor"}
"""Who resolves the conflict of what; of the rest a nurse or a pharmacist."""
HOMES = (HomeMedication("h1", "Ramipril 5 mg"), HomeMedication("h2", "Metformin 500 mg"))


class Machine(RuleBasedStateMachine):
    """One example: a ward of its own, and a witness of everything."""

    template: ClassVar[Template]
    base: ClassVar[Path]
    examples: ClassVar[int] = 0
    steps: ClassVar[int] = 0
    judged: ClassVar[Counter[str]] = Counter()
    slowest_s: ClassVar[float] = 0.0

    def __init__(self) -> None:
        super().__init__()
        type(self).examples += 1
        self.runner = asyncio.Runner()
        self.ward = Ward(self.template, new_folder(self.base))
        self.witness = Witness(self.ward, self.judged)
        self.failed = False
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

        self.failed = True
        done = self.runner.run(bounded())
        self.failed = False
        return done

    async def _begin(self) -> None:
        await self.ward.start()
        for name in CREW:
            await self.ward.open(name)

    # ---- saying -------------------------------------------------------------------------------------------

    def do(
        self, name: str, user: str, act: Callable[[Device], Awaitable[Any]], *expected: str, maybe: str = ""
    ) -> None:
        """Somebody says something on a device, which succeeds, or fails at once with one of the ``expected`` codes.

        With codes expected it must fail, with ``maybe`` it may; then nothing new is in the outbox.
        """

        async def step() -> None:
            device = self.ward.device(name)
            device.use(self.ward.template.grants[name, user])
            before = _outbox(device)
            failed, said = await _tried(act(device))
            assert (failed.code if failed else "") in (expected or ("", maybe)), (
                f"{name}: {failed}, expected was {expected}"
            )
            if failed is None:
                self.witness.note(name, said)
            else:
                assert _outbox(device) <= before, f"{name} said something in spite of {failed}"

        self.run(step())

    def needs(self, name: str) -> tuple[str, ...]:
        """What a verb that needs the relay fails with."""
        return () if self.ward.reachable(name) else ("needs_relay",)

    # ---- prescribing --------------------------------------------------------------------------------------

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
        found = self.witness.draft(name, pick)
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
        found = self.witness.draft(name, pick)
        if found is None:
            return
        rx, patient, _ = found
        self.do(name, somebody(name, "prescriber"), lambda device: device.draft(patient, rx).confirm())
        again = self.witness.drafts(name)[rx]
        assert not drafts.unsettled(drafts.merged(again.values())), f"{rx} is unsettled after {name} confirmed it"

    @rule(name=TABLET, pick=PICK)
    def signs(self, name: str, pick: int) -> None:
        """A draft is signed."""
        found = self.witness.draft(name, pick)
        if found is None:
            return
        rx, patient, words = found
        expected = self.needs(name) if drafts.signable(drafts.merged(words.values())) else ("draft_not_ready",)
        self.do(name, somebody(name, "prescriber"), lambda device: device.sign(device.draft(patient, rx)), *expected)

    @rule(name=TABLET, pick=PICK, dose=st.sampled_from(["250", "1000"]))
    def amends(self, name: str, pick: int, dose: str) -> None:
        """An amendment is drafted and signed in one go."""
        found = self.witness.orders(name, pick)
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
        self.run(self.witness.compare())
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
        found = self.witness.orders(name, pick)
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
        found = self.witness.draft(name, pick)
        if found is None or found[0] not in self.witness.shown(name).alerted:
            return
        rx, patient, _ = found

        async def override(device: Device) -> tuple[Said, ...]:
            cards = (await device.patient(patient)).alerts[rx].cards
            reason = next(iter(OverrideReason))
            return tuple([await device.override(patient, rx, card.id, reason, "needed") for card in cards])

        self.do(name, somebody(name, "prescriber"), override, *self.needs(name))

    # ---- the pharmacy -------------------------------------------------------------------------------------

    @rule(name=TILL, pick=PICK, lot=PICK, quantity=st.sampled_from([1, 5, 15, 30]), handed=st.booleans())
    def dispenses(self, name: str, pick: int, lot: int, quantity: int, handed: bool) -> None:
        """Something is taken from a lot for a prescription."""
        found = self.witness.orders(name, pick)
        if found is None:
            return
        rx, patient = found
        item = self.witness.shown(name).orders[rx].values["medication"]["code"]
        lots_ = sorted(lot for of, lot in {*self.witness.shown(name).lots, self.witness.lot(name, lot)} if of == item)

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
        seen = self.witness.shown(name).lots
        item, of = sorted(seen)[lot % len(seen)]
        short = seen[item, of].shortage if closes else 0
        reason = AdjustReason.CLOSES_SHORTAGE if short else AdjustReason.COUNT
        self.do(
            name,
            "sam",
            lambda device: device.adjust("pharm", item, of, delta, reason, closes_shortage=short),
            *self.needs(name),
        )

    @rule(lot=PICK, delta=st.sampled_from([-2, 3]))
    def both_tills_adjust(self, lot: int, delta: int) -> None:
        """Two counts of one lot at once: the second was made of another state than there is."""
        for name in ("till-1", "till-2"):
            self.adjusts(name, lot, delta, False)

    # ---- the ward -----------------------------------------------------------------------------------------

    @rule(name=TABLET, pick=PICK, dose=st.sampled_from([None, "250", "500"]), nurse=st.booleans())
    def administers(self, name: str, pick: int, dose: str | None, nurse: bool) -> None:
        """A dose is given, or not."""
        found = self.witness.orders(name, pick)
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
            **self.witness.shown(name).log,
            **{it.ref: it for it in self.witness.pending(name) if it.kind in (ADMINISTER, CORRECT)},
        }
        if not entries:
            return
        word = list(entries.values())[pick % len(entries)]

        async def correct(device: Device) -> Said:
            rx = self.witness.orders(name, 0)
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
        known = any(
            it.patient == patient and it.status == "in-progress" for it in self.witness.shown(name).sessions.values()
        )
        known = known or any(it.kind == OPEN and it.scope == patient for it in self.witness.pending(name))

        async def opening(device: Device) -> Said:
            opened = (await device.open_reconciliation(patient, HOMES)).opened
            assert opened is not None
            return opened

        self.do(name, somebody(name, "nurse"), opening, *(("session_open",) if known else ()))

    @rule(name=TABLET, pick=PICK, medicine=st.sampled_from(["h1", "h2", None]))
    def records_or_completes(self, name: str, pick: int, medicine: str | None) -> None:
        """A decision in a session, or its end; also in one that is over."""
        known = {session: it.patient for session, it in self.witness.shown(name).sessions.items()}
        known |= {it.content["session"]: it.scope for it in self.witness.pending(name) if it.kind == OPEN}
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
        """Somebody chooses among what a conflict offers."""
        self._resolve(name, pick, action, lot, quantity)

    @rule(pick=PICK, action=PICK, lot=PICK)
    def both_tills_resolve(self, pick: int, action: int, lot: int) -> None:
        """Two pharmacists choose the same, of one conflict; the second may have heard of the first by then."""
        for name in ("till-1", "till-2"):
            self._resolve(name, pick, action, lot, 6, maybe="action_not_offered")

    def _resolve(self, name: str, pick: int, action: int, lot: int, quantity: int, maybe: str = "") -> None:
        cases = {ref: case for ref, case in self.witness.shown(name).cases.items() if case.open}
        inner = {ref: bottom(case.word)[0] for ref, case in cases.items()}
        mine = [ref for ref, word in inner.items() if word.document.startswith("site") == name.startswith("till")]
        if not mine:
            return
        case = cases[mine[pick % len(mine)]]
        chosen = Action(sorted(case.actions)[action % len(case.actions)])
        more: dict[str, Any] = {}
        if inner[case.word.ref].kind == DISPENSE and case.word.kind != RESOLVE:
            if chosen is Action.SWITCH_LOT:
                more["lot"] = self.witness.lot(name, lot)[1]
            if chosen is Action.DISPENSE_PART:
                more["quantity"] = quantity
        if case.word.kind == RESOLVE and chosen in (Action.SWITCH_LOT, Action.DISPENSE_PART):
            chosen = Action.RETURNED
        role = ROLES.get(inner[case.word.ref].kind, "nurse" if name.startswith("tablet") else "pharmacist")
        self.do(name, somebody(name, role), lambda device: device.resolve(case.word.ref, chosen, **more), maybe=maybe)

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
        found = self.witness.orders(name, pick)
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
                self.witness.seen.setdefault(one, deepcopy(self.witness.model))
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
                self.witness.seen.setdefault(name, deepcopy(self.witness.model))
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
        self.run(self.witness.compare())

    def teardown(self) -> None:
        """Everything comes online and settles: all devices are equal, and everything said is on record."""
        try:
            if not self.failed:  # what failed already is what is told
                self.everybody_comes_online("tablet-1")
                self.everything_follows()
                self.ward.it.same_everywhere()
                on_record = {row.word.ref for row in self.witness.rows.values()}
                assert self.witness.said.keys() <= on_record, "something that was said is on no record"
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
