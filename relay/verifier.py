"""A process that checks signatures for a relay and does nothing else: ``python -m relay.verifier``.

Standard input is a socket, on which questions come and answers go (`relay.checks`).  It knows no record, no key but
those it is asked about, writes nothing down, and ends when the relay hangs up, however the relay ends.
"""

import signal
import socket
from typing import Final

from relay.checks import Cutter, answer

READ_BYTES: Final = 262_144


def serve(line: socket.socket) -> None:
    """Answers until the other end hangs up; raises `relay.checks.Garbled` for what is no question."""
    cutter = Cutter()
    while data := line.recv(READ_BYTES):
        for question in cutter.feed(data):
            line.sendall(answer(question))


def main() -> None:
    """Serves on standard input."""
    # Both reach every process of a group or a service at once: the relay then says goodbye first, and hangs up.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=0) as line:
        serve(line)


if __name__ == "__main__":
    main()
