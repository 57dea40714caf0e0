"""Every SQL statement of the record, written with Core and compiled once for a dialect."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    ClauseElement,
    Insert,
    Table,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import sqlite

from relay.storage.schema import (
    ALARM,
    AUDIT,
    AUTHOR,
    AWAITED,
    CHANGE,
    CLIENT,
    DOCUMENT,
    EPOCH,
    MOVEMENT,
    NOTE,
    QUARANTINE,
    REGISTER,
    STATEMENT,
    STOCK,
    TOMBSTONE,
)
from relay.storage.sql import SQLITE, Sql

LOOKED_UP: Final = 16
"""So many statements are looked up by one query; where there are fewer, the last one is asked for again."""

NAMED: Final = 64
"""So many documents are asked about by one query; where there are fewer, the last one is asked for again."""

SEAL_BYTES: Final = 130
"""What signing and placing a register takes in its document, besides its value and its key."""

WORTH_WHILE: Final = 5
"""Fewer than these are quicker looked up one by one."""


def _insert(table: Table, *names: str) -> Insert:
    return insert(table).values({name: bindparam(name) for name in names})


def _upsert(table: Table, keys: tuple[str, ...], values: tuple[str, ...], dialect: str) -> ClauseElement:
    kind: Any = sqlite.insert
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        kind = postgresql.insert
    made = kind(table).values({name: bindparam(name) for name in (*keys, *values)})
    return made.on_conflict_do_update(  # type: ignore[no-any-return]  # both dialects' insert is Any here
        index_elements=list(keys), set_={name: made.excluded[name] for name in values}
    )


def _statements() -> Any:
    s = STATEMENT.c
    return select(
        s.id,
        s.sid,
        AUTHOR.c.device,
        s.number,
        DOCUMENT.c.name,
        s.position,
        s.client,
        s.clock,
        s.received_at,
        s.status,
        s.verdict,
        s.data,
        CLIENT.c.words,
    ).select_from(
        STATEMENT.join(AUTHOR, s.author == AUTHOR.c.id)
        .join(DOCUMENT, s.target == DOCUMENT.c.id)
        .outerjoin(CLIENT, s.client == CLIENT.c.id)
    )


def _registers() -> Any:
    r = REGISTER.c
    return select(DOCUMENT.c.name, r.key, r.version, r.at, r.value).select_from(
        REGISTER.join(DOCUMENT, r.document == DOCUMENT.c.id)
    )


@dataclass(frozen=True, slots=True)
class Queries:
    """The compiled statements, by what they do."""

    document: Sql
    documents_named: Sql
    documents: Sql
    add_document: Sql
    advance: Sql
    snapshot: Sql
    keep_snapshot: Sql
    drop_changes: Sql
    floor: Sql
    epoch: Sql
    epochs: Sql
    add_epoch: Sql
    author: Sql
    add_author: Sql
    clients: Sql
    add_client: Sql
    advance_client: Sql
    put_words: Sql
    words: Sql
    statement: Sql
    known_statement: Sql
    known_statements: Sql
    by_number: Sql
    by_target: Sql
    placed: Sql
    device: Sql
    all_statements: Sql
    add_statement: Sql
    close_statement: Sql
    tombstones: Sql
    add_tombstone: Sql
    changes: Sql
    first_changes: Sql
    add_change: Sql
    register: Sql
    register_bytes: Sql
    registers_under: Sql
    registers: Sql
    registers_everywhere: Sql
    put_register: Sql
    stock: Sql
    all_stock: Sql
    put_stock: Sql
    movements: Sql
    add_movement: Sql
    note: Sql
    notes: Sql
    put_note: Sql
    awaited: Sql
    all_awaited: Sql
    put_awaited: Sql
    drop_awaited: Sql
    quarantined: Sql
    quarantine_count: Sql
    quarantine_of: Sql
    add_quarantine: Sql
    add_alarm: Sql
    alarms: Sql
    alarm_count: Sql
    add_audit: Sql
    audits: Sql


@cache
def queries(dialect: Any = SQLITE) -> Queries:
    """The statements in a dialect."""
    b = bindparam
    d, s, m = DOCUMENT.c, STATEMENT.c, MOVEMENT.c
    # Both written out, so that the query takes the names alone.
    one: Any = literal_column("1")
    from_the_first: Any = literal_column("0")
    latest = (
        select(EPOCH.c.epoch)
        .where(EPOCH.c.document == d.id)
        .order_by(EPOCH.c.since.desc())
        .limit(one)
        .offset(from_the_first)
        .scalar_subquery()
    )
    document = select(d.id, d.name, latest, d.position, d.floor, d.snapshot_position)
    named = d.name.in_([b(f"name_{number}") for number in range(NAMED)])
    highest = select(func.max(s.number)).where(s.author == AUTHOR.c.id).scalar_subquery()
    newest = select(func.max(s.sid)).where(s.author == AUTHOR.c.id).scalar_subquery()
    by_document = CHANGE.c.document == b("document")
    of_lot = and_(STOCK.c.site == b("site"), STOCK.c.item == b("item"), STOCK.c.lot == b("lot"))
    made: dict[str, ClauseElement] = {
        "document": document.where(d.name == b("name")),
        "documents_named": document.where(named),
        "documents": select(d.name, d.position).order_by(d.id),
        "add_document": _insert(DOCUMENT, "name", "position", "floor", "snapshot_position"),
        "advance": update(DOCUMENT).values(position=b("to")).where(d.id == b("document")),
        "snapshot": select(d.snapshot).where(d.id == b("document")),
        "keep_snapshot": update(DOCUMENT)
        .values(
            snapshot=b("data"), snapshot_position=b("to"), floor=case((d.floor > b("low"), d.floor), else_=b("low"))
        )
        .where(d.id == b("document")),
        "drop_changes": delete(CHANGE).where(by_document, CHANGE.c.position <= b("upto")),
        "floor": update(DOCUMENT).values(floor=d.position),
        "epoch": select(EPOCH.c.epoch)
        .where(EPOCH.c.document == b("document"), EPOCH.c.since <= b("at"))
        .order_by(EPOCH.c.since.desc())
        .limit(1),
        "epochs": select(d.id, d.position).order_by(d.id),
        "add_epoch": _upsert(EPOCH, ("document", "since"), ("epoch",), dialect.name),
        "author": select(AUTHOR.c.id, func.coalesce(highest, 0), newest).where(AUTHOR.c.device == b("device")),
        "add_author": _insert(AUTHOR, "device"),
        "clients": select(
            CLIENT.c.id,
            CLIENT.c.client,
            CLIENT.c.author,
            CLIENT.c.origin_client,
            CLIENT.c.origin_clock,
            CLIENT.c.clock,
            CLIENT.c.words,
        )
        .where(CLIENT.c.document == b("document"))
        .order_by(CLIENT.c.id),
        "add_client": _insert(
            CLIENT, "document", "client", "author", "origin_client", "origin_clock", "clock"
        ).returning(CLIENT.c.id),
        "advance_client": update(CLIENT).values(clock=b("to")).where(CLIENT.c.id == b("client")),
        "put_words": update(CLIENT).values(words=b("words")).where(CLIENT.c.id == b("client")),
        "words": select(CLIENT.c.id, CLIENT.c.words).where(CLIENT.c.document == b("document")),
        "statement": _statements().where(AUTHOR.c.device == b("device"), s.sid == b("sid")),
        "known_statement": select(s.sid).where(s.author == b("author"), s.sid == b("sid")),
        "known_statements": select(s.sid).where(
            s.author == b("author"), s.sid.in_([b(f"sid_{number}") for number in range(LOOKED_UP)])
        ),
        "by_number": select(s.sid)
        .select_from(STATEMENT.join(AUTHOR, s.author == AUTHOR.c.id))
        .where(AUTHOR.c.device == b("device"), s.number == b("number"))
        .order_by(s.id)
        .limit(1),
        "by_target": _statements()
        .where(s.target == b("document"), s.position > b("after"), s.position <= b("upto"))
        .order_by(s.position, s.clock, s.id),
        "placed": select(s.position, s.client, s.clock, s.status, s.sid, s.author, s.data).where(
            s.target == b("document"), s.position > b("after"), s.position <= b("upto"), s.client.is_not(None)
        ),
        "device": select(AUTHOR.c.device).where(AUTHOR.c.id == b("author")),
        "all_statements": _statements().where(s.id >= b("first")).order_by(s.id).limit(b("most")),
        "add_statement": _insert(
            STATEMENT,
            *("author", "sid", "number", "target", "position", "client", "clock"),
            *("received_at", "status", "verdict", "data"),
        ),
        "close_statement": update(STATEMENT).values(status=3).where(s.id == b("statement"), s.status == 0),
        "tombstones": select(TOMBSTONE.c.position, TOMBSTONE.c.clock, TOMBSTONE.c.client, TOMBSTONE.c.length)
        .where(
            TOMBSTONE.c.document == b("document"),
            TOMBSTONE.c.position > b("after"),
            TOMBSTONE.c.position <= b("upto"),
        )
        .order_by(TOMBSTONE.c.position, TOMBSTONE.c.clock),
        "add_tombstone": _insert(TOMBSTONE, "document", "position", "clock", "client", "length"),
        "changes": select(CHANGE.c.position, CHANGE.c.data)
        .where(by_document, CHANGE.c.position > b("after"), CHANGE.c.position <= b("upto"))
        .order_by(CHANGE.c.position),
        "first_changes": select(CHANGE.c.document, CHANGE.c.data).where(
            CHANGE.c.document.in_([b(f"document_{number}") for number in range(NAMED)]),
            CHANGE.c.position == b("position"),
            func.length(CHANGE.c.data) <= b("most"),
        ),
        "add_change": _insert(CHANGE, "document", "position", "data"),
        "register": _registers().where(d.name == b("name"), REGISTER.c.key == b("key")),
        "register_bytes": select(
            func.coalesce(func.sum(func.length(REGISTER.c.value) + func.length(REGISTER.c.key) + SEAL_BYTES), 0)
        )
        .select_from(REGISTER.join(DOCUMENT, REGISTER.c.document == d.id))
        .where(d.name == b("name")),
        "registers_under": select(d.name, REGISTER.c.value)
        .select_from(REGISTER.join(DOCUMENT, REGISTER.c.document == d.id))
        .where(named, REGISTER.c.key == b("key")),
        "registers": _registers()
        .where(d.name == b("name"), REGISTER.c.key >= b("low"), REGISTER.c.key < b("high"))
        .order_by(REGISTER.c.key),
        "registers_everywhere": _registers()
        .where(REGISTER.c.key >= b("low"), REGISTER.c.key < b("high"))
        .order_by(d.name, REGISTER.c.key),
        "put_register": _upsert(REGISTER, ("document", "key"), ("version", "at", "value"), dialect.name),
        "stock": select(STOCK.c.on_hand, STOCK.c.shortage).where(of_lot),
        "all_stock": select(STOCK.c.site, STOCK.c.item, STOCK.c.lot, STOCK.c.on_hand, STOCK.c.shortage).order_by(
            STOCK.c.site, STOCK.c.item, STOCK.c.lot
        ),
        "put_stock": _upsert(STOCK, ("site", "item", "lot"), ("on_hand", "shortage"), dialect.name),
        "movements": select(m.id, STOCK.c.site, STOCK.c.item, STOCK.c.lot, m.type, m.delta, m.by, m.at)
        .select_from(MOVEMENT.join(STOCK, m.stock == STOCK.c.id))
        .where(m.id >= b("first"))
        .order_by(m.id)
        .limit(b("most")),
        "add_movement": insert(MOVEMENT).values(
            stock=select(STOCK.c.id).where(of_lot).scalar_subquery(),
            **{name: b(name) for name in ("type", "delta", "by", "at")},
        ),
        "note": select(NOTE.c.value).where(NOTE.c.kind == b("kind"), NOTE.c.key == b("key")),
        "notes": select(NOTE.c.key, NOTE.c.value)
        .where(NOTE.c.kind == b("kind"), NOTE.c.key >= b("low"), NOTE.c.key < b("high"))
        .order_by(NOTE.c.key),
        "put_note": _upsert(NOTE, ("kind", "key"), ("value",), dialect.name),
        "awaited": select(AWAITED.c.since).where(AWAITED.c.ref == b("ref")),
        "all_awaited": select(AWAITED.c.ref, AWAITED.c.since),
        "put_awaited": _insert(AWAITED, "ref", "since"),
        "drop_awaited": delete(AWAITED).where(AWAITED.c.ref == b("ref")),
        "quarantined": select(QUARANTINE).where(QUARANTINE.c.ref == b("ref")),
        "quarantine_count": select(func.count()).select_from(QUARANTINE).where(QUARANTINE.c.device == b("device")),
        "quarantine_of": select(QUARANTINE).where(QUARANTINE.c.device == b("device")).order_by(QUARANTINE.c.id),
        "add_quarantine": _insert(QUARANTINE, "device", "ref", "data", "received_at"),
        "add_alarm": _insert(ALARM, "at", "kind", "device", "says"),
        "alarms": select(ALARM).where(ALARM.c.id >= b("first")).order_by(ALARM.c.id).limit(b("most")),
        "alarm_count": select(func.count()).select_from(ALARM),
        "add_audit": _insert(AUDIT, "at", "what", "who", "says"),
        "audits": select(AUDIT).where(AUDIT.c.id >= b("first")).order_by(AUDIT.c.id).limit(b("most")),
    }
    return Queries(**{name: Sql(clause, dialect) for name, clause in made.items()})
