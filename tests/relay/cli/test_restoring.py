"""Verify, backup and restore: damage is found out, and a backup of this relay and nothing else takes its place."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from relay.operator.office import open_office
from relay.settings import Settings
from tests.relay.cli.desk import Desk, world_in


def test_a_damaged_database_is_found_out(desk: Desk, told: dict[str, str]) -> None:
    assert desk.json("verify")["sound"] is True
    with closing(sqlite3.connect(desk.folder / "relay.sqlite")) as connection:
        connection.execute("UPDATE movement SET delta = delta + 1")
        connection.execute("UPDATE statement SET number = number + 1 WHERE id = 1")
        connection.commit()
    ran = desk.run("verify", "--json")
    assert ran.status == 1
    found = json.loads(ran.out)
    assert found["sound"] is False
    assert any(told["first"] in each["where"] for each in found["findings"])
    assert desk.run("verify").status == 1


def test_a_backup_is_a_new_file_of_its_owner_and_restores(desk: Desk, told: dict[str, str], tmp_path: Path) -> None:
    target = tmp_path / "monday.sqlite"
    made = desk.json("backup", target)
    assert made["bytes"] == target.stat().st_size
    assert target.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith("monday")] == ["monday.sqlite"]
    # A plain file, that can be read from a disk where nothing can be written: no log beside it is expected.
    assert target.read_bytes()[18:20] == b"\x01\x01"
    assert "overwrites nothing" in desk.run("backup", target).line
    assert "is the folder there" in desk.run("backup", tmp_path / "no" / "x.sqlite").line
    desk.json("revoke", told["one"], "--reason", "after the backup")
    before = epochs(desk)
    found = desk.json("restore", target)
    assert found["documents"] == len(before)
    assert not set(before.values()) & set(epochs(desk).values())
    assert before.keys() == epochs(desk).keys()
    assert desk.json("verify")["sound"] is True
    assert desk.json("device", told["one"])["revoked_at"] is not None, "a revocation after the backup stays"
    assert "database that was replaced" in found["identity"]
    kept = Path(found["kept"])
    assert kept.parent == desk.folder
    second = desk.json("restore", target)
    assert Path(second["kept"]) != kept
    assert kept.exists()
    assert len(desk.json("audit")) == 3
    # where nothing is left of the database, the operator is told what to do again
    Path(desk.folder / "relay.sqlite").write_bytes(b"what the disk made of it")
    third = desk.json("restore", target)
    assert "revoke again" in third["identity"]
    assert desk.json("device", told["one"])["revoked_at"] is None


def epochs(desk: Desk) -> dict[str, str]:
    """The epoch of every document."""
    with open_office(Settings(folder=desk.folder)) as office:
        found = {name: office.record.document(name) for name in office.record.documents()}
        return {name: row.epoch for name, row in found.items() if row is not None}


def test_what_is_no_backup_of_this_relay_leaves_everything_as_it_was(
    desk: Desk, told: dict[str, str], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    world_in(other, seed=8).connection.close()
    alien, empty, text, torn, rotten = (tmp_path / name for name in ("alien", "empty", "text", "torn", "rotten"))
    with closing(sqlite3.connect(alien)) as connection:
        connection.execute("CREATE TABLE x (y)")
        connection.commit()
    empty.touch()
    text.write_text("no database " * 1_000)
    assert desk.run("backup", torn).status == 0
    whole = torn.read_bytes()
    torn.write_bytes(whole[: len(whole) // 2])
    with closing(sqlite3.connect(desk.folder / "relay.sqlite")) as connection:
        [page] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'statement_number'").fetchone()
        [size] = connection.execute("PRAGMA page_size").fetchone()
    rotten.write_bytes(whole[: (page - 1) * size] + bytes(size) + whole[page * size :])
    before = epochs(desk)
    names = sorted(each.name for each in desk.folder.iterdir())
    for path in (alien, empty, text, torn, rotten, other / "relay.sqlite"):
        assert desk.run("restore", path).line.startswith(f"{path} is no backup that can be restored here: "), path
    assert "there is no file" in desk.run("restore", tmp_path / "nowhere").line
    assert epochs(desk) == before
    assert sorted(each.name for each in desk.folder.iterdir() if each.name != "relay.lock") == [
        name for name in names if name != "relay.lock"
    ]


def test_what_a_crashed_relay_had_committed_stays_beside_the_restored(
    desk: Desk, told: dict[str, str], tmp_path: Path
) -> None:
    """What was committed last may stand in the log beside the database alone: it is kept together with it."""
    assert desk.run("backup", tmp_path / "b").status == 0
    script = (
        "import os, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA wal_autocheckpoint = 0')\n"
        "c.execute(\"INSERT INTO note VALUES ('k', 'k', x'00')\"); c.commit(); os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", script, desk.folder / "relay.sqlite"], check=False)
    assert (desk.folder / "relay.sqlite-wal").stat().st_size > 0
    kept = desk.json("restore", tmp_path / "b")["kept"]
    with closing(sqlite3.connect(kept)) as connection:
        assert connection.execute("SELECT count(*) FROM note WHERE kind = 'k'").fetchone() == (1,)
    with closing(sqlite3.connect(desk.folder / "relay.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM note WHERE kind = 'k'").fetchone() == (0,)
