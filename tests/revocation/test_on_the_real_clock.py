"""Once on the real clock: a real relay, real sockets, a real encrypted store, and an operator beside the relay.

How long it took is printed; what is asserted is the contract's five minutes.
"""

import asyncio
import json
import time
from pathlib import Path

import pytest

from crdtmed.device.device import Device
from crdtmed.device.engine_types import DeviceError
from crdtmed.device.keyfile import KeyFileError
from crdtmed.device.life import DeviceWiped
from crdtmed.limits import WIPE_DEADLINE_S
from relay.operator.devices import show_device
from relay.operator.office import open_office
from tests.scenarios.hospital import PASSPHRASE, Hospital, play


async def wiped(device: Device) -> None:
    """Waits for the end of a device."""
    async with asyncio.timeout(WIPE_DEADLINE_S):
        async for event in device.changes():
            if isinstance(event, DeviceWiped):
                return


def status_of(it: Hospital, device: str) -> dict[str, object]:
    with open_office(it.settings) as office:
        return dict(show_device(office, device))


async def told(it: Hospital, device: str) -> dict[str, object]:
    """What the operator sees, once the confirmation is there."""
    async with asyncio.timeout(WIPE_DEADLINE_S):
        while True:
            found = await asyncio.to_thread(status_of, it, device)
            if found["wiped_at"] is not None:
                return found
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("relay_restarts", [False, True])
def test_within_five_minutes_on_the_real_clock(tmp_path: Path, relay_restarts: bool) -> None:
    async def story(it: Hospital) -> None:
        device = await it.device("ward tablet", "nia", patients=["p1"], sites=["ward"], key_file=True)
        other = await it.device("other tablet", "ana", patients=["p1"])
        name = device.status().device
        copies = {path.name: path.read_bytes() for path in (it.folder / "ward tablet").iterdir()}
        assert {"device.keys", "device.lease", "device.db"} <= copies.keys()
        if relay_restarts:
            await it.stop_relay()
        ended = asyncio.create_task(wiped(device))
        await asyncio.sleep(0)
        await it.revoke(device, "lost in the car park")
        began = time.monotonic()
        if relay_restarts:
            await it.start_relay()
        await ended
        print(f"wiped {time.monotonic() - began:.1f} s after the revocation, relay restarted: {relay_restarts}")
        assert list((it.folder / "ward tablet").iterdir()) == []
        found = await told(it, name)
        assert found["unseen"] == ()
        assert json.dumps(found["handed_over"]) == "0"
        with pytest.raises(KeyFileError, match="missing"):
            await Device.open(it.folder / "ward tablet", PASSPHRASE)
        await the_copies_are_no_use(it, copies)
        await it.synced("other tablet")
        assert other.status().report is not None

    play(tmp_path, story)


async def the_copies_are_no_use(it: Hospital, copies: dict[str, bytes]) -> None:
    """Somebody copied every file before, and has the passphrase: the first contact with the relay ends that too."""
    folder = it.folder / "copied"
    folder.mkdir()
    for name, data in copies.items():
        (folder / name).write_bytes(data)
    device = await Device.open(folder, PASSPHRASE, clock=it.clock)  # while the lease in the copy lasts, it opens
    try:
        ended = asyncio.create_task(wiped(device))
        await asyncio.sleep(0)
        await device.connect()
        await ended
        with pytest.raises(DeviceError):
            await device.patient("p1")
    finally:
        await device.close()
    assert list(folder.iterdir()) == []


def test_a_copy_kept_offline_until_its_lease_lapsed_never_opens_again(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        device = await it.device("ward tablet", "nia", patients=["p1"], sites=["ward"], key_file=True)
        await device.close()
        folder = it.folder / "copied"
        folder.mkdir()
        for path in (it.folder / "ward tablet").iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        await it.revoke(device, "stolen")
        it.ahead_ms += 13 * 3_600_000
        copy = await Device.open(folder, PASSPHRASE, clock=it.clock)
        try:
            assert not (folder / "device.lease").exists()
            with pytest.raises(DeviceError):
                await copy.patient("p1")
            ended = asyncio.create_task(wiped(copy))
            await asyncio.sleep(0)
            await copy.connect()
            await ended
        finally:
            await copy.close()
        assert list(folder.iterdir()) == []

    play(tmp_path, story)
