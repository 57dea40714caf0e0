"""A document that devices write and a relay passes on, and the many ways in which a replica comes by all of it."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from random import Random

from crdtmed import statement
from crdtmed.aggregates.content import decode_content
from crdtmed.aggregates.prescription_draft import DraftWrite, write_key
from crdtmed.replica import Replica
from crdtmed.statement import SignedStatement, Statement
from crdtmed.updates import (
    ItemId,
    Root,
    read_device_update,
    tombstoned,
    write_array_update,
    write_map_update,
    write_state_vector,
)
from tests.strategies import History, device


@dataclass(frozen=True)
class Shared:
    """What a relay has sent of a document, in its order; ``free`` where clients' updates may change places."""

    name: str
    updates: tuple[tuple[int, bytes], ...]
    free: bool


def transactions(history: History, random: Random) -> list[list[SignedStatement]]:
    """Each author's statements in their order, cut into transactions, which come in any order of authors."""
    queues: dict[str, list[list[SignedStatement]]] = {}
    for signed in history.statements:
        queue = queues.setdefault(signed.statement.device, [])
        if queue and random.random() < 0.4:
            queue[-1].append(signed)
        else:
            queue.append([signed])
    order = [author for author, queue in queues.items() for _ in queue]
    random.shuffle(order)
    return [queues[author].pop(0) for author in order]


def share(name: str, history: History, kept: Collection[str], free: bool, random: Random) -> Shared:
    """What a relay sends when the authors push a history: updates as they came, with tombstones for what is not kept.

    A device's base is as far as it has heard; ``free`` devices have heard nothing before they push.
    """
    relay = Replica.open(name, 1)
    clients = {author: at + 2 for at, author in enumerate(sorted({one.statement.device for one in history.statements}))}
    bases = {author: (Replica.open(name, client), [0]) for author, client in clients.items()}
    clocks = dict.fromkeys(clients, 0)
    sent: list[tuple[int, bytes]] = []
    for transaction in transactions(history, random):
        author = transaction[0].statement.device
        base, heard = bases[author]
        if not free and random.random() < 0.5:
            for _, update in sent[heard[0] :]:
                base.apply(update)
            heard[0] = len(sent)
        pushed = push(base, clients[author], clocks[author], transaction)
        keeps = [one.statement.ref in kept for one in transaction]
        read = read_device_update(pushed, relay.document.root, relay.state_vector)
        update = pushed if all(keeps) else tombstoned(read, keeps)
        relay.apply(update)
        sent.append((clients[author], update))
        clocks[author] += len(transaction)
    return Shared(name, tuple(sent), free)


def push(base: Replica, client: int, clock: int, transaction: Sequence[SignedStatement]) -> bytes:
    """The update that a device with this base sends for a transaction."""
    if base.document.root is Root.MAP:
        return write_map_update(client, clock, [(key_of(one.statement), one.encoded) for one in transaction])
    origin = ItemId(client, clock - 1) if clock else base.last_item
    return write_array_update(client, clock, origin, [one.encoded for one in transaction])


def key_of(said: Statement) -> str:
    """The key under which a draft write stands."""
    write = decode_content(said.kind, bytes(said.content))
    assert isinstance(write, DraftWrite)
    return write_key(write, said.device, said.id)


def readers(shared: Shared, random: Random) -> list[Replica]:
    """Replicas that came by it in different ways: in order, twice, as snapshots, as differences, out of order."""
    updates = [update for _, update in shared.updates]
    cut = random.randint(0, len(updates))
    in_order = read_all(Replica.open(shared.name, 50), [one for update in updates for one in (update, update)])
    early = read_all(Replica.open(shared.name, 51), updates[:cut])
    late = read_all(Replica.load(shared.name, 52, early.snapshot(), "e", cut), updates[cut:])
    caught_up = Replica.load(shared.name, 53, early.snapshot(), "e", cut)
    caught_up.apply(in_order.diff(write_state_vector(caught_up.state_vector)))
    from_snapshot = Replica.load(shared.name, 54, late.snapshot(), "e", len(updates))
    overlapping = read_all(Replica.open(shared.name, 55), [early.snapshot(), in_order.snapshot(), early.snapshot()])
    found = [in_order, late, caught_up, from_snapshot, overlapping]
    return [*found, *gossip(shared, random)] if shared.free else found


def read_all(replica: Replica, updates: Iterable[bytes]) -> Replica:
    """The replica with the updates applied."""
    for update in updates:
        replica.apply(update)
    return replica


def gossip(shared: Shared, random: Random) -> list[Replica]:
    """Replicas that each got some clients' updates and then merged with each other, until all have it."""
    found = [Replica.open(shared.name, 60 + at) for at in range(3)]
    by_client: dict[int, list[bytes]] = {}
    for client, update in shared.updates:
        by_client.setdefault(client, []).append(update)
    for client in sorted(by_client, key=lambda _: random.random()):
        for at, replica in enumerate(found):
            if at == client % 3 or random.random() < 0.3:
                read_all(replica, by_client[client][: None if at == client % 3 else random.randint(0, 3)])
    pairs = [(one, other) for one in found for other in found if one is not other]
    random.shuffle(pairs)
    for one, other in pairs + pairs:
        one.apply(other.diff(write_state_vector(one.state_vector)))
    return found


def said_by(replica: Replica) -> list[Statement]:
    """The statements in a document, each with its author's signature checked."""
    found = []
    keys = {device(number).id: device(number).signer.public for number in range(1, 5)}
    for value in replica.values():
        signed = statement.decode(value)
        assert statement.verify(signed, keys[signed.statement.device])
        found.append(signed.statement)
    return found
