"""The rows of the identity service as values, and the SQL that reads and writes them."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ClauseElement, Table, bindparam, delete, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from relay.identity.tables import CODE, DEVICE, ENTRY, GRANT, ROSTER, SITE, USER
from relay.storage.sql import Sql


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device as `relay.identity.tables.DEVICE` has it."""

    device: str
    label: str
    sites: str
    signing: bytes
    sealing: bytes
    enrolled_at: int
    lease_serial: int
    leased_at: int
    lease_seen: int
    lease_passed: int
    number_seen: int
    key_id: str
    key_since: int
    wrapped: bytes | None
    wrapped_before: bytes | None
    revoked_at: int | None
    handed_over: int
    wiped_at: int | None
    wiped_number: int | None


@dataclass(frozen=True, slots=True)
class CodeRow:
    """An enrolment code that was given out."""

    name: str
    salt: bytes
    hash: bytes
    sites: str
    expires_at: int
    attempts: int


@dataclass(frozen=True, slots=True)
class UserRow:
    """A user as `relay.identity.tables.USER` has it."""

    user: str
    name: str
    roles: str
    sites: str
    salt: bytes
    hash: bytes
    attempts: int
    pin_salt: bytes | None
    pin_wrapped: bytes | None
    withdrawn_at: int | None


@dataclass(frozen=True, slots=True)
class GrantRow:
    """A grant that was issued; ``ahead`` is 1 for a roster's."""

    id: str
    user: str
    device: str
    ahead: int
    not_before: int
    not_after: int
    data: bytes


def _key(table: Table) -> Any:
    return next(iter(table.primary_key.columns))


def _insert(table: Table) -> Sql:
    return Sql(insert(table).values({column.name: bindparam(f"v_{column.name}") for column in table.columns}))


def _put(table: Table) -> Sql:
    made = upsert(table).values({column.name: bindparam(f"v_{column.name}") for column in table.columns})
    keys = [column.name for column in table.primary_key.columns]
    rest = {column.name: made.excluded[column.name] for column in table.columns if column.name not in keys}
    clause: ClauseElement = (
        made.on_conflict_do_update(index_elements=keys, set_=rest) if rest else made.on_conflict_do_nothing()
    )
    return Sql(clause)


def _set(table: Table, *names: str) -> Sql:
    return Sql(
        update(table).values({name: bindparam(f"v_{name}") for name in names}).where(_key(table) == bindparam("k"))
    )


def _get(table: Table) -> Sql:
    return Sql(select(table).where(_key(table) == bindparam("k")))


def _all(table: Table) -> Sql:
    return Sql(select(table).order_by(*table.primary_key.columns))


def _values(row: object) -> dict[str, object]:
    return {f"v_{name}": getattr(row, name) for name in row.__dataclass_fields__}  # type: ignore[attr-defined]  # every row is a dataclass


