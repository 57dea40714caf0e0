"""Who heard everything: what was said on the devices, what went over the network, and what the relay answered.

Bytes are read here with nothing but MessagePack, Zstandard and the positions that the description of the protocol
names, so that a mistake in the software's own readers is not repeated.  What must hold at every moment is checked as
it happens.
"""

import base64
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import zstandard
from msgspec import msgpack

from crdtmed.dictionary import DICTIONARY

FINAL: Final = ("accepted", "conflict", "refused")
PLACES: Final = {0: "accepted", 1: "conflict", 2: "refused", 3: "accepted"}
NOT_KEPT: Final = ("key_reused", "device_revoked")
"""Answers about an id that stands for something else, or of a device that is out of service: no row of their own."""


_UNPACKED: Final = zstandard.ZstdDecompressor(
    dict_data=zstandard.ZstdCompressionDict(DICTIONARY), format=zstandard.FORMAT_ZSTD1_MAGICLESS
)


def _plain(data: bytes) -> bytes:
    """The MessagePack of a frame: behind the byte that MessagePack never uses it is compressed."""
    return _UNPACKED.decompress(data[1:]) if data[:1] == b"\xc1" else data


@dataclass(frozen=True)
class Statement:
    """A statement as its bytes say it."""

    raw: bytes
    kind: int
    id: str
    document: str
    device: str
    number: int
    grant: str
    stamp: int
    seen: tuple[str, ...]
    challenge: bytes | None
    content: Any

    @property
    def ref(self) -> str:
        """Its reference."""
        return f"{self.device}.{self.id}"


def read(raw: bytes) -> Statement:
    """A statement's bytes: 64 of signature, then an array of eleven."""
    _, kind, name, document, device, number, grant, stamp, seen, challenge, content = msgpack.decode(raw[64:])
    return Statement(raw, kind, name, document, device, number, grant, stamp, tuple(seen), challenge, content)


def sid(name: str) -> bytes:
    """A statement's id as the relay's table keeps it."""
    return base64.b32decode(name.upper())


