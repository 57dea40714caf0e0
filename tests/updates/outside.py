"""pycrdt in a process of its own, so that bytes which hang or kill it fail a test and not the test run.

As a module it offers `apply_all`; as a program it reads cases, one JSON value a line, and answers each with
a line.
"""

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pycrdt import Array, Doc, Map

from crdtmed.updates import Root, read_state_vector

HANG_S = 20
"""After so long a case counts as one that never ends; one takes about a millisecond."""
MEMORY_BYTES = 2 << 30


@dataclass(frozen=True)
class Outcome:
    """What became of a document: its live values (by key for a Map), state vector and snapshot; or why it
    failed.
    """

    error: str | None = None
    values: tuple[bytes, ...] = ()
    entries: tuple[tuple[str, bytes], ...] = ()
    state: tuple[tuple[int, int], ...] = ()
    snapshot: bytes = b""
    survives_reload: bool = False


def apply_all(cases: Sequence[tuple[Root, Sequence[bytes]]]) -> list[Outcome]:
    """Applies the updates of each case to an empty document, reading it after each one."""
    outcomes: list[Outcome] = []
    while len(outcomes) < len(cases):
        rest = cases[len(outcomes) :]
        lines = [json.dumps([root.value, [update.hex() for update in updates]]) for root, updates in rest]
        done = subprocess.run(
            [sys.executable, "-m", "tests.updates.outside"],
            input="\n".join(lines),
            capture_output=True,
            text=True,
            timeout=HANG_S * 10,
            cwd=Path(__file__).parents[2],
            check=False,
        )
        answers = done.stdout.splitlines()
        outcomes += [_outcome(json.loads(answer)) for answer in answers]
        if len(answers) < len(rest):
            outcomes.append(Outcome(error=f"the process ended with {done.returncode}: {done.stderr[-200:]}"))
    return outcomes


def _outcome(answer: dict[str, Any]) -> Outcome:
    if "error" in answer:
        return Outcome(error=answer["error"])
    return Outcome(
        values=tuple(bytes.fromhex(value) for value in answer["values"]),
        entries=tuple((key, bytes.fromhex(value)) for key, value in answer["entries"]),
        state=tuple((client, clock) for client, clock in answer["state"]),
        snapshot=bytes.fromhex(answer["snapshot"]),
        survives_reload=answer["same"],
    )


def _run(root: Root, updates: Sequence[str]) -> dict[str, Any]:
    doc, read = _document(root)
    for update in updates:
        doc.apply_update(bytes.fromhex(update))
        read()
    snapshot = doc.get_update()
    again, read_again = _document(root)
    again.apply_update(snapshot)
    entries = read()
    return {
        "values": sorted(value for _, value in entries),
        "entries": entries if root is Root.MAP else [],
        "state": sorted(read_state_vector(doc.get_state()).items()),
        "snapshot": snapshot.hex(),
        "same": sorted(entries) == sorted(read_again()),
    }


def _document(root: Root) -> tuple[Doc[Any], Any]:
    doc: Doc[Any] = Doc()
    if root is Root.MAP:
        held: Map[Any] = doc.get("m", type=Map)
        return doc, lambda: sorted((key, bytes(value).hex()) for key, value in (held.to_py() or {}).items())
    row: Array[Any] = doc.get("a", type=Array)
    return doc, lambda: [("", bytes(value).hex()) for value in (row.to_py() or [])]


def _main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for line in sys.stdin:
        # The default action of the signal ends the process, also while pycrdt holds the interpreter.
        signal.alarm(HANG_S)
        root, updates = json.loads(line)
        try:
            answer = _run(Root(root), updates)
        except BaseException as error:  # noqa: BLE001 - pycrdt's PanicException is no Exception
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
