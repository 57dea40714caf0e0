"""Settings from a file and the environment: which wins, and every fault told at once."""

from dataclasses import fields
from pathlib import Path

import pytest

from relay.settings import LOOPBACK, PLAINTEXT_WORDS, BadSettings, Settings, read_settings


def problems(text: str | None, **environment: str) -> tuple[str, ...]:
    """What is wrong."""
    with pytest.raises(BadSettings) as caught:
        read_settings(text, {f"CRDTMED_RELAY_{name.upper()}": value for name, value in environment.items()})
    return caught.value.problems


def test_nothing_given_listens_on_loopback_alone() -> None:
    settings = read_settings(None, {"PATH": "/bin", "CRDTMED_OTHER": "x"})
    assert settings == Settings()
    assert settings.listen_host in LOOPBACK


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    key = tmp_path / "pass phrase"
    key.write_text("x")
    text = f'folder = "a"\nlisten_port = 1\ngrant_hours = 12\npassphrase_file = "{key}"\n'
    settings = read_settings(text, {"CRDTMED_RELAY_FOLDER": "b c", "CRDTMED_RELAY_LISTEN_PORT": "2"})
    assert (settings.folder, settings.listen_port, settings.grant_hours) == (Path("b c"), 2, 12)
    assert settings.passphrase_file == key


def test_every_setting_can_be_given_either_way(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(8))
    given = {
        "folder": "f", "passphrase_file": str(file), "name": "r2", "listen_host": "::1", "listen_port": "0",
        "tls_certificate": str(file), "tls_key": str(file), "plaintext": "", "offline_lease_hours": "4",
        "emergency_lease_hours": "0", "grant_hours": "1", "knowledge_url": "https://kb.example/cds",
        "log_level": "debug", "exercise_clock": str(file), "verifiers": "0",
    }  # fmt: skip
    assert set(given) == {field.name for field in fields(Settings)}
    toml = "".join(
        f"{name} = {value}\n" if value.isdigit() else f'{name} = "{value}"\n' for name, value in given.items()
    )
    by_file = read_settings(toml, {})
    assert by_file == read_settings(None, {f"CRDTMED_RELAY_{name.upper()}": value for name, value in given.items()})
    assert by_file != Settings()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("folder = ", "the settings file is no TOML"),
        ("port = 1", "port: there is no such setting; there are folder, passphrase_file"),
        ("[relay]\nfolder = 'x'", "relay: there is no such setting"),
        ("folder = ''", "folder: is empty"),
        ("folder = 7", "folder: is 7: write a text in quotes"),
        ("listen_port = 65536", "listen_port: is 65536: write 0 to 65535"),
        ("listen_port = -1", "listen_port: is -1"),
        ("listen_port = true", "listen_port: is True: write a whole number"),
        ("listen_port = 1.5", "listen_port: is 1.5: write a whole number"),
        ("listen_port = 'x'", "listen_port: is 'x': write a whole number"),
        ("offline_lease_hours = 3", "offline_lease_hours: is 3: write 4 to 72 hours"),
        ("offline_lease_hours = 73", "offline_lease_hours: is 73"),
        ("emergency_lease_hours = 25", "emergency_lease_hours: is 25"),
        ("grant_hours = 0", "grant_hours: is 0"),
        ("verifiers = 17", "verifiers: is 17: write 0 to 16 processes"),
        ("verifiers = -1", "verifiers: is -1"),
        ("verifiers = 'all'", "verifiers: is 'all': write a whole number"),
        ("log_level = 'loud'", "log_level: is 'loud': write one of debug, info, warning, error"),
        ("name = 'Relay One'", "name: is 'Relay One'"),
        ("name = ''", "name: is ''"),
        ("listen_host = '0.0.0.0'", "listen_host: 0.0.0.0 without TLS"),
        ("listen_host = ''", "listen_host:  without TLS"),
        ("plaintext = 'yes'\nlisten_host = '::'", "listen_host: :: without TLS"),
        ("tls_key = '/nowhere'", "tls_certificate, tls_key: give both, or neither"),
        ("tls_key = '/nowhere'", "tls_key: there is no file /nowhere"),
        ("passphrase_file = '/nowhere'", "passphrase_file: there is no file /nowhere"),
        ("exercise_clock = '/nowhere'", "exercise_clock: there is no file /nowhere"),
        ("knowledge_url = 'kb.example'", "knowledge_url: is 'kb.example'"),
        ("knowledge_url = 'ftp://kb.example'", "knowledge_url: is 'ftp://kb.example'"),
        ("knowledge_url = 'https://'", "knowledge_url: is 'https://'"),
        ("knowledge_url = 'https://[::1'", "knowledge_url: is"),
        ("knowledge_url = 'https://kb.example:99999'", "knowledge_url: is"),
        ("knowledge_url = 'http://kb.example'", "knowledge_url: plain http sends patients' orders in clear"),
    ],
)
def test_a_wrong_setting_says_which_and_what_to_do(text: str, words: str) -> None:
    assert any(each.startswith(words) for each in problems(text)), problems(text)


def test_all_faults_are_told_at_once() -> None:
    found = problems("listen_port = 'x'\ngrant_hours = 0\nnothing = 1", log_level="loud", tls_key="/nowhere")
    assert sorted(each.partition(":")[0] for each in found) == [
        "grant_hours", "listen_port", "log_level", "nothing", "tls_certificate, tls_key", "tls_key"
    ]  # fmt: skip
    assert all("\n" not in each for each in found)


def test_what_lets_a_relay_listen_on_the_network(tmp_path: Path) -> None:
    file = tmp_path / "pem"
    file.write_text("x")
    tls = f"listen_host = '0.0.0.0'\ntls_certificate = '{file}'\ntls_key = '{file}'"
    assert read_settings(tls, {}).tls_key == file
    assert read_settings(f"listen_host = '0.0.0.0'\nplaintext = '{PLAINTEXT_WORDS}'", {}).plaintext
    assert read_settings("knowledge_url = 'http://127.0.0.1:8080/x'", {}).knowledge_url
