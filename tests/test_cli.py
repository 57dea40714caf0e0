"""The command line of a device, against a real relay: what people read, what programs read, and what goes wrong."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from crdtmed.cli import COMMANDS, main
from crdtmed.cli_parser import build_parser
from crdtmed.limits import PIN_ATTEMPTS
from tests.scenarios.hospital import PASSPHRASE, Hospital, play, signed


class Shell:
    """Runs commands on one device's folder, in threads of their own, as processes would."""

    def __init__(self, it: Hospital, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys
        self.secrets = it.folder
        self.secret("passphrase", PASSPHRASE)

    def secret(self, name: str, value: str) -> str:
        """A file with a secret."""
        path = self.secrets / f"{name}.secret"
        path.write_text(value + "\n", encoding="utf-8")
        return str(path)

    async def run(self, *words: str) -> tuple[int, str, str]:
        """Exit status, output, errors."""
        argv = ["--folder", str(self.folder), "--passphrase-file", str(self.secrets / "passphrase.secret"), *words]
        status = await asyncio.to_thread(main, argv)
        out, err = self.capsys.readouterr()
        return status, out, err

    async def json(self, *words: str) -> Any:
        """What a command that must succeed answers as JSON."""
        status, out, err = await self.run(*words, "--json")
        assert status == 0, err
        return json.loads(out)


async def _enrolled(it: Hospital, capsys: pytest.CaptureFixture[str], user: str = "pia") -> Shell:
    shell = Shell(it, it.folder / "till", capsys)
    code = shell.secret("code", await asyncio.to_thread(it._code, ["pharm", "ward"]))
    url = f"ws://127.0.0.1:{it.port}"
    assert (await shell.json("enrol", url, "--label", "Till", "--code-file", code))["label"] == "Till"
    password = shell.secret("password", f"password-of-{user}")
    pin = shell.secret("pin", f"pin-{user}")
    answer = await shell.json("sign-in", user, "--password-file", password, "--pin-file", pin)
    assert answer["user"] == user
    return shell


def test_a_pharmacist_resolves_a_conflict_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("tablet", "ana", patients=["p1"])
        rx = await signed(it, ana, "p1", units=30)
        shell = await _enrolled(it, capsys)
        assert (await shell.json("hold", "--site", "pharm", "--patient", "p1"))["sites"] == ["pharm"]
        await shell.json("sync")
        (row,) = await shell.json("patients")
        assert (row["patient"], row["identifier"], row["name"], row["born"]) == (
            *("p1", "100001", "Maria Muster", "1950-03-01"),
        )
        whole = await shell.json("patients", "p1")
        assert whole["prescriptions"][0]["prescription"] == rx
        assert whole["allergies"] == "none known"
        lots = {lot["lot"]: lot for lot in await shell.json("stock", "pharm", "--item", "amox-500")}
        assert lots["A1"]["confirmed"] == 21
        assert lots["A1"]["tentative"] is None

        other = await it.device("till-2", "qun", sites=["pharm"])
        said = await other.dispense("p1", rx, lot="A1", quantity=30)
        await said.settled()
        await it.synced("till-2")
        await shell.json("sync")
        (conflict,) = await shell.json("conflicts")
        assert conflict["conflict"] == said.ref
        assert conflict["name"] == "Maria Muster"
        assert "on hand 21, wanted 30" in conflict["reason"]
        pin = str(it.folder / "pin.secret")
        words = ("resolve", said.ref, "switch_lot", "--lot", "A2", "--user", "pia", "--pin-file", pin)
        assert (await shell.json(*words))["state"] == "pending"
        (waiting,) = await shell.json("outbox")
        assert (waiting["what"], waiting["by"]) == ("resolve", "pia")
        await shell.json("sync")
        assert await shell.json("conflicts") == []
        assert await shell.json("outbox") == []
        lots = {lot["lot"]: lot["confirmed"] for lot in await shell.json("stock", "pharm", "--item", "amox-500")}
        assert lots == {"A1": 21, "A2": 12}
        status, out, _ = await shell.run("status")
        assert status == 0
        assert "signed in: -" in out
        assert "outbox: 0" in out

    play(tmp_path, story)


def test_what_goes_wrong_is_one_line_that_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def story(it: Hospital) -> None:
        shell = Shell(it, it.folder / "nowhere", capsys)
        status, out, err = await shell.run("status")
        assert (status, out) == (1, "")
        assert err.startswith("crdtmed: missing: ")
        assert err.count("\n") == 1
        code = shell.secret("code", "aaaa-bbbb-cccc")
        status, _, err = await shell.run("enrol", f"ws://127.0.0.1:{it.port}", "--label", "x", "--code-file", code)
        assert status == 1
        assert "code_wrong" in err
        status, _, err = await shell.run("enrol", "ws://relay.example", "--label", "x", "--code-file", code)
        assert "unencrypted" in err

        shell = await _enrolled(it, capsys)
        for words, says in (
            (("patients", "nobody"), "not_held"),
            (("stock",), "holds no site"),
            (("inbox", "--dismiss", "7"), "no open entry 7"),
            (("hold", "--patient", "No Such Id"), "is no id"),
            (("status", "--json"), ""),
        ):
            status, out, err = await shell.run(*words)
            assert (status == 0) is (not says), err
            assert says in err
        shell.secret("passphrase", "another passphrase")
        status, _, err = await shell.run("status")
        assert status == 1
        assert "wrong_passphrase" in err

    play(tmp_path, story)


def test_wrong_pins_lock_a_user_until_they_sign_in_online(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def story(it: Hospital) -> None:
        shell = await _enrolled(it, capsys)
        wrong = shell.secret("wrong", "0000")
        right = str(it.folder / "pin.secret")
        resolve = ("resolve", "abcdefgh.abcdefghijklmnop", "discard", "--user", "pia", "--pin-file")
        for left in reversed(range(PIN_ATTEMPTS)):
            _, _, err = await shell.run(*resolve, wrong)
            assert f"{left} tries are left" in err
        _, _, err = await shell.run(*resolve, right)
        assert "locked" in err
        password = str(it.folder / "password.secret")
        await shell.json("sign-in", "pia", "--password-file", password)
        _, _, err = await shell.run(*resolve, right)
        assert "conflict_unknown" in err, "the PIN opens again, and the conflict does not exist"

    play(tmp_path, story)


def test_watch_shows_the_conversation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def story(it: Hospital) -> None:
        shell = await _enrolled(it, capsys)
        status, out, err = await shell.run("watch", "--seconds", "2", "--json")
        assert status == 0, err
        events = [json.loads(line)["event"] for line in out.splitlines()]
        assert "Connected" in events

    play(tmp_path, story)


def test_no_command_takes_a_secret_as_an_argument_and_each_shows_an_example() -> None:
    parser = build_parser()
    (commands,) = (action.choices for action in parser._actions if action.dest == "command")
    assert isinstance(commands, dict)
    assert set(commands) == {*COMMANDS, "enrol", "watch"}
    for name, command in commands.items():
        text = command.format_help()
        assert f"crdtmed --folder ~/tablet {name}" in text, name
        assert "--json" in text, name
        for action in command._actions:
            secret = any(word in action.dest for word in ("password", "passphrase", "pin", "code"))
            assert not secret or action.dest.endswith("_file") or action.nargs == 0, (name, action.dest)


def test_without_a_terminal_a_secret_is_not_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--folder", str(tmp_path), "status"]) == 1
    assert "no terminal" in capsys.readouterr().err


def test_a_patient_who_is_not_there_yet_hides_nothing_of_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def story(it: Hospital) -> None:
        shell = await _enrolled(it, capsys)
        await shell.json("hold", "--patient", "p2")
        await shell.json("sync")
        await shell.json("hold", "--patient", "p1")
        status, out, err = await shell.run("patients")
        assert status == 0, err
        head, first, second = out.splitlines()
        assert "conflicts" in head, "of p2 it is known"
        assert "not_held" in first
        assert "Otto Beispiel" in second

    play(tmp_path, story)
