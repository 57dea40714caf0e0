"""Where a service runs its jobs, apart from threads of their own."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


def cores() -> int:
    """On how many cores this process may run."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Ran(Generic[T]):
    """What has run already, to be read as a future that is done; without what a future has for those who wait."""

    value: T | None
    error: Exception | None

    def result(self) -> T | None:
        """What it gave."""
        return self.value

    def exception(self) -> Exception | None:
        """What it raised."""
        return self.error


class Here:
    """Runs what it is given at once, on the thread that gives it."""

    def submit(self, run: Callable[[], T]) -> Ran[T]:
        """Runs it."""
        try:
            return Ran(run(), None)
        except Exception as error:  # noqa: BLE001 - whoever reads what came of it gets it
            return Ran(None, error)
