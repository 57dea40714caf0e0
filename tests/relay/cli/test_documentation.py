"""The operators' documentation: its commands are run in order, its files are read, and its names exist."""

import asyncio
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import httpx
import pytest

from crdtmed.contract import Role
from crdtmed.device.device import Device
from relay import cli
from relay.imports import COLUMNS, NONE_KNOWN, ImportKind
from relay.settings import Settings, read_settings
from tests.relay.cli.commands import COMMANDS
from tests.relay.cli.desk import ROOT, Ran, Served, start
from tests.scenarios.hospital import FORMULARY, PATIENTS, STOCK

TEXT = (ROOT / "relay" / "README.md").read_text(encoding="utf-8")
PLACES = ("/srv", "/etc/crdtmed", "/backup")
DEVICE = "k7qmw2ab"


def blocks(kind: str) -> list[str]:
    """The code blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, re.M | re.S)


LINES = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]


class Operator:
    """Somebody who types the documentation's commands, with its folders below ``root``."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.relay: Served | None = None
        self.alias: list[str] = []
        self.device = ""
        self.called: list[list[str]] = []
        self._capsys = capsys
        self._patch = patch

    def place(self, text: str) -> str:
        """The text with the documentation's folders where they are here."""
        for name in PLACES:
            text = text.replace(name, f"{self.root}{name}")
        return text.replace(DEVICE, self.device or DEVICE)

    def type(self, line: str) -> None:
        """Does what a line says; it has to work."""
        words = shlex.split(self.place(line))
        match words:
            case ["alias", definition]:
                name, _, value = definition.partition("=")
                assert name == "relay"
                self.alias = shlex.split(value)[1:]
            case ["systemctl", "stop", "crdtmed-relay"]:
                assert self.relay is not None
                assert self.relay.stop() == 0
            case ["systemctl", "start", "crdtmed-relay"]:
                self.serve(self.alias)
            case ["crdtmed-relay", *argv, "serve"]:
                self.called.append([*argv, "serve"])
                self.serve(argv)
            case ["crdtmed-relay", *argv]:
                self.command(argv)
            case ["relay", *argv]:
                self.command([*self.alias, *argv])
            case ["mkdir" | "cp" | "rm", *_]:
                subprocess.run(words, check=True)
            case _:
                pytest.fail(f"nobody knows how to do this: {line}")

    def serve(self, argv: list[str]) -> None:
        """Starts the relay."""
        settings = Path(argv[argv.index("--settings") + 1])
        folder = Path(self.place("/srv/relay"))
        self.relay = start(folder, "--settings", settings)
        assert self.relay.port, self.relay.lines

    def command(self, argv: list[str]) -> Ran:
        """Runs a command."""
        argv, stdin = (argv[: argv.index("<")], Path(argv[-1]).read_text()) if "<" in argv else (argv, "")
        self.called.append(argv)
        import io
        import sys

        self._patch.setattr(sys, "stdin", io.StringIO(stdin))
        self._capsys.readouterr()
        status = cli.main(argv)
        ran = Ran(status, *self._capsys.readouterr())
        assert (ran.status, ran.err) == (0, ""), (argv, ran)
        assert ran.out
        if "code" in argv:
            self.enrol(re.search(r"^code: (.*)$", ran.out, re.M)[1])  # type: ignore[index]  # it is there, or this fails
        return ran

    def enrol(self, code: str) -> None:
        """Enrols a device; what is said of the documentation's is said of it from now on."""
        assert self.relay is not None
        asyncio.run(
            Device.enrol(
                self.root / "device",
                "a passphrase of the tests",
                url=f"ws://127.0.0.1:{self.relay.port}",
                code=code,
                label="Tablet 7",
            )
        )
        with pytest.MonkeyPatch.context():
            self._capsys.readouterr()
            assert cli.main(["--json", *self.alias, "devices"]) == 0
            [found] = json.loads(self._capsys.readouterr().out)
        self.device = found["device"]


@pytest.fixture
def operator(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    for name in (*PLACES, "/srv/files"):
        (tmp_path / name[1:]).mkdir(parents=True)
    etc, files = tmp_path / "etc" / "crdtmed", tmp_path / "srv" / "files"
    (etc / "password").write_text("a good password\n")
    (etc / "relay.toml").write_text(f'folder = "{tmp_path}/srv/relay"\n')
    sites = {"ward;pharm": "ward-3;pharm", ",ward\n": ",ward-3\n"}
    patients = PATIENTS
    for old, new in sites.items():
        patients = patients.replace(old, new)
    for name, text in {"formulary": FORMULARY, "patients": patients, "stock": STOCK}.items():
        (files / f"{name}.csv").write_text(text)
    shutil.copy(ROOT / "relay" / "knowledge" / "example.json", files / "rules.json")
    it = Operator(tmp_path, capsys, monkeypatch)
    try:
        yield it
    finally:
        if it.relay is not None:
            it.relay.stop()


def test_every_command_of_the_documentation_works_in_its_order(operator: Operator) -> None:
    for line in LINES:
        operator.type(line)
    assert operator.relay is not None
    told = httpx.get(f"{operator.relay.url}/metrics").text
    named = set(re.findall(r"`(crdtmed_[a-z_]+)", TEXT))
    assert len(named) > 12
    assert {name for name in named if f"# HELP {name} " not in told} == set()
    assert set(re.findall(r"^# HELP (\S+)", told, re.M)) - named <= {"crdtmed_bytes_total"}
    # What it runs is everything there is, and every flag that it names stands in one of its commands.
    words = [" ".join(argv) for argv in operator.called]
    assert [name for name in COMMANDS if not any(f" {name} " in f" {each} " for each in words)] == []
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", TEXT)) - {"--help", "--port-file"}
    assert flags - {word for argv in operator.called for word in argv} == set()
    known = {option for parser in COMMANDS.values() for each in parser._actions for option in each.option_strings}
    assert known - flags - {"-h", "--help", "--port-file"} == set()
    assert "--port-file" in operator.relay.process.args  # type: ignore[operator]  # a list, as `start` gives it


def test_its_settings_files_can_be_read(tmp_path: Path) -> None:
    for name in PLACES:
        (tmp_path / name[1:]).mkdir(parents=True)
    found = blocks("toml")
    assert len(found) == 3
    for text in found:
        for name in PLACES:
            text = text.replace(name, f"{tmp_path}{name}")
        for path in re.findall(r'"(.*/etc/crdtmed/.*)"', text):
            Path(path).write_text("x")
        assert read_settings(text, {}).folder == tmp_path / "srv" / "relay"


def test_it_tells_every_setting_with_its_default() -> None:
    part = TEXT.partition("## All settings")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?`) \| (.*?) \|", part, re.M)
    told = {name: row for names, row in rows for name in re.findall(r"`(\w+)`", names)}
    assert set(told) == {field.name for field in fields(Settings)}
    for field in fields(Settings):
        default = getattr(Settings(), field.name)
        assert ("none" if default in (None, "") else str(default)) in told[field.name], field.name


def test_it_tells_every_role_and_every_column() -> None:
    assert {role.value for role in Role} <= set(re.findall(r"`(\w+)`", TEXT))
    for kind in ImportKind:
        [row] = re.findall(rf"^\| {kind} \|(.*)$", TEXT, re.M)
        assert set(COLUMNS[kind]) <= set(re.findall(r"`(\w+)`", row))
    assert f"`{NONE_KNOWN}`" in TEXT
