"""The tables of the relay's core.  SQLAlchemy Core, so that another database can take the same schema.

The statements table is the record; documents, registers and ledger follow from it (`relay.storage.verify` proves it).
What the data must never be is said here as constraints, not only in code.  Whole-number keys stand for names and
devices, since every change pays for its bytes on disk.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

METADATA: Final = MetaData()

_Id: Final = BigInteger().with_variant(Integer, "sqlite")

VERSION: Final = Table("schema_version", METADATA, Column("version", Integer, nullable=False))

DOCUMENT: Final = Table(
    "document",
    METADATA,
    Column("id", _Id, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("position", BigInteger, nullable=False),
    Column("floor", BigInteger, nullable=False),
    Column("snapshot", LargeBinary),
    Column("snapshot_position", BigInteger, nullable=False),
    CheckConstraint("position >= floor", name="document_position"),
)
"""``floor`` is the lowest position from which updates can still be given one by one; ``snapshot`` is for documents
that the relay writes: devices' statements make up the others."""

EPOCH: Final = Table(
    "epoch",
    METADATA,
    Column("document", ForeignKey("document.id"), primary_key=True),
    Column("since", BigInteger, primary_key=True),
    Column("epoch", Text, nullable=False),
)
"""The epochs of a document, each from the position ``since`` on; the last one is in force."""

AUTHOR: Final = Table(
    "author",
    METADATA,
    Column("id", _Id, primary_key=True),
    Column("device", Text, nullable=False, unique=True),
)
"""Devices that said something; the highest number that the relay has of one is that of its statements."""

CLIENT: Final = Table(
    "client",
    METADATA,
    Column("id", _Id, primary_key=True),
    Column("document", ForeignKey("document.id"), nullable=False),
    Column("client", BigInteger, nullable=False),
    Column("author", ForeignKey("author.id")),
    Column("origin_client", BigInteger),
    Column("origin_clock", BigInteger),
    Column("clock", BigInteger, nullable=False),
    Column("words", LargeBinary),
    UniqueConstraint("document", "client", name="client_of_document"),
)
"""pycrdt client ids, each bound to one document and device (none: the relay itself); the origin is that of the
client's first item in a log, since every later one follows the client's own; ``clock`` is the next one.  ``words`` is
what its statements are packed with (`relay.storage.packing`), once it has any."""

STATEMENT: Final = Table(
    "statement",
    METADATA,
    Column("id", _Id, primary_key=True),
    Column("author", ForeignKey("author.id"), nullable=False),
    Column("sid", LargeBinary, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("target", ForeignKey("document.id"), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("client", ForeignKey("client.id")),
    Column("clock", BigInteger),
    Column("received_at", BigInteger, nullable=False),
    Column("status", Integer, nullable=False),
    Column("verdict", LargeBinary),
    Column("data", LargeBinary, nullable=False),
    UniqueConstraint("author", "sid", name="statement_once"),
    CheckConstraint("status BETWEEN 0 AND 3", name="statement_status"),
)
"""Every statement with a final verdict, in the order of arrival.  ``target`` is the document it is in (of a request:
the one whose registers it asks to change); ``client`` and ``clock`` are its place, none for a request.  ``status``: 0
accepted, 1 conflict, 2 refused, 3 accepted and since deleted from the document (the field of a closed draft).
``verdict`` is stored where it says more than the row does."""

Index("statement_number", STATEMENT.c.author, STATEMENT.c.number)
Index("statement_place", STATEMENT.c.target, STATEMENT.c.position)

TOMBSTONE: Final = Table(
    "tombstone",
    METADATA,
    Column("document", ForeignKey("document.id"), primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("clock", BigInteger, primary_key=True),
    Column("client", ForeignKey("client.id"), nullable=False),
    Column("length", BigInteger, nullable=False),
)
"""Clocks that hold no statement of their own: pushed again, or answered with retry."""

CHANGE: Final = Table(
    "relay_change",
    METADATA,
    Column("document", ForeignKey("document.id"), primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)
"""Updates that the relay wrote, as `relay.storage.packing.pack_update` made them: registers, and the deletes of closed
drafts."""

REGISTER: Final = Table(
    "register",
    METADATA,
    Column("document", ForeignKey("document.id"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("value", LargeBinary, nullable=False),
    CheckConstraint("version > 0", name="register_version"),
    sqlite_with_rowid=False,
)

STOCK: Final = Table(
    "stock",
    METADATA,
    Column("id", _Id, primary_key=True),
    Column("site", Text, nullable=False),
    Column("item", Text, nullable=False),
    Column("lot", Text, nullable=False),
    Column("on_hand", BigInteger, nullable=False),
    Column("shortage", BigInteger, nullable=False),
    UniqueConstraint("site", "item", "lot", name="stock_of_lot"),
    CheckConstraint("on_hand >= 0", name="stock_on_hand"),
    CheckConstraint("shortage >= 0", name="stock_shortage"),
)
MOVEMENT: Final = Table(
    "movement",
    METADATA,
    Column("id", _Id, primary_key=True),
    Column("stock", ForeignKey("stock.id"), nullable=False),
    Column("type", Text, nullable=False),
    Column("delta", BigInteger, nullable=False),
    Column("by", LargeBinary, nullable=False),
    Column("at", BigInteger, nullable=False),
)
"""The ledger; `stock` is its sum by lot, kept beside it so that the database itself refuses a negative one.  ``by`` is
the reference of what moved it, in 15 bytes."""

NOTE: Final = Table(
    "note",
    METADATA,
    Column("kind", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""What admission keeps and looks up by one key: closed drafts, alerts raised, overrides, receipts by what they say."""

AWAITED: Final = Table(
    "awaited",
    METADATA,
    Column("ref", Text, primary_key=True),
    Column("since", BigInteger, nullable=False),
)
"""Statements that were told to wait for another one, and since when."""

QUARANTINE: Final = Table(
    "quarantine",
    METADATA,
    Column("id", _Id, primary_key=True),
    Column("device", Text, nullable=False),
    Column("ref", Text, nullable=False, unique=True),
    Column("data", LargeBinary, nullable=False),
    Column("received_at", BigInteger, nullable=False),
)
"""What arrived in the name of a revoked device, by order of arrival; never applied by itself."""
Index("quarantine_device", QUARANTINE.c.device)

ALARM: Final = Table(
    "alarm",
    METADATA,
    Column("id", _Id, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("says", Text, nullable=False),
)
"""What the operator has to see: a number used twice, a store restored, glass broken."""

AUDIT: Final = Table(
    "audit",
    METADATA,
    Column("id", _Id, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("what", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("says", Text, nullable=False),
)
"""What the operator and the identity service did; what devices said is in `statement`."""
