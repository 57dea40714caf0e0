"""A device, as an application holds it.

    async with await Device.open(folder, passphrase) as device:
        await device.connect()
        await device.unlock("mina", pin)
        await device.hold(patients=["p1"], sites=["pharmacy"])
        draft = device.draft("p1")
        await draft.set(medication=..., dose=...)

Everything that is said is durable before it is shown, and travels whenever there is a relay.  What needs the relay
raises `NeedsRelay` at once when there is none.  What was said is a `Said`: its state can be read, awaited, and asked
for again after a restart (`Device.said`).
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from crdtmed import documents, leasing
from crdtmed.device import (
    dispensing_label,
    drafting,
    joining,
    keeper,
    pharmacy,
    prescribing,
    resolving,
    signing_in,
    ward_verbs,
)
from crdtmed.device.address import check_url
from crdtmed.device.clocks import SYSTEM, Clock
from crdtmed.device.engine import Engine, Said
from crdtmed.device.engine_types import DeviceError, Queued, Report
from crdtmed.device.files import DeviceFiles
from crdtmed.device.inbox import InboxEntry
from crdtmed.device.keyfile import DeviceKeys, open_key_file
from crdtmed.device.life import DeviceEvent, Life, begin
from crdtmed.device.link import Dial, websocket
from crdtmed.device.patient_view import PatientView, patient_view
from crdtmed.device.site_view import SiteView, site_view
from crdtmed.device.views import ConflictView
from crdtmed.leasing import Locked
from crdtmed.signed import Grant


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """How a device stands.  ``report`` is None while the cache is locked; ``lease`` says whether it is, and why."""

    device: str
    label: str
    url: str
    lease: leasing.Open | Locked
    report: Report | None
    grant: Grant | None


class Device:
    """An enrolled device that is open.  All methods belong to one event loop."""

    def __init__(self, life: Life) -> None:
        self._life = life

    # ---- beginning and end --------------------------------------------------------------------------------

    enrol = staticmethod(joining.enrol_device)

    @classmethod
    async def open(
        cls,
        folder: Path,
        passphrase: str | None = None,
        *,
        keys: DeviceKeys | None = None,
        clock: Clock = SYSTEM,
        random_bytes: Callable[[int], bytes] = os.urandom,
        days: int = 7,
    ) -> "Device":
        """Opens the device in ``folder`` with the passphrase of its key file, or with ``keys`` from elsewhere.

        ``days`` is how many days of logs it holds.  Raises `KeyFileError`, `EnrolmentFailed`, `StoreError`, or
        `DeviceError` ``wiped``.  A device whose lease has lapsed opens locked; connecting opens its cache.
        """
        if keys is None:
            if passphrase is None:
                raise DeviceError("no_keys", "neither a passphrase nor keys were given", "give one of them")
            keys = await asyncio.to_thread(open_key_file, DeviceFiles(folder).keys, passphrase)
        life = await begin(folder, keys, clock=clock, random_bytes=random_bytes, days=days)
        keeper.start(life)
        return cls(life)

    async def close(self) -> None:
        """Ends the conversation and gives the store up; what is queued stays queued.  A second call does nothing."""
        await keeper.close(self._life)

    async def __aenter__(self) -> "Device":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ---- the relay ----------------------------------------------------------------------------------------

    async def connect(self, url: str | None = None, *, dial: Dial | None = None) -> None:
        """Keeps a conversation with the relay going in the background, from now on; returns at once.

        At the address it was enrolled at where ``url`` is None.  Raises `crdtmed.device.address.BadAddress`, and
        `DeviceError` ``closed`` once the device is.
        """
        if dial is None:
            address = self._life.profile.url if url is None else check_url(url)
            dial = websocket(f"{address}/sync")
        await keeper.connect(self._life, dial)

    async def disconnect(self) -> None:
        """Stays offline from now on."""
        await keeper.disconnect(self._life)

    async def connected(self, timeout_s: float | None = None) -> bool:
        """Waits until the relay is there and everything held is up to date, for ever where no time is given.

        False where that takes longer than ``timeout_s``.
        """
        return await self.until(self._is_live, timeout_s)

    def _is_live(self) -> bool:
        report = self._life.engine.status() if self._life.engine is not None else None
        return report is not None and report.connected and report.behind == 0 and report.documents > 0

    async def flushed(self, timeout_s: float | None = None) -> bool:
        """Waits until everything said here was judged and is in the base, for ever where no time is given.

        False where that takes longer than ``timeout_s``.
        """
        return await self.until(lambda: self._life.engine is not None and not self._life.engine.outbox(), timeout_s)

    async def until(self, holds: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Waits until ``holds()``, looking after everything that happens and now and then; whether it came in time.

        Without a time it waits for ever.
        """
        happened = asyncio.Event()

        def heard(_: DeviceEvent) -> None:
            happened.set()

        self._life.listeners.append(heard)
        try:
            async with asyncio.timeout(timeout_s):
                while not holds():
                    with suppress(TimeoutError):
                        await asyncio.wait_for(happened.wait(), keeper.LOOK_S)
                    happened.clear()
        except TimeoutError:
            return holds()
        finally:
            self._life.listeners.remove(heard)
        return True

    # ---- who is there -------------------------------------------------------------------------------------

    async def sign_in(self, user: str, password: str, pin: str | None = None) -> Grant:
        """Signs a user in with the relay; ``pin``, where given, opens their grants offline from then on.

        Raises `NotAllowed` with the relay's code, `DeviceError` ``needs_relay`` without one.
        """
        return await signing_in.sign_in(self._life, self.engine, user, password, pin)

    async def unlock(self, user: str, pin: str) -> Grant:
        """Signs a user in by PIN, also offline; raises `crdtmed.device.pin.PinRefused` or `NotAllowed`."""
        return await signing_in.unlock(self._life, self.engine, user, pin)

    def use(self, grant: Grant) -> None:
        """Signs in again somebody who was signed in a moment ago."""
        self.engine.use(grant)

    def sign_out(self) -> None:
        """Nobody is signed in from now on; what was said still travels."""
        self.engine.use(None)

    async def users(self) -> tuple[tuple[str, str], ...]:
        """Who can be unlocked by a PIN here: user and name."""
        return await signing_in.users(self.engine)

    @property
    def grant(self) -> Grant | None:
        """Who is signed in."""
        return self.engine.core.grant

    async def break_glass(self, reason: str) -> Said:
        """Stretches the lease in its last hour, once, with a reason that the operator sees; see `DeviceError`."""
        return await signing_in.stretch(self._life, self, reason)

    # ---- what is held -------------------------------------------------------------------------------------

    async def hold(self, *, patients: Iterable[str] = (), sites: Iterable[str] = ()) -> None:
        """Holds these patients and sites from now on, also after a restart; a site brings the patients in its queue."""
        await self.engine.subscribe(_scopes(patients, sites))

    async def release(self, *, patients: Iterable[str] = (), sites: Iterable[str] = ()) -> None:
        """Holds these no more: their cache is purged, what was said about them is still sent."""
        await self.engine.unsubscribe(_scopes(patients, sites))

    @property
    def patients(self) -> tuple[str, ...]:
        """The patients that are held, by id."""
        return tuple(name.removeprefix("patient/") for name in self.engine.scopes if name.startswith("patient/"))

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites that are held, by id."""
        return tuple(name.removeprefix("site/") for name in self.engine.scopes if name.startswith("site/"))

    @property
    def withdrawn(self) -> Mapping[str, str]:
        """The scopes asked for that the relay does not give, and its code for why."""
        return self.engine.withdrawn

    async def patient(self, patient: str) -> PatientView:
        """A patient, confirmed and tentative told apart; raises `DeviceError` ``not_held``."""
        return await patient_view(self.engine, patient)

    async def site(self, site: str) -> SiteView:
        """A site: stock, queue, conflicts; raises `DeviceError` ``not_held``."""
        return await site_view(self.engine, site)

    async def conflicts(self) -> tuple[ConflictView, ...]:
        """The open conflicts of everything that is held, each once, oldest first."""
        found: dict[str, ConflictView] = {}
        for site in self.sites:
            if documents.site(site) in self.engine.core.rows:
                found |= {one.ref: one for one in (await self.site(site)).open_conflicts}
        for patient in self.patients:
            if documents.patient(patient) in self.engine.core.rows:
                view = await self.patient(patient)
                found = {one.ref: one for one in view.conflicts if one.register.open} | found
        return tuple(sorted(found.values(), key=lambda it: (it.register.received_at, it.ref)))

    # ---- how it stands ------------------------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        """What is under the verbs; raises `DeviceError` ``locked`` while the cache is."""
        engine = self._life.engine
        if engine is None:
            state = self._life.lease_state()
            why = "wiped" if self._life.wiped else state.why if isinstance(state, Locked) else "closed"
            raise DeviceError(
                "locked", f"the cache of this device is closed ({why})", "connect: the relay gives its key again"
            )
        return engine

    def status(self) -> DeviceStatus:
        """How the device stands, locked or not."""
        life, engine = self._life, self._life.engine
        return DeviceStatus(
            device=life.profile.device,
            label=life.profile.label,
            url=life.profile.url,
            lease=life.lease_state(),
            report=engine.status() if engine is not None else None,
            grant=engine.core.grant if engine is not None else None,
        )

    async def changes(self) -> AsyncIterator[DeviceEvent]:
        """Everything that happens from the first step of the iteration on, in order; it never ends by itself."""
        queue: asyncio.Queue[DeviceEvent] = asyncio.Queue()
        self._life.listeners.append(queue.put_nowait)
        try:
            while True:
                yield await queue.get()
        finally:
            self._life.listeners.remove(queue.put_nowait)

    def said(self, ref: str) -> Said:
        """The handle of a statement of this device, by its reference."""
        return self.engine.said(ref)

    def outbox(self) -> tuple[Queued, ...]:
        """What was said and the relay has not confirmed, in order."""
        return self.engine.outbox()

    async def inbox(self, *, closed: bool = False) -> tuple[InboxEntry, ...]:
        """What a person must look at, oldest first; with ``closed`` what was done too."""
        return await self.engine.inbox(closed=closed)

    async def dismiss(self, entry: int) -> bool:
        """Marks an entry of the inbox as read and done; False where there is no such open entry."""
        return await self.engine.dismiss(entry)

    # ---- verbs: each is documented where it is written ----------------------------------------------------

    draft = drafting.draft
    start_amendment = drafting.start_amendment

    sign = prescribing.sign
    amend = prescribing.amend
    stop = prescribing.stop
    hold_prescription = prescribing.hold_prescription
    resume = prescribing.resume
    override = prescribing.override

    formulary = pharmacy.formulary
    read_scan = pharmacy.read_scan
    dispense = pharmacy.dispense
    receive = pharmacy.receive
    adjust = pharmacy.adjust
    label = dispensing_label.label

    administration = ward_verbs.administration
    administer = ward_verbs.administer
    correct = ward_verbs.correct
    open_reconciliation = ward_verbs.open_reconciliation
    reconciliation = ward_verbs.reconciliation

    resolve = resolving.resolve
    reenter = resolving.reenter


def _scopes(patients: Iterable[str], sites: Iterable[str]) -> list[str]:
    return [*(documents.patient(one) for one in patients), *(documents.site(one) for one in sites)]
