"""A relay that runs, with devices on real sockets, for one test."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay import verifiers
from relay.app import serving
from relay.service import Service
from tests.relay.service.flushes import Busy
from tests.relay.world import World


class Running:
    """A world whose relay serves on ``port``."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.port = 0
        self.service: Service | None = None

    @asynccontextmanager
    async def up(self, verifiers: int = 0) -> AsyncIterator[Service]:
        """The relay, for as long as the block lasts; may be used again, as a restart."""
        service = self.world.service(verifiers)
        self.service = service
        async with serving(service) as port:
            self.port = port
            yield service
        self.world.live.drop()


@pytest.fixture
def running(tmp_path: Path) -> Running:
    return Running(World(tmp_path / "relay.sqlite"))


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Busy]:
    """A writer that can be held (`occupy`), and processes that are started anew at once."""
    made = Busy()
    monkeypatch.setattr(verifiers, "RESTART_S", 0.0)
    yield made
    made.may.set()
