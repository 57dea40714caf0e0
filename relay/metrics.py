"""What a monitoring system reads: ``/readyz`` and ``/metrics`` in the Prometheus text format.

Numbers of the running process come from the service; those of what waits for people from the database, read once a
scrape on a connection of its own.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from crdtmed.aggregates.conflict import ConflictRegister, QuarantineRegister
from crdtmed.limits import LEASE_RENEWAL_S
from relay.identity import rows
from relay.operator.standing import standing_registers
from relay.service import Service
from relay.storage.migrations import LATEST, version
from relay.storage.record import SqlRecord
from relay.storage.sqlite import StorageError, open_sqlite
from relay.timings import BOUNDS_S, Histogram

LATE_S: Final = 2 * LEASE_RENEWAL_S
"""A device that has not renewed its lease for so long counts as offline."""


@dataclass(frozen=True, slots=True)
class DeviceState:
    """A device as the database knows it; times in milliseconds."""

    device: str
    leased_at: int
    revoked_at: int | None
    wiped_at: int | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for somebody."""

    open_conflicts: int
    open_quarantine: int
    alarms: int
    devices: tuple[DeviceState, ...]


def read_waiting(database: Path) -> Waiting:
    """What waits, as of one moment of the database; raises `StorageError`."""
    with contextlib.closing(open_sqlite(database, read_only=True)) as connection:
        connection.execute("BEGIN")
        record = SqlRecord(connection)
        # A conflict of a dispense that was handed over stands in two documents, and is one conflict.
        conflicts = {
            value.ref
            for _, value in standing_registers(record, "conflict")
            if isinstance(value, ConflictRegister) and value.open
        }
        quarantine = {
            value.ref
            for _, value in standing_registers(record, "quarantine")
            if isinstance(value, QuarantineRegister) and value.open
        }
        devices = tuple(
            DeviceState(row.device, row.leased_at, row.revoked_at, row.wiped_at) for row in rows.devices(connection)
        )
        return Waiting(len(conflicts), len(quarantine), record.alarm_count(), devices)


class _Collected:
    """Metrics gathered for one scrape."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _histogram(name: str, says: str, held: Histogram) -> Metric:
    below = accumulate(held.counts)
    bounds = [*map(str, BOUNDS_S), "+Inf"]
    return HistogramMetricFamily(name, says, list(zip(bounds, below, strict=True)), held.sum_s)


def _process(service: Service) -> Iterable[Metric]:
    timings, hub = service.timings, service.hub
    judged = CounterMetricFamily(
        "crdtmed_admissions", "Verdicts given, by verdict and reason", labels=["verdict", "reason"]
    )
    for (status, reason), count in sorted(timings.judged.items()):
        judged.add_metric([status, reason], count)
    yield judged
    signatures = CounterMetricFamily("crdtmed_signatures", "Signatures checked, by where", labels=["where"])
    for where, count in timings.signatures.items():
        signatures.add_metric([where], count)
    yield signatures
    yield _histogram("crdtmed_commit_seconds", "Time of commits", timings.commit)
    yield _histogram("crdtmed_fan_out_seconds", "Time of the fan-out after a commit", timings.fan_out)
    yield CounterMetricFamily("crdtmed_commits_failed", "Commits that failed", timings.failed)
    yield GaugeMetricFamily("crdtmed_connections", "Connections open", len(hub.connections))
    yield GaugeMetricFamily("crdtmed_devices_connected", "Devices connected and proved", len(hub.devices))
    waiting = sum(connection.peer.waiting() for connection in hub.connections.values())
    yield GaugeMetricFamily("crdtmed_queue_bytes", "Bytes that wait for slow readers", waiting)
    yield CounterMetricFamily("crdtmed_queues_dropped", "Queues dropped for slow readers", hub.counts.dropped)
    closes = CounterMetricFamily("crdtmed_closes", "Connections that the relay closed, by code", labels=["code"])
    for code, count in sorted(hub.counts.closes.items()):
        closes.add_metric([code], count)
    yield closes
    traffic = CounterMetricFamily("crdtmed_bytes", "Bytes of frames, by direction", labels=["direction"])
    traffic.add_metric(["in"], hub.counts.bytes_in)
    traffic.add_metric(["out"], hub.counts.bytes_out)
    yield traffic


def _database(waiting: Waiting, now_ms: int) -> Iterable[Metric]:
    yield GaugeMetricFamily("crdtmed_open_conflicts", "Conflicts that wait for a person", waiting.open_conflicts)
    yield GaugeMetricFamily(
        "crdtmed_open_quarantine", "Quarantined facts that wait for a person", waiting.open_quarantine
    )
    yield GaugeMetricFamily("crdtmed_alarms", "Alarms on record", waiting.alarms)
    lag = GaugeMetricFamily(
        "crdtmed_device_lag_seconds", "Since a device in service was last heard of", labels=["device"]
    )
    unwiped = 0
    states = {"online": 0, "offline": 0, "revoked": 0, "wiped": 0}
    for device in waiting.devices:
        behind = max(0, now_ms - device.leased_at) / 1000
        if device.wiped_at is not None:
            states["wiped"] += 1
        elif device.revoked_at is not None:
            states["revoked"] += 1
            unwiped += 1
        else:
            states["online" if behind <= LATE_S else "offline"] += 1
            lag.add_metric([device.device], behind)
    yield lag
    by_state = GaugeMetricFamily(
        "crdtmed_devices", "Devices enrolled, by state of lease and revocation", labels=["state"]
    )
    for state, count in states.items():
        by_state.add_metric([state], count)
    yield by_state
    yield GaugeMetricFamily("crdtmed_revoked_not_wiped", "Revoked devices that have not confirmed the wipe", unwiped)


def exposition(service: Service, waiting: Waiting) -> bytes:
    """All metrics in the Prometheus text format."""
    registry = CollectorRegistry()
    registry.register(_Collected((*_process(service), *_database(waiting, service.now()))))
    return generate_latest(registry)


def routes(service: Service, database: Path) -> Sequence[BaseRoute]:
    """``/readyz`` and ``/metrics`` of a relay on ``database``."""

    async def metrics(request: Request) -> Response:
        try:
            waiting = await asyncio.to_thread(read_waiting, database)
        except (StorageError, sqlite3.Error) as error:
            return Response(f"# {error}\n", status_code=503, media_type="text/plain")
        return Response(exposition(service, waiting), media_type=CONTENT_TYPE_LATEST)

    async def readyz(request: Request) -> Response:
        if service.hub.closing:
            return JSONResponse({"status": "stopping"}, status_code=503)
        try:
            await asyncio.to_thread(_touch, database)
        except (StorageError, sqlite3.Error) as error:
            return JSONResponse({"status": "no database", "says": str(error)}, status_code=503)
        known = service.knowledge.snapshot
        return JSONResponse({"status": "ready", "knowledge": known})

    return (Route("/metrics", metrics), Route("/readyz", readyz))


def _touch(database: Path) -> None:
    with contextlib.closing(open_sqlite(database, read_only=True)) as connection:
        if version(connection) != LATEST:
            raise StorageError(f"{database} is not this relay's database any more")
