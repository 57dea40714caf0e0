"""The relay on the network: Starlette's routes, the websocket, and uvicorn under both."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from crdtmed.codec import encode
from crdtmed.limits import ENROLMENT_TIMEOUT_S, MAX_ENROLLING, MAX_ENROLMENT_BYTES
from crdtmed.wire.enrolment import BadEnrolment, Enrol, Enrolled, NotEnrolled, read_enrol
from relay.batch import Batch
from relay.own_documents import write_directory
from relay.service import Service
from relay.socket import sync_protocol

MSGPACK: Final = "application/msgpack"
HTTP_S: Final = float(ENROLMENT_TIMEOUT_S)
"""No device waits for longer to be enrolled."""


class BriefHttp(H11Protocol):
    """HTTP/1.1 on a connection that ends after `HTTP_S`, unless it has become a websocket.

    uvicorn waits for a request without an end, and each connection takes one of the files that the process may open.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it too
        super().connection_made(transport)
        self.loop.call_later(HTTP_S, self._end)

    def _end(self) -> None:
        if self in self.connections:
            self.transport.abort()


def build_app(service: Service, more: Sequence[BaseRoute] = ()) -> Starlette:
    """The HTTP side: ``POST /enrol``, ``GET /healthz``, and ``more`` routes of the caller's."""
    enrolling = asyncio.Semaphore(MAX_ENROLLING)

    async def enrol(request: Request) -> Response:
        # Whoever sends slowly does so at their own expense: what is limited begins when everything is here.
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_ENROLMENT_BYTES:
                    return _answer(NotEnrolled("malformed", f"more than {MAX_ENROLMENT_BYTES} bytes"), 413)
            asked = read_enrol(bytes(body))
        except (BadEnrolment, ClientDisconnect) as error:
            return _answer(NotEnrolled("malformed", str(error)), 400)
        if enrolling.locked():
            return _answer(NotEnrolled("busy", "too many devices enrol at once: try again in a minute"), 503)
        async with enrolling:
            answer = await _enrol(service, asked)
        return _answer(answer, 200 if isinstance(answer, Enrolled) else 403)

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok", "connections": len(service.hub.connections)})

    return Starlette(routes=[Route("/enrol", enrol, methods=["POST"]), Route("/healthz", healthz), *more])


async def _enrol(service: Service, asked: Enrol) -> Enrolled | NotEnrolled:
    identity = service.identity
    check = await service.write(lambda batch: identity.enrol_begin(batch.record.connection, asked, batch.now_ms))
    if isinstance(check, NotEnrolled):
        return check
    try:
        matched = await service.slow(check.matches)
    except MemoryError:
        return NotEnrolled("busy", "the relay has no memory left to compare the code: try again in a minute")

    def finish(batch: Batch) -> Enrolled | NotEnrolled:
        made = identity.enrol_finish(batch.record.connection, check, matched, batch.now_ms, batch.random)
        write_directory(batch)
        return made

    try:
        return await service.write(finish)
    except ValueError as error:
        # Nothing was written, the code is as good as before but for an attempt.
        return NotEnrolled("malformed", f"no lease can be sealed to these keys: {error}")


def _answer(answer: Enrolled | NotEnrolled, status: int) -> Response:
    return Response(encode(answer), status_code=status, media_type=MSGPACK)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one.  Raises `OSError` where it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(2_048)
    except OSError:
        made.close()
        raise
    return made


def server_of(
    service: Service,
    more: Sequence[BaseRoute] = (),
    tls_certificate: Path | None = None,
    tls_key: Path | None = None,
) -> uvicorn.Server:
    """uvicorn, ready to `serve` on sockets that `listen` made; its log is the caller's business."""
    return uvicorn.Server(
        uvicorn.Config(
            build_app(service, more),
            http=BriefHttp,
            ws=sync_protocol(service),  # type: ignore[arg-type]  # it is called like the protocol class that it makes
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            ssl_certfile=tls_certificate,
            ssl_keyfile=tls_key,
            timeout_graceful_shutdown=5,
        )
    )


@asynccontextmanager
async def serving(service: Service, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """Runs the service on a socket for as long as the block lasts; gives the port."""
    listening = listen(host, port)
    server = server_of(service)
    await service.start()
    task = asyncio.ensure_future(server.serve([listening]))
    try:
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.005)
        yield int(listening.getsockname()[1])
    finally:
        await service.stop()
        server.should_exit = True
        await task
        listening.close()
