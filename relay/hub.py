"""The relay between its connections and its record: events become jobs, outcomes become frames.

All of it runs on one thread and does no I/O of its own: connections are a port, jobs are run by the shell
(`relay.service`), which gives their results back on this thread.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from crdtmed.contract import Kind
from crdtmed.limits import (
    HANDSHAKE_TIMEOUT_MS,
    MAX_CONNECTIONS,
    MAX_INBOX_BYTES,
    MAX_NOTES,
    MAX_UNAUTHENTICATED_CONNECTIONS,
    MAX_WAITING_BYTES,
    ONLINE_LEASE_S,
    SEND_BUDGET_BYTES,
)
from crdtmed.wire import frames
from crdtmed.wire.frames import encode_frame
from relay import catching_up, conversing
from relay.checks import Check
from relay.connection import Connection, Counts, Peer
from relay.fanout import Fanout
from relay.identity.port import Identity, RandomBytes
from relay.items import HandBack, Outcome, Push, Request, Spoken
from relay.jobs import Ask, Judge, Read, Slow, Write, to_judge
from relay.session import Session, State
from relay.session_events import Authenticated, Closed, Event, Pushed, Requested, Said, Unwanted, Wanted

ASKING: Final = frozenset({Kind.SIGN, Kind.AMEND, Kind.RESUME})


class Hub:
    """Connections, subscriptions and waiting work of one relay; ``shared``: other processes may check signatures."""

    def __init__(self, identity: Identity, random: RandomBytes, shared: bool = False) -> None:
        self.shared = shared
        self.identity = identity
        self.random = random
        self.connections: dict[int, Connection] = {}
        self.devices: dict[str, Connection] = {}
        self.strangers: dict[int, Connection] = {}
        self.paused: dict[int, Connection] = {}
        self.fanout = Fanout()
        self.counts = Counts()
        self.now_ms = 0
        self.inbox: deque[Judge] = deque()
        self.inbox_bytes = 0
        self.checks: deque[Check] = deque()
        self.reads: deque[Read] = deque()
        self.writes: deque[Write] = deque()
        self.slow: deque[Slow] = deque()
        self.asks: deque[Ask] = deque()
        self.notes: deque[tuple[str, dict[str, str | int]]] = deque(maxlen=MAX_NOTES)
        self.closing = False
        self._next = 0

    # ---- connections ------------------------------------------------------------------------------------------

    def opened(self, peer: Peer, now_ms: int) -> Connection | None:
        """A new connection; None, and the peer closed, where there are too many."""
        self.now_ms = now_ms
        if self.closing or len(self.connections) >= MAX_CONNECTIONS:
            peer.write([encode_frame(frames.Bye("busy", "this relay takes no more connections now: try again later"))])
            peer.close("busy", "too many connections")
            return None
        if len(self.strangers) >= MAX_UNAUTHENTICATED_CONNECTIONS:
            # The oldest goes: whoever only holds the line cannot keep out a device, which proves itself at once.
            self.close(
                next(iter(self.strangers.values())), "busy", "too many connections wait: prove who you are sooner"
            )
        self._next += 1
        session = Session(self.identity.relay_signer, self.identity.relay_key, self.random)
        connection = self.connections[self._next] = Connection(self._next, peer, session, now_ms)
        self.strangers[self._next] = connection
        self.counts.connections += 1
        return connection

    def received(self, connection: Connection, data: bytes, now_ms: int) -> None:
        """A message of a peer."""
        self.now_ms = now_ms
        self.counts.frames_in += 1
        self.counts.bytes_in += len(data)
        for event in connection.session.receive(data, now_ms):
            self._event(connection, event)
        self.flush(connection)

    def lost(self, connection: Connection) -> None:
        """The connection is gone."""
        self.strangers.pop(connection.id, None)
        self.paused.pop(connection.id, None)
        connection.later.clear()
        if self.connections.pop(connection.id, None) is None:
            return
        self.fanout.leave(connection.id)
        if self.devices.get(connection.device) is connection:
            del self.devices[connection.device]

    def drained(self, connection: Connection, now_ms: int) -> None:
        """What was written to the peer has left, or most of it."""
        self.now_ms = now_ms
        self.let_go(connection)
        catching_up.read_wants(self, connection)

    def proved(self, connection: Connection) -> None:
        """It is the device that it says: it has one connection, the newest, also where it is out of service."""
        self.strangers.pop(connection.id, None)
        former = self.devices.get(connection.device)
        self.devices[connection.device] = connection
        if former is not None and former is not connection:
            self.close(former, "replaced", "the device has connected anew")

    def flush(self, connection: Connection) -> None:
        """Sends what the session has to say."""
        out = connection.session.drain()
        if out and connection.id in self.connections:
            self.write(connection, out)
        if connection.session.state is State.CLOSED:
            self.lost(connection)

    def write(self, connection: Connection, messages: list[bytes]) -> None:
        """Sends messages."""
        self.counts.bytes_out += sum(map(len, messages))
        connection.peer.write(messages)
        self.wrote(connection)

    def wrote(self, connection: Connection) -> None:
        """A peer was written to; one that does not read is not read either, and in the end let go."""
        if connection.peer.waiting() > SEND_BUDGET_BYTES:
            self.pause(connection)
        if connection.peer.waiting() > MAX_WAITING_BYTES:
            self.close(connection, "slow", "too much waits to be read: connect again, and ask again what became of it")

    def send(self, connection: Connection, frame: frames.ToDevice) -> None:
        """Sends a frame, if the connection is still there."""
        if connection.id in self.connections:
            self.write(connection, [encode_frame(frame)])

    def close(self, connection: Connection, code: str, says: str) -> None:
        """Ends a conversation from this side."""
        for event in connection.session.close(code, says):
            self._event(connection, event)
        self.flush(connection)

    def tick(self, now_ms: int) -> None:
        """Closes those who have not said who they are in time, and looks at what those may still see who have long
        renewed no lease, with which others are looked at; call it every second or so."""
        self.now_ms = now_ms
        for connection in list(self.connections.values()):
            known = connection.session.state in (State.OPEN, State.REVOKED)
            if not known and now_ms - connection.since_ms > HANDSHAKE_TIMEOUT_MS:
                self.close(connection, "handshake_timeout", "the handshake was not done in time")
            elif connection.session.state is State.OPEN and now_ms - connection.looked_ms > ONLINE_LEASE_S * 1_000:
                conversing.look(self, connection)

    def stop(self) -> None:
        """No more connections; everybody is told goodbye."""
        self.closing = True
        for connection in list(self.connections.values()):
            self.close(connection, "closing", "the relay stops: connect again later")

    def pause(self, connection: Connection) -> None:
        """Reads nothing more of it until `let_go`."""
        if connection.id in self.connections and connection.id not in self.paused:
            self.paused[connection.id] = connection
            connection.peer.pause()

    def let_go(self, connection: Connection) -> None:
        """Reads it again, unless what it has sent or is to be sent is still too much."""
        if connection.id not in self.paused or connection.later:
            return
        if connection.peer.waiting() <= SEND_BUDGET_BYTES // 2 and self.inbox_bytes < MAX_INBOX_BYTES:
            del self.paused[connection.id]
            connection.peer.resume()

    # ---- events -----------------------------------------------------------------------------------------------

    def _event(self, connection: Connection, event: Event) -> None:
        match event:
            case Pushed(document=document, update=update, raw=raw, said=said):
                self.judge(connection, Push(connection.id, connection.device, document, update, raw, said))
            case Requested(said=said):
                self._request(connection, said)
            case Wanted(wants=wants):
                catching_up.subscribe(self, connection, wants)
            case Unwanted(documents=documents):
                catching_up.unsubscribe(self, connection, documents)
            case Authenticated(device=device):
                self.proved(connection)
                self.notes.append(("connected", {"device": device, "connection": connection.id}))
                conversing.begin(self, connection, event)
            case Closed(code=code, says=says):
                about: dict[str, str | int] = {"device": connection.device, "connection": connection.id, "code": code}
                self.notes.append(("closed", about))
                self.counts.closes[code] = self.counts.closes.get(code, 0) + 1
                connection.peer.write(connection.session.drain())
                connection.peer.close(code, says)
                self.lost(connection)
            case _:
                conversing.ask(self, connection, event)

    def events(self, connection: Connection, events: Iterable[Event]) -> None:
        """Events that came of the shell's own calls on a session."""
        for event in events:
            self._event(connection, event)
        self.flush(connection)

    def judge(self, connection: Connection, item: Spoken, publics: dict[str, bytes] | None = None) -> None:
        """What it says waits to be judged; ``publics`` are its authors' keys, where it is not the device's own."""
        judge = to_judge(item, publics or {connection.device: connection.public}, self.shared)
        self.inbox.append(judge)
        if judge.check is not None:
            self.checks.append(judge.check)
        self.inbox_bytes += judge.size
        if self.inbox_bytes >= MAX_INBOX_BYTES:
            self.pause(connection)

    def _request(self, connection: Connection, said: Said) -> None:
        def ready(it: Said) -> None:
            self.judge(connection, Request(connection.id, connection.device, it))

        if said.signed.statement.kind not in ASKING:
            ready(said)
            return
        conversing.with_knowledge(self, connection, said, ready)

    # ---- outcomes ---------------------------------------------------------------------------------------------

    def settled(self, judged: Iterable[Judge], outcome: Outcome) -> None:
        """What a commit has to tell: verdicts first, then what changed, to whom it concerns."""
        out: dict[int, list[bytes]] = {}
        for judge in judged:
            self.inbox_bytes -= judge.size
            connection = self.connections.get(judge.item.connection)
            if connection is not None and not isinstance(judge.item, HandBack):
                connection.session.answered(1)
        for number, verdicts in outcome.verdicts.items():
            out.setdefault(number, []).append(encode_frame(frames.Verdicts(outcome.now_ms, tuple(verdicts))))
        for number, gaps in outcome.gaps.items():
            told = dict.fromkeys(gaps)
            out.setdefault(number, []).extend(
                encode_frame(frames.Gap(gap.document, gap.client, gap.clock)) for gap in told
            )
        spread = self.fanout.spread(outcome.changes)
        for number, (frame, runs) in spread.frames.items():
            connection = self.connections.get(number)
            if connection is None:
                continue
            if connection.peer.waiting() + len(frame) > SEND_BUDGET_BYTES:
                catching_up.drop(self, connection, runs)
            else:
                out.setdefault(number, []).append(frame)
        for number, messages in out.items():
            connection = self.connections.get(number)
            if connection is not None:
                self.write(connection, messages)
        for number, document, position in spread.lost:
            catching_up.behind(self, number, document, position)
        for number, (code, says) in outcome.closes.items():
            connection = self.connections.get(number)
            if connection is not None:
                self.close(connection, code, says)
        for connection in list(self.paused.values()):
            self.let_go(connection)
        if outcome.external or "directory" in outcome.changes:
            conversing.check_revocations(self)
        if outcome.external:
            catching_up.catch_up(self)

    def failed(self, judged: Iterable[Judge]) -> None:
        """A commit failed: nothing is answered, and who waits for an answer connects anew and sends it again."""
        for judge in judged:
            self.inbox_bytes -= judge.size
            connection = self.connections.get(judge.item.connection)
            if connection is not None:
                self.close(connection, "not_committed", "the relay could not commit: connect and send it again")
