"""PINs: grants of a roster opened without the relay, with few tries that no restart gives back."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from crdtmed import sealing
from crdtmed.device.lease import Holder
from crdtmed.device.pin import PinRefused, create_attempts, open_grant, reset
from crdtmed.limits import GRANT_HOURS, PIN_ATTEMPTS
from crdtmed.signed import Grant, seal
from crdtmed.trust import read_grant
from crdtmed.wire.frames import SealedGrant
from relay.identity import users
from tests.relay.identity.setting import CHEAP, HOUR, PIN, T0, World, world

SHIFT = 8 * HOUR


def ward(directory: Path) -> tuple[World, Holder, dict[str, SealedGrant]]:
    """A tablet with the roster of its ward: bo and cy."""
    setting = world()
    keys, device = setting.enrol("ward-a")
    holder = setting.holder(directory, keys, device.device)
    create_attempts(holder)
    for user in ("bo", "cy"):
        users.put_on_roster(setting.db, "ward-a", user)
        setting.sign_in(device.device, user)
    given = setting.identity.roster(setting.db, device.device, "ward-a", T0, setting.random)
    return setting, holder, {sealed.user: sealed for sealed in given}


def attempt(holder: Holder, sealed: SealedGrant, pin: str = PIN, now_ms: int = T0) -> Grant:
    return open_grant(holder, sealed, pin, now_ms, CHEAP)[0]


def code(holder: Holder, sealed: SealedGrant, pin: str = PIN, now_ms: int = T0) -> tuple[str, int]:
    with pytest.raises(PinRefused) as caught:
        attempt(holder, sealed, pin, now_ms)
    return caught.value.code, caught.value.left


def test_a_pin_opens_its_users_grant(tmp_path: Path) -> None:
    setting, holder, sealed = ward(tmp_path)
    grant, data = open_grant(holder, sealed["bo"], PIN, T0, CHEAP)
    assert grant.user == "bo"
    assert read_grant(data, setting.anchor, holder.device) == grant


def test_an_outage_across_two_changes_of_shift(tmp_path: Path) -> None:
    """Nobody hears of the relay for 24 hours; people of the roster come and go, and others do not get in."""
    setting, holder, sealed = ward(tmp_path)
    for shift in range(4):
        for user in ("bo", "cy"):
            assert attempt(holder, sealed[user], now_ms=T0 + shift * SHIFT).user == user
    stranger = world(9)
    keys, device = stranger.enrol("ward-a")
    users.put_on_roster(stranger.db, "ward-a", "ada")
    stranger.sign_in(device.device, "ada")
    (foreign,) = stranger.identity.roster(stranger.db, device.device, "ward-a", T0, stranger.random)
    assert code(holder, foreign)[0] == "wrong"
    assert keys.public != setting.ring.identity.public


def test_tries_are_limited_and_counted_for_each_user(tmp_path: Path) -> None:
    _, holder, sealed = ward(tmp_path)
    found = [code(holder, sealed["bo"], "1357") for _ in range(PIN_ATTEMPTS)]
    assert found == [("wrong", left) for left in range(PIN_ATTEMPTS - 1, -1, -1)]
    assert code(holder, sealed["bo"]) == ("locked", 0)
    assert attempt(holder, sealed["cy"]).user == "cy"


def test_a_right_pin_gives_all_tries_back(tmp_path: Path) -> None:
    _, holder, sealed = ward(tmp_path)
    for _ in range(3):
        for _ in range(PIN_ATTEMPTS - 1):
            assert code(holder, sealed["bo"], "1357")[0] == "wrong"
        assert attempt(holder, sealed["bo"]).user == "bo"


def test_a_restart_gives_no_try_back_and_a_try_counts_before_it_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power goes in the middle of each try."""
    _, holder, sealed = ward(tmp_path)

    def power_cut(*_: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "stretch", power_cut)
        for _ in range(PIN_ATTEMPTS):
            with pytest.raises(KeyboardInterrupt):
                attempt(holder, sealed["bo"], "1357")
    assert code(holder, sealed["bo"]) == ("locked", 0)


def test_tries_at_the_same_time_are_each_counted(tmp_path: Path) -> None:
    """Tries run in threads, so an application that takes many at once must not be given more of them."""
    _, holder, sealed = ward(tmp_path)
    guesses = 4 * PIN_ATTEMPTS
    together = threading.Barrier(guesses)

    def guess(_: int) -> str:
        together.wait()
        return code(holder, sealed["bo"], "1357")[0]

    with ThreadPoolExecutor(guesses) as threads:
        found = sorted(threads.map(guess, range(guesses)))
    assert found == ["locked"] * (guesses - PIN_ATTEMPTS) + ["wrong"] * PIN_ATTEMPTS
    assert code(holder, sealed["bo"]) == ("locked", 0)


