"""A relay's folder and an operator."""

from pathlib import Path

import pytest

from crdtmed.aggregates.stock_item import Receipt
from crdtmed.documents import log_of
from relay.quarantine import hand_over
from tests.relay.cli.desk import Desk, world_in
from tests.relay.world import START


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    """An operator at a folder where nothing is yet."""
    monkeypatch.setenv("CRDTMED_RELAY_LISTEN_PORT", "0")
    return Desk(tmp_path / "relay", capsys, monkeypatch)


@pytest.fixture
def ready(desk: Desk) -> Desk:
    """An operator whose relay is set up, with two sites."""
    assert desk.run("init").status == 0
    for site in ("ward", "pharm"):
        desk.json("site", "add", site, "--name", site.title(), "--address", "1 Way", "--zone", "Europe/Berlin")
    return desk


@pytest.fixture
def told(desk: Desk) -> dict[str, str]:
    """A relay to which three devices said something; one of them is revoked."""
    world = world_in(desk.folder)
    world.patient("p2")
    one, two, gone = world.tablet(), world.tablet(), world.tablet()
    drafts = "patient/p1/drafts"
    first = one.dose("p1", "rx1")
    world.commit(world.push(one, drafts, one.into_drafts(drafts, 11, first)))
    world.now_ms += 60_000
    second = two.dose("p2", "rx2")
    world.commit(world.push(two, "patient/p2/drafts", two.into_drafts("patient/p2/drafts", 12, second)))
    log = world.log("site/pharmacy")
    receipt = Receipt("S", "N1", "amox-500", "L1", "2099-01-01", 5, "{tablet}", START)
    wrong = two.say(receipt, log_of("site/pharmacy"))
    world.commit(world.push(two, log, two.into_log(log, 13, wrong)))
    desk.json("revoke", gone.id, "--reason", "left on a bus")
    late = gone.dose("p1", "rx1", "7")
    world.task(lambda batch: hand_over(batch, gone.id, gone.signer.public, (late,)))
    world.task(lambda batch: batch.alarm("device_marks", gone.id, "an older copy of its files"))
    world.connection.close()
    return {
        "one": one.id, "two": two.id, "gone": gone.id, "first": first.statement.ref, "second": second.statement.ref,
        "wrong": wrong.statement.ref, "late": late.statement.ref,
    }  # fmt: skip
