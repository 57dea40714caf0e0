"""Files that the operator brings in: formulary, patients, stock and knowledge, taken whole or not at all."""

import json
from typing import Any

import pytest

from crdtmed.aggregates.patient import Allergy, PatientRegister
from crdtmed.limits import MAX_IMPORT_BYTES
from relay.operator.office import open_office
from relay.settings import Settings
from tests.relay.cli.desk import ROOT, Desk, write
from tests.scenarios.hospital import FORMULARY, KNOWLEDGE, PATIENTS, STOCK


@pytest.fixture
def stocked(ready: Desk) -> Desk:
    """A relay with everything imported."""
    for kind, text in (("formulary", FORMULARY), ("patients", PATIENTS), ("stock", STOCK)):
        ready.json("import", kind, write(ready.folder, f"{kind}.csv", text))
    return ready


def register(desk: Desk, document: str, key: str) -> Any:
    """What a register says."""
    with open_office(Settings(folder=desk.folder)) as office:
        return office.run(lambda batch: batch.register(document, key))


def test_imports(stocked: Desk) -> None:
    assert register(stocked, "formulary", "item/amox-500").display == "Amoxicillin 500 mg capsule"
    assert register(stocked, "patient/p2", "patient").allergies == (Allergy("penicillin", "Penicillin", "rash"),)
    assert register(stocked, "site/pharm", "stock/amox-500/A1").on_hand == 21
    assert stocked.json("verify")["sound"] is True


def test_the_same_file_again_changes_nothing_and_added_rows_only_add(stocked: Desk) -> None:
    position = stocked.json("status")["documents"]
    again = stocked.json("import", "patients", stocked.folder.parent / "patients.csv")
    assert (again["rows"], again["changed"]) == (3, 0)
    more = write(stocked.folder, "more.csv", PATIENTS + "p4,urn:mrn|4,Uta,1990-01-01,,ward\n")
    found = stocked.json("import", "patients", more)
    assert (found["rows"], found["changed"]) == (4, 1)
    assert stocked.json("status")["documents"] == position + 1
    formulary = write(stocked.folder, "f.csv", FORMULARY.replace("Paracetamol 500 mg tablet", "Paracetamol"))
    assert stocked.json("import", "formulary", formulary)["changed"] == 1
    assert register(stocked, "formulary", "item/para-500").version == 2


def test_a_blank_takes_back_nothing_that_was_recorded(stocked: Desk) -> None:
    blank = PATIENTS.replace("penicillin|Penicillin|rash", "").replace("none known", "").replace("1950", "1951")
    stocked.json("import", "patients", write(stocked.folder, "blank.csv", blank))
    held = register(stocked, "patient/p2", "patient")
    assert held.allergies == (Allergy("penicillin", "Penicillin", "rash"),)
    one: PatientRegister = register(stocked, "patient/p1", "patient")
    assert (one.allergies, one.birth_date, one.version) == ((), "1951-03-01", 2)


def test_of_a_wrong_file_every_bad_row_is_told_and_nothing_is_taken(ready: Desk) -> None:
    text = (
        "id,identifiers,name,birth_date,allergies,care_sites\n"
        'p1,urn:mrn|1,"Maria\nMuster",1950-03-01,,ward\n'
        "p2,urn:mrn|2,Otto,1948-12-24,,nowhere;ward\n"
        "p3,urn:mrn|3,Ida,1948-12-24,,elsewhere\n"
    )
    ran = ready.run("import", "patients", write(ready.folder, "p.csv", text))
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.splitlines() == [
        "crdtmed-relay: line 4, care_sites: there is no site 'nowhere': add it first",
        "crdtmed-relay: line 5, care_sites: there is no site 'elsewhere': add it first",
    ]
    assert register(ready, "patient/p1", "patient") is None
    told = ready.run("--json", "import", "patients", write(ready.folder, "q.csv", text.replace("1950-03-01", "x")))
    assert told.status == 1
    assert json.loads(told.err)["errors"][0]["line"] == 2
    assert json.loads(told.err)["errors"][0]["field"] == "birth_date"