def test_a_right_pin_gives_nobody_elses_tries_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the slow part of one try runs, somebody else tries."""
    _, holder, sealed = ward(tmp_path)
    stretch = sealing.stretch

    def meanwhile(*of: Any) -> bytes:
        monkeypatch.undo()
        for _ in range(PIN_ATTEMPTS):
            code(holder, sealed["cy"], "1357")
        return stretch(*of)

    monkeypatch.setattr(sealing, "stretch", meanwhile)
    assert attempt(holder, sealed["bo"]).user == "bo"
    assert code(holder, sealed["cy"]) == ("locked", 0)


@pytest.mark.parametrize("pin", ["", "1", "123", "1" * 65])
def test_a_pin_of_the_wrong_length_counts_as_a_try(tmp_path: Path, pin: str) -> None:
    _, holder, sealed = ward(tmp_path)
    assert code(holder, sealed["bo"], pin) == ("wrong", PIN_ATTEMPTS - 1)


@pytest.mark.parametrize("damage", ["gone", "changed", "another device's", "empty"])
def test_without_a_count_of_its_own_no_pin_opens_until_a_sign_in_online(tmp_path: Path, damage: str) -> None:
    _, holder, sealed = ward(tmp_path)
    path = holder.files.attempts
    if damage == "gone":
        path.unlink()
    elif damage == "changed":
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        (tmp_path / "other").mkdir()
        setting = world(5)
        keys, device = setting.enrol("ward-a")
        other = setting.holder(tmp_path / "other", keys, device.device)
        create_attempts(other)
        path.write_bytes(other.files.attempts.read_bytes())
    assert code(holder, sealed["bo"]) == ("locked", 0)
    reset(holder, "bo")
    assert attempt(holder, sealed["bo"]).user == "bo"
    assert code(holder, sealed["cy"]) == ("locked", 0)


def test_a_grant_that_has_lapsed_opens_nothing(tmp_path: Path) -> None:
    _, holder, sealed = ward(tmp_path)
    assert attempt(holder, sealed["bo"], now_ms=T0 + GRANT_HOURS * HOUR).user == "bo"
    assert code(holder, sealed["bo"], now_ms=T0 + GRANT_HOURS * HOUR + 1)[0] == "not_in_force"
    assert code(holder, sealed["bo"], now_ms=T0 - HOUR)[0] == "not_in_force"


def test_a_grant_that_is_not_the_identity_services_or_not_this_devices_is_refused(tmp_path: Path) -> None:
    """Somebody who knows a PIN can seal what they like under it, but not sign it."""
    setting, holder, sealed = ward(tmp_path)
    _, other = setting.enrol("ward-a")
    true = attempt(holder, sealed["bo"])
    for grant, signer in (
        (true, world(6).ring.identity),
        (setting.sign_in(other.device, "bo"), setting.ring.identity),
    ):
        context = sealing.grant_context(holder.device, "bo", "Bo")
        key = sealing.stretch(PIN, b"s" * 16, CHEAP)
        box = sealing.lock(key, b"n" * 12, seal(grant, signer), context)
        assert code(holder, SealedGrant("bo", "Bo", b"s" * 16, b"n" * 12, box))[0] == "not_for_here"


@pytest.mark.parametrize("salt", [b"", b"s" * 15, b"s" * 17])
def test_a_malformed_sealed_grant_is_refused(tmp_path: Path, salt: bytes) -> None:
    _, holder, sealed = ward(tmp_path)
    whole = sealed["bo"]
    assert code(holder, SealedGrant("bo", "Bo", salt, whole.nonce, whole.sealed))[0] == "not_for_here"
    assert code(holder, SealedGrant("bo", "Bo", whole.salt, b"", whole.sealed))[0] == "wrong"
    assert code(holder, SealedGrant("bo", "Bo", whole.salt, whole.nonce, b""))[0] == "wrong"


def test_no_pin_and_no_grant_is_in_what_a_refusal_says(tmp_path: Path) -> None:
    _, holder, sealed = ward(tmp_path)
    with pytest.raises(PinRefused) as caught:
        attempt(holder, sealed["bo"], "97531")
    assert "97531" not in str(caught.value) + repr(caught.value)
