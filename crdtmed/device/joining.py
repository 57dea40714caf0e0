"""Making a device: an empty folder, a one-time code of the operator, and keys of its own."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from crdtmed.device import enrolment
from crdtmed.device.address import check_url
from crdtmed.device.clocks import SYSTEM, Clock
from crdtmed.device.engine_types import DeviceError
from crdtmed.device.files import DeviceFiles
from crdtmed.device.keyfile import DeviceKeys, create_key_file, open_key_file


async def enrol_device(
    folder: Path,
    passphrase: str | None = None,
    *,
    url: str,
    code: str,
    label: str,
    keys: DeviceKeys | None = None,
    insecure_plaintext: str | None = None,
    clock: Clock = SYSTEM,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> str:
    """Makes a device out of an empty folder and a one-time code of the operator; gives its id.

    The passphrase protects its keys, unless ``keys`` are kept elsewhere.  Where only the relay's answer was lost,
    enrolling again with a new code goes on with the same keys.  Raises `crdtmed.device.enrolment.EnrolmentFailed`,
    `KeyFileError` or `BadAddress`.
    """
    address = check_url(url, insecure_plaintext)
    await asyncio.to_thread(folder.mkdir, 0o700, True, True)
    files = DeviceFiles(folder)
    if files.profile.exists():
        raise enrolment.EnrolmentFailed("enrolled", f"{folder} holds an enrolled device: open it")
    if keys is None:
        keys = await _keys(files, passphrase, random_bytes)
    post = enrolment.http_post(address)
    profile, _ = await enrolment.enrol(files, keys, address, code, label, post, clock.reading)
    return profile.device


async def _keys(files: DeviceFiles, passphrase: str | None, random_bytes: Callable[[int], bytes]) -> DeviceKeys:
    if passphrase is None:
        raise DeviceError("no_keys", "neither a passphrase nor keys were given", "give one of them")
    if files.keys.exists():
        return await asyncio.to_thread(open_key_file, files.keys, passphrase)
    return await asyncio.to_thread(create_key_file, files.keys, passphrase, random_bytes)
