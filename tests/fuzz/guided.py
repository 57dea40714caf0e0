"""One target under atheris, guided by which branches an input reaches: ``python -m tests.fuzz.guided TARGET …``.

The rest of the arguments are libFuzzer's.  It runs in a process of its own, since libFuzzer ends the process with it.
"""

import sys
from contextlib import suppress

import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]  # untyped, and not installed everywhere

with atheris.instrument_imports(include=["crdtmed", "relay"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Fuzzes until libFuzzer has had its time, or something crashes."""
    run, allowed = TARGETS[sys.argv[1]]

    def once(data: bytes) -> None:
        with suppress(*allowed):
            run(data)

    atheris.Setup([sys.argv[0], *sys.argv[2:]], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
