"""One history: the hospital of a seed, from the first sign-in until everything has settled, and what was found."""

import asyncio
import logging
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from crdtmed.aggregates.content import ContentError
from crdtmed.device import store
from crdtmed.device.engine import Said
from crdtmed.device.engine_types import DeviceError
from crdtmed.device.store_database import StoreError
from crdtmed.limits import HANDSHAKE_TIMEOUT_MS
from crdtmed.statement import BadStatement
from tests.simulation import tablet as tablets_of
from tests.simulation.bounds import within
from tests.simulation.checks import at_commit, at_the_end, documents_of
from tests.simulation.disk import PowerCut
from tests.simulation.helping import Helpers
from tests.simulation.kept import holders
from tests.simulation.loop import VirtualLoop
from tests.simulation.network import Weather
from tests.simulation.people import INSTEAD, MOVES
from tests.simulation.plan import Op, Plan
from tests.simulation.relay import Knowledge, Relay
from tests.simulation.rogue import ATTACKS, can_attack
from tests.simulation.setting import PATIENTS, SITES, T0, WORKS, password, scratch, template
from tests.simulation.tablet import Tablet
from tests.simulation.troubles import TROUBLES, revoke_again
from tests.simulation.witness import Witness, read

PATIENCE_S = 240.0
"""How long a person stands before a device that does not answer."""
ENDS_S = 60 * 3_600.0
"""So long after its last trouble (virtual seconds) a history has ended, or something waits for ever: it has failed."""


@dataclass(frozen=True)
class Result:
    """What came of a history."""

    seed: int
    complaints: tuple[str, ...]
    device_hours: float
    moves: int
    faults: Counter[str]
    reasons: Counter[str]
    signatures: Counter[str]
    trace: str
    ops: int
    log: tuple[str, ...] = ()


