"""A database of an earlier version opens, loses nothing, and is then what a new one would be.

`schema_1.sql` is the database of `tests.relay.world.World` in the first version, as SQLite dumps it: a device that
wrote a draft, received stock, gave on a spoken order, and asked for something that was refused.
"""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from crdtmed.aggregates.stock_item import Receipt
from crdtmed.documents import log_of
from crdtmed.verdict import Status, decode_verdict
from relay.storage.migrations import LATEST, STEPS, version
from relay.storage.packing import pack_update
from relay.storage.sqlite import StorageError, open_sqlite
from tests.relay.world import World

DRAFTS = "patient/p1/drafts"


def test_a_database_of_the_first_version_opens_and_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(Path(__file__).with_name("schema_1.sql").read_text(encoding="utf-8"))
        said = [bytes(data) for (data,) in old.execute("SELECT data FROM statement ORDER BY id")]
        changes = old.execute(
            "SELECT document, position, data FROM relay_change ORDER BY document, position"
        ).fetchall()
        moved = old.execute("SELECT * FROM movement ORDER BY id").fetchall()
        sums = old.execute("SELECT site, item, lot, on_hand, shortage FROM stock ORDER BY site, item, lot").fetchall()
    assert (len(said), len(moved), len(sums)) == (8, 3, 1)
    world = World()
    world.path = path
    world.open()
    assert version(world.connection) == LATEST == 3
    with contextlib.closing(open_sqlite(tmp_path / "fresh.db")) as fresh:
        assert _schema(world.connection) == _schema(fresh)
    found = world.verify()
    assert (found.findings, found.statements, found.movements) == ((), 8, 3)
    assert list(world.record.movements()) == moved
    assert world.record.all_stock() == sums
    kept = [
        (document, position, update)
        for document in sorted({document for document, _, _ in changes})
        for position, update in world.record.changes(document, 0, 1_000)
    ]
    assert kept == changes
    held = world.connection.execute("SELECT data FROM relay_change ORDER BY document, position").fetchall()
    assert [data for (data,) in held] == [pack_update(update) for _, _, update in changes]
    rows = list(world.record.statements())
    assert [row.encoded[:64] for row in rows] == [data[:64] for data in said]
    # It goes on from there, and what is new is kept smaller beside what is old.
    tablet = world.tablet()
    outcome = world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 77, tablet.dose("p1", "rx9"))))
    assert [decode_verdict(one).status for one in outcome.verdicts[1]] == [Status.ACCEPTED]
    log = world.log("site/ward-a")
    receipt = tablet.say(
        Receipt("S", "N9", "amox-500", "A1", "2099-01-31", 5, "{capsule}", world.now_ms), log_of("site/ward-a")
    )
    world.commit(world.push(tablet, log, tablet.into_log(log, 78, receipt)))
    assert world.record.stock("ward-a", "amox-500", "A1") == (68, 0)
    found = world.verify()
    assert (found.findings, found.statements, found.movements) == ((), 10, 4)
    world.connection.close()


def _schema(connection: Any) -> list[Any]:
    """Tables and indexes, as the database has them; quotes and white space of one that was altered do not count."""
    asked = "SELECT type, name, tbl_name, replace(sql, '\"', '') FROM sqlite_master ORDER BY type, name"
    return [(*what, sql and " ".join(sql.split()).replace(" ,", ",")) for *what, sql in connection.execute(asked)]


def test_a_database_of_the_second_version_goes_on_with_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "relay.db"
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(Path(__file__).with_name("schema_1.sql").read_text(encoding="utf-8"))
    with monkeypatch.context() as patched:
        patched.setattr("relay.storage.migrations.STEPS", STEPS[:1])
        patched.setattr("relay.storage.migrations.LATEST", 2)
        with contextlib.closing(open_sqlite(path)) as second:
            assert version(second) == 2
            assert "words" not in [row[1] for row in second.execute("PRAGMA table_info(client)")]
    world = World()
    world.path = path
    world.open()
    assert version(world.connection) == LATEST
    before = {row.ref: row.encoded for row in world.record.statements()}
    tablet = world.tablet()
    doses = [tablet.dose("p1", "rx9") for _ in range(3)]
    for dose in doses:
        world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 77, dose)))
    kept = {row.ref: row.encoded for row in world.record.statements()}
    assert kept == before | {dose.statement.ref: dose.encoded for dose in doses}
    sizes = [
        size for (size,) in world.connection.execute("SELECT length(data) FROM statement ORDER BY id DESC LIMIT 3")
    ]
    assert max(sizes) < 64 + 40
    assert world.verify().findings == ()
    world.connection.close()


def test_a_migration_that_fails_leaves_everything_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "relay.db"
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(Path(__file__).with_name("schema_1.sql").read_text(encoding="utf-8"))
        before = list(old.iterdump())
    with monkeypatch.context() as patched:
        patched.setattr("relay.storage.migrations.raw_ref", lambda text: None)
        with pytest.raises(StorageError, match="NOT NULL"):
            open_sqlite(path)
    with contextlib.closing(sqlite3.connect(path)) as old:
        assert list(old.iterdump()) == before
    with contextlib.closing(open_sqlite(path)) as connection:
        assert version(connection) == LATEST
