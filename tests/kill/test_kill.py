"""A few rounds of the loop that kills; ``make kill ROUNDS=n`` goes on for longer."""

import asyncio
from pathlib import Path

from tests.kill.loop import run

ROUNDS = 3


def test_killed_under_load_nothing_confirmed_is_lost_or_doubled(tmp_path: Path) -> None:
    outcome = asyncio.run(run(tmp_path, ROUNDS, seed=20))
    assert outcome.wrong == []
    assert outcome.rounds == ROUNDS
    assert outcome.relay_kills + outcome.device_kills >= ROUNDS
    assert outcome.said > 20
