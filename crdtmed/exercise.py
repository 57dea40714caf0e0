"""The clock of an exercise: the machine's, plus so many milliseconds as a file says.

The file holds one signed integer of eight bytes, little-endian.  Whoever runs an exercise sets it ahead; every process
that reads it (relay, devices, operator's commands) then stands at the same time, and nothing sleeps.  For exercises
alone: who may write the file sets the time.
"""

import mmap
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

_OFFSET: Final = struct.Struct("<q")


class ExerciseClock:
    """The clock that the file at ``path`` sets; raises `OSError` or `ValueError` where it is no such file."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR)
        try:
            if os.fstat(descriptor).st_size != _OFFSET.size:
                raise ValueError(f"{path} is no clock of an exercise: it has to hold {_OFFSET.size} bytes")
            self._offset = mmap.mmap(descriptor, _OFFSET.size)
        finally:
            os.close(descriptor)

    @classmethod
    def create(cls, path: Path) -> "ExerciseClock":
        """Makes the file, at the machine's own time."""
        path.write_bytes(_OFFSET.pack(0))
        return cls(path)

    @property
    def ahead_ms(self) -> int:
        """By how much it is ahead of the machine's clock."""
        ahead: int = _OFFSET.unpack_from(self._offset)[0]
        return ahead

    def advance(self, by_ms: int) -> None:
        """Sets it ahead; raises `ValueError` for less than nothing."""
        if by_ms < 0:
            raise ValueError("the clock of an exercise is only ever set ahead")
        _OFFSET.pack_into(self._offset, 0, self.ahead_ms + by_ms)

    def wall_ms(self) -> int:
        """Its time, milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000 + self.ahead_ms

    def monotonic_ms(self) -> int:
        """Milliseconds that never go back, ahead by as much."""
        return time.monotonic_ns() // 1_000_000 + self.ahead_ms


def clock_from(path: Path | None) -> Callable[[], int]:
    """The time in milliseconds: the machine's, or an exercise's; raises as `ExerciseClock`."""
    if path is None:
        return lambda: time.time_ns() // 1_000_000
    return ExerciseClock(path).wall_ms