@dataclass(eq=False)
class Witness:
    """Hears and remembers.  ``complaints`` is what must never be."""

    reading: Callable[[], sqlite3.Connection | None]
    era: Callable[[], int]
    said: dict[str, Statement] = field(default_factory=dict)
    said_at: dict[str, int] = field(default_factory=dict)
    verdicts: dict[tuple[int, str], bytes] = field(default_factory=dict)
    challenges: dict[bytes, tuple[str, int]] = field(default_factory=dict)
    used: dict[bytes, int] = field(default_factory=dict)
    """When a challenge was first back at the relay, in whatever was said."""
    spent: dict[bytes, str] = field(default_factory=dict)
    requested: dict[str, Statement] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    excused: set[str] = field(default_factory=set)
    taken: dict[str, int] = field(default_factory=dict)
    """In which era a statement that was handed over was acknowledged as taken into quarantine."""
    offering: dict[str, list[str]] = field(default_factory=dict)
    frames: int = 0
    trace: Any = field(default_factory=sha256)
    log: list[str] | None = None

    def complain(self, what: str) -> None:
        """Something is not as it must be."""
        if what not in self.complaints:
            self.complaints.append(what)
            self.note(f"!! {what}")

    def note(self, line: str) -> None:
        """A line of the history, where somebody reads it."""
        self.trace.update(line.encode())
        if self.log is not None:
            self.log.append(line)

    def heard(self, raw: bytes, now_ms: int) -> Statement:
        """A person has said this, and the device has confirmed it."""
        it = read(raw)
        self.said[it.ref] = it
        self.said_at[it.ref] = now_ms
        return it

    # ---- the network

    def to_relay(self, device: str, line: int, data: bytes, now_ms: int) -> None:
        self.frames += 1
        self.trace.update(b">%d %d" % (line, now_ms) + data)
        frame = msgpack.decode(_plain(data))
        if frame[0] == "request":
            it = read(frame[1])
            self.requested[it.ref] = it
        elif frame[0] == "hand_over":
            self.offering[device] = [read(raw).ref for raw in frame[1]]
        if self.log is not None:
            self.log.append(f"{now_ms} {device}/{line} -> {_summary(frame)}")

    def at_relay(self, device: str, data: bytes, now_ms: int) -> None:
        plain = _plain(data)
        for value, (to, _) in self.challenges.items():
            if to == device and value not in self.used and value in plain:
                self.used[value] = now_ms

    def to_device(self, device: str, line: int, data: bytes, now_ms: int) -> None:
        self.frames += 1
        self.trace.update(b"<%d %d" % (line, now_ms) + data)
        frame = msgpack.decode(_plain(data))
        if frame[0] == "challenges":
            for value in frame[1]:
                self.challenges[value] = (device, now_ms)
        elif frame[0] == "verdicts":
            for verdict in frame[2]:
                self._verdict(device, verdict, now_ms)
        elif frame[0] == "handed_over":
            for ref in self.offering.pop(device, ()):
                if ref not in frame[2]:
                    self.taken[ref] = self.era()
        if self.log is not None:
            self.log.append(f"{now_ms} {device}/{line} <- {_summary(frame)}")

    def _verdict(self, device: str, data: bytes, now_ms: int) -> None:
        verdict = msgpack.decode(data)
        ref, status = verdict["ref"], verdict["status"]
        code = verdict["reason"]["code"] if verdict.get("reason") else ""
        if status not in FINAL:
            self.reasons[f"{status}/{code}"] += 1
            return
        if code in NOT_KEPT:
            self.reasons[f"{status}/{code}"] += 1
            return
        before = self.verdicts.get((self.era(), ref))
        if before is None:
            self.reasons[f"{status}/{code}"] += 1
            self.verdicts[self.era(), ref] = data
            self._is_on_record(ref, status)
        elif before != data:
            self.complain(f"the verdict on {ref} changed: {msgpack.decode(before)} became {verdict}")

    def _is_on_record(self, ref: str, status: str) -> None:
        """What is told was committed: another connection finds it in the record already."""
        found = self.row(ref)
        if found is None:
            self.complain(f"{status} was told of {ref}, which is not on record")
        elif PLACES[found[0]] != status:
            self.complain(f"{status} was told of {ref}, the record says {PLACES[found[0]]}")

    def row(self, ref: str) -> tuple[int, int] | None:
        """A statement's status and place in the order of the record; None where the record lacks it."""
        connection = self.reading()
        if connection is None:
            return None
        device, _, name = ref.partition(".")
        found: tuple[int, int] | None = connection.execute(
            "SELECT s.status, s.id FROM statement s JOIN author a ON a.id = s.author WHERE a.device = ? AND s.sid = ?",
            (device, sid(name)),
        ).fetchone()
        return found

    def told(self, ref: str) -> tuple[int, Any]:
        """The last final verdict that was told of a statement, after the era in which it was; None where none was."""
        for era in range(self.era(), -1, -1):
            data = self.verdicts.get((era, ref))
            if data is not None:
                return era, msgpack.decode(data)
        return 0, None

    def verdict(self, ref: str) -> Any:
        """The last final verdict that was told of a statement."""
        return self.told(ref)[1]


def _summary(frame: Any) -> str:
    """A frame, short enough for a line."""
    if frame[0] == "verdicts":
        told = [msgpack.decode(each) for each in frame[2]]
        return "verdicts " + ", ".join(
            f"{one['ref']} {one['status']} {(one.get('reason') or {}).get('code', '')}" for one in told
        )
    if frame[0] == "request":
        it = read(frame[1])
        return f"request {it.ref} kind {it.kind} number {it.number} {it.content}"
    if frame[0] == "push":
        return f"push {frame[1]} {len(frame[2])} bytes"
    if frame[0] == "changes":
        return "changes " + ", ".join(f"{name}@{epoch[:4]} {first}+{len(ups)}" for name, epoch, first, ups in frame[1])
    if frame[0] == "bases":
        return "bases " + ", ".join(f"{each[0]}@{each[1][:4]} {each[2]}" for each in frame[1])
    if frame[0] == "subscribe":
        return "subscribe " + ", ".join(f"{name}@{epoch[:4]} {at}" for name, epoch, at in frame[1])
    return " ".join(str(part)[:60] for part in frame)
