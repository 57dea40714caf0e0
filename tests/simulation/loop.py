"""Time that passes only when nobody has anything to do, and an executor that runs at once.

Everything of a simulation happens on this loop, in one thread: what comes first is decided by the loop's queue and by
virtual time, so that a history happens again exactly.
"""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class _Selector(selectors.SelectSelector):
    """Waits for nothing: where no file is ready, the clock jumps to the next timer."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nobody has anything to do and no timer runs: this history would wait for ever")
        if timeout > 0:
            self.loop.virtual_s += timeout
        return []


class _Inline(ThreadPoolExecutor):
    """Runs what it is given at once, in the caller's thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - whoever waits for it gets it
            done.set_exception(error)
        return done


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that is as fast as its work; ``virtual_s`` is its time in seconds."""

    def __init__(self) -> None:
        self.virtual_s = 0.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)
        self.set_default_executor(_Inline(1))

    def time(self) -> float:
        return self.virtual_s

    async def create_unix_connection(  # type: ignore[override]  # of its many arguments the one that is used
        self, protocol_factory: Callable[[], Any], *, sock: Any
    ) -> tuple[Any, Any]:
        # The other end lives in the same history: whatever stands for the line knows it.
        protocol = protocol_factory()
        await sock.connected(protocol)
        return sock, protocol

    def call_soon_threadsafe(  # type: ignore[override]  # typeshed ties the arguments to the callback
        self, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        # There is one thread, and nobody to wake.
        return self.call_soon(callback, *args, context=context)
