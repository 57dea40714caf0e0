"""The pharmacy: four hours without a network, the last pack dispensed twice, goods received twice, stock adding up."""

from collections.abc import Awaitable
from datetime import date
from pathlib import Path

import pypdfium2  # type: ignore[import-untyped]  # a wrapper of a C library, untyped
import pytest

from crdtmed.aggregates.conflict import Action
from crdtmed.aggregates.stock_item import AdjustReason
from crdtmed.device.device import Device
from crdtmed.device.engine import Said
from crdtmed.device.engine_types import DeviceError, NeedsRelay, State
from crdtmed.gs1 import element_string
from tests.scenarios.hospital import PARACETAMOL, Hospital, mg, play, signed, told

HOUR_MS = 3_600_000


async def lot(device: Device, lot: str, item: str = "amox-500") -> str:
    """A lot as the device shows it."""
    view = (await device.site("pharm")).lot(item, lot)
    if view is None:
        return f"{lot}: unknown"
    shown = f"{lot}: {view.confirmed}"
    shown += f" ({view.tentative} tentative)" if view.is_tentative else ""
    return shown + (f", {view.shortage} short" if view.shortage else "")


def test_an_outage_of_four_hours_with_receipts_and_dispenses(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("tablet", "ana", patients=["p1"])
        rx = await signed(it, ana, "p1", units=30, repeats=1)
        await it.device("till-2", "qun")
        await it.retire("till-2")
        pia = await it.device("till", "pia", sites=["pharm"])
        assert pia.patients == ("p1",), "the queue brings its patients"
        await pia.disconnect()
        it.line("the pharmacy's network fails")
        scan = await pia.read_scan(element_string("09506000134352", lot="N1", expiry=date(2050, 1, 31), serial="s1"))
        receiving = pia.receive("pharm", supplier="Wholesale", delivery_note="LS-1", quantity=21, scan=scan)
        await it.queued("pia", "receives a scanned pack of lot N1", receiving)
        dispensed = await it.queued("pia", "dispenses 20 of it", pia.dispense("p1", rx, lot="N1", quantity=20))
        await it.queued("pia", "dispenses 10 of A1", pia.dispense("p1", rx, lot="A1", quantity=10))
        it.line(f"her till shows {await lot(pia, 'N1')}; {await lot(pia, 'A1')}")
        (entry,) = (await pia.site("pharm")).queue
        it.line(f"its queue shows {entry.remaining} to dispense, {entry.tentative} tentatively, for {entry.label.name}")  # type: ignore[union-attr]  # it is there once this is reached
        first, second = await pia.label(dispensed), await pia.label(dispensed)
        assert _text(first) != _text(second), "each print has its number"
        assert "tentative" in _text(first).casefold()
        assert "20 capsules" in _text(first)

        it.ahead_ms += 4 * HOUR_MS
        await pia.close()
        pia = await it.reopen("till", connect=False)
        it.line("four hours later the till is restarted")
        await pia.unlock("qun", "pin-qun")
        it.line(f"it shows {await lot(pia, 'N1')}; {len(pia.outbox())} statements wait")
        age = (await pia.site("pharm")).age
        assert not age.live
        assert age.age_ms is not None
        assert age.age_ms >= 4 * HOUR_MS
        await pia.connect()
        await it.synced()
        assert await pia.said(dispensed.ref).settled() is State.ACCEPTED
        it.line(f"the network is back: {await lot(pia, 'N1')}; {await lot(pia, 'A1')}; inbox {len(await pia.inbox())}")
        assert "tentative" not in _text(await pia.label(dispensed.ref)).casefold()
        (prescription,) = (await ana.patient("p1")).prescriptions
        it.line(f"ana sees {prescription.register.dispensed} of {prescription.register.authorised} dispensed")
        told(
            """
            the pharmacy's network fails
            pia receives a scanned pack of lot N1: pending
            pia dispenses 20 of it: pending
            pia dispenses 10 of A1: pending
            her till shows N1: 0 (1 tentative); A1: 21 (11 tentative)
            its queue shows 60 to dispense, 30 tentatively, for Maria Muster
            four hours later the till is restarted
            it shows N1: 0 (1 tentative); 3 statements wait
            the network is back: N1: 1; A1: 11; inbox 0
            ana sees 30 of 60 dispensed
            """,
            it,
        )

    play(tmp_path, story)


def _text(pdf: bytes) -> str:
    document = pypdfium2.PdfDocument(pdf)
    text: str = document[0].get_textpage().get_text_range()
    document.close()
    return text


def test_two_pharmacists_dispense_the_last_pack_and_both_try_to_resolve_it(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("tablet", "ana", patients=["p1", "p3"])
        rx = await signed(it, ana, "p1")
        pia = await it.device("till-1", "pia", sites=["pharm"])
        qun = await it.device("till-2", "qun", sites=["pharm"])
        await pia.disconnect()
        await qun.disconnect()
        one = await it.queued("pia, offline,", "hands over 15 of A1", pia.dispense("p1", rx, lot="A1", quantity=15))
        two = await it.queued("qun, offline,", "hands over 15 of A1", qun.dispense("p1", rx, lot="A1", quantity=15))
        await pia.connect()
        assert await one.settled() is State.ACCEPTED
        await qun.connect()
        it.line(f"pia's is {await one.state()}, qun's is {await two.settled()}")
        await it.synced()
        (entry,) = await qun.inbox()
        it.line(f"qun is told: {entry.says}")
        (conflict,) = await pia.conflicts()
        assert conflict.label is not None
        it.line(f"pia sees it too, of {conflict.label.name}: {' or '.join(conflict.actions)}")
        it.line(f"pia's till shows {await lot(pia, 'A1')}")
        with pytest.raises(DeviceError, match="action_not_offered"):
            await pia.resolve(conflict, Action.CANCEL)
        await pia.disconnect()
        await qun.disconnect()
        first = await pia.resolve(conflict, Action.DISPENSE_PART, quantity=6)
        second = await qun.resolve(entry, Action.RETURNED)
        assert not await qun.inbox(), "what is being resolved is nobody's to look at"
        assert (await pia.conflicts())[0].resolving == (first.ref,)
        await pia.connect()
        it.line(f"pia resolves it by dispensing the 6 that are left to dispense: {await first.settled()}")
        await qun.connect()
        it.line(f"qun resolves it as returned: {await second.settled()}, {(await second.verdict()).code}")  # type: ignore[union-attr]  # it is there once this is reached
        await it.synced()
        (register,) = (await ana.patient("p1")).prescriptions
        it.line(f"dispensed {register.register.dispensed} of 21; {await lot(pia, 'A1')}")
        for device in (pia, qun):
            open_ones = [c for c in await device.conflicts() if c.ref == two.ref]
            assert not open_ones
        told(
            """
            pia, offline, hands over 15 of A1: pending
            qun, offline, hands over 15 of A1: pending
            pia's is accepted, qun's is conflict
            qun is told: over authorised: authorised 21, dispensed 15, wanted 15
            pia sees it too, of Maria Muster: confirm_as_given or dispense_part or returned or lost
            pia's till shows A1: 6 (-9 tentative)
            pia resolves it by dispensing the 6 that are left to dispense: accepted
            qun resolves it as returned: conflict, already_resolved
            dispensed 21 of 21; A1: 0
            """,
            it,
        )

    play(tmp_path, story)


def test_goods_received_twice_and_stock_that_was_counted(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        pia = await it.device("till", "pia", sites=["pharm"])
        sam = await it.device("office", "sam", sites=["pharm"])

        def delivery(device: Device) -> Awaitable[Said]:
            goods = ("Wholesale", "LS-7", "para-500", "P1")
            supplier, note, item, lot = goods
            when = date(2099, 1, 31)
            return device.receive(
                "pharm", supplier=supplier, delivery_note=note, item=item, lot=lot, quantity=50, expiry=when
            )

        await it.settled("pia", "receives 50", delivery(pia))
        said = await it.settled("sam", "receives it again", delivery(sam))
        assert said is not None
        await it.synced()
        await it.settled("pia", "discards it", pia.resolve(said.ref, Action.DISCARD_AS_DUPLICATE))
        await it.synced()
        it.line(f"{await lot(pia, 'P1', 'para-500')}")
        adjusting = sam.adjust("pharm", "para-500", "P1", -2, AdjustReason.DAMAGED)
        await it.settled("sam", "writes off 2", adjusting)
        await it.synced()
        await it.settled("sam", "writes off 1000", sam.adjust("pharm", "para-500", "P1", -1000, AdjustReason.COUNT))
        await sam.disconnect()
        with pytest.raises(NeedsRelay):
            await sam.adjust("pharm", "para-500", "P1", 1, AdjustReason.COUNT)
        it.line(f"{await lot(pia, 'P1', 'para-500')}")
        told(
            """
            pia receives 50: accepted
            sam receives it again: conflict (possible_duplicate_receipt), confirm_as_separate or discard_as_duplicate
            pia discards it: accepted
            P1: 150
            sam writes off 2: accepted
            sam writes off 1000: refused (below_zero)
            P1: 148
            """,
            it,
        )

    play(tmp_path, story)


def test_medicine_that_was_handed_over_and_not_in_the_books_becomes_a_shortage(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("tablet", "ana", patients=["p1"])
        rx = await signed(it, ana, "p1", medication=PARACETAMOL, dose=mg("500"), units=130, unit="{tablet}")
        pia = await it.device("till", "pia", sites=["pharm"])
        sam = await it.device("office", "sam", sites=["pharm"])
        said = await pia.dispense("p1", rx, lot="P1", quantity=130)
        verdict = (await said.settled(), await said.verdict())[1]
        assert verdict is not None
        it.line(f"pia hands over 130 of P1: {verdict.code}")
        assert set(verdict.actions) == {
            *("confirm_as_given", "switch_lot", "dispense_part", "try_again", "returned", "lost"),
        }
        await it.synced()
        it.line(f"shown {await lot(pia, 'P1', 'para-500')}")
        await it.settled("pia", "confirms it as given", pia.resolve(said.ref, Action.CONFIRM_AS_GIVEN))
        await it.synced()
        it.line(f"shown {await lot(pia, 'P1', 'para-500')}")
        close = sam.adjust("pharm", "para-500", "P1", 0, AdjustReason.CLOSES_SHORTAGE, closes_shortage=30)
        await it.settled("sam", "finds the delivery and closes the shortage", close)
        await it.synced()
        it.line(f"shown {await lot(pia, 'P1', 'para-500')}")
        told(
            """
            pia hands over 130 of P1: stock_short
            shown P1: 100 (-30 tentative)
            pia confirms it as given: accepted
            shown P1: 0, 30 short
            sam finds the delivery and closes the shortage: accepted
            shown P1: 0
            """,
            it,
        )

    play(tmp_path, story)


def test_a_resolution_in_vain_is_put_right_from_its_own_entry_in_the_inbox(tmp_path: Path) -> None:
    """What the entry offers is about the dispense, which is still open; no second conflict comes of taking it up."""

    async def story(it: Hospital) -> None:
        ana = await it.device("tablet", "ana", patients=["p1"])
        rx = await signed(it, ana, "p1")
        pia = await it.device("till", "pia", sites=["pharm"])
        said = await pia.dispense("p1", rx, lot="B7", quantity=5)
        it.line(f"pia hands over 5 of a lot that she misread: {await said.settled()}")
        await it.synced()
        again = await pia.resolve(said.ref, Action.SWITCH_LOT, lot="B1")
        it.line(f"pia reads it once more, and misreads it: {await again.settled()}")
        await it.synced()
        (entry,) = await pia.inbox()
        assert entry.statement is not None
        assert entry.statement.statement.ref != said.ref, "it is about what she chose"
        doing = pia.resolve(entry, Action.SWITCH_LOT, lot="A1")
        await it.settled("pia", "takes her glasses, and chooses from that entry", doing)
        await it.synced()
        (conflict,) = (await pia.site("pharm")).conflicts
        it.line(f"open conflicts {len(await pia.conflicts())}, inbox {len(await pia.inbox())}, {await lot(pia, 'A1')}")
        assert conflict.ref == said.ref
        told(
            """
            pia hands over 5 of a lot that she misread: conflict
            pia reads it once more, and misreads it: conflict
            pia takes her glasses, and chooses from that entry: accepted
            open conflicts 0, inbox 0, A1: 16
            """,
            it,
        )

    play(tmp_path, story)


def test_who_resolves_a_conflict_anew_is_done_with_the_resolution_that_was_in_vain(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("tablet", "ana", patients=["p1"])
        rx = await signed(it, ana, "p1")
        pia = await it.device("till", "pia", sites=["pharm"])
        said = await pia.dispense("p1", rx, lot="B7", quantity=5)
        await said.settled()
        await it.synced()
        await (await pia.resolve(said.ref, Action.SWITCH_LOT, lot="B1")).settled()
        await it.synced()
        (conflict,) = await pia.conflicts()
        await (await pia.resolve(conflict, Action.SWITCH_LOT, lot="A1")).settled()
        await it.synced()
        assert not await pia.inbox(), "nothing of it is left to choose"

    play(tmp_path, story)
