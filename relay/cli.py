"""``crdtmed-relay``: the system operator's command line.

Every command but ``restore``, ``rotate relay`` and ``rotate identity`` works beside a running relay, on the same
folder; every answer comes as text for people or, with ``--json``, as JSON.  Errors are one line each on standard error
(with ``--json`` one object) and exit status 1; a wrong call exits with 2.
"""

import sys

from relay.cli_parser import build_parser


def main(argv: list[str] | None = None) -> int:
    """Runs one command; gives the exit status."""
    options = build_parser().parse_args(argv)
    # Help and wrong calls answer at once: the database and all that judges are loaded only for a command to run.
    from relay.operator.commands import run

    return run(options)


if __name__ == "__main__":
    sys.exit(main())
