"""When the writer takes what waits, and how much of it: decisions of values, for `relay.service` to carry out.

A few statements are verified and committed at once, where the loop stands: anything else would take longer.  Where
much waits, other processes check signatures, and the writer takes what is checked, so many statements at a time that
one flush of the disk and one frame for every subscriber serve them all.  Before it waits for answers, it checks some
itself of which nobody was asked; and where none comes for long, it goes on alone for a while.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Final

from crdtmed.limits import MAX_BATCH_STATEMENTS
from relay.jobs import Judge, checked

FEW: Final = 8
"""So many statements are verified and committed on the loop itself while nothing else is written and the disk is quick:
that saves two hops between threads, and asking others takes longer."""
FEW_ALONE: Final = 256
"""So many on a single core, where another thread takes as much time from the loop, and its hand-overs besides."""
MANY: Final = 64
"""So many that are checked are worth a commit."""
PATIENCE_S: Final = 0.003
"""So long after a commit fewer are worth the next one."""
QUICK_S: Final = 0.005
JUDGE_S: Final = 0.0002
"""The disk is quick while the last commit took no longer than this, and that for each of its statements."""
GATHER_S: Final = 0.001
"""So soon after a commit the next one waits for company: a flush of the disk and a frame for every subscriber cost the
same for one statement as for many.  After a pause nothing waits."""
ENOUGH_BYTES: Final = 32_768
"""With so much waiting, the next commit waits no longer."""
LATE_S: Final = 0.02
LATE_TIMES: Final = 3
"""The writer goes on alone once it has waited so long so many times in a row: what one clock says would not do, since
while the relay itself stands still, answers wait that it has not read."""
ALONE_S: Final = 1.0
"""For so long nobody is waited for then."""


class Step(Enum):
    """What the writer does next."""

    ALL = "take what waits, and verify what nobody has"
    CHECKED = "take what is checked"
    HELP = "check some of what nobody was asked about"
    WAIT = "wait for answers"


def is_more(inbox: deque[Judge], than: int) -> bool:
    """Whether more statements wait than so many; an item without any counts as one."""
    for judge in inbox:
        than -= judge.statements or 1
        if than < 0:
            return True
    return False


@dataclass(slots=True)
class Pace:
    """What the next step depends on besides what waits; times are seconds of the loop's clock.

    ``few`` is `FEW` or `FEW_ALONE`; ``quick`` whether the disk is.
    """

    few: int
    quick: bool = True
    committed_s: float = float("-inf")
    late: int = 0
    alone_until_s: float = float("-inf")

    def gathers_s(self, now_s: float, waiting_bytes: int) -> float:
        """How long the next commit waits for company; 0 or less where it does not."""
        return 0.0 if waiting_bytes >= ENOUGH_BYTES else self.committed_s + GATHER_S - now_s

    def patience_s(self, now_s: float) -> float:
        """In how long fewer than `MANY` are worth a commit; 0 or less where they are now."""
        return self.committed_s + PATIENCE_S - now_s

    def step(self, inbox: deque[Judge], now_s: float, unasked: bool) -> Step:
        """What to do about ``inbox``, which is not empty, where other processes check signatures.

        ``unasked``: there are some of which none of them was asked yet.
        """
        if now_s < self.alone_until_s:
            return Step.ALL
        first = inbox[0].check
        if not is_more(inbox, FEW) and (first is None or not first.asked):
            return Step.ALL
        count, every = checked(inbox, MANY)
        if every or count >= MANY or (count and self.patience_s(now_s) <= 0):
            return Step.CHECKED
        return Step.HELP if unasked else Step.WAIT

    def took(self) -> None:
        """The writer has something to do."""
        self.late = 0

    def waited(self, now_s: float, in_vain: bool) -> None:
        """`LATE_S` have passed; ``in_vain``: the writer has nothing to do still."""
        self.late = self.late + 1 if in_vain else 0
        if self.late >= LATE_TIMES:
            self.late, self.alone_until_s = 0, now_s + ALONE_S

    def here(self, count: int, unchecked: int) -> bool:
        """Whether so many statements are judged on the loop itself, with so many signatures still to be checked."""
        return self.quick and (count <= self.few or (unchecked <= FEW and count <= MAX_BATCH_STATEMENTS))

    def committed(self, now_s: float, took_s: float | None, count: int) -> None:
        """A commit of so many statements has ended; ``took_s`` None: it failed."""
        self.committed_s = now_s
        if took_s is not None:
            self.quick = took_s <= QUICK_S + JUDGE_S * count
