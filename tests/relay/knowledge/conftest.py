"""A CDS Hooks service that runs for the tests of a module."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def hooks() -> Iterator[str]:
    """The address of a service in a process of its own; the first part of a path below it says how it behaves."""
    script = Path(__file__).with_name("hooks_service.py")
    with subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = int(process.stdout.readline())
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.stdin.close()
            process.wait(20)
