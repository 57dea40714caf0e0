"""Breaks a copy of the code in named ways, and shows what notices: ``python -m tests.mutation [names]``.

The tree itself is never touched.  A mutant that is in none of the code any more is an error: the list has to follow.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Final

from tests.mutation.mutants import MUTANTS, Mutant

ROOT: Final = Path(__file__).resolve().parents[2]
SEEDS: Final = 24
TIMEOUT_S: Final = 900


def copied(to: Path) -> None:
    """The tree, as far as tests need it."""
    for name in ("crdtmed", "relay", "tests"):
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.lock", "Makefile", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, to / name)


def broken(tree: Path, mutant: Mutant) -> None:
    """Puts the mutant into the copy; raises `ValueError` where the code has no such place, or several."""
    path = tree / mutant.path
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: {mutant.path} has {text.count(mutant.old)} places like {mutant.old!r}")
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")


def _run(tree: Path, arguments: list[str]) -> subprocess.CompletedProcess[str] | None:
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None  # what hangs is noticed


def caught_by(tree: Path, mutant: Mutant, seeds: int) -> str | None:
    """The first test that fails, or how many of the seeds; None where nothing notices."""
    for tests in mutant.tests:
        done = _run(tree, ["pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", tests])
        if done is None:
            return f"{tests} (it hangs)"
        if done.returncode:
            failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED tests", "ERROR tests"))]
            return failed[0].split(" - ")[0] if failed else f"{tests} (exit {done.returncode})"
    done = _run(tree, ["tests.simulation", "--seeds", str(seeds), "--no-shrink", "--workers", "1"])
    if done is None:
        return "the simulation (it hangs)"
    if not done.returncode:
        return None
    last = (done.stdout.splitlines() or ["{}"])[-1]
    return f"{len(json.loads(last)['failures'])} of {seeds} seeds" if last.startswith("{") else "the simulation"


def tried_on_a_copy(mutant: Mutant, seeds: int) -> tuple[bool, str]:
    """Whether anything notices the mutant in a copy of the tree, and what."""
    with tempfile.TemporaryDirectory(prefix="crdtmed-mutant-") as folder:
        tree = Path(folder)
        copied(tree)
        try:
            broken(tree, mutant)
        except ValueError as error:
            return False, f"{error}: write the mutant anew"
        caught = caught_by(tree, mutant, seeds)
    return caught is not None, caught or "SURVIVES"


def main() -> int:
    """Tries the mutants that the arguments name, or all; 1 where one survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="mutants at a time")
    given = parser.parse_args()
    survivors: list[str] = []
    wanted = [mutant for mutant in MUTANTS if not given.names or mutant.name in given.names]
    with ThreadPoolExecutor(given.workers) as pool:
        tried = {pool.submit(tried_on_a_copy, mutant, given.seeds): mutant for mutant in wanted}
        for done in as_completed(tried):
            caught, says = done.result()
            print(f"{tried[done].name}: {says}", flush=True)
            if not caught:
                survivors.append(tried[done].name)
    print(json.dumps({"mutants": len(wanted), "caught": len(wanted) - len(survivors), "survivors": survivors}))
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
