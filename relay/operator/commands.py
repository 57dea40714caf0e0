"""The operator's commands: each runs, and is answered, refused or told what failed in one line."""

import argparse
import getpass
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from crdtmed.contract import Role
from relay.identity.leases import OutOfService
from relay.identity.users import NotPossible
from relay.imports import ImportKind, ImportRefused
from relay.knowledge.snapshot import BadSnapshot
from relay.operator import devices, loading, people, records, rotating, upkeep
from relay.operator.office import CannotOpen, Office, make_relay, open_office
from relay.operator.people import Refused
from relay.settings import PREFIX, BadSettings, Settings, read_settings
from relay.storage.migrations import SchemaTooNew
from relay.storage.sqlite import StorageError

Answer = Mapping[str, Any] | Iterable[Mapping[str, Any]]
Command = Callable[[Office, argparse.Namespace], Answer]


def run(options: argparse.Namespace) -> int:
    """Runs the command that was parsed (`relay.cli_parser.build_parser`); gives the exit status."""
    try:
        status = _run(options, _settings(options))
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever read has gone; what is still buffered must not be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _fail(options.json, [{"says": "interrupted"}])
    except ImportRefused as error:
        return _fail(options.json, _rows(error))
    except (BadSettings, BadSnapshot) as error:
        return _fail(options.json, [{"says": each} for each in error.problems])
    except (CannotOpen, Refused, NotPossible, OutOfService, StorageError, SchemaTooNew, ValueError) as error:
        return _fail(options.json, [{"says": str(error)}])
    except sqlite3.Error as error:
        return _fail(options.json, [{"says": f"the database: {error}; nothing was changed, try again"}])
    except OSError as error:
        return _fail(options.json, [{"says": f"{error.filename or 'the system'}: {error.strerror}"}])


def _rows(refused: ImportRefused) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [asdict(each) for each in refused.errors]
    if refused.count > len(found):
        found.append({"says": f"{refused.count - len(found)} more errors"})
    return found


def _fail(as_json: bool, errors: list[dict[str, Any]]) -> int:
    """One line for each error on standard error, or all as one JSON object; exit status 1."""
    if as_json:
        print(json.dumps({"errors": errors}, ensure_ascii=False), file=sys.stderr)
        return 1
    for each in errors:
        at = f"line {each['line']}, {each['field']}: " if "line" in each else ""
        print(f"crdtmed-relay: {at}{' '.join(each['says'].split())}", file=sys.stderr)
    return 1


def _settings(options: argparse.Namespace) -> Settings:
    text = None
    if options.settings is not None:
        try:
            text = options.settings.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadSettings([f"--settings: {options.settings} cannot be read: {error}"]) from None
    environment = dict(os.environ)
    if options.folder is not None:
        environment[f"{PREFIX}FOLDER"] = str(options.folder)
    return read_settings(text, environment)


def _run(options: argparse.Namespace, settings: Settings) -> int:
    name = options.command if "action" not in options else f"{options.command} {options.action}"
    if name == "init":
        return _print({"folder": str(settings.folder), "identity": make_relay(settings)}, options.json)
    if name == "serve":
        # Web server and HTTP client take longer to load than most commands to run: only this one needs them.
        from relay.operator.serving import serve

        return serve(settings, options.port_file)
    if name == "restore":
        return _print(upkeep.restore(settings, options.file), options.json)
    if name == "rotate identity":
        return _print(rotating.rotate_identity(settings), options.json)
    if name == "rotate relay":
        return _print(rotating.rotate_relay(settings), options.json)
    if name == "knowledge check":
        return _print(loading.check_knowledge(options.file), options.json)
    with open_office(settings) as office:
        answer = COMMANDS[name](office, options)
        status = _print(answer, options.json)
    return 1 if isinstance(answer, Mapping) and answer.get("sound") is False else status


