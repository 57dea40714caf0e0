"""``crdtmed``: a device on the command line.

Every answer comes as text for people or, with ``--json``, as JSON.  Errors are one line each on standard error and
exit status 1; a wrong call exits with 2, an interrupted one with 130.
"""

import argparse
import asyncio
import getpass
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final

from crdtmed import cli_show as show
from crdtmed.aggregates.content import ContentError
from crdtmed.cli_parser import build_parser
from crdtmed.device.address import BadAddress
from crdtmed.device.device import Device
from crdtmed.device.engine_types import DeviceError
from crdtmed.device.enrolment import EnrolmentFailed
from crdtmed.device.keyfile import KeyFileError
from crdtmed.device.life import DeviceEvent
from crdtmed.device.pin import PinRefused
from crdtmed.device.store_database import StoreError
from crdtmed.documents import BadName

Answer = show.Shown | Sequence[show.Shown]
Command = Callable[[Device, argparse.Namespace], Awaitable[Answer]]


class Refused(Exception):
    """A command cannot be done; the message says why and what to do."""


_FAILURES: Final = (
    BadAddress,
    BadName,
    ContentError,
    DeviceError,
    EnrolmentFailed,
    KeyFileError,
    PinRefused,
    Refused,
    StoreError,
)


def main(argv: list[str] | None = None) -> int:
    """Runs one command; gives the exit status."""
    options = build_parser().parse_args(argv)
    try:
        answer = asyncio.run(_run(options))
        if answer is not None:
            print(show.write(answer, options.json))
    except _FAILURES as error:
        print(f"crdtmed: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"crdtmed: {error.filename or 'the system'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


async def _run(options: argparse.Namespace) -> Answer | None:
    passphrase = _secret(options.passphrase_file, "passphrase of the device: ")
    if options.command == "enrol":
        return await _enrol(options, passphrase)
    async with await Device.open(options.folder, passphrase) as device:
        if options.command == "watch":
            await _watch(device, options)
            return None
        return await COMMANDS[options.command](device, options)


def _secret(path: Path | None, prompt: str) -> str:
    """A secret from the first line of a file, or from the terminal; never an argument."""
    if path is not None:
        try:
            return path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
        except UnicodeDecodeError:
            raise Refused(f"{path} is not UTF-8 text") from None
    if not sys.stdin.isatty():
        raise Refused(f"{prompt.strip(': ')}: there is no terminal to ask at; name a file with it (see --help)")
    return getpass.getpass(prompt)


# ---- joining ------------------------------------------------------------------------------------------------------


async def _enrol(options: argparse.Namespace, passphrase: str) -> Answer:
    code = _secret(options.code_file, "one-time code of the operator: ")
    device = await Device.enrol(options.folder, passphrase, url=options.url, code=code, label=options.label)
    return {"device": device, "label": options.label, "folder": str(options.folder)}


async def _sign_in(device: Device, options: argparse.Namespace) -> Answer:
    password = _secret(options.password_file, f"password of {options.user}: ")
    wants_pin = options.with_pin or options.pin_file is not None
    pin = _secret(options.pin_file, f"new PIN of {options.user}: ") if wants_pin else None
    await _online(device, options.wait)
    grant = await device.sign_in(options.user, password, pin)
    return {
        "user": grant.user,
        "name": grant.name,
        "roles": [str(role) for role in grant.roles],
        "sites": list(grant.sites),
        "until": show.when(grant.not_after),
    }


async def _online(device: Device, wait_s: float) -> None:
    await device.connect()

    def there() -> bool:
        report = device.status().report
        return report is not None and report.connected

    if not await device.until(there, wait_s):
        raise Refused(f"the relay at {device.status().url} does not answer; check the network, or wait longer (--wait)")


async def _sync(device: Device, options: argparse.Namespace) -> Answer:
    await _online(device, options.wait)
    if not (await device.flushed(options.wait) and await device.connected(options.wait)):
        raise Refused("not everything was sent and fetched in time; wait longer (--wait), and see outbox")
    return show.status(device.status())


async def _hold(device: Device, options: argparse.Namespace) -> Answer:
    await device.hold(patients=options.patient, sites=options.site)
    return {"patients": list(device.patients), "sites": list(device.sites)}


async def _release(device: Device, options: argparse.Namespace) -> Answer:
    await device.release(patients=options.patient, sites=options.site)
    return {"patients": list(device.patients), "sites": list(device.sites)}


# ---- reading ------------------------------------------------------------------------------------------------------


async def _status(device: Device, _: argparse.Namespace) -> Answer:
    return show.status(device.status())


async def _users(device: Device, _: argparse.Namespace) -> Answer:
    return [{"user": user, "name": name} for user, name in await device.users()]


async def _patients(device: Device, options: argparse.Namespace) -> Answer:
    if options.patient is not None:
        return show.patient(await device.patient(options.patient))
    rows: list[show.Shown] = []
    for name in device.patients:
        try:
            rows.append(show.patient_line(await device.patient(name)))
        except DeviceError as error:
            rows.append({**show.identifiers(None), "patient": name, "age": error.code})
    return rows


async def _outbox(device: Device, _: argparse.Namespace) -> Answer:
    return [show.queued(one) for one in device.outbox()]


async def _inbox(device: Device, options: argparse.Namespace) -> Answer:
    if options.dismiss is not None and not await device.dismiss(options.dismiss):
        raise Refused(f"the inbox has no open entry {options.dismiss}; see crdtmed inbox")
    return [show.inbox_entry(one) for one in await device.inbox(closed=options.all)]


async def _conflicts(device: Device, _: argparse.Namespace) -> Answer:
    return [show.conflict(one) for one in await device.conflicts()]


async def _stock(device: Device, options: argparse.Namespace) -> Answer:
    sites = [options.site] if options.site is not None else list(device.sites)
    if not sites:
        raise Refused("this device holds no site; crdtmed hold --site ID, then crdtmed sync")
    rows = []
    for site in sites:
        view = await device.site(site)
        lots = view.stock if options.item is None else view.lots(options.item)
        rows += [show.stock(site, lot) for lot in lots]
    return rows


# ---- doing --------------------------------------------------------------------------------------------------------


async def _resolve(device: Device, options: argparse.Namespace) -> Answer:
    await device.unlock(options.user, _secret(options.pin_file, f"PIN of {options.user}: "))
    said = await device.resolve(
        options.conflict, options.action, lot=options.lot, quantity=options.quantity, comment=options.comment
    )
    return {"statement": said.ref, "state": str(await said.state())}


async def _watch(device: Device, options: argparse.Namespace) -> None:
    await device.connect()
    with suppress(TimeoutError):
        async with asyncio.timeout(options.seconds):
            async for event in device.changes():
                shown = {"event": type(event).__name__, **_plain(event)}
                if options.json:
                    print(json.dumps(shown, ensure_ascii=False), flush=True)
                else:
                    print("  ".join(str(value) for value in shown.values() if value not in (None, "")), flush=True)


def _plain(event: DeviceEvent) -> dict[str, Any]:
    """An event's fields as plain data: no keys, no signatures, no bytes."""
    assert is_dataclass(event)
    plain: dict[str, Any] = {}
    for field in fields(event):
        value = getattr(event, field.name)
        if field.name == "verdict":
            plain |= {"statement": value.ref, "verdict": str(value.status), "reason": value.code}
        elif isinstance(value, str | int | bool) or value is None:
            plain[field.name] = value
    return plain


COMMANDS: Final[Mapping[str, Command]] = {
    "sign-in": _sign_in,
    "sync": _sync,
    "hold": _hold,
    "release": _release,
    "status": _status,
    "users": _users,
    "patients": _patients,
    "outbox": _outbox,
    "inbox": _inbox,
    "conflicts": _conflicts,
    "stock": _stock,
    "resolve": _resolve,
}


if __name__ == "__main__":
    sys.exit(main())
