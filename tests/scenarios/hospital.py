"""A small hospital for scenarios: a real relay, real sockets on loopback, real encrypted stores, and a transcript.

Only the clock is ours: it runs with the machine's, and can be set ahead.  A transcript line says what somebody did and
what came of it, in words; a test compares the whole with its text, so that it reads as the story that it is.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.prescription_draft import Dose, Medication, Route, Supply, Timing
from crdtmed.contract import Role
from crdtmed.device.clocks import Clock
from crdtmed.device.device import Device
from crdtmed.device.drafting import Draft
from crdtmed.device.engine import Said
from crdtmed.device.engine_types import DeviceError, State
from crdtmed.device.keyfile import SoftwareKeys, new_keys
from relay.app import serving
from relay.imports import ImportKind
from relay.knowledge.embedded import EmbeddedKnowledge
from relay.operator import loading, people
from relay.operator.devices import revoke
from relay.operator.loading import current_snapshot
from relay.operator.office import database_of, make_relay, open_office
from relay.operator.serving import open_service
from relay.service import Service
from relay.settings import Settings
from relay.storage.record import SqlRecord
from relay.storage.sqlite import open_sqlite

PATIENCE_S = 60.0
"""How long anything may take before a scenario fails; nothing is asserted about how long it does."""

STAFF = {
    "ana": ("Ana Prescriber", [Role.PRESCRIBER], ["ward", "pharm"]),
    "ben": ("Ben Prescriber", [Role.PRESCRIBER], ["ward", "pharm"]),
    "nia": ("Nia Nurse", [Role.NURSE], ["ward"]),
    "pia": ("Pia Pharmacist", [Role.PHARMACIST], ["ward", "pharm"]),
    "qun": ("Qun Pharmacist", [Role.PHARMACIST], ["ward", "pharm"]),
    "sam": ("Sam Supervisor", [Role.STOCK_SUPERVISOR, Role.STOCK_CLERK], ["pharm"]),
}
"""User: name, roles, sites.  The password is ``password-of-<user>``, the PIN ``pin-<user>``."""

FORMULARY = """code,display,form,strength,counting_unit,ingredients,classes,packs
amox-500,Amoxicillin 500 mg capsule,capsule,500 mg,{capsule},amoxicillin,penicillins,09506000134352:21
para-500,Paracetamol 500 mg tablet,tablet,500 mg,{tablet},paracetamol,,09506000134369:100
warf-5,Warfarin 5 mg tablet,tablet,5 mg,{tablet},warfarin,,
aspi-100,Aspirin 100 mg tablet,tablet,100 mg,{tablet},aspirin,,
"""
PATIENTS = """id,identifiers,name,birth_date,allergies,care_sites
p1,urn:mrn|100001,Maria Muster,1950-03-01,none known,ward;pharm
p2,urn:mrn|100002,Otto Beispiel,1948-12-24,penicillin|Penicillin|rash,ward;pharm
p3,urn:mrn|100003,Ida Exempel,1972-07-15,,ward
"""
STOCK = """site,item,lot,expiry,quantity,unit
pharm,amox-500,A1,2099-12-31,21,{capsule}
pharm,amox-500,A2,2099-06-30,42,{capsule}
pharm,para-500,P1,2099-01-31,100,{tablet}
"""
KNOWLEDGE = {
    "format": "crdtmed-knowledge/1",
    "snapshot": "2026-11",
    "source": "the formulary committee of the tests",
    "interactions": [{"between": ["warfarin", "aspirin"], "severity": "critical", "summary": "bleeding"}],
    "allergy_classes": [
        {
            "allergy": "penicillin",
            "ingredients": ["amoxicillin"],
            "classes": [],
            "severity": "critical",
            "summary": "allergy to penicillin",
        }
    ],
    "duplicate_classes": [],
    "dose_ceilings": [
        {
            "ingredient": "paracetamol",
            "per_day": {"value": "4", "unit": "g"},
            "severity": "critical",
            "summary": "more than 4 g a day",
        }
    ],
}


@dataclass(slots=True, eq=False)
class Hospital:
    """The running hospital.  ``lines`` is the transcript; ``ahead_ms`` is what its clock is ahead of the machine's."""

    folder: Path
    settings: Settings
    ahead_ms: int = 0
    service: Service | None = None
    port: int = 0
    lines: list[str] = field(default_factory=list)
    devices: dict[str, Device] = field(default_factory=dict)
    keys: dict[str, SoftwareKeys] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    serving: AsyncExitStack = field(default_factory=AsyncExitStack)

    def now_ms(self) -> int:
        """The hospital's time."""
        return int(time.time() * 1000) + self.ahead_ms

    @property
    def clock(self) -> Clock:
        """The clocks that every device of the hospital reads."""
        return Clock(self.now_ms, lambda: time.monotonic_ns() // 1_000_000 + self.ahead_ms)

    async def start_relay(self) -> None:
        """Starts the relay; on the port that it had, if it ran before."""
        knowledge = EmbeddedKnowledge(lambda: current_snapshot(self.settings.folder))
        self.service = open_service(self.settings, knowledge, self.now_ms)
        self.port = await self.serving.enter_async_context(serving(self.service, port=self.port))

    async def stop_relay(self) -> None:
        """Stops the relay; devices find themselves offline."""
        await self.serving.aclose()
        self.service = None

    # ---- people and devices -------------------------------------------------------------------------------

    async def device(
        self,
        name: str,
        user: str,
        *,
        patients: Iterable[str] = (),
        sites: Iterable[str] = (),
        key_file: bool = False,
    ) -> Device:
        """A new device, enrolled and connected, with ``user`` signed in, holding these patients and sites.

        With ``key_file`` its keys are in a file under `PASSPHRASE`, which is slow on purpose; otherwise here.
        """
        folder = self.folder / name
        code = await asyncio.to_thread(self._code, STAFF[user][2])
        url = f"ws://127.0.0.1:{self.port}"
        if not key_file:
            self.keys[name] = new_keys(os.urandom)
        passphrase, keys = self._protection(name)
        await Device.enrol(folder, passphrase, keys=keys, url=url, code=code, label=name, clock=self.clock)
        device = await self.reopen(name)
        await device.sign_in(user, f"password-of-{user}", f"pin-{user}")
        await device.hold(patients=patients, sites=sites)
        await self.synced(name)
        return device

    async def reopen(self, name: str, *, connect: bool = True) -> Device:
        """Opens a device that is enrolled, and connects it."""
        passphrase, keys = self._protection(name)
        device = await Device.open(self.folder / name, passphrase, keys=keys, clock=self.clock)
        self.stack.push_async_callback(device.close)
        self.devices[name] = device
        if connect:
            await device.connect()
            assert await device.until(lambda: _connected(device), PATIENCE_S), "it connects"
        return device

    async def retire(self, name: str) -> None:
        """Closes a device for good."""
        await self.devices.pop(name).close()

    def _protection(self, name: str) -> tuple[str | None, SoftwareKeys | None]:
        keys = self.keys.get(name)
        return (PASSPHRASE, None) if keys is None else (None, keys)

    def _code(self, sites: list[str]) -> str:
        with open_office(self.settings) as office:
            code: str = people.give_code(office, sites)["code"]
            return code

    async def revoke(self, device: Device, reason: str) -> None:
        """The operator takes a device out of service."""

        def act() -> None:
            with open_office(self.settings) as office:
                revoke(office, device.status().device, reason, now=False)

        await asyncio.to_thread(act)

    async def synced(self, *names: str) -> None:
        """Waits until these devices have nothing to send and everything that the relay has."""
        for name in names or tuple(self.devices):
            device = self.devices[name]
            assert await device.flushed(PATIENCE_S), f"{name} still has {[q.verdict for q in device.outbox()]}"
            assert await device.connected(PATIENCE_S), f"{name} is not up to date"
        await self.caught_up(*names)

    async def caught_up(self, *names: str) -> None:
        """Waits until the bases of these devices stand where the relay's documents do."""
        for name in names or tuple(self.devices):
            device = self.devices[name]

            async def level(device: Device = device) -> bool:
                core, places = device.engine.core, self.places()
                stands = {name: (row.epoch, row.position) for name, row in core.rows.items()}
                # Of a document that the relay has had for a moment the device may have nothing yet.
                asked = () if core.session is None else core.session.places
                awaited = {name for name in asked if name in places and places[name][1] and name not in stands}
                return not awaited and all(
                    places.get(name, (epoch, 0)) == (epoch, position) for name, (epoch, position) in stands.items()
                )

            await eventually(device, level)

    async def holds(self, device: Device, holds: Callable[[], Awaitable[bool]]) -> None:
        """Waits until ``holds()``."""
        await eventually(device, holds)

    def same_everywhere(self) -> None:
        """Every document that two devices hold has the same content on both."""
        digests: dict[str, dict[str, bytes]] = {}
        for name, device in self.devices.items():
            for document, held in device.engine.core.held.items():
                digests.setdefault(document, {})[name] = held.replica.digest()
        shared = {document: found for document, found in digests.items() if len(found) > 1}
        assert shared, "devices have documents in common"
        for document, found in shared.items():
            assert len(set(found.values())) == 1, f"{document} differs on {', '.join(found)}"

    def places(self) -> dict[str, tuple[str, int]]:
        """Where the relay's documents stand, as its database says: epoch and position by name."""
        with closing(open_sqlite(database_of(self.settings), read_only=True)) as connection:
            record = SqlRecord(connection)
            found = {name: record.document(name) for name in record.documents()}
            return {name: (row.epoch, row.position) for name, row in found.items() if row is not None}

    # ---- the transcript -----------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        """One line of the transcript, ids replaced by the names they were given."""
        for ref, name in sorted(self.names.items(), key=lambda pair: -len(pair[0])):
            text = text.replace(ref, name)
        self.lines.append(text)

    def name(self, of: str, name: str) -> str:
        """Calls an id by a name in the transcript from now on."""
        self.names[of] = name
        return of

    async def settled(self, who: str, what: str, doing: Awaitable[Said]) -> Said | None:
        """Does something, waits for its outcome, and writes both down; None where it was not said at all."""
        try:
            said = await doing
        except DeviceError as error:
            self.line(f"{who} {what}: {error.code}")
            return None
        async with asyncio.timeout(PATIENCE_S):
            state = await said.settled()
        verdict = await said.verdict()
        text = f"{who} {what}: {state}"
        if verdict is not None and state is not State.ACCEPTED:
            text += f" ({verdict.code})"
            if verdict.actions:
                text += f", {' or '.join(verdict.actions)}"
        self.line(text)
        return said

    async def queued(self, who: str, what: str, doing: Awaitable[Said]) -> Said:
        """Does something that waits for the relay, and writes it down."""
        said = await doing
        self.line(f"{who} {what}: {await said.state()}")
        return said

    @property
    def transcript(self) -> str:
        """What happened so far."""
        return "\n".join(self.lines)


PASSPHRASE = "a passphrase of the tests"


def _connected(device: Device) -> bool:
    report = device.status().report
    return report is not None and report.connected


async def eventually(device: Device, holds: Callable[[], Awaitable[bool]]) -> None:
    """Waits until ``holds()``, looking whenever something happens on the device, and now and then."""
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    async for _ in device.changes():
                        break


def told(expected: str, hospital: Hospital) -> None:
    """Compares the transcript with its text."""
    lines = [line.strip() for line in expected.strip().splitlines()]
    assert hospital.lines == lines, "\n" + hospital.transcript


@asynccontextmanager
async def hospital(folder: Path) -> AsyncIterator[Hospital]:
    """A hospital with staff, three patients, a formulary and stock; its relay runs."""
    settings = Settings(folder=folder / "relay")
    it = Hospital(folder, settings)
    await asyncio.to_thread(_set_up, it)
    async with it.serving:
        await it.start_relay()
        async with it.stack:
            yield it


def _set_up(it: Hospital) -> None:
    make_relay(it.settings)
    files = {"formulary": FORMULARY, "patients": PATIENTS, "stock": STOCK, "knowledge": json.dumps(KNOWLEDGE)}
    for name, text in files.items():
        (it.folder / name).write_text(text, encoding="utf-8")
    with open_office(it.settings) as office:
        people.add_site(office, "ward", "Ward 3", "1 Hospital Way", "Europe/Berlin")
        people.add_site(office, "pharm", "Hospital Pharmacy", "1 Hospital Way", "Europe/Berlin")
        for user, (name, roles, sites) in STAFF.items():
            people.add_user(office, user, name, roles, sites, f"password-of-{user}")
        for site in ("ward", "pharm"):
            people.put_on_roster(office, site, [user for user, (_, _, sites) in STAFF.items() if site in sites])
        for kind in (ImportKind.FORMULARY, ImportKind.PATIENTS, ImportKind.STOCK):
            loading.load(office, kind, it.folder / kind.value)
        loading.load_knowledge(office, it.folder / "knowledge")


def play(folder: Path, story: Callable[[Hospital], Coroutine[Any, Any, None]]) -> None:
    """Runs a scenario in a hospital of its own."""

    async def whole() -> None:
        async with asyncio.timeout(4 * PATIENCE_S), hospital(folder) as it:
            await story(it)

    asyncio.run(whole())


# ---- things that scenarios say ------------------------------------------------------------------------------------

AMOXICILLIN = Medication("amox-500", "Amoxicillin 500 mg capsule", "capsule", "500 mg")
PARACETAMOL = Medication("para-500", "Paracetamol 500 mg tablet", "tablet", "500 mg")
ORAL = Route("26643006", "Oral")
THREE_A_DAY = Timing(frequency=3, period="1", period_unit="d")


def mg(value: str) -> Dose:
    """A dose in milligrams."""
    return Dose(Quantity(value, "mg"))


async def ordered(
    device: Device,
    patient: str,
    *,
    medication: Medication = AMOXICILLIN,
    dose: Dose | None = None,
    units: int = 21,
    unit: str = "{capsule}",
    repeats: int = 0,
) -> Draft:
    """A complete draft, as one prescriber writes it."""
    draft = device.draft(patient)
    await draft.set(
        medication=medication,
        dose=dose or mg("500"),
        route=ORAL,
        timing=THREE_A_DAY,
        supply=Supply(units, unit, repeats, "pharm"),
    )
    return draft


async def signed(it: Hospital, device: Device, patient: str, **order: Any) -> str:
    """A signed prescription, quietly; its id, called ``rx`` in the transcript."""
    draft = await ordered(device, patient, **order)
    said = await device.sign(draft)
    async with asyncio.timeout(PATIENCE_S):
        state = await said.settled()
    assert state is State.ACCEPTED, await said.verdict()
    await it.synced()
    return it.name(draft.prescription, "rx")
