"""Keys rotated by the operator: devices follow by themselves, and what is cut short is begun again."""

import asyncio
from pathlib import Path

import pytest

from crdtmed.limits import MAX_SCOPE_ID_CHARS
from relay.identity.keyring import open_secrets
from relay.identity.leases import RotationPending
from relay.operator import rotating
from relay.operator.office import CannotOpen, fingerprint, make_relay, open_office, secrets_of, sole_use
from relay.operator.rotating import rotate_device, rotate_identity, rotate_relay
from relay.settings import Settings
from tests.scenarios.hospital import Hospital, play


def test_devices_follow_another_identity_key_and_another_relay_key(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        device = await it.device("tablet", "nia", patients=["p1"], sites=["ward"])
        before = device._life.profile.anchor
        await it.stop_relay()
        shown = await asyncio.to_thread(rotate_identity, it.settings)
        renamed = await asyncio.to_thread(rotate_relay, it.settings)
        assert renamed == {"relay": "relay-2", "retired": ["relay"]}
        await it.start_relay()
        await it.synced("tablet")
        after = device._life.profile.anchor
        assert fingerprint(after.identity) == shown["identity"]
        assert [past.public for past in after.past] == [before.identity]
        await device.close()
        again = await it.reopen("tablet")
        assert again._life.profile.anchor == after
        await again.sign_in("nia", "password-of-nia", "pin-nia")
        await it.synced("tablet")
        fresh = await it.device("second", "ana", patients=["p1"])
        assert fresh._life.profile.anchor.identity == after.identity
        assert (await fresh.patient("p1")).label.name == "Maria Muster"

    play(tmp_path, story)


def test_a_devices_store_comes_under_another_key_while_it_is_open(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        device = await it.device("tablet", "nia", patients=["p1"], sites=["ward"])

        def rotate() -> None:
            with open_office(it.settings) as office:
                rotate_device(office, device.status().device)
                with pytest.raises(RotationPending):
                    rotate_device(office, device.status().device)

        keys = device._life.held.database
        assert keys is not None
        await asyncio.to_thread(rotate)
        await device.disconnect()
        await device.connect()
        async with asyncio.timeout(20):
            while device._life.held.database == keys:
                await asyncio.sleep(0.05)
        await device.close()
        again = await it.reopen("tablet")
        held = again._life.held.database
        assert held is not None
        assert held.current != keys.current
        assert (await again.patient("p1")).label.name == "Maria Muster"

    play(tmp_path, story)


@pytest.mark.parametrize("writes", [1, 2])
def test_a_rotation_that_was_cut_short_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    settings = Settings(folder=tmp_path / "relay")
    first = make_relay(settings)
    real, left = rotating._write, [writes]

    def write(of: Settings, held: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        real(of, held)  # type: ignore[arg-type]  # handed through

    with monkeypatch.context() as patch:
        patch.setattr(rotating, "_write", write)
        with pytest.raises(KeyboardInterrupt):
            rotate_identity(settings)
    committed = writes == 2
    assert (open_secrets(secrets_of(settings), None).next_identity is not None) is committed
    with open_office(settings) as office:
        assert (fingerprint(office.identity.ring.identity.public) != first) is committed
    second = rotate_identity(settings)["identity"]
    assert open_secrets(secrets_of(settings), None).next_identity is None
    with open_office(settings) as office:
        assert fingerprint(office.identity.ring.identity.public) == second


def test_a_running_relay_is_not_rotated_under(tmp_path: Path) -> None:
    settings = Settings(folder=tmp_path / "relay")
    before = make_relay(settings)
    with sole_use(settings):  # as a relay that serves holds it
        for rotate in (rotate_identity, rotate_relay):
            with pytest.raises(CannotOpen, match="stop it first"):
                rotate(settings)
    with open_office(settings) as office:
        assert fingerprint(office.identity.ring.identity.public) == before


def test_a_relay_with_the_longest_name_that_it_may_have_is_rotated_and_runs_on(tmp_path: Path) -> None:
    settings = Settings(tmp_path, name="a" * MAX_SCOPE_ID_CHARS)
    make_relay(settings)
    for number in (2, 3):
        assert rotate_relay(settings)["relay"] == f"{settings.name}-{number}"
    with open_office(settings) as office:
        assert office.identity.ring.relay_name == f"{settings.name}-3"
