"""``python pycrdt_server.py FOLDER PORT``: pycrdt-websocket under uvicorn, each room in its SQLite store."""

import sys
from typing import Any

import uvicorn
from pycrdt.store import SQLiteYStore  # type: ignore[import-not-found]  # a peer is installed only where it is measured
from pycrdt.websocket import (  # type: ignore[import-not-found]  # a peer is installed only where it is measured
    ASGIServer,
    WebsocketServer,
    YRoom,
)


class Store(SQLiteYStore):  # type: ignore[misc]  # not installed where types are checked
    """One file for all rooms."""

    db_path = f"{sys.argv[1]}/rooms.db"


class Rooms(WebsocketServer):  # type: ignore[misc]  # as above
    """Rooms that are stored."""

    async def get_room(self, name: str) -> Any:
        """The room of a path, made at its first client."""
        if name not in self.rooms:
            self.rooms[name] = YRoom(ystore=Store(name), log=self.log)
        await self.start_room(self.rooms[name])
        return self.rooms[name]


ROOMS = Rooms(auto_clean_rooms=False)
WEBSOCKETS = ASGIServer(ROOMS)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI application."""
    if scope["type"] != "lifespan":
        await WEBSOCKETS(scope, receive, send)
        return
    await receive()
    async with ROOMS:
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), loop="uvloop", access_log=False, log_level="warning")
