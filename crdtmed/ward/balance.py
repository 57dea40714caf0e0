"""The balance at the end of a day, from the databases themselves.

It reads the relay's database with plain SQL and decodes what it finds with `msgpack`-level means of its own, and
compares the devices' documents with what the relay's record says, document by document.  It uses none of the code that
merges, judges or replicates.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import pycrdt

ACCEPTED: Final = "accepted"


@dataclass(frozen=True, slots=True)
class Copy:
    """What one device's store holds of a document: where it stands, and the snapshot and updates to fold."""

    device: str
    document: str
    epoch: str
    position: int
    parts: tuple[bytes, ...]


@dataclass
class Balance:
    """The figures of a day.  ``wrong`` is every line that must not be there; an empty one is a clean balance."""

    said: int = 0
    recorded: int = 0
    accepted: int = 0
    conflicts: Counter[str] = field(default_factory=Counter)
    resolved: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    quarantined: int = 0
    unsent: int = 0
    lost: int = 0
    doubled: int = 0
    movements: int = 0
    lots: int = 0
    replicas: int = 0
    documents: int = 0
    wiped_after_ms: int | None = None
    wrong: list[str] = field(default_factory=list)


def strike(
    audit: Iterable[Mapping[str, Any]],
    said: Mapping[str, str],
    quarantined: set[str],
    database: Path,
    copies: Iterable[Copy],
    wiped_after_ms: int | None,
) -> Balance:
    """The balance.

    ``audit`` are the record's lines as the operator's ``audit`` prints them, ``said`` what the story saw: reference →
    state that its device told; ``quarantined`` what the operator's list of quarantined statements holds.
    """
    balance = Balance(said=len(said), wiped_after_ms=wiped_after_ms, quarantined=len(quarantined))
    verdicts = _verdicts(audit, balance)
    for ref, state in said.items():
        if ref in quarantined:
            continue
        verdict = verdicts.get(ref)
        if verdict is None:
            balance.lost += 1
            balance.wrong.append(f"{ref}: said, and the relay has no record of it ({state} on its device)")
        elif state in ("accepted", "conflict", "refused") and verdict != state:
            balance.wrong.append(f"{ref}: its device says {state}, the record {verdict}")
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as db:
        _ledger(db, balance)
        _conflicts(db, balance)
        _replicas(db, list(copies), balance)
    if wiped_after_ms is not None and wiped_after_ms > 300_000:
        balance.wrong.append(f"the stolen device was wiped {wiped_after_ms / 1000:.0f} s after its revocation")
    return balance


def _verdicts(audit: Iterable[Mapping[str, Any]], balance: Balance) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in audit:
        balance.recorded += 1
        if line["ref"] in found:
            balance.doubled += 1
            balance.wrong.append(f"{line['ref']}: recorded twice")
        found[line["ref"]] = line["verdict"]
        match line["verdict"]:
            case "accepted":
                balance.accepted += 1
            case "conflict":
                balance.conflicts[line["reason"]] += 1
            case "refused":
                balance.refused[line["reason"]] += 1
            case other:
                balance.wrong.append(f"{line['ref']}: recorded with {other}, which is not final")
    return found


