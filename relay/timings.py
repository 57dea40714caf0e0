"""What a running relay counts for those who watch it."""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of a histogram's buckets, in seconds; the last bucket has none."""


@dataclass(slots=True)
class Histogram:
    """How often something took how long."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def observe(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds


@dataclass(slots=True)
class Timings:
    """Commits of statements and their fan-out, commits that failed, the verdicts by status and reason, and the
    signatures by where they were checked."""

    commit: Histogram = field(default_factory=Histogram)
    fan_out: Histogram = field(default_factory=Histogram)
    failed: int = 0
    judged: dict[tuple[str, str], int] = field(default_factory=dict)
    signatures: dict[str, int] = field(default_factory=lambda: {"writer": 0, "verifiers": 0})

    def verified(self, count: int, elsewhere: int) -> None:
        """So many more signatures, ``elsewhere`` of them checked by other processes."""
        self.signatures["writer"] += count - elsewhere
        self.signatures["verifiers"] += elsewhere

    @property
    def commits(self) -> int:
        """How many commits."""
        return sum(self.commit.counts)
