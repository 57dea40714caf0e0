"""``server_authoritative``: registers that one service writes, versioned and signed by it.

A register counts because of its signature, never because of who carried it; of the registers under one key
the highest version stands.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from crdtmed.codec import encode
from crdtmed.signed import Register

NIL: Final = b"\xc0"
"""The value of a register that was withdrawn: MessagePack nil."""


class Trouble(StrEnum):
    """What an alarm is about."""

    NOT_AUTHENTIC = "not_authentic"
    """Bytes that the service did not sign."""
    MISPLACED = "misplaced"
    """A register of another document."""
    EQUIVOCAL = "equivocal"
    """Two values under one key and version, both signed."""


@dataclass(frozen=True, slots=True, order=True)
class Alarm:
    """Something that an honest service never sends; ``data`` are the bytes, ``key`` and ``version`` if they
    have one.
    """

    trouble: Trouble
    key: str
    version: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Registers:
    """The registers of a document by key, in the order of keys, and what was wrong.

    ``current`` holds withdrawn registers too: their version keeps an older value from coming back.
    """

    current: Mapping[str, Register]
    alarms: tuple[Alarm, ...]

    @property
    def live(self) -> Mapping[str, Register]:
        """The registers that are not withdrawn."""
        return {key: register for key, register in self.current.items() if not is_withdrawn(register)}


def is_withdrawn(register: Register) -> bool:
    """Whether the register says that there is no longer a value under its key."""
    return bytes(register.value) == NIL


def newer(old: Register | None, new: Register) -> bool:
    """Whether ``new`` replaces ``old``, both of one key: only a higher version ever does."""
    return old is None or new.version > old.version


def fold(document: str, registers: Iterable[bytes], unseal: Callable[[bytes], Register | None]) -> Registers:
    """The registers of ``document`` among ``registers``, the same for any order and repetition.

    ``unseal`` gives the register in signed bytes, or None where the service that may write this document
    did not sign them.  Where two signed values share key and version, the one with the smaller body stands,
    and both are told.
    """
    said: dict[tuple[str, int], dict[bytes, Register]] = defaultdict(dict)
    alarms: list[Alarm] = []
    for data in set(registers):
        register = unseal(data)
        if register is None:
            alarms.append(Alarm(Trouble.NOT_AUTHENTIC, "", 0, data))
        elif register.document != document:
            alarms.append(Alarm(Trouble.MISPLACED, register.key, register.version, data))
        else:
            said[register.key, register.version][data] = register
    current: dict[str, Register] = {}
    for (key, version), values in sorted(said.items(), key=lambda item: item[0]):
        bodies = {encode(register): register for register in values.values()}
        if len(bodies) > 1:
            alarms.extend(Alarm(Trouble.EQUIVOCAL, key, version, data) for data in values)
        least = bodies[min(bodies)]
        if newer(current.get(key), least):
            current[key] = least
    return Registers(current=current, alarms=tuple(sorted(alarms)))
