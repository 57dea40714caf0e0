"""Commands on a relay's folder without a relay that runs: their help, their cost, and a relay set up with people."""

import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from relay.cli_parser import build_parser
from relay.operator.commands import COMMANDS as CARRIED_OUT
from tests.relay.cli.commands import COMMANDS
from tests.relay.cli.desk import ROOT, Desk

# ---- help ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_an_example_that_can_be_called(name: str, desk: Desk) -> None:
    ran = desk.run(*name.split(), "--help")
    assert ran.status == 0
    [example] = [line.strip() for line in ran.out.splitlines() if line.startswith("  crdtmed-relay --folder")]
    words = shlex.split(example.partition(" <")[0])
    options = build_parser().parse_args(words[1:])
    assert f"{options.command} {getattr(options, 'action', '')}".strip() == name
    assert "--json" in ran.out


def test_the_whole_help_has_a_relay_from_nothing(desk: Desk) -> None:
    examples = [line.strip() for line in desk.run("--help").out.splitlines() if line.startswith("  crdtmed-relay")]
    assert len(examples) == 5
    for example in examples:
        build_parser().parse_args(shlex.split(example.partition(" <")[0])[1:])


def test_every_command_is_carried_out_by_somebody() -> None:
    elsewhere = {"init", "serve", "restore", "knowledge check", "rotate identity", "rotate relay"}
    assert set(COMMANDS) == set(CARRIED_OUT) | elsewhere


@pytest.mark.parametrize(
    "argv", [(), ("nothing",), ("site",), ("revoke", "x"), ("user", "add", "ann", "--role", "king")]
)
def test_a_wrong_call_exits_with_2(desk: Desk, argv: tuple[str, ...]) -> None:
    ran = desk.run(*argv)
    assert (ran.status, ran.out) == (2, "")
    assert "usage: crdtmed-relay" in ran.err


def test_no_secret_is_an_argument() -> None:
    words = {option for parser in COMMANDS.values() for action in parser._actions for option in action.option_strings}
    assert not {word for word in words if "pass" in word or "secret" in word or "pin" in word.split("-")}


# ---- as processes --------------------------------------------------------------------------------------------------


