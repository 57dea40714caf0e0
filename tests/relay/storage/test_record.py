"""The acceptance suite of the record's port: every database that a relay can run on passes this page."""

import dataclasses
import sqlite3
from collections.abc import Callable, Iterator
from hashlib import shake_256
from pathlib import Path
from string import ascii_lowercase

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from crdtmed.aggregates.reconciliation_session import Complete
from crdtmed.aggregates.stock_item import Movement, MovementType
from crdtmed.codec import encode
from crdtmed.compression import compress
from crdtmed.contract import Kind
from crdtmed.limits import MAX_WORDS_BYTES
from crdtmed.statement import BadStatement, decode
from relay.storage.migrations import LATEST, SchemaTooNew, migrate, version
from relay.storage.packing import (
    pack,
    pack_update,
    raw_id,
    raw_ref,
    text_id,
    text_ids,
    text_ref,
    unpack,
    unpack_update,
    words_of,
)
from relay.storage.port import Record
from relay.storage.queries import SEAL_BYTES, queries
from relay.storage.record import SqlRecord
from relay.storage.rows import NewStatement, Place
from relay.storage.schema import METADATA
from relay.storage.sqlite import StorageError, backup, open_sqlite
from tests.relay.world import World

Opened = tuple[Record, Callable[[], None]]


def sqlite_record(folder: Path) -> Record:
    """SQLite on a file."""
    return SqlRecord(open_sqlite(folder / "relay.db"))


DATABASES: dict[str, Callable[[Path], Record]] = {"sqlite": sqlite_record}
"""Another database joins by a line here."""


@pytest.fixture(params=sorted(DATABASES))
def record(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Record]:
    made = DATABASES[request.param](tmp_path)
    yield made
    made.connection.close()


def statement(author: int, target: int, sid: bytes = b"\x01" * 10, number: int = 1, **changed: object) -> NewStatement:
    fields = {
        "author": author,
        "sid": sid,
        "number": number,
        "target": target,
        "position": 1,
        "client": None,
        "clock": None,
        "received_at": 5,
        "place": Place.ACCEPTED,
        "verdict": None,
        "data": b"\x00" * 64 + b"\x01rest",
    }
    return NewStatement(**(fields | changed))  # type: ignore[arg-type]  # fields by name, of mixed types


def test_a_document_stands_where_it_was_advanced_to(record: Record) -> None:
    made = record.add_document("patient/p1", "aaaaaaaaaaaaaaaa")
    assert (made.position, made.floor, made.epoch, made.snapshot_position) == (0, 0, "aaaaaaaaaaaaaaaa", 0)
    assert record.snapshot(made.id) is None
    record.advance(made.id, 3)
    assert record.documents() == {"patient/p1": 3}
    found = record.document("patient/p1")
    assert found is not None
    assert found.position == 3
    assert record.document("patient/p2") is None


def test_a_name_stands_for_one_document(record: Record) -> None:
    record.add_document("patient/p1", "aaaaaaaaaaaaaaaa")
    with pytest.raises(sqlite3.IntegrityError):
        record.add_document("patient/p1", "bbbbbbbbbbbbbbbb")


def test_new_epochs_hold_from_where_documents_stand(record: Record) -> None:
    made = record.add_document("patient/p1", "aaaaaaaaaaaaaaaa")
    record.advance(made.id, 7)
    assert record.renew_epochs(iter(["bbbbbbbbbbbbbbbb"])) == 1
    found = record.document("patient/p1")
    assert found is not None
    assert (found.epoch, found.floor) == ("bbbbbbbbbbbbbbbb", 7)
    assert [record.epoch_at(made.id, at) for at in (1, 7, 8)] == ["aaaaaaaaaaaaaaaa"] * 2 + ["bbbbbbbbbbbbbbbb"]
    assert record.renew_epochs(iter(["cccccccccccccccc"])) == 1
    assert [record.epoch_at(made.id, at) for at in (7, 8)] == ["aaaaaaaaaaaaaaaa", "cccccccccccccccc"]


def test_a_snapshot_lets_go_of_all_but_the_last_changes(record: Record) -> None:
    made = record.add_document("patient/p1", "aaaaaaaaaaaaaaaa")
    for position in range(1, 11):
        record.add_change(made.id, position, bytes([position]))
    record.advance(made.id, 10)
    record.keep_snapshot(made.id, b"whole", 10, tail=4)
    found = record.document("patient/p1")
    assert found is not None
    assert (record.snapshot(found.id), found.snapshot_position, found.floor) == (b"whole", 10, 6)
    assert record.changes(made.id, 0, 10) == [(at, bytes([at])) for at in (7, 8, 9, 10)]


