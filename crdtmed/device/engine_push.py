"""Sending: what the outbox picks becomes updates of one client id a document, or requests."""

from crdtmed import documents
from crdtmed.aggregates.content import ContentError, decode_content
from crdtmed.aggregates.prescription_draft import DraftWrite, write_key
from crdtmed.device import engine_heal
from crdtmed.device.engine_core import Core, Writer
from crdtmed.device.outbox import Item, Parcel
from crdtmed.device.session import Stage
from crdtmed.documents import parse
from crdtmed.updates import ItemId, Root, write_array_update, write_map_update
from crdtmed.wire.frames import Push, Request


async def pump(core: Core) -> None:
    """Sends what may be sent now, as far as the relay takes it."""
    while core.session is not None and core.session.stage is Stage.OPEN and not core.revoked:
        engine_heal.keep_challenges_fresh(core)
        engine_heal.be_careful(core)
        missing = _send_some(core)
        if not missing:
            return
        for name in sorted(missing):
            await core.hold(name)


def _send_some(core: Core) -> set[str]:
    """Sends what the relay takes; gives the documents that must be in memory for more."""
    missing: set[str] = set()
    routes: dict[str, str | None] = {}

    def route(item: Item) -> str | None:
        target = item.statement.document
        if item.segment is not None:
            return _route(core, _document(core, item), missing)
        if target not in routes:
            routes[target] = _route(core, _document(core, item), missing)
        return routes[target]

    room = core.pushes_in_flight - core.outbox.in_flight
    if room > 0:
        for parcel in core.outbox.pick(core.ports.now_ms(), room, route):
            _send(core, parcel)
    return missing


def _route(core: Core, name: str, missing: set[str]) -> str | None:
    """The document, if what is said may be pushed into it now; None while where it stands is not known."""
    session = core.session
    if session is None or (name in session.places and not session.is_live(name)):
        return None
    if name in core.rows and name not in core.held:
        missing.add(name)
        return None
    return name


def _document(core: Core, item: Item) -> str:
    target = item.statement.document
    if not target.endswith("/log"):
        return target
    today = documents.segment(target, documents.utc_date(core.relay_now()))
    if item.segment is not None and item.segment not in documents.open_segments(target, core.relay_now()):
        item.segment = None
    return item.segment or today


def _send(core: Core, parcel: Parcel) -> None:
    session = core.session
    if session is None:
        return
    if parcel.document is None:
        session.say(Request(parcel.items[0].said.signed.encoded))
    else:
        session.say(Push(parcel.document, _update(core, parcel.document, parcel.items)))
    core.outbox.sent(parcel)


def _update(core: Core, name: str, items: list[Item]) -> bytes:
    writer = core.writers.get(name)
    if writer is None:
        writer = core.writers[name] = core.new_writer(name)
    elif not writer.current:
        writer = core.writers[name] = _continued(core, name, writer)
    if parse(name).root is Root.MAP:
        entries = [(_key(item), item.said.signed.encoded) for item in items]
        update = write_map_update(writer.client, writer.clock, entries)
    else:
        values = [item.said.signed.encoded for item in items]
        update = write_array_update(writer.client, writer.clock, writer.last, values)
    writer.clock += len(items)
    writer.last = ItemId(writer.client, writer.clock - 1)
    return update


def _continued(core: Core, name: str, writer: Writer) -> Writer:
    """In a new conversation a client id goes on where the relay's document stands for it, if that is known."""
    held = core.held.get(name)
    clock = held.replica.state_vector.get(writer.client, 0) if held is not None else 0
    if not clock:
        return core.new_writer(name)
    return Writer(writer.client, clock, ItemId(writer.client, clock - 1))


def _key(item: Item) -> str:
    of = item.statement
    try:
        content = decode_content(of.kind, bytes(of.content))
    except ContentError:
        content = None
    if isinstance(content, DraftWrite):
        return write_key(content, of.device, of.id)
    return f"-/-/{of.device}/{of.id}"


def landed(core: Core, name: str, client: int) -> None:
    """A push did not continue its client: a new client id, and the document's share of the outbox again."""
    writer = core.writers.get(name)
    if writer is None or writer.client != client:
        return  # told of an older client already
    del core.writers[name]
    core.outbox.all_again(lambda item: item.document == name)
    row = core.rows.get(name)
    if core.session is not None and name in core.session.places:
        core.session.subscribe([(name, row.epoch, row.position) if row is not None else (name, "", 0)])
