"""On the ward: what was given and corrected, and one reconciliation that two tablets open at the same time."""

from pathlib import Path

import pytest

from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.mar_flags import MarFlag
from crdtmed.aggregates.medication_administration import OfVerbal
from crdtmed.aggregates.reconciliation_session import Decision, HomeMedication
from crdtmed.device.device import Device
from crdtmed.device.engine_types import DeviceError, State
from tests.scenarios.hospital import Hospital, play, signed, told

HOMES = (HomeMedication("h1", "Ramipril 5 mg"), HomeMedication("h2", "Metformin 500 mg"))


async def record(device: Device, patient: str) -> list[str]:
    """The record as the device shows it: what stands of each entry, its flags, and whether it is tentative."""
    view = await device.patient(patient)
    lines = []
    for entry in view.record.entries:
        stands = [
            "in error"
            if it.administration is None
            else f"{it.administration.status} {it.administration.dose.value if it.administration.dose else ''}".strip()
            for it in entry.versions
        ]
        flags = f" [{', '.join(entry.flags)}]" if entry.flags else ""
        mark = " (tentative)" if view.tentative.intersection(entry.chain) else ""
        lines.append(f"{' or '.join(sorted(stands))}{flags}{mark}")
    return lines


def test_administrations_and_chains_of_corrections_on_three_tablets(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("doctor", "ana", patients=["p1", "p3"])
        nia = await it.device("tablet-1", "nia", patients=["p1", "p3"])
        ben = await it.device("tablet-2", "ben", patients=["p1", "p3"])
        rx = await signed(it, ana, "p1")
        given = await nia.administration("p1", "given", prescription=rx, dose=Quantity("500", "mg"))
        first = await it.settled("nia", "gives 500 mg", nia.administer("p1", given))
        assert first is not None
        await it.synced()
        await nia.disconnect()
        await ben.disconnect()
        half = await nia.administration("p1", "given", prescription=rx, dose=Quantity("250", "mg"))
        one = await it.queued(
            "nia, offline,", "corrects it to 250 mg", nia.correct("p1", first.ref, "half of it", half)
        )
        await it.queued("ben, offline,", "corrects it as in error", ben.correct("p1", first.ref, "was refused"))
        less = await nia.administration("p1", "given", prescription=rx, dose=Quantity("125", "mg"))
        await it.queued("nia", "corrects the correction to 125 mg", nia.correct("p1", one.ref, "a quarter", less))
        it.line(f"nia's tablet shows: {'; '.join(await record(nia, 'p1'))}")
        await ben.connect()
        await nia.connect()
        await it.synced()
        for device in (ana, nia, ben):
            assert await record(device, "p1") == ["given 125 or in error [competing_corrections]"]
        it.line("all three see both corrections")
        wrong = await nia.administration("p3", "given", verbal=OfVerbal("Dr Ana", "emergency", "Adrenaline 1 mg"))
        said = await it.settled(
            "nia", "gives adrenaline on a spoken order, to the wrong patient", nia.administer("p3", wrong)
        )
        assert said is not None
        (entry,) = (await nia.patient("p3")).record.entries
        assert entry.flags == (MarFlag.NO_SIGNED_ORDER,)
        await it.settled("nia", "takes it back there", nia.correct("p3", said.ref, "wrong patient"))
        await it.settled("nia", "and enters it where it happened", nia.administer("p1", wrong))
        await it.synced()
        it.line(f"p3: {'; '.join(await record(ana, 'p3'))}")
        told(
            """
            nia gives 500 mg: accepted
            nia, offline, corrects it to 250 mg: pending
            ben, offline, corrects it as in error: pending
            nia corrects the correction to 125 mg: pending
            nia's tablet shows: given 125 (tentative)
            all three see both corrections
            nia gives adrenaline on a spoken order, to the wrong patient: accepted
            nia takes it back there: accepted
            nia and enters it where it happened: accepted
            p3: in error
            """,
            it,
        )

    play(tmp_path, story)


def test_what_was_given_after_the_stop_and_under_an_idempotency_key(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("doctor", "ana", patients=["p1"])
        nia = await it.device("tablet", "nia", patients=["p1"])
        rx = await signed(it, ana, "p1")
        await nia.disconnect()
        await it.settled("ana", "stops it", ana.stop("p1", rx, "rash"))
        given = await nia.administration("p1", "given", prescription=rx, dose=Quantity("500", "mg"))
        key = nia.engine.new_id()
        said = await it.queued("nia, offline,", "gives it", nia.administer("p1", given, key=key))
        assert (await nia.administer("p1", given, key=key)).ref == said.ref, "the same thing is said once"
        await nia.connect()
        assert await said.settled() is State.ACCEPTED
        await it.synced()
        it.line(f"everybody sees: {'; '.join(await record(ana, 'p1'))}")
        told(
            """
            ana stops it: accepted
            nia, offline, gives it: pending
            everybody sees: given 500 [after_stop]
            """,
            it,
        )

    play(tmp_path, story)


def test_two_tablets_open_one_reconciliation_and_a_third_starts_it_again(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("tablet-1", "ana", patients=["p1"])
        nia = await it.device("tablet-2", "nia", patients=["p1"])
        await ana.disconnect()
        await nia.disconnect()
        one = await ana.open_reconciliation("p1", HOMES)
        two = await nia.open_reconciliation("p1", HOMES)
        it.line("ana and nia both open a reconciliation, offline")
        decided = await one.record("h1", Decision.CONTINUE)
        with pytest.raises(DeviceError, match="session_open"):
            await ana.open_reconciliation("p1", HOMES)
        assert (await one.view()).status == "pending"
        assert (await one.view()).tentative == {"h1"}
        await ana.connect()
        assert await decided.settled() is State.ACCEPTED
        await nia.connect()
        assert two.opened is not None
        it.line(f"nia's opening: {await two.opened.settled()}")
        await it.synced()
        for device, name in ((ana, "ana"), (nia, "nia")):
            sessions = (await device.patient("p1")).sessions
            it.line(f"{name} sees {' and '.join(sorted(one.status for one in sessions))}")
        late = await it.settled("ana", "records on hers", one.record("h2", Decision.STOP))
        assert late is not None
        new = await nia.open_reconciliation("p1")
        assert new.opened is not None
        assert await new.opened.settled() is State.ACCEPTED
        await it.synced()
        view = await new.view()
        assert view.register is not None
        assert set(view.register.restarts) == {one.session, two.session}
        it.line(f"nia starts one new session, with {' and '.join(sorted(i.medicine.display for i in view.items))}")
        await it.settled("nia", "records", new.record("h1", Decision.CHANGE, "half the dose"))
        await it.settled("nia", "completes", new.complete())
        await it.synced()
        assert [c.register.reason.session for c in await ana.conflicts() if c.ref == late.ref] == [one.session]  # type: ignore[union-attr]  # it is there once this is reached
        it.line(f"ana sees {' and '.join(sorted(one.status for one in (await ana.patient('p1')).sessions))}")
        told(
            """
            ana and nia both open a reconciliation, offline
            nia's opening: conflict
            ana sees entered-in-error and entered-in-error
            nia sees entered-in-error and entered-in-error
            ana records on hers: conflict (session_status), restart_session or discard
            nia starts one new session, with Metformin 500 mg and Ramipril 5 mg
            nia records: accepted
            nia completes: accepted
            ana sees completed and entered-in-error and entered-in-error
            """,
            it,
        )

    play(tmp_path, story)