def test_a_snapshot_never_lowers_the_floor(record: Record) -> None:
    made = record.add_document("patient/p1", "aaaaaaaaaaaaaaaa")
    record.advance(made.id, 9)
    record.renew_epochs(iter(["bbbbbbbbbbbbbbbb"]))
    record.keep_snapshot(made.id, b"whole", 10, tail=5)
    found = record.document("patient/p1")
    assert found is not None
    assert found.floor == 9


def test_a_statement_is_kept_once(record: Record) -> None:
    document = record.add_document("patient/p1", "aaaaaaaaaaaaaaaa")
    author, last, newest = record.author("abcdefgh")
    assert (last, newest) == (0, b"")
    record.add_statement(statement(author, document.id))
    record.flush()
    other, *_ = record.author("bcdefghi")
    record.add_statement(statement(other, document.id))
    record.flush()
    record.add_statement(statement(author, document.id, number=2))
    with pytest.raises(sqlite3.IntegrityError):
        record.flush()


def test_a_statement_comes_back_as_it_was_put(record: Record) -> None:
    document = record.add_document("patient/p1", "aaaaaaaaaaaaaaaa")
    author, *_ = record.author("abcdefgh")
    record.add_statement(statement(author, document.id, verdict=b"said", place=Place.CONFLICT, number=9, position=4))
    record.flush()
    ref = "abcdefgh." + text_id(b"\x01" * 10)
    found = record.statement(ref)
    assert found is not None
    assert (found.ref, found.number, found.position, found.place) == (ref, 9, 4, Place.CONFLICT)
    assert found.verdict == b"said"
    assert [row.ref for row in record.statements()] == [ref]
    assert [row.ref for row in record.statements_of(document.id, 3, 4)] == [ref]
    assert record.statements_of(document.id, 4, 9) == []
    assert record.number_holder("abcdefgh", 9) == ref
    assert record.number_holder("abcdefgh", 8) is None
    assert record.statement("abcdefgh." + text_id(b"\x02" * 10)) is None


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 200])
def test_documents_that_are_there_are_found_among_many_names(record: Record, count: int) -> None:
    names = [f"patient/p{number}" for number in range(count)]
    there = set(names[:1] + names[62:66] + names[-1:])
    for name in there:
        record.add_document(name, "aaaaaaaaaaaaaaaa")
    record.add_document("formulary", "aaaaaaaaaaaaaaaa")
    rows = {name: record.document(name) for name in there}
    assert record.documents_named(names) == rows
    assert record.documents_named(["no document's name", *names]) == rows


def test_of_many_documents_the_small_first_changes_are_read_together(record: Record) -> None:
    rows = [record.add_document(f"patient/p{number}", "aaaaaaaaaaaaaaaa") for number in range(70)]
    for number, row in enumerate(rows):
        record.add_change(row.id, 1 + number % 2, shake_256(b"%d" % number).digest(200 if number == 4 else 3))
        record.add_change(row.id, 3, b"later")
    found = record.first_changes([row.id for row in rows], 100)
    assert found == {row.id: shake_256(b"%d" % at).digest(3) for at, row in enumerate(rows) if at % 2 == 0 and at != 4}
    assert record.first_changes([], 100) == {}


def test_a_register_is_found_in_those_of_many_documents_that_have_it(record: Record) -> None:
    names = [f"patient/p{number}" for number in range(70)]
    for number, name in enumerate(names):
        row = record.add_document(name, "aaaaaaaaaaaaaaaa")
        for key in ("patient", "site")[number % 3 : 2]:
            record.put_register(row.id, key, 1, 5, bytes([number]))
    found = record.registers_under("patient", [*names, "patient/nobody"])
    assert found == {name: bytes([at]) for at, name in enumerate(names) if at % 3 == 0}
    assert record.registers_under("patient", []) == {}


