"""A large flush with refusals and conflicts in its middle; a relay restored; a link that keeps breaking; a copy."""

import asyncio
import shutil
from collections import Counter
from pathlib import Path

import pytest

from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.prescription_draft import Indication
from crdtmed.device import engine_opened
from crdtmed.device.engine import Said
from crdtmed.device.engine_types import DeviceError, Progress, State
from crdtmed.device.life import DeviceEvent
from crdtmed.device.link import Transport, websocket
from relay.imports import ImportKind
from relay.operator import loading, upkeep
from relay.operator.office import database_of, open_office
from tests.scenarios.hospital import PATIENCE_S, PATIENTS, Hospital, mg, ordered, play, signed, told

MANY = 120


async def backed_up(it: Hospital) -> Path:
    """A backup of the relay as it is now."""
    backup = it.folder / "backup.sqlite"

    def back_up() -> None:
        with open_office(it.settings) as office:
            upkeep.back_up(office, backup)

    await asyncio.to_thread(back_up)
    return backup


async def lost_and_restored(it: Hospital, backup: Path) -> None:
    """The relay stops, its database is lost, and the backup takes its place; it is not started yet."""
    await it.stop_relay()
    database = database_of(it.settings)
    for beside in database.parent.glob(f"{database.name}*"):
        beside.rename(it.folder / f"lost-{beside.name}")
    await asyncio.to_thread(upkeep.restore, it.settings, backup)


