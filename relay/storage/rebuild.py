"""Document updates out of the record: a document that devices write is never stored, it follows from its statements.

The bytes are those that pycrdt would send; values that were not accepted, or that the relay has deleted since, appear
as what holds their clocks (a GC struct in a map, deleted content in a log).
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, groupby
from operator import attrgetter
from typing import Final

import msgspec

from crdtmed import documents
from crdtmed.aggregates.prescription_draft import DraftWrite, Group, write_key
from crdtmed.keys import SIGNATURE_BYTES
from crdtmed.updates import ItemId, Root
from crdtmed.updates.device_grammar import array_item, array_place, head, map_item
from crdtmed.updates.lib0 import write_uint
from relay.storage.rows import ClientRow, Slot

_CLOCK: Final = attrgetter("clock")


class RecordBroken(Exception):
    """What is stored does not make a document: clocks are missing or claimed twice.  `verify` tells where."""


class _Head(msgspec.Struct, frozen=True):
    prescription: str
    group: Group


_BODY: Final = msgspec.msgpack.Decoder(tuple[int, int, str, str, str, int, str, int, msgspec.Raw, bytes | None, _Head])


def draft_head(encoded: bytes) -> tuple[str, str]:
    """Prescription and key of an admitted draft write."""
    body = _BODY.decode(encoded[SIGNATURE_BYTES:])
    content = body[10]
    return content.prescription, write_key(DraftWrite(content.prescription, content.group), body[4], body[2])


class Base(msgspec.Struct, frozen=True, gc=False):
    """A whole document: the update that makes it, and the digest of its content."""

    update: bytes
    digest: bytes


def base(root: Root, clients: Sequence[ClientRow], found: Iterable[Slot]) -> Base:
    """The document that ``found`` makes up, every slot of every client; raises `RecordBroken`."""
    by_client: dict[int, list[Slot]] = {}
    for slot in found:
        by_client.setdefault(slot.client, []).append(slot)
    content: dict[str, bytes] = {}
    values: list[bytes] = []
    parts: list[bytes] = []
    deletes: list[tuple[int, list[tuple[int, int]]]] = []
    count = 0
    for client in sorted(clients, key=lambda row: row.client, reverse=True):
        held = sorted(by_client.get(client.id, ()), key=_CLOCK)
        if not held:
            continue
        count += 1
        _check(held, client)
        structs = _structs(root, client, held, content, values)
        parts += [write_uint(len(structs)), write_uint(client.client), b"\x00"]
        parts += chain.from_iterable(structs)
        gone = _ranges((slot.clock, slot.length) for slot in held if slot.closed)
        if gone:
            deletes.append((client.client, gone))
    digest = documents.map_digest(content) if root is Root.MAP else documents.array_digest(values)
    return Base(b"".join((write_uint(count), *parts, delete_set(deletes))), digest)


def _check(held: list[Slot], client: ClientRow) -> None:
    clock = 0
    for slot in held:
        if slot.clock != clock:
            raise RecordBroken(f"client {client.client}: clock {slot.clock} follows where {clock} was due")
        clock += slot.length
    if clock != client.clock:
        raise RecordBroken(f"client {client.client}: its rows end at clock {clock}, it stands at {client.clock}")


def _structs(
    root: Root, client: ClientRow, held: Sequence[Slot], content: dict[str, bytes], values: list[bytes]
) -> list[list[bytes]]:
    """The structs of ``held``, each in the parts that it is joined of; adds to ``content`` or ``values``."""
    made: list[list[bytes]] = []
    for kept, run in groupby(held, key=lambda slot: slot.value is not None):
        part = list(run)
        entries = [slot.value for slot in part if slot.value is not None]
        if root is Root.ARRAY:
            origin = _origin(client, part[0].clock)
            if kept:
                values += entries
                made.append(array_item(origin, entries))
            else:
                made.append([array_place(origin, deleted=True), write_uint(sum(slot.length for slot in part))])
        elif kept:
            for value in entries:
                _, key = draft_head(value)
                content[key] = value
                made.append([map_item(key, value)])
        else:
            made.append([b"\x00", write_uint(sum(slot.length for slot in part))])
    return made


def _origin(client: ClientRow, clock: int) -> ItemId | None:
    if clock:
        return ItemId(client.client, clock - 1)
    return None if client.origin is None else ItemId(*client.origin)


def _ranges(clocks: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Clocks (ascending) with their lengths, joined where one follows the other."""
    made: list[tuple[int, int]] = []
    for clock, length in clocks:
        if made and made[-1][0] + made[-1][1] == clock:
            made[-1] = (made[-1][0], made[-1][1] + length)
        else:
            made.append((clock, length))
    return made


def delete_set(deletes: Iterable[tuple[int, list[tuple[int, int]]]]) -> bytes:
    """The end of an update: (client, ranges of clock and length), written with ascending clients."""
    ordered = sorted(deletes)
    parts = [write_uint(len(ordered))]
    for client, ranges in ordered:
        parts.append(write_uint(client) + write_uint(len(ranges)))
        parts.extend(write_uint(clock) + write_uint(length) for clock, length in ranges)
    return b"".join(parts)


def deletion(items: Iterable[tuple[int, int]]) -> bytes:
    """The update that deletes (client, clock) each."""
    by_client: dict[int, list[int]] = {}
    for client, clock in items:
        by_client.setdefault(client, []).append(clock)
    return b"\x00" + delete_set(
        (client, _ranges((clock, 1) for clock in sorted(clocks))) for client, clocks in by_client.items()
    )


def updates(
    root: Root,
    clients: Sequence[ClientRow],
    found: Iterable[Slot],
    changes: Iterable[tuple[int, bytes]],
    after: int,
    upto: int,
) -> list[bytes]:
    """The updates of the positions ``after`` + 1 to ``upto``, one each; raises `RecordBroken`."""
    by_id: Mapping[int, ClientRow] = {client.id: client for client in clients}
    made: dict[int, bytes] = dict(changes)
    ordered = sorted(found, key=lambda slot: (slot.position, slot.clock))
    for position, group in groupby(ordered, key=lambda slot: slot.position):
        held = list(group)
        client = by_id[held[0].client]
        structs = _structs(root, client, held, {}, [])
        begin = head(len(structs), client.client, held[0].clock)
        made[position] = b"".join((begin, *chain.from_iterable(structs), b"\x00"))
    missing = [position for position in range(after + 1, upto + 1) if position not in made]
    if missing:
        raise RecordBroken(f"nothing is recorded at position {missing[0]}")
    return [made[position] for position in range(after + 1, upto + 1)]
