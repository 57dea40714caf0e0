"""Updates that a relay could send but never would: any struct in any place, as far as the grammar goes and beyond.

References are drawn among clocks that exist, so that most are accepted; some are not.
"""

from collections.abc import Mapping
from random import Random

from crdtmed.updates import Malformed, Root, read_relay_update
from tests.updates.reference import Struct, Update, encode

CLIENTS = (1, 2, 3, 5, 300, 2**32 + 7, 2**53 - 1)


def sequence(random: Random, root: Root, most: int = 8) -> list[bytes]:
    """Updates for an empty document, each of which the reader accepts after those before it."""
    known: dict[int, int] = {}
    out: list[bytes] = []
    for _ in range(random.randint(1, most) * 3):
        made = update(random, root, known)
        data = encode(made)
        try:
            read_relay_update(data, root, known)
        except Malformed:
            continue
        out.append(data)
        known.update({c: max(known.get(c, 0), end) for c, (_, end) in made.spans.items()})
    return out


def update(random: Random, root: Root, known: Mapping[int, int]) -> Update:
    """One update; it may send again what is known, in other pieces."""
    lengths: dict[int, tuple[int, list[int]]] = {}
    for client in sorted(random.sample(CLIENTS, random.choice([1, 1, 2, 3, 4])), reverse=True):
        end = known.get(client, 0)
        first = end if random.random() < 0.8 else random.randint(0, end)
        lengths[client] = first, [random.choice([1, 1, 1, 2, 3]) for _ in range(random.randint(1, 4))]
    ends = {**known, **{c: max(known.get(c, 0), first + sum(n)) for c, (first, n) in lengths.items()}}
    keys = [f"k{i}" for i in range(3)]
    random.shuffle(keys)
    clients = []
    for client, (first, sizes) in lengths.items():
        clock, structs = first, []
        for size in sizes:
            struct = _struct(random, root, size, client, clock, ends, keys)
            structs.append(struct)
            clock += struct.length
        clients.append((client, first, tuple(structs)))
    return Update(tuple(clients), tuple(_deletes(random, ends)))


def _struct(
    random: Random, root: Root, size: int, client: int, clock: int, ends: Mapping[int, int], keys: list[str]
) -> Struct:
    kind = random.random()
    if root is Root.MAP and kind < 0.15:
        return Struct(size, gc=True)
    if root is Root.MAP and kind > 0.4:
        size = 1
    values = None if kind < 0.4 else tuple(random.randbytes(2) for _ in range(size))
    origin = _id(random, client, clock, ends) if random.random() < (0.6 if root is Root.MAP else 0.8) else None
    if root is Root.MAP:
        if origin or not keys:
            return Struct(size, values, keyed=True, origin=origin or (client, max(clock - 1, 0)))
        return Struct(size, values, keyed=True, key=keys.pop(), parent="m")
    right = _id(random, client, clock, ends) if random.random() < 0.25 else None
    return Struct(size, values, origin=origin, right_origin=right, parent=None if origin or right else "a")


def _id(random: Random, client: int, clock: int, ends: Mapping[int, int]) -> tuple[int, int] | None:
    """An item that exists, or will when the update is applied; often the last one of its client."""
    other = random.choice([client, *CLIENTS])
    end = clock if other == client else ends.get(other, 0)
    if not end:
        return None
    return other, random.choice([end - 1, random.randrange(end)])


def _deletes(random: Random, ends: Mapping[int, int]) -> list[tuple[int, tuple[tuple[int, int], ...]]]:
    out = []
    for client, end in sorted(ends.items()):
        ranges, behind = [], 0
        while random.random() < 0.2 and behind < end:
            clock = random.randrange(behind, end)
            behind = random.randint(clock + 1, min(clock + 3, end))
            ranges.append((clock, behind - clock))
        if ranges:
            out.append((client, tuple(ranges)))
    return out