def test_refusals_and_conflicts_in_the_middle_of_a_flush(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("tablet", "ana", patients=["p1", "p2", "p3"])
        ben = await it.device("tablet-2", "ben", patients=["p1", "p2", "p3"])
        nia = await it.device("tablet-3", "nia", patients=["p1"])
        shared = await ordered(ana, "p1")
        await it.synced()
        await ana.disconnect()
        said: list[Said] = []
        for number in range(MANY):
            draft = shared if number % 4 == 0 else ana.draft(("p1", "p2", "p3")[number % 3])
            said += await draft.set(indication=Indication(f"write {number}"))
        it.line(f"ana writes {len(said)} times offline, a quarter of it in one draft")
        assert (await (await ben.sign(ben.draft("p1", shared.prescription))).settled()) is State.ACCEPTED

        def move() -> None:
            file = it.folder / "moved"
            lines = PATIENTS.splitlines()
            file.write_text(f"{lines[0]}\n{lines[3].rsplit(',', 1)[0]},\n", encoding="utf-8")
            with open_office(it.settings) as office:
                loading.load(office, ImportKind.PATIENTS, file)

        await asyncio.to_thread(move)
        it.line("meanwhile ben signs that draft, and p3 is in nobody's care any more")
        heard: list[DeviceEvent] = []
        ana._life.listeners.append(heard.append)
        await ana.connect()
        states = Counter([await one.settled() for one in said])
        it.line(", ".join(f"{count} {state}" for state, count in sorted(states.items())))
        await it.synced()
        reasons = Counter(entry.code for entry in await ana.inbox())
        it.line("her inbox: " + ", ".join(f"{count} {code}" for code, count in sorted(reasons.items())))
        assert all(entry.says for entry in await ana.inbox())
        assert any(isinstance(one, Progress) and one.what == "flush" for one in heard)
        it.same_everywhere()
        refused = {one.ref for one in said if await one.state() is not State.ACCEPTED}
        for device in (ana, ben, nia):
            for target in ("patient/p1/drafts", "patient/p2/drafts"):
                assert not refused & {entry.ref for entry in await device.engine.statements(target)}
        told(
            """
            ana writes 120 times offline, a quarter of it in one draft
            meanwhile ben signs that draft, and p3 is in nobody's care any more
            60 accepted, 30 conflict, 30 refused
            her inbox: 30 draft_closed, 30 patient_not_in_care
            """,
            it,
        )

    play(tmp_path, story)


def test_a_relay_restored_from_a_backup_gets_back_what_devices_hold(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("doctor", "ana", patients=["p1"])
        nia = await it.device("tablet", "nia", patients=["p1"])
        rx = await signed(it, ana, "p1")
        backup = await backed_up(it)
        given = await nia.administration("p1", "given", prescription=rx, dose=Quantity("500", "mg"))
        said = await it.settled("nia", "gives it", nia.administer("p1", given))
        assert said is not None
        await it.settled("ana", "stops it", ana.stop("p1", rx, "rash"))
        await it.synced()
        await lost_and_restored(it, backup)
        await it.start_relay()
        it.line("the relay is restored from the backup of before")
        for name in ("doctor", "tablet"):
            await it.devices[name].disconnect()
            await it.devices[name].connect()

        async def back() -> bool:
            view = await ana.patient("p1")
            (prescription,) = view.prescriptions
            return len(view.record.entries) == 1 and prescription.status == "stopped"

        await it.holds(ana, back)
        await it.synced()
        it.same_everywhere()
        it.line("what was given is there again, and the prescription is stopped")
        told(
            """
            nia gives it: accepted
            ana stops it: accepted
            the relay is restored from the backup of before
            what was given is there again, and the prescription is stopped
            """,
            it,
        )

    play(tmp_path, story)


def test_a_link_that_keeps_breaking_loses_and_doubles_nothing(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("doctor", "ana", patients=["p1"])
        nia = await it.device("tablet", "nia", patients=["p1"])
        rx = await signed(it, ana, "p1")
        await nia.disconnect()
        said: list[Said] = []
        for number in range(MANY):
            given = await nia.administration(
                "p1", "given", prescription=rx, dose=Quantity(str(number + 1), "mg"), occurred_at=it.now_ms() + number
            )
            said.append(await nia.administer("p1", given))
        before = {entry.ref for entry in (await nia.patient("p1")).record.entries}
        budget = iter(range(6, 60, 6))

        async def breaking() -> Transport:
            transport = await websocket(f"ws://127.0.0.1:{it.port}/sync")()
            left = next(budget, None)
            return transport if left is None else Breaking(transport, left)

        await nia.connect(dial=breaking)
        for one in said:
            assert await one.settled() is State.ACCEPTED
        await it.synced()
        it.same_everywhere()
        for device in (ana, nia):
            entries = (await device.patient("p1")).record.entries
            assert {entry.ref for entry in entries} == before
            assert sorted(int(entry.said.dose.value) for entry in entries) == list(range(1, MANY + 1))  # type: ignore[union-attr]  # it is there

    play(tmp_path, story)


class Breaking:
    """A transport that is cut after some frames."""

    def __init__(self, inner: Transport, left: int) -> None:
        self.inner = inner
        self.left = left

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise ConnectionResetError("cut")

    async def send(self, data: bytes) -> None:
        self._count()
        await self.inner.send(data)

    async def recv(self) -> bytes:
        data = await self.inner.recv()
        self._count()
        return data

    async def close(self) -> None:
        await self.inner.close()


def test_two_copies_of_one_device_are_found_out(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        nia = await it.device("tablet", "nia", patients=["p1"])
        await nia.close()
        shutil.copytree(it.folder / "tablet", it.folder / "copy")
        it.keys["copy"] = it.keys["tablet"]
        nia = await it.reopen("tablet")
        await nia.unlock("nia", "pin-nia")
        given = await nia.administration("p1", "not-given", draft="aaaaaaaaaaaaaaaa", status_reason="asleep")
        one = await nia.administer("p1", given)
        assert await one.settled() is State.ACCEPTED
        await it.synced("tablet")
        await nia.close()
        other = await it.reopen("copy", connect=False)
        await other.unlock("nia", "pin-nia")
        two = await other.administer("p1", given)
        await other.connect()
        assert await two.settled() is State.ACCEPTED
        await it.synced("copy")
        entries = (await other.patient("p1")).record.entries
        assert {entry.ref for entry in entries} == {one.ref, two.ref}
        with open_office(it.settings) as office:
            alarms = [(kind, says) for _, _, kind, _, says in office.record.alarms()]
        assert any("second device" in says or "number" in says for _, says in alarms), alarms

    play(tmp_path, story)


def test_after_a_restart_the_outbox_is_there_and_nobody_is_signed_in(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("tablet", "ana", patients=["p1"])
        await ana.disconnect()
        await ana.draft("p1").set(dose=mg("1"))
        await ana.close()
        with pytest.raises(DeviceError, match="locked"):
            ana.outbox()
        again = await it.reopen("tablet", connect=False)
        assert len(again.outbox()) == 1
        assert again.grant is None, "nobody is signed in after a restart"
        with pytest.raises(DeviceError, match="not_signed_in"):
            await again.draft("p1").set(dose=mg("2"))

    play(tmp_path, story)


def test_a_restored_relay_gets_back_conflicts_and_the_drafts_that_were_signed(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("doctor", "ana", patients=["p1"])
        pia = await it.device("till", "pia", patients=["p1"], sites=["pharm"])
        rx = await signed(it, ana, "p1")
        await it.synced()
        backup = await backed_up(it)
        later = await signed(it, ana, "p1", units=10)
        short = await it.settled("pia", "hands over 500", pia.dispense("p1", rx, lot="A1", quantity=500))
        assert short is not None
        await it.synced()
        await lost_and_restored(it, backup)
        await it.start_relay()
        it.line("the relay is restored from the backup of before")
        for name in ("doctor", "till"):
            await it.devices[name].disconnect()
            await it.devices[name].connect()

        async def back() -> bool:
            conflicts = {one.ref for one in await pia.conflicts()}
            told = {entry.code for entry in await ana.inbox()}
            return short.ref in conflicts and "redo" in told and later in (await ana.patient("p1")).drafts

        await it.holds(ana, back)
        await it.synced()
        it.same_everywhere()
        it.line("the conflict waits for a pharmacist again, and the draft for its signature")
        draft = ana.draft("p1", later)
        await it.settled("ana", "signs it again", ana.sign(draft))
        told(
            """
            pia hands over 500: conflict (over_authorised), confirm_as_given or dispense_part or returned or lost
            the relay is restored from the backup of before
            the conflict waits for a pharmacist again, and the draft for its signature
            ana signs it again: accepted
            """,
            it,
        )

    play(tmp_path, story)


def test_stock_counts_what_is_to_be_handed_back_to_a_restored_relay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The books are those of the backup, and what left the shelf since has left it."""

    async def story(it: Hospital) -> None:
        ana = await it.device("doctor", "ana", patients=["p1"])
        pia = await it.device("till", "pia", sites=["pharm"])
        rx = await signed(it, ana, "p1")
        backup = await backed_up(it)
        said = await pia.dispense("p1", rx, lot="A1", quantity=15)
        assert await said.settled() is State.ACCEPTED
        await it.synced()
        await it.retire("doctor")
        await lost_and_restored(it, backup)
        with monkeypatch.context() as fault:
            fault.setattr(engine_opened, "hand_back", lambda *_: None)
            await it.start_relay()
            await pia.disconnect()
            await pia.connect()
            assert await pia.until(lambda: any(pia.engine.core.handing.values()), PATIENCE_S)
            assert await pia.connected(PATIENCE_S)
            await pia.disconnect()
        shown = (await pia.site("pharm")).lot("amox-500", "A1")
        assert shown is not None
        assert (shown.confirmed, shown.tentative, shown.pending) == (21, 6, (said.ref,))
        await pia.connect()

        async def level() -> bool:
            lot = (await pia.site("pharm")).lot("amox-500", "A1")
            return lot is not None and (lot.confirmed, lot.tentative, lot.pending) == (6, 6, ())

        await it.holds(pia, level)

    play(tmp_path, story)
