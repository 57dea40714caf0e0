"""A device that speaks frames by hand over a real websocket: nothing of `crdtmed.device` is in it."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from crdtmed.limits import MAX_RELAY_FRAME_BYTES
from crdtmed.replica import Replica
from crdtmed.verdict import Verdict, decode_verdict
from crdtmed.wire import frames
from relay.service import Service
from tests.relay.world import Tablet

F = TypeVar("F")
PATIENCE_S = 20


class Ended(Exception):
    """The relay said goodbye; ``code`` is its reason."""

    def __init__(self, code: str, says: str) -> None:
        super().__init__(f"{code}: {says}")
        self.code = code


class Wire:
    """A line into a service without sockets in between: a `ClientConnection` to the probe, a peer to the hub."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._connection = service.opened(self)

    async def send(self, data: bytes) -> None:
        if self._connection is not None:
            self._service.received(self._connection, data)
        await asyncio.sleep(0)

    async def recv(self) -> bytes:
        data = await self._inbox.get()
        if data is None:
            raise Ended("cut", "")
        return data

    def write(self, messages: list[bytes]) -> None:
        for message in messages:
            self._inbox.put_nowait(message)

    def waiting(self) -> int:
        return 0

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def close(self, code: str, says: str) -> None:
        self._inbox.put_nowait(None)

    async def hang_up(self) -> None:
        """Leaves without a word."""
        if self._connection is not None:
            self._service.lost(self._connection)


class Probe:
    """A tablet on the line, at a port or straight in a service.

    It keeps what it subscribed to as replicas, and every verdict that it was given.
    """

    def __init__(self, tablet: Tablet, line: int | Service) -> None:
        self.tablet = tablet
        self._line = line
        self.replicas: dict[str, Replica] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.seen: list[frames.ToDevice] = []
        self.welcome: frames.Welcome | None = None
        self._socket: ClientConnection | Wire | None = None

    async def __aenter__(self) -> "Probe":
        await self.dial()
        await self.shake_hands()
        return self

    async def dial(self) -> None:
        """Connects, and says nothing yet."""
        self._socket = Wire(self._line) if isinstance(self._line, Service) else await _dialled(self._line)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    async def leave(self) -> None:
        """Hangs up."""
        if isinstance(self._socket, Wire):
            await self._socket.hang_up()
        elif self._socket is not None:
            await self._socket.close()

    async def shake_hands(self) -> None:
        """The mutual challenge, up to the welcome (or to the news that the device is out of service)."""
        nonce = self.tablet.random(16)
        await self.send(frames.Hello(frames.PROTOCOL, self.tablet.id, nonce))
        challenge = await self.next_of(frames.Challenge)
        # The last 33 bytes of what both sign are the relay's public key, which the introduction vouches for.
        body = frames.handshake_body(self.tablet.id, nonce, challenge.nonce, self.tablet.relay_public)
        signature = self.tablet.signer.sign(frames.DEVICE_PROOF_TAG, body)
        await self.send(frames.Proof(signature, self.tablet.number, 0))
        frame = await self.next(lambda it: isinstance(it, frames.Welcome | frames.Revoked))
        self.welcome = frame if isinstance(frame, frames.Welcome) else None

    async def send(self, *sent: frames.ToRelay) -> None:
        """Sends frames."""
        for frame in sent:
            await self.raw(frames.encode_frame(frame))

    async def raw(self, data: bytes) -> None:
        """Sends bytes."""
        assert self._socket is not None
        try:
            await self._socket.send(data)
        except ConnectionClosed:
            await self.ended()

    async def ended(self) -> None:
        """Reads on to the goodbye, and raises it."""
        while True:
            await self.receive()

    async def receive(self) -> frames.ToDevice:
        """The next frame; raises `Ended`."""
        assert self._socket is not None
        async with asyncio.timeout(PATIENCE_S):
            try:
                data = await self._socket.recv()
            except ConnectionClosed as closed:
                raise Ended(closed.rcvd.reason if closed.rcvd else "cut", "") from None
        assert isinstance(data, bytes)
        frame = frames.read_from_relay(data)
        self.seen.append(frame)
        self._keep(frame)
        return frame

    def _keep(self, frame: frames.ToDevice) -> None:
        match frame:
            case frames.Bye(code=code, says=says):
                raise Ended(code, says)
            case frames.Verdicts(verdicts=verdicts):
                for data in verdicts:
                    verdict = decode_verdict(data)
                    self.verdicts[verdict.ref] = verdict
            case frames.Bases(documents=documents):
                for state in documents:
                    held = Replica.load(state.document, 1, state.update, state.epoch, state.position)
                    self.replicas[state.document] = held
            case frames.Changes(runs=runs):
                for run in runs:
                    self._run(run)
            case _:
                pass

    def _run(self, run: frames.Run) -> None:
        held = self.replicas.get(run.document)
        if held is None or (held.epoch, held.position) == ("", 0):
            held = self.replicas[run.document] = Replica.open(run.document, 1, run.epoch)
        assert (run.epoch, run.first) == (held.epoch, held.position + 1), (run.document, run.first, held.position)
        for update in run.updates:
            held.apply(update)
            held.position += 1

    async def next(self, wanted: Callable[[frames.ToDevice], bool]) -> frames.ToDevice:
        """The next frame that is wanted; those before it are kept as well."""
        while True:
            frame = await self.receive()
            if wanted(frame):
                return frame

    async def next_of(self, of: type[F]) -> F:
        """The next frame of a type."""
        frame = await self.next(lambda it: isinstance(it, of))
        assert isinstance(frame, of)
        return frame

    async def until(self, reached: Callable[[], bool]) -> None:
        """Receives until something holds."""
        while not reached():
            await self.receive()

    async def subscribe(self, *documents: str) -> None:
        """Subscribes, from where the probe stands, and receives until it has them all."""
        wants = []
        for document in documents:
            held = self.replicas.get(document)
            wants.append(
                frames.Want(document, "", 0) if held is None else frames.Want(document, held.epoch, held.position)
            )
        await self.send(frames.Subscribe(tuple(wants)))
        waiting = set(documents)
        while waiting:
            match await self.receive():
                case frames.Bases(documents=states):
                    waiting -= {state.document for state in states}
                case frames.Changes(runs=runs):
                    waiting -= {run.document for run in runs}
                case frames.Evicted(document=document):
                    waiting.discard(document)

    async def verdict(self, ref: str) -> Verdict:
        """The verdict of a statement."""
        await self.until(lambda: ref in self.verdicts)
        return self.verdicts[ref]

    def values(self, document: str) -> list[bytes]:
        """What the probe holds of a document."""
        return self.replicas[document].values()


async def _dialled(port: int) -> ClientConnection:
    return await connect(
        f"ws://127.0.0.1:{port}/sync", compression=None, max_size=MAX_RELAY_FRAME_BYTES, open_timeout=PATIENCE_S
    )
