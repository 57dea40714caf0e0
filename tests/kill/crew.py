"""The processes that are killed: one relay and several devices, each by its process id, and what they said."""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120


@dataclass
class Journal:
    """What the devices told: who said what, and every verdict that they were told."""

    said: dict[str, str] = field(default_factory=dict)
    verdicts: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    lines: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    happened: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, user: str, words: list[str]) -> None:
        """One line of a device's process."""
        self.lines[words[0]] += 1
        match words:
            case ["said", ref]:
                if ref in self.said:
                    self.wrong.append(f"{ref} was said twice")
                self.said[ref] = user
            case ["verdict", ref, status, code]:
                self.verdicts.setdefault(ref, set()).add((status, code))
            case ["unreadable", *says]:
                self.wrong.append(f"the store of {user} cannot be opened: {says}")
            case _:
                pass
        self.happened.set()


@dataclass(eq=False)
class Process:
    """A process that was started here."""

    made: asyncio.subprocess.Process
    reading: "asyncio.Task[None] | None" = None
    settled: dict[str, Any] | None = None
    flushed: bool = False

    async def kill(self) -> None:
        """SIGKILL, to this process alone; it is gone when this returns."""
        with suppress(ProcessLookupError):
            os.kill(self.made.pid, signal.SIGKILL)
        await self.made.wait()
        if self.reading is not None:
            await self.reading

    async def word(self) -> None:
        """A line to it: go on."""
        assert self.made.stdin is not None
        self.made.stdin.write(b"\n")
        await self.made.stdin.drain()


async def start_relay(folder: Path, port_file: Path) -> Process:
    """A relay on ``folder``, on any free port; it listens when this returns."""
    port_file.unlink(missing_ok=True)
    with (folder.parent / "relay.log").open("ab") as log:
        made = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relay.cli", "--folder", str(folder), "serve", "--port-file", str(port_file)),
            cwd=ROOT,
            env={**os.environ, "CRDTMED_RELAY_LISTEN_PORT": "0", "CRDTMED_RELAY_LISTEN_HOST": "127.0.0.1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    return Process(made)


async def start_device(folder: Path, user: str, seed: int, port_file: Path, journal: Journal) -> Process:
    """A device's process; what it says goes into the journal as it comes."""
    with (folder.parent / f"{folder.name}.log").open("ab") as log:
        made = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.kill.device_process", str(folder), user, str(seed), str(port_file)),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=1 << 24,
        )
    it = Process(made)

    async def read() -> None:
        assert made.stdout is not None
        while line := await made.stdout.readline():
            if not line.endswith(b"\n"):
                return  # a line that a kill cut off was never said
            words = line.decode().rstrip("\n").split("\t")
            if words[0] == "settled":
                it.settled = json.loads(words[1])
            it.flushed |= words[0] == "flushed"
            journal.hear(user, words)

    it.reading = asyncio.create_task(read())
    return it