_LEASE_FIELDS: Final = ("lease_serial", "leased_at", "key_id", "key_since", "wrapped", "wrapped_before")
_DEVICE: Final = _get(DEVICE)
_DEVICES: Final = _all(DEVICE)
_BY_SIGNING: Final = Sql(select(DEVICE).where(DEVICE.c.signing == bindparam("k")))
_ADD_DEVICE: Final = _insert(DEVICE)
_LEASED: Final = _set(DEVICE, *_LEASE_FIELDS)
_MARKED: Final = _set(DEVICE, "lease_seen", "lease_passed", "number_seen", "wrapped_before")
_NAMED: Final = _set(DEVICE, "label", "sites")
_REVOKED: Final = _set(DEVICE, "revoked_at", "wrapped", "wrapped_before")
_HANDED_OVER: Final = _set(DEVICE, "handed_over")
_WIPED: Final = _set(DEVICE, "wiped_at", "wiped_number")
_ENTRY: Final = _get(ENTRY)
_ENTRIES: Final = _all(ENTRY)
_PUT_ENTRY: Final = _put(ENTRY)
_CODE: Final = _get(CODE)
_ADD_CODE: Final = _insert(CODE)
_CODE_ATTEMPTS: Final = _set(CODE, "attempts")
_DROP_CODE: Final = Sql(delete(CODE).where(CODE.c.name == bindparam("k")))
_DROP_CODES: Final = Sql(delete(CODE).where(CODE.c.expires_at <= bindparam("now")))
_USER: Final = _get(USER)
_USERS: Final = _all(USER)
_PUT_USER: Final = _put(USER)
_USER_ATTEMPTS: Final = _set(USER, "attempts")
_USER_PIN: Final = _set(USER, "pin_salt", "pin_wrapped")
_WITHDRAWN: Final = _set(USER, "withdrawn_at", "pin_salt", "pin_wrapped")
_SITE: Final = _get(SITE)
_SITES: Final = _all(SITE)
_PUT_SITE: Final = _put(SITE)
_PUT_ROSTER: Final = _put(ROSTER)
_DROP_ROSTER: Final = Sql(delete(ROSTER).where(ROSTER.c.site == bindparam("site"), ROSTER.c.user == bindparam("user")))
_ROSTER: Final = Sql(
    select(USER)
    .select_from(ROSTER.join(USER, ROSTER.c.user == USER.c.user))
    .where(ROSTER.c.site == bindparam("k"), USER.c.withdrawn_at.is_(None))
    .order_by(USER.c.user)
)
_GRANT: Final = _get(GRANT)
_ADD_GRANT: Final = _insert(GRANT)
_GRANTS_IN_FORCE: Final = Sql(
    select(GRANT)
    .where(
        GRANT.c.device == bindparam("device"),
        GRANT.c.not_before <= bindparam("at"),
        GRANT.c.not_after >= bindparam("to"),
    )
    .order_by(GRANT.c.not_after, GRANT.c.id)
)
_GRANTS_AHEAD: Final = Sql(
    select(GRANT)
    .where(
        GRANT.c.device == bindparam("device"),
        GRANT.c.user == bindparam("user"),
        GRANT.c.ahead == 1,
        GRANT.c.not_after >= bindparam("least"),
    )
    .order_by(GRANT.c.not_after.desc(), GRANT.c.id)
    .limit(1)
)


def device(db: Any, key: str) -> DeviceRow | None:
    """The device of that id."""
    row = _DEVICE.one(db, k=key)
    return DeviceRow(*row) if row else None


def device_of_key(db: Any, signing: bytes) -> DeviceRow | None:
    """The device with that public signing key."""
    row = _BY_SIGNING.one(db, k=signing)
    return DeviceRow(*row) if row else None


def devices(db: Any) -> tuple[DeviceRow, ...]:
    """Every device, by id."""
    return tuple(DeviceRow(*row) for row in _DEVICES.all(db))


def add_device(db: Any, row: DeviceRow) -> None:
    """A new device."""
    _ADD_DEVICE.run(db, **_values(row))


def set_label_and_sites(db: Any, key: str, label: str, sites: str) -> None:
    """What the device is called, and for which sites it is."""
    _NAMED.run(db, k=key, v_label=label, v_sites=sites)


def set_lease(db: Any, row: DeviceRow) -> None:
    """What is known of the device's lease and keys, from ``row``."""
    values = {f"v_{name}": getattr(row, name) for name in _LEASE_FIELDS}
    _LEASED.run(db, k=row.device, **values)


def set_marks(db: Any, row: DeviceRow) -> None:
    """The highest marks that the device reported, and whether the key before is still kept, from ``row``."""
    _MARKED.run(
        db,
        k=row.device,
        v_lease_seen=row.lease_seen,
        v_lease_passed=row.lease_passed,
        v_number_seen=row.number_seen,
        v_wrapped_before=row.wrapped_before,
    )


def set_revoked(db: Any, key: str, at: int) -> None:
    """Out of service from ``at``, and without a key from now on."""
    _REVOKED.run(db, k=key, v_revoked_at=at, v_wrapped=None, v_wrapped_before=None)


def set_handed_over(db: Any, key: str, count: int) -> None:
    """How many statements the device handed over since it was revoked."""
    _HANDED_OVER.run(db, k=key, v_handed_over=count)


def set_wiped(db: Any, key: str, at: int, number: int) -> None:
    """The device confirmed its wipe; ``number`` is the last statement number that it gave out."""
    _WIPED.run(db, k=key, v_wiped_at=at, v_wiped_number=number)


def entry(db: Any, key: str) -> bytes | None:
    """One entry of the directory."""
    row = _ENTRY.one(db, k=key)
    return bytes(row[1]) if row else None


