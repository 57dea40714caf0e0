"""People in a hospital, as a Hypothesis state machine: what they do, in any order, on real devices and a real relay."""

from contextlib import nullcontext
from copy import deepcopy

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from crdtmed.device.pin import PinRefused
from tests.stateful.bedside import Bedside
from tests.stateful.conflicts import Conflicts
from tests.stateful.pharmacy import Pharmacy
from tests.stateful.prescribing import Prescribing
from tests.stateful.settling import ANY
from tests.stateful.ward import CREW


class Machine(Prescribing, Bedside, Pharmacy, Conflicts):
    """Everything that people do, while the network, the devices and the relay come and go."""

    @rule(name=ANY, alone=st.booleans())
    def goes_offline(self, name: str, alone: bool) -> None:
        """A device loses the network, by itself or with the other one of its kind."""
        for one in [name] if alone else [it for it in sorted(CREW) if it[:4] == name[:4]]:
            if one in self.ward.wanted:
                self.witness.seen.setdefault(one, deepcopy(self.witness.model))
                self.run(self.ward.disconnect(one))

    @rule(name=ANY)
    def comes_online(self, name: str) -> None:
        """A device has the network again."""
        if name not in self.ward.wanted:
            self.run(self.ward.connect(name))

    @rule(name=ANY)
    def everybody_comes_online(self, name: str) -> None:
        """The network is back for all, one device after the other, beginning with one."""
        if not self.ward.up:
            self.run(self.ward.start())
        for one in sorted(CREW, key=lambda it: (it != name, it)):
            if one not in self.ward.wanted:
                self.run(self.ward.connect(one))

    @rule(name=ANY)
    def is_restarted(self, name: str) -> None:
        """A device is closed and opened from its store."""

        async def restart() -> None:
            await self.ward.close(name)
            await self.ward.open(name)

        self.run(restart())

    @rule()
    def the_relay_goes(self) -> None:
        """The relay is stopped."""
        if self.ward.up:
            for name in CREW:
                self.witness.seen.setdefault(name, deepcopy(self.witness.model))
            self.run(self.ward.stop())

    @rule()
    def the_relay_comes(self) -> None:
        """The relay is started from its database."""
        if not self.ward.up:
            self.run(self.ward.start())

    @rule(name=ANY, right=st.booleans())
    def signs_in_another_user(self, name: str, right: bool) -> None:
        """By PIN, which works offline too, and with another PIN never does; the tries are limited, so few are wrong."""
        right = right or self.tries.get(name, 0) > 2

        async def unlock() -> None:
            device, user = self.ward.device(name), CREW[name][1]
            device.sign_out()
            with nullcontext() if right else pytest.raises(PinRefused):
                await device.unlock(user, f"pin-{user}" if right else "pin-of-nobody")
            assert (device.grant.user if device.grant else None) == (user if right else None)
            self.tries[name] = self.tries.get(name, 0) + (not right)

        self.run(unlock())

    def teardown(self) -> None:
        """Everything comes online and settles: all devices are equal, and everything said is on record."""
        try:
            if not self.failed:  # what failed already is what is told
                self.everybody_comes_online("tablet-1")
                self.everything_follows()
                self.ward.it.same_everywhere()
                self.ward.proved()
                on_record = {row.word.ref for row in self.witness.rows.values()}
                assert self.witness.said.keys() <= on_record, "something that was said is on no record"
        finally:
            self._end()
