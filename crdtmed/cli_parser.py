"""The commands of ``crdtmed`` and what each takes; every help text has an example."""

import argparse
from pathlib import Path
from typing import Any, Final

from crdtmed.aggregates.conflict import Action

DESCRIPTION: Final = "A device of the medication service: an encrypted cache that works without a network."
EPILOG: Final = """example, a device from nothing:
  crdtmed --folder ~/tablet enrol wss://relay.hospital.example --label "Tablet, ward 3"
  crdtmed --folder ~/tablet sign-in mina --with-pin
  crdtmed --folder ~/tablet hold --patient p1 --site pharm
  crdtmed --folder ~/tablet status

Every command but enrol, sign-in, sync and watch works without a network, on what the device holds.  Secrets are asked
for, or read from a file: they are never arguments, since other users of the machine can read those.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        "crdtmed", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("crdtmed-device"), help="where the device lies")
    parser.add_argument("--passphrase-file", type=Path, help="a file with the passphrase of the device's keys")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _joining(commands)
    _reading(commands)
    _doing(commands)
    return parser


def _command(commands: Any, name: str, says: str, example: str, detail: str = "") -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=says,
        description=f"{says[0].upper()}{says[1:]}.{' ' + detail if detail else ''}",
        epilog=f"example:\n  crdtmed --folder ~/tablet {name} {example}".rstrip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="answer as JSON")
    return parser


def _joining(commands: Any) -> None:
    enrol = _command(
        commands,
        "enrol",
        "make a device of this folder, with a one-time code",
        'wss://relay.example --label "Tablet 7"',
    )
    enrol.add_argument("url", help="the relay's address: wss://host[:port], or ws:// to this machine")
    enrol.add_argument("--label", required=True, help="what people call the device")
    enrol.add_argument("--code-file", type=Path, help="a file with the operator's code; asked for where left out")
    sign_in = _command(commands, "sign-in", "sign a user in with the relay", "mina --with-pin")
    sign_in.add_argument("user")
    sign_in.add_argument("--password-file", type=Path, help="a file with the password; asked for where left out")
    sign_in.add_argument("--with-pin", action="store_true", help="set the PIN that signs the user in offline")
    sign_in.add_argument("--pin-file", type=Path, help="a file with that PIN; asked for where left out")
    _wait(sign_in)
    sync = _command(commands, "sync", "connect, send what waits, and fetch what is new", "--wait 60")
    _wait(sync)
    for name, says in (("hold", "hold patients and sites from now on"), ("release", "hold them no more")):
        parser = _command(commands, name, says, "--patient p1 --site pharm")
        parser.add_argument("--patient", action="append", default=[], metavar="ID")
        parser.add_argument("--site", action="append", default=[], metavar="ID")


def _wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wait", type=float, default=30.0, metavar="SECONDS", help="for how long (30)")


def _reading(commands: Any) -> None:
    _command(commands, "status", "how the device stands: lease, cache, outbox, inbox", "--json")
    _command(commands, "users", "who can sign in here by PIN, without the relay", "")
    patients = _command(commands, "patients", "the patients that are held, or one of them whole", "p1")
    patients.add_argument("patient", nargs="?", help="one patient, with prescriptions, drafts and record")
    _command(commands, "outbox", "what was said here and the relay has not confirmed", "--json")
    inbox = _command(commands, "inbox", "what a person must look at", "--all")
    inbox.add_argument("--all", action="store_true", help="also what was done with")
    inbox.add_argument("--dismiss", type=int, metavar="ENTRY", help="mark an entry as read and done")
    _command(commands, "conflicts", "what is in conflict, and what can be done about it", "--json")
    stock = _command(commands, "stock", "what is on hand, confirmed and tentative, lot by lot", "pharm --item amox-500")
    stock.add_argument("site", nargs="?", help="one site; all that are held where left out")
    stock.add_argument("--item", help="one item of the formulary")
    watch = _command(commands, "watch", "connect, and show what happens until it is interrupted", "--json")
    watch.add_argument("--seconds", type=float, help="end after so long")


def _doing(commands: Any) -> None:
    resolve = _command(
        commands,
        "resolve",
        "resolve a conflict by one of its actions",
        "abcdefgh.abcdefghijklmnop switch_lot --lot A2 --user pia",
        "It waits in the outbox until the next sync.",
    )
    resolve.add_argument("conflict", help="the reference of the statement in conflict, as `conflicts` shows it")
    resolve.add_argument("action", type=Action, choices=list(Action), metavar="ACTION", help=", ".join(Action))
    resolve.add_argument("--lot", help="the lot to dispense from, or the true one")
    resolve.add_argument("--quantity", type=int, help="counting units to dispense, or the true number")
    resolve.add_argument("--comment")
    resolve.add_argument("--user", required=True, help="who resolves it; their PIN is asked for")
    resolve.add_argument("--pin-file", type=Path, help="a file with the PIN")
