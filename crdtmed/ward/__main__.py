"""``make run``: a day on a ward and in a pharmacy, before your eyes.

The relay is a process of its own, the devices hold encrypted stores and speak over real websockets; only the clock is
set ahead.  At the end stands a balance; exit status 1 where anything is off.
"""

import argparse
import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from crdtmed.aggregates.prescription_draft import Group, Supply
from crdtmed.device import store
from crdtmed.device.device import Device
from crdtmed.ward import day as acts
from crdtmed.ward import incidents
from crdtmed.ward.balance import Balance, Copy, expected_refills, strike
from crdtmed.ward.board import Board
from crdtmed.ward.day import Day, Progress
from crdtmed.ward.generator import generate
from crdtmed.ward.hospital import Hospital, WardFailed, open_hospital
from crdtmed.ward.plan import PHARMACY, Plan, from_folder
from crdtmed.ward.reading import UnreadableFile

Act = Callable[[], Awaitable[None]]
SHOWN: Final = 20


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m crdtmed.ward",
        description="Plays a day on a ward and in a pharmacy, with a real relay and real devices.",
        epilog="examples:\n  make run\n  make run ARGS='--beds 40 --seed 7'\n  make run ARGS='--orders eicu-demo'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--orders", type=Path, metavar="FOLDER", help="an eICU or SMART folder instead of the generator"
    )
    parser.add_argument("--beds", type=int, default=12, help="beds of the generated ward (1 to 200)")
    parser.add_argument("--seed", type=int, default=1, help="what the generated ward is made from")
    parser.add_argument(
        "--folder", type=Path, help="where to keep everything; a temporary folder, removed, where absent"
    )
    parser.add_argument("--serve", action="store_true", help="keep the relay up at the end, until Ctrl-C")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Plays the day; gives the exit status."""
    options = _parser().parse_args(argv)
    console = Console()
    try:
        if not 1 <= options.beds <= 200:
            raise WardFailed(f"--beds is {options.beds}: choose 1 to 200")
        plan = from_folder(options.orders) if options.orders is not None else generate(options.seed, options.beds)
        with _folder(options.folder) as folder:
            return asyncio.run(_play(console, plan, folder, options.serve))
    except (WardFailed, UnreadableFile) as error:
        console.print(f"ward: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("stopped; every store is closed and can be opened again", markup=False)
        return 130


@contextlib.contextmanager
def _folder(given: Path | None) -> Any:
    if given is not None:
        yield given
        return
    made = Path(tempfile.mkdtemp(prefix="crdtmed-ward-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


async def _play(console: Console, plan: Plan, folder: Path, serve: bool) -> int:
    hospital = open_hospital(folder)
    loop = asyncio.get_running_loop()
    me = asyncio.current_task()
    assert me is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, me.cancel)
    try:
        with Board(console, lambda: hospital.devices) as board:
            day = Day(hospital, plan, Progress(board.tell, board.step, board.goal))
            await _acts(day, board)
            balance = await _balance(day)
        _show(console, day, balance)
        if serve:
            await _keep_up(console, hospital)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        await hospital.close()
    return 1 if balance.wrong else 0


async def _acts(day: Day, board: Board) -> None:
    hospital = day.hospital
    patients = [patient.id for patient in day.plan.patients]
    first, second = patients[0], patients[min(1, len(patients) - 1)]
    devices: dict[str, Device] = {}
    shared: list[str] = []

    async def open_up() -> None:
        board.tell("the relay is set up: sites, staff, rosters, formulary, patients, stock, rules")
        await hospital.set_up(day.plan)
        await hospital.start_relay()
        devices["ada"] = await hospital.enrol("tablet-ada", "ada", patients=patients)
        devices["bo"] = await hospital.enrol("tablet-bo", "bo", patients=[first, second])
        devices["nina"] = await hospital.enrol("tablet-nina", "nina", patients=patients)
        devices["noel"] = await hospital.enrol("tablet-noel", "noel", patients=[first])
        # Quentin first: with his PIN set, the relay issues his grant ahead to Pia's till.
        devices["quentin"] = await hospital.enrol("till-quentin", "quentin", patients=[first], sites=[PHARMACY])
        devices["pia"] = await hospital.enrol("till-pia", "pia", patients=patients, sites=[PHARMACY])
        devices["sol"] = await hospital.enrol("store-sol", "sol", sites=[PHARMACY])
        board.tell(f"{len(devices)} devices are enrolled, each with its own encrypted store")

    async def draft_together() -> None:
        shared.append(await incidents.two_tablets_draft(day, devices["ada"], devices["bo"], first))

    async def everything_arrives() -> None:
        await hospital.synced(*(hospital.devices[name] for name in hospital.devices if name != "tablet-noel"))

    steps: list[Act] = [
        open_up,
        lambda: acts.write_orders(day, devices["ada"]),
        lambda: acts.dispense_orders(day, devices["pia"]),
        lambda: acts.give_doses(day, devices["nina"]),
        draft_together,
        lambda: incidents.cards_and_override(day, devices["ada"], second),
        lambda: hospital.synced(devices["pia"], devices["quentin"]),
        lambda: incidents.pharmacy_outage(day, (devices["pia"], devices["quentin"]), first, shared[0]),
        lambda: incidents.resolve_conflicts(day, (devices["pia"], devices["quentin"])),
        lambda: incidents.corrections(day, devices["nina"], first, shared[0]),
        lambda: incidents.two_reconciliations(day, devices["nina"], devices["noel"], first),
        lambda: incidents.refused_and_adjusted(day, devices["nina"], devices["sol"]),
        lambda: incidents.stolen_tablet(day, "tablet-noel", first, shared[0]),
        lambda: incidents.reenter(day, devices["nina"], first),
        everything_arrives,
    ]
    board.acts(len(steps))
    for step in steps:
        await step()
        board.act_done()


async def _balance(day: Day) -> Balance:
    hospital = day.hospital
    said = {}
    gone = hospital.devices.pop("tablet-noel", None)
    for one in day.said:
        device = one.ref.partition(".")[0]
        said[one.ref] = "handed over" if device == day.revoked else str(await one.state())
    if gone is not None:
        await gone.close()
    copies = [copy for name, device in hospital.devices.items() for copy in await _copies(name, device)]
    quarantined = {line["ref"] for line in await hospital.operator("quarantine")}
    audit = await hospital.operator("audit")
    database = hospital.relay_folder / "relay.sqlite"
    balance = strike(audit, said, quarantined, database, copies, day.wiped_after_ms)
    proof = await hospital.operator("verify")
    if not proof["sound"]:
        balance.wrong += [f"verify: {line['where']}: {line['says']}" for line in proof["findings"][:SHOWN]]
    balance.wrong += day.plan.unexpected
    _compare_refills(day, balance)
    return balance


async def _copies(name: str, device: Device) -> list[Copy]:
    """What the device's own database holds of its documents, as raw rows."""

    def read(connection: Any) -> list[Copy]:
        return [
            Copy(name, document, epoch, position, _parts(connection, document, at))
            for document, epoch, position, at in connection.execute(
                "SELECT document, epoch, position, snapshot_position FROM base"
            ).fetchall()
        ]

    copies: list[Copy] = await device.engine.core.ports.database.run(read)
    return copies


