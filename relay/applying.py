"""Effects of decisions, applied to the batch under way."""

from collections.abc import Callable, Sequence
from typing import Final, assert_never

from crdtmed.aggregates.registers import encode_register, register_key
from crdtmed.aggregates.stock_item import Movement
from relay.admission.effects import Alarm, Awaiting, CloseDraft, Effect, Move, Note, Put, Withdraw
from relay.admission.ledger import SHORTAGE
from relay.batch import Batch
from relay.storage.rebuild import deletion

_WRITTEN_AT_ONCE: Final = (CloseDraft, Note, Awaiting, Alarm)


def apply(batch: Batch, effects: Sequence[Effect]) -> None:
    """What a decision wants done, all of it or, with an exception, nothing."""
    undo: list[Callable[[], object]] = []
    # The others wait in the batch until it ends, and are taken back there.
    writes = [effect for effect in effects if isinstance(effect, _WRITTEN_AT_ONCE)]
    if writes:
        # A draft is closed last: its update takes a position, which nothing takes back.
        effects = sorted(effects, key=lambda effect: isinstance(effect, CloseDraft))
        if isinstance(effects[-1], CloseDraft):
            batch.record.flush()
        batch.record.connection.execute("SAVEPOINT one")
    try:
        for effect in effects:
            _apply(batch, effect, undo)
    except BaseException:
        for step in reversed(undo):
            step()
        if writes:
            batch.record.connection.execute("ROLLBACK TO one")
            batch.record.connection.execute("RELEASE one")
        raise
    if writes:
        batch.record.connection.execute("RELEASE one")


def _apply(batch: Batch, effect: Effect, undo: list[Callable[[], object]]) -> None:
    match effect:
        case Put(document=document, value=value):
            if batch.careful:
                encode_register(value)
            batch.stage(document, register_key(value), value, undo)
        case Withdraw(document=document, key=key):
            if batch.register(document, key) is not None:
                batch.stage(document, key, None, undo)
        case CloseDraft(patient=patient, prescription=prescription):
            _close(batch, patient, prescription)
        case Move(movement=movement):
            _move(batch, movement, undo)
        case Note(kind=kind, key=key, value=value):
            batch.record.put_note(kind, key, value)
        case Awaiting(ref=ref, since=since):
            if batch.awaited_since(ref) is None:
                awaited = batch.awaited()
                batch.record.put_awaited(ref, since)
                awaited[ref] = since
                undo.append(lambda: awaited.pop(ref))
        case Alarm(kind=kind, device=device, says=says):
            batch.alarm(kind, device, says)
            undo.append(batch.alarms.pop)
        case _:
            assert_never(effect)


def _move(batch: Batch, movement: Movement, undo: list[Callable[[], object]]) -> None:
    """A row of the ledger, and the sums of its lot; raises `ValueError` where one would be negative."""
    lot = (movement.site, movement.item, movement.lot)
    before = batch.sums.get(lot)
    on_hand, shortage = batch.record.stock(*lot) if before is None else before
    if movement.type in SHORTAGE:
        shortage += movement.delta
    else:
        on_hand += movement.delta
    if on_hand < 0 or shortage < 0:
        raise ValueError(f"{'/'.join(lot)} would have {on_hand} on hand and {shortage} short")
    batch.sums[lot] = (on_hand, shortage)
    batch.moved.append(movement)
    undo.append(lambda: batch.sums.pop(lot) if before is None else batch.sums.__setitem__(lot, before))
    undo.append(batch.moved.pop)


def _close(batch: Batch, patient: str, prescription: str) -> None:
    rows = batch.draft_rows(patient, prescription)
    if not rows:
        return
    live = batch.open(f"patient/{patient}/drafts")
    number = {client.row: name for name, client in live.clients.items()}
    items = [(number[row.client], row.clock) for row in rows if row.client is not None and row.clock is not None]
    update = deletion(items)
    batch.record.close_statements(row.id for row in rows)
    batch.record.add_change(live.id, batch.changed(live, update), update)