def test_the_bytes_of_a_documents_registers_are_counted_as_they_are_now(record: Record) -> None:
    assert record.register_bytes("site/a") == 0
    site, other = record.add_document("site/a", "aaaaaaaaaaaaaaaa"), record.add_document("site/b", "bbbbbbbbbbbbbbbb")
    record.put_register(site.id, "stock/x/1", 1, 5, bytes(1_000))
    record.put_register(site.id, "stock/x/1", 2, 6, bytes(10))
    record.put_register(site.id, "stock/x/2", 1, 6, bytes(20))
    record.put_register(other.id, "stock/x/1", 1, 5, bytes(500))
    assert record.register_bytes("site/a") == 9 + 10 + 9 + 20 + 2 * SEAL_BYTES


def test_who_reads_everything_sees_what_was_put_in_front_of_it(record: Record) -> None:
    document = record.add_document("patient/p1", "aaaaaaaaaaaaaaaa")
    author, *_ = record.author("abcdefgh")
    record.add_statement(statement(author, document.id))
    record.flush()
    record.connection.execute("PRAGMA foreign_keys = OFF")
    record.connection.execute("UPDATE statement SET id = -9223372036854775808, target = -7")
    record.connection.execute("UPDATE epoch SET document = -7")
    record.connection.execute("UPDATE document SET id = -7")
    assert [row.id for row in record.statements()] == [-(2**63)]
    assert record.documents() == {"patient/p1": 0}


def test_what_is_forgotten_is_not_written(record: Record) -> None:
    document = record.add_document("patient/p1", "aaaaaaaaaaaaaaaa")
    author, *_ = record.author("abcdefgh")
    record.add_statement(statement(author, document.id))
    record.add_tombstone(document.id, 1, 1, 0, 1)
    record.forget_unflushed()
    record.flush()
    assert list(record.statements()) == []
    assert record.tombstones_of(document.id, 0, 9) == []


def test_a_closed_statement_stays_on_record_and_a_refused_one_is_never_closed(record: Record) -> None:
    document = record.add_document("patient/p1/drafts", "aaaaaaaaaaaaaaaa")
    author, *_ = record.author("abcdefgh")
    record.add_statement(statement(author, document.id))
    record.add_statement(statement(author, document.id, sid=b"\x02" * 10, number=2, place=Place.REFUSED))
    record.flush()
    record.close_statements([row.id for row in record.statements()])
    assert [row.place for row in record.statements()] == [Place.CLOSED, Place.REFUSED]


def test_clients_are_bound_to_one_document_and_author(record: Record) -> None:
    document = record.add_document("patient/p1/drafts", "aaaaaaaaaaaaaaaa")
    author, *_ = record.author("abcdefgh")
    row = record.add_client(document.id, 77, author, (5, 6))
    own = record.add_client(document.id, 78, None, None)
    record.advance_clients([(row, 3)])
    assert [(it.id, it.client, it.author, it.origin, it.clock) for it in record.clients(document.id)] == [
        (row, 77, author, (5, 6), 3),
        (own, 78, None, None, 0),
    ]
    with pytest.raises(sqlite3.IntegrityError):
        record.add_client(document.id, 77, None, None)


def test_a_statement_that_is_there_is_known_to_be(record: Record) -> None:
    document = record.add_document("patient/p1/drafts", "aaaaaaaaaaaaaaaa")
    one, other = record.author("abcdefgh")[0], record.author("hgfedcba")[0]
    ids = [bytes((number,)) * 10 for number in range(40)]
    assert record.known_statements(one, ids) == set()
    for number in (1, 15, 16, 39):
        record.add_statement(statement(one, document.id, ids[number], number))
    record.flush()
    assert record.known_statements(one, ids) == {ids[number] for number in (1, 15, 16, 39)}
    assert record.known_statements(one, ids[1:2]) == {ids[1]}
    assert record.known_statements(one, ids[2:3]) == set()
    assert record.known_statements(one, []) == set()
    assert record.known_statements(other, ids) == set()


def test_a_new_statement_has_its_columns_in_the_order_of_the_table() -> None:
    names = tuple("place" if name == "status" else name for name in queries().add_statement.names)
    assert names == NewStatement._fields


def test_tombstones_come_by_position(record: Record) -> None:
    document = record.add_document("patient/p1/drafts", "aaaaaaaaaaaaaaaa")
    client = record.add_client(document.id, 77, None, None)
    record.add_tombstone(document.id, 2, client, 1, 3)
    record.add_tombstone(document.id, 1, client, 0, 1)
    record.flush()
    assert record.tombstones_of(document.id, 0, 9) == [(1, 0, client, 1), (2, 1, client, 3)]
    assert record.tombstones_of(document.id, 1, 9) == [(2, 1, client, 3)]