def test_a_pipe_that_nobody_reads(ready: Desk) -> None:
    command = f"{shlex.quote(sys.executable)} -m relay.cli --folder {shlex.quote(str(ready.folder))} site list"
    ran = subprocess.run(["bash", "-c", f"{command} | true"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert ran.stderr == ""


@pytest.mark.parametrize(
    ("argv", "without"),
    [
        (["--help"], {"sqlalchemy", "cryptography", "httpx", "uvicorn", "starlette", "prometheus_client", "biip"}),
        (["init"], {"httpx", "uvicorn", "starlette", "prometheus_client", "biip"}),
    ],
)
def test_a_command_loads_only_what_it_needs(argv: list[str], without: set[str], tmp_path: Path) -> None:
    argv = ["--folder", str(tmp_path / "relay"), *argv]
    script = (
        "import contextlib, sys; from relay.cli import main\n"
        f"with contextlib.suppress(SystemExit): main({argv!r})\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = set(ran.stderr.split())
    assert {"relay", "msgspec"} <= loaded
    assert not loaded & without


# ---- setting up ----------------------------------------------------------------------------------------------------


def test_a_relay_is_set_up_once_for_its_owner_alone(desk: Desk) -> None:
    found = desk.json("init")
    assert found["folder"] == str(desk.folder)
    assert len(found["identity"].split()) == 4
    assert desk.folder.stat().st_mode & 0o777 == 0o700
    assert (desk.folder / "relay.keys").stat().st_mode & 0o777 == 0o600
    keys = (desk.folder / "relay.keys").read_bytes()
    assert "is there already" in desk.run("init").line
    assert (desk.folder / "relay.keys").read_bytes() == keys


def test_the_passphrase_is_the_first_line_of_its_file_and_no_more(desk: Desk, tmp_path: Path) -> None:
    settings, secret = tmp_path / "relay.toml", tmp_path / "secret"
    settings.write_text(f'passphrase_file = "{secret}"\n')
    secret.write_text("a long passphrase\r\nof the relay on the second floor\n", newline="")
    assert desk.run("--settings", settings, "init").status == 0

    secret.write_text("a long passphrase")
    assert desk.run("--settings", settings, "status").status == 0, "a note beneath it is not part of it"


def test_a_passphrase_from_a_file_locks_the_keys(desk: Desk, tmp_path: Path) -> None:
    secret, wrong, settings = tmp_path / "secret", tmp_path / "wrong", tmp_path / "settings.toml"
    secret.write_text("a long passphrase\n")
    wrong.write_text("another passphrase\n")
    settings.write_text(f'passphrase_file = "{secret}"\nname = "relay-7"\n')
    desk.json("--settings", settings, "init")
    assert b"relay-7" not in (desk.folder / "relay.keys").read_bytes()
    assert desk.json("--settings", settings, "status")["relay"] == "relay-7"
    assert "relay.keys" in desk.run("status").line
    settings.write_text(f'passphrase_file = "{wrong}"\n')
    assert "passphrase" in desk.run("--settings", settings, "status").line
    secret.write_text("short")
    settings.write_text(f'passphrase_file = "{secret}"\nfolder = "{tmp_path / "other"}"')
    assert (
        "at least 12 characters"
        in Desk(tmp_path / "other", desk._capsys, desk._patch).run("--settings", settings, "init").line
    )


def test_where_there_is_no_relay_every_command_says_so_in_a_line(desk: Desk) -> None:
    for name in ("status", "verify", "devices", "site list", "knowledge show", "audit", "serve"):
        assert (
            desk.run(*name.split()).line
            == f"{desk.folder} has no relay: run crdtmed-relay init first, or give its folder"
        )


# ---- sites and people ----------------------------------------------------------------------------------------------


def test_sites(ready: Desk) -> None:
    assert ready.json("site", "list") == [{"site": "pharm", "name": "Pharm"}, {"site": "ward", "name": "Ward"}]
    ready.json("site", "add", "ward", "--name", "Ward 3", "--address", "2 Way", "--zone", "Europe/London")
    assert ready.json("site", "list")[1]["name"] == "Ward 3"
    assert "zone" in ready.run("site", "add", "x", "--name", "X", "--address", "1", "--zone", "Mars/Base").line
    assert "Ward 4" in ready.run("site", "add", "Ward 4", "--name", "X", "--address", "1", "--zone", "UTC").line
    assert len(ready.json("site", "list")) == 2


def test_users(ready: Desk) -> None:
    added = ready.json(
        "user", "add", "ann", "--name", "Ann Day", "--role", "nurse", "--role", "prescriber", "--site", "ward",
        stdin="a good password\n",
    )  # fmt: skip
    assert added == {"user": "ann", "roles": ["nurse", "prescriber"], "sites": ["ward"]}
    again = ("user", "add", "ann", "--name", "Ann", "--role", "nurse", "--site", "ward")
    assert "ann" in ready.run(*again, stdin="a good password\n").line
    other = ("user", "add", "ben", "--name", "Ben", "--role", "nurse", "--site")
    assert "characters" in ready.run(*other, "ward", stdin="short\n").line
    assert "characters" in ready.run(*other, "ward").line
    assert "nowhere" in ready.run(*other, "nowhere", stdin="a good password\n").line
    ready.json("user", "change", "ann", "--role", "pharmacist", "--site", "pharm", "--site", "ward")
    ready.json("user", "password", "ann", stdin="a better password\n")
    ready.json("user", "unlock", "ann")
    [ann] = ready.json("user", "list")
    assert (ann["roles"], sorted(ann["sites"]), ann["withdrawn_at"]) == (["pharmacist"], ["pharm", "ward"], None)
    gone = ready.json("user", "withdraw", "ann")
    [ann] = ready.json("user", "list")
    assert ann["withdrawn_at"] == gone["withdrawn_at"] > 1_700_000_000_000
    for action in ("unlock", "withdraw"):
        assert "nobody" in ready.run("user", action, "nobody").line
    assert "nobody" in ready.run("user", "password", "nobody", stdin="a good password\n").line
    assert "nobody" in ready.run("user", "change", "nobody", "--role", "nurse", "--site", "ward").line


def test_rosters(ready: Desk) -> None:
    for user in ("ann", "ben"):
        ready.json("user", "add", user, "--name", user, "--role", "nurse", "--site", "ward", stdin="a good password")
    assert ready.json("roster", "add", "ward", "ben", "ann")["roster"] == ["ann", "ben"]
    assert [each["user"] for each in ready.json("roster", "show", "ward")] == ["ann", "ben"]
    assert ready.json("roster", "remove", "ward", "ann")["roster"] == ["ben"]
    assert "nobody" in ready.run("roster", "add", "ward", "ann", "nobody").line
    assert [each["user"] for each in ready.json("roster", "show", "ward")] == ["ben"], "all of them or none"
    assert ready.json("roster", "show", "pharm") == []


def test_an_enrolment_code(ready: Desk) -> None:
    found = ready.json("code", "--site", "ward", "--site", "pharm")
    assert (found["sites"], len(found["code"]) > 8) == (["ward", "pharm"], True)
    assert "nowhere" in ready.run("code", "--site", "nowhere").line
    with closing(sqlite3.connect(ready.folder / "relay.sqlite")) as connection:
        dump = "\n".join(connection.iterdump())
    assert found["code"] not in dump
    assert found["code"].replace("-", "").split()[0] not in dump
