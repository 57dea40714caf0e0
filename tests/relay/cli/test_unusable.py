"""Databases, folders, keys and settings that are of no use: a line says so, and they are left as they were."""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.relay.cli.desk import Desk


def test_a_database_of_a_newer_version_is_left_alone(ready: Desk, tmp_path: Path) -> None:
    target = tmp_path / "newer.sqlite"
    assert ready.run("backup", target).status == 0
    for path in (target, ready.folder / "relay.sqlite"):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE schema_version SET version = 999")
            connection.commit()
    words = "the database has schema 999"
    for argv in (
        ("status",),
        ("serve",),
        ("verify",),
        ("restore", target),
        ("site", "list"),
        ("backup", tmp_path / "x"),
    ):
        assert words in ready.run(*argv).line
    with closing(sqlite3.connect(ready.folder / "relay.sqlite")) as connection:
        assert connection.execute("SELECT version FROM schema_version").fetchone() == (999,)


def test_a_folder_that_cannot_be_written(tmp_path: Path, desk: Desk) -> None:
    (tmp_path / "file").touch()
    under = Desk(tmp_path / "file" / "relay", desk._capsys, desk._patch)
    assert "cannot be written" in under.run("init").line
    assert desk.run("init").status == 0
    (desk.folder / "relay.lock").mkdir()
    assert "cannot be written" in desk.run("serve").line
    if os.geteuid() != 0:
        # The superuser may write everywhere.
        desk.folder.chmod(0o500)
        assert desk.run("status").line
        desk.folder.chmod(0o700)


def test_what_is_no_database(desk: Desk) -> None:
    assert desk.run("init").status == 0
    (desk.folder / "relay.sqlite").write_text("no database " * 1_000)
    assert "check that the file is a relay's database" in desk.run("status").line


def test_keys_that_are_missing_or_another_relays(desk: Desk, tmp_path: Path) -> None:
    assert desk.run("init").status == 0
    other = Desk(tmp_path / "other", desk._capsys, desk._patch)
    assert other.run("init").status == 0
    keys = desk.folder / "relay.keys"
    mine = keys.read_bytes()
    keys.write_bytes((other.folder / "relay.keys").read_bytes())
    assert str(desk.folder) in desk.run("status").line
    keys.write_bytes(mine[:-3])
    assert "relay.keys" in desk.run("status").line
    keys.unlink()
    assert "relay.keys" in desk.run("status").line


def test_every_wrong_setting_is_a_line(desk: Desk, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("grant_hours = 0\noffline_lease_hours = 'x'\nlisten_hosts = ''\n")
    ran = desk.run("--settings", settings, "status")
    assert (ran.status, ran.out, len(ran.err.splitlines())) == (1, "", 3)
    assert desk.run("--settings", tmp_path / "nowhere", "status").line.startswith("--settings: ")
    assert json.loads(desk.run("--json", "--settings", settings, "status").err)["errors"][0].keys() == {"says"}