@pytest.mark.parametrize(("on_hand", "shortage"), [(-1, 0), (0, -1)])
def test_the_database_itself_refuses_negative_stock(record: Record, on_hand: int, shortage: int) -> None:
    record.put_stock("s", "i", "l", 0, 0)
    with pytest.raises(sqlite3.IntegrityError):
        record.put_stock("s", "i", "l", on_hand, shortage)
    assert record.stock("s", "i", "l") == (0, 0)
    assert record.stock("s", "i", "other") == (0, 0)


def test_the_ledger_keeps_its_order(record: Record) -> None:
    by = ("abcdefgh.aaaaaaaaaaaaaaaa", "operator.7654327654327654")
    record.put_stock("s", "i", "other", 1, 0)
    record.put_stock("s", "i", "l", 3, 0)
    for delta, ref in zip((3, -1), by, strict=True):
        record.add_movements([Movement("s", "i", "l", MovementType.RECEIPT, delta, ref)], 9)
        record.put_stock("s", "i", "l", 2, 0)
    assert [row[1:] for row in record.movements()] == [
        ("s", "i", "l", "receipt", 3, by[0], 9),
        ("s", "i", "l", "receipt", -1, by[1], 9),
    ]
    with pytest.raises(sqlite3.IntegrityError):
        record.add_movements([Movement("s", "i", "no such lot", MovementType.RECEIPT, 1, by[0])], 9)


def test_registers_are_found_by_document_and_word(record: Record) -> None:
    site = record.add_document("site/a", "aaaaaaaaaaaaaaaa")
    other = record.add_document("site/b", "aaaaaaaaaaaaaaaa")
    for key in ("stock/x/1", "stock/x/2", "stockpile/x", "site"):
        record.put_register(site.id, key, 1, 5, key.encode())
    record.put_register(other.id, "stock/x/1", 1, 5, b"other")
    record.put_register(site.id, "stock/x/2", 2, 6, b"newer")
    assert [(row.key, row.version) for row in record.registers("site/a", "stock")] == [
        ("stock/x/1", 1),
        ("stock/x/2", 2),
    ]
    assert len(record.registers("site/a")) == 4
    found = record.register("site/a", "stock/x/2")
    assert found is not None
    assert (found.value, found.at) == (b"newer", 6)
    assert record.register("site/a", "stock/x/9") is None


def test_notes_awaiting_quarantine_alarms_and_audit(record: Record) -> None:
    record.put_note("receipt", "k", b"1")
    record.put_note("receipt", "k", b"2")
    record.put_note("receipts", "k", b"3")
    assert record.note("receipt", "k") == b"2"
    assert record.notes("receipt") == [("k", b"2")]
    assert record.note("receipt", "l") is None
    record.put_awaited("r", 5)
    record.put_awaited("r", 9)
    assert record.awaited_since("r") == 5
    assert record.all_awaited() == {"r": 5}
    record.drop_awaited("r")
    assert record.awaited_since("r") is None
    record.add_quarantine("abcdefgh", "r", b"bytes", 7)
    assert record.quarantined("r") == ("abcdefgh", b"bytes", 7)
    assert record.quarantine_count("abcdefgh") == 1
    assert record.quarantine_of("abcdefgh") == [("r", b"bytes", 7)]
    with pytest.raises(sqlite3.IntegrityError):
        record.add_quarantine("abcdefgh", "r", b"bytes", 7)
    record.add_alarm(1, "kind", "abcdefgh", "says")
    record.add_audit(1, "what", "who", "says")
    assert record.alarm_count() == 1
    assert [row[1:] for row in record.alarms()] == [(1, "kind", "abcdefgh", "says")]
    assert [row[1:] for row in record.audits()] == [(1, "what", "who", "says")]


def test_an_alarm_is_told_however_many_there_were_before(record: Record) -> None:
    for number in range(5_000):
        record.add_alarm(number, "device_marks", "abcdefgh", "says")
    record.add_alarm(5_000, "number_reused", "bcdefghi", "says")
    assert record.alarm_count() == 5_001
    assert [at for _, at, *_ in record.alarms()] == list(range(5_001))