def test_stock_is_of_known_sites_and_items_in_their_units_once(stocked: Desk) -> None:
    text = (
        "site,item,lot,expiry,quantity,unit\n"
        "attic,amox-500,Z,2099-01-01,1,{capsule}\n"
        "pharm,nothing,Z,2099-01-01,1,{capsule}\n"
        "pharm,amox-500,Z,2099-01-01,1,{tablet}\n"
        "pharm,amox-500,A1,2099-01-01,1,{capsule}\n"
        "pharm,amox-500,B1,2099-01-01,1,{capsule}\n"
    )
    ran = stocked.run("import", "stock", write(stocked.folder, "s.csv", text))
    assert [line.split(": ", 2)[1] for line in ran.err.splitlines()] == [
        "line 2, site", "line 3, item", "line 4, unit", "line 5, lot"
    ]  # fmt: skip
    assert register(stocked, "site/pharm", "stock/amox-500/B1") is None
    assert register(stocked, "site/pharm", "stock/amox-500/A1").on_hand == 21
    assert stocked.json("verify")["sound"] is True


def test_a_unit_in_stock_never_changes(stocked: Desk) -> None:
    changed = FORMULARY.replace("500 mg,{capsule}", "500 mg,mL").replace("aspirin,,", "aspirin,nsaid,")
    assert stocked.run("import", "formulary", write(stocked.folder, "f.csv", changed)).line.startswith(
        "line 2, counting_unit: is mL where amox-500 is in stock as {capsule}"
    )
    assert register(stocked, "formulary", "item/aspi-100").classes == ()


@pytest.mark.parametrize("name", ["nowhere.csv", "."])
def test_a_file_that_cannot_be_read(ready: Desk, name: str) -> None:
    assert "cannot be read" in ready.run("import", "stock", ready.folder.parent / name).line


def test_a_file_that_is_too_large(ready: Desk) -> None:
    path = ready.folder.parent / "large.csv"
    with path.open("wb") as file:
        file.truncate(MAX_IMPORT_BYTES + 1)
    assert "split it" in ready.run("import", "stock", path).line


# ---- knowledge -----------------------------------------------------------------------------------------------------


def test_knowledge_is_checked_loaded_and_shown(ready: Desk) -> None:
    example = ROOT / "relay" / "knowledge" / "example.json"
    assert "no snapshot is in force" in ready.run("knowledge", "show").line
    assert ready.json("knowledge", "check", example)["snapshot"] == "example-1"
    assert "no snapshot is in force" in ready.run("knowledge", "show").line
    ready.json("knowledge", "load", example)
    shown = ready.json("knowledge", "show")
    assert (shown["in_force"], shown["file"], shown["dose_ceilings"]) == ("example-1", "example-1", 4)
    other = write(ready.folder, "k.json", json.dumps(KNOWLEDGE))
    ready.json("knowledge", "load", other)
    assert ready.json("knowledge", "show")["in_force"] == "2026-11"
    assert ready.json("status")["knowledge"] == "2026-11"


def test_a_wrong_snapshot_is_told_fault_by_fault_and_changes_nothing(ready: Desk) -> None:
    bad = json.loads(json.dumps(KNOWLEDGE))
    bad["interactions"][0]["between"] = ["a", "a"]
    bad["dose_ceilings"][0]["per_day"]["unit"] = "mL"
    path = write(ready.folder, "bad.json", json.dumps(bad))
    for action in ("check", "load"):
        ran = ready.run("knowledge", action, path)
        assert ran.status == 1
        assert len(ran.err.splitlines()) == 2
    assert not (ready.folder / "knowledge.json").exists()
    assert "no snapshot is in force" in ready.run("knowledge", "show").line
