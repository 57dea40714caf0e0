"""The few files of a device beside its database: written whole or not at all, readable by their owner only.

What lies here is either protected by the passphrase (the keys), sealed to the device (the lease) or signed by it
(everything else), so that a file that somebody changed is noticed when it is read.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crdtmed import keys

OVERWRITE_CHUNK: Final = 1_048_576


@dataclass(frozen=True, slots=True)
class DeviceFiles:
    """Where a device keeps what; one directory, one device."""

    directory: Path

    @property
    def keys(self) -> Path:
        """The key file."""
        return self.directory / "device.keys"

    @property
    def profile(self) -> Path:
        """Whom the device trusts and where its relay is."""
        return self.directory / "device.profile"

    @property
    def lease(self) -> Path:
        """The lease with the sealed database key; gone when it lapsed."""
        return self.directory / "device.lease"

    @property
    def mark(self) -> Path:
        """The high-water mark."""
        return self.directory / "device.mark"

    @property
    def attempts(self) -> Path:
        """Failed PIN attempts."""
        return self.directory / "device.attempts"

    @property
    def wiping(self) -> Path:
        """There while a wipe is under way, so that one that was cut short is finished at the next start."""
        return self.directory / "device.wiping"

    @property
    def database(self) -> Path:
        """The encrypted database."""
        return self.directory / "device.db"

    @property
    def database_files(self) -> tuple[Path, ...]:
        """The database with what SQLite puts beside it."""
        base = self.database
        return (base, *(base.with_name(base.name + suffix) for suffix in ("-wal", "-shm", "-journal")))

    @property
    def in_order_of_destruction(self) -> tuple[Path, ...]:
        """Every file of a device but `wiping`; first those without which the others cannot be read."""
        unfinished = tuple(path.with_name(path.name + ".new") for path in (self.keys, self.lease))
        return (
            *(self.keys, self.lease, *unfinished),
            *self.database_files,
            *(self.attempts, self.mark, self.profile),
        )

    @property
    def others(self) -> tuple[Path, ...]:
        """What else of the device lies there now: what salvaging a database or a cut-short write left behind."""
        known = {*self.in_order_of_destruction, self.wiping}
        return tuple(sorted(path for path in self.directory.glob("device.*") if path not in known and path.is_file()))


class Tampered(ValueError):
    """A file of the device is not as the device wrote it; the message names the file and what to do."""


def write_whole(path: Path, data: bytes) -> None:
    """``data`` as the content of ``path``, durable when this returns; a crash leaves the old content or the new."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_whole(path: Path, most: int) -> bytes | None:
    """The content of ``path``, None where there is no such file; raises `Tampered` for one of more than ``most``
    bytes."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        return None
    if len(data) > most:
        raise Tampered(f"{path.name} has more than {most} bytes, so this device did not write it: enrol it again")
    return data


def write_signed(path: Path, signer: keys.Signer, tag: bytes, body: bytes) -> None:
    """``body``, signed by the device under ``tag``, as the content of ``path``."""
    write_whole(path, signer.sign(tag, body) + body)


def read_signed(path: Path, public: bytes, tag: bytes, most: int) -> bytes | None:
    """The body in ``path``, None where there is no such file; raises `Tampered` unless the device signed it."""
    data = read_whole(path, most + keys.SIGNATURE_BYTES)
    if data is None:
        return None
    body = data[keys.SIGNATURE_BYTES :]
    if not keys.verify(public, tag, body, data[: keys.SIGNATURE_BYTES]):
        raise Tampered(f"{path.name} was not written by this device, or was changed: connect it to the relay")
    return body


def destroy(path: Path, random_bytes: Callable[[int], bytes]) -> None:
    """Overwrites ``path`` in place, makes that durable, and removes it; nothing happens where there is none.

    On flash storage overwriting may leave old blocks behind; what makes the data unreadable is that its key is gone.
    """
    with suppress(FileNotFoundError):
        with path.open("r+b") as file:
            left = os.fstat(file.fileno()).st_size
            while left > 0:
                chunk = random_bytes(min(left, OVERWRITE_CHUNK))
                file.write(chunk)
                left -= len(chunk)
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
        _sync_directory(path.parent)