def test_what_is_rolled_back_never_was(record: Record) -> None:
    record.begin()
    document = record.add_document("patient/p1", "aaaaaaaaaaaaaaaa")
    author, *_ = record.author("abcdefgh")
    record.add_statement(statement(author, document.id))
    record.rollback()
    assert record.documents() == {}
    record.rollback()
    before = record.others()
    record.begin()
    record.add_document("patient/p2", "aaaaaaaaaaaaaaaa")
    record.commit()
    record.flush()
    assert record.documents() == {"patient/p2": 0}
    assert list(record.statements()) == []
    assert record.others() == before


def test_the_schema_and_every_statement_exist_in_the_other_databases_words() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves this one untyped
    for table in METADATA.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=dialect))
    made = queries(dialect)
    for field in dataclasses.fields(made):
        assert getattr(made, field.name).text


def test_a_foreign_key_has_to_exist(record: Record) -> None:
    author, *_ = record.author("abcdefgh")
    record.add_statement(statement(author, 99))
    with pytest.raises(sqlite3.IntegrityError):
        record.flush()


def test_the_last_number_and_id_are_the_highest_that_were_said(record: Record) -> None:
    document = record.add_document("patient/p1", "aaaaaaaaaaaaaaaa")
    author, *_ = record.author("abcdefgh")
    for number in (3, 12, 7):
        record.add_statement(statement(author, document.id, bytes((number,)) * 10, number))
    record.flush()
    assert record.author("abcdefgh") == (author, 12, b"\x0c" * 10)
    assert record.last_number("abcdefgh") == 12
    assert record.last_number("bcdefghi") == 0


# ---- what is SQLite's own ------------------------------------------------------------------------------------------


def test_every_commit_is_on_the_disk_before_it_counts(tmp_path: Path) -> None:
    connection = open_sqlite(tmp_path / "relay.db")
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
    assert connection.execute("PRAGMA journal_size_limit").fetchone() == (4_194_304,)
    connection.close()


