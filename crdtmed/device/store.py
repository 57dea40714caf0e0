"""What a device's store holds, as synchronous functions of a connection; the caller's transaction makes them one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from crdtmed import documents, statement
from crdtmed.codec import decoder, encode
from crdtmed.device.store_database import Connection, StoreError
from crdtmed.device.store_packing import packed, unpacked
from crdtmed.device.store_schema import migrate
from crdtmed.limits import RESUBMIT_DAYS
from crdtmed.statement import SignedStatement
from crdtmed.verdict import Verdict, decode_verdict, encode_verdict

NUMBER: Final = "number"
STAMP: Final = "stamp"
DEVICE: Final = "device"
HEAD: Final = "head"
DIRECTORY: Final = "directory"
"""The digest of the directory whose every signature was verified."""


@dataclass(frozen=True, slots=True)
class Said:
    """A statement in the outbox: its bytes, when it was said (device's clock, ms), and its bundle: the number of the
    first statement of the transaction that it was said in."""

    signed: SignedStatement
    said_at: int
    bundle: int

    @property
    def ref(self) -> str:
        """The reference of the statement."""
        return self.signed.statement.ref

    @property
    def number(self) -> int:
        """The number of the statement."""
        return self.signed.statement.number


@dataclass(frozen=True, slots=True)
class BaseRow:
    """Where the base of a document stands, up to which position its authors were verified, and when it was last known
    to be up to date (device's clock, ms)."""

    document: str
    epoch: str
    position: int
    verified: int
    synced_at: int


@dataclass(frozen=True, slots=True)
class Opened:
    """What an engine keeps in memory of a store."""

    number: int
    stamp: int
    head: int
    outbox: tuple[Said, ...]
    verdicts: dict[str, Verdict]
    bases: dict[str, BaseRow]
    scopes: tuple[str, ...]


decode_int = decoder(int, 16)


def keep_int(connection: Connection, name: str, value: int) -> None:
    """Keeps a whole number under ``name``."""
    connection.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, encode(value)))


def kept_int(connection: Connection, name: str) -> int:
    """The whole number kept under ``name``; 0 where there is none."""
    row = connection.execute("SELECT value FROM kept WHERE name = ?", (name,)).fetchone()
    return decode_int(bytes(row[0])) if row is not None else 0


def keep_bytes(connection: Connection, name: str, value: bytes) -> None:
    """Keeps bytes under ``name``."""
    connection.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, value))


def kept_bytes(connection: Connection, name: str) -> bytes:
    """The bytes kept under ``name``; none where there are none."""
    row = connection.execute("SELECT value FROM kept WHERE name = ?", (name,)).fetchone()
    return bytes(row[0]) if row is not None else b""


def open_store(connection: Connection, device: str) -> Opened:
    """The store brought up to date and read; raises `StoreError` ``other_device`` where it is another device's.

    A row that cannot be read raises what reads it, which `crdtmed.device.store_database.transact` tells as damage.
    """
    migrate(connection)
    connection.execute("INSERT OR IGNORE INTO kept VALUES (?, ?)", (DEVICE, device.encode()))
    row = connection.execute("SELECT value FROM kept WHERE name = ?", (DEVICE,)).fetchone()
    if bytes(row[0]) != device.encode():
        raise StoreError(
            "other_device",
            f"the store is that of device {bytes(row[0]).decode(errors='replace')}, this is {device}",
            "open this device's own store",
        )
    outbox = tuple(_said(row) for row in connection.execute(_OUTBOX).fetchall())
    rows = connection.execute("SELECT ref, data FROM verdict WHERE ref IN (SELECT ref FROM outbox)").fetchall()
    bases = connection.execute("SELECT document, epoch, position, verified, synced_at FROM base").fetchall()
    scopes = connection.execute("SELECT scope FROM subscription ORDER BY scope").fetchall()
    for document, *_ in bases:
        documents.parse(document)
    hand_backs(connection)
    return Opened(
        number=max(kept_int(connection, NUMBER), outbox[-1].number if outbox else 0),
        stamp=kept_int(connection, STAMP),
        head=kept_int(connection, HEAD),
        outbox=outbox,
        verdicts={ref: decode_verdict(bytes(data)) for ref, data in rows},
        bases={row[0]: BaseRow(*row) for row in bases},
        scopes=tuple(scope for (scope,) in scopes),
    )


_OUTBOX: Final = "SELECT number, said_at, bundle, data FROM outbox ORDER BY number"


def _said(row: Sequence[object]) -> Said:
    number, said_at, bundle, data = row
    assert isinstance(said_at, int)
    assert isinstance(bundle, int)
    assert isinstance(data, bytes)
    signed = statement.decode(data)
    if signed.statement.number != number:
        raise statement.BadStatement("misfiled", f"row {number} holds statement {signed.statement.number}")
    return Said(signed, said_at, bundle)


