"""Sites, users, rosters and enrolment codes."""

import os
from collections.abc import Sequence
from typing import Any
from zoneinfo import available_timezones

from crdtmed.aggregates.site import SiteRegister, site_problems
from crdtmed.contract import Role
from crdtmed.ids import is_scope_id
from relay.batch import Batch
from relay.identity import enrolment, rows, users
from relay.operator.office import Office

Report = dict[str, Any]
"""What a command found or did, as it is printed with ``--json``."""


class Refused(Exception):
    """The command cannot be done; the message says why and what to do."""


def add_site(office: Office, site: str, name: str, address: str, time_zone: str) -> Report:
    """A site, new or changed: in the identity service, and in its own document for everybody to read."""
    register = SiteRegister(site, name, address, time_zone)
    for problem in site_problems(register):
        raise Refused(f"{problem.field} {problem.says}")
    if not is_scope_id(site):
        raise Refused(f"site {site[:40]!r}: write a-z, 0-9, dot, dash and underscore, at most 32")
    if time_zone not in available_timezones():
        raise Refused(f"zone {time_zone[:40]!r} is no IANA time zone: write one like Europe/Berlin")

    def act(batch: Batch) -> None:
        users.add_site(batch.record.connection, site, name)
        batch.put(f"site/{site}", register)

    office.run(act)
    return {"site": site, "name": name}


def list_sites(office: Office) -> list[Report]:
    """Every site."""
    found = rows.sites(office.record.connection)
    return [{"site": site, "name": name} for site, name in sorted(found.items())]


def add_user(
    office: Office, user: str, name: str, roles: Sequence[Role], sites: Sequence[str], password: str
) -> Report:
    """A new user."""
    terms = office.identity.terms
    office.run(lambda batch: users.add(batch.record.connection, terms, user, name, roles, sites, password, os.urandom))
    return {"user": user, "roles": [role.value for role in roles], "sites": list(sites)}


def change_user(office: Office, user: str, roles: Sequence[Role], sites: Sequence[str]) -> Report:
    """Other roles and sites for a user, from the next grant on."""
    office.run(lambda batch: users.change(batch.record.connection, user, roles, sites))
    return {"user": user, "roles": [role.value for role in roles], "sites": list(sites)}


def set_password(office: Office, user: str, password: str) -> Report:
    """A new password."""
    terms = office.identity.terms
    office.run(lambda batch: users.set_password(batch.record.connection, terms, user, password, os.urandom))
    return {"user": user, "password": "set"}


def unlock_user(office: Office, user: str) -> Report:
    """All attempts to sign in again."""
    office.run(lambda batch: users.unlock(batch.record.connection, user))
    return {"user": user, "unlocked": True}


def withdraw_user(office: Office, user: str) -> Report:
    """The user may nothing from now on."""
    at = office.run(lambda batch: users.withdraw(batch.record.connection, user, office.now_ms))
    return {"user": user, "withdrawn_at": at}


def list_users(office: Office) -> list[Report]:
    """Every user, withdrawn ones too."""
    return [
        {
            "user": row.user,
            "name": row.name,
            "roles": row.roles.split(),
            "sites": row.sites.split(),
            "withdrawn_at": row.withdrawn_at,
            "attempts_left": row.attempts,
        }
        for row in rows.users(office.record.connection)
    ]


def put_on_roster(office: Office, site: str, names: Sequence[str]) -> Report:
    """Users who are issued grants ahead at a site."""

    def act(batch: Batch) -> None:
        for name in names:
            users.put_on_roster(batch.record.connection, site, name)

    office.run(act)
    return {"site": site, "roster": [row.user for row in rows.roster(office.record.connection, site)]}


def take_off_roster(office: Office, site: str, names: Sequence[str]) -> Report:
    """No more grants ahead for these users at the site."""

    def act(batch: Batch) -> None:
        for name in names:
            users.take_off_roster(batch.record.connection, site, name)

    office.run(act)
    return {"site": site, "roster": [row.user for row in rows.roster(office.record.connection, site)]}


def show_roster(office: Office, site: str) -> list[Report]:
    """Who is on a site's roster."""
    return [{"user": row.user, "name": row.name} for row in rows.roster(office.record.connection, site)]


def give_code(office: Office, sites: Sequence[str]) -> Report:
    """A one-time code for enrolling a device of these sites."""
    terms = office.identity.terms
    code = office.run(
        lambda batch: enrolment.give_code(batch.record.connection, terms, tuple(sites), office.now_ms, os.urandom)
    )
    return {"code": code.text, "expires_at": code.expires_at, "sites": list(sites)}
