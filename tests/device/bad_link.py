"""A TCP link on loopback that delays, loses the end of what was sent, and cuts, as a seed says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random


class BadLink:
    """Forwards connections to ``port``; each lives for some thousand bytes, while ``bad``."""

    def __init__(self, port: int, seed: int) -> None:
        self.target = port
        self.bad = True
        self.cuts = 0
        self._random = Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: list[asyncio.StreamWriter] = []

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until it is cut."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._ends.append(writer)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
            self._ends.append(back)
            life = self._random.randrange(1_000, 60_000) if self.bad else 1 << 40
            legs = [asyncio.create_task(self._carry(*leg, life)) for leg in ((reader, back), (there, writer))]
            try:
                await asyncio.wait(legs, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for leg in legs:
                    leg.cancel()
                self.cuts += 1
                back.transport.abort()
        except OSError:
            return  # nobody listens there
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, life: int) -> None:
        with suppress(OSError):
            while data := await source.read(4_096):
                life -= len(data)
                if life < 0:
                    return  # what was read is lost
                if self.bad and self._random.random() < 0.1:
                    await asyncio.sleep(self._random.random() / 100)
                sink.write(data)
                await sink.drain()

    async def close(self) -> None:
        """Cuts whatever is left, and waits until it is."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for end in self._ends:
            end.transport.abort()
        await asyncio.gather(*(end.wait_closed() for end in self._ends), return_exceptions=True)


@asynccontextmanager
async def bad_link(port: int, seed: int) -> AsyncIterator[tuple[BadLink, int]]:
    """A bad link to ``port`` and the port it listens on."""
    link = BadLink(port, seed)
    server = await asyncio.start_server(link.accept, "127.0.0.1", 0)
    try:
        yield link, int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await link.close()
