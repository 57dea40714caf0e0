"""What nurses and prescribers do at the bedside: doses, corrections, reconciliations."""

from collections.abc import Awaitable

from hypothesis import strategies as st
from hypothesis.stateful import rule

from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.reconciliation_session import Decision, HomeMedication
from crdtmed.device.device import Device
from crdtmed.device.engine import Said
from tests.stateful.settling import PICK, TABLET, Settling
from tests.stateful.ward import PATIENTS, somebody
from tests.stateful.words import (
    ADMINISTER,
    CORRECT,
    OPEN,
)

HOMES = (HomeMedication("h1", "Ramipril 5 mg"), HomeMedication("h2", "Metformin 500 mg"))


class Bedside(Settling):
    """Doses and reconciliations."""

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
