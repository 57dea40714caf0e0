"""The relay's settings: from a TOML file and from the environment, checked together with all faults told at once.

A setting ``listen_port`` stands in the file as ``listen_port = 8443`` and in the environment, which wins, as
``CRDTMED_RELAY_LISTEN_PORT=8443``.  Secrets are never settings: they are read from files that the settings name.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args
from urllib.parse import SplitResult, urlsplit

from crdtmed.ids import is_scope_id
from crdtmed.limits import (
    EMERGENCY_LEASE_HOURS,
    GRANT_HOURS,
    MAX_EMERGENCY_LEASE_HOURS,
    MAX_GRANT_HOURS,
    MAX_OFFLINE_LEASE_HOURS,
    MAX_VERIFIERS,
    MIN_OFFLINE_LEASE_HOURS,
    OFFLINE_LEASE_HOURS,
)

PREFIX: Final = "CRDTMED_RELAY_"
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
PLAINTEXT_WORDS: Final = "behind a proxy that ends TLS"
LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a relay runs with.

    ``folder`` holds database and keys.  ``passphrase_file`` names the file with the passphrase of the relay's keys.
    ``plaintext`` must say `PLAINTEXT_WORDS` for listening without TLS on an address that is not loopback.
    ``knowledge_url`` is the base of a CDS Hooks service; without it the embedded rules answer.  ``exercise_clock`` is
    for exercises alone: a file that sets the relay's clock ahead (`crdtmed.exercise`).  ``verifiers`` is how many
    processes check signatures beside the writer; None: as many as there are other cores, a few at most.
    """

    folder: Path = Path("relay-data")
    passphrase_file: Path | None = None
    name: str = "relay"
    listen_host: str = "127.0.0.1"
    listen_port: int = 8443
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    plaintext: str = ""
    offline_lease_hours: int = OFFLINE_LEASE_HOURS
    emergency_lease_hours: int = EMERGENCY_LEASE_HOURS
    grant_hours: int = GRANT_HOURS
    knowledge_url: str = ""
    log_level: LogLevel = "info"
    verifiers: int | None = None
    exercise_clock: Path | None = None


class BadSettings(ValueError):
    """Settings that cannot be used; ``problems`` is every one, each naming the setting and what to do."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


_TYPES: Final[Mapping[str, Any]] = {field.name: field.type for field in fields(Settings)}


def read_settings(text: str | None, environment: Mapping[str, str]) -> Settings:
    """The settings of a file's text (None: no file) and an environment; raises `BadSettings` with all that is wrong."""
    problems: list[str] = []
    given: dict[str, Any] = {}
    try:
        given.update(tomllib.loads(text) if text is not None else {})
    except tomllib.TOMLDecodeError as error:
        problems.append(f"the settings file is no TOML: {error}")
    for variable, value in environment.items():
        if variable.startswith(PREFIX):
            given[variable.removeprefix(PREFIX).lower()] = value
    values = {}
    for name, raw in given.items():
        if name not in _TYPES:
            problems.append(f"{name}: there is no such setting; there are {', '.join(_TYPES)}")
            continue
        try:
            values[name] = _value(name, raw)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    settings = Settings(**values)
    problems += _problems(settings)
    if problems:
        raise BadSettings(problems)
    return settings


def _value(name: str, raw: Any) -> Any:
    of = _TYPES[name]
    if of in (int, int | None):
        if isinstance(raw, bool) or not isinstance(raw, int | str):
            raise ValueError(f"is {raw!r}: write a whole number")
        try:
            return int(raw)
        except ValueError:
            raise ValueError(f"is {raw!r}: write a whole number") from None
    if not isinstance(raw, str):
        raise ValueError(f"is {raw!r}: write a text in quotes")
    if of is str:
        return raw
    if of is LogLevel:
        if raw not in get_args(LogLevel):
            raise ValueError(f"is {raw!r}: write one of {', '.join(get_args(LogLevel))}")
        return raw
    if not raw and of is Path:
        raise ValueError("is empty: write a path")
    return Path(raw) if raw else None


def _address(text: str) -> SplitResult | None:
    try:
        found = urlsplit(text)
        return found if found.port != 0 else None
    except ValueError:
        return None


def _range(name: str, value: int, low: int, high: int, unit: str) -> list[str]:
    return [] if low <= value <= high else [f"{name}: is {value}: write {low} to {high} {unit}"]


def _problems(settings: Settings) -> list[str]:
    found = [
        *_range("listen_port", settings.listen_port, 0, 65_535, "(0: any free port)"),
        *_range(
            "offline_lease_hours",
            settings.offline_lease_hours,
            MIN_OFFLINE_LEASE_HOURS,
            MAX_OFFLINE_LEASE_HOURS,
            "hours",
        ),
        *_range("emergency_lease_hours", settings.emergency_lease_hours, 0, MAX_EMERGENCY_LEASE_HOURS, "hours"),
        *_range("verifiers", settings.verifiers or 0, 0, MAX_VERIFIERS, "processes"),
        *_range("grant_hours", settings.grant_hours, 1, MAX_GRANT_HOURS, "hours"),
    ]
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        found.append("tls_certificate, tls_key: give both, or neither")
    clear = settings.tls_certificate is None and settings.listen_host not in LOOPBACK
    if clear and settings.plaintext != PLAINTEXT_WORDS:
        found.append(
            f"listen_host: {settings.listen_host} without TLS; give tls_certificate and tls_key, or write "
            f"plaintext = {PLAINTEXT_WORDS!r}"
        )
    for name, path in (("tls_certificate", settings.tls_certificate), ("tls_key", settings.tls_key)):
        if path is not None and not path.is_file():
            found.append(f"{name}: there is no file {path}")
    if settings.passphrase_file is not None and not settings.passphrase_file.is_file():
        found.append(f"passphrase_file: there is no file {settings.passphrase_file}")
    if not is_scope_id(settings.name):
        found.append(f"name: is {settings.name[:40]!r}: write a-z, 0-9, dot, dash and underscore, at most 32")
    if settings.knowledge_url:
        url = _address(settings.knowledge_url)
        if url is None or url.scheme not in ("https", "http") or not url.hostname:
            found.append(f"knowledge_url: is {settings.knowledge_url!r}: write an address that begins with https://")
        elif url.scheme == "http" and url.hostname not in LOOPBACK:
            found.append("knowledge_url: plain http sends patients' orders in clear; write https://")
    if settings.exercise_clock is not None and not settings.exercise_clock.is_file():
        found.append(f"exercise_clock: there is no file {settings.exercise_clock}")
    return found
