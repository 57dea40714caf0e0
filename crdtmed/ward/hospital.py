"""The hospital of a day: a relay in a process of its own, the operator's commands, and devices over real sockets."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from crdtmed.device.clocks import Clock
from crdtmed.device.device import Device
from crdtmed.exercise import ExerciseClock
from crdtmed.ward.generator import KNOWLEDGE
from crdtmed.ward.plan import PHARMACY, WARD, Plan, formulary_csv, patients_csv, stock_csv

PASSPHRASE: Final = "the devices of the exercise share this one"  # noqa: S105  # it protects an exercise
START_S: Final = 30.0
STOP_S: Final = 20.0
POLL_S: Final = 0.02
PATIENCE_S: Final = 600.0
"""How long anything in the day may take before it is given up."""

STAFF: Final = {
    "ada": ("Ada Prescriber", ("prescriber",), (WARD, PHARMACY)),
    "bo": ("Bo Prescriber", ("prescriber",), (WARD, PHARMACY)),
    "nina": ("Nina Nurse", ("nurse",), (WARD,)),
    "noel": ("Noel Nurse", ("nurse",), (WARD,)),
    "pia": ("Pia Pharmacist", ("pharmacist",), (WARD, PHARMACY)),
    "quentin": ("Quentin Pharmacist", ("pharmacist",), (WARD, PHARMACY)),
    "sol": ("Sol Supervisor", ("stock_supervisor", "stock_clerk"), (PHARMACY,)),
}
"""User: name, roles, sites."""


class WardFailed(Exception):
    """The day cannot go on; the message says what happened and what to do."""


def password_of(user: str) -> str:
    """The password of a user of the exercise."""
    return f"password-of-{user}"


def pin_of(user: str) -> str:
    """The PIN of a user of the exercise."""
    return f"pin-of-{user}"


@dataclass
class Hospital:
    """Everything that runs.  ``folder`` holds the relay's folder, one folder a device, and the clock's file."""

    folder: Path
    clock_file: ExerciseClock
    relay: "asyncio.subprocess.Process | None" = None
    port: int = 0
    devices: dict[str, Device] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    """Name of a device: its id; also of those that are gone."""

    @property
    def relay_folder(self) -> Path:
        """The relay's folder."""
        return self.folder / "relay"

    @property
    def clock(self) -> Clock:
        """The clocks that every device reads."""
        return Clock(self.clock_file.wall_ms, self.clock_file.monotonic_ms)

    # ---- the operator ---------------------------------------------------------------------------------------

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "CRDTMED_RELAY_FOLDER": str(self.relay_folder),
            "CRDTMED_RELAY_LISTEN_PORT": str(self.port),
            "CRDTMED_RELAY_EXERCISE_CLOCK": str(self.folder / "clock"),
            "CRDTMED_RELAY_LOG_LEVEL": "warning",
        }

    async def operator(self, *words: str, given: str = "") -> Any:
        """Runs one command of ``crdtmed-relay`` and gives its answer; raises `WardFailed` with what it said."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relay.cli", "--json", *words),
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        out, err = await process.communicate(given.encode())
        if process.returncode != 0 and not out:
            raise WardFailed(f"crdtmed-relay {' '.join(words)}: {err.decode(errors='replace').strip()}")
        return json.loads(out)

    async def set_up(self, plan: Plan) -> None:
        """Makes the relay, its people and places, and imports the plan."""
        await self.operator("init")
        for site, name in ((WARD, "Ward 3"), (PHARMACY, "Hospital Pharmacy")):
            await self.operator(
                *("site", "add", site, "--name", name, "--address", "1 Hospital Way", "--zone", "Europe/Berlin")
            )
        await asyncio.gather(*(self._add_user(user) for user in STAFF))
        for site in (WARD, PHARMACY):
            await self.operator(
                "roster", "add", site, *(user for user, (_, _, sites) in STAFF.items() if site in sites)
            )
        files = {"formulary": formulary_csv(plan.medicines), "patients": patients_csv(plan.patients)}
        for kind, text in (*files.items(), ("stock", stock_csv(plan))):
            path = self.folder / f"{kind}.csv"
            path.write_text(text, encoding="utf-8")
            await self.operator("import", kind, str(path))
        rules = self.folder / "rules.json"
        rules.write_text(json.dumps(KNOWLEDGE), encoding="utf-8")
        await self.operator("knowledge", "load", str(rules))

    async def _add_user(self, user: str) -> None:
        name, roles, sites = STAFF[user]
        asked = [word for role in roles for word in ("--role", role)]
        asked += [word for site in sites for word in ("--site", site)]
        await self.operator("user", "add", user, "--name", name, *asked, given=password_of(user) + "\n")

    # ---- the relay ------------------------------------------------------------------------------------------

    async def start_relay(self) -> None:
        """Starts the relay's process and waits until it listens; raises `WardFailed`."""
        port_file = self.folder / "port"
        port_file.unlink(missing_ok=True)
        log = (self.folder / "relay.log").open("ab")
        with log:
            self.relay = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "relay.cli", "serve", "--port-file", str(port_file)),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C at the terminal is ours to hand on, once the devices are closed.
                start_new_session=True,
            )
        waited = 0.0
        while not port_file.exists():
            if self.relay.returncode is not None or waited > START_S:
                raise WardFailed(f"the relay did not start; its log is {self.folder / 'relay.log'}")
            await asyncio.sleep(0.05)
            waited += 0.05
        self.port = int(port_file.read_text("ascii"))

    async def stop_relay(self) -> None:
        """Tells the relay to stop, and ends it if it does not."""
        if self.relay is None or self.relay.returncode is not None:
            return
        self.relay.terminate()
        try:
            await asyncio.wait_for(self.relay.wait(), STOP_S)
        except TimeoutError:
            self.relay.kill()
            await self.relay.wait()

    # ---- devices --------------------------------------------------------------------------------------------

    async def enrol(self, name: str, user: str, *, patients: Iterable[str] = (), sites: Iterable[str] = ()) -> Device:
        """A new device with ``user`` signed in, connected, holding these patients and sites."""
        words = [word for site in STAFF[user][2] for word in ("--site", site)]
        code = (await self.operator("code", *words))["code"]
        folder = self.folder / name
        url = f"ws://127.0.0.1:{self.port}"
        self.ids[name] = await Device.enrol(folder, PASSPHRASE, url=url, code=code, label=name, clock=self.clock)
        device = await Device.open(folder, PASSPHRASE, clock=self.clock)
        self.devices[name] = device
        await device.connect()
        await self.online(device)
        await device.sign_in(user, password_of(user), pin_of(user))
        await device.hold(patients=patients, sites=sites)
        await self.synced(device)
        return device

    async def online(self, device: Device) -> None:
        """Waits until the device is connected; raises `WardFailed`."""

        def connected() -> bool:
            report = device.status().report
            return report is not None and report.connected

        if not await device.until(connected, PATIENCE_S):
            raise WardFailed("a device does not find the relay; see relay.log in the folder of the day")

    async def synced(self, *devices: Device) -> None:
        """Waits until these devices have nothing to send and everything there is; raises `WardFailed`."""
        for device in devices or tuple(self.devices.values()):
            if not await device.flushed(PATIENCE_S) or not await device.connected(PATIENCE_S):
                raise WardFailed("a device does not come up to date; see relay.log in the folder of the day")
        await self._level(devices or tuple(self.devices.values()))

    async def _level(self, devices: Iterable[Device]) -> None:
        """Waits until what these devices hold stands where the relay's database says that it stands."""
        waited = 0.0
        for device in devices:
            while not self._is_level(device):
                await asyncio.sleep(POLL_S)
                waited += POLL_S
                if waited > PATIENCE_S:
                    raise WardFailed(
                        "a device does not catch up with the relay; see relay.log in the folder of the day"
                    )

    def _is_level(self, device: Device) -> bool:
        places = self._places()
        rows = device.engine.core.rows
        return all(places.get(name, row.position) == row.position for name, row in rows.items())

    def _places(self) -> dict[str, int]:
        uri = f"{(self.relay_folder / 'relay.sqlite').as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as db:
            return dict(db.execute("SELECT name, position FROM document"))

    async def close(self) -> None:
        """Closes the devices, then the relay; whatever happens, nothing is left running."""
        for device in self.devices.values():
            with suppress(Exception):
                await device.close()
        await self.stop_relay()


def open_hospital(folder: Path) -> Hospital:
    """A hospital in an empty folder; raises `WardFailed` where there is something in it."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise WardFailed(f"{folder} is not empty: give a new folder")
    return Hospital(folder.resolve(), ExerciseClock.create(folder / "clock"))
