"""What came of a service's jobs, on its loop again: each result to whoever waits for it, and to the log what has to be.

What came of a commit of statements is `relay.service`'s own, which times it.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, TypeVar

from crdtmed.ids import split_ref
from relay.hub import Hub
from relay.items import Outcome
from relay.jobs import Read, Slow
from relay.logs import NAME, event

LOG: Final = logging.getLogger(NAME)

T = TypeVar("T")


def did_read(results: list[tuple[Read, Any]] | None, error: BaseException | None) -> None:
    """Reads are done, each with its result or what it raised (`relay.jobs.read_all`)."""
    if results is None:
        LOG.error("reading failed", exc_info=error)
        return
    for read, result in results:
        if isinstance(result, Exception):
            LOG.error("a read failed", exc_info=result)
            read.failed(result)
        else:
            read.then(result)


def did_slow(slow: Slow, result: Any, error: BaseException | None) -> None:
    """A slow job is done."""
    if error is None:
        slow.then(result)
        return
    LOG.error("a slow job failed", exc_info=error)
    if isinstance(error, Exception):
        slow.failed(error)


def did_write(hub: Hub, results: Any, error: BaseException | None) -> None:
    """Tasks are done (`relay.writer.Writer.tasks`): first everybody hears of what they changed."""
    if results is None:
        LOG.error("tasks failed", exc_info=error)
        return
    for write, result, failure, outcome in results:
        if outcome is not None:
            hub.settled((), outcome)
        if failure is not None:
            LOG.warning("a task failed: %s", type(failure).__name__)
            write.failed(failure)
        else:
            write.then(result)


def looked(hub: Hub, outcome: Outcome | None, error: BaseException | None) -> None:
    """The writer has looked for what other processes have written; there is an outcome where they have."""
    if error is not None:
        LOG.error("looking for other processes' writes failed", exc_info=error)
    elif outcome is not None:
        hub.settled((), outcome)


def log_judged(outcome: Outcome) -> None:
    """Logs the judgements: what was admitted only for those who look closely."""
    for ref, document, status, code in outcome.told:
        accepted = status == "accepted"
        if not accepted or LOG.isEnabledFor(logging.DEBUG):
            level = logging.DEBUG if accepted else logging.INFO
            device = split_ref(ref)[0]
            event("judged", level, statement=ref, device=device, document=document, verdict=status, reason=code)


def settle(future: asyncio.Future[T]) -> Callable[[T], None]:
    """Gives a result to whoever waits for it, if anybody still does."""
    return lambda result: None if future.done() else future.set_result(result)


def fail(future: asyncio.Future[T]) -> Callable[[Exception], None]:
    """Raises there what went wrong."""
    return lambda error: None if future.done() else future.set_exception(error)
