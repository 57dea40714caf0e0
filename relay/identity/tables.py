"""The tables of the embedded identity service, in the relay's database, so that what it decides commits with the rest.

Everything secret in them is hashed (passwords, codes) or locked under the service's master key (database keys, PINs).
"""

from typing import Final

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, LargeBinary, MetaData, Table, Text

METADATA: Final = MetaData()

DEVICE: Final = Table(
    "identity_device",
    METADATA,
    Column("device", Text, primary_key=True),
    Column("label", Text, nullable=False),
    Column("sites", Text, nullable=False),
    Column("signing", LargeBinary, nullable=False, unique=True),
    Column("sealing", LargeBinary, nullable=False),
    Column("enrolled_at", BigInteger, nullable=False),
    Column("lease_serial", BigInteger, nullable=False),
    Column("leased_at", BigInteger, nullable=False),
    Column("lease_seen", BigInteger, nullable=False),
    Column("lease_passed", BigInteger, nullable=False),
    Column("number_seen", BigInteger, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("key_since", BigInteger, nullable=False),
    Column("wrapped", LargeBinary),
    Column("wrapped_before", LargeBinary),
    Column("revoked_at", BigInteger),
    Column("handed_over", BigInteger, nullable=False),
    Column("wiped_at", BigInteger),
    Column("wiped_number", BigInteger),
    # A revoked device has no key left, and only a revoked one can have been wiped.
    CheckConstraint("revoked_at IS NULL OR wrapped IS NULL", name="revoked_has_no_key"),
    CheckConstraint("revoked_at IS NULL OR wrapped_before IS NULL", name="revoked_has_no_old_key"),
    CheckConstraint("wiped_at IS NULL OR revoked_at IS NOT NULL", name="wiped_after_revocation"),
    sqlite_with_rowid=False,
)
"""``wrapped`` and ``wrapped_before`` are the database key in force and the one before, under the master key; the latter
until the device took over lease ``key_since``.  ``lease_seen`` and ``number_seen`` are the highest marks that the
device itself reported, ``lease_passed`` the last lease that it had been given and yet reported an earlier one;
``sites`` are separated by spaces."""

ENTRY: Final = Table(
    "identity_entry",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("data", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""The directory: every entry as it is signed, the head among them."""

CODE: Final = Table(
    "identity_code",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("sites", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    CheckConstraint("attempts >= 0", name="code_attempts"),
    sqlite_with_rowid=False,
)
"""Enrolment codes that were given out and not used; ``attempts`` are those left."""

USER: Final = Table(
    "identity_user",
    METADATA,
    Column("user", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("roles", Text, nullable=False),
    Column("sites", Text, nullable=False),
    Column("salt", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("pin_salt", LargeBinary),
    Column("pin_wrapped", LargeBinary),
    Column("withdrawn_at", BigInteger),
    CheckConstraint("attempts >= 0", name="user_attempts"),
    sqlite_with_rowid=False,
)
"""``attempts`` are those left until the operator unlocks; ``pin_wrapped`` is the stretched PIN under the master key."""

SITE: Final = Table(
    "identity_site",
    METADATA,
    Column("site", Text, primary_key=True),
    Column("name", Text, nullable=False),
    sqlite_with_rowid=False,
)

ROSTER: Final = Table(
    "identity_roster",
    METADATA,
    Column("site", Text, primary_key=True),
    Column("user", Text, primary_key=True),
    sqlite_with_rowid=False,
)
"""Who is issued grants ahead at a site."""

GRANT: Final = Table(
    "identity_grant",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("user", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("ahead", BigInteger, nullable=False),
    Column("not_before", BigInteger, nullable=False),
    Column("not_after", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""Every grant ever issued, as it is signed: a statement is judged by the grant that it names, however late it comes."""
Index("identity_grant_of", GRANT.c.device, GRANT.c.user, GRANT.c.ahead, GRANT.c.not_after)
