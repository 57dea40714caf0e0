"""Fuzzes every reader in turn: ``python -m tests.fuzz --seconds 60``.

Where atheris is installed it guides the search by the branches that an input reaches.  Else inputs are mutations of
the corpus, and one that reaches a new line joins the corpus of the run, so that the search goes on from there.  A
crash is written into ``tests/fuzz/corpus/<target>/``, where the tests read it for ever; with ``--keep`` so is what the
search found to reach more than the corpus did.
"""

import argparse
import faulthandler
import json
import secrets
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Final

from tests.fuzz.engines import GRACE_S, MOST, SMALL, Engine, Fuzzed, guided, has_atheris
from tests.fuzz.seeds import CORPUS, seeds
from tests.fuzz.targets import TARGETS

WEIGHTS: Final = {"store_file": 8, "store_rows": 8}
"""Targets that take some milliseconds an input: they get more of the time than the others.  They are always generated,
since what an input reaches there is mostly SQLCipher's, and guided they are several times slower."""
TRACE_EVERY: Final = 4
"""Looking at lines makes a run several times slower: every so many inputs are looked at."""


def mutated(data: bytes, others: list[bytes], random: Random) -> bytes:
    """A small change of an input: bits, bytes, pieces taken out, doubled, or of another input."""
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(out) + 1)
        match random.randrange(6):
            case 0 if out:
                out[at % len(out)] ^= 1 << random.randrange(8)
            case 1 if out:
                out[at % len(out)] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
            case 2:
                del out[at : at + random.choice((1, 2, 8, 64))]
            case 3:
                out[at:at] = random.randbytes(random.choice((1, 2, 5)))
            case 4:
                piece = bytes(out[at : at + random.randrange(1, 40)])
                out[at:at] = piece
            case _:
                other = random.choice(others)
                start = random.randrange(len(other) + 1)
                out[at:] = other[start:]
    return bytes(out[:MOST])


def lines_of(run: Callable[[bytes], Any], data: bytes, allowed: tuple[type[Exception], ...]) -> set[tuple[str, int]]:
    """Which lines of the software run on an input."""
    found: set[tuple[str, int]] = set()

    def line(frame: FrameType, event: str, _: Any) -> Any:
        if "crdtmed" not in frame.f_code.co_filename and "relay" not in frame.f_code.co_filename:
            return None
        found.add((frame.f_code.co_filename, frame.f_lineno))
        return line

    before = sys.gettrace()
    sys.settrace(line)
    try:
        run(data)
    except allowed:
        pass
    finally:
        sys.settrace(before)
    return found


def generated(name: str, seconds: float, corpus: list[bytes], seed: int) -> Fuzzed:
    """Fuzzes one target with inputs that are made here."""
    run, allowed = TARGETS[name]
    random, begun = Random(f"{seed} {name}"), len(corpus)
    reached, crashes, count = set[tuple[str, int]](), list[bytes](), 0
    until = time.monotonic() + seconds
    while time.monotonic() < until and len(crashes) < 5:
        data = mutated(random.choice(corpus), corpus, random)
        count += 1
        try:
            if count % TRACE_EVERY:
                run(data)
            elif (lines := lines_of(run, data, allowed)) - reached:
                reached |= lines
                corpus.append(data)
        except allowed:
            continue
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of pycrdt is no Exception, and a crash as well
            print(f"{name}: {type(error).__name__}: {error} on {data[:80].hex()}", flush=True)
            crashes.append(data)
    found = tuple(data for data in corpus[begun:] if len(data) <= SMALL)
    return Fuzzed("generated", count, len(reached), tuple(crashes), found)


def keep(name: str, data: bytes) -> Path:
    """Writes an input where the tests read it."""
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    return path


def main() -> int:
    """Fuzzes what the arguments name; 1 where something crashed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    parser.add_argument("--target", choices=sorted(TARGETS), action="append")
    parser.add_argument("--seed", type=int, default=secrets.randbits(31))
    parser.add_argument("--engine", choices=("atheris", "generated"), help="atheris where it is installed")
    parser.add_argument("--keep", type=int, default=0, help="how many of a target's new inputs join the corpus")
    given = parser.parse_args()
    engine = given.engine or ("atheris" if has_atheris() else "generated")
    print(f"inputs are {'guided by atheris' if engine == 'atheris' else 'generated: atheris is not installed'}")
    names, counts, crashed = given.target or sorted(TARGETS), dict[str, int](), list[str]()
    share = given.seconds / sum(WEIGHTS.get(name, 1) for name in names)
    for name in names:
        seconds = share * WEIGHTS.get(name, 1)
        faulthandler.dump_traceback_later(seconds + 2 * GRACE_S, exit=True)  # a hang is told
        fuzz: Engine = guided if engine == "atheris" and name not in WEIGHTS else generated
        done = fuzz(name, seconds, seeds(name), given.seed)
        counts[name] = done.inputs
        crashed += [str(keep(name, data)) for data in done.crashes]
        kept = [keep(name, data) for data in sorted(done.found, key=len)[: given.keep]]
        print(
            f"{name}: {done.inputs} inputs, {done.reached} reached, {len(done.crashes)} crashes, {len(kept)} kept",
            flush=True,
        )
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps({"engine": engine, "seed": given.seed, "inputs": counts, "crashes": crashed}))
    return 1 if crashed else 0


if __name__ == "__main__":
    sys.exit(main())
