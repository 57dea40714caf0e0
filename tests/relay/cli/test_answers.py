"""What the operator is told of statements, conflicts and devices, as words for people and as JSON."""

import json

import pytest

from tests.relay.cli.commands import COMMANDS
from tests.relay.cli.desk import ROOT, Desk


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
    [alarm] = desk.json("alarms")
    assert (alarm["kind"], alarm["device"], alarm["says"]) == (
        "device_marks",
        told["gone"],
        "an older copy of its files",
    )
    assert desk.json("status")["alarms"] == 1


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