def _print(answer: Answer, as_json: bool) -> int:
    if as_json:
        whole = dict(answer) if isinstance(answer, Mapping) else [dict(each) for each in answer]
        print(json.dumps(whole, ensure_ascii=False, indent=2))
        return 0
    if isinstance(answer, Mapping):
        _print_fields(answer)
        return 0
    count = 0
    for each in answer:
        count += 1
        print("  ".join(f"{name}={_text(name, value)}" for name, value in each.items() if value not in (None, "", [])))
    if not count:
        print("none")
    return 0


def _print_fields(answer: Mapping[str, Any]) -> None:
    for name, value in answer.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            print(f"{name.replace('_', ' ')}:")
            for each in value:
                print("  " + "  ".join(f"{key}={_text(key, part)}" for key, part in each.items()))
        else:
            print(f"{name.replace('_', ' ')}: {_text(name, value)}")


def _text(name: str, value: Any) -> str:
    """A value for people: times as UTC, lists with commas."""
    if value is None:
        return "-"
    if name.endswith("_at") or name == "at":
        return datetime.fromtimestamp(value / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, list | tuple):
        return ",".join(str(each) for each in value) or "-"
    if isinstance(value, Mapping):
        return ",".join(f"{key}:{part}" for key, part in value.items()) or "-"
    return str(value)


def _password() -> str:
    """A password from the terminal, twice, or the first line of standard input; never an argument."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first, second = getpass.getpass("password: "), getpass.getpass("again: ")
    if first != second:
        raise Refused("the two passwords differ: try again")
    return first


def _time(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(f"--{name}: {text!r} is no time; write YYYY-MM-DD or YYYY-MM-DDTHH:MM, UTC") from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _roles(options: argparse.Namespace) -> list[Role]:
    return [Role(name) for name in options.role]


def _audit(office: Office, options: argparse.Namespace) -> Answer:
    since, until = _time(options.since, "since"), _time(options.until, "until")
    return records.audit(office, records.Asked(options.patient, options.device, options.user, since, until))


COMMANDS: Final[Mapping[str, Command]] = {
    "status": lambda office, _: upkeep.status(office),
    "verify": lambda office, _: upkeep.verify(office),
    "backup": lambda office, options: upkeep.back_up(office, options.file),
    "site add": lambda office, it: people.add_site(office, it.site, it.name, it.address, it.zone),
    "site list": lambda office, _: people.list_sites(office),
    "user add": lambda office, it: people.add_user(office, it.user, it.name, _roles(it), it.site, _password()),
    "user change": lambda office, it: people.change_user(office, it.user, _roles(it), it.site),
    "user password": lambda office, it: people.set_password(office, it.user, _password()),
    "user unlock": lambda office, it: people.unlock_user(office, it.user),
    "user withdraw": lambda office, it: people.withdraw_user(office, it.user),
    "user list": lambda office, _: people.list_users(office),
    "roster add": lambda office, it: people.put_on_roster(office, it.site, it.users),
    "roster remove": lambda office, it: people.take_off_roster(office, it.site, it.users),
    "roster show": lambda office, it: people.show_roster(office, it.site),
    "code": lambda office, it: people.give_code(office, it.site),
    "devices": lambda office, _: devices.list_devices(office),
    "device": lambda office, it: devices.show_device(office, it.device),
    "revoke": lambda office, it: devices.revoke(office, it.device, it.reason, it.now),
    "rotate device": lambda office, it: rotating.rotate_device(office, it.device),
    "import": lambda office, it: loading.load(office, ImportKind(it.kind), it.file),
    "knowledge load": lambda office, it: loading.load_knowledge(office, it.file),
    "knowledge show": lambda office, _: loading.show_knowledge(office),
    "conflicts": lambda office, it: records.conflicts(office, it.all),
    "quarantine": lambda office, _: records.quarantine(office),
    "alarms": lambda office, _: records.alarms(office),
    "audit": _audit,
}
