"""What this device said and no base has yet, and what of it is to be sent next.  In memory; the store has the same.

In order within a scope; trouble in one scope never blocks another.  A statement is *waiting*, *flying* (sent, without
a verdict) or *judged* (it leaves when the base reaches the position of its verdict).
"""

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from crdtmed.contract import Kind, needs_challenge
from crdtmed.device.store import Said
from crdtmed.documents import is_request
from crdtmed.limits import MAX_STRUCTS_PER_UPDATE, MAX_UPDATE_BYTES, PUSH_STATEMENTS, RETRY_FIRST_MS, RETRY_MOST_MS
from crdtmed.statement import Statement
from crdtmed.verdict import Verdict

_AROUND: Final = 160
"""Bytes that an update spends on one value beside the value itself: its key, its lengths."""
_AT_ONCE: Final = frozenset({Kind.STOP, Kind.HOLD})
"""Requests that wait for nothing that was said before them."""


class Phase(Enum):
    """Where a statement of the outbox is."""

    WAITING = "waiting"
    FLYING = "flying"
    JUDGED = "judged"


@dataclass(slots=True, eq=False)
class Item:
    """A statement of the outbox.

    ``not_before`` (device's clock, ms) is when it may be sent again, ``awaits`` what it waits for meanwhile,
    ``segment`` the one that the relay named for it, ``document`` where it was last pushed, ``alone`` that it travels
    alone because a push with it was malformed, ``strikes`` how often the relay closed the conversation over it alone,
    ``stale`` that it must be signed again under a fresh challenge, ``renewing`` that this is under way,
    ``challenged`` in which conversation and when (device's clock, ms) its challenge was given, ``judged_in`` in which
    conversation its verdict came (0: in none since the start).
    """

    said: Said
    ref: str
    scope: str
    phase: Phase = Phase.WAITING
    verdict: Verdict | None = None
    attempts: int = 0
    not_before: int = 0
    awaits: str | None = None
    segment: str | None = None
    document: str | None = None
    strikes: int = 0
    alone: bool = False
    stale: bool = False
    renewing: bool = False
    challenged: tuple[int, int] = (0, 0)
    judged_in: int = 0

    @property
    def statement(self) -> Statement:
        """What was said."""
        return self.said.signed.statement


@dataclass(slots=True, eq=False)
class Parcel:
    """What travels together: statements of one document in one update, or (``document`` None) one request."""

    document: str | None
    items: list[Item] = field(default_factory=list)
    size: int = 0

    def takes(self, item: Item) -> bool:
        """Whether ``item`` may come into this parcel."""
        if item.alone or self.items[-1].alone or self.size + _size(item) > MAX_UPDATE_BYTES:
            return False
        same_bundle = item.said.bundle == self.items[-1].said.bundle
        return len(self.items) < (MAX_STRUCTS_PER_UPDATE if same_bundle else PUSH_STATEMENTS)

    def add(self, item: Item) -> None:
        """Puts ``item`` in."""
        self.items.append(item)
        self.size += _size(item)


def _size(item: Item) -> int:
    return len(item.said.signed.encoded) + _AROUND


def scope_of(target: str) -> str:
    """The scope of a document or log: ``patient/<id>``, ``site/<id>``, or the name itself."""
    return "/".join(target.split("/")[:2])


def back_off(attempts: int, fraction: float) -> int:
    """Milliseconds to wait before the next attempt: doubled each time, bounded, with jitter.

    ``fraction`` in 0..1 is random; half of the delay is.
    """
    delay = min(RETRY_MOST_MS, RETRY_FIRST_MS << min(attempts, 16))
    return int(delay * (0.5 + fraction / 2))


Route = Callable[[Item], str | None]
"""The document that an item is pushed into now; None while that is not known.  Not asked of requests."""


