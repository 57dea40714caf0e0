"""What must hold, at every commit and when everything has settled.

Nothing here uses the software's merging, judging or reading of documents: bytes go through MessagePack and pycrdt
alone, the relay's tables through SQL, and the rules are written down once more, in `tests.simulation.rules`.
"""

import sqlite3
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import zstandard
from msgspec import msgpack
from pycrdt import Array, Doc, Map

from crdtmed.dictionary import DICTIONARY
from crdtmed.signed import RelayKey, read
from crdtmed.trust import RELAY
from relay.identity.rows import entries
from relay.storage.record import SqlRecord
from relay.storage.verify import Keys, verify_record
from tests.simulation.bounds import nothing_left
from tests.simulation.kept import nothing_lost, statements
from tests.simulation.rules import drafts, gates, ledger
from tests.simulation.setting import ITEMS, NAMES
from tests.simulation.witness import PLACES

if TYPE_CHECKING:
    from tests.simulation.history import History
    from tests.simulation.tablet import Tablet

_zstandard: Final = zstandard.ZstdDecompressor(
    dict_data=zstandard.ZstdCompressionDict(DICTIONARY, dict_type=zstandard.DICT_TYPE_FULLDICT),
    format=zstandard.FORMAT_ZSTD1_MAGICLESS,
)
CLINICAL: Final = (
    *("id", "patient", "groups", "prescriber", "signed_by", "signed_at", "snapshot", "authorised", "unit", "site"),
    *("overrides", "prior"),
)


# ---- at every commit ----------------------------------------------------------------------------------------------


def at_commit(it: "History") -> None:
    """Looks at the record whenever a statement was added to it."""
    writer = it.relay.connection
    changes = (it.relay.path, id(writer), writer.total_changes)
    if it.looking.get("changes") == changes:
        return
    it.looking["changes"] = changes
    connection = it._reading()
    assert connection is not None
    era, last = it.relay.restores, connection.execute("SELECT max(id) FROM statement").fetchone()[0]
    if it.looking.get("last") == (era, last):
        return
    it.looking["last"] = (era, last)
    before: dict[tuple[str, str], tuple[int, Any]] = it.looking.setdefault(f"registers {era}", {})
    rows = connection.execute(
        "SELECT d.name, r.key, r.version, r.value FROM register r JOIN document d ON d.id = r.document"
        " WHERE r.key LIKE 'prescription/%' OR r.key LIKE 'session/%' OR r.key LIKE 'stock/%'"
    ).fetchall()
    running: Counter[str] = Counter()
    for name, key, version, value in rows:
        now = msgpack.decode(value)
        held = before.get((name, key))
        before[name, key] = (version, now)
        if now is None:
            continue
        if key.startswith("session/") and now["status"] == "in-progress":
            running[name] += 1
        if held is not None and held[0] != version and held[1] is not None:
            _moved_on(it, key, held, (version, now))
    for name, count in running.items():
        if count > 1:
            it.witness.complain(f"{count} reconciliations of {name} are in progress at once")
    wrong = connection.execute("SELECT site, item, lot FROM stock WHERE on_hand < 0 OR shortage < 0").fetchall()
    if wrong:
        it.witness.complain(f"stock below zero: {wrong}")


def _moved_on(it: "History", key: str, held: tuple[int, Any], now: tuple[int, Any]) -> None:
    """A register has a new version: only what may change has changed."""
    if now[0] < held[0]:
        it.witness.complain(f"{key} went back from version {held[0]} to {now[0]}")
    if key.startswith("prescription/"):
        for field in CLINICAL:
            if held[1].get(field) != now[1].get(field):
                it.witness.complain(f"{key} was signed, and its {field} changed")
        if held[1]["status"] in ("stopped", "superseded", "entered-in-error") and now[1]["status"] != held[1]["status"]:
            it.witness.complain(f"{key} was {held[1]['status']}, and became {now[1]['status']}")
    if key.startswith("session/") and held[1]["status"] == "entered-in-error" != now[1]["status"]:
        it.witness.complain(f"{key} was entered in error, and became {now[1]['status']}")


# ---- at the end ---------------------------------------------------------------------------------------------------


