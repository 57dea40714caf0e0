"""Devices and a relay at work on one document, as the rules of updates allow it; real pycrdt documents throughout."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

from pycrdt import Array, Doc, Map

from crdtmed.updates import (
    ArrayInsert,
    ItemId,
    Root,
    read_device_update,
    read_relay_update,
    read_state_vector,
    tombstoned,
    write_array_update,
    write_map_update,
)


class Replica:
    """A pycrdt document to which nothing comes that the reader has not accepted."""

    def __init__(self, root: Root, client: int | None = None) -> None:
        self.root = root
        self.doc: Doc[Any] = Doc() if client is None else Doc(client_id=client)
        self.held: Any = self.doc.get(root.value, type=Map if root is Root.MAP else Array)

    @property
    def known(self) -> dict[int, int]:
        return read_state_vector(self.doc.get_state())

    @property
    def content(self) -> dict[str, bytes] | list[bytes]:
        held = self.held.to_py()
        if self.root is Root.MAP:
            return {key: bytes(value) for key, value in (held or {}).items()}
        return [bytes(value) for value in held or []]

    def apply(self, update: bytes) -> None:
        """Reads and applies an update of the relay; it must come whole, with nothing left pending."""
        read = read_relay_update(update, self.root, self.known)
        before = self.known
        self.doc.apply_update(update)
        after = {c: max(before.get(c, 0), read.clients.get(c, (0, 0))[1]) for c in {*before, *read.clients}}
        assert self.known == after

    def last_item(self) -> ItemId | None:
        """The last item of an Array: what pycrdt itself would append behind."""
        fork = Replica(Root.ARRAY, client=2**52)
        fork.doc.apply_update(self.doc.get_update())
        sent: list[bytes] = []
        fork.doc.observe(lambda event: sent.append(event.update))
        fork.held.append(b"probe")
        insert = read_device_update(sent[0], Root.ARRAY).inserts[0]
        assert isinstance(insert, ArrayInsert)
        return insert.origin


@dataclass
class Device:
    """A device: its replica, its client, and where its next insert goes."""

    replica: Replica
    client: int
    clock: int = 0
    seen: int = 0


@dataclass
class History:
    """The relay's document, the updates that it sent in order, and what it accepted."""

    root: Root
    relay: Replica
    sent: list[bytes] = field(default_factory=list)
    accepted: dict[str, bytes] = field(default_factory=dict)
    rows: list[bytes] = field(default_factory=list)

    @property
    def content(self) -> dict[str, bytes] | list[bytes]:
        return self.accepted if self.root is Root.MAP else sorted(self.rows)


def run(root: Root, random: Random, steps: int) -> History:
    """A random history: pushes of several values with some not accepted, several in flight, partial pulls, new
    clients; and on a Map overwrites, deletes and reloads of the relay."""
    client = _clients(random)
    history = History(root, Replica(root, client()))
    devices = [Device(Replica(root), client()) for _ in range(random.randint(1, 4))]
    names = count()
    in_flight: list[bytes] = []
    for _ in range(steps):
        device = random.choice(devices)
        match random.choice(["push", "push", "push", "admit", "admit", "pull", "pull", "restart", "relay", "reload"]):
            case "push":
                in_flight.append(_push(device, random, names))
            case "admit":
                _admit(history, in_flight, random)
            case "pull":
                for update in history.sent[device.seen :][: random.randint(1, 5)]:
                    device.replica.apply(update)
                    device.seen += 1
            case "restart":
                device.client, device.clock = client(), 0
            case "relay" if root is Root.MAP:
                _rewrite(history, random)
            case "reload":
                _reload(history, client())
    while in_flight:
        _admit(history, in_flight, random)
    return history


def _clients(random: Random) -> Callable[[], int]:
    taken: set[int] = set()

    def fresh() -> int:
        while (client := random.getrandbits(random.choice([8, 32, 53]))) in taken:
            pass
        taken.add(client)
        return client

    return fresh


def _push(device: Device, random: Random, names: "count[int]") -> bytes:
    values = [random.randbytes(random.randint(0, 6)) + b"%d" % next(names) for _ in range(random.randint(1, 4))]
    if device.replica.root is Root.MAP:
        # Now and then one statement comes twice, under the key that it had.
        entries = {f"p/dose/d/{next(names) if random.random() < 0.9 else 0}": value for value in values}
        update = write_map_update(device.client, device.clock, list(entries.items()))
        device.clock += len(entries)
        return update
    own = ItemId(device.client, device.clock - 1) if device.clock else None
    update = write_array_update(device.client, device.clock, own or device.replica.last_item(), values)
    device.clock += len(values)
    return update


def _admit(history: History, in_flight: list[bytes], random: Random) -> None:
    """Admits one update in flight, in the order of its client: each value accepted or turned into a tombstone."""
    if not in_flight:
        return
    at = random.randrange(len(in_flight))
    known = history.relay.known
    update = read_device_update(in_flight[at], history.root, known)
    if update.clock != known.get(update.client, 0):
        at = next(
            i
            for i, data in enumerate(in_flight)
            if (other := read_device_update(data, history.root)).client == update.client
            and other.clock == known.get(update.client, 0)
        )
        update = read_device_update(in_flight[at], history.root, known)
    data = in_flight.pop(at)
    kept = [random.random() < 0.7 for _ in range(update.length)]
    for index, insert in enumerate(update.inserts):
        if isinstance(insert, ArrayInsert):
            history.rows += [value for value, keep in zip(insert.values, kept, strict=True) if keep]
        elif insert.key in history.accepted or (insert.key == "p/dose/d/0" and random.random() < 0.5):
            kept[index] = False
        elif kept[index]:
            kept[index] = not _once_held(history, insert.key)
            if kept[index]:
                history.accepted[insert.key] = insert.value
    done = tombstoned(update, kept)
    assert (done == data) == all(kept)
    history.relay.apply(done)
    history.sent.append(done)


def _once_held(history: History, key: str) -> bool:
    """Whether a key was ever written: a statement that is known already is not inserted again."""
    return any(held == key for sent in history.sent for _, held, _ in read_relay_update(sent, history.root).inserted)


def _rewrite(history: History, random: Random) -> None:
    """The relay writes registers of its own, overwrites them, and deletes entries, in one transaction."""
    sent: list[bytes] = []
    subscription = history.relay.doc.observe(lambda event: sent.append(event.update))
    with history.relay.doc.transaction():
        for _ in range(random.randint(1, 3)):
            register = f"register/{random.randint(0, 3)}"
            history.accepted[register] = history.relay.held[register] = random.randbytes(4)
        for key in sorted(history.accepted):
            if random.random() < 0.15:
                del history.relay.held[key]
                del history.accepted[key]
    history.relay.doc.unobserve(subscription)
    history.sent += sent


def _reload(history: History, client: int) -> None:
    """The relay drops its document and builds it from the snapshot, under a fresh client."""
    again = Replica(history.root, client)
    again.apply(history.relay.doc.get_update())
    history.relay = again
