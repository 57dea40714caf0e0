"""What prescribers do with drafts and orders, in any order."""

from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from crdtmed.aggregates.alert_override_record import OverrideReason
from crdtmed.aggregates.prescription_draft import DraftStatus, Instructions, Supply, Timing
from crdtmed.device.device import Device
from crdtmed.device.engine import Said
from tests.scenarios.hospital import AMOXICILLIN, PARACETAMOL, mg, ordered
from tests.stateful import drafts
from tests.stateful.settling import PICK, TABLET, Settling, unsent
from tests.stateful.ward import PATIENTS, somebody


class Prescribing(Settling):
    """Drafts, signed prescriptions and alerts."""

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
            before = unsent(device)
            await ordered(device, patient, medication=medication, dose=mg(dose), units=units, unit=unit)
            return tuple(device.said(ref) for ref in sorted(unsent(device) - before))

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
            before = unsent(device)
            new = await device.start_amendment(patient, prior)
            await new.set(dose=mg(dose))
            await new.confirm()
            self.amending = new.prescription
            return tuple(device.said(ref) for ref in sorted(unsent(device) - before))

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
