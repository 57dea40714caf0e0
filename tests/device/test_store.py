"""The store: encrypted or not opened, durable or refused, and its outbox outlives damage."""

import os
import sqlite3
import threading
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed.device import store
from crdtmed.device.engine_types import State
from crdtmed.device.store_database import (
    PLAIN_HEADER,
    Connection,
    InlineDatabase,
    StoreError,
    open_connection,
    open_database,
    transact,
)
from crdtmed.device.store_salvage import is_damaged, open_or_salvage, salvage
from crdtmed.device.store_schema import MIGRATIONS, migrate
from tests.device.scripted_relay import NOW
from tests.device.world import KEY, LOG, P1, Device, administer, draft, run

PAGE = 4096


def connection(path: Path, key: bytes = KEY) -> Connection:
    return open_connection(path, key)


def test_no_clinical_byte_is_in_any_file(tmp_path: Path) -> None:
    async def story() -> None:
        device = Device("aaaaaaaa", tmp_path / "a.db")
        async with device.engine() as engine:
            for number in range(50):
                await draft(engine, f"penicillin for Wilhelmina {number}")
            await engine.subscribe([P1])
            found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
            assert "a.db-wal" in found
            assert len(found["a.db-wal"]) > 20_000
            for name, data in found.items():
                for word in (
                    b"penicillin",
                    b"Wilhelmina",  # three letters would be in so much ciphertext by chance
                    b"instructions",
                    b"patient/p1",
                    device.name.encode(),
                ):
                    assert word not in data, f"{word!r} is in {name}"
                assert PLAIN_HEADER not in data
        assert b"Wilhelmina" not in (tmp_path / "a.db").read_bytes()

    run(story())


def test_the_wrong_key_opens_nothing_and_harms_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        device = Device("aaaaaaaa", tmp_path / "a.db")
        async with device.engine() as engine:
            await administer(engine, 1)
        before = device.path.read_bytes()
        with pytest.raises(StoreError) as raised:
            await open_database(device.path, bytes(32))
        assert raised.value.code == "wrong_key"
        assert device.path.read_bytes() == before
        async with device.engine() as engine:
            assert len(engine.outbox()) == 1

    run(story())


def test_a_store_that_did_not_open_leaves_no_thread_behind(tmp_path: Path) -> None:
    connection(tmp_path / "a.db").close()
    before = set(threading.enumerate())

    async def story() -> None:
        for _ in range(20):
            with pytest.raises(StoreError, match="wrong_key"):
                await open_database(tmp_path / "a.db", bytes(32))
            left = {thread for thread in set(threading.enumerate()) - before if "_connection_worker" in thread.name}
            assert not left, "it would speak to an event loop that may be gone by then"

    run(story())


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_has_32_bytes(tmp_path: Path, size: int) -> None:
    with pytest.raises(StoreError) as raised:
        connection(tmp_path / "a.db", bytes(size))
    assert raised.value.code == "bad_key"
    assert not list(tmp_path.iterdir())


def test_a_library_without_a_cipher_opens_nothing(tmp_path: Path) -> None:
    def plain(path: str) -> Connection:
        return sqlite3.connect(path, isolation_level=None)

    with pytest.raises(StoreError) as raised:
        open_connection(tmp_path / "a.db", KEY, plain)
    assert raised.value.code == "not_encrypted"