def test_a_database_is_migrated_once_and_never_back(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    connection = open_sqlite(path)
    assert version(connection) == LATEST
    assert migrate(connection) == LATEST
    connection.execute("UPDATE schema_version SET version = 99")
    connection.close()
    with pytest.raises(SchemaTooNew, match="schema 99"):
        open_sqlite(path)


def test_a_file_that_is_no_database_is_told_plainly(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    path.write_bytes(b"this is no database, whatever its name says " * 100)
    with pytest.raises(StorageError, match=r"relay\.db"):
        open_sqlite(path)


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    writer = open_sqlite(tmp_path / "relay.db")
    reader = open_sqlite(tmp_path / "relay.db", read_only=True)
    before = SqlRecord(reader).others()
    writer.execute("INSERT INTO author (device) VALUES ('abcdefgh')")
    assert SqlRecord(reader).others() != before
    with pytest.raises(sqlite3.OperationalError):
        reader.execute("DELETE FROM author")
    reader.close()
    writer.close()


def test_a_backup_is_whole_and_overwrites_nothing(tmp_path: Path) -> None:
    connection = open_sqlite(tmp_path / "relay.db")
    SqlRecord(connection).add_document("patient/p1", "aaaaaaaaaaaaaaaa")
    size = backup(connection, tmp_path / "copy.db")
    assert size == (tmp_path / "copy.db").stat().st_size
    copy = open_sqlite(tmp_path / "copy.db")
    assert SqlRecord(copy).documents() == {"patient/p1": 0}
    with pytest.raises(StorageError, match="exists"):
        backup(connection, tmp_path / "copy.db")
    with pytest.raises(StorageError, match="nowhere"):
        backup(connection, tmp_path / "nowhere" / "copy.db")
    copy.close()
    connection.close()


@given(st.binary(min_size=10, max_size=10))
def test_ids_are_ten_bytes_and_sixteen_letters(raw: bytes) -> None:
    from crdtmed.ids import statement_id

    assert text_id(raw) == statement_id(raw)
    assert raw_id(text_id(raw)) == raw


@example([b"\xff" * 10] * 257 + [bytes(10)])
@given(st.lists(st.binary(min_size=10, max_size=10), max_size=600))
def test_many_ids_are_spelt_out_as_each_alone(raws: list[bytes]) -> None:
    assert text_ids(raws) == [text_id(raw).encode() for raw in raws]


@given(st.binary(min_size=5, max_size=5), st.binary(min_size=10, max_size=10))
def test_references_are_fifteen_bytes(device: bytes, sid: bytes) -> None:
    from crdtmed.ids import device_id, ref, statement_id

    text = ref(device_id(device), statement_id(sid))
    assert raw_ref(text) == device + sid
    assert text_ref(device + sid) == text


@given(st.binary(max_size=300), st.integers(1, 9))
@example(b"\x00", 2)
@example(b"\x20", 9)
def test_an_update_is_kept_smaller_and_given_as_it_was(piece: bytes, times: int) -> None:
    update = piece * times
    kept = pack_update(update)
    assert len(kept) <= len(update) + 1
    assert unpack_update(kept) == update


@given(st.binary(max_size=60))
def test_a_broken_update_is_given_as_it_is(data: bytes) -> None:
    if not data.startswith(b"\x00"):
        assert len(unpack_update(data)) >= len(data)


def test_a_packed_statement_is_its_exact_bytes_again() -> None:
    tablet = World().tablet()
    for said in (tablet.dose("p1", "rx1"), tablet.dose("p1", "rx1", seen=("abcdefgh." + "a" * 16,))):
        statement_ = said.statement
        for target, shorter in ((statement_.document, True), ("patient/other/drafts", False)):
            data = pack(said, target)
            assert (len(data) < len(said.encoded) - 40) is shorter
            assert unpack(data, raw_id(statement_.id), target, statement_.device) == said.encoded
            # As it was kept before anything was compressed, and broken: whoever decodes it says so.
            head, body = said.encoded[:64], said.encoded[64:]
            plain = head + body[2:3] + body[20 + len(encode(target)) + 9 :] if shorter else said.encoded
            assert unpack(plain, raw_id(statement_.id), target, statement_.device) == said.encoded
            for broken in (data[:-1], data[:64], data[:65], data[:10] if shorter else data[:64]):
                with pytest.raises(BadStatement):
                    decode(unpack(broken, raw_id(statement_.id), target, statement_.device))
    short = tablet.say(Complete("s1"), "patient/p1")
    kept = pack(short, "patient/p1")
    assert kept[64] in set(Kind) or kept[64] >= 0x20
    assert unpack(kept, raw_id(short.statement.id), "patient/p1", tablet.id) == short.encoded


def test_a_statement_is_kept_in_the_words_of_its_client() -> None:
    tablet = World().tablet()
    first, second = tablet.dose("p1", "rx1"), tablet.dose("p1", "rx1")
    long = tablet.dose("p1", "rx2", seen=tuple(sorted(f"abcdefgh.{letter * 16}" for letter in "abcdefghijkl")))
    target = first.statement.document
    words = words_of(first, target)
    assert words is not None
    assert words_of(first, "patient/other/drafts") is None
    for said in (first, second, long):
        it = said.statement
        data = pack(said, target, words)
        assert data[:64] == said.signature
        assert unpack(data, raw_id(it.id), target, it.device, words) == said.encoded
        assert len(data) <= len(pack(said, target))
        for broken in (data[:-1], data[:66], data + b"\x00", data[:66] + bytes((data[66] ^ 16,)) + data[67:]):
            assert unpack(broken, raw_id(it.id), target, it.device, words) != said.encoded
    data = pack(second, target, words)
    assert len(data) < len(pack(second, target)) - 20
    # Words that are lost, or another's, give no statement that anybody has signed.
    it = second.statement
    assert unpack(data, raw_id(it.id), target, it.device) == data
    assert unpack(data, raw_id(it.id), target, it.device, b"x" * len(words)) != second.encoded
    assert pack(second, "patient/other/drafts", words) == second.encoded


def test_words_are_bounded() -> None:
    tablet = World().tablet()
    long = tablet.dose("p1", "rx2", seen=tuple(sorted(f"abcdefgh.{letter * 16}" for letter in ascii_lowercase)))
    more = tablet.dose("p1", "rx2", seen=long.statement.seen)
    words = words_of(long, long.statement.document)
    assert words is not None
    assert len(words) <= MAX_WORDS_BYTES
    data = pack(more, more.statement.document, words)
    assert unpack(data, raw_id(more.statement.id), more.statement.document, tablet.id, words) == more.encoded


def test_compressed_bytes_are_told_from_kinds_and_whole_bodies() -> None:
    assert max(Kind) < 0x1F, "0x1f stands before what is said in a client's words"
    heads = {0x20, 0x60, 0xA0, 0xE0}
    for size in (64, 300, 70_000):
        made = compress((shake_256(b"noise").digest(size) + b"prescription" * size)[: size * 2])
        assert made is not None
        assert made[0] in heads
    assert not heads & {0x9B, 0x00, *Kind}