@dataclass(eq=False)
class History:
    """A history under way."""

    plan: Plan
    folder: Path
    loop: VirtualLoop
    log: bool
    relay: Relay = field(init=False)
    witness: Witness = field(init=False)
    tablets: dict[str, Tablet] = field(default_factory=dict)
    revoked: dict[str, int] = field(default_factory=dict)
    rogues: set[str] = field(default_factory=set)
    attacks: set[str] = field(default_factory=set)
    stolen: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)
    """Devices that were revoked, and that a restored relay does not know of until the operator can tell it again."""
    aged: set[str] = field(default_factory=set)
    holders: dict[str, frozenset[str]] = field(default_factory=dict)
    moves: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    online_s: Counter[str] = field(default_factory=Counter)
    looking: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        plan, made = self.plan, template()
        made.copy(self.folder)
        self.witness = Witness(self._reading, lambda: self.relay.restores, log=[] if self.log else None)
        knowledge = Knowledge(Random(f"knowledge {plan.seed}"), plan.knowledge_trouble)
        helpers = Helpers(plan.help, Random(f"helpers {plan.seed}"))
        draw = Random(f"relay {plan.seed}")
        self.relay = Relay(self.folder, draw, self.now_ms, self.witness, knowledge, helpers)
        self.relay.looks = lambda _: at_commit(self)
        for name, drift in zip(plan.devices, plan.drift, strict=True):
            weather = Weather(Random(f"weather {plan.seed} {name}"))
            draw = Random(f"device {plan.seed} {name}")
            self.tablets[name] = Tablet(
                name, made.ids[name], self.folder, draw, self.now_ms, self.relay, weather, drift=drift
            )
            self.tablets[name].opened = self._opened

    def now_ms(self) -> int:
        """The true time."""
        return T0 + int(self.loop.virtual_s * 1_000)

    def _reading(self) -> sqlite3.Connection | None:
        path = self.relay.path
        held = self.looking.get("connection")
        if held is None or held[0] != path:
            if held is not None:
                held[1].close()
            held = self.looking["connection"] = (path, self.relay.reading())
        connection: sqlite3.Connection = held[1]
        return connection

    # ---- what counts as lost

    def excuse(self, tablet: Tablet) -> None:
        """An older copy of a store is in use: what only the newer one held is gone, and nobody can help it."""
        since = tablet.copied_at[-1]
        for ref, at in self.witness.said_at.items():
            if ref.startswith(tablet.id) and at >= since:
                self.aged.add(ref)
                if self.witness.row(ref) is None:
                    self.witness.excused.add(ref)
        for ref, have in self.holders.items():
            self.holders[ref] = have - {tablet.id}

    def restored(self) -> None:
        """The relay has lost what it has had since the backup: who can bring it back?"""
        self.holders.update(holders(self, documents_of))

    def still_has(self, device: str) -> bool:
        """Whether a device that had something to hand back had its chance to do so."""
        tablet = next(each for each in self.tablets.values() if each.id == device)
        return tablet.wiped_at is None and not tablet.lost and device not in self.revoked

    def _opened(self, tablet: Tablet) -> None:
        """A device is on again: everything that was confirmed to a person must be there, or at the relay."""
        core = tablet.engine.core
        for ref in self.witness.said:
            if ref.startswith(tablet.id) and ref not in core.outbox.items and ref not in self.witness.excused:
                known = (self.relay.restores, ref) in self.witness.verdicts or self.witness.row(ref) is not None
                if not known and not self.relay.restores and tablet.id not in self.rogues:
                    self.witness.complain(f"{ref} was confirmed on {tablet.name}, and is gone after a restart")

    # ---- what happens

    async def run(self) -> None:
        """From the beginning to the end."""
        await self.relay.start()
        for tablet in self.tablets.values():
            await tablet.on()
        await asyncio.gather(*(self._sign_in(tablet) for tablet in self.tablets.values()))
        watching = asyncio.create_task(self._watch())
        begun = self.loop.virtual_s
        under_way: list[asyncio.Task[None]] = []
        for op in self.plan.ops:
            await asyncio.sleep(max(0.0, begun + op.at_s - self.loop.virtual_s))
            under_way.append(asyncio.create_task(self._do(op)))
        await asyncio.sleep(max(0.0, begun + self.plan.hours * 3_600 - self.loop.virtual_s))
        await asyncio.gather(*under_way)
        await self._heal()
        await self._settle()
        watching.cancel()
        await at_the_end(self)

    async def _sign_in(self, tablet: Tablet) -> None:
        assert tablet.device is not None
        await tablet.device.connected(60)
        for user in WORKS[tablet.name]:
            tablet.grants[user] = await tablet.device.sign_in(user, password(user))
        await tablet.device.hold(patients=PATIENTS, sites=SITES)

    async def _do(self, op: Op) -> None:
        tablet = self.tablets.get(op.device)
        if tablet is None:
            return
        self.witness.note(f"{self.now_ms()} op {op.index} {op.what} {op.device}")
        try:
            if op.what in TROUBLES:
                self.faults[op.what] += 1
                await TROUBLES[op.what](self, tablet, op.random())
            elif op.what in ATTACKS:
                await self._attack(tablet, op)
            else:
                await self._move(tablet, op)
        except (PowerCut, asyncio.CancelledError):
            return

    async def _attack(self, tablet: Tablet, op: Op) -> None:
        if can_attack(tablet):
            self.rogues.add(tablet.id)
            self.faults[op.what] += 1
            raw = await ATTACKS[op.what](tablet, tablet.engine.core, op.random())
            if raw is not None:
                self.attacks.add(read(raw).ref)

    async def _move(self, tablet: Tablet, op: Op) -> None:
        random = op.random()
        move, users = MOVES[op.what]
        able = sorted(set(users) & set(tablet.grants)) or sorted(tablet.grants)
        user = random.choice(sorted(tablet.grants) if random.random() < 0.08 else able) if able else ""
        if not tablet.use(user):
            return
        device = tablet.device
        assert device is not None
        outcome = "nothing"
        try:
            async with asyncio.timeout(PATIENCE_S):
                said = await move(tablet, device, random)
                instead = op.what
                while said in (None, ()) and instead in INSTEAD:
                    instead = INSTEAD[instead]
                    said = await MOVES[instead][0](tablet, device, random)
            if said is not None and said != ():
                self.moves += 1
                outcome = self._confirmed(tablet, said if isinstance(said, tuple) else (said,))
        except (DeviceError, StoreError) as error:
            outcome = error.code
        except (ContentError, BadStatement) as error:
            outcome = str(error)
        except TimeoutError:
            outcome = "no answer"
        if outcome != "nothing":
            self.witness.note(f"{self.now_ms()} {op.what} by {user} on {op.device}: {outcome}")

    def _confirmed(self, tablet: Tablet, said: tuple[Said, ...]) -> str:
        """A person was told that these were said."""
        for one in said:
            item = tablet.engine.core.outbox.items.get(one.ref) if tablet.works else None
            if item is not None:
                self.witness.heard(item.said.signed.encoded, self.now_ms())
        return ", ".join(one.ref for one in said)

    # ---- how it ends

    async def _watch(self) -> None:
        """Counts online time since each revocation, and looks whether the device is wiped in time."""
        while True:
            await asyncio.sleep(5)
            within(self)
            await revoke_again(self)
            for tablet in self.tablets.values():
                if tablet.id not in self.revoked or tablet.wiped_at is not None or tablet.name in self.forgotten:
                    continue
                on = tablet.device is not None and tablet.power.on and not tablet.full and not tablet.fails
                # A line that is too slow for a handshake is none.
                online = not tablet.weather.down and 2_000 * tablet.weather.slow_s < HANDSHAKE_TIMEOUT_MS
                if on and self.relay.service is not None and not self.relay.full and online:
                    self.online_s[tablet.id] += 5
                if self.online_s[tablet.id] > 300 and tablet.wiped_at is None:
                    self.witness.complain(f"{tablet.name} was revoked, and is not wiped after 300 s online")

    async def _heal(self) -> None:
        """All troubles end."""
        self.relay.full, self.relay.power.writes = False, None
        self.relay.knowledge.trouble = 0.0
        await self.relay.start()
        for tablet in self.tablets.values():
            tablet.full, tablet.fails, tablet.skew_ms, tablet.drift = False, False, 0, 0.0
            tablet.weather.down, tablet.weather.slow_s = False, 0.0
            tablet.power.writes = None
            await tablet.on()

    async def _settle(self) -> None:
        """Until nothing waits any more; what awaits something for a day gets its day."""
        for wait_s in (60.0, 200.0, 400.0, 1_000.0):
            await asyncio.sleep(wait_s)
            for tablet in self.tablets.values():
                await tablet.on()
            if self.settled():
                return
        for tablet in self.tablets.values():
            tablet.weather.down = True
            tablet.weather.break_all()
        await asyncio.sleep(25 * 3_600)
        for tablet in self.tablets.values():
            tablet.weather.down = False
        for wait_s in (300.0, 600.0, 1_200.0):
            await asyncio.sleep(wait_s)
            if self.settled():
                return

    def settled(self) -> bool:
        """Whether every device has nothing to send, and stands where the relay does."""
        connection = self._reading()
        assert connection is not None
        places = dict(connection.execute("SELECT name, position FROM document").fetchall())
        for tablet in self.tablets.values():
            if tablet.wiped_at is not None or tablet.lost:
                continue
            if tablet.id in self.revoked or not tablet.works or tablet.engine.outbox():
                return False
            if tablet.engine.core.answers:
                return False  # it has asked for something a moment ago
            report = tablet.engine.status()
            if not report.connected or report.behind:
                return False
            if any(places.get(name, row.position) != row.position for name, row in tablet.engine.core.rows.items()):
                return False
            if store.hand_backs(tablet.device._life.database.held.inner):  # type: ignore[union-attr]  # it works
                return False
        return True


