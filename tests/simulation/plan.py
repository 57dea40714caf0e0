"""What happens in a history, drawn from its seed before it begins: a list, so that parts of it can be left out.

Swarm testing: every seed has its own mix of moves, faults and how often they come; many have none of most of them.
"""

from dataclasses import dataclass, replace
from math import inf
from random import Random
from typing import Final

from crdtmed.limits import BASE_CACHE_BYTES, LIVE_DOCUMENTS, LIVE_REGISTERS
from tests.simulation.helping import Help, drawn
from tests.simulation.people import MOVES
from tests.simulation.rogue import ATTACKS
from tests.simulation.setting import DEVICES, WORKS

NETWORK: Final = ("cut", "half_open", "mute", "deaf", "offline", "slow", "storm")
DEVICE: Final = ("reboot", "power", "power_write", "torn", "disk_full", "disk_fails", "skew", "copy", "put_back")
RELAY: Final = (
    "relay_kill",
    "relay_stop",
    "relay_power_write",
    "relay_torn",
    "relay_full",
    "backup",
    "restore",
    "knowledge",
)
OPERATOR: Final = ("revoke", "revoke_now")
FAULTS: Final = (*NETWORK, *DEVICE, *RELAY, *OPERATOR)


@dataclass(frozen=True)
class Op:
    """Something that happens ``at_s`` seconds after the beginning: what, to which device, and what it draws from."""

    index: int
    at_s: float
    what: str
    device: str
    salt: int

    def random(self) -> Random:
        """What this operation draws from; leaving others out changes nothing in it."""
        return Random(f"{self.salt}")


@dataclass(frozen=True)
class Plan:
    """A history: who takes part, for how long, and what happens, in order."""

    seed: int
    devices: tuple[str, ...]
    hours: float
    ops: tuple[Op, ...]
    knowledge_trouble: float
    send_budget: int
    drift: tuple[float, ...]
    renewal_s: int
    live_documents: int
    live_registers: int
    base_cache: int
    quick_s: float
    cores: int
    help: Help

    def only(self, kept: frozenset[int]) -> "Plan":
        """The same with nothing happening but these operations."""
        ops = tuple(op for op in self.ops if op.index in kept)
        return replace(self, ops=ops)


def plan(seed: int, *, brief: bool = False) -> Plan:
    """The history of a seed; a ``brief`` one has two devices, for half an hour at most, and the same troubles."""
    random = Random(f"{'brief' if brief else 'plan'} {seed}")
    devices = tuple(sorted(random.sample(DEVICES, 2 if brief else random.choice((2, 3, 3, 4)))))
    hours = random.uniform(0.1, 0.5) if brief else random.uniform(1, 6)
    weights = {name: random.choice((0.0, 0.5, 1.0, 3.0)) for name in MOVES}
    weights["draft"] = max(1.0, weights["draft"])
    weights["sign"] = max(1.0, weights["sign"])
    faults = [name for name in FAULTS if random.random() < 0.35]
    if "restore" in faults and "backup" not in faults:
        faults.append("backup")
    attacks = [name for name in ATTACKS if random.random() < 0.3]
    moves = random.randrange(6, 25) if brief else random.randrange(25, 110)
    wanted = random.choices(list(weights), list(weights.values()), k=moves)
    happens = [
        *wanted,
        *random.choices(faults, k=random.randrange(2, 8 if brief else 25) if faults else 0),
        *random.choices(attacks, k=random.randrange(1, 4 if brief else 12) if attacks else 0),
    ]
    times = sorted(_bursts(random, hours * 3_600, len(happens)))
    random.shuffle(happens)
    ops = tuple(
        Op(index, at, what, _where(random, what, devices), random.getrandbits(48))
        for index, (at, what) in enumerate(zip(times, happens, strict=True))
    )
    return Plan(
        seed,
        devices,
        hours,
        ops,
        random.choice((0.0, 0.0, 0.3)),
        random.choice((4_194_304, 4_194_304, 20_000, 3_000)),
        tuple(random.choice((0.0, 0.0, 1e-5, -1e-5, 1e-4)) for _ in devices),
        60 if {"revoke", "revoke_now"} & {op.what for op in ops} else 300,
        random.choice((LIVE_DOCUMENTS, LIVE_DOCUMENTS, 6, 2)),
        random.choice((LIVE_REGISTERS, LIVE_REGISTERS, 8, 2)),
        random.choice((BASE_CACHE_BYTES, BASE_CACHE_BYTES, 8_000)),
        random.choice((inf, -1.0)),
        random.choice((1, 2)),
        drawn(seed),
    )


def _where(random: Random, what: str, devices: tuple[str, ...]) -> str:
    """Mostly where somebody works who may do this."""
    able = [name for name in devices if what in MOVES and set(MOVES[what][1]) & set(WORKS[name])]
    return random.choice(able if able and random.random() < 0.95 else devices)


def _bursts(random: Random, length_s: float, count: int) -> list[float]:
    """Times in bursts: people and troubles come together."""
    found: list[float] = []
    while len(found) < count:
        at = random.uniform(20, length_s)
        for _ in range(random.choice((1, 1, 3, 8))):
            found.append(at)
            at += random.choice((0.0, 0.01, 0.3, 5.0, 60.0)) * random.random()
    return found[:count]
