"""What a device holds and no longer holds, old and copied stores, damage, leases, and the end of a stolen tablet."""

import asyncio
import shutil
from pathlib import Path

import pytest

from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.prescription_draft import Indication
from crdtmed.device.device import Device
from crdtmed.device.drafting import Draft
from crdtmed.device.engine_types import DeviceError, Evicted, State
from crdtmed.device.files import DeviceFiles
from crdtmed.device.life import CacheLocked, DeviceEvent, DeviceWiped, LeaseWarning
from crdtmed.device.store_database import StoreError, open_connection
from crdtmed.leasing import Locked, LockReason
from crdtmed.leasing import Open as OpenLease
from relay.imports import ImportKind
from relay.operator import loading
from relay.operator.office import open_office
from relay.operator.rotating import rotate_device, rotate_identity
from tests.scenarios.hospital import PATIENCE_S, PATIENTS, Hospital, eventually, mg, ordered, play, signed, told

HOUR_MS = 3_600_000


async def stolen(it: Hospital, device: Device) -> None:
    """The operator revokes an offline device, which finds out as it connects, and is wiped."""
    heard: list[DeviceEvent] = []
    device._life.listeners.append(heard.append)
    await it.revoke(device, "stolen")
    await device.connect()
    assert await device.until(lambda: any(isinstance(one, DeviceWiped) for one in heard), PATIENCE_S)


