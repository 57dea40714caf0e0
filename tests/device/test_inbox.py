"""The inbox as a table: what is done is told apart from what was never open."""

import sqlite3
from contextlib import closing

import msgspec

from crdtmed import keys, statement
from crdtmed.codec import encode
from crdtmed.contract import Kind
from crdtmed.device import inbox
from crdtmed.device.store_schema import migrate
from crdtmed.statement import SignedStatement, Statement

SIGNER = keys.SoftwareSigner.from_scalar(7)


def said(number: int) -> SignedStatement:
    """A signed statement."""
    name = "aaaaaaaaaaaaaaa" + "abcdef"[number]
    of = (1, Kind.STOP, name, "patient/p1", "aaaaaaaa", number + 1, "ann/aaaaaaaa", number, (), None)
    return statement.sign(Statement(*of, msgspec.Raw(encode("x"))), SIGNER)


def test_entries_of_statements_are_closed_together_and_it_is_told_whether_there_were_any() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        first, second, third = (said(number) for number in range(3))
        for one in (first, second):
            inbox.put(connection, "lot_unknown", "no such lot", 5, one)
        assert not inbox.close_of(connection, [])
        assert not inbox.close_of(connection, [third.statement.ref])
        assert inbox.count(connection) == 2
        assert inbox.close_of(connection, [third.statement.ref, first.statement.ref])
        assert not inbox.close_of(connection, [first.statement.ref]), "it is done already"
        assert inbox.count(connection) == 1
        assert [(one.statement, one.open) for one in inbox.entries(connection, closed=True)] == [
            (first, False),
            (second, True),
        ]
