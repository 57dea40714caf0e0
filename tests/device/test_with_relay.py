"""A device against the real relay on a bad link, and killed: nothing is lost, nothing is doubled."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from crdtmed.contract import Kind
from crdtmed.device.engine_types import Standing
from tests.device.bad_link import bad_link
from tests.device.ward_tablet import LOG, given
from tests.scenarios.hospital import Hospital, play

STATEMENTS = int(os.environ.get("CRDTMED_STATEMENTS", "300"))
"""How many the killed tablet says; a shift's 2,000 takes some minutes."""


@asynccontextmanager
async def tablet(folder: Path, port: int, seed: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """The tablet as a process, killed at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.device.ward_tablet",
        str(folder),
        str(port),
        str(seed),
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("seed", [1])
def test_a_tablet_killed_at_random_moments_on_a_bad_link_loses_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    random = Random(seed)

    async def story(hospital: Hospital) -> None:
        await hospital.device("ward-1", "nia", patients=["p1"], sites=["ward"], key_file=True)
        await hospital.retire("ward-1")
        said: list[str] = []
        kills = 0
        async with bad_link(hospital.port, seed) as (link, port):
            while len(said) < STATEMENTS:
                async with tablet(hospital.folder / "ward-1", port, random.randrange(10**6)) as process:
                    assert process.stdout is not None
                    lives = random.randrange(1, max(2, STATEMENTS // 4))
                    first = (await process.stdout.readline()).decode().split()
                    assert first[:1] == ["shown"], "it starts again after every kill"
                    assert set(said) <= set(first[1:]), "what was durable is shown after the restart"
                    for _ in range(lives):
                        word, ref = (await process.stdout.readline()).decode().split()
                        assert word == "said"
                        said.append(ref)
                    kills += 1
            link.bad = False
        device = await hospital.reopen("ward-1")
        await hospital.synced("ward-1")
        desk = await hospital.device("desk", "nia", patients=["p1"], sites=["ward"])
        for one in (device, desk):
            entries = await one.engine.statements(LOG)
            refs = [entry.ref for entry in entries]
            assert len(refs) == len(set(refs))
            assert set(said) <= set(refs)
            assert len(refs) <= len(said) + kills * 64, "only what was durable and not yet told is more"
            assert all(entry.standing is Standing.CONFIRMED for entry in entries)
        mine, theirs = [await one.engine.statements(LOG) for one in (device, desk)]
        assert {entry.signed.encoded for entry in mine} == {entry.signed.encoded for entry in theirs}
        numbers = sorted(entry.statement.number for entry in mine)
        assert numbers == list(range(1, len(numbers) + 1)), "numbers have no gap"
        assert not await device.inbox()

    play(tmp_path, story)


def test_a_shift_of_2000_statements_arrives_whole_and_in_few_frames(tmp_path: Path) -> None:
    async def story(hospital: Hospital) -> None:
        device = await hospital.device("ward-1", "nia", patients=["p1", "p2"], sites=["ward"])
        await device.disconnect()
        refs: dict[str, set[str]] = {"p1": set(), "p2": set()}
        for number in range(2_000):
            patient = "p1" if number % 3 else "p2"
            content = given(number, device.engine.core.relay_now())
            said = await device.engine.say(Kind.ADMINISTER, f"patient/{patient}/log", content)
            refs[patient].add(said.ref)
        await device.connect()
        await hospital.synced("ward-1")
        desk = await hospital.device("desk", "nia", patients=["p1", "p2"], sites=["ward"])
        for patient, expected in refs.items():
            assert {entry.ref for entry in await desk.engine.statements(f"patient/{patient}/log")} == expected
            assert {entry.ref for entry in await device.engine.statements(f"patient/{patient}/log")} == expected
        await desk.engine.verify()
        assert desk.engine.status().unverified == 0

    play(tmp_path, story)
