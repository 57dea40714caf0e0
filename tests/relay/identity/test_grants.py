"""Signing in, grants, rosters: who may what on which device, and until when."""

from collections.abc import Callable

import pytest

from crdtmed import sealing
from crdtmed.contract import Role
from crdtmed.limits import DRIFT_MS, GRANT_HOURS, GRANT_REISSUE_HOURS, SIGN_IN_ATTEMPTS
from crdtmed.sealing import CannotOpen
from crdtmed.signed import Grant
from crdtmed.trust import covers, read_grant
from crdtmed.wire.frames import SealedGrant
from relay.identity import grants, revocation, rows, users
from relay.identity.grants import SignInFailure
from relay.identity.users import NotPossible
from tests.relay.identity.setting import CHEAP, HOUR, PASSWORD, PIN, T0, TERMS, World, world


def try_sign_in(setting: World, device: str, user: str, password: str, pin: str | None = None) -> object:
    return setting.identity.sign_in(setting.db, device, user, password, pin, T0, setting.random)


def test_a_grant_says_who_may_what_where_and_how_long() -> None:
    setting = world()
    _, device = setting.enrol()
    given = setting.identity.sign_in(setting.db, device.device, "cy", PASSWORD, None, T0, setting.random)
    assert isinstance(given, bytes)
    grant = read_grant(given, setting.anchor, device.device)
    assert grant == setting.identity.grant(setting.db, grant.id)
    assert grant == Grant(
        grant.id,
        "cy",
        "Cy",
        device.device,
        (Role.PHARMACIST,),
        ("pharmacy", "ward-a"),
        T0 - DRIFT_MS,
        T0 + GRANT_HOURS * HOUR,
    )
    assert grant.id.startswith("cy/")
    assert covers(grant, T0)
    assert covers(grant, T0 + GRANT_HOURS * HOUR)
    assert not covers(grant, T0 + GRANT_HOURS * HOUR + 1)
    assert not covers(grant, T0 - DRIFT_MS - 1)


def test_a_wrong_password_an_unknown_user_and_none_look_alike() -> None:
    setting = world()
    _, device = setting.enrol()
    found = [try_sign_in(setting, device.device, user, password) for user, password in (("ada", "x"), ("eve", "x"))]
    assert found == [SignInFailure("wrong"), SignInFailure("wrong")]


def test_attempts_are_limited_and_only_the_operator_gives_them_back() -> None:
    setting = world()
    _, device = setting.enrol()
    for _ in range(SIGN_IN_ATTEMPTS):
        assert try_sign_in(setting, device.device, "ada", "wrong") == SignInFailure("wrong")
    assert try_sign_in(setting, device.device, "ada", PASSWORD) == SignInFailure("locked")
    assert isinstance(try_sign_in(setting, device.device, "cy", PASSWORD), bytes)
    users.unlock(setting.db, "ada")
    assert isinstance(try_sign_in(setting, device.device, "ada", PASSWORD), bytes)


def test_attempts_are_spent_before_they_are_judged() -> None:
    """Many tries under way at once count each, so a crowd of connections gains nothing."""
    setting = world()
    _, device = setting.enrol()
    begun = [
        setting.identity.sign_in_begin(setting.db, device.device, "ada", "guess", None, setting.random)
        for _ in range(SIGN_IN_ATTEMPTS + 3)
    ]
    assert begun[SIGN_IN_ATTEMPTS:] == [SignInFailure("locked")] * 3
    assert not any(isinstance(check, SignInFailure) for check in begun[:SIGN_IN_ATTEMPTS])


def test_a_right_password_gives_all_attempts_back() -> None:
    setting = world()
    _, device = setting.enrol()
    for _ in range(3):
        for _ in range(SIGN_IN_ATTEMPTS - 1):
            try_sign_in(setting, device.device, "ada", "wrong")
        assert isinstance(try_sign_in(setting, device.device, "ada", PASSWORD), bytes)


def test_a_password_changed_meanwhile_does_not_sign_in() -> None:
    setting = world()
    _, device = setting.enrol()
    check = setting.identity.sign_in_begin(setting.db, device.device, "ada", PASSWORD, None, setting.random)
    assert not isinstance(check, SignInFailure)
    checked = check.run()
    users.set_password(setting.db, TERMS, "ada", "another long one", setting.random)
    found = setting.identity.sign_in_finish(setting.db, checked, T0, setting.random)
    assert found == SignInFailure("wrong")


