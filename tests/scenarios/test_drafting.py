"""Two tablets draft at once; nothing is lost, nothing is split, and one clinician confirming makes it signable."""

from pathlib import Path

from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.prescription_draft import Group, Instructions
from tests.scenarios.hospital import AMOXICILLIN, ORAL, Hospital, mg, ordered, play, told


def test_two_tablets_draft_one_prescription_at_once(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("tablet-1", "ana", patients=["p1"])
        ben = await it.device("tablet-2", "ben", patients=["p1"])
        mine = await ordered(ana, "p1")
        await it.synced()
        theirs = ben.draft("p1", mine.prescription)
        await ana.disconnect()
        await ben.disconnect()
        await theirs.set(dose=mg("1000"), instructions=Instructions("With food."))
        # The later write wins, and two devices agree on the time only so far as their ways to the relay are alike.
        it.ahead_ms += 60_000
        await mine.set(dose=mg("250"))
        it.line("ana writes 250 mg, ben writes 1000 mg and an instruction, both offline")
        await ana.connect()
        await ben.connect()
        await it.synced()
        one, other = await mine.view(), await theirs.view()
        assert one.groups == other.groups, "both see the same"
        dose = one.groups[Group.DOSE]
        assert len(dose.concurrent) == 1
        assert (dose.winner.user, dose.concurrent[0].user) == ("ana", "ben")
        it.line(f"both see {' and '.join(sorted(str(g) for g in one.unsettled))} unsettled")
        await it.settled("ana", "signs", ana.sign(mine))
        await mine.set(dose=mg("250"))
        await mine.confirm()
        await it.settled("ana", "confirms and signs", ana.sign(mine))
        await it.synced()
        view = await ben.patient("p1")
        (prescription,) = view.prescriptions
        assert prescription.register.groups.dose.quantity == Quantity("250", "mg")
        assert prescription.register.groups.instructions == Instructions("With food.")
        it.line(f"ben sees it {prescription.status}, of {view.label.name}, born {view.label.birth_date}")
        assert not view.drafts

    async def whole(it: Hospital) -> None:
        await story(it)
        told(
            """
            ana writes 250 mg, ben writes 1000 mg and an instruction, both offline
            both see dose and instructions unsettled
            ana signs: draft_not_ready
            ana confirms and signs: accepted
            ben sees it active, of Maria Muster, born 1950-03-01
            """,
            it,
        )

    play(tmp_path, whole)


def test_edits_that_come_after_the_signature_are_told_and_can_become_an_amendment(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("tablet-1", "ana", patients=["p1"])
        ben = await it.device("tablet-2", "ben", patients=["p1"])
        mine = await ordered(ana, "p1")
        it.name(mine.prescription, "rx")
        await it.synced()
        await ben.disconnect()
        (late,) = await ben.draft("p1", mine.prescription).set(dose=mg("1000"))
        await it.settled("ana", "signs", ana.sign(mine))
        await ben.connect()
        await late.settled()
        await it.synced()
        (entry,) = await ben.inbox()
        it.line(f"ben is told: {entry.code}, {' or '.join(entry.actions)}")
        new = await ben.start_amendment("p1", mine.prescription)
        await new.set(dose=mg("1000"))
        await new.confirm()
        await it.synced()
        await it.settled("ben", "amends", ben.amend(new, mine.prescription, "dose too low"))
        await it.synced()
        found = {one.register.id: one.status for one in (await ana.patient("p1")).prescriptions}
        assert found[mine.prescription] == "superseded"
        assert found[new.prescription] == "active"
        assert (await ana.patient("p1")).prescriptions[0].register.groups.medication == AMOXICILLIN
        assert (await ana.patient("p1")).prescriptions[0].register.groups.route == ORAL
        told(
            """
            ana signs: accepted
            ben is told: draft_closed, discard or start_amendment
            ben amends: accepted
            """,
            it,
        )

    play(tmp_path, story)
