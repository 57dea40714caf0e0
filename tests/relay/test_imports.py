"""CSV files of the operator: what is taken, and every wrong row told by line, field and reason."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed.aggregates.medication import Pack
from crdtmed.aggregates.patient import Allergy, Identifier
from crdtmed.limits import MAX_IMPORT_BYTES, MAX_IMPORT_ERRORS_SHOWN, MAX_IMPORT_ROWS
from relay import imports
from relay.imports import COLUMNS, ImportKind, ImportRefused, read_formulary, read_patients, read_stock

FORMULARY = """code,display,form,strength,counting_unit,ingredients,classes,packs
amox-500,Amoxicillin 500 mg,capsule,500 mg,{capsule},amoxicillin,pen;anti,09506000134352:21; 9506000134369:100
plain,Plain,,,mL,,,
"""
PATIENTS = """id,identifiers,name,birth_date,allergies,care_sites
p1,urn:mrn|100001;urn:nhs|9 43,"Muster, Maria",1950-03-01,none known,ward;pharm
p2,urn:mrn|100002,Otto Beispiel,1948-12-24,penicillin|Penicillin|rash;latex|Latex,ward
p3,urn:mrn|100003,Ida Exempel,1972-07-15,,
"""
STOCK = """site,item,lot,expiry,quantity,unit
pharm,amox-500,A 1,2099-12-31,21,{capsule}
pharm,amox-500,A2,2099-06-30,0,{capsule}
"""
READ = {ImportKind.FORMULARY: read_formulary, ImportKind.PATIENTS: read_patients, ImportKind.STOCK: read_stock}
FILES = {ImportKind.FORMULARY: FORMULARY, ImportKind.PATIENTS: PATIENTS, ImportKind.STOCK: STOCK}


def refused(kind: ImportKind, data: str | bytes) -> list[tuple[int, str, str]]:
    """Line, field and words of what is wrong."""
    with pytest.raises(ImportRefused) as caught:
        READ[kind](data.encode() if isinstance(data, str) else data)
    return [(each.line, each.field, each.says) for each in caught.value.errors]


def test_a_formulary() -> None:
    one, plain = (row.value for row in read_formulary(FORMULARY.encode()))
    assert (one.code, one.display, one.form, one.strength) == ("amox-500", "Amoxicillin 500 mg", "capsule", "500 mg")
    assert (one.counting_unit, one.ingredients) == ("{capsule}", ("amoxicillin",))
    assert (one.classes, one.version) == (("pen", "anti"), 1)
    assert one.packs == (Pack("09506000134352", 21), Pack("09506000134369", 100))
    assert (plain.form, plain.strength, plain.ingredients, plain.packs) == (None, None, (), ())


def test_patients() -> None:
    one, two, three = (row.value for row in read_patients(PATIENTS.encode()))
    assert one.identifiers == (Identifier("urn:mrn", "100001"), Identifier("urn:nhs", "9 43"))
    assert (one.name, one.birth_date, one.care_sites) == ("Muster, Maria", "1950-03-01", ("ward", "pharm"))
    assert two.allergies == (Allergy("penicillin", "Penicillin", "rash"), Allergy("latex", "Latex", None))
    # That there are none is something that somebody recorded; a blank is not.
    assert (one.allergies, three.allergies) == ((), None)


def test_opening_stock() -> None:
    rows = read_stock(STOCK.encode())
    assert [(row.line, row.value.site, row.value.register.lot, row.value.register.on_hand) for row in rows] == [
        (2, "pharm", "A 1", 21), (3, "pharm", "A2", 0)
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ImportKind)
def test_order_of_columns_line_ends_and_a_byte_order_mark_do_not_matter(kind: ImportKind) -> None:
    rows = list(csv.DictReader(io.StringIO(FILES[kind])))
    out = io.StringIO()
    writer = csv.DictWriter(out, sorted(COLUMNS[kind], reverse=True), lineterminator="\r\n", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    assert READ[kind](out.getvalue().encode("utf-8-sig")) == READ[kind](FILES[kind].encode())


def test_a_line_is_where_its_row_begins() -> None:
    text = (
        "id,identifiers,name,birth_date,allergies,care_sites\n"
        "\n"
        'p1,urn:mrn|1,"Maria\nMuster",1950-03-01,,\n'
        ",,,,,\n"
        'p2,urn:mrn|2,"Otto\n\nBeispiel",never,,\n'
        "p3,urn:mrn|3,Ida,1950-02-30,,\n"
        "p4,urn:mrn|4,Ute,1950-02-01,\n"
        'p5,urn:mrn|5,"Eva",1950-02-01,,ward;ward\n'
    )
    assert [(line, field) for line, field, _ in refused(ImportKind.PATIENTS, text)] == [
        (6, "birth_date"), (9, "birth_date"), (10, "(row)"), (11, "care_sites")
    ]  # fmt: skip
    good = text.replace("never", "1950-01-01").replace("1950-02-30", "1950-01-01").replace("01,\n", "01,,\n")
    rows = read_patients(good.replace(",ward;ward", ",ward").encode())
    assert [row.line for row in rows] == [3, 6, 9, 10, 11]
    assert rows[0].value.name == "Maria\nMuster"


@pytest.mark.parametrize(
    ("kind", "column", "value", "words"),
    [
        ("formulary", "code", "", "write "),
        ("formulary", "code", "a/b", "write "),
        ("formulary", "code", "two words", "write "),
        ("formulary", "display", "", "is blank"),
        ("formulary", "display", "x" * 201, "more than 200"),
        ("formulary", "display", "a\x07b", "control characters"),
        ("formulary", "strength", "a\x07b", "control characters"),
        ("formulary", "counting_unit", "", "write "),
        ("formulary", "ingredients", "two words", "write "),
        ("formulary", "ingredients", ";".join(f"i{n}" for n in range(65)), "more than 64"),
        ("formulary", "classes", "ä", "write "),
        ("formulary", "packs", "09506000134352", "is '': write a whole number"),
        ("formulary", "packs", "09506000134353:21", "check"),
        ("formulary", "packs", "123:21", "digits"),
        ("formulary", "packs", "09506000134352:0", ">= 1"),
        ("formulary", "packs", "09506000134352:21;9506000134352:7", "names a GTIN twice"),
        ("patients", "id", "P 1", "write "),
        ("patients", "id", "", "write a-z, 0-9"),
        ("patients", "identifiers", "", "is blank"),
        ("patients", "identifiers", "100001", "is not written as system|value"),
        ("patients", "identifiers", "urn:mrn|", "is not written as system|value"),
        ("patients", "name", "", "is blank"),
        ("patients", "birth_date", "01.03.1950", "write it as YYYY-MM-DD"),
        ("patients", "birth_date", "1950-02-30", "not a date"),
        ("patients", "birth_date", "", "not a date"),
        ("patients", "allergies", "penicillin", "is not written as code|display"),
        ("patients", "allergies", "a|b|c|d", "is not written as code|display"),
        ("patients", "allergies", "two words|Display", "write "),
        ("patients", "care_sites", "ward 3", "write "),
        ("patients", "care_sites", "ward;ward", "names a site twice"),
        ("stock", "site", "Ward 3", "no site's id"),
        ("stock", "item", "", "write "),
        ("stock", "lot", "", "write "),
        ("stock", "lot", "x" * 21, "write "),
        ("stock", "expiry", "2099-13-01", "not a date"),
        ("stock", "quantity", "", "write a whole number"),
        ("stock", "quantity", "-1", "write a whole number"),
        ("stock", "quantity", "1.5", "write a whole number"),
        ("stock", "quantity", "10000001", "at most 10000000"),
        ("stock", "quantity", "٣", "write a whole number"),
        ("stock", "unit", "two words", "write "),
    ],
)
def test_a_wrong_field_is_told_with_line_column_and_reason(kind: str, column: str, value: str, words: str) -> None:
    of = ImportKind(kind)
    rows = list(csv.DictReader(io.StringIO(FILES[of])))
    rows[1][column] = value
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS[of], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    [(line, field, says)] = refused(of, out.getvalue())
    assert (line, field) == (3, column)
    assert words.casefold() in says.casefold()


def test_every_wrong_row_is_told() -> None:
    text = PATIENTS.replace("1950-03-01", "x").replace("1972-07-15", "y").replace("p2", "P2")
    assert [(line, field) for line, field, _ in refused(ImportKind.PATIENTS, text)] == [
        (2, "birth_date"), (3, "id"), (4, "birth_date")
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ImportKind)
def test_a_row_that_stands_twice(kind: ImportKind) -> None:
    first = FILES[kind].splitlines()[1]
    line = FILES[kind].count("\n") + 1
    assert refused(kind, FILES[kind] + first + "\n") == [(line, COLUMNS[kind][0], "stands in line 2 already")]


def test_the_header_has_every_column_once_and_no_other() -> None:
    for data in ("", "\n\n"):
        assert [(1, name, "is missing from the header") for name in COLUMNS[ImportKind.STOCK]] == refused(
            ImportKind.STOCK, data
        )
    found = refused(ImportKind.STOCK, "site,item,lot,expiry,quantity,unit,unit,colour\n")
    assert [(line, field) for line, field, _ in found] == [(1, "colour"), (1, "unit")]
    assert ("unit", "is missing from the header") in [
        (field, says) for _, field, says in refused(ImportKind.STOCK, "site;item;lot;expiry;quantity;unit\n")
    ]


def test_what_is_no_csv_or_no_text() -> None:
    assert refused(ImportKind.STOCK, STOCK + 'pharm,"x"y,1\n')[0][:2] == (4, "(row)")
    assert refused(ImportKind.STOCK, STOCK + 'pharm,"never closed\n')[0][:2] == (4, "(row)")
    assert refused(ImportKind.STOCK, STOCK.encode() + b"pharm,\xff\n")[0][:2] == (4, "(file)")
    assert refused(ImportKind.STOCK, STOCK.encode("utf-16"))[0][1] == "(file)"


def test_size_rows_and_errors_shown_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    [(_, field, says)] = refused(ImportKind.STOCK, b" " * (MAX_IMPORT_BYTES + 1))
    assert (field, f"at most {MAX_IMPORT_BYTES}" in says) == ("(file)", True)
    with pytest.raises(ImportRefused) as caught:
        read_stock((STOCK + "pharm,x,y\n" * (MAX_IMPORT_ERRORS_SHOWN + 5)).encode())
    assert (len(caught.value.errors), caught.value.count) == (MAX_IMPORT_ERRORS_SHOWN, MAX_IMPORT_ERRORS_SHOWN + 5)
    assert MAX_IMPORT_ROWS > 100_000
    monkeypatch.setattr(imports, "MAX_IMPORT_ROWS", 2)
    assert len(read_stock(STOCK.encode())) == 2
    assert refused(ImportKind.STOCK, STOCK + "pharm,a,b,2099-12-31,1,x\n") == [
        (4, "(file)", "more than 2 rows: split it")
    ]


@given(st.sampled_from(list(ImportKind)), st.data())
def test_whatever_a_file_holds_it_is_read_or_refused(kind: ImportKind, data: st.DataObject) -> None:
    whole = bytearray(FILES[kind].encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    try:
        rows = READ[kind](bytes(whole))
    except ImportRefused as error:
        found = error.errors
        assert found
        assert all(
            each.line <= whole.count(b"\n") + whole.count(b"\r") + 1 and each.field and each.says for each in found
        )
    else:
        assert len(rows) <= whole.count(b"\n") + whole.count(b"\r") + 1
