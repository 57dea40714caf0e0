"""A relay in a process of its own, on a test world's database: ``python -m tests.relay.relay_process PATH SEED``.

Prints its port, and serves until it is killed.
"""

import asyncio
import sys
from pathlib import Path

import uvloop

from relay.app import serving
from relay.identity.keyring import keyring, new_secrets
from relay.identity.leases import Terms
from relay.service import Service
from tests.relay.world import CHEAP, START, AllClear, seeded


async def main(path: Path, seed: int) -> None:
    """Serves for ever."""
    random = seeded(seed)
    ring = keyring(new_secrets("relay-1", random))
    service = Service(path, ring, Terms(login_cost=CHEAP, pin_cost=CHEAP), AllClear(), lambda: START, random)
    async with serving(service) as port:
        print(port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2])))
