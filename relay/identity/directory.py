"""The directory: what the identity key vouches for, each entry signed, and a head over all of them.

Entries are replaced and never removed.  The head's version and date rise with every change, also where the database
was restored from a backup in between, so that no device takes an old directory for a new one.
"""

from collections.abc import Mapping
from typing import Any, Final

from crdtmed.documents import map_digest
from crdtmed.keys import Signer
from crdtmed.signed import (
    Certificate,
    DirectoryHead,
    Forged,
    IdentityRotation,
    KnowledgeInForce,
    RelayKey,
    Revocation,
    read,
    seal,
    unseal,
)
from crdtmed.trust import DEVICE, HEAD, IDENTITY, KNOWLEDGE, RELAY, REVOKED, rotations_in
from relay.identity import rows

HEAD_REFRESH_MS: Final = 3_600_000
"""The head is dated anew this often even where nothing changed, so that a stale one means something."""

Entry = Certificate | Revocation | RelayKey | KnowledgeInForce

_TYPES: Final[
    tuple[tuple[str, type[Certificate] | type[Revocation] | type[RelayKey] | type[KnowledgeInForce]], ...]
] = (
    (DEVICE, Certificate),
    (REVOKED, Revocation),
    (RELAY, RelayKey),
    (KNOWLEDGE, KnowledgeInForce),
)


class AnotherIdentity(RuntimeError):
    """The directory is signed with another identity key than this process holds."""


def key_of(entry: Entry) -> str:
    """The key under which an entry stands."""
    match entry:
        case Certificate():
            return DEVICE + entry.device
        case Revocation():
            return REVOKED + entry.device
        case RelayKey():
            return RELAY + entry.relay
        case KnowledgeInForce():
            return KNOWLEDGE


def head(db: Any) -> DirectoryHead | None:
    """The head as it stands; None before the first entry."""
    data = rows.entry(db, HEAD)
    return read(DirectoryHead, data) if data is not None else None


def put(db: Any, signer: Signer, entry: Entry, now_ms: int) -> bytes:
    """``entry`` in the directory under a new head; its signed bytes.

    Raises `AnotherIdentity` where the key was rotated behind this process's back.
    """
    check(db, signer)
    data = seal(entry, signer)
    rows.put_entry(db, key_of(entry), data)
    _seal_head(db, signer, now_ms)
    return data


def check(db: Any, signer: Signer) -> None:
    """Raises `AnotherIdentity` unless the directory, if there is one, is signed by ``signer``."""
    data = rows.entry(db, HEAD)
    if data is None:
        return
    try:
        unseal(DirectoryHead, data, signer.public)
    except Forged:
        raise AnotherIdentity("the identity key was rotated: restart the relay with its new file of secrets") from None


def _seal_head(db: Any, signer: Signer, now_ms: int) -> None:
    before = head(db)
    content = map_digest({key: data for key, data in rows.entries(db).items() if key != HEAD})
    version = now_ms if before is None else max(before.version + 1, now_ms)
    rows.put_entry(db, HEAD, seal(DirectoryHead(version, now_ms, content), signer))


def current(db: Any, signer: Signer, now_ms: int) -> Mapping[str, bytes]:
    """Every entry with a head that is not older than `HEAD_REFRESH_MS`; raises `AnotherIdentity`."""
    before = head(db)
    if before is None or now_ms - before.at >= HEAD_REFRESH_MS:
        check(db, signer)
        _seal_head(db, signer, now_ms)
    return rows.entries(db)


def rotate(db: Any, signer: Signer, following: Signer, now_ms: int) -> None:
    """From now on the directory is signed by ``following``; ``signer`` announces it and signs nothing any more.

    Every other entry is signed anew, so that whoever has the old key alone can add nothing that is believed.
    """
    check(db, signer)
    entries = rows.entries(db)
    number = 1 + max((int(key.removeprefix(IDENTITY)) for key in entries if key.startswith(IDENTITY)), default=0)
    for key, data in entries.items():
        for prefix, of in _TYPES:
            if key.startswith(prefix):
                rows.put_entry(db, key, seal(unseal(of, data, signer.public), following))
    announcement = seal(IdentityRotation(following.public, now_ms), signer)
    rows.put_entry(db, f"{IDENTITY}{number}", announcement)
    _seal_head(db, following, now_ms)


def rotations(db: Any) -> tuple[bytes, ...]:
    """The announcements of identity keys, in order."""
    return rotations_in(rows.entries(db))
