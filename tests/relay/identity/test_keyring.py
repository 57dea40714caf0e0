"""The relay's own secrets: a file for its owner only, under a passphrase or under the system's permissions."""

from pathlib import Path

import pytest

from crdtmed.limits import MAX_RELAY_NAME_CHARS
from crdtmed.sealing import Cost
from relay.identity import directory
from relay.identity.keyring import (
    KeyringError,
    Secrets,
    keyring,
    new_secrets,
    open_secrets,
    settled,
    signer_of,
    with_next_identity,
    with_relay_key,
    write_secrets,
)
from relay.identity.service import identity_in_force, open_identity
from tests.relay.identity.setting import CHEAP, T0, TERMS, database, seeded

PHRASE = "a long enough passphrase"


def written(path: Path, passphrase: str | None, cost: Cost = CHEAP) -> Secrets:
    secrets = new_secrets("main", seeded(1))
    write_secrets(path, secrets, passphrase, seeded(2), cost=cost)
    return secrets


@pytest.mark.parametrize("passphrase", [None, PHRASE])
def test_secrets_are_read_back(tmp_path: Path, passphrase: str | None) -> None:
    path = tmp_path / "secrets"
    secrets = written(path, passphrase)
    assert open_secrets(path, passphrase) == secrets
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["secrets"]


def test_a_protected_file_holds_no_secret_in_the_open(tmp_path: Path) -> None:
    secrets = written(tmp_path / "secrets", PHRASE)
    data = (tmp_path / "secrets").read_bytes()
    assert not any(part in data for part in (secrets.identity, secrets.relay, secrets.master))


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "secrets"

    def reason(passphrase: str | None) -> str:
        with pytest.raises(KeyringError) as caught:
            open_secrets(path, passphrase)
        return caught.value.reason

    assert reason(PHRASE) == "missing"
    written(path, PHRASE)
    assert reason(None) == "wrong_passphrase"
    assert reason("another passphrase") == "wrong_passphrase"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    assert reason(PHRASE) == "malformed"
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert reason(PHRASE) == "wrong_passphrase"
    path.write_bytes(b"")
    assert reason(PHRASE) == "malformed"
    path.write_bytes(data)
    for mode in (0o640, 0o604, 0o660):
        path.chmod(mode)
        assert reason(PHRASE) == "readable_by_others"
    path.chmod(0o600)
    assert open_secrets(path, PHRASE).relay_name == "main"


def test_a_file_is_never_overwritten_by_accident_nor_under_a_weak_passphrase(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    secrets = written(path, PHRASE)
    with pytest.raises(KeyringError, match="exists"):
        write_secrets(path, secrets, PHRASE, seeded(3), cost=CHEAP)
    with pytest.raises(KeyringError, match="weak_passphrase"):
        write_secrets(path, secrets, "short", seeded(3), replace=True, cost=CHEAP)
    other = with_relay_key(secrets, "second", seeded(4))
    write_secrets(path, other, PHRASE, seeded(3), replace=True, cost=CHEAP)
    assert open_secrets(path, PHRASE) == other
    assert other.identity == secrets.identity
    assert other.relay != secrets.relay


def test_what_could_not_be_read_again_never_takes_the_place_of_what_can(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    secrets = written(path, None)
    for name in ("", "n" * (MAX_RELAY_NAME_CHARS + 1)):
        with pytest.raises(KeyringError, match="malformed"):
            write_secrets(path, with_relay_key(secrets, name, seeded(4)), None, seeded(3), replace=True)
    assert open_secrets(path, None) == secrets


def test_no_secret_shows_when_something_is_printed() -> None:
    secrets = new_secrets("main", seeded(1))
    shown = repr(secrets) + str(secrets) + repr(keyring(secrets)) + f"{secrets}"
    for part in (secrets.identity, secrets.relay, secrets.master):
        assert repr(part) not in shown
        assert part.hex() not in shown


@pytest.mark.parametrize("committed", [False, True])
def test_a_rotation_that_is_cut_short_loses_neither_key(committed: bool) -> None:
    """The order is: write both keys, commit the directory, write the file with the one in force."""
    secrets = new_secrets("main", seeded(1))
    db = database()
    open_identity(db, keyring(secrets), TERMS, T0)
    both = with_next_identity(secrets, seeded(5))
    assert both.next_identity is not None
    if committed:
        directory.rotate(db, signer_of(both.identity), signer_of(both.next_identity), T0 + 1)
    signer = identity_in_force(db, (signer_of(both.identity), signer_of(both.next_identity)))
    after = settled(both, signer.public)
    assert after.next_identity is None
    assert after.identity == (both.next_identity if committed else secrets.identity)
    open_identity(db, keyring(after), TERMS, T0 + 2)


def test_the_secrets_of_another_relay_are_not_taken() -> None:
    with pytest.raises(KeyringError, match="another identity key"):
        settled(new_secrets("main", seeded(1)), signer_of(new_secrets("x", seeded(2)).identity).public)


def test_two_relays_have_nothing_in_common() -> None:
    one, two = new_secrets("main", seeded(1)), new_secrets("main", seeded(2))
    assert len({one.identity, one.relay, one.master, two.identity, two.relay, two.master}) == 6