@pytest.mark.parametrize("pin", ["", "123", "1" * 65])
def test_a_pin_of_the_wrong_length_is_named_before_anything_is_spent(pin: str) -> None:
    setting = world()
    _, device = setting.enrol()
    assert try_sign_in(setting, device.device, "ada", PASSWORD, pin) == SignInFailure("pin_length")
    row = rows.user(setting.db, "ada")
    assert row is not None
    assert row.attempts == SIGN_IN_ATTEMPTS


def test_withdrawn_users_and_users_without_a_role_get_no_grant() -> None:
    setting = world()
    _, device = setting.enrol()
    users.change(setting.db, "bo", [], ["ward-a"])
    assert try_sign_in(setting, device.device, "bo", PASSWORD) == SignInFailure("no_grant")
    assert users.withdraw(setting.db, "ada", T0) == T0
    assert users.withdraw(setting.db, "ada", T0 + 5) == T0
    assert try_sign_in(setting, device.device, "ada", PASSWORD) == SignInFailure("withdrawn")
    assert try_sign_in(setting, device.device, "ada", "wrong") == SignInFailure("wrong")
    assert setting.identity.withdrawn_at(setting.db, "ada") == T0
    assert setting.identity.withdrawn_at(setting.db, "bo") is None


def test_a_revoked_device_gets_no_grant() -> None:
    setting = world()
    _, device = setting.enrol()
    revocation.revoke(setting.db, setting.ring, device.device, "lost", False, T0)
    assert try_sign_in(setting, device.device, "ada", PASSWORD) == SignInFailure("no_grant")


def test_a_password_is_stored_only_hashed() -> None:
    setting = world()
    assert PASSWORD not in "\n".join(setting.db.iterdump())
    assert PASSWORD.encode().hex() not in "\n".join(setting.db.iterdump()).lower()


# ---- rosters -----------------------------------------------------------------------------------------------------


def staffed() -> tuple[World, str]:
    """A ward's device, and a roster of bo and cy who have set their PINs; ada is on it without one."""
    setting = world()
    _, device = setting.enrol("ward-a")
    for user in ("ada", "bo", "cy"):
        users.put_on_roster(setting.db, "ward-a", user)
    for user in ("bo", "cy"):
        setting.sign_in(device.device, user)
    return setting, device.device


def opened(setting: World, sealed: SealedGrant, device: str, pin: str = PIN) -> Grant:
    key = sealing.stretch(pin, sealed.salt, CHEAP)
    context = sealing.grant_context(device, sealed.user, sealed.name)
    return read_grant(sealing.unlock(key, sealed.nonce, sealed.sealed, context, "the grant"), setting.anchor, device)


def roster(setting: World, device: str, now_ms: int = T0, site: str = "ward-a") -> dict[str, SealedGrant]:
    given = setting.identity.roster(setting.db, device, site, now_ms, setting.random)
    return {sealed.user: sealed for sealed in given}


def test_a_roster_holds_a_grant_for_each_who_set_a_pin_and_only_the_pin_opens_it() -> None:
    setting, device = staffed()
    sealed = roster(setting, device)
    assert sorted(sealed) == ["bo", "cy"]
    assert opened(setting, sealed["bo"], device).user == "bo"
    assert opened(setting, sealed["bo"], device).roles == (Role.NURSE,)
    with pytest.raises(CannotOpen):
        opened(setting, sealed["bo"], device, "1357")
    with pytest.raises(CannotOpen):
        opened(setting, sealed["bo"], "aaaaaaaa")
    swapped = SealedGrant("cy", "Cy", sealed["bo"].salt, sealed["bo"].nonce, sealed["bo"].sealed)
    with pytest.raises(CannotOpen):
        opened(setting, swapped, device)


def test_grants_ahead_outlast_two_changes_of_shift_whenever_they_were_fetched() -> None:
    setting, device = staffed()
    for hour in range(30):
        for sealed in roster(setting, device, T0 + hour * HOUR).values():
            grant = opened(setting, sealed, device)
            assert covers(grant, T0 + hour * HOUR)
            assert covers(grant, T0 + (hour + GRANT_HOURS - GRANT_REISSUE_HOURS) * HOUR)
    assert GRANT_HOURS - GRANT_REISSUE_HOURS >= 24  # two changes of shift, at eight hours each, and a third


def test_grants_ahead_are_issued_anew_only_when_they_have_aged() -> None:
    setting, device = staffed()
    seen = {
        opened(setting, roster(setting, device, T0 + minute * 60_000)["bo"], device).id for minute in range(0, 300, 9)
    }
    assert len(seen) == 1
    later = opened(setting, roster(setting, device, T0 + GRANT_REISSUE_HOURS * HOUR + 1)["bo"], device)
    assert later.id not in seen


