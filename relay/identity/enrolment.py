"""Enrolment: a one-time code that somebody reads to somebody, and the certificate that it is good for.

A code has two parts: a name under which it is looked up, and a secret that is stored only hashed.  Every try costs the
code an attempt, so it is guessed with a chance of attempts in 2**40, within its hour.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from crdtmed import ids, keys, sealing
from crdtmed.limits import ENROLMENT_ATTEMPTS, ENROLMENT_CODE_S, MAX_DRAWS, MAX_ROTATIONS
from crdtmed.signed import Certificate
from crdtmed.trust import DEVICE, RELAY
from crdtmed.wire.enrolment import (
    CODE_NAME_CHARS,
    CODE_SECRET_CHARS,
    ENROLMENT_PROOF_TAG,
    Enrol,
    Enrolled,
    NotEnrolled,
    normal_code,
    proof_body,
)
from crdtmed.wire.frames import PROTOCOL
from relay.identity import directory, leases, rows
from relay.identity.keyring import Keyring
from relay.identity.leases import Terms
from relay.identity.rows import CodeRow, DeviceRow

_CODE_BYTES: Final = 10
_CODE_CHARS: Final = CODE_NAME_CHARS + CODE_SECRET_CHARS

CODE_WRONG: Final = NotEnrolled(
    "code_wrong", "the code is not known, was used, has expired, or was tried too often: ask the operator for a new one"
)


@dataclass(frozen=True, slots=True)
class Code:
    """A code to give to whoever enrols a device."""

    text: str
    expires_at: int


@dataclass(frozen=True, slots=True, repr=False)
class CodeCheck:
    """A code that waits to be compared; `matches` is slow and needs no database."""

    request: Enrol
    name: str
    _secret: str
    _salt: bytes
    _hash: bytes
    _cost: sealing.Cost

    def matches(self) -> bool:
        """Whether it is the code that was given out."""
        return hmac.compare_digest(sealing.stretch(self._secret, self._salt, self._cost), self._hash)


def give_code(db: Any, terms: Terms, sites: tuple[str, ...], now_ms: int, random: Callable[[int], bytes]) -> Code:
    """A new code, for a device of ``sites`` (whose rosters it will hold); raises `ValueError` for an unknown site."""
    for site in sites:
        if not rows.has_site(db, site):
            raise ValueError(f"there is no site {site!r}: add it first")
    rows.drop_codes(db, now_ms)
    for _ in range(MAX_DRAWS):
        plain = ids.to_text(random(_CODE_BYTES))[:_CODE_CHARS]
        name, secret = plain[:CODE_NAME_CHARS], plain[CODE_NAME_CHARS:]
        if rows.code(db, name) is None:
            break
    else:
        raise ValueError("too many codes are open: wait until some have expired")
    salt = random(sealing.SALT_BYTES)
    expires = now_ms + ENROLMENT_CODE_S * 1_000
    hashed = sealing.stretch(secret, salt, terms.login_cost)
    rows.add_code(db, CodeRow(name, salt, hashed, " ".join(sites), expires, ENROLMENT_ATTEMPTS))
    return Code(normal_code(plain), expires)


def begin(db: Any, terms: Terms, request: Enrol, now_ms: int) -> CodeCheck | NotEnrolled:
    """The first half, in a transaction: the proof of the keys is checked, and an attempt of the code is spent."""
    if request.protocol != PROTOCOL:
        return NotEnrolled("protocol", f"this relay speaks protocol {PROTOCOL}, the device {request.protocol}")
    body = proof_body(request.protocol, request.code, request.label, request.signing, request.sealing)
    if not keys.verify(request.signing, ENROLMENT_PROOF_TAG, body, request.signature):
        return NotEnrolled("proof_wrong", "the signature is not that of the signing key over this request")
    plain = normal_code(request.code).replace("-", "")
    row = rows.code(db, plain[:CODE_NAME_CHARS]) if len(plain) == _CODE_CHARS else None
    if row is None or row.expires_at <= now_ms or row.attempts <= 0:
        return CODE_WRONG
    rows.set_code_attempts(db, row.name, row.attempts - 1)
    return CodeCheck(request, row.name, plain[CODE_NAME_CHARS:], row.salt, row.hash, terms.login_cost)


def finish(
    db: Any,
    ring: Keyring,
    terms: Terms,
    check: CodeCheck,
    matched: bool,
    now_ms: int,
    random: Callable[[int], bytes],
    seal_to: Callable[[bytes, bytes, bytes], bytes] = leases.hpke_seal,
) -> Enrolled | NotEnrolled:
    """The second half, in a transaction: the code is used up, the device certified and given its first lease."""
    row = rows.code(db, check.name)
    if not matched or row is None or row.hash != check._hash:
        return CODE_WRONG
    request = check.request
    known = rows.device_of_key(db, request.signing)
    if known is not None and not _never_used(known, request):
        return NotEnrolled("proof_wrong", "this signing key is enrolled already: make new keys")
    rows.drop_code(db, row.name)
    if known is None:
        device = _add_device(db, ring, request, row.sites, now_ms, random)
    else:
        device = known.device
        _as_asked_now(db, ring, known, request, row.sites, now_ms)
    certified = rows.entry(db, DEVICE + device)
    assert certified is not None
    lease = leases.issue(db, ring, terms, device, now_ms, random, seal_to)
    relay_keys = tuple(data for key, data in rows.entries(db).items() if key.startswith(RELAY))
    return Enrolled(device, certified, ring.identity.public, relay_keys[-MAX_ROTATIONS:], lease, now_ms)


def _never_used(known: DeviceRow, request: Enrol) -> bool:
    """Whether an enrolment with the same keys is one whose answer was lost: the device was never heard of since."""
    marks = known.lease_seen or known.number_seen or known.revoked_at is not None
    return known.sealing == request.sealing and not marks


def _as_asked_now(db: Any, ring: Keyring, known: DeviceRow, request: Enrol, sites: str, now_ms: int) -> None:
    """The operator may have chosen other sites for the code that is answered, and who enrols another label."""
    if (known.sites, known.label) == (sites, request.label):
        return
    rows.set_label_and_sites(db, known.device, request.label, sites)
    if known.label != request.label:
        certificate = Certificate(known.device, known.signing, known.sealing, request.label, known.enrolled_at)
        directory.put(db, ring.identity, certificate, now_ms)


def _add_device(db: Any, ring: Keyring, request: Enrol, sites: str, now_ms: int, random: Callable[[int], bytes]) -> str:
    device = _new_device(db, random)
    rows.add_device(
        db,
        DeviceRow(
            device=device,
            label=request.label,
            sites=sites,
            signing=request.signing,
            sealing=request.sealing,
            enrolled_at=now_ms,
            lease_serial=0,
            leased_at=0,
            lease_seen=0,
            lease_passed=0,
            number_seen=0,
            key_id="",
            key_since=0,
            wrapped=None,
            wrapped_before=None,
            revoked_at=None,
            handed_over=0,
            wiped_at=None,
            wiped_number=None,
        ),
    )
    certificate = Certificate(device, request.signing, request.sealing, request.label, now_ms)
    directory.put(db, ring.identity, certificate, now_ms)
    return device


def _new_device(db: Any, random: Callable[[int], bytes]) -> str:
    for _ in range(MAX_DRAWS):
        device = ids.device_id(random(ids.DEVICE_BYTES))
        if rows.device(db, device) is None:
            return device
    raise RuntimeError("no free device id was drawn; the source of random bytes is broken")
