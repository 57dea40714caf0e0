"""Log lines: what may stand in them, and that nothing else does."""

import json
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from relay.logs import NAME, JsonLines, configure, event


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Leaves the loggers as they were found."""
    loggers = [logging.getLogger(name) for name in (None, NAME, f"{NAME}.socket")]
    held = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    yield
    for logger, level, handlers in held:
        logger.setLevel(level)
        logger.handlers[:] = handlers


def lines(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    """What was logged."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_an_event_is_a_line_with_its_ids(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info")
    event("judged", statement="a.b", device="a", document="patient/p1", verdict="refused", reason="alerts_open")
    event("unseen", logging.DEBUG, device="a")
    [line] = lines(capsys)
    assert line.pop("at").endswith("+00:00")
    assert line == {
        "level": "info", "event": "judged", "statement": "a.b", "device": "a", "document": "patient/p1",
        "verdict": "refused", "reason": "alerts_open",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["dose", "patient", "says", "content"])
def test_nothing_but_ids_may_be_logged(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        event("x", **{name: "5 mg"})  # type: ignore[arg-type]  # what is wrong is the point


def test_an_exception_is_its_type_and_place_alone(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info")
    try:
        int("5 mg of something")
    except ValueError:
        logging.getLogger(NAME).exception("a read failed")
        logging.getLogger("asyncio").error("Exception in callback f('5 mg of something')", exc_info=True)
    text = capsys.readouterr().err
    assert "mg" not in text
    own, other = (json.loads(line) for line in text.splitlines())
    assert (own["event"], own["error"], own["where"].partition(":")[0]) == ("a read failed", "ValueError", __name__)
    assert (other["event"], other["logger"], other["error"]) == ("message of a library", "asyncio", "ValueError")
    assert other["logged"].startswith("test_logs:")


def test_of_the_database_its_own_code_for_what_went_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info")
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (x PRIMARY KEY)")
        connection.execute("INSERT INTO t VALUES ('5 mg')")
        try:
            connection.execute("INSERT INTO t VALUES ('5 mg')")
        except sqlite3.Error:
            logging.getLogger(NAME).exception("a commit failed")
    [line] = lines(capsys)
    assert line["sqlite"] == "SQLITE_CONSTRAINT_PRIMARYKEY"


def test_libraries_are_heard_from_warnings_on_whatever_the_relay_says(capsys: pytest.CaptureFixture[str]) -> None:
    configure("debug")
    for name in ("uvicorn.error", "websockets", f"{NAME}.socket"):
        logging.getLogger(name).info("a frame with 5 mg")
        logging.getLogger(name).warning("a frame with %s", "5 mg")
    event("seen", logging.DEBUG)
    found = lines(capsys)
    assert [each.get("logger") for each in found] == ["uvicorn.error", "websockets", f"{NAME}.socket", None]
    assert "mg" not in json.dumps(found)


def test_a_line_end_in_an_id_makes_no_second_line() -> None:
    record = logging.LogRecord(NAME, logging.INFO, __file__, 1, "closed", (), None)
    record.fields = {"device": 'a\n{"event": "forged"}'}
    assert "\n" not in JsonLines().format(record)