def _ledger(db: sqlite3.Connection, balance: Balance) -> None:
    """On-hand and shortage of each lot: the sum of its movements, the books, and the register that everybody reads."""
    sums: dict[tuple[str, str, str], list[int]] = {}
    for site, item, lot, kind, delta in db.execute(
        "SELECT s.site, s.item, s.lot, m.type, m.delta FROM movement m JOIN stock s ON s.id = m.stock"
    ):
        balance.movements += 1
        sum_ = sums.setdefault((site, item, lot), [0, 0])
        sum_[1 if kind in ("shortage", "shortage closed") else 0] += delta
    books = {
        (site, item, lot): [on_hand, shortage]
        for site, item, lot, on_hand, shortage in db.execute("SELECT site, item, lot, on_hand, shortage FROM stock")
    }
    registers: dict[tuple[str, str, str], list[int]] = {}
    rows = db.execute(
        "SELECT d.name, r.key, r.value FROM register r JOIN document d ON d.id = r.document WHERE r.key LIKE 'stock/%'"
    )
    for name, _, value in rows:
        held = msgspec.msgpack.decode(value)
        registers[name.removeprefix("site/"), held["item"], held["lot"]] = [held["on_hand"], held.get("shortage", 0)]
    balance.lots = len(sums)
    for at in sorted(sums.keys() | books.keys() | registers.keys()):
        told = (sums.get(at), books.get(at), registers.get(at))
        if told[0] != told[1] or told[1] != told[2]:
            balance.wrong.append(f"stock {'/'.join(at)}: ledger {told[0]}, books {told[1]}, register {told[2]}")
        elif min(told[0] or [0]) < 0:
            balance.wrong.append(f"stock {'/'.join(at)} is below zero: {told[0]}")


def _conflicts(db: sqlite3.Connection, balance: Balance) -> None:
    rows = db.execute("SELECT key, value FROM register WHERE key LIKE 'conflict/%'")
    seen: dict[str, str] = {}
    for key, value in rows:
        held = msgspec.msgpack.decode(value)
        if held is not None:
            seen[key] = "open" if held.get("open", True) else str(held.get("action", "resolved"))
    balance.resolved.update(seen.values())


def _replicas(db: sqlite3.Connection, copies: list[Copy], balance: Balance) -> None:
    """Every device's documents: at the relay's epoch and position, and of two that hold one, the content equal."""
    stands = {
        name: (epoch, position)
        for name, position, epoch in db.execute(
            "SELECT d.name, d.position, (SELECT e.epoch FROM epoch e WHERE e.document = d.id ORDER BY e.since DESC"
            " LIMIT 1) FROM document d"
        )
    }
    content: dict[str, tuple[str, object]] = {}
    for copy in copies:
        balance.replicas += 1
        if stands.get(copy.document, (copy.epoch, 0)) != (copy.epoch, copy.position):
            balance.wrong.append(
                f"{copy.device}: {copy.document} stands at {copy.position}, the relay at {stands[copy.document][1]}"
            )
            continue
        held = _content(copy)
        first = content.setdefault(copy.document, (copy.device, held))
        if first[1] != held:
            balance.wrong.append(f"{copy.document}: {copy.device} and {first[0]} hold different content")
    balance.documents = len(content)
    registers: dict[str, set[str]] = {}
    for name, key in db.execute("SELECT d.name, r.key FROM register r JOIN document d ON d.id = r.document"):
        registers.setdefault(name, set()).add(key)
    for name, keys in registers.items():
        held = content.get(name)
        if held is not None and isinstance(held[1], dict) and set(held[1]) != keys:
            balance.wrong.append(f"{name}: the devices hold other registers than the relay's table")


def _content(copy: Copy) -> object:
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    for part in copy.parts:
        doc.apply_update(part)
    if copy.document.count("/log/"):
        entries = doc.get("a", type=pycrdt.Array).to_py() or []
        return sorted(bytes(entry) for entry in entries)
    held = doc.get("m", type=pycrdt.Map).to_py() or {}
    return {key: bytes(value) for key, value in held.items()}


def expected_refills(order_limits: Mapping[str, int], refills: Iterable[tuple[str, int]]) -> Counter[str]:
    """What must become of dispenses that run in this order against what each prescription authorises.

    ``order_limits``: prescription → quantity × (1 + repeats); ``refills``: (prescription, quantity).
    """
    left = dict(order_limits)
    found: Counter[str] = Counter()
    for prescription, quantity in refills:
        if quantity <= left[prescription]:
            left[prescription] -= quantity
            found[ACCEPTED] += 1
        else:
            found["over_authorised"] += 1
    return found
