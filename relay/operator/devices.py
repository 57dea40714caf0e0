"""Devices: what is known of each, and taking one out of service."""

from collections import defaultdict
from dataclasses import asdict

from relay.batch import Batch
from relay.identity import revocation, rows
from relay.operator.office import Office
from relay.operator.people import Refused, Report
from relay.own_documents import write_directory


def _numbers(office: Office) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for row in office.record.statements():
        device, _, _ = row.ref.partition(".")
        found[device].append(row.number)
    return found


def list_devices(office: Office) -> list[Report]:
    """Every device ever enrolled, with its lease, its revocation and the numbers that nobody has seen."""
    seen = _numbers(office)
    db = office.record.connection
    return [asdict(revocation.status(db, row.device, seen.get(row.device, ()))) for row in rows.devices(db)]


def show_device(office: Office, device: str) -> Report:
    """One device, with what is in quarantine in its name."""
    db = office.record.connection
    status = asdict(revocation.status(db, device, _numbers(office).get(device, ())))
    return {**status, "quarantined": office.record.quarantine_count(device)}


def revoke(office: Office, device: str, reason: str, now: bool) -> Report:
    """Takes a device out of service: committed here, pushed by the running relay within seconds."""
    if not reason.strip():
        raise Refused("a reason is needed: it stands in the directory for everybody to read")

    def act(batch: Batch) -> None:
        office.identity.revoke(batch.record.connection, device, reason, now, office.now_ms)
        write_directory(batch)

    office.run(act)
    return show_device(office, device)
