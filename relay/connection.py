"""A connection as the hub sees it: a peer that takes messages, and what is still to be sent to it."""

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from crdtmed.wire.frames import Want
from relay.session import Session
from relay.session_events import Event


class Peer(Protocol):
    """A connection as the hub sees it; no method waits or raises."""

    def write(self, messages: list[bytes]) -> None:
        """Sends whole messages, in order."""

    def waiting(self) -> int:
        """Bytes that were written and have not left."""

    def pause(self) -> None:
        """Takes nothing more from the peer."""

    def resume(self) -> None:
        """Takes from the peer again."""

    def close(self, code: str, says: str) -> None:
        """Ends it, after what was written."""


@dataclass(slots=True)
class Connection:
    """One device's connection, with what is still to be sent to it.

    ``wants`` are the documents to be read for it, in order and each once: two answers about one document that were
    read together would not follow one from the other.  ``looked_ms`` is when it was last looked at what it may still
    see (`relay.conversing.look`).  Of what it asks, ``asked`` is under way and ``later`` comes after that.
    """

    id: int
    peer: Peer
    session: Session
    since_ms: int
    public: bytes = b""
    wants: dict[str, Want] = field(default_factory=dict)
    reading: bool = False
    taken: int = 0
    looked_ms: int = 0
    asked: int = 0
    later: deque[Event] = field(default_factory=deque)

    @property
    def device(self) -> str:
        """The device that it is, or says that it is."""
        return self.session.device


@dataclass(slots=True)
class Counts:
    """What the hub has counted since it began, for metrics."""

    connections: int = 0
    frames_in: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    dropped: int = 0
    closes: dict[str, int] = field(default_factory=dict)
