"""The live board of a day: devices beside the story, a bar for the whole; plain lines where there is no terminal."""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from crdtmed.device.device import Device
from crdtmed.device.engine_types import DeviceError

STORY_LINES: Final = 18


class Board:
    """Shows a day.  ``devices`` gives the devices to show, by name; nothing here changes them."""

    def __init__(self, console: Console, devices: Callable[[], dict[str, Device]]) -> None:
        self._console = console
        self._devices = devices
        self._story: deque[str] = deque(maxlen=STORY_LINES)
        self._began = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        )
        self._acts = self._bar.add_task("the day", total=1)
        self._act = self._bar.add_task("this act", total=None)
        self._live = (
            Live(self, console=console, refresh_per_second=4, redirect_stderr=False) if console.is_terminal else None
        )

    def __enter__(self) -> "Board":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def acts(self, total: int) -> None:
        """How many acts the day has."""
        self._bar.update(self._acts, total=total)

    def act_done(self) -> None:
        """One act is over."""
        self._bar.advance(self._acts)
        self._bar.reset(self._act, total=None)

    def goal(self, total: int) -> None:
        """How many steps the act under way has."""
        self._bar.reset(self._act, total=total)

    def step(self, count: int) -> None:
        """So many steps of the act are done."""
        self._bar.advance(self._act, count)

    def tell(self, line: str) -> None:
        """One line of the story."""
        self._story.append(line)
        if self._live is None:
            at = f"[{time.monotonic() - self._began:6.1f} s]"
            self._console.print(f"{at} {line}", highlight=False, markup=False, soft_wrap=True)

    def __rich__(self) -> Group:
        sides = Table.grid(expand=True, padding=(0, 1))
        sides.add_column(ratio=1)
        sides.add_column(ratio=1)
        story = Text("\n".join(self._story), overflow="fold")
        sides.add_row(Panel(self._table(), title="devices"), Panel(story, title="what happens"))
        return Group(sides, self._bar)

    def _table(self) -> Table:
        table = Table(expand=True, box=None)
        for name in ("device", "network", "outbox", "conflicts", "lag"):
            table.add_column(name, justify="left" if name in ("device", "network") else "right", no_wrap=True)
        for name, device in self._devices().items():
            table.add_row(name, *row_of(device))
        return table


def row_of(device: Device) -> tuple[str, str, str, str]:
    """How a device stands: network, outbox, what waits in its inbox for a person, and how old its cache is."""
    try:
        report = device.status().report
    except DeviceError:
        report = None
    if report is None:
        return ("wiped", "", "", "")
    network = "revoked" if report.revoked else "online" if report.connected else "offline"
    live = report.connected and report.behind == 0
    lag = "0 s" if live else "?" if report.synced_at is None else lag_text(report.relay_ms - report.synced_at)
    return (network, str(report.outbox), str(report.inbox), lag)


def lag_text(lag_ms: int) -> str:
    """A length of time in its two largest units: ``4 h 2 min``."""
    seconds = max(0, lag_ms) // 1000
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"