# ---- what this device said ------------------------------------------------------------------------------------


def append(connection: Connection, said: Sequence[Said], stamp: int) -> None:
    """Adds statements to the outbox, and moves the counters with them."""
    rows = [(one.number, one.ref, one.said_at, one.bundle, one.signed.encoded) for one in said]
    connection.executemany("INSERT INTO outbox VALUES (?, ?, ?, ?, ?)", rows)
    connection.executemany(
        "INSERT INTO outbox_spare VALUES (?, ?, ?, ?)",
        [(number, at, bundle, data) for number, _, at, bundle, data in rows],
    )
    keep_int(connection, NUMBER, said[-1].number)
    keep_int(connection, STAMP, stamp)


def replace(connection: Connection, old: Sequence[int], said: Sequence[Said], number: int, stamp: int) -> None:
    """Puts statements that were signed again (same ids) in the place of those with the numbers ``old``."""
    remove(connection, old)
    if said:
        append(connection, said, stamp)
    keep_int(connection, NUMBER, number)


def remove(connection: Connection, numbers: Iterable[int]) -> None:
    """Takes statements out of the outbox."""
    rows = [(number,) for number in numbers]
    connection.executemany("DELETE FROM outbox WHERE number = ?", rows)
    connection.executemany("DELETE FROM outbox_spare WHERE number = ?", rows)


def put_verdicts(connection: Connection, verdicts: Iterable[Verdict], now_ms: int) -> None:
    """Keeps verdicts by statement; a later one replaces an earlier one."""
    connection.executemany(
        "INSERT OR REPLACE INTO verdict VALUES (?, ?, ?)",
        [(verdict.ref, encode_verdict(verdict), now_ms) for verdict in verdicts],
    )


def verdict_of(connection: Connection, ref: str) -> Verdict | None:
    """The last verdict on a statement, None where there is none."""
    row = connection.execute("SELECT data FROM verdict WHERE ref = ?", (ref,)).fetchone()
    return decode_verdict(bytes(row[0])) if row is not None else None


def forget_old(connection: Connection, now_ms: int) -> None:
    """Forgets verdicts and accepted requests of more than `RESUBMIT_DAYS` ago, but those of statements in the outbox.

    Reckoned from the newest verdict where the clock is ahead of it, so that a wrong clock forgets nothing.
    """
    newest = connection.execute("SELECT MAX(at) FROM verdict").fetchone()[0]
    before = min(now_ms, newest if newest is not None else now_ms) - RESUBMIT_DAYS * 86_400_000
    connection.execute("DELETE FROM verdict WHERE at < ? AND ref NOT IN (SELECT ref FROM outbox)", (before,))
    connection.execute("DELETE FROM request WHERE at < ?", (before,))


def keep_request(connection: Connection, signed: SignedStatement, now_ms: int) -> None:
    """Keeps an accepted request, or a write of a draft that may be closed, for a relay restored to before it."""
    of = signed.statement
    connection.execute(
        "INSERT OR REPLACE INTO request VALUES (?, ?, ?, ?)", (of.ref, of.document, now_ms, signed.encoded)
    )


def requests_of(connection: Connection, document: str) -> list[tuple[str, bytes]]:
    """The accepted requests that are kept for ``document``: reference and bytes."""
    rows = connection.execute("SELECT ref, data FROM request WHERE document = ? ORDER BY ref", (document,)).fetchall()
    return [(ref, bytes(data)) for ref, data in rows]


# ---- what the relay admitted ----------------------------------------------------------------------------------


def put_bases(connection: Connection, bases: Sequence[tuple[BaseRow, bytes]]) -> None:
    """Bases as a whole, each with its snapshot, in place of what was there."""
    connection.executemany(
        "INSERT OR REPLACE INTO base_snapshot VALUES (?, ?, ?)",
        [(row.document, *packed(snapshot)) for row, snapshot in bases],
    )
    connection.executemany("DELETE FROM base_update WHERE document = ?", [(row.document,) for row, _ in bases])
    connection.executemany(
        "INSERT OR REPLACE INTO base VALUES (?, ?, ?, ?, ?, ?)",
        [(row.document, row.epoch, row.position, row.position, row.verified, row.synced_at) for row, _ in bases],
    )


def add_updates(connection: Connection, document: str, first: int, updates: Sequence[bytes], synced_at: int) -> None:
    """Updates of a document from position ``first`` on."""
    connection.executemany(
        "INSERT OR REPLACE INTO base_update VALUES (?, ?, ?)",
        [(document, position, data) for position, data in enumerate(updates, start=first)],
    )
    last = first + len(updates) - 1
    connection.execute("UPDATE base SET position = ?, synced_at = ? WHERE document = ?", (last, synced_at, document))


