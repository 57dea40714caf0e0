"""Disks that fail: power that goes between any two writes, in the middle of a commit, or space that runs out.

A connection is wrapped; what is asked of it goes to the real database until the moment that was drawn.  What a crash
leaves is copied at that moment; what the dying process does after it touches files that nobody opens again.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any


class PowerCut(BaseException):
    """The machine stops here.  No `Exception`, as nothing may carry on after it."""


@dataclass(eq=False)
class Power:
    """Whether a machine runs, and when it stops: after ``writes`` more writes (None: not by itself).

    ``torn`` stops it in the middle of the commit that comes then: a part of the journal is on the disk.
    ``left`` is called once, at the moment of the cut, ``about`` before a commit that will be torn.
    """

    left: Callable[[], None] = lambda: None
    about: Callable[[], None] = lambda: None
    on: bool = True
    writes: int | None = None
    torn: bool = False

    def cut(self) -> None:
        """The power goes now."""
        if self.on:
            self.on = False
            self.left()

    def wrote(self, sql: str) -> None:
        """A statement is about to run; raises `PowerCut` where it never will."""
        if not self.on:
            raise PowerCut
        kind = sql.lstrip().upper()
        if self.writes is None or kind.startswith(("SELECT", "PRAGMA")):
            return
        if self.torn and not kind.startswith("COMMIT"):
            return
        self.writes -= 1
        if self.writes < 0:
            if self.torn:
                self.about()
            else:
                self.cut()
                raise PowerCut

    def after(self, sql: str) -> None:
        """A statement has run."""
        if self.torn and self.writes is not None and self.writes < 0:
            self.cut()
            raise PowerCut


@dataclass(eq=False)
class Disk:
    """A DBAPI connection of a machine that may lose its power."""

    inner: Any
    power: Power
    full: Callable[[], bool] = field(default=lambda: False)
    no_space: Callable[[], Exception] = field(default=lambda: OSError("disk full"))
    fails: Callable[[], bool] = field(default=lambda: False)
    failure: Callable[[], Exception] = field(default=lambda: OSError("the disk fails"))

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Any:
        self.power.wrote(sql)
        if self.fails() and not sql.startswith("ROLLBACK"):
            raise self.failure()
        if self.full() and sql.lstrip().upper().startswith(
            ("INSERT INTO", "INSERT OR R", "UPDATE", "DELETE", "REPLACE")
        ):
            raise self.no_space()  # what inserts nothing where it is there already needs no space
        done = self.inner.execute(sql, parameters)
        self.power.after(sql)
        return done

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Any:
        self.power.wrote(sql)
        if self.full() or self.fails():
            raise self.no_space()
        return self.inner.executemany(sql, parameters)

    def close(self) -> None:
        self.inner.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def copy_database(source: Path, target: Path) -> None:
    """The database with its journal, as they lie there now."""
    for ending in ("", "-wal"):
        beside = source.with_name(source.name + ending)
        goal = target.with_name(target.name + ending)
        if beside.exists():
            shutil.copyfile(beside, goal)
        elif goal.exists():
            goal.unlink()


def tear(running: Path, left: Path, random: Random) -> None:
    """Adds to ``left``, a copy from before a commit, a part of what the commit has written to the journal since."""
    name = running.name + "-wal"
    journal, goal = running.with_name(name), left.with_name(left.name + "-wal")
    before = goal.read_bytes() if goal.exists() else b""
    after = journal.read_bytes() if journal.exists() else b""
    if len(after) > len(before) and after.startswith(before):
        goal.write_bytes(after[: random.randrange(len(before), len(after))])
    elif before:
        goal.write_bytes(before + bytes(random.randrange(40)))
