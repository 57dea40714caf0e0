"""Carrying the identity service over a restoration: what was revoked, withdrawn or issued since the backup stays so.

A backup knows nothing of a device that was revoked after it was made.  Where the database that it replaces can still
be read, the identity service's tables are taken from there: they are newer, and belong to no document.
"""

from typing import Any, Final

from sqlalchemy import bindparam, delete, insert, select

from crdtmed.keys import Signer
from relay.identity import directory
from relay.identity.tables import METADATA
from relay.storage.sql import Sql

_TABLES: Final = tuple(
    (
        Sql(select(table)),
        Sql(delete(table)),
        Sql(insert(table).values({column.name: bindparam(f"v_{column.name}") for column in table.columns})),
        tuple(f"v_{column.name}" for column in table.columns),
    )
    for table in METADATA.sorted_tables
)


def carry_over(replaced: Any, restored: Any, signer: Signer) -> int:
    """Puts the identity tables of ``replaced`` in the place of those of ``restored`` (in a transaction); gives how many
    rows.

    Both are databases of one schema.  Raises `relay.identity.directory.AnotherIdentity`, with nothing changed, where
    the directory of either is not there, or not signed by ``signer``.
    """
    for database in (replaced, restored):
        directory.check(database, signer)
        if directory.head(database) is None:
            raise directory.AnotherIdentity("a database without a directory is nobody's")
    found = [(every.all(replaced), clear, add, names) for every, clear, add, names in _TABLES]
    count = 0
    for rows, clear, add, names in found:
        clear.run(restored)
        add.many(restored, [dict(zip(names, row, strict=True)) for row in rows])
        count += len(rows)
    return count