def play(plan: Plan, *, log: bool = False) -> Result:
    """Plays a history; a failure of the software itself is a complaint like any other."""
    loop = VirtualLoop()
    unexpected: list[str] = []
    loop.set_exception_handler(lambda _, context: unexpected.append(_told(context)))
    with tempfile.TemporaryDirectory(prefix="crdtmed-history-", dir=scratch()) as folder:
        it = History(plan, Path(folder), loop, log)
        seams = tablets_of.seams(tuple(it.tablets.values()), plan.renewal_s)
        try:
            limits = (
                patch("relay.hub.SEND_BUDGET_BYTES", plan.send_budget),
                patch("relay.catching_up.SEND_BUDGET_BYTES", plan.send_budget),
                patch("relay.session.LEASE_RENEWAL_S", plan.renewal_s),
                patch("relay.live.LIVE_DOCUMENTS", plan.live_documents),
                patch("relay.live.LIVE_AUTHORS", plan.live_documents),
                patch("relay.live.FREE_NUMBERS", plan.live_documents),
                patch("relay.live.LIVE_REGISTERS", plan.live_registers),
                patch("relay.reading.BASE_CACHE_BYTES", plan.base_cache),
                # Neither whether the disk counts as quick nor its cores must depend on the machine that plays.
                patch("relay.pace.QUICK_S", plan.quick_s),
                patch("relay.service.cores", lambda: plan.cores),
                patch("crdtmed.device.engine_core.LIVE_DOCUMENTS", plan.live_documents),
            )
            with it.relay.seams(), seams, _silent("crdtmed.relay"), ExitStack() as stack:
                for limit in limits:
                    stack.enter_context(limit)
                asyncio.set_event_loop(None)
                try:
                    loop.run_until_complete(asyncio.wait_for(it.run(), plan.hours * 3_600 + ENDS_S))
                except Exception as error:  # noqa: BLE001 - whatever it is, the seed has failed
                    it.witness.complain(f"the history ended with {type(error).__name__}: {error}")
                    it.witness.note(_trace(error))
                _clear(loop, it)
        finally:
            loop.close()
    for text in unexpected:
        if text:
            it.witness.complain(text)
    hours = sum(each.on_ms for each in it.tablets.values()) / 3_600_000
    it.witness.trace.update(repr(sorted(it.witness.reasons.items())).encode())
    return Result(
        plan.seed,
        tuple(it.witness.complaints),
        hours,
        it.moves,
        it.faults + it.relay.helpers.seen,
        it.witness.reasons,
        it.relay.signatures,
        it.witness.trace.hexdigest(),
        len(plan.ops),
        tuple(it.witness.log or ()),
    )


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Nothing goes to that log."""
    log = logging.getLogger(name)
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)


def _told(context: dict[str, Any]) -> str:
    error = context.get("exception")
    if isinstance(error, PowerCut | asyncio.CancelledError) or error is None:
        return ""
    return f"unexpected {type(error).__name__}: {error} ({context.get('message')}) {_trace(error)}"


def _trace(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(error)[-3:])


def _clear(loop: VirtualLoop, it: History) -> None:
    """Ends everything that still runs, so that nothing of a history is left to the next one."""
    for tablet in it.tablets.values():
        if tablet.device is not None:
            tablet._count()
            with suppress(Exception):
                loop.run_until_complete(asyncio.wait_for(tablet.device.close(), 60))
            tablet.device = None
    it.relay.lines.clear()
    it.relay.died()
    held = it.looking.get("connection")
    if held is not None:
        held[1].close()
    rest = [task for task in asyncio.all_tasks(loop) if not task.done()]
    for task in rest:
        task.cancel()
    if rest:
        loop.run_until_complete(asyncio.wait(rest, timeout=30))