def mark_synced(connection: Connection, documents: Iterable[str], synced_at: int) -> None:
    """The bases of these documents were up to date at that time."""
    connection.executemany(
        "UPDATE base SET synced_at = ? WHERE document = ?", [(synced_at, document) for document in documents]
    )


def mark_verified(connection: Connection, document: str, epoch: str, position: int) -> None:
    """All authors up to ``position`` were verified."""
    connection.execute("UPDATE base SET verified = ? WHERE document = ? AND epoch = ?", (position, document, epoch))


def snapshot_of(connection: Connection, document: str) -> bytes | None:
    """The snapshot of a document; None where there is none."""
    row = connection.execute("SELECT data, packed FROM base_snapshot WHERE document = ?", (document,)).fetchone()
    return unpacked(bytes(row[0]), bool(row[1])) if row is not None else None


def load_base(connection: Connection, document: str) -> tuple[BaseRow, bytes, list[bytes]] | None:
    """A document's base: where it stands, its snapshot, and the updates after it; None where there is none."""
    row = connection.execute(
        "SELECT document, epoch, position, verified, synced_at, snapshot_position FROM base WHERE document = ?",
        (document,),
    ).fetchone()
    snapshot = snapshot_of(connection, document)
    if row is None or snapshot is None:
        return None
    updates = connection.execute(
        "SELECT data FROM base_update WHERE document = ? AND position > ? ORDER BY position", (document, row[5])
    ).fetchall()
    return BaseRow(*row[:5]), snapshot, [bytes(data) for (data,) in updates]


def drop_base(connection: Connection, documents: Iterable[str]) -> None:
    """Purges the bases of these documents."""
    rows = [(document,) for document in documents]
    for table in ("base", "base_snapshot", "base_update"):
        connection.executemany(f"DELETE FROM {table} WHERE document = ?", rows)  # noqa: S608 - table names are ours


# ---- the rest -------------------------------------------------------------------------------------------------


def put_hand_back(connection: Connection, document: str, statements: Iterable[tuple[str, bytes]]) -> None:
    """Keeps statements (reference, bytes) that a new epoch of ``document`` lacks, until the relay judged them."""
    connection.executemany(
        "INSERT OR REPLACE INTO hand_back VALUES (?, ?, ?)", [(ref, document, data) for ref, data in statements]
    )


def hand_backs(connection: Connection) -> list[tuple[str, str, bytes]]:
    """What is to be handed back: document, reference, bytes."""
    rows = connection.execute("SELECT document, ref, data FROM hand_back ORDER BY document, ref").fetchall()
    for _, _, data in rows:
        statement.decode(bytes(data))  # raises here, where it is told as damage
    return [(document, ref, bytes(data)) for document, ref, data in rows]


def hand_back_of(connection: Connection, ref: str) -> bytes | None:
    """The bytes of a statement that is to be handed back, None where there is none of that reference."""
    row = connection.execute("SELECT data FROM hand_back WHERE ref = ?", (ref,)).fetchone()
    return bytes(row[0]) if row is not None else None


def drop_hand_back(connection: Connection, refs: Iterable[str]) -> None:
    """These were judged."""
    connection.executemany("DELETE FROM hand_back WHERE ref = ?", [(ref,) for ref in refs])


def subscribe(connection: Connection, scopes: Iterable[str], now_ms: int) -> None:
    """Keeps that these scopes are wanted."""
    connection.executemany("INSERT OR IGNORE INTO subscription VALUES (?, ?)", [(scope, now_ms) for scope in scopes])


def unsubscribe(connection: Connection, scopes: Iterable[str]) -> None:
    """Keeps that these scopes are wanted no more."""
    connection.executemany("DELETE FROM subscription WHERE scope = ?", [(scope,) for scope in scopes])


def put_thing(connection: Connection, kind: str, name: str, data: bytes | None) -> None:
    """Keeps bytes under a kind and a name; None forgets them."""
    if data is None:
        connection.execute("DELETE FROM thing WHERE kind = ? AND id = ?", (kind, name))
    else:
        connection.execute("INSERT OR REPLACE INTO thing VALUES (?, ?, ?)", (kind, name, data))


def things(connection: Connection, kind: str) -> dict[str, bytes]:
    """Everything kept under a kind, by name."""
    rows = connection.execute("SELECT id, data FROM thing WHERE kind = ? ORDER BY id", (kind,)).fetchall()
    return {name: bytes(data) for name, data in rows}
