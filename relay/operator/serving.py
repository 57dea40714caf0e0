"""``crdtmed-relay serve``: the relay as a process, from its settings to its last ``bye``."""

import asyncio
import contextlib
import gc
import resource
import secrets
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import httpx
import uvicorn
import uvloop

from crdtmed.limits import MAX_CONNECTIONS
from relay.app import listen, server_of
from relay.batch import Batch
from relay.executors import cores
from relay.identity import directory
from relay.identity.keyring import KeyringError, keyring
from relay.identity.port import RandomBytes
from relay.identity.service import put_knowledge
from relay.knowledge.cds_hooks import CdsHooksKnowledge
from relay.knowledge.embedded import EmbeddedKnowledge
from relay.knowledge.port import KnowledgeBase
from relay.knowledge.snapshot import Snapshot
from relay.logs import configure, event
from relay.metrics import routes
from relay.operator.loading import KNOWLEDGE_FILE, current_snapshot
from relay.operator.office import CannotOpen, clock_of, database_of, secrets_in_force, sole_use, terms_of
from relay.own_documents import write_directory
from relay.service import Service
from relay.settings import Settings
from relay.storage.migrations import SchemaTooNew
from relay.storage.sqlite import StorageError
from relay.verifiers import how_many

STARTED_POLL_S: Final = 0.01
OTHER_FILES: Final = 1_000
"""Of the database, of processes, and of strangers who have not said yet what they want."""
YOUNG: Final = 10_000
"""Values made since the collector of cycles last looked at the young ones."""


def serve(settings: Settings, port_file: Path | None = None) -> int:
    """Runs the relay until SIGTERM or SIGINT; raises `CannotOpen` with one line where it cannot start."""
    configure(settings.log_level)
    allow_files()
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(settings, port_file))
    return 0


async def _serve(settings: Settings, port_file: Path | None) -> None:
    if not database_of(settings).exists():
        raise CannotOpen(f"{settings.folder} has no relay: run crdtmed-relay init first, or give its folder")
    with sole_use(settings):
        await _run(settings, port_file)


async def _run(settings: Settings, port_file: Path | None) -> None:
    async with _knowledge(settings) as knowledge:
        service = _open(settings, knowledge)
        server = server_of(service, routes(service, database_of(settings)), settings.tls_certificate, settings.tls_key)
        try:
            server.config.load()
        except (OSError, ValueError) as error:
            raise CannotOpen(f"tls_certificate, tls_key: cannot be used ({error}); give a pair of PEM files") from None
        try:
            listening = listen(settings.listen_host, settings.listen_port)
        except OSError as error:
            raise CannotOpen(
                f"listen_port: {settings.listen_host}:{settings.listen_port} cannot be listened on "
                f"({error.strerror}); stop what listens there, or choose another port"
            ) from None
        with contextlib.closing(listening):
            await service.start()
            _leave_alone_what_stays()
            # Not `serve`, which takes the signals: the relay finishes its commits and says goodbye first.
            task = asyncio.create_task(server._serve([listening]))
            try:
                await _in_force(service, knowledge)
                await _until_told(task, server, port_file, int(listening.getsockname()[1]), settings)
            finally:
                await service.stop()
                server.should_exit = True
                await task
                event("stopped")


def allow_files() -> None:
    """Lets this process open a file for every connection that it takes, as far as the system lets it; most systems
    begin with a fifth of that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = MAX_CONNECTIONS + OTHER_FILES if hard == unlimited else min(MAX_CONNECTIONS + OTHER_FILES, hard)
    if soft != unlimited and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _leave_alone_what_stays() -> None:
    """The collector of cycles looks no more at what was made to stay, and seldom at what comes: a change makes dozens
    of values, hardly any of which could be part of a cycle."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG)


async def _in_force(service: Service, knowledge: KnowledgeBase) -> None:
    """What answers is what the directory names: also after a switch between rules and service, or a restoration."""

    async def announce(name: str) -> None:
        def act(batch: Batch) -> None:
            if service.identity.snapshot_in_force(batch.record.connection) != name:
                put_knowledge(batch.record.connection, service.identity.ring, name, batch.now_ms)
                write_directory(batch)

        await service.write(act)
        event("knowledge", snapshot=name)

    if isinstance(knowledge, CdsHooksKnowledge):
        knowledge.announce = announce
    elif knowledge.snapshot is not None:
        await announce(knowledge.snapshot)


async def _until_told(
    task: "asyncio.Task[None]", server: uvicorn.Server, port_file: Path | None, port: int, settings: Settings
) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    while not server.started:
        if task.done():
            task.result()
            return
        await asyncio.sleep(STARTED_POLL_S)
    if port_file is not None:
        fresh = port_file.with_name(port_file.name + ".new")
        try:
            fresh.write_text(f"{port}\n", encoding="ascii")
            fresh.replace(port_file)
        except OSError as error:
            raise CannotOpen(f"--port-file: {port_file} cannot be written: {error.strerror}") from None
    scheme = "wss" if settings.tls_certificate is not None else "ws"
    event("listening", host=settings.listen_host, port=port)
    print(f"crdtmed-relay: listening on {scheme}://{settings.listen_host}:{port}/sync", file=sys.stderr, flush=True)
    waiting = asyncio.create_task(told.wait())
    await asyncio.wait((waiting, task), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


def open_service(
    settings: Settings,
    knowledge: KnowledgeBase,
    now: Callable[[], int] | None = None,
    random: RandomBytes = secrets.token_bytes,
) -> Service:
    """The relay of a folder that was set up; ``now`` is its clock, in milliseconds, where not the settings' own.

    Raises `relay.operator.office.CannotOpen`, `relay.storage.sqlite.StorageError`,
    `relay.storage.migrations.SchemaTooNew` or `relay.identity.directory.AnotherIdentity`; each says what to do.
    """
    ring = keyring(secrets_in_force(settings))
    verifiers = how_many(settings.verifiers, cores())
    clock = now or clock_of(settings)
    return Service(database_of(settings), ring, terms_of(settings), knowledge, clock, random, verifiers)


def _open(settings: Settings, knowledge: KnowledgeBase) -> Service:
    try:
        return open_service(settings, knowledge)
    except KeyringError as error:
        raise CannotOpen(error.says) from None
    except (StorageError, SchemaTooNew, directory.AnotherIdentity, ValueError, OSError) as error:
        raise CannotOpen(str(error)) from None


@contextlib.asynccontextmanager
async def _knowledge(settings: Settings) -> AsyncIterator[KnowledgeBase]:
    if not settings.knowledge_url:
        yield EmbeddedKnowledge(_SnapshotFile(settings.folder))
        return
    # Patients' orders go to the service itself, never through a proxy that the environment happens to name; whom to
    # trust is the system's list, where a hospital keeps its own authority.
    async with httpx.AsyncClient(trust_env=False, verify=ssl.create_default_context()) as client:
        yield CdsHooksKnowledge(settings.knowledge_url, client)


class _SnapshotFile:
    """The snapshot of the relay's folder, read again when the file was replaced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: tuple[int, int] | None = None
        self._held: Snapshot | None = None

    def __call__(self) -> Snapshot | None:
        try:
            stat = (self._folder / KNOWLEDGE_FILE).stat()
        except OSError:
            return None
        seen = (stat.st_mtime_ns, stat.st_ino)
        if seen != self._seen:
            self._held, self._seen = current_snapshot(self._folder), seen
        return self._held
