"""The loop: load, a kill at a random moment, a start, again and again; then everything settles and is checked."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from relay.operator import upkeep
from relay.operator.office import database_of, open_office
from relay.settings import Settings
from relay.storage.record import SqlRecord
from relay.storage.sqlite import open_sqlite
from tests.kill.crew import PATIENCE_S, Journal, Process, start_device, start_relay
from tests.scenarios.hospital import hospital, signed
from tests.stateful.model import Model
from tests.stateful.ward import lots
from tests.stateful.words import Judged, read

DEVICES = {"tablet-1": "ana", "tablet-2": "ben", "till-1": "pia", "till-2": "qun"}


@dataclass
class Outcome:
    """What a run came to; ``wrong`` is every line that must not be there."""

    rounds: int = 0
    relay_kills: int = 0
    device_kills: int = 0
    said: int = 0
    told: int = 0
    recorded: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


async def made(folder: Path) -> Settings:
    """A hospital at rest: a relay's folder, and devices whose keys are in files."""
    async with hospital(folder) as it:
        for name, user in DEVICES.items():
            await it.device(name, user, patients=["p1"], sites=["pharm", "ward"], key_file=True)
        await signed(it, it.devices["tablet-1"], "p1", units=40, repeats=2)
        await it.synced()
        return it.settings


@dataclass(eq=False)
class _Crew:
    folder: Path
    settings: Settings
    chance: Random
    journal: Journal = field(default_factory=Journal)
    relay: Process | None = None
    devices: dict[str, Process] = field(default_factory=dict)

    @property
    def port_file(self) -> Path:
        return self.folder / "port"

    async def start_relay(self) -> None:
        self.relay = await start_relay(self.settings.folder, self.port_file)

    async def start_device(self, name: str) -> None:
        seed = self.chance.getrandbits(32)
        self.devices[name] = await start_device(self.folder / name, DEVICES[name], seed, self.port_file, self.journal)

    async def kill_everybody(self) -> None:
        for process in (*self.devices.values(), *([self.relay] if self.relay is not None else [])):
            await process.kill()

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Waits for the devices' lines until ``holds()``."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not holds():
                    self.journal.happened.clear()
                    await self.journal.happened.wait()
        except TimeoutError:
            raise AssertionError(f"{what} did not come in {PATIENCE_S} s: {dict(self.journal.lines)}") from None


async def run(folder: Path, rounds: int, seed: int, show: Callable[[str], Any] = str) -> Outcome:
    """Kills ``rounds`` times, and checks what is left."""
    crew = _Crew(folder, await made(folder), Random(seed))
    outcome = Outcome()
    try:
        await crew.start_relay()
        for name in DEVICES:
            await crew.start_device(name)
        for _ in range(rounds):
            await _round(crew, outcome)
            show(f"round {outcome.rounds}: {len(crew.journal.said)} said, {len(crew.journal.verdicts)} judged")
        shown = await _settled(crew)
        assert crew.relay is not None
        await crew.relay.kill()
    finally:
        await crew.kill_everybody()
    _check(crew, shown, outcome)
    return outcome


async def _round(crew: _Crew, outcome: Outcome) -> None:
    """Some load, so many lines of it, and then a kill of the relay, of a device or two, or of both."""
    lines = crew.journal.lines
    target = lines.total() + crew.chance.randrange(15, 90)
    opened = lines["opened"]
    expected = crew.chance.choice(("relay", "device", "both"))
    await crew.until(lambda: lines.total() >= target, "load")
    await asyncio.sleep(crew.chance.random() / 30)  # so that a kill does not come with a line
    names = crew.chance.sample(sorted(DEVICES), crew.chance.randrange(1, 3)) if expected != "relay" else []
    victims = [crew.devices[name] for name in names]
    if expected != "device":
        assert crew.relay is not None
        victims.insert(crew.chance.randrange(len(victims) + 1), crew.relay)
        outcome.relay_kills += 1
    for process in victims:
        await process.kill()
    for name in names:
        await crew.start_device(name)
    if expected != "device":
        await crew.start_relay()
    outcome.device_kills += len(names)
    outcome.rounds += 1
    await crew.until(lambda: lines["opened"] >= opened + len(names), "a device that opens again")