class Outbox:
    """The outbox in memory, in order of numbers."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.not_before = 0
        self.careful = False
        self._waiting: dict[int, Item] = {}
        self._unsettled: dict[str, dict[int, Item]] = {}
        self._by_target: dict[str, dict[str, Item]] = {}
        self._by_value: dict[bytes, Item] = {}
        self._awaiting: dict[str, Item] = {}
        self._challenged: dict[str, Item] = {}
        self._flights: dict[int, dict[str, Item]] = {}
        self._flight_of: dict[str, int] = {}
        self._next_flight = 0
        self._unordered = False

    def __len__(self) -> int:
        return len(self.items)

    def add(self, said: Said, verdict: Verdict | None = None) -> Item:
        """Takes a statement in; a final ``verdict`` makes it judged."""
        of = said.signed.statement
        item = Item(said, of.ref, scope_of(of.document), verdict=verdict)
        self.items[item.ref] = item
        self._by_target.setdefault(of.document, {})[item.ref] = item
        self._by_value[said.signed.encoded] = item
        if needs_challenge(of.kind):
            self._challenged[item.ref] = item
        if verdict is not None and verdict.final:
            item.phase = Phase.JUDGED
        else:
            self._waiting[of.number] = item
            self._unsettled.setdefault(item.scope, {})[of.number] = item
        return item

    def admitted(self, values: Iterable[bytes]) -> list[Item]:
        """Those whose bytes are among ``values``."""
        if not self._by_value:
            return []
        return [item for value in values if (item := self._by_value.get(value)) is not None]

    @property
    def awaits_others(self) -> bool:
        """Whether some wait for the statement of another."""
        return bool(self._awaiting)

    def of(self, target: str) -> Iterable[Item]:
        """The items of a document or log, in the order of their numbers."""
        return self._by_target.get(target, {}).values()

    def remove(self, ref: str) -> None:
        """Takes a statement out, whatever its phase."""
        item = self.items.pop(ref)
        self._by_target[item.statement.document].pop(ref)
        self._by_value.pop(item.said.signed.encoded, None)
        self._challenged.pop(ref, None)
        self._settle(item)

    def replace(self, item: Item, said: Said) -> None:
        """The same statement signed again, perhaps under another number."""
        self._land(item)
        self._waiting.pop(item.statement.number, None)
        self._unsettled.get(item.scope, {}).pop(item.statement.number, None)
        self._by_value.pop(item.said.signed.encoded, None)
        item.said = said
        self._by_value[said.signed.encoded] = item
        item.stale = False
        item.phase = Phase.WAITING
        self._waiting[said.number] = item
        self._unsettled.setdefault(item.scope, {})[said.number] = item
        self._unordered = True

    def judged(self, item: Item, verdict: Verdict) -> None:
        """A final verdict came."""
        self._settle(item)
        item.phase = Phase.JUDGED
        item.verdict = verdict

    def again(self, item: Item, verdict: Verdict | None, not_before: int, awaits: str | None = None) -> None:
        """It is to be sent again, not before that time."""
        self._land(item)
        item.phase = Phase.WAITING
        item.verdict = verdict
        item.not_before = not_before
        item.awaits = awaits
        if awaits is None:
            self._awaiting.pop(item.ref, None)
        else:
            self._awaiting[item.ref] = item
        self._waiting[item.statement.number] = item
        self._unordered = True

    def all_again(self, where: Callable[[Item], bool] = lambda item: True) -> list[Item]:
        """Whatever flies lands and waits again, where ``where`` holds; gives those."""
        landed = [item for item in self.items.values() if item.phase is Phase.FLYING and where(item)]
        for item in landed:
            self._land(item)
            item.phase = Phase.WAITING
            self._waiting[item.statement.number] = item
        self._unordered = True
        return landed

    def arrived(self, refs: Container[str]) -> None:
        """What some statements wait for has come: they may be sent at once."""
        for item in [item for item in self._awaiting.values() if item.awaits in refs]:
            item.awaits, item.not_before = None, 0
            del self._awaiting[item.ref]

    @property
    def in_flight(self) -> int:
        """How many parcels have no verdict yet."""
        return len(self._flights)

    def flying(self) -> list[Item]:
        """The statements that were sent and have no verdict."""
        return [item for items in self._flights.values() for item in items.values()]

    def waiting(self) -> Iterable[Item]:
        """The statements that are to be sent, in order."""
        return self._waiting.values()

    def challenged(self) -> list[Item]:
        """The statements among these that carry a challenge of the relay."""
        return [item for item in self._challenged.values() if item.phase is Phase.WAITING]

    def pick(self, now_ms: int, room: int, route: Route) -> list[Parcel]:
        """What to send now, at most ``room`` parcels, in order; `sent` tells that they went."""
        parcels: list[Parcel] = []
        if now_ms < self.not_before:
            return parcels
        self._in_order()
        if self.careful:
            room = min(room, 1 - self.in_flight)
        last: dict[str, Parcel] = {}
        for item, document in self._sendable(now_ms, route):
            open_parcel = last.get(item.scope)
            fits = open_parcel is not None and document is not None and open_parcel.document == document
            if open_parcel is not None and fits and not self.careful and open_parcel.takes(item):
                open_parcel.add(item)
                continue
            if len(parcels) >= room:
                break
            parcel = Parcel(document)
            parcel.add(item)
            parcels.append(parcel)
            last[item.scope] = parcel
        return parcels

    def sent(self, parcel: Parcel) -> None:
        """A parcel went out."""
        flight = self._next_flight
        self._next_flight += 1
        self._flights[flight] = {item.ref: item for item in parcel.items}
        for item in parcel.items:
            item.phase = Phase.FLYING
            item.document = parcel.document
            item.attempts += 1
            item.awaits = None
            self._awaiting.pop(item.ref, None)
            self._flight_of[item.ref] = flight
            self._waiting.pop(item.said.number, None)

    def next_due(self, now_ms: int) -> int | None:
        """When a statement that waits for its time may next be sent (device's clock, ms); None for never."""
        due = [item.not_before for item in self._waiting.values() if item.not_before > now_ms]
        if self.not_before > now_ms and self._waiting:
            due.append(self.not_before)
        return min(due, default=None)

    def _sendable(self, now_ms: int, route: Route) -> Iterator[tuple[Item, str | None]]:
        blocked: set[str] = set()
        for item in self._waiting.values():
            if item.scope in blocked:
                continue
            if item.stale or item.not_before > now_ms:
                # What awaits another's statement may take a day, so it alone waits.
                if item.awaits is None:
                    blocked.add(item.scope)
                continue
            if is_request(item.statement.kind):
                if item.statement.kind in _AT_ONCE or next(iter(self._unsettled[item.scope])) == item.said.number:
                    yield item, None
                continue
            document = route(item)
            if document is None:
                blocked.add(item.scope)
                continue
            yield item, document

    def _settle(self, item: Item) -> None:
        self._land(item)
        self._awaiting.pop(item.ref, None)
        number = item.said.number
        self._waiting.pop(number, None)
        self._unsettled.get(item.scope, {}).pop(number, None)

    def _land(self, item: Item) -> None:
        flight = self._flight_of.pop(item.ref, None)
        if flight is None:
            return
        rest = self._flights[flight]
        del rest[item.ref]
        if not rest:
            del self._flights[flight]

    def _in_order(self) -> None:
        if not self._unordered:
            return
        self._unordered = False
        self._waiting = dict(sorted(self._waiting.items()))
        for scope, items in self._unsettled.items():
            self._unsettled[scope] = dict(sorted(items.items()))
