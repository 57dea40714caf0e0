"""One example of the state machine: a ward of its own, and a witness that looks at everything after each step.

After each step whoever can reach the relay settles, and everything that is on record or shown is compared with the
model (`tests.stateful.model`, `tests.stateful.shown`).
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from crdtmed.device.device import Device
from crdtmed.device.engine_types import DeviceError
from tests.scenarios.hospital import PATIENCE_S
from tests.stateful.ward import CREW, Template, Ward, new_folder
from tests.stateful.witness import Witness

TABLET = st.sampled_from(["tablet-1", "tablet-2"])
TILL = st.sampled_from(["till-1", "till-2"])
ANY = st.sampled_from(sorted(CREW))
PICK = st.integers(0, 11)
"""Which of several: what a step picks among is known only when it is taken."""


class Settling(RuleBasedStateMachine):
    """One example; what people do in it are rules of classes that build on this one."""

    template: ClassVar[Template]
    base: ClassVar[Path]
    examples: ClassVar[int] = 0
    steps: ClassVar[int] = 0
    judged: ClassVar[Counter[str]] = Counter()
    slowest_s: ClassVar[float] = 0.0

    def __init__(self) -> None:
        super().__init__()
        type(self).examples += 1
        self.runner = asyncio.Runner()
        self.ward = Ward(self.template, new_folder(self.base))
        self.witness = Witness(self.ward, self.judged)
        self.failed = False
        self.tries: dict[str, int] = {}
        try:
            self.run(self._begin())
        except BaseException:
            self._end()
            raise

    def run(self, act: Coroutine[Any, Any, Any]) -> Any:
        """Does something, in bounded time."""

        async def bounded() -> Any:
            async with asyncio.timeout(2 * PATIENCE_S):
                return await act

        self.failed = True
        done = self.runner.run(bounded())
        self.failed = False
        return done

    async def _begin(self) -> None:
        await self.ward.start()
        for name in CREW:
            await self.ward.open(name)

    # ---- saying -------------------------------------------------------------------------------------------

    def do(
        self, name: str, user: str, act: Callable[[Device], Awaitable[Any]], *expected: str, maybe: str = ""
    ) -> None:
        """Somebody says something on a device, which succeeds, or fails at once with one of the ``expected`` codes.

        With codes expected it must fail, with ``maybe`` it may; then nothing new is in the outbox.
        """

        async def step() -> None:
            device = self.ward.device(name)
            device.use(self.ward.template.grants[name, user])
            before = unsent(device)
            failed, said = await _tried(act(device))
            assert (failed.code if failed else "") in (expected or ("", maybe)), (
                f"{name}: {failed}, expected was {expected}"
            )
            if failed is None:
                self.witness.note(name, said)
            else:
                assert unsent(device) <= before, f"{name} said something in spite of {failed}"

        self.run(step())

    def needs(self, name: str) -> tuple[str, ...]:
        """What a verb that needs the relay fails with."""
        return () if self.ward.reachable(name) else ("needs_relay",)

    # ---- what holds after each step -----------------------------------------------------------------------

    @invariant()
    def everything_follows(self) -> None:
        """The record is allowed by the rules, nothing is lost or doubled, and every device shows what it must."""
        type(self).steps += 1
        begun = self.runner.get_loop().time()
        self.run(self.ward.settle())
        type(self).slowest_s = max(self.slowest_s, self.runner.get_loop().time() - begun)
        self.run(self.witness.compare())

    def _end(self) -> None:
        try:
            self.run(self.ward.end())
        finally:
            self.runner.close()


async def _tried(doing: Awaitable[Any]) -> tuple[DeviceError | None, Any]:
    """The error with which something failed at once, or what came of it."""
    try:
        return None, await doing
    except DeviceError as error:
        return error, None


def unsent(device: Device) -> set[str]:
    """What waits in the outbox of a device."""
    return {one.signed.statement.ref for one in device.outbox()}
