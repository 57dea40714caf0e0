"""What the relay's one writer does: verify, judge and commit, one batch after the other.

Synchronous, without a thread of its own: `relay.service` runs it on the writer's, or for a few statements on the loop.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from relay.commit import commit_batch
from relay.identity.port import Identity, RandomBytes
from relay.items import Outcome, Task
from relay.jobs import Judge, Write, verified
from relay.live import Live
from relay.storage.port import Record

Done = tuple[Write, Any, Exception | None, Outcome | None]
"""A task, its result or what it raised, and for the first of a commit what that has to tell."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of items that were committed together: an outcome, or what it failed of."""

    judges: Sequence[Judge]
    outcome: Outcome | None
    error: BaseException | None
    took_s: float


@dataclass(frozen=True, slots=True)
class Writer:
    """The record, what the writer keeps in memory of it, and what judging needs; one thread at a time uses it."""

    record: Record
    live: Live
    identity: Identity
    now: Callable[[], int]
    random: RandomBytes

    def verify_and_commit(self, judges: Sequence[Judge]) -> list[Committed]:
        """Checks every signature, and judges what is signed by its author."""
        return self.commit([verified(judge) for judge in judges])

    def at_once(self, judges: Sequence[Judge]) -> list[Committed] | None:
        """Verifies and commits; None where another process is writing, for which the loop does not wait."""
        ready = [verified(judge) for judge in judges]
        return self.commit(ready, begun=True) if self.record.try_begin() else None

    def commit(self, judges: Sequence[Judge], begun: bool = False) -> list[Committed]:
        """All in one commit; where that fails, each in its own, so that what cannot be judged fails alone.

        ``begun``: the transaction is open already.
        """
        began = time.monotonic()
        forged = {judge.item.connection for judge in judges if not judge.publics}
        items = [judge.item for judge in judges if judge.item.connection not in forged]
        try:
            outcome = commit_batch(self.record, self.live, items, self.identity, self.now(), self.random, begun=begun)
        except Exception as error:  # noqa: BLE001 - told to whom it concerns, on the loop
            if len(judges) > 1:
                return [committed for judge in judges for committed in self.commit([judge])]
            return [Committed(judges, None, error, 0.0)]
        outcome.closes.update(dict.fromkeys(forged, ("bad_signature", "a statement is not signed by its author")))
        return [Committed(judges, outcome, None, time.monotonic() - began)]

    def tasks(self, writes: Sequence[Write]) -> list[Done]:
        """All in one commit; where one of them raises, each in its own."""
        done: list[Done] = []
        if len(writes) > 1:
            with contextlib.suppress(Exception):
                outcome = self._together(writes)
                for number, write in enumerate(writes):
                    done.append((write, outcome.results[number], None, outcome if number == 0 else None))
                return done
        for write in writes:
            try:
                outcome = self._together([write])
            except Exception as error:  # noqa: BLE001 - it is given to whom it concerns
                done.append((write, None, error, None))
            else:
                done.append((write, outcome.results[0], None, outcome))
        return done

    def _together(self, writes: Sequence[Write]) -> Outcome:
        tasks = [Task(number, write.run) for number, write in enumerate(writes)]
        return commit_batch(self.record, self.live, tasks, self.identity, self.now(), self.random)

    def look(self) -> Outcome | None:
        """What another process has written, if any has."""
        if self.live.version in (None, self.record.others()):
            return None
        return commit_batch(self.record, self.live, (), self.identity, self.now(), self.random)
