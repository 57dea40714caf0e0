"""A hosted knowledge base behind a relay's process: alerts, their override, an outage, and who waits for it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from crdtmed.aggregates.alert_override_record import AlertsRegister, OverrideReason
from crdtmed.device.device import Device
from crdtmed.device.engine import Said
from crdtmed.device.engine_types import State
from relay import cli
from relay.operator.office import open_office
from relay.settings import Settings
from tests.relay.cli.desk import served
from tests.scenarios.hospital import PATIENCE_S, STAFF, Hospital, _connected, _set_up, mg, ordered


def shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The snapshot in force."""
    capsys.readouterr()
    assert cli.main(["--folder", str(folder), "--json", "status"]) == 0
    snapshot: str = json.loads(capsys.readouterr().out)["knowledge"]
    return snapshot


def alerts(folder: Path, prescription: str) -> AlertsRegister:
    """The alerts that the relay keeps on a draft."""
    with open_office(Settings(folder=folder)) as office:
        found = office.run(lambda batch: batch.register("patient/p1", f"alerts/{prescription}"))
    assert isinstance(found, AlertsRegister)
    return found


async def outcome(doing: Awaitable[Said]) -> tuple[State, str]:
    """State and reason of something said."""
    said = await doing
    async with asyncio.timeout(PATIENCE_S):
        state = await said.settled()
    verdict = await said.verdict()
    return state, verdict.code if verdict is not None else ""


@asynccontextmanager
async def tablet(it: Hospital, port: int) -> AsyncIterator[Device]:
    """A device of ana's that holds p1."""
    folder, passphrase = it.folder / "tablet", "a passphrase of the tests"
    code = await asyncio.to_thread(it._code, STAFF["ana"][2])
    await Device.enrol(folder, passphrase, url=f"ws://127.0.0.1:{port}", code=code, label="t")
    device = await Device.open(folder, passphrase)
    try:
        await device.connect()
        assert await device.until(lambda: _connected(device), PATIENCE_S)
        await device.sign_in("ana", "password-of-ana", "pin-ana")
        await device.hold(patients=["p1"])
        assert await device.connected(PATIENCE_S)
        yield device
    finally:
        await device.close()


@pytest.fixture
def it(tmp_path: Path) -> Hospital:
    made = Hospital(tmp_path, Settings(folder=tmp_path / "relay"))
    _set_up(made)
    return made


def test_alerts_of_a_hosted_knowledge_base_can_be_overridden(
    hooks: str, it: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = it.settings.folder
    assert shown(folder, capsys) == "2026-11"

    async def story(port: int) -> None:
        async with tablet(it, port) as device:
            draft = await ordered(device, "p1")
            assert await outcome(device.sign(draft)) == (State.REFUSED, "alerts_open")
            assert shown(folder, capsys) == "checks", "what answers is what the directory names"
            register = alerts(folder, draft.prescription)
            [card] = register.cards
            assert (card.summary, register.snapshot) == ("bleeding", "checks")
            assert await device.connected(PATIENCE_S)
            said = device.override("p1", draft.prescription, card.id, OverrideReason.WILL_MONITOR)
            assert await outcome(said) == (State.ACCEPTED, "")
            assert await outcome(device.sign(draft)) == (State.ACCEPTED, "")

    with served(folder, CRDTMED_RELAY_KNOWLEDGE_URL=f"{hooks}/good") as relay:
        asyncio.run(story(relay.port))


def test_one_that_is_silent_refuses_the_sign_and_nothing_else_waits(hooks: str, it: Hospital) -> None:
    async def story(port: int) -> None:
        async with tablet(it, port) as device:
            draft, other = await ordered(device, "p1"), device.draft("p1")
            signing = asyncio.ensure_future(outcome(device.sign(draft)))
            # Said after it, and answered before it.
            [said] = await other.set(dose=mg("5"))
            async with asyncio.timeout(PATIENCE_S):
                assert await said.settled() is State.ACCEPTED
            assert not signing.done()
            assert await signing == (State.REFUSED, "knowledge_unavailable")

    with served(it.settings.folder, CRDTMED_RELAY_KNOWLEDGE_URL=f"{hooks}/silent") as relay:
        asyncio.run(story(relay.port))


def test_back_at_the_embedded_rules_they_are_in_force_again(
    hooks: str, it: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = it.settings.folder

    async def story(port: int) -> None:
        async with tablet(it, port) as device:
            assert (await outcome(device.sign(await ordered(device, "p1"))))[1] == "alerts_open"

    with served(folder, CRDTMED_RELAY_KNOWLEDGE_URL=f"{hooks}/good") as relay:
        asyncio.run(story(relay.port))
    assert shown(folder, capsys) == "checks"
    with served(folder):
        pass
    assert shown(folder, capsys) == "2026-11"
