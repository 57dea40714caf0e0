"""A relay's folder and an operator."""

from pathlib import Path

import pytest

from tests.relay.cli.desk import Desk


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    """An operator at a folder where nothing is yet."""
    monkeypatch.setenv("CRDTMED_RELAY_LISTEN_PORT", "0")
    return Desk(tmp_path / "relay", capsys, monkeypatch)


@pytest.fixture
def ready(desk: Desk) -> Desk:
    """An operator whose relay is set up, with two sites."""
    assert desk.run("init").status == 0
    for site in ("ward", "pharm"):
        desk.json("site", "add", site, "--name", site.title(), "--address", "1 Way", "--zone", "Europe/Berlin")
    return desk
