"""Imports and knowledge-base snapshots: files into registers, each file in one transaction."""

import os
from hashlib import sha256
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from crdtmed.aggregates.medication import MedicationRegister
from crdtmed.aggregates.patient import PatientRegister
from crdtmed.aggregates.stock_item import Movement, MovementType
from crdtmed.ids import STATEMENT_ID_BYTES, ref, to_text
from crdtmed.limits import MAX_IMPORT_BYTES
from relay.admission.effects import Move
from relay.applying import apply
from relay.batch import Batch
from relay.identity import rows
from relay.identity.service import put_knowledge
from relay.imports import (
    ImportKind,
    ImportRefused,
    RowError,
    StockRow,
    read_formulary,
    read_patients,
    read_stock,
)
from relay.knowledge.snapshot import BadSnapshot, Snapshot, read_snapshot
from relay.operator.office import Office
from relay.operator.people import Refused, Report
from relay.own_documents import write_directory

KNOWLEDGE_FILE: Final = "knowledge.json"
OPERATOR: Final = "operator"
"""Stands for a device in references to what no device said."""


def read_file(path: Path) -> bytes:
    """A file's bytes; raises `Refused` where it cannot be read or is over the limit."""
    try:
        if path.stat().st_size > MAX_IMPORT_BYTES:
            raise Refused(f"{path} is larger than {MAX_IMPORT_BYTES} bytes: split it")
        return path.read_bytes()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None


def load(office: Office, kind: ImportKind, path: Path) -> Report:
    """Imports a file, whole; raises `relay.imports.ImportRefused` with every wrong row, and nothing is changed.

    What the relay has already of a row is left as it is, so that a file may be imported again with rows added.
    """
    data = read_file(path)
    match kind:
        case ImportKind.FORMULARY:
            rows_, changed = _formulary(office, data)
        case ImportKind.PATIENTS:
            rows_, changed = _patients(office, data)
        case ImportKind.STOCK:
            rows_, changed = _stock(office, data)
    return {"kind": kind.value, "file": str(path), "rows": rows_, "changed": changed}


def _formulary(office: Office, data: bytes) -> tuple[int, int]:
    medicines = read_formulary(data)

    def act(batch: Batch) -> int:
        errors, changed = [], 0
        stocked = {item for _, item, _, _, _ in batch.record.all_stock()}
        for row in medicines:
            medicine = row.value
            held = batch.register("formulary", f"item/{medicine.code}")
            if isinstance(held, MedicationRegister):
                if replace(medicine, version=held.version) == held:
                    continue
                if held.counting_unit != medicine.counting_unit and medicine.code in stocked:
                    says = (
                        f"is {medicine.counting_unit} where {medicine.code} is in stock as {held.counting_unit}, which "
                        "never changes: give the product in the other unit a code of its own"
                    )
                    errors.append(RowError(row.line, "counting_unit", says))
                medicine = replace(medicine, version=held.version + 1)
            batch.put("formulary", medicine)
            changed += 1
        if errors:
            raise ImportRefused(errors)
        return changed

    return len(medicines), office.run(act)


def _patients(office: Office, data: bytes) -> tuple[int, int]:
    patients = read_patients(data)

    def act(batch: Batch) -> int:
        errors, changed = [], 0
        sites = rows.sites(batch.record.connection)
        for row in patients:
            patient = row.value
            errors += [
                RowError(row.line, "care_sites", f"there is no site {site!r}: add it first")
                for site in patient.care_sites
                if site not in sites
            ]
            held = batch.register(f"patient/{patient.id}", "patient")
            if isinstance(held, PatientRegister):
                # A blank says that this file does not know; it takes nothing back that somebody recorded.
                allergies = held.allergies if patient.allergies is None else patient.allergies
                patient = replace(
                    patient, version=held.version, home_medications=held.home_medications, allergies=allergies
                )
                if patient == held:
                    continue
                patient = replace(patient, version=held.version + 1)
            batch.put(f"patient/{patient.id}", patient)
            changed += 1
        if errors:
            raise ImportRefused(errors)
        return changed

    return len(patients), office.run(act)


def _stock(office: Office, data: bytes) -> tuple[int, int]:
    lots = read_stock(data)
    # The ledger names what each movement follows from; here it is the file, by its digest.
    by = ref(OPERATOR, to_text(sha256(data).digest()[:STATEMENT_ID_BYTES]))

    def act(batch: Batch) -> int:
        errors = []
        for row in lots:
            site, register = row.value.site, row.value.register
            errors += [RowError(row.line, field, says) for field, says in _lot_problems(batch, row.value)]
            if not errors:
                batch.put(f"site/{site}", register)
                movement = Movement(site, register.item, register.lot, MovementType.RECEIPT, register.on_hand, by)
                apply(batch, (Move(movement),) if register.on_hand else ())
        if errors:
            raise ImportRefused(errors)
        return len(lots)

    return len(lots), office.run(act)


def _lot_problems(batch: Batch, row: StockRow) -> list[tuple[str, str]]:
    found = []
    if not rows.has_site(batch.record.connection, row.site):
        found.append(("site", f"there is no site {row.site!r}: add it first"))
    item = batch.register("formulary", f"item/{row.register.item}")
    if not isinstance(item, MedicationRegister):
        found.append(("item", f"the formulary has no {row.register.item!r}: import it first"))
    elif item.counting_unit != row.register.unit:
        found.append(("unit", f"is {row.register.unit!r}; {row.register.item} is counted in {item.counting_unit}"))
    if batch.register(f"site/{row.site}", f"stock/{row.register.item}/{row.register.lot}") is not None:
        found.append(("lot", "is in stock there already: change it by a receipt or an adjustment, said and signed"))
    return found


def check_knowledge(path: Path) -> Report:
    """What a snapshot file holds; raises `relay.knowledge.snapshot.BadSnapshot`."""
    snapshot = read_snapshot(read_file(path))
    return _described(snapshot)


def load_knowledge(office: Office, path: Path) -> Report:
    """Puts a snapshot in force: the file is kept in the relay's folder, then the directory names it."""
    data = read_file(path)
    snapshot = read_snapshot(data)
    target = office.settings.folder / KNOWLEDGE_FILE
    fresh = target.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(target)

    def act(batch: Batch) -> None:
        put_knowledge(batch.record.connection, office.identity.ring, snapshot.snapshot, office.now_ms)
        write_directory(batch)

    office.run(act)
    return _described(snapshot)


def show_knowledge(office: Office) -> Report:
    """The snapshot in force."""
    in_force = office.identity.snapshot_in_force(office.record.connection)
    if in_force is None:
        raise Refused("no snapshot is in force: crdtmed-relay knowledge load FILE; until then nothing can be signed")
    held = current_snapshot(office.settings.folder)
    report = {"in_force": in_force, "file": None if held is None else held.snapshot}
    return {**report, **(_described(held) if held is not None else {})}


def current_snapshot(folder: Path) -> Snapshot | None:
    """The snapshot that the relay's folder holds; None where there is none, or it cannot be used."""
    try:
        return read_snapshot((folder / KNOWLEDGE_FILE).read_bytes())
    except (OSError, BadSnapshot):
        return None


def _described(snapshot: Snapshot) -> Report:
    return {
        "snapshot": snapshot.snapshot,
        "source": snapshot.source,
        "interactions": len(snapshot.interactions),
        "allergy_classes": len(snapshot.allergy_classes),
        "duplicate_classes": len(snapshot.duplicate_classes),
        "dose_ceilings": len(snapshot.dose_ceilings),
    }