def _parts(connection: Any, document: str, after: int) -> tuple[bytes, ...]:
    whole = store.snapshot_of(connection, document)
    rest = connection.execute(
        "SELECT data FROM base_update WHERE document = ? AND position > ? ORDER BY position", (document, after)
    ).fetchall()
    return (*(() if whole is None else (whole,)), *(bytes(row[0]) for row in rest))


def _compare_refills(day: Day, balance: Balance) -> None:
    """The dispenses of a file: what the relay made of them against a count that knows only numbers."""
    if not day.plan.refills:
        return
    limits = {}
    for prescription, order in day.signed.items():
        supply = order.groups[Group.SUPPLY]
        assert isinstance(supply, Supply)
        limits[prescription] = supply.quantity * (1 + supply.repeats)
    played = [
        (day.numbers[refill.order], refill.quantity)
        for refill in day.plan.refills
        if day.numbers.get(refill.order) in limits
    ]
    expected = expected_refills(limits, played)
    found = balance.conflicts.get("over_authorised", 0)
    if found < expected["over_authorised"]:
        balance.wrong.append(f"{expected['over_authorised']} refills go beyond their prescription, {found} were told")


def _show(console: Console, day: Day, balance: Balance) -> None:
    lines = [
        *(_source_line(source) for source in day.plan.sources),
        f"orders: {len(day.plan.orders):,}, signed {len(day.signed):,}, left drafts {day.unsigned:,}, "
        f"refused at signing {day.refused_signs:,}",
        f"statements said {balance.said:,}, recorded {balance.recorded:,}, accepted {balance.accepted:,}",
        f"conflicts: {_counts(balance.conflicts)}; now: {_counts(balance.resolved)}",
        f"refused: {_counts(balance.refused)}",
        f"quarantined {balance.quarantined}, lost {balance.lost}, doubled {balance.doubled}",
        f"ledger: {balance.movements:,} movements, {balance.lots:,} lots, on-hand equal to their sums",
        f"replicas: {balance.replicas:,} of {balance.documents:,} documents compared",
        f"from revocation to wipe: {(balance.wiped_after_ms or 0) / 1000:.1f} s",
    ]
    console.rule("balance")
    for line in lines:
        console.print(line, highlight=False, markup=False)
    for wrong in balance.wrong[:SHOWN]:
        console.print(f"WRONG: {wrong}", style="red", highlight=False, markup=False)
    more = len(balance.wrong) - SHOWN
    if more > 0:
        console.print(f"and {more} more", style="red")
    console.print("the balance is clean" if not balance.wrong else "the balance is NOT clean", style="bold")


def _source_line(source: Any) -> str:
    aside = ", ".join(f"{count:,} {reason}" for reason, count in source.set_aside.items()) or "none"
    blanks = ", ".join(f"{count:,} {reason}" for reason, count in source.blanks.items()) or "none"
    return f"{source.name}: {source.rows:,} rows, {source.loaded:,} loaded; set aside: {aside}; left blank: {blanks}"


def _counts(counter: Any) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counter.items())) or "none"


async def _keep_up(console: Console, hospital: Hospital) -> None:
    code = await hospital.operator("code", "--site", "ward")
    console.print(
        f"the relay stays up on ws://127.0.0.1:{hospital.port}; enrol a device of your own, and give it this code:\n"
        f"  crdtmed --folder my-device enrol ws://127.0.0.1:{hospital.port} --label mine\n"
        f"  code: {code['code']}\n"
        "Ctrl-C ends it",
        highlight=False,
        markup=False,
    )
    await asyncio.Event().wait()


if __name__ == "__main__":
    sys.exit(main())