async def _settled(crew: _Crew) -> dict[str, dict[str, Any]]:
    """The load ends; everybody sends everything, then everybody has everything, and tells what that is."""
    for process in crew.devices.values():
        await process.word()
    await crew.until(lambda: all(it.flushed for it in crew.devices.values()), "everything sent")
    with closing(open_sqlite(database_of(crew.settings), read_only=True)) as connection:
        record = SqlRecord(connection)
        found = {name: record.document(name) for name in record.documents()}
        places = {name: [row.epoch, row.position] for name, row in found.items() if row is not None}
    crew.port_file.with_name("places").write_text(json.dumps(places))
    for process in crew.devices.values():
        await process.word()
    await crew.until(lambda: all(it.settled for it in crew.devices.values()), "everybody settled")
    return {name: it.settled or {} for name, it in crew.devices.items()}


def _check(crew: _Crew, shown: dict[str, dict[str, Any]], outcome: Outcome) -> None:
    journal, wrong = crew.journal, outcome.wrong
    outcome.said, outcome.told = len(journal.said), len(journal.verdicts)
    with closing(open_sqlite(database_of(crew.settings), read_only=True)) as connection:
        record = SqlRecord(connection)
        rows = [Judged(row.id, read(row.encoded), int(row.place), row.verdict) for row in record.statements()]
        stock = {(item, lot): [here, short] for _, item, lot, here, short in record.all_stock()}
        sums: dict[tuple[str, str], list[int]] = {lot: [0, 0] for lot in stock}
        for _, _, item, lot, kind, delta, _, _ in record.movements():
            sums[item, lot][kind.startswith("shortage")] += delta
    wrong += journal.wrong
    _record(rows, journal, outcome)
    model = Model(lots())
    wrong += [problem for row in rows if (problem := model.take(row)) is not None]
    due = {key: [lot.on_hand, lot.shortage] for key, lot in model.lots.items()}
    if not stock == sums == due:
        wrong.append(f"the books say {stock}, the ledger {sums}, the rules {due}")
    wrong += [f"{key} is below zero" for key, value in stock.items() if min(value) < 0]
    for name, held in shown.items():
        if held["stock"] != {lot: value for (_, lot), value in stock.items()}:
            wrong.append(f"{name} shows {held['stock']}, the books say {stock}")
        if held["open"] != sorted(model.open_cases()):
            wrong.append(f"{name} shows other open conflicts than the rules")
    first, *others = shown
    for name in others:
        both = shown[first]["documents"].keys() & shown[name]["documents"].keys()
        unlike = [it for it in both if shown[first]["documents"][it] != shown[name]["documents"][it]]
        if unlike or not both:
            wrong.append(f"{first} and {name} differ in {unlike}")
    with open_office(crew.settings) as office:
        wrong += [str(one) for one in upkeep.verify(office)["findings"]]


def _record(rows: list[Judged], journal: Journal, outcome: Outcome) -> None:
    """Everything said is there, once, with the one verdict that was told."""
    wrong, on_record = outcome.wrong, dict[str, Judged]()
    for row in rows:
        if row.word.ref in on_record:
            wrong.append(f"{row.word.ref} is on record twice")
        on_record[row.word.ref] = row
    outcome.recorded = len(rows)
    outcome.verdicts = dict(Counter(f"{row.status} {row.code}".strip() for row in rows))
    lost = {ref: user for ref, user in journal.said.items() if ref not in on_record}
    wrong += [f"{ref} was said by {user} and is on no record" for ref, user in lost.items()]
    for ref, told in journal.verdicts.items():
        judged = on_record.get(ref)
        if judged is None or told != {(judged.status, judged.code)}:
            wrong.append(f"{ref} was told as {sorted(told)}, the record says {judged and (judged.status, judged.code)}")
