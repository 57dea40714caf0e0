"""A device's store, damaged: what an input does to its file or to its rows, and how it is opened after that.

An input is a list of small deeds, six bytes each, so that mutations of inputs are mutations of the damage.  Whatever
they do, the store opens, is salvaged, or is refused with a `StoreError`; nothing else is raised, and nothing hangs.
"""

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final

from crdtmed.codec import encode
from crdtmed.device import store
from crdtmed.device.engine import Engine, open_engine
from crdtmed.device.store_database import Connection, DatabaseError, StoreError, damage_marker, open_connection
from crdtmed.device.store_salvage import open_or_salvage
from crdtmed.reasons import DraftClosed
from crdtmed.trust import Anchor
from crdtmed.verdict import Status
from tests.device.scripted_relay import IDENTITY, NOW, Judgement, ScriptedRelay
from tests.device.world import DRAFTS, KEY, LOG, P1, Device, administer, draft, linked, settle, until

PATIENCE_S: Final = 30
PAGE: Final = 4096
DEED: Final = 6
MOST_DEEDS: Final = 12
TABLES: Final = (
    *("kept", "base", "base_snapshot", "base_update", "outbox", "outbox_spare", "verdict", "inbox", "request"),
    *("hand_back", "subscription", "thing"),
)
CODES: Final = frozenset({"damaged", "wrong_key", "plain_file", "other_device", "newer", "failed", "read_only"})
"""What may be said of a store that was damaged."""


@cache
def template() -> bytes:
    """The file of a store that has something in every table: synced, with a refusal, and with unsent statements."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        asyncio.run(_filled(path))
        return path.read_bytes()


async def _filled(path: Path) -> None:
    device, relay = Device("aaaaaaaa", path), ScriptedRelay()
    device.random = Random("a store")
    relay.enrol(device.name, device.signer.public)
    async with device.engine() as engine:
        await engine.subscribe([P1])
        async with linked(engine.core, relay):
            for number in range(6):
                await administer(engine, number)
            await draft(engine, "with water")
            await settle(engine)
            relay.judge = lambda _: Judgement(Status.CONFLICT, DraftClosed("rx1"), ("discard",))
            await draft(engine, "too late")
            await until(lambda: engine.core.inbox_open > 0)
            await settle(engine)
            await until(lambda: engine.status().unverified == 0)
        for number in range(4):
            await administer(engine, 20 + number)
        await draft(engine, "at night")
        await engine.keep("grant", "ann", encode(("a grant",)))
        one = engine.outbox()[0].signed
        await engine.core.ports.database.run(lambda held: store.keep_request(held, one, NOW))
        await engine.core.ports.database.run(
            lambda held: store.put_hand_back(held, LOG, [(one.statement.ref, one.encoded)])
        )


def _deeds(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Each deed of an input: what, where, with what."""
    for at in range(0, min(len(data), DEED * MOST_DEEDS) - DEED + 1, DEED):
        deed = data[at : at + DEED]
        yield deed[0], int.from_bytes(deed[1:4], "big"), int.from_bytes(deed[4:6], "big")


# ---- the file ---------------------------------------------------------------------------------------------------


def damaged_file(data: bytes) -> None:
    """A store whose file was damaged: bytes flipped, pages emptied, copied over each other, cut off, more behind it."""
    held = bytearray(template())
    marked = False
    for what, where, value in _deeds(data):
        at = where % max(1, len(held))
        page = at // PAGE * PAGE
        match what % 8:
            case 0 | 1 if held:
                held[at] ^= 1 + value % 255
            case 2:
                held[page : page + PAGE] = bytes(len(held[page : page + PAGE]))
            case 3:
                other = value * PAGE % max(PAGE, len(held))
                held[page : page + PAGE] = held[other : other + PAGE]
            case 4:
                del held[at:]
            case 5:
                held += bytes([value % 256]) * (1 + value)
            case 6:
                del held[page : page + PAGE]
            case _:
                marked = True
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        path.write_bytes(held)
        if marked:
            damage_marker(path).touch()
        asyncio.run(_loaded(path))


# ---- the rows ---------------------------------------------------------------------------------------------------


