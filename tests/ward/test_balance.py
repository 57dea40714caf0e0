"""The balance finds what is off: it is tried on records that were tampered with."""

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pycrdt
import pytest

from crdtmed.ward.balance import Copy, strike
from crdtmed.ward.board import lag_text
from crdtmed.ward.generator import generate
from crdtmed.ward.plan import formulary_csv, patients_csv, stock_csv
from relay.imports import read_formulary, read_patients, read_stock

EPOCH = "a" * 16


def record(folder: Path, *, moved: int = 10, on_hand: int = 10, register: int = 10) -> Path:
    """A relay's database of one lot and one document."""
    path = folder / "relay.sqlite"
    with sqlite3.connect(path) as db:
        db.executescript(
            """
            CREATE TABLE document (id INTEGER, name TEXT, position INTEGER);
            CREATE TABLE epoch (document INTEGER, since INTEGER, epoch TEXT);
            CREATE TABLE register (document INTEGER, key TEXT, value BLOB);
            CREATE TABLE movement (stock INTEGER, type TEXT, delta INTEGER);
            CREATE TABLE stock (id INTEGER, site TEXT, item TEXT, lot TEXT, on_hand INTEGER, shortage INTEGER);
            """
        )
        db.execute("INSERT INTO document VALUES (1, 'site/s', 4)")
        db.execute("INSERT INTO epoch VALUES (1, 0, ?)", (EPOCH,))
        db.execute("INSERT INTO movement VALUES (1, 'receipt', ?)", (moved,))
        db.execute("INSERT INTO stock VALUES (1, 's', 'i', 'l', ?, 0)", (on_hand,))
        value = msgspec.msgpack.encode({"item": "i", "lot": "l", "on_hand": register})
        db.execute("INSERT INTO register VALUES (1, 'stock/i/l', ?)", (value,))
    return path


def copy(device: str, content: Mapping[str, bytes], position: int = 4) -> Copy:
    """What a device holds of the document."""
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    root = doc.get("m", type=pycrdt.Map)
    for key, value in content.items():
        root[key] = value
    return Copy(device, "site/s", EPOCH, position, (doc.get_update(),))


HELD = {"stock/i/l": b"1"}
LINES = [{"ref": "d.1", "verdict": "accepted", "reason": ""}]


def test_a_clean_record(tmp_path: Path) -> None:
    balance = strike(LINES, {"d.1": "accepted"}, set(), record(tmp_path), [copy("a", HELD), copy("b", HELD)], 5_000)
    assert balance.wrong == []
    assert (balance.said, balance.recorded, balance.accepted, balance.lost, balance.doubled) == (1, 1, 1, 0, 0)
    assert (balance.replicas, balance.documents) == (2, 1)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"said": {"d.1": "accepted", "d.2": "pending"}}, "no record of it"),
        ({"said": {"d.1": "refused"}}, "its device says refused"),
        ({"audit": [*LINES, *LINES]}, "recorded twice"),
        ({"audit": [{"ref": "d.1", "verdict": "retry", "reason": ""}], "said": {}}, "not final"),
        ({"database": {"moved": 9}}, "ledger"),
        ({"database": {"on_hand": 9, "moved": 9}}, "register"),
        ({"database": {"moved": -1, "on_hand": -1, "register": -1}}, "below zero"),
        ({"copies": [copy("a", HELD), copy("b", HELD, 3)]}, "stands at 3"),
        ({"copies": [copy("a", HELD), copy("b", {"stock/i/l": b"2"})]}, "different content"),
        ({"copies": [copy("a", HELD | {"queue/x": b""})]}, "other registers"),
        ({"wiped": 300_001}, "wiped 300 s"),
    ],
)
def test_what_is_off_is_told(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    balance = strike(
        changed.get("audit", LINES),
        changed.get("said", {"d.1": "accepted"}),
        set(),
        record(tmp_path, **changed.get("database", {})),
        changed.get("copies", [copy("a", HELD)]),
        changed.get("wiped"),
    )
    assert any(says in line for line in balance.wrong), balance.wrong


def test_a_seed_gives_the_same_ward_and_the_imports_take_it() -> None:
    assert generate(7, 5) == generate(7, 5)
    assert generate(7, 5) != generate(8, 5)
    plan = generate(7, 5)
    assert [one.value.code for one in read_formulary(formulary_csv(plan.medicines).encode())] == [
        one.code for one in plan.medicines
    ]
    read = read_patients(patients_csv(plan.patients).encode())
    assert [(one.value.id, one.value.allergies) for one in read] == [(one.id, one.allergies) for one in plan.patients]
    assert len(read_stock(stock_csv(plan).encode())) == len(plan.stock)
    assert all(not order.blanks for order in plan.orders)


@pytest.mark.parametrize(
    ("lag_ms", "text"),
    [(-5, "0 s"), (0, "0 s"), (59_999, "59 s"), (61_000, "1 min 1 s"), (4 * 3_600_000 + 120_000, "4 h 2 min")],
)
def test_a_lag_is_told_in_its_two_largest_units(lag_ms: int, text: str) -> None:
    assert lag_text(lag_ms) == text
