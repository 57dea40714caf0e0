"""The clocks of a device, as one thing to hand in."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from crdtmed.leasing import Reading


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Clock:
    """Two clocks in ms: ``wall_ms`` since the Unix epoch, ``monotonic_ms`` from any origin, never set back."""

    wall_ms: Callable[[], int] = _wall_ms
    monotonic_ms: Callable[[], int] = _monotonic_ms

    def reading(self) -> Reading:
        """Both at this instant."""
        return Reading(self.wall_ms(), self.monotonic_ms())


SYSTEM: Final = Clock()
"""The clocks of this machine."""
