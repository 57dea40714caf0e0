"""Users, their roles and sites, and the rosters: what the operator keeps.

A user's roles hold at every one of the user's sites; who works in different roles at different places has a user for
each.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from crdtmed import ids, sealing
from crdtmed.contract import Role
from crdtmed.limits import (
    MAX_PASSWORD_CHARS,
    MAX_ROSTER,
    MAX_SHORT_TEXT_CHARS,
    MAX_SITES_PER_GRANT,
    MIN_PASSWORD_CHARS,
    SIGN_IN_ATTEMPTS,
)
from relay.identity import rows
from relay.identity.leases import Terms
from relay.identity.rows import UserRow


class NotPossible(ValueError):
    """The operator asked for something that cannot be; the message says why and what to do."""


def _name(text: str) -> str:
    if not 0 < len(text.strip()) <= MAX_SHORT_TEXT_CHARS:
        raise NotPossible(f"a name has 1 to {MAX_SHORT_TEXT_CHARS} characters")
    return text.strip()


def _joined(db: Any, roles: Iterable[Role], sites: Iterable[str]) -> tuple[str, str]:
    role_names, site_names = sorted(set(roles)), sorted(set(sites))
    unknown = [site for site in site_names if not rows.has_site(db, site)]
    if unknown:
        raise NotPossible(f"there is no site {', '.join(unknown)}: add it first")
    if len(site_names) > MAX_SITES_PER_GRANT:
        raise NotPossible(f"a user has at most {MAX_SITES_PER_GRANT} sites, these are {len(site_names)}")
    return " ".join(role_names), " ".join(site_names)


def _hashed(password: str, terms: Terms, random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    if not MIN_PASSWORD_CHARS <= len(password) <= MAX_PASSWORD_CHARS:
        raise NotPossible(f"a password has {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS} characters")
    salt = random(sealing.SALT_BYTES)
    return salt, sealing.stretch(password, salt, terms.login_cost)


def user(db: Any, key: str) -> UserRow:
    """The user of that id; raises `NotPossible`."""
    row = rows.user(db, key)
    if row is None:
        raise NotPossible(f"there is no user {key!r}")
    return row


def add(
    db: Any,
    terms: Terms,
    key: str,
    name: str,
    roles: Iterable[Role],
    sites: Iterable[str],
    password: str,
    random: Callable[[int], bytes],
) -> None:
    """A new user; raises `NotPossible`.  Ids are never used again: statements name them for ever."""
    if not ids.is_user_id(key):
        raise NotPossible(f"{key!r} is no user id: up to 32 of a-z, 0-9, dot, hyphen and underscore")
    if rows.user(db, key) is not None:
        raise NotPossible(f"there is a user {key!r}, now or in the past: choose another id")
    role_names, site_names = _joined(db, roles, sites)
    salt, hashed = _hashed(password, terms, random)
    rows.put_user(
        db, UserRow(key, _name(name), role_names, site_names, salt, hashed, SIGN_IN_ATTEMPTS, None, None, None)
    )


def change(db: Any, key: str, roles: Iterable[Role], sites: Iterable[str]) -> None:
    """Other roles and sites, from the next grant on; raises `NotPossible`."""
    role_names, site_names = _joined(db, roles, sites)
    rows.put_user(db, replace(user(db, key), roles=role_names, sites=site_names))


def set_password(db: Any, terms: Terms, key: str, password: str, random: Callable[[int], bytes]) -> None:
    """A new password, and all sign-in attempts again; raises `NotPossible`."""
    salt, hashed = _hashed(password, terms, random)
    rows.put_user(db, replace(user(db, key), salt=salt, hash=hashed, attempts=SIGN_IN_ATTEMPTS))


def unlock(db: Any, key: str) -> None:
    """All sign-in attempts again; raises `NotPossible`."""
    rows.set_user_attempts(db, user(db, key).user, SIGN_IN_ATTEMPTS)


def withdraw(db: Any, key: str, now_ms: int) -> int:
    """The user may nothing from now on; since when that is so.  Raises `NotPossible` for an unknown one."""
    row = user(db, key)
    if row.withdrawn_at is not None:
        return row.withdrawn_at
    rows.set_withdrawn(db, key, now_ms)
    for site in rows.sites(db):
        rows.take_off_roster(db, site, key)
    return now_ms


def add_site(db: Any, key: str, name: str) -> None:
    """A site, new or renamed; raises `NotPossible`."""
    if not ids.is_scope_id(key):
        raise NotPossible(f"{key!r} is no site id: up to 32 of a-z, 0-9, dot, hyphen and underscore")
    rows.put_site(db, key, _name(name))


def put_on_roster(db: Any, site: str, key: str) -> None:
    """The user is issued grants ahead at one of their sites; raises `NotPossible`."""
    row = user(db, key)
    if row.withdrawn_at is not None:
        raise NotPossible(f"{key} was withdrawn")
    if site not in row.sites.split():
        raise NotPossible(f"{site} is not among the sites of {key}: change the user first")
    if len(rows.roster(db, site)) >= MAX_ROSTER:
        raise NotPossible(f"a roster has at most {MAX_ROSTER} people")
    rows.put_on_roster(db, site, key)


def take_off_roster(db: Any, site: str, key: str) -> None:
    """No more grants ahead for the user at the site; those issued run out by themselves."""
    rows.take_off_roster(db, site, key)