def damaged_rows(data: bytes) -> None:
    """A store whose pages are whole, and whose rows say something else."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        path.write_bytes(template())
        held = open_connection(path, KEY)
        try:
            for what, where, value in _deeds(data):
                with suppress(*DatabaseError):  # what the schema itself refuses cannot be in a row
                    _spoil(held, TABLES[what % len(TABLES)], where, value)
        finally:
            held.close()
        asyncio.run(_loaded(path))


def _spoil(held: Connection, table: str, where: int, value: int) -> None:
    """Something in one cell of one row is replaced, or the row is gone."""
    columns = [row[1] for row in held.execute(f"PRAGMA table_info({table})").fetchall()]
    keys = [row[1] for row in held.execute(f"PRAGMA table_info({table})").fetchall() if row[5]]
    rows = held.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {', '.join(keys)}").fetchall()
    if not rows:
        return
    row, column = rows[where % len(rows)], (where >> 8) % len(columns)
    marks = " AND ".join(f"{key} IS ?" for key in keys)
    key = [row[columns.index(name)] for name in keys]
    how = (where >> 16) % 12
    if how == 0:
        held.execute(f"DELETE FROM {table} WHERE {marks}", key)
    elif how == 1:
        held.execute(f"PRAGMA user_version = {value % 4}")
    else:
        new = _instead(row[column], rows[value % len(rows)][column], how, value)
        held.execute(f"UPDATE {table} SET {columns[column]} = ? WHERE {marks}", [new, *key])


def _instead(old: Any, other: Any, how: int, value: int) -> Any:
    """What a cell says instead."""
    raw = old if isinstance(old, bytes) else str(old).encode()
    match how:
        case 2 | 3 | 4:
            at = value % max(1, len(raw))
            flipped = (
                raw[:at] + bytes([raw[at] ^ (1 + value // 256)]) + raw[at + 1 :] if raw and value < 65_280 else raw
            )
            return flipped if isinstance(old, bytes) else flipped.decode("utf-8", "replace")
        case 5:
            return raw[: value % (len(raw) + 1)]
        case 6:
            return other
        case 7:
            return (-1, 0, 1 << 62, -(1 << 62), value)[value % 5]
        case 8:
            return ("", "patient/p1", "../..", "directory", "\x00", "a" * 70_000)[value % 6]
        case 9:
            return (b"", b"\x93\x01\x02", b"\x00" * 64, bytes(value), b"\xc1")[value % 5]
        case 10:
            return value / 3
    return None


# ---- opening ----------------------------------------------------------------------------------------------------


async def _loaded(path: Path) -> None:
    """Opens the store as an application does, three times, reads all of it and says something."""
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(3):
            refused = await _refused(path)
            code = refused.code if refused is not None else "damaged"
            assert code in CODES, f"{refused} is nothing to say of a damaged store"


async def _refused(path: Path) -> StoreError | None:
    """Why the store is not opened; None where it is."""
    try:
        await _opened(path)
    except StoreError as error:
        return error
    return None


async def _opened(path: Path) -> None:
    device = Device("aaaaaaaa", path)
    database, _ = await open_or_salvage(path, KEY, device.name, NOW)
    try:
        engine = await open_engine(device.ports(database), Anchor(IDENTITY.public))
        engine.use(device.grant())
        for read in _reads(engine):
            with suppress(StoreError):  # damage that is met while running: the next start salvages
                await read()
        before = len(engine.outbox())
        with suppress(StoreError):
            await administer(engine, int.from_bytes(os.urandom(2), "big"))
            assert len(engine.outbox()) == before + 1
    finally:
        await database.close()


def _reads(engine: Engine) -> tuple[Callable[[], Any], ...]:
    async def states() -> None:
        for one in engine.outbox():
            await engine.state(one.signed.statement.ref)

    async def status() -> None:
        engine.status()

    return (
        lambda: engine.statements(DRAFTS),
        lambda: engine.statements(LOG),
        lambda: engine.registers(P1),
        lambda: engine.inbox(closed=True),
        lambda: engine.kept("grant"),
        engine.verify,
        states,
        status,
    )


def seeds_of(name: str) -> list[bytes]:
    """Inputs to begin with: each deed by itself."""
    if name == "store_file":
        return [bytes([what, 0, 0x50, at, 0, 7]) for what in range(8) for at in (0x20, 0xF0)]
    return [bytes([table, how, 0, row, 1, 9]) for table in range(len(TABLES)) for how in range(12) for row in (0, 3)]