def test_a_patient_moved_away_is_purged_and_what_was_said_is_still_sent(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        nia = await it.device("tablet", "nia", patients=["p1", "p3"])
        ana = await it.device("doctor", "ana", patients=["p1"])
        rx = await signed(it, ana, "p1")
        await nia.disconnect()
        given = await nia.administration("p1", "given", prescription=rx, dose=Quantity("500", "mg"))
        said = await it.queued("nia, offline,", "gives p1 his medicine", nia.administer("p1", given))

        def move() -> None:
            file = it.folder / "moved"
            header, first, *_ = PATIENTS.splitlines()
            file.write_text(f"{header}\n{first.replace('ward;pharm', 'pharm')}\n", encoding="utf-8")
            with open_office(it.settings) as office:
                loading.load(office, ImportKind.PATIENTS, file)

        move()
        it.line("p1 is moved away from the ward")
        heard: list[DeviceEvent] = []
        nia._life.listeners.append(heard.append)
        await nia.connect()
        state = await said.settled()
        assert await nia.until(lambda: any(isinstance(one, Evicted) for one in heard), PATIENCE_S)
        it.line(f"her statement is {state}, {(await said.verdict()).code}")  # type: ignore[union-attr]  # it is there once this is reached
        with pytest.raises(DeviceError, match="not_held"):
            await nia.patient("p1")
        assert not [name for name in nia.engine.core.rows if name.startswith("patient/p1")]
        assert nia.withdrawn == {"patient/p1": "patient_not_in_care"}
        it.line("her tablet holds nothing of p1 any more")
        assert (await nia.patient("p3")).label.name == "Ida Exempel"
        await it.synced("doctor")
        found = (await ana.patient("p1")).record.entries
        it.line(f"ana sees what nia gave, {found[0].flags[0]}")
        told(
            """
            nia, offline, gives p1 his medicine: pending
            p1 is moved away from the ward
            her statement is conflict, patient_not_in_care
            her tablet holds nothing of p1 any more
            ana sees what nia gave, reported_not_accepted
            """,
            it,
        )

    play(tmp_path, story)


def test_widening_later_fills_in_everything_and_dropping_purges(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("doctor", "ana", patients=["p1"])
        nia = await it.device("tablet", "nia", patients=["p3"])
        rx = await signed(it, ana, "p1")
        await nia.hold(patients=["p1"])
        await it.synced("tablet")
        assert (await nia.patient("p1")).prescription(rx) is not None
        await nia.release(patients=["p1"])
        with pytest.raises(DeviceError, match="not_held"):
            await nia.patient("p1")
        await nia.close()
        nia = await it.reopen("tablet")
        await it.synced("tablet")
        assert nia.patients == ("p3",)

    play(tmp_path, story)


def test_a_store_restored_from_yesterday_is_detected_told_and_heals(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("tablet", "ana", patients=["p1"])
        draft = await ordered(ana, "p1")
        await it.synced()
        await ana.close()
        copy = it.folder / "yesterday"
        shutil.copytree(it.folder / "tablet", copy)
        ana = await it.reopen("tablet")
        await ana.unlock("ana", "pin-ana")
        (later,) = await draft_of(ana, draft.prescription).set(dose=mg("250"))
        await it.synced()
        await ana.close()
        files = DeviceFiles(it.folder / "tablet")
        for path in files.database_files:
            path.unlink(missing_ok=True)
        shutil.copy(DeviceFiles(copy).database, files.database)
        it.line("somebody puts yesterday's copy of the database back")
        ana = await it.reopen("tablet", connect=False)
        await ana.unlock("ana", "pin-ana")
        (mine,) = await draft_of(ana, draft.prescription).set(indication=Indication("pneumonia"))
        it.line(f"the device is told: {', '.join(one.code for one in await ana.inbox())}")
        await ana.connect()
        assert await mine.settled() is State.ACCEPTED
        await it.synced()
        view = await draft_of(ana, draft.prescription).view()
        assert later.ref in {entry.ref for group in view.groups.values() for entry in group.history}
        assert mine.ref in {entry.ref for group in view.groups.values() for entry in group.history}
        it.line("both writes are there, under different numbers")
        told(
            """
            somebody puts yesterday's copy of the database back
            the device is told: store_older
            both writes are there, under different numbers
            """,
            it,
        )

    def draft_of(device: Device, name: str) -> Draft:
        return device.draft("p1", name)

    play(tmp_path, story)


def test_a_damaged_store_keeps_its_outbox_and_fetches_the_rest(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("tablet", "ana", patients=["p1"])
        await signed(it, ana, "p1")
        await ana.disconnect()
        said = await ana.draft("p1").set(dose=mg("1"), indication=Indication("test"))
        await ana.close()
        database = DeviceFiles(it.folder / "tablet").database
        data = bytearray(database.read_bytes())
        middle = len(data) // 2 // 4096 * 4096
        data[middle : middle + 4096] = bytes(4096)
        database.write_bytes(bytes(data))
        ana = await it.reopen("tablet", connect=False)
        codes = [one.code for one in await ana.inbox()]
        if "store_salvaged" not in codes:  # the page was one that nothing has read yet
            assert {one.signed.statement.ref for one in ana.outbox()} == {one.ref for one in said}
        await ana.connect()
        for one in said:
            assert await ana.said(one.ref).settled() is State.ACCEPTED
        await it.synced()
        assert len((await ana.patient("p1")).prescriptions) == 1

    play(tmp_path, story)


def test_a_lease_that_lapses_locks_the_cache_and_the_relay_opens_it_again(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        nia = await it.device("tablet", "nia", patients=["p1"])
        await nia.disconnect()
        given = await nia.administration(
            "p1", "not-given", draft="aaaaaaaaaaaaaaaa", status_reason="refused", occurred_at=it.now_ms()
        )
        said = await it.queued("nia, offline,", "notes that it was not given", nia.administer("p1", given))
        heard: list[DeviceEvent] = []
        nia._life.listeners.append(heard.append)
        it.ahead_ms += 11 * HOUR_MS + HOUR_MS // 2
        assert await nia.until(lambda: any(isinstance(one, LeaseWarning) for one in heard), PATIENCE_S)
        state = nia.status().lease
        assert isinstance(state, OpenLease)
        assert state.may_break_glass
        it.line("after eleven hours and a half the tablet warns")
        stretched = await it.queued("nia", "breaks the glass", nia.break_glass("the network is down"))
        with pytest.raises(DeviceError, match="cannot_stretch"):
            await nia.break_glass("once more")
        it.ahead_ms += 4 * HOUR_MS
        assert isinstance(nia.status().lease, OpenLease)
        assert (await nia.patient("p1")).label.name == "Maria Muster"
        it.line("four hours later it is still open")
        it.ahead_ms += HOUR_MS
        assert await nia.until(lambda: any(isinstance(one, CacheLocked) for one in heard), PATIENCE_S)
        assert isinstance(nia.status().lease, Locked)
        assert not DeviceFiles(it.folder / "tablet").lease.exists()
        with pytest.raises(DeviceError, match="locked"):
            await nia.patient("p1")
        it.line("another hour, and the cache is locked; the key is gone")
        await nia.close()
        nia = await it.reopen("tablet", connect=False)
        assert nia.status().lease == Locked(LockReason.LAPSED)
        await nia.connect()
        assert await nia.until(lambda: nia.status().report is not None, PATIENCE_S)
        it.line(f"the relay opens it again: what waited is {await nia.said(said.ref).settled()}")
        assert await nia.said(stretched.ref).settled() is State.ACCEPTED
        told(
            """
            nia, offline, notes that it was not given: pending
            after eleven hours and a half the tablet warns
            nia breaks the glass: pending
            four hours later it is still open
            another hour, and the cache is locked; the key is gone
            the relay opens it again: what waited is accepted
            """,
            it,
        )

    play(tmp_path, story)


def test_a_stolen_tablet_hands_over_what_it_has_and_destroys_itself(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("doctor", "ana", patients=["p1"])
        nia = await it.device("tablet", "nia", patients=["p1"])
        rx = await signed(it, ana, "p1")
        await nia.disconnect()
        given = await nia.administration("p1", "given", prescription=rx, dose=Quantity("500", "mg"))
        said = await it.queued("nia, offline,", "gives the medicine", nia.administer("p1", given))
        it.name(said.ref, "the administration")
        await stolen(it, nia)
        it.line("the operator revokes the tablet")
        files = DeviceFiles(it.folder / "tablet")
        gone = [files.keys, files.lease, *files.database_files, files.profile]
        assert not any(path.exists() for path in gone)
        it.devices.pop("tablet")
        it.line("it destroyed its keys and its cache")
        with open_office(it.settings) as office:
            assert office.record.quarantine_count(nia.status().device) == 1

        async def listed() -> bool:
            return bool((await ana.patient("p1")).quarantined)

        await eventually(ana, listed)
        (found,) = (await ana.patient("p1")).quarantined
        it.line(f"ana finds {found.register.ref} in quarantine, of {found.label.name}")  # type: ignore[union-attr]  # it is there once this is reached
        again = await it.settled("ana", "enters it again", ana.reenter(found))
        assert again is not None
        await it.synced()
        view = await ana.patient("p1")
        assert view.quarantined[0].register.reentered_by == again.ref
        assert len(view.record.entries) == 1
        with pytest.raises(DeviceError, match="already_reentered"):
            await ana.reenter(said.ref)
        told(
            """
            nia, offline, gives the medicine: pending
            the operator revokes the tablet
            it destroyed its keys and its cache
            ana finds the administration in quarantine, of Maria Muster
            ana enters it again: accepted
            """,
            it,
        )

    play(tmp_path, story)


def test_what_a_stolen_tablet_had_corrected_is_entered_again_as_it_was_corrected(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("doctor", "ana", patients=["p1"])
        nia = await it.device("tablet", "nia", patients=["p1"])
        rx = await signed(it, ana, "p1")
        await nia.disconnect()
        whole = await nia.administration("p1", "given", prescription=rx, dose=Quantity("500", "mg"))
        said = await it.queued("nia, offline,", "gives 500 mg", nia.administer("p1", whole))
        half = await nia.administration("p1", "given", prescription=rx, dose=Quantity("250", "mg"))
        right = await it.queued("nia", "corrects it to 250 mg", nia.correct("p1", said.ref, "half of it", half))
        await stolen(it, nia)
        it.devices.pop("tablet")

        async def listed() -> bool:
            return len((await ana.patient("p1")).quarantined) == 2

        await eventually(ana, listed)
        with pytest.raises(DeviceError, match="not_reentered"):
            await ana.reenter(right.ref)
        it.line("ana's tablet wants what was corrected first")
        await ana.disconnect()
        await it.queued("ana, offline,", "enters the dose again", ana.reenter(said.ref))
        await it.queued("ana", "enters the correction again", ana.reenter(right.ref))
        await ana.connect()
        await it.synced()
        view = await ana.patient("p1")
        (entry,) = view.record.entries
        (version,) = entry.versions
        assert version.administration is not None
        assert version.administration.dose == Quantity("250", "mg")
        assert (entry.flags, [one.register.open for one in view.quarantined]) == ((), [False, False])
        assert not view.conflicts
        it.line("the record has one dose, of 250 mg")
        told(
            """
            nia, offline, gives 500 mg: pending
            nia corrects it to 250 mg: pending
            ana's tablet wants what was corrected first
            ana, offline, enters the dose again: pending
            ana enters the correction again: pending
            the record has one dose, of 250 mg
            """,
            it,
        )

    play(tmp_path, story)


def test_another_database_key_and_another_identity_key_are_taken_over(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("tablet", "ana", patients=["p1"])
        await signed(it, ana, "p1")
        files = DeviceFiles(it.folder / "tablet")

        def key() -> bytes:
            held = ana._life.held.database
            assert held is not None
            return held.current

        def rotate() -> None:
            with open_office(it.settings) as office:
                rotate_device(office, ana.status().device)

        first = key()
        await asyncio.to_thread(rotate)
        await ana.disconnect()
        await ana.draft("p1").set(indication=Indication("while the key changes"))
        await ana.connect()
        assert await ana.until(lambda: key() != first, PATIENCE_S)
        it.line("the open store takes its new key over")
        await it.synced()
        with pytest.raises(StoreError, match=r"in_use|wrong_key"):
            open_connection(files.database, first)

        second = key()
        await ana.close()
        with pytest.raises(StoreError, match="wrong_key"):
            open_connection(files.database, first)
        open_connection(files.database, second).close()
        await it.reopen("tablet")  # tells the relay that the key was taken over
        await it.retire("tablet")
        await asyncio.to_thread(rotate)
        await it.stop_relay()
        await asyncio.to_thread(rotate_identity, it.settings)
        await it.start_relay()
        ana = await it.reopen("tablet")
        assert await ana.until(lambda: key() != second, PATIENCE_S)
        await it.synced()
        assert len(ana._life.profile.anchor.past) == 1
        await ana.close()
        ana = await it.reopen("tablet", connect=False)
        await ana.unlock("ana", "pin-ana")
        it.line(f"and opens after both: {len((await ana.patient('p1')).drafts)} draft")
        assert len((await ana.patient("p1")).prescriptions) == 1
        told(
            """
            the open store takes its new key over
            and opens after both: 1 draft
            """,
            it,
        )

    play(tmp_path, story)