def entries(db: Any) -> dict[str, bytes]:
    """Every entry of the directory."""
    return {key: bytes(data) for key, data in _ENTRIES.all(db)}


def put_entry(db: Any, key: str, data: bytes) -> None:
    """An entry of the directory, replacing the one under its key."""
    _PUT_ENTRY.run(db, v_key=key, v_data=data)


def code(db: Any, name: str) -> CodeRow | None:
    """The enrolment code of that name."""
    row = _CODE.one(db, k=name)
    return CodeRow(*row) if row else None


def add_code(db: Any, row: CodeRow) -> None:
    """A new enrolment code."""
    _ADD_CODE.run(db, **_values(row))


def set_code_attempts(db: Any, name: str, left: int) -> None:
    """How many attempts a code has left."""
    _CODE_ATTEMPTS.run(db, k=name, v_attempts=left)


def drop_code(db: Any, name: str) -> None:
    """The code is used."""
    _DROP_CODE.run(db, k=name)


def drop_codes(db: Any, now_ms: int) -> None:
    """Codes that have expired are gone."""
    _DROP_CODES.run(db, now=now_ms)


def user(db: Any, key: str) -> UserRow | None:
    """The user of that id, withdrawn or not."""
    row = _USER.one(db, k=key)
    return UserRow(*row) if row else None


def users(db: Any) -> tuple[UserRow, ...]:
    """Every user, by id."""
    return tuple(UserRow(*row) for row in _USERS.all(db))


def put_user(db: Any, row: UserRow) -> None:
    """A user, new or changed."""
    _PUT_USER.run(db, **_values(row))


def set_user_attempts(db: Any, key: str, left: int) -> None:
    """How many sign-in attempts a user has left."""
    _USER_ATTEMPTS.run(db, k=key, v_attempts=left)


def set_user_pin(db: Any, key: str, salt: bytes, wrapped: bytes) -> None:
    """The user's PIN, stretched and locked under the master key."""
    _USER_PIN.run(db, k=key, v_pin_salt=salt, v_pin_wrapped=wrapped)


def set_withdrawn(db: Any, key: str, at: int) -> None:
    """The user is withdrawn from ``at``, and the PIN is forgotten."""
    _WITHDRAWN.run(db, k=key, v_withdrawn_at=at, v_pin_salt=None, v_pin_wrapped=None)


def has_site(db: Any, key: str) -> bool:
    """Whether there is such a site."""
    return _SITE.one(db, k=key) is not None


def sites(db: Any) -> dict[str, str]:
    """Every site with its name."""
    return dict(_SITES.all(db))


def put_site(db: Any, key: str, name: str) -> None:
    """A site, new or renamed."""
    _PUT_SITE.run(db, v_site=key, v_name=name)


def put_on_roster(db: Any, site: str, user: str) -> None:
    """The user is issued grants ahead at the site."""
    _PUT_ROSTER.run(db, v_site=site, v_user=user)


def take_off_roster(db: Any, site: str, user: str) -> None:
    """The user is not, or no longer, issued grants ahead at the site."""
    _DROP_ROSTER.run(db, site=site, user=user)


def roster(db: Any, site: str) -> tuple[UserRow, ...]:
    """Who is on the roster of a site and in service."""
    return tuple(UserRow(*row) for row in _ROSTER.all(db, k=site))


def grant(db: Any, key: str) -> GrantRow | None:
    """The grant of that id."""
    row = _GRANT.one(db, k=key)
    return GrantRow(*row) if row else None


def add_grant(db: Any, row: GrantRow) -> None:
    """A grant that was issued."""
    _ADD_GRANT.run(db, **_values(row))


def grants_in_force(db: Any, device: str, now_ms: int) -> tuple[GrantRow, ...]:
    """The grants that cover ``now_ms`` on a device."""
    found = _GRANTS_IN_FORCE.all(db, device=device, at=now_ms, to=now_ms)
    return tuple(GrantRow(*row) for row in found)


def grant_ahead(db: Any, device: str, user: str, least_until_ms: int) -> GrantRow | None:
    """The longest of the user's grants issued ahead on the device that lasts until ``least_until_ms`` at least."""
    row = _GRANTS_AHEAD.one(db, device=device, user=user, least=least_until_ms)
    return GrantRow(*row) if row else None
