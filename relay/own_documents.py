"""Documents that the relay itself writes, in the batch under way: those of registers, and the directory.

The relay has a replica of each, which makes the updates.
"""

from crdtmed.aggregates.registers import RegisterValue
from crdtmed.documents import DocumentKind
from crdtmed.replica import Replica
from relay.batch import Batch
from relay.live import Held, LiveDocument
from relay.registers import encode_value, load_replica, write_registers


def put_registers(batch: Batch, document: str, entries: dict[str, RegisterValue | None]) -> None:
    """Writes registers of one document, all in one update; raises `relay.registers.RegisterInvalid`."""
    live = batch.open(document)
    versions = {key: batch.held(document, key).version + 1 for key in entries}
    values = {key: encode_value(document, key, value) for key, value in entries.items()}
    replica = _replica(batch, live)
    update = write_registers(replica, values, versions, batch.now_ms, batch.identity.relay_signer)
    for key, value in entries.items():
        batch.record.put_register(live.id, key, versions[key], batch.now_ms, values[key])
        batch.live.registers[document, key] = Held(versions[key], value)
    if live.listed is not None:
        live.listed += len(update)
    _wrote(batch, live, replica, update)


def _wrote(batch: Batch, live: LiveDocument, replica: Replica, update: bytes) -> None:
    """An update of the relay's own replica takes its place; now and then the whole is kept instead of the parts."""
    position = batch.changed(live, update)
    batch.record.add_change(live.id, position, update)
    replica.epoch, replica.position = live.epoch, live.position
    live.unfolded += 1


def _replica(batch: Batch, live: LiveDocument) -> Replica:
    """The relay's own replica of a document that it writes."""
    if live.replica is None:
        live.replica = load_replica(batch.record, live.document, batch.fresh_client(live))
    return live.replica


def write_directory(batch: Batch) -> None:
    """Brings the directory document to what the identity service says that it holds."""
    entries = batch.identity.directory(batch.record.connection, batch.now_ms)
    live = batch.open(DocumentKind.DIRECTORY)
    replica = _replica(batch, live)
    held = replica.map()
    changed = {key: value for key, value in entries.items() if held.get(key) != value}
    gone = [key for key in held if key not in entries]
    if changed or gone:
        _wrote(batch, live, replica, replica.change(changed, gone))
        batch.snapshot = None
