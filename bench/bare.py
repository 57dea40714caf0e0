"""The yardstick: a Starlette websocket that passes every message on to everybody else; no checks, no disk.

``python -m bench.bare PORT``
"""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

CLIENTS: set[WebSocket] = set()


async def everybody(socket: WebSocket) -> None:
    """One client."""
    await socket.accept()
    CLIENTS.add(socket)
    try:
        while True:
            data = await socket.receive_bytes()
            for other in tuple(CLIENTS):
                if other is not socket:
                    await other.send_bytes(data)
    except WebSocketDisconnect:
        pass
    finally:
        CLIENTS.discard(socket)


if __name__ == "__main__":
    uvicorn.run(
        Starlette(routes=[WebSocketRoute("/sync", everybody)]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        access_log=False,
        log_level="warning",
    )
