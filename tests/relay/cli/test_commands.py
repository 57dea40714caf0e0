"""Every command of the operator's and every flag of it, on a relay's folder without a relay that runs."""

import argparse
import json
import os
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from crdtmed.aggregates.patient import Allergy, PatientRegister
from crdtmed.aggregates.stock_item import Receipt
from crdtmed.documents import log_of
from crdtmed.limits import MAX_IMPORT_BYTES
from relay.cli_parser import build_parser
from relay.operator.commands import COMMANDS as CARRIED_OUT
from relay.operator.office import open_office
from relay.quarantine import hand_over
from relay.settings import Settings
from tests.relay.cli.desk import ROOT, Desk, world_in
from tests.relay.world import START
from tests.scenarios.hospital import FORMULARY, KNOWLEDGE, PATIENTS, STOCK


def commands(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command, with its own parser."""
    groups = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    for group in groups:
        for word, inner in group.choices.items():
            yield from commands(inner, f"{name} {word}".strip())
    if not groups:
        yield name, parser


COMMANDS = dict(commands(build_parser()))


# ---- help -----------------------------------------------------------------------------------------------------------


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


# ---- setting up -----------------------------------------------------------------------------------------------------


def test_a_relay_is_set_up_once_for_its_owner_alone(desk: Desk) -> None:
    found = desk.json("init")
    assert found["folder"] == str(desk.folder)
    assert len(found["identity"].split()) == 4
    assert desk.folder.stat().st_mode & 0o777 == 0o700
    assert (desk.folder / "relay.keys").stat().st_mode & 0o777 == 0o600
    keys = (desk.folder / "relay.keys").read_bytes()
    assert "is there already" in desk.run("init").line
    assert (desk.folder / "relay.keys").read_bytes() == keys


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


# ---- sites and people -----------------------------------------------------------------------------------------------


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


# ---- imports --------------------------------------------------------------------------------------------------------


def write(folder: Path, name: str, text: str) -> Path:
    """A file beside the relay's folder."""
    path = folder.parent / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def stocked(ready: Desk) -> Desk:
    """A relay with everything imported."""
    for kind, text in (("formulary", FORMULARY), ("patients", PATIENTS), ("stock", STOCK)):
        ready.json("import", kind, write(ready.folder, f"{kind}.csv", text))
    return ready


def register(desk: Desk, document: str, key: str) -> Any:
    """What a register says."""
    with open_office(Settings(folder=desk.folder)) as office:
        return office.run(lambda batch: batch.register(document, key))


def test_imports(stocked: Desk) -> None:
    assert register(stocked, "formulary", "item/amox-500").display == "Amoxicillin 500 mg capsule"
    assert register(stocked, "patient/p2", "patient").allergies == (Allergy("penicillin", "Penicillin", "rash"),)
    assert register(stocked, "site/pharm", "stock/amox-500/A1").on_hand == 21
    assert stocked.json("verify")["sound"] is True


def test_the_same_file_again_changes_nothing_and_added_rows_only_add(stocked: Desk) -> None:
    position = stocked.json("status")["documents"]
    again = stocked.json("import", "patients", stocked.folder.parent / "patients.csv")
    assert (again["rows"], again["changed"]) == (3, 0)
    more = write(stocked.folder, "more.csv", PATIENTS + "p4,urn:mrn|4,Uta,1990-01-01,,ward\n")
    found = stocked.json("import", "patients", more)
    assert (found["rows"], found["changed"]) == (4, 1)
    assert stocked.json("status")["documents"] == position + 1
    formulary = write(stocked.folder, "f.csv", FORMULARY.replace("Paracetamol 500 mg tablet", "Paracetamol"))
    assert stocked.json("import", "formulary", formulary)["changed"] == 1
    assert register(stocked, "formulary", "item/para-500").version == 2


def test_a_blank_takes_back_nothing_that_was_recorded(stocked: Desk) -> None:
    blank = PATIENTS.replace("penicillin|Penicillin|rash", "").replace("none known", "").replace("1950", "1951")
    stocked.json("import", "patients", write(stocked.folder, "blank.csv", blank))
    held = register(stocked, "patient/p2", "patient")
    assert held.allergies == (Allergy("penicillin", "Penicillin", "rash"),)
    one: PatientRegister = register(stocked, "patient/p1", "patient")
    assert (one.allergies, one.birth_date, one.version) == ((), "1951-03-01", 2)


def test_of_a_wrong_file_every_bad_row_is_told_and_nothing_is_taken(ready: Desk) -> None:
    text = (
        "id,identifiers,name,birth_date,allergies,care_sites\n"
        'p1,urn:mrn|1,"Maria\nMuster",1950-03-01,,ward\n'
        "p2,urn:mrn|2,Otto,1948-12-24,,nowhere;ward\n"
        "p3,urn:mrn|3,Ida,1948-12-24,,elsewhere\n"
    )
    ran = ready.run("import", "patients", write(ready.folder, "p.csv", text))
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.splitlines() == [
        "crdtmed-relay: line 4, care_sites: there is no site 'nowhere': add it first",
        "crdtmed-relay: line 5, care_sites: there is no site 'elsewhere': add it first",
    ]
    assert register(ready, "patient/p1", "patient") is None
    told = ready.run("--json", "import", "patients", write(ready.folder, "q.csv", text.replace("1950-03-01", "x")))
    assert told.status == 1
    assert json.loads(told.err)["errors"][0]["line"] == 2
    assert json.loads(told.err)["errors"][0]["field"] == "birth_date"


def test_stock_is_of_known_sites_and_items_in_their_units_once(stocked: Desk) -> None:
    text = (
        "site,item,lot,expiry,quantity,unit\n"
        "attic,amox-500,Z,2099-01-01,1,{capsule}\n"
        "pharm,nothing,Z,2099-01-01,1,{capsule}\n"
        "pharm,amox-500,Z,2099-01-01,1,{tablet}\n"
        "pharm,amox-500,A1,2099-01-01,1,{capsule}\n"
        "pharm,amox-500,B1,2099-01-01,1,{capsule}\n"
    )
    ran = stocked.run("import", "stock", write(stocked.folder, "s.csv", text))
    assert [line.split(": ", 2)[1] for line in ran.err.splitlines()] == [
        "line 2, site", "line 3, item", "line 4, unit", "line 5, lot"
    ]  # fmt: skip
    assert register(stocked, "site/pharm", "stock/amox-500/B1") is None
    assert register(stocked, "site/pharm", "stock/amox-500/A1").on_hand == 21
    assert stocked.json("verify")["sound"] is True


def test_a_unit_in_stock_never_changes(stocked: Desk) -> None:
    changed = FORMULARY.replace("500 mg,{capsule}", "500 mg,mL").replace("aspirin,,", "aspirin,nsaid,")
    assert stocked.run("import", "formulary", write(stocked.folder, "f.csv", changed)).line.startswith(
        "line 2, counting_unit: is mL where amox-500 is in stock as {capsule}"
    )
    assert register(stocked, "formulary", "item/aspi-100").classes == ()


@pytest.mark.parametrize("name", ["nowhere.csv", "."])
def test_a_file_that_cannot_be_read(ready: Desk, name: str) -> None:
    assert "cannot be read" in ready.run("import", "stock", ready.folder.parent / name).line


def test_a_file_that_is_too_large(ready: Desk) -> None:
    path = ready.folder.parent / "large.csv"
    with path.open("wb") as file:
        file.truncate(MAX_IMPORT_BYTES + 1)
    assert "split it" in ready.run("import", "stock", path).line


# ---- knowledge ------------------------------------------------------------------------------------------------------


def test_knowledge_is_checked_loaded_and_shown(ready: Desk) -> None:
    example = ROOT / "relay" / "knowledge" / "example.json"
    assert "no snapshot is in force" in ready.run("knowledge", "show").line
    assert ready.json("knowledge", "check", example)["snapshot"] == "example-1"
    assert "no snapshot is in force" in ready.run("knowledge", "show").line
    ready.json("knowledge", "load", example)
    shown = ready.json("knowledge", "show")
    assert (shown["in_force"], shown["file"], shown["dose_ceilings"]) == ("example-1", "example-1", 4)
    other = write(ready.folder, "k.json", json.dumps(KNOWLEDGE))
    ready.json("knowledge", "load", other)
    assert ready.json("knowledge", "show")["in_force"] == "2026-11"
    assert ready.json("status")["knowledge"] == "2026-11"


def test_a_wrong_snapshot_is_told_fault_by_fault_and_changes_nothing(ready: Desk) -> None:
    bad = json.loads(json.dumps(KNOWLEDGE))
    bad["interactions"][0]["between"] = ["a", "a"]
    bad["dose_ceilings"][0]["per_day"]["unit"] = "mL"
    path = write(ready.folder, "bad.json", json.dumps(bad))
    for action in ("check", "load"):
        ran = ready.run("knowledge", action, path)
        assert ran.status == 1
        assert len(ran.err.splitlines()) == 2
    assert not (ready.folder / "knowledge.json").exists()
    assert "no snapshot is in force" in ready.run("knowledge", "show").line


# ---- what was said --------------------------------------------------------------------------------------------------


@pytest.fixture
def told(desk: Desk) -> dict[str, str]:
    """A relay to which three devices said something; one of them is revoked."""
    world = world_in(desk.folder)
    world.patient("p2")
    one, two, gone = world.tablet(), world.tablet(), world.tablet()
    drafts = "patient/p1/drafts"
    first = one.dose("p1", "rx1")
    world.commit(world.push(one, drafts, one.into_drafts(drafts, 11, first)))
    world.now_ms += 60_000
    second = two.dose("p2", "rx2")
    world.commit(world.push(two, "patient/p2/drafts", two.into_drafts("patient/p2/drafts", 12, second)))
    log = world.log("site/pharmacy")
    receipt = Receipt("S", "N1", "amox-500", "L1", "2099-01-01", 5, "{tablet}", START)
    wrong = two.say(receipt, log_of("site/pharmacy"))
    world.commit(world.push(two, log, two.into_log(log, 13, wrong)))
    desk.json("revoke", gone.id, "--reason", "left on a bus")
    late = gone.dose("p1", "rx1", "7")
    world.task(lambda batch: hand_over(batch, gone.id, gone.signer.public, (late,)))
    world.connection.close()
    return {
        "one": one.id, "two": two.id, "gone": gone.id, "first": first.statement.ref, "second": second.statement.ref,
        "wrong": wrong.statement.ref, "late": late.statement.ref,
    }  # fmt: skip


def test_audit_tells_who_said_what_about_whom_and_its_verdict(desk: Desk, told: dict[str, str]) -> None:
    every = desk.json("audit")
    assert [each["ref"] for each in every] == [told["first"], told["second"], told["wrong"]]
    first = every[0]
    assert (first["user"], first["device"], first["patient"]) == ("vera", told["one"], "p1")
    assert (first["document"], first["verdict"], first["reason"]) == ("patient/p1/drafts", "accepted", "")
    assert first["received_at"] >= first["said_at"] > 0
    assert (every[2]["verdict"], every[2]["reason"], every[2]["patient"]) == ("conflict", "unit_mismatch", None)
    assert "5" not in {str(value) for value in first.values()}, "what was said of the dose stays where it is"


def test_audit_is_narrowed_by_patient_device_user_and_time(desk: Desk, told: dict[str, str]) -> None:
    def refs(*narrowed: str) -> list[str]:
        return [each["ref"] for each in desk.json("audit", *narrowed)]

    assert refs("--patient", "p2") == [told["second"]]
    assert refs("--patient", "p9") == []
    assert refs("--device", told["one"]) == [told["first"]]
    assert len(refs("--user", "vera")) == 3
    assert refs("--user", "nobody") == []
    assert refs("--until", "2026-05-28T20:26:41Z") == [told["first"]]
    assert refs("--since", "2026-05-28T20:26:41") == [told["second"], told["wrong"]]
    assert refs("--since", "2026-05-28", "--until", "2026-05-29", "--device", told["two"], "--patient", "p2") == [
        told["second"]
    ]
    assert refs("--since", "2027-01-01") == []
    assert desk.run("audit", "--since", "yesterday").line.startswith("--since: 'yesterday' is no time")


def test_conflicts_quarantine_and_alarms(desk: Desk, told: dict[str, str]) -> None:
    [conflict] = desk.json("conflicts")
    assert (conflict["ref"], conflict["reason"], conflict["document"]) == (
        told["wrong"],
        "unit_mismatch",
        "site/pharmacy",
    )
    assert conflict["actions"]
    assert desk.json("conflicts", "--all") == [conflict]
    [held] = desk.json("quarantine")
    assert (held["ref"], held["device"], held["user"], held["kind"]) == (
        told["late"],
        told["gone"],
        "vera",
        "draft_write",
    )
    assert isinstance(desk.json("alarms"), list)


def test_devices_and_their_revocation(desk: Desk, told: dict[str, str]) -> None:
    by_id = {each["device"]: each for each in desk.json("devices")}
    assert set(by_id) == {told["one"], told["two"], told["gone"]}
    assert by_id[told["gone"]]["revoked_at"] is not None
    assert by_id[told["one"]]["revoked_at"] is None
    assert desk.json("device", told["gone"])["quarantined"] == 1
    assert desk.json("revoke", told["one"], "--reason", "stolen", "--now")["revoked_at"] is not None
    assert "nosuch" in desk.run("revoke", "nosuch", "--reason", "x").line
    assert "nosuch" in desk.run("device", "nosuch").line
    assert "reason" in desk.run("revoke", told["two"], "--reason", " ").line
    status = desk.json("status")
    assert (status["devices"], status["revoked"], status["revoked_and_not_wiped"]) == (1, 2, 2)
    assert (status["statements"], status["open_conflicts"], status["quarantined"]) == (3, 1, 1)
    assert status["verdicts"] == {"accepted": 2, "conflict": 1}


@pytest.mark.parametrize(
    "name", sorted(set(COMMANDS) - {"init", "serve", "restore", "backup", "import", "rotate device"})
)
def test_every_answer_comes_for_people_and_as_json(name: str, desk: Desk, told: dict[str, str]) -> None:
    example = ROOT / "relay" / "knowledge" / "example.json"
    desk.json("knowledge", "load", example)
    more: dict[str, tuple[object, ...]] = {
        "site add": ("s", "--name", "S", "--address", "A", "--zone", "UTC"),
        "user add": ("u", "--name", "U", "--role", "nurse", "--site", "ward-a"),
        "user change": ("vera", "--role", "nurse", "--site", "ward-a"),
        "user password": ("vera",), "user unlock": ("vera",), "user withdraw": ("vera",),
        "roster add": ("ward-a", "vera"), "roster remove": ("ward-a", "vera"), "roster show": ("ward-a",),
        "code": ("--site", "ward-a"), "device": (told["one"],), "revoke": (told["one"], "--reason", "stolen"),
        "knowledge check": (example,), "knowledge load": (example,),
    }  # fmt: skip
    for argv in ((*name.split(), *more.get(name, ()), "--json"), ("--json", *name.split(), *more.get(name, ()))):
        ran = desk.run(*argv, stdin="a good password\n")
        if name != "user add" or ran.status == 0:
            assert isinstance(ran.value, dict | list)
    ran = desk.run(
        *name.split(),
        *(more.get(name, ()) if name != "user add" else ("v", *more[name][1:])),
        stdin="a good password\n",
    )
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.strip()
    with pytest.raises(ValueError, match=r"Expecting value|Extra data"):
        json.loads(ran.out)


def test_times_are_told_to_people_as_utc(desk: Desk, told: dict[str, str]) -> None:
    lines = desk.run("audit").out.splitlines()
    assert "received_at=2026-05-28T20:26:40Z" in lines[0]
    assert desk.run("audit", "--user", "nobody").out == "none\n"


def test_a_device_is_rotated_from_the_command_line_once_at_a_time(desk: Desk, told: dict[str, str]) -> None:
    assert desk.json("rotate", "device", told["one"]) == {"device": told["one"], "rotated": "with its next lease"}
    assert "has not taken over its last key yet" in desk.run("rotate", "device", told["one"]).line
    assert "is not in service" in desk.run("rotate", "device", "aaaaaaaa").line
    assert desk.run("rotate", "device", told["two"]).out.startswith("device: ")


# ---- verify, backup, restore ----------------------------------------------------------------------------------------


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


# ---- what cannot be ------------------------------------------------------------------------------------------------


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
