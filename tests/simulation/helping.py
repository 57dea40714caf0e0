"""The processes of a history that check the relay's signatures: what runs in them, on virtual time, with its troubles.

Each answers a little later, much later, in pieces, with nonsense, or never; some die with what they were asked, and
some cannot be started.  What they answer is what the real ones do.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Final
from unittest.mock import patch

from crdtmed.limits import MAX_OPEN
from relay import checks, pace
from relay.checks import Cutter, answer

START_S: Final = 0.3
NONSENSE: Final = b"\xff\xff\xff\xffnot a frame"


@dataclass(frozen=True)
class Help:
    """So many processes, with ``trouble`` in so many of a hundred questions; the others are the relay's limits."""

    processes: int
    trouble: float
    few: int
    many: int
    share: int
    questions: int


ALONE: Final = Help(0, 0.0, pace.FEW, pace.MANY, checks.SHARE, MAX_OPEN)
"""Nobody helps."""


def drawn(seed: int) -> Help:
    """The help of a seed: with limits as small as a history's pushes, so that they come into play."""
    random = Random(f"help {seed}")
    return Help(
        random.choice((0, 1, 1, 2)),
        random.choice((0.0, 0.0, 5.0, 40.0)),
        random.choice((pace.FEW, 1, 0, 0)),
        random.choice((pace.MANY, 2, 4)),
        random.choice((checks.SHARE, 1, 2)),
        random.choice((MAX_OPEN, 1, 2)),
    )


@dataclass(eq=False)
class Helpers:
    """Starts processes; ``seen`` counts their troubles."""

    help: Help
    random: Random
    seen: Counter[str] = field(default_factory=Counter)

    def spawn(self) -> tuple["Process", "Process"]:
        """A process, and the line to it, in one; raises `OSError` where there is no room for one."""
        if self._trouble():
            self.seen["verifier_not_started"] += 1
            raise OSError("no room for another process")
        made = Process(self)
        return made, made

    def _trouble(self) -> bool:
        return self.random.random() * 100 < self.help.trouble

    def next(self) -> str:
        """What becomes of the next question."""
        if not self._trouble():
            return "answers"
        what = self.random.choice(("late", "hangs", "dies", "garbles"))
        self.seen[f"verifier_{what}"] += 1
        return what

    @contextmanager
    def seams(self) -> Iterator[None]:
        """Puts them in the place of real ones."""
        limits = {
            "relay.pace.FEW": self.help.few,
            "relay.service.FEW": self.help.few,
            "relay.pace.MANY": self.help.many,
            "relay.checks.SHARE": self.help.share,
            "relay.verifiers.MAX_OPEN": self.help.questions,
            "relay.verifiers.spawn": self.spawn,
        }
        with ExitStack() as stack:
            for name, value in limits.items():
                stack.enter_context(patch(name, value))
            yield


class Process:
    """One of them: a process to kill and bury, and the transport that its line is for the relay."""

    def __init__(self, owner: Helpers) -> None:
        self._owner = owner
        self._random = owner.random
        self._cutter = Cutter()
        self._loop = asyncio.get_running_loop()
        self._protocol: asyncio.Protocol | None = None
        self._at = 0.0
        self._hangs = False
        self._gone = False

    async def connected(self, protocol: asyncio.Protocol) -> None:
        """It has started, and hears what is asked from now on."""
        self._protocol = protocol
        protocol.connection_made(self)  # type: ignore[arg-type]  # what a line does of a transport

    # ---- the relay's end

    def write(self, data: bytes) -> None:
        """Questions."""
        for question in self._cutter.feed(data):
            self._asked(question)

    def abort(self) -> None:
        """The relay hangs up."""
        self._end()

    def kill(self) -> None:
        """Ends it, whatever it does."""
        self._end()

    def wait(self) -> int:
        """It is gone, and does not stay behind as a zombie."""
        assert self._gone, "whoever buries it has killed it"
        return 0

    # ---- its own

    def _asked(self, question: bytes) -> None:
        what = self._owner.next()
        self._hangs |= what == "hangs"
        if self._hangs or self._gone:
            return
        begun = max(self._at, self._loop.time() + (START_S if not self._at else 0.0))
        self._at = begun + (self._random.uniform(0.05, 3.0) if what == "late" else self._random.uniform(0.0002, 0.008))
        if what == "dies":
            self._loop.call_at(self._at, self._end)
            return
        told = NONSENSE if what == "garbles" else answer(question)
        cut = self._random.randrange(len(told))
        for part in (told[:cut], told[cut:]):
            self._loop.call_at(self._at, self._says, part)

    def _says(self, data: bytes) -> None:
        if not self._gone and data:
            assert self._protocol is not None
            self._protocol.data_received(data)

    def _end(self) -> None:
        if self._gone:
            return
        self._gone = True
        if self._protocol is not None:
            self._loop.call_soon(self._protocol.connection_lost, None)
