"""The commands of ``crdtmed-relay`` and what each takes; every help text has an example."""

import argparse
from pathlib import Path
from typing import Any

from crdtmed.contract import Role
from relay.imports import ImportKind

DESCRIPTION = "Set up, run and look after a crdtmed relay."
EPILOG = """example, a relay from nothing:
  crdtmed-relay --folder /srv/relay init
  crdtmed-relay --folder /srv/relay site add pharm --name Pharmacy --address "1 Hospital Way" --zone Europe/Berlin
  crdtmed-relay --folder /srv/relay user add ann --name "Ann Day" --role pharmacist --site pharm < password.txt
  crdtmed-relay --folder /srv/relay code --site pharm
  crdtmed-relay --folder /srv/relay serve
"""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="crdtmed-relay",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--settings", type=Path, metavar="FILE", help="a TOML file of settings (relay/README.md)")
    parser.add_argument("--folder", type=Path, help="the relay's folder; overrides the setting of that name")
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _upkeep(commands)
    _people(commands)
    _devices(commands)
    _contents(commands)
    return parser


def _command(commands: Any, name: str, says: str, example: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        help=says,
        description=says[0].upper() + says[1:] + ".",
        epilog=f"example:\n  crdtmed-relay --folder /srv/relay {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="answer in JSON")
    return made


def _group(commands: Any, name: str, says: str) -> Any:
    made = commands.add_parser(name, help=says, description=says[0].upper() + says[1:] + ".")
    return made.add_subparsers(dest="action", required=True, metavar="ACTION")


def _upkeep(commands: Any) -> None:
    _command(commands, "init", "set up a relay that never ran: keys, database, directory", "init")
    serve = _command(commands, "serve", "run the relay until it is told to stop", "serve")
    serve.add_argument("--port-file", type=Path, metavar="FILE", help="write the port here once it listens")
    _command(commands, "status", "what the relay holds and what waits for somebody", "status")
    _command(commands, "verify", "prove that documents, registers and ledger follow from the statements", "verify")
    backup = _command(commands, "backup", "copy the live database to a new file", "backup /backup/monday.sqlite")
    backup.add_argument("file", type=Path)
    restore = _command(
        commands,
        "restore",
        "put a backup in place, with a new epoch; the relay is stopped",
        "restore /backup/monday.sqlite",
    )
    restore.add_argument("file", type=Path)


def _people(commands: Any) -> None:
    site = _group(commands, "site", "wards and pharmacies")
    add = _command(
        site,
        "add",
        "add or change a site",
        'site add ward-1 --name "Ward 1" --address "East wing" --zone Europe/Berlin',
    )
    add.add_argument("site")
    add.add_argument("--name", required=True)
    add.add_argument("--address", required=True)
    add.add_argument("--zone", required=True, help="an IANA time zone, in which scheduled times are meant")
    _command(site, "list", "every site", "site list")

    user = _group(commands, "user", "people and what they may")
    add = _command(
        user, "add", "add a user; the password is read from a terminal or from standard input",
        'user add ann --name "Ann Day" --role nurse --site ward-1 < password.txt',
    )  # fmt: skip
    add.add_argument("user")
    add.add_argument("--name", required=True)
    _roles_and_sites(add)
    change = _command(
        user, "change", "other roles and sites, from the next grant on", "user change ann --role nurse --site ward-2"
    )
    change.add_argument("user")
    _roles_and_sites(change)
    for name, says in (
        ("password", "set a new password, read from a terminal or from standard input"),
        ("unlock", "give all attempts to sign in again"),
        ("withdraw", "the user may nothing from now on"),
    ):
        one = _command(user, name, says, f"user {name} ann" + (" < password.txt" if name == "password" else ""))
        one.add_argument("user")
    _command(user, "list", "every user", "user list")

    roster = _group(commands, "roster", "who is issued grants ahead at a site")
    for name, says in (("add", "put users on a roster"), ("remove", "take users off a roster")):
        one = _command(roster, name, says, f"roster {name} ward-1 ann ben")
        one.add_argument("site")
        one.add_argument("users", nargs="+")
    show = _command(roster, "show", "who is on a roster", "roster show ward-1")
    show.add_argument("site")

    code = _command(commands, "code", "a one-time code to enrol a device with", "code --site ward-1")
    code.add_argument(
        "--site", action="append", default=[], help="a site whose roster the device holds; again for more"
    )


def _roles_and_sites(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--role", action="append", choices=[role.value for role in Role], required=True)
    parser.add_argument("--site", action="append", required=True)


def _devices(commands: Any) -> None:
    _command(commands, "devices", "every device, its lease, its revocation and numbers nobody has seen", "devices")
    device = _command(commands, "device", "one device", "device k7qmw2ab")
    device.add_argument("device")
    revoke = _command(commands, "revoke", "take a device out of service", 'revoke k7qmw2ab --reason "stolen"')
    revoke.add_argument("device")
    revoke.add_argument("--reason", required=True)
    rotate = _group(commands, "rotate", "new keys in the place of old ones")
    one = _command(rotate, "device", "another key for a device's store, with its next lease", "rotate device k7qmw2ab")
    one.add_argument("device")
    _command(rotate, "relay", "another key for this relay; the relay is stopped", "rotate relay")
    _command(
        rotate,
        "identity",
        "another identity key, which devices follow by themselves; the relay is stopped, and older backups "
        "can no longer be restored",
        "rotate identity",
    )
    revoke.add_argument("--now", action="store_true", help="wipe at once, without handing over what it has not sent")


def _contents(commands: Any) -> None:
    load = _command(commands, "import", "import a CSV file, whole or not at all", "import formulary medicines.csv")
    load.add_argument("kind", choices=[kind.value for kind in ImportKind])
    load.add_argument("file", type=Path)

    knowledge = _group(commands, "knowledge", "snapshots of the embedded knowledge base")
    for name, says in (("check", "read a snapshot file and say what it holds"), ("load", "put a snapshot in force")):
        one = _command(knowledge, name, says, f"knowledge {name} rules.json")
        one.add_argument("file", type=Path)
    _command(knowledge, "show", "which snapshot is in force", "knowledge show")

    conflicts = _command(commands, "conflicts", "conflicts that wait for a person", "conflicts")
    conflicts.add_argument("--all", action="store_true", help="the resolved ones too")
    _command(commands, "quarantine", "what came in the name of revoked devices", "quarantine")
    _command(commands, "alarms", "what the relay noticed that somebody should look into", "alarms")
    audit = _command(
        commands, "audit", "who said what about whom, when, and its verdict", "audit --patient p-100 --since 2026-11-01"
    )
    for name in ("patient", "device", "user"):
        audit.add_argument(f"--{name}")
    for name in ("since", "until"):
        audit.add_argument(f"--{name}", metavar="TIME", help="YYYY-MM-DD or YYYY-MM-DDTHH:MM, UTC")
