"""The state machine, within the time of a test run; ``python -m tests.stateful`` searches for longer."""

import asyncio
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.stateful.machine import Machine
from tests.stateful.ward import make

EXAMPLES, STEPS = 15, 15


def test_whatever_people_do_everything_follows_from_the_record(tmp_path: Path) -> None:
    Machine.template = asyncio.run(make(tmp_path / "template"))
    Machine.base = tmp_path
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            # An example is a hospital of its own: what fails is printed as it is, the long search can make it shorter.
            phases=[Phase.generate],
            report_multiple_bugs=False,
        ),
    )
