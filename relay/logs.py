"""Structured logs: one JSON object a line on standard error, with ids and codes and never a clinical value.

Nothing here formats statements, contents or names of people.  What is logged of the relay are the names of events and
the ids in `FIELDS`, everything else is left out; of other libraries' messages the place where they were logged, since
their texts may quote what they stumbled over.
"""

import json
import logging
import sqlite3
import sys
from datetime import UTC, datetime
from typing import Final

NAME: Final = "crdtmed.relay"
FIELDS: Final = frozenset(
    {"statement", "device", "document", "connection", "code", "verdict", "reason", "count", "host", "port", "snapshot"}
)
"""What an event may carry: ids, codes and counts."""


class JsonLines(logging.Formatter):
    """A record as one line of JSON: time, level, event, and its fields; of an exception its type and place alone,
    since its text may quote data."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
        }
        if record.name == NAME:
            line["event"] = record.getMessage()
            line |= {name: value for name, value in getattr(record, "fields", {}).items() if name in FIELDS}
        else:
            line |= {"event": "message of a library", "logger": record.name, "logged": _place(record)}
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            if isinstance(record.exc_info[1], sqlite3.Error):
                # The database's code alone: disk full, locked, damaged.
                line["sqlite"] = getattr(record.exc_info[1], "sqlite_errorname", None)
            trace = record.exc_info[2]
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            if trace is not None:
                line["where"] = f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}"
        return json.dumps(line, ensure_ascii=False)


def _place(record: logging.LogRecord) -> str:
    return f"{record.module}:{record.lineno}"


def configure(level: str) -> None:
    """Sends the relay's log, from ``level`` on, to standard error; other libraries' only from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(NAME).setLevel(level.upper())
    # The websocket library's, which would tell every frame.
    logging.getLogger(f"{NAME}.socket").setLevel(logging.WARNING)


def event(name: str, level: int = logging.INFO, **fields: str | int | float) -> None:
    """Logs an event with the fields that `FIELDS` names; raises `ValueError` for any other."""
    unknown = set(fields) - FIELDS
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))} may not be logged")
    logging.getLogger(NAME).log(level, name, extra={"fields": fields})
