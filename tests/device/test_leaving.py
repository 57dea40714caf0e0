"""When a judged statement leaves the outbox: its base has reached its verdict, or never will."""

from pathlib import Path

import pytest

from crdtmed.device import engine_relay, engine_verdicts
from crdtmed.device.session import Place
from crdtmed.device.store import BaseRow
from crdtmed.verdict import Status, Verdict
from tests.device.scripted_relay import NOW
from tests.device.world import LOG, P1, TODAY, administer, device_in, run

OLD, NEW = "a" * 16, "b" * 16
ELSEWHERE = {P1: Place(OLD, 1, True)}


@pytest.mark.parametrize(
    ("base", "places", "just_now", "leaves"),
    [
        (Place(OLD, 6, False), None, False, False),
        (Place(OLD, 7, False), None, False, True),
        (Place(NEW, 9, False), None, False, False),
        (Place(NEW, 9, False), {TODAY: Place(NEW, 9, False)}, False, False),
        (Place(NEW, 9, False), {TODAY: Place(NEW, 9, True)}, False, True),
        (Place(NEW, 9, False), {TODAY: Place(NEW, 9, True)}, True, True),
        (None, None, False, False),
        (None, {}, False, False),
        (None, ELSEWHERE, False, True),
        (None, {TODAY: Place(OLD, 6, True)}, False, False),
        (None, {TODAY: Place(OLD, 7, True)}, False, True),
        (None, {TODAY: Place("", 0, False)}, False, False),
        (None, {TODAY: Place("", 0, True)}, True, False),
        (None, {TODAY: Place("", 0, True)}, False, True),
    ],
    ids=[
        "its base is behind",
        "its base is there",
        "offline, its base is of another epoch",
        "its base is of another epoch, and more of it may come",
        "its base is of another epoch, and whole",
        "its base is of another epoch, and whole, whenever it was judged",
        "offline, without a base",
        "nothing was asked for yet",
        "its document is not wanted",
        "its first changes are on their way",
        "its first changes have come",
        "the relay has not answered yet",
        "the relay has no such document, and has judged just now: its first change is on its way",
        "the relay has no such document any more",
    ],
)
def test_a_judged_statement_leaves_when_nothing_of_it_can_come_any_more(
    tmp_path: Path, base: Place | None, places: dict[str, Place] | None, just_now: bool, leaves: bool
) -> None:
    async def story() -> None:
        async with device_in(tmp_path).engine() as engine:
            core = engine.core
            said = await administer(engine, 1, LOG)
            if places is not None:
                engine_relay.begin(core).places.update(places)
            if base is not None:
                core.rows[TODAY] = BaseRow(TODAY, base.epoch, base.position, 0, NOW)
            item = core.outbox.items[said.ref]
            core.outbox.judged(item, Verdict(said.ref, Status.ACCEPTED, NOW, TODAY, OLD, 7))
            item.judged_in = core.conversation if just_now else 0
            core.judged.add(said.ref)
            assert (engine_verdicts.leaving(core) == [item]) == leaves

    run(story())