def test_a_change_of_roles_or_name_shows_in_the_next_roster() -> None:
    setting, device = staffed()
    before = opened(setting, roster(setting, device)["bo"], device)
    users.change(setting.db, "bo", [Role.NURSE, Role.STOCK_CLERK], ["ward-a"])
    after = opened(setting, roster(setting, device)["bo"], device)
    assert before.id != after.id
    assert after.roles == (Role.NURSE, Role.STOCK_CLERK)


def test_only_a_device_of_the_site_in_service_gets_its_roster() -> None:
    setting, device = staffed()
    _, elsewhere = setting.enrol("pharmacy")
    assert roster(setting, elsewhere.device) == {}
    assert roster(setting, "aaaaaaaa") == {}
    assert roster(setting, device, site="pharmacy") == {}
    revocation.revoke(setting.db, setting.ring, device, "lost", False, T0)
    assert roster(setting, device) == {}


def test_who_was_withdrawn_or_taken_off_or_left_the_site_is_on_no_roster() -> None:
    setting, device = staffed()
    users.withdraw(setting.db, "bo", T0)
    assert sorted(roster(setting, device)) == ["cy"]
    users.change(setting.db, "cy", [Role.PHARMACIST], ["pharmacy"])
    assert roster(setting, device) == {}
    users.change(setting.db, "cy", [Role.PHARMACIST], ["pharmacy", "ward-a"])
    assert sorted(roster(setting, device)) == ["cy"]
    users.take_off_roster(setting.db, "ward-a", "cy")
    assert roster(setting, device) == {}


def test_a_withdrawn_user_leaves_no_pin_behind() -> None:
    setting, _ = staffed()
    users.withdraw(setting.db, "bo", T0)
    row = rows.user(setting.db, "bo")
    assert row is not None
    assert (row.pin_salt, row.pin_wrapped) == (None, None)


def test_a_pin_is_not_in_the_database_in_a_form_that_opens_anything() -> None:
    setting, device = staffed()
    sealed = roster(setting, device)["bo"]
    key = sealing.stretch(PIN, sealed.salt, CHEAP)
    assert key.hex() not in "\n".join(setting.db.iterdump()).lower()


def test_the_sites_that_a_device_may_open_follow_from_grants_in_force() -> None:
    setting = world()
    _, device = setting.enrol()
    assert setting.identity.sites(setting.db, device.device, T0) == frozenset()
    setting.sign_in(device.device, "ada")
    assert setting.identity.sites(setting.db, device.device, T0) == {"ward-a"}
    setting.sign_in(device.device, "cy", T0 + HOUR)
    assert setting.identity.sites(setting.db, device.device, T0 + HOUR) == {"ward-a", "pharmacy"}
    assert setting.identity.sites(setting.db, device.device, T0 + (GRANT_HOURS + 2) * HOUR) == frozenset()
    users.withdraw(setting.db, "cy", T0 + HOUR)
    assert setting.identity.sites(setting.db, device.device, T0 + HOUR) == {"ward-a"}


# ---- users -------------------------------------------------------------------------------------------------------


def test_what_the_operator_cannot_do_is_said() -> None:
    setting = world()
    db, draw = setting.db, setting.random
    users.withdraw(db, "bo", T0)
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: users.add(db, TERMS, "Ada", "A", [], [], PASSWORD, draw), "no user id"),
        (lambda: users.add(db, TERMS, "bo", "B", [], [], PASSWORD, draw), "choose another id"),
        (lambda: users.add(db, TERMS, "di", " ", [], [], PASSWORD, draw), "a name has"),
        (lambda: users.add(db, TERMS, "di", "D", [], ["moon"], PASSWORD, draw), "no site moon"),
        (lambda: users.add(db, TERMS, "di", "D", [], [], "short", draw), "a password has"),
        (lambda: users.change(db, "di", [], []), "no user 'di'"),
        (lambda: users.put_on_roster(db, "pharmacy", "ada"), "not among the sites"),
        (lambda: users.put_on_roster(db, "ward-a", "bo"), "withdrawn"),
        (lambda: users.add_site(db, "Ward A", "x"), "no site id"),
    ]
    for act, words in cases:
        with pytest.raises(NotPossible, match=words):
            act()


def test_grants_module_gives_no_way_to_skip_the_password() -> None:
    setting = world()
    _, device = setting.enrol()
    check = grants.begin(setting.db, TERMS, device.device, "ada", "wrong", PIN, setting.random)
    assert not isinstance(check, SignInFailure)
    checked = check.run()
    assert (checked.matched, checked.pin_key) == (False, None)