async def at_the_end(it: "History") -> None:
    """Everything that must hold when nothing waits any more."""
    if not it.settled():
        _why(it)
        return
    connection = it._reading()
    assert connection is not None
    rows = _record(connection)
    documents = _documents(it)
    kept = {one.ref: one for values in documents.values() for one in statements(values)}
    known = {**it.witness.said, **it.witness.requested, **kept}
    nothing_lost(it, rows, documents)
    _replicas(it, documents)
    _attacks(it, rows)
    registers = {
        name: {key: _value(raw) for key, raw in held.items()} for name, held in documents.items() if _is_map(name)
    }
    accepted = [known[ref] for ref, (status, _) in rows.items() if PLACES[status] == "accepted" and ref in known]
    for complaint in (
        *ledger(accepted, registers, complete=all(ref in known for ref in rows)),
        *gates(accepted, registers, it.witness, {ref: at for ref, (_, at) in rows.items()}),
    ):
        it.witness.complain(complaint)
    _proof(it, connection)
    await _drafts(it, documents)
    _sessions(it, registers)
    _gone(it)
    nothing_left(it)


def _proof(it: "History", connection: sqlite3.Connection) -> None:
    """The relay's own proof of its record, which shares no code with admission, finds nothing wrong either."""
    assert it.relay.service is not None
    identity = it.relay.service.hub.identity
    relays = tuple(read(RelayKey, data).public for key, data in entries(connection).items() if key.startswith(RELAY))
    keys = Keys(lambda device: identity.certificate(connection, device), relays)
    for finding in verify_record(SqlRecord(connection), keys).findings:
        it.witness.complain(f"the record is not sound: {finding}")


def _why(it: "History") -> None:
    for tablet in it.tablets.values():
        if tablet.wiped_at is not None or tablet.lost:
            continue
        if not tablet.works:
            it.witness.complain(f"{tablet.name} does not work in the end, revoked: {tablet.id in it.revoked}")
            continue
        report = tablet.engine.status()
        waiting = [(q.signed.statement.ref, q.signed.statement.kind.label, q.verdict) for q in tablet.engine.outbox()]
        if tablet.id in it.revoked:
            it.witness.complain(f"{tablet.name} was revoked, and is not wiped in the end")
        elif waiting or not report.connected or report.behind:
            it.witness.complain(
                f"{tablet.name} is not done: connected {report.connected}, behind {report.behind}, outbox {waiting[:3]}"
            )
    if not it.witness.complaints:
        it.witness.complain("a device does not stand where the relay does in the end")


