"""Who hears of which document, and up to where: one encoding for all who need the same.

Everything here runs on the loop's thread and writes nothing itself.  A subscription is *live* while it gets every
commit as it comes, and *behind* from when it was asked for, or had to be dropped, until what it lacks was read from
the record.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from crdtmed.wire.frames import Changes, Run, encode_frame
from relay.batch import Change

BEHIND: Final = -1


@dataclass(slots=True)
class Fanout:
    """Subscriptions by document and by connection; ``standing`` is where a document was last spread to."""

    subscribers: dict[str, set[int]] = field(default_factory=dict)
    at: dict[int, dict[str, int]] = field(default_factory=dict)
    standing: dict[str, tuple[str, int]] = field(default_factory=dict)

    def want(self, connection: int, document: str) -> None:
        """A subscription, behind until `caught`."""
        self.at.setdefault(connection, {})[document] = BEHIND
        self.subscribers.setdefault(document, set()).add(connection)

    def unwant(self, connection: int, documents: Iterable[str]) -> None:
        """No more of these."""
        held = self.at.get(connection, {})
        for document in documents:
            if held.pop(document, None) is not None:
                self._leave(connection, document)

    def leave(self, connection: int) -> None:
        """The connection is gone."""
        for document in self.at.pop(connection, {}):
            self._leave(connection, document)

    def _leave(self, connection: int, document: str) -> None:
        held = self.subscribers[document]
        held.discard(connection)
        if not held:
            del self.subscribers[document]
            self.standing.pop(document, None)

    def count(self, connection: int) -> int:
        """How many documents a connection subscribes to."""
        return len(self.at.get(connection, ()))

    def wants(self, connection: int, document: str) -> bool:
        """Whether it subscribes to the document."""
        return document in self.at.get(connection, ())

    def caught(self, connection: int, document: str, epoch: str, position: int) -> tuple[str, int] | None:
        """What the record holds up to ``position`` was sent; None if it is live now, else from where to go on."""
        held = self.at.get(connection)
        if held is None or document not in held:
            return None
        standing = self.standing.get(document)
        if standing is not None and standing[1] > position:
            # It was read before a commit that has been spread since, perhaps to this very one, which asked twice.
            held[document] = BEHIND
            return (epoch, position)
        self.standing[document] = (epoch, position)
        held[document] = position
        return None

    def drop(self, connection: int, document: str) -> tuple[str, int] | None:
        """It could not be sent: the subscription is behind; from where to go on, None if it was behind already."""
        held = self.at.get(connection, {})
        position = held.get(document, BEHIND)
        if position == BEHIND:
            return None
        held[document] = BEHIND
        return (self.standing[document][0] if document in self.standing else "", position)

    def spread(self, changes: Mapping[str, Change]) -> "Spread":
        """What each live subscriber is to be sent of a commit, one frame each; equal ones are one object."""
        needs: dict[int, list[tuple[str, int]]] = {}
        lost: list[tuple[int, str, int]] = []
        for document, change in changes.items():
            subscribers = self.subscribers.get(document)
            if not subscribers:
                continue
            last = change.first + len(change.updates) - 1
            self.standing[document] = (change.epoch, last)
            for connection in subscribers:
                position = self.at[connection][document]
                if position == BEHIND or position >= last:
                    continue
                if position < change.first - 1:
                    lost.append((connection, document, position))
                    self.at[connection][document] = BEHIND
                else:
                    needs.setdefault(connection, []).append((document, position + 1))
                    self.at[connection][document] = last
        return Spread(_frames(changes, needs), lost)


@dataclass(frozen=True, slots=True)
class Spread:
    """A commit's frames: ``frames`` by connection, with the positions before it by document, and ``lost``, those who
    turned out to be behind: connection, document and the position they have."""

    frames: dict[int, tuple[bytes, tuple[tuple[str, int], ...]]]
    lost: list[tuple[int, str, int]]


def _frames(
    changes: Mapping[str, Change], needs: Mapping[int, list[tuple[str, int]]]
) -> dict[int, tuple[bytes, tuple[tuple[str, int], ...]]]:
    encoded: dict[tuple[tuple[str, int], ...], bytes] = {}
    frames: dict[int, tuple[bytes, tuple[tuple[str, int], ...]]] = {}
    for connection, runs in needs.items():
        key = tuple(runs)
        if key not in encoded:
            encoded[key] = encode_frame(
                Changes(tuple(_run(document, first, changes[document]) for document, first in key))
            )
        frames[connection] = (encoded[key], key)
    return frames


def _run(document: str, first: int, change: Change) -> Run:
    return Run(document, change.epoch, first, tuple(change.updates[first - change.first :]))
