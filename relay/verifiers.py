"""The processes that check signatures beside the writer: started, fed, and done without where they fail.

Nobody waits for them.  One that dies, hangs or talks nonsense costs what it was asked about, which the writer then
checks itself, and another takes its place; a relay that dies leaves none behind, since each ends when its line does.
"""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, cast

from crdtmed.limits import MAX_AUTOMATIC, MAX_OPEN
from relay.checks import Check, Garbled, Line, Part, next_share, next_unasked
from relay.logs import event

RESTARTS: Final = 8
"""Processes that are started anew in a relay's life; then it goes on with those that are left."""
RESTART_S: Final = 1.0
"""After that time, so that what keeps one from starting may pass."""
ANSWER_S: Final = 10.0
"""For so long one may hold a question: some 2 ms of work, and before the first its start."""
COMMAND: Sequence[str] = (sys.executable, "-P", "-m", "relay.verifier")


def how_many(setting: int | None, cores: int) -> int:
    """Processes for a relay on so many cores: what the setting says, else one for each core but the writer's."""
    return min(cores - 1, MAX_AUTOMATIC) if setting is None else setting


def _path() -> str:
    """Where a process looks for its code: first where this very code lies, whatever folder the relay was started in."""
    return os.pathsep.join(filter(None, (str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH"))))


def spawn() -> tuple["subprocess.Popen[bytes]", socket.socket]:
    """A new process, and the relay's end of the line to it; raises `OSError` where there is no room for one."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(  # noqa: S603 - a command of the relay's own
                COMMAND,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": _path()},
            )
        except OSError:
            ours.close()
            raise
    return process, ours


class Verifier(asyncio.Protocol):
    """One process and the line to it."""

    def __init__(self, owner: "Verifiers", process: "subprocess.Popen[bytes]") -> None:
        self.line: Final = Line()
        self.process: Final = process
        self._owner: Final = owner
        self._why = "hung_up"
        self._oldest = 0
        self._waited_s = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._owner.heard()

    def data_received(self, data: bytes) -> None:
        try:
            self.line.receive(data)
        except Garbled:
            self._owner.ended(self, "garbled")
        else:
            self._owner.heard()

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.ended(self, self._why)

    @property
    def connected(self) -> bool:
        """Whether there is a line to it."""
        return self._transport is not None

    @property
    def free(self) -> bool:
        """Whether it takes another question."""
        return self.connected and self.line.open < MAX_OPEN

    def ask(self, share: tuple[Part, ...]) -> None:
        """Asks about a share."""
        assert self._transport is not None
        self._transport.write(self.line.ask(share))

    def tick(self, passed_s: float) -> None:
        """So much time has passed; kills the process where one question had no answer for `ANSWER_S`.

        The rest follows when its line hangs up, as soon as the process is gone: the loop does not wait for one that
        cannot even be killed.
        """
        oldest = self.line.oldest
        self._waited_s = self._waited_s + passed_s if oldest == self._oldest else 0.0
        self._oldest = oldest
        if oldest and self._waited_s >= ANSWER_S:
            self._why = "unanswered"
            self.process.kill()

    def end(self) -> None:
        """Ends it at once: it holds nothing that could be lost."""
        self.line.hang_up()
        self.process.kill()
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        self.process.wait()


class Verifiers:
    """So many processes, which are asked about ``checks``, the first first; ``heard`` is called when one of them has
    begun, has answered or has ended."""

    def __init__(self, count: int, checks: deque[Check], heard: Callable[[], None]) -> None:
        self.heard: Final = heard
        self._count: Final = count
        self._checks: Final = checks
        self._restarts = RESTARTS
        self._starting: set[asyncio.Task[None]] = set()
        self.all: list[Verifier] = []

    async def start(self) -> None:
        """Starts them on the running loop; one that cannot be is tried again later."""
        for _ in range(self._count):
            await self._start_one()

    def feed(self) -> None:
        """Asks those that are free, as long as there is something to ask."""
        while next_unasked(self._checks) is not None:
            free = [each for each in self.all if each.free]
            if not free:
                return
            min(free, key=lambda each: each.line.open).ask(next_share(self._checks))

    @property
    def some(self) -> bool:
        """Whether there is one that can be asked, or was."""
        return any(each.connected for each in self.all)

    def tick(self, passed_s: float) -> None:
        """So much time has passed for the loop; call it every second or so.

        What a clock says would not do: while the relay itself stands still, answers wait that it has not read.
        """
        for each in self.all:
            each.tick(passed_s)

    def stop(self) -> None:
        """Ends them all."""
        for task in self._starting:
            task.cancel()
        held, self.all = self.all, []
        for each in held:
            each.end()

    def ended(self, verifier: Verifier, why: str) -> None:
        """One is of no use any more: ``garbled``, ``hung_up`` or ``unanswered``."""
        if verifier in self.all:
            self.all.remove(verifier)
            verifier.end()
            self.heard()
            self._again(why)

    def _again(self, why: str) -> None:
        event("verifier_ended", logging.WARNING, code=why, count=self._restarts)
        if self._restarts:
            self._restarts -= 1
            task = asyncio.ensure_future(self._start_later())
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _start_later(self) -> None:
        await asyncio.sleep(RESTART_S)
        await self._start_one()

    async def _start_one(self) -> None:
        try:
            process, line = spawn()
        except OSError:
            self._again("not_started")
            return
        verifier = Verifier(self, process)
        self.all.append(verifier)
        await asyncio.get_running_loop().create_unix_connection(lambda: verifier, sock=line)
