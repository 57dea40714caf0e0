"""Documents that the relay itself writes: their replica out of the record, and registers into it."""

from collections.abc import Mapping
from typing import Final

import msgspec

from crdtmed.aggregates.content import ContentError
from crdtmed.aggregates.registers import RegisterValue, encode_register
from crdtmed.documents import Document
from crdtmed.keys import Signer
from crdtmed.limits import COMPACT_AFTER_UPDATES
from crdtmed.policies.server_authoritative import NIL
from crdtmed.replica import Replica
from crdtmed.signed import Register, seal
from relay.storage.port import Record
from relay.storage.rebuild import RecordBroken

COMPACT_AFTER: Final = COMPACT_AFTER_UPDATES


def load_replica(record: Record, document: Document, client: int) -> Replica:
    """The replica of a document of the relay's as the record has it; ``client`` is what it writes as.

    Raises `RecordBroken` where the parts do not reach the position at which the document stands.
    """
    row = record.document(document.name)
    if row is None:
        return Replica.open(document.name, client)
    snapshot = record.snapshot(row.id) if row.snapshot_position else None
    replica = (
        Replica.open(document.name, client, row.epoch)
        if snapshot is None
        else Replica.load(document.name, client, snapshot, row.epoch, row.snapshot_position)
    )
    at = row.snapshot_position
    for position, update in record.changes(row.id, at, row.position):
        if position != at + 1:
            raise RecordBroken(f"{document.name}: nothing is recorded at position {at + 1}")
        replica.apply(update)
        at = position
    if at != row.position:
        raise RecordBroken(f"{document.name}: it stands at {row.position}, its record ends at {at}")
    replica.position = at
    return replica


class RegisterInvalid(ValueError):
    """A register is not as its model says; the message names its document, its key and what is wrong."""


def encode_value(document: str, key: str, value: RegisterValue | None) -> bytes:
    """The bytes of a register's value, None being that it was withdrawn; raises `RegisterInvalid`."""
    try:
        return NIL if value is None else encode_register(value)
    except ContentError as error:
        raise RegisterInvalid(f"{document} {key}: {error}") from None


def write_registers(
    replica: Replica, values: Mapping[str, bytes], versions: Mapping[str, int], now_ms: int, signer: Signer
) -> bytes:
    """Signs a register for each key and writes them in one transaction; gives its update."""
    name = replica.document.name
    return replica.set(
        {
            key: seal(Register(name, key, versions[key], now_ms, msgspec.Raw(value)), signer)
            for key, value in values.items()
        }
    )