def test_a_file_that_was_never_encrypted_is_not_opened(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db") as made:
        made.execute("CREATE TABLE patients (name TEXT)")
    made.close()
    with pytest.raises(StoreError) as raised:
        connection(tmp_path / "a.db")
    assert raised.value.code == "plain_file"


def test_one_process_at_a_time(tmp_path: Path) -> None:
    first = connection(tmp_path / "a.db")
    with pytest.raises(StoreError) as raised:
        connection(tmp_path / "a.db")
    assert raised.value.code == "in_use"
    first.close()
    connection(tmp_path / "a.db").close()


def test_the_store_of_another_device_or_of_later_software_is_left_alone(tmp_path: Path) -> None:
    held = connection(tmp_path / "a.db")
    transact(held, lambda it: store.open_store(it, "aaaaaaaa"))
    with pytest.raises(StoreError, match="other_device"):
        transact(held, lambda it: store.open_store(it, "bbbbbbbb"))
    held.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(StoreError, match="newer"):
        transact(held, migrate)
    held.close()


@given(st.binary(max_size=300), st.integers(0, 40))
def test_a_snapshot_is_read_as_it_was_put(data: bytes, times: int) -> None:
    held = sqlite3.connect(":memory:", isolation_level=None)
    migrate(held)
    snapshot = data * times
    store.put_bases(held, [(store.BaseRow("formulary", "e", 3, 2, NOW), snapshot)])
    assert store.load_base(held, "formulary") == (store.BaseRow("formulary", "e", 3, 2, NOW), snapshot, [])
    assert store.snapshot_of(held, "formulary") == snapshot
    (kept,) = held.execute("SELECT length(data) FROM base_snapshot").fetchone()
    assert kept <= len(snapshot), "and takes no more than that"
    held.close()


def test_a_long_log_is_kept_on_fewer_pages() -> None:
    held = sqlite3.connect(":memory:", isolation_level=None)
    migrate(held)
    snapshot = b"".join(Random(at).randbytes(16) + b"an entry much like the one before it" for at in range(1_000))
    store.put_bases(held, [(store.BaseRow("formulary", "e", 3, 2, NOW), snapshot)])
    assert held.execute("SELECT length(data) * 2 < ? FROM base_snapshot", (len(snapshot),)).fetchone() == (1,)
    assert store.snapshot_of(held, "formulary") == snapshot
    held.execute("UPDATE base_snapshot SET data = ?", (b"what is not compressed",))
    assert store.snapshot_of(held, "formulary") == b"what is not compressed", "whoever reads it says that it is none"
    held.close()


def test_a_snapshot_of_an_older_store_is_read_after_its_schema_was_brought_up_to_date() -> None:
    held = sqlite3.connect(":memory:", isolation_level=None)
    for step in MIGRATIONS[0]:
        held.execute(step)
    held.execute("PRAGMA user_version = 1")
    snapshot = b" as 32 clients, or as compressed bytes, would begin" * 200
    held.execute("INSERT INTO base VALUES ('formulary', 'e', 3, 3, 2, 1)")
    held.execute("INSERT INTO base_snapshot VALUES ('formulary', ?)", (snapshot,))
    migrate(held)
    assert store.load_base(held, "formulary") == (store.BaseRow("formulary", "e", 3, 2, 1), snapshot, [])
    held.close()


def test_a_full_disk_is_told_and_nothing_of_it_was_said(tmp_path: Path) -> None:
    async def story() -> None:
        device = Device("aaaaaaaa", tmp_path / "a.db")
        async with device.engine() as engine:
            first = await administer(engine, 1)

            def fill(held: Connection) -> None:
                pages = held.execute("PRAGMA page_count").fetchone()[0]
                held.execute(f"PRAGMA max_page_count = {pages}")

            await engine.core.ports.database.run(fill)
            codes = set()
            said = 1
            for number in range(200):
                try:
                    await administer(engine, number)
                    said += 1
                except StoreError as error:
                    codes.add(error.code)
                    break
            assert codes == {"disk_full"}
            assert len(engine.outbox()) == said == engine.status().last_number
            assert len(await engine.statements(LOG)) == said
            await engine.core.ports.database.run(lambda held: held.execute("PRAGMA max_page_count = 1000000"))
            await administer(engine, 999)
            assert engine.status().last_number == said + 1
        async with device.engine() as engine:
            assert [one.signed.statement.number for one in engine.outbox()] == list(range(1, said + 2))
            assert await engine.state(first.ref) is State.PENDING

    run(story())


def test_a_read_only_file_is_told(tmp_path: Path) -> None:
    async def story() -> None:
        device = Device("aaaaaaaa", tmp_path / "a.db")
        async with device.engine() as engine:
            await administer(engine, 1)
            await engine.core.ports.database.run(lambda held: held.execute("PRAGMA query_only = ON"))
            with pytest.raises(StoreError) as raised:
                await administer(engine, 2)
            assert raised.value.code == "read_only"
            assert len(await engine.statements(LOG)) == 1

    run(story())


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anything")
def test_a_file_without_write_permission_is_told(tmp_path: Path) -> None:
    connection(tmp_path / "a.db").close()
    (tmp_path / "a.db").chmod(0o400)
    with pytest.raises(StoreError) as raised:
        connection(tmp_path / "a.db")
    assert raised.value.code == "read_only"


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as raised:
        connection(tmp_path / "none" / "a.db")
    assert raised.value.code == "read_only"


def store_with(path: Path, statements: int, base: int) -> list[str]:
    """A store with an outbox and a base of that many kilobytes, in a file on disk; gives the references."""
    refs: list[str] = []

    async def story() -> None:
        device = Device("aaaaaaaa", path)
        async with device.engine() as engine:
            refs.extend([(await administer(engine, number)).ref for number in range(statements)])
            row = store.BaseRow("formulary", "a" * 16, 1, 1, NOW)
            await engine.core.ports.database.run(
                lambda held: store.put_bases(held, [(row, device.random.randbytes(base * 1024))])
            )

    run(story())
    return refs


def test_whatever_page_is_damaged_no_statement_is_lost(tmp_path: Path) -> None:
    refs = store_with(tmp_path / "a.db", 60, 16)
    whole = (tmp_path / "a.db").read_bytes()
    pages = len(whole) // PAGE
    assert pages > 25
    salvaged = 0
    for page in range(1, pages):
        path = tmp_path / f"{page}" / "a.db"
        path.parent.mkdir()
        spoiled = bytearray(whole)
        spoiled[page * PAGE + 100 : page * PAGE + 200] = bytes(100)
        path.write_bytes(spoiled)

        async def story(path: Path = path) -> bool:
            held = open_connection(path, KEY)
            assert is_damaged(held)
            held.close()
            rescued = salvage(path, KEY, "aaaaaaaa", path.with_name("aside"))
            assert rescued.damaged.read_bytes() == path.with_name("aside").read_bytes()
            async with Device("aaaaaaaa", path).engine() as engine:
                assert [one.signed.statement.ref for one in engine.outbox()] == refs
                assert engine.status().last_number == len(refs)
                await administer(engine, 7)
            return True

        salvaged += run(story())
    assert salvaged == pages - 1


def test_damage_that_is_met_while_running_is_salvaged_at_the_next_start(tmp_path: Path) -> None:
    refs = store_with(tmp_path / "a.db", 20, 64)
    data = bytearray((tmp_path / "a.db").read_bytes())
    at = len(data) - 10 * PAGE
    data[at : at + PAGE] = bytes(PAGE)
    (tmp_path / "a.db").write_bytes(data)

    async def story() -> None:
        device = Device("aaaaaaaa", tmp_path / "a.db")
        async with device.engine() as engine:
            with pytest.raises(StoreError) as raised:
                await engine.core.hold("formulary")
            assert raised.value.code == "damaged"
            refs.append((await administer(engine, 99)).ref)
        database, rescued = await open_or_salvage(device.path, KEY, device.name, NOW)
        await database.close()
        assert rescued is not None
        assert rescued.outbox == 21
        async with device.engine() as engine:
            assert [one.signed.statement.ref for one in engine.outbox()] == refs
            assert await engine.core.hold("formulary") is None
        database, rescued = await open_or_salvage(device.path, KEY, device.name, NOW)
        await database.close()
        assert rescued is None

    run(story())


def test_a_store_whose_beginning_is_gone_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    store_with(tmp_path / "a.db", 3, 1)
    data = bytes(PAGE) + (tmp_path / "a.db").read_bytes()[PAGE:]
    (tmp_path / "a.db").write_bytes(data)
    with pytest.raises(StoreError) as raised:
        salvage(tmp_path / "a.db", KEY, "aaaaaaaa", tmp_path / "aside")
    assert raised.value.code == "damaged"
    assert (tmp_path / "a.db").read_bytes() == data


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        held = connection(tmp_path / "a.db")
        database = InlineDatabase(held)
        await database.run(lambda it: store.open_store(it, "aaaaaaaa"))

        def half(it: Connection) -> None:
            store.keep_int(it, store.NUMBER, 5)
            raise KeyError("in the middle")

        with pytest.raises(KeyError):
            await database.run(half)
        assert await database.run(lambda it: store.kept_int(it, store.NUMBER)) == 0
        await database.close()

    run(story())


def test_verdicts_and_requests_of_long_ago_are_forgotten_and_a_wrong_clock_forgets_nothing(tmp_path: Path) -> None:
    day = 86_400_000
    held = connection(tmp_path / "a.db")
    migrate(held)
    for ref, at in (("old", 0), ("kept", 31 * day), ("new", 40 * day)):
        held.execute("INSERT INTO verdict VALUES (?, ?, ?)", (ref, b"", at))
        held.execute("INSERT INTO request VALUES (?, ?, ?, ?)", (ref, "patient/p1", at, b""))
    store.forget_old(held, 5_000 * day)
    for table in ("verdict", "request"):
        assert [ref for (ref,) in held.execute(f"SELECT ref FROM {table} ORDER BY at").fetchall()] == ["kept", "new"]
    held.close()


# ---- rows that say something else ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "spoil"),
    [
        ("outbox", "UPDATE outbox SET data = x'00' WHERE number = 2"),
        ("outbox", "UPDATE outbox SET data = (SELECT data FROM outbox WHERE number = 1) WHERE number = 2"),
        ("outbox_spare", "UPDATE outbox_spare SET data = x'00' WHERE number = 2"),
        ("verdict", "INSERT INTO verdict SELECT ref, x'c1', 5 FROM outbox WHERE number = 1"),
        ("kept", "UPDATE kept SET value = x'93' WHERE name IN ('number', 'stamp')"),
        ("hand_back", "INSERT INTO hand_back VALUES ('aaaaaaaa.aaaaaaaaaaaaaaaa', 'patient/p1/log', x'00')"),
        ("base", "UPDATE base SET document = 'no/such/thing'"),
        ("inbox", "INSERT INTO inbox (ref, code, at, open, data) VALUES (NULL, 'x', 1, 1, x'93')"),
    ],
)
def test_a_row_that_cannot_be_read_is_damage_and_takes_no_statement_with_it(
    tmp_path: Path, table: str, spoil: str
) -> None:
    refs = store_with(tmp_path / "a.db", 3, 1)
    held = connection(tmp_path / "a.db")
    held.execute(spoil)
    held.close()

    async def story() -> None:
        device = Device("aaaaaaaa", tmp_path / "a.db")
        database, rescued = await open_or_salvage(device.path, KEY, device.name, NOW)
        await database.close()
        assert (rescued is not None) == (table not in ("outbox_spare", "inbox"))
        async with device.engine() as engine:
            assert [one.signed.statement.ref for one in engine.outbox()] == refs
            if table == "inbox":
                with pytest.raises(StoreError, match="damaged: a row of the store cannot be read"):
                    await engine.inbox()
            await administer(engine, 9)
        database, rescued = await open_or_salvage(device.path, KEY, device.name, NOW + 1)
        await database.close()
        assert (rescued is not None) == (table == "inbox"), "what cannot be read is met once"

    run(story())


def test_a_store_takes_no_cell_of_another_kind(tmp_path: Path) -> None:
    store_with(tmp_path / "a.db", 1, 1)
    held = connection(tmp_path / "a.db")
    for spoil in ("UPDATE base SET position = x'00'", "UPDATE outbox SET said_at = 'yesterday'"):
        with pytest.raises(StoreError):
            transact(held, lambda it, spoil=spoil: it.execute(spoil))  # type: ignore[misc]  # the default binds the loop's value
    held.close()