def _record(connection: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    """The relay's statements in the order of arrival: reference to status and time of arrival."""
    import base64

    return {
        f"{device}.{base64.b32encode(name).decode().lower()}": (status, at)
        for device, name, status, at in connection.execute(
            "SELECT a.device, s.sid, s.status, s.received_at FROM statement s JOIN author a ON a.id = s.author"
            " ORDER BY s.id"
        )
    }


def _is_map(name: str) -> bool:
    return "/log/" not in name


def _content(name: str, updates: list[bytes]) -> Any:
    """A document as pycrdt alone has it: a map's entries, or a log's values in the order of their bytes."""
    doc: Any = Doc()
    root: Any = doc.get("m", type=Map) if _is_map(name) else doc.get("a", type=Array)
    for update in updates:
        doc.apply_update(update)
    if isinstance(root, Map):
        return {key: bytes(value) for key, value in sorted(root.items())}
    return sorted(bytes(value) for value in root)


def _documents(it: "History") -> dict[str, Any]:
    """What a device would get that has nothing, of every document that the relay has."""
    service = it.relay.service
    assert service is not None
    connection = it._reading()
    assert connection is not None
    names = [name for (name,) in connection.execute("SELECT name FROM document WHERE position > 0 ORDER BY name")]
    reader = service._reader
    return {name: _content(name, [update]) for name in names for update in [_base(reader, name)] if update is not None}


def _base(reader: Any, name: str) -> bytes | None:
    with reader._moment():
        row = reader._record.document(name)
        update: bytes | None = None if row is None else reader._base(row, None)[0].update
    return update


def _value(raw: bytes) -> Any:
    """The value in a register: 64 bytes of signature, then document, key, version, time and value."""
    try:
        return msgpack.decode(raw[64:])[4]
    except (ValueError, IndexError, TypeError, KeyError):
        return None


def documents_of(tablet: "Tablet") -> dict[str, Any]:
    """What a device that works holds, by document, read from its store."""
    connection = tablet.device._life.database.held.inner  # type: ignore[union-attr]  # it works; its disk may not
    found = {}
    for (name,) in connection.execute("SELECT document FROM base ORDER BY document").fetchall():
        updates = connection.execute(
            "SELECT u.data FROM base_update u JOIN base b USING (document) WHERE u.document = ?"
            " AND u.position > b.snapshot_position ORDER BY u.position",
            (name,),
        ).fetchall()
        (snapshot, packed) = connection.execute(
            "SELECT data, packed FROM base_snapshot WHERE document = ?", (name,)
        ).fetchone()
        whole = _zstandard.decompress(snapshot) if packed else snapshot
        found[name] = _content(name, [whole, *(data for (data,) in updates)])
    return found


def _replicas(it: "History", documents: dict[str, Any]) -> None:
    """Every device holds of each document exactly what the relay gives to a device that has nothing."""
    for tablet in it.tablets.values():
        if not tablet.works:
            continue
        for name, held in documents_of(tablet).items():
            if held != documents.get(name, {} if _is_map(name) else []):
                it.witness.complain(f"{tablet.name} holds another {name} than the relay")


def _attacks(it: "History", rows: dict[str, tuple[int, int]]) -> None:
    for ref in it.attacks:
        if ref in rows and PLACES[rows[ref][0]] == "accepted":
            it.witness.complain(f"{ref} was an attack, and was accepted")


async def _drafts(it: "History", documents: dict[str, Any]) -> None:
    """Every device shows of each open draft what the rule says: the winner, and whatever is concurrent with it."""
    for tablet in it.tablets.values():
        if not tablet.works:
            continue
        device = tablet.device
        assert device is not None
        for patient in NAMES:
            name = f"patient/{patient}/drafts"
            if name not in documents or f"patient/{patient}" not in tablet.engine.core.rows:
                continue
            view = await device.patient(patient)
            shown = {
                (draft, str(group), of.winner.ref, *sorted(one.ref for one in of.concurrent))
                for draft, held in view.drafts.items()
                for group, of in held.groups.items()
            }
            signed = {one.register.id for one in view.prescriptions}
            wanted = {key for key in drafts(statements(documents[name])) if key[0] not in signed}
            if shown != wanted:
                it.witness.complain(f"{tablet.name} shows other drafts of {patient} than there are: {shown ^ wanted}")


def _sessions(it: "History", registers: dict[str, dict[str, Any]]) -> None:
    """Of two sessions of which one met the other, both are entered in error; of one that came after the restart and
    had not seen it, that one alone."""
    for (era, ref), data in it.witness.verdicts.items():
        reason = msgpack.decode(data).get("reason")
        if era != it.relay.restores or not reason or reason["code"] != "session_diverged":
            continue
        said = it.witness.requested[ref]
        home = registers.get(said.document, {})
        restart = home.get(f"session/{reason['other']}", {})
        late = restart.get("restarts") and restart["opened_by"] not in said.seen
        for name in (reason["session"],) if late else (reason["session"], reason["other"]):
            held = home.get(f"session/{name}")
            if held is None or held["status"] != "entered-in-error":
                it.witness.complain(f"session {name} met another one, and is {held and held['status']}")


def _gone(it: "History") -> None:
    """Of a revoked device nothing is left, and what devices hold is not in clear."""
    secrets = [text.encode() for text in (*NAMES.values(), *(display for display, _ in ITEMS.values()), "in-progress")]
    for tablet in it.tablets.values():
        files = sorted(path for path in tablet.folder.iterdir() if path.is_file())
        if tablet.wiped_at is not None and files:
            it.witness.complain(f"{tablet.name} was wiped, and has {[path.name for path in files]}")
        for path in files:
            data = path.read_bytes()
            if any(secret in data for secret in secrets):
                it.witness.complain(f"{path.name} of {tablet.name} has clinical text in clear")
