"""Subscriptions that stand behind: what they lack is read from the record, a chunk at a time, while the peer takes it.

A subscription is behind when it is new, when its peer reads too slowly, and when another process has written
(`relay.fanout`).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

from crdtmed.limits import MAX_DOCUMENTS_PER_FRAME, MAX_SUBSCRIPTIONS, SEND_BUDGET_BYTES
from crdtmed.wire import frames
from crdtmed.wire.frames import Want, encode_frame
from relay.conversing import unread, unread_all
from relay.fanout import BEHIND
from relay.jobs import Read
from relay.reading import Answers

if TYPE_CHECKING:
    from relay.connection import Connection
    from relay.hub import Hub


def subscribe(hub: Hub, connection: Connection, wants: Iterable[Want]) -> None:
    """Subscribes a connection to documents, and reads what it lacks of them; a document asked for again counts once."""
    for want in wants:
        more = not hub.fanout.wants(connection.id, want.document)
        if more and hub.fanout.count(connection.id) >= MAX_SUBSCRIPTIONS:
            hub.close(connection, "too_many_subscriptions", f"at most {MAX_SUBSCRIPTIONS} documents")
            return
        hub.fanout.want(connection.id, want.document)
        connection.wants[want.document] = want  # what it asks last is what it has now
    read_wants(hub, connection)


def unsubscribe(hub: Hub, connection: Connection, documents: Iterable[str]) -> None:
    """No more of these, nor what it still lacks of them."""
    documents = tuple(documents)
    hub.fanout.unwant(connection.id, documents)
    for document in documents:
        connection.wants.pop(document, None)


def read_wants(hub: Hub, connection: Connection) -> None:
    """Reads for a connection what it lacks, one chunk at a time, while it takes what is sent."""
    if connection.reading or not connection.wants or connection.peer.waiting() > SEND_BUDGET_BYTES // 2:
        return
    wants = list(islice(connection.wants.values(), MAX_DOCUMENTS_PER_FRAME))
    for want in wants:
        del connection.wants[want.document]
    connection.reading = True

    def then(answers: Answers) -> None:
        connection.reading = False
        left = wants[len(answers.each) :]
        still = {want.document: want for want in left if hub.fanout.wants(connection.id, want.document)}
        connection.wants = still | connection.wants
        if connection.id in hub.connections:
            _answered(hub, connection, answers)
            read_wants(hub, connection)

    hub.reads.append(
        Read(
            lambda reader: reader.answers(connection.device, wants), then, lambda error: unread(hub, connection, error)
        )
    )


def _answered(hub: Hub, connection: Connection, answers: Answers) -> None:
    out: list[bytes] = []
    bases = []
    runs = []
    for answer in answers.each:
        if not hub.fanout.wants(connection.id, answer.document):
            continue
        if answer.document in connection.wants:
            continue  # it has asked again meanwhile, and until that is answered it is behind
        if answer.refused is not None:
            hub.fanout.unwant(connection.id, (answer.document,))
            out.append(encode_frame(frames.Evicted(answer.document, answer.refused)))
            continue
        if answer.base is not None:
            bases.append(answer.base)
        if answer.run is not None:
            runs.append(answer.run)
        more = hub.fanout.caught(connection.id, answer.document, answer.epoch, answer.position)
        if more is not None:
            connection.wants[answer.document] = Want(answer.document, *more)
    if bases:
        out.append(encode_frame(frames.Bases(tuple(bases), answers.digests, len(connection.wants))))
    if runs:
        out.append(encode_frame(frames.Changes(tuple(runs))))
    if out:
        hub.write(connection, out)


def drop(hub: Hub, connection: Connection, runs: Iterable[tuple[str, int]]) -> None:
    """A slow reader: its queue for these documents is dropped, and it gets what it lacks once it has read."""
    for document, first in runs:
        hub.counts.dropped += 1
        behind(hub, connection.id, document, first - 1)


def behind(hub: Hub, number: int, document: str, position: int) -> None:
    """A subscription is behind from ``position`` on, and reads what it lacks."""
    connection = hub.connections.get(number)
    if connection is None:
        return
    held = hub.fanout.drop(number, document)
    epoch = held[0] if held is not None else hub.fanout.standing.get(document, ("", 0))[0]
    connection.wants.setdefault(document, Want(document, epoch, position))
    read_wants(hub, connection)


def catch_up(hub: Hub) -> None:
    """Another process has written: whoever stands behind the record reads on from there."""

    def then(positions: dict[str, int]) -> None:
        for number, held in list(hub.fanout.at.items()):
            connection = hub.connections.get(number)
            if connection is None:
                continue
            for document, position in list(held.items()):
                if position != BEHIND and position < positions.get(document, 0):
                    epoch, _ = hub.fanout.drop(number, document) or ("", 0)
                    connection.wants.setdefault(document, Want(document, epoch, position))
            hub.drained(connection, hub.now_ms)

    hub.reads.append(Read(lambda reader: reader.positions(), then, unread_all))
