"""The shortest history that still fails: operations are left out as long as the same kind of thing goes wrong."""

import re
from collections.abc import Sequence
from typing import Final

from tests.simulation.history import play
from tests.simulation.plan import plan

PLAYS: Final = 60
"""So many histories are played for one seed."""


def shrunk(seed: int, plays: int = PLAYS, *, brief: bool = False) -> tuple[frozenset[int], tuple[str, ...]]:
    """The operations that are enough to make the seed fail as it does, and its complaints; at most ``plays`` plays."""
    whole = plan(seed, brief=brief)
    kept = [op.index for op in whole.ops]
    first = play(whole)
    if not first.complaints:
        return frozenset(kept), ("it did not fail again",)
    wanted, left, complaints = _kinds(first.complaints), plays, first.complaints
    size = max(1, len(kept) // 2)
    while left > 0:
        without = 0
        while without < len(kept) and left > 0:
            tried = kept[:without] + kept[without + size :]
            left -= 1
            found = play(whole.only(frozenset(tried))).complaints
            if _kinds(found) & wanted:
                kept, complaints = tried, found
            else:
                without += size
        if size == 1:
            break
        size = max(1, size // 2)
    return frozenset(kept), complaints


def _kinds(complaints: Sequence[str]) -> set[str]:
    """What complaints are about, without what differs from one history to the next."""
    return {re.sub(r"[a-z2-7]{8}\.[a-z2-7]{16}|[a-z2-7]{16}|\d+|0x\w+", "#", one)[:80] for one in complaints}
