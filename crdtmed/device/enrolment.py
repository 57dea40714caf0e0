"""Becoming a device: keys of its own, a code from the operator, a certificate; and whom it trusts from then on."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import msgspec

from crdtmed.codec import Undecodable, decoder, encode
from crdtmed.device.address import http_url
from crdtmed.device.files import DeviceFiles, Tampered, read_signed, write_signed
from crdtmed.device.keyfile import DeviceKeys
from crdtmed.device.lease import Held, Holder, keep, receive, settle
from crdtmed.device.pin import create_attempts
from crdtmed.ids import DeviceId
from crdtmed.leasing import NO_MARK, OldLease, Reading
from crdtmed.limits import ENROLMENT_TIMEOUT_S, MAX_ENROLLED_BYTES, MAX_SIGNED_VALUE_BYTES, MAX_URL_CHARS
from crdtmed.sealing import CannotOpen
from crdtmed.signed import Certificate, Forged, Text, unseal
from crdtmed.trust import Anchor, NotForHere
from crdtmed.wire.enrolment import (
    ENROLMENT_PROOF_TAG,
    BadEnrolment,
    Enrol,
    Enrolled,
    NotEnrolled,
    encode_message,
    normal_code,
    proof_body,
    read_answer,
)
from crdtmed.wire.frames import PROTOCOL

PROFILE_TAG: Final = b"crdtmed/profile/1"

Post = Callable[[bytes], Awaitable[bytes]]
"""Carries an enrolment to the relay and its answer back; raises `EnrolmentFailed` ``unreachable``."""


class Profile(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a device is: its id and label, where its relay is, its certificate, and the identity key that it pins."""

    device: DeviceId
    label: Text
    url: Annotated[str, msgspec.Meta(max_length=MAX_URL_CHARS)]
    certificate: bytes
    anchor: Anchor


_decode_profile = decoder(Profile, MAX_SIGNED_VALUE_BYTES)


class EnrolmentFailed(ValueError):
    """The device is not enrolled.

    ``code`` is one of `crdtmed.wire.enrolment.NotEnrolled`, ``unreachable``, ``nonsense`` (the relay's answer is not
    what it should be), ``not_enrolled`` or ``tampered`` (of a profile); the message says what to do.
    """

    def __init__(self, code: str, says: str) -> None:
        super().__init__(f"{code}: {says}")
        self.code = code
        self.says = says


def request(keys: DeviceKeys, code: str, label: str) -> Enrol:
    """What to send for a certificate; ``code`` as somebody typed it."""
    plain = normal_code(code)
    body = proof_body(PROTOCOL, plain, label, keys.public, keys.sealing_public)
    return Enrol(PROTOCOL, plain, label, keys.public, keys.sealing_public, keys.sign(ENROLMENT_PROOF_TAG, body))


def http_post(url: str) -> Post:
    """Posts to the relay at a websocket address that `crdtmed.device.address.check_url` has passed.

    Certificates are checked, redirects not followed, proxies of the environment not used.
    """

    # Once in a device's life: every other start does without the HTTP client.
    import httpx

    async def post(body: bytes) -> bytes:
        client = httpx.AsyncClient(timeout=ENROLMENT_TIMEOUT_S, trust_env=False, follow_redirects=False)
        try:
            async with client, client.stream("POST", http_url(url, "/enrol"), content=body) as answer:
                data = b""
                async for chunk in answer.aiter_bytes():
                    data += chunk
                    if len(data) > MAX_ENROLLED_BYTES:
                        raise EnrolmentFailed("nonsense", f"the relay answered more than {MAX_ENROLLED_BYTES} bytes")
                return data
        except httpx.HTTPError as error:
            raise EnrolmentFailed("unreachable", f"the relay does not answer: {type(error).__name__}") from None

    return post


async def enrol(
    files: DeviceFiles, keys: DeviceKeys, url: str, code: str, label: str, post: Post, reading: Callable[[], Reading]
) -> tuple[Profile, Held]:
    """Enrols the device that holds ``keys``; its profile and first lease, both durable.

    Raises `EnrolmentFailed`, and then no profile is on disk.  Where only the answer was lost, enrolling again with the
    same keys and a new code gives the same device.
    """
    try:
        answer = read_answer(await post(encode_message(request(keys, code, label))))
    except BadEnrolment as error:
        raise EnrolmentFailed(
            "nonsense", f"the relay's answer cannot be read ({error}): is this its address?"
        ) from None
    if isinstance(answer, NotEnrolled):
        raise EnrolmentFailed(answer.code, answer.says)
    _check(answer, keys)
    profile = Profile(answer.device, label, url, answer.certificate, Anchor(answer.identity))
    holder = holder_of(files, keys, profile)
    try:
        held = receive(holder, Held(NO_MARK, None, None), answer.lease, answer.now, reading())
    except (Forged, NotForHere, OldLease, CannotOpen) as error:
        raise EnrolmentFailed("nonsense", f"the first lease is not to be used: {error}") from None
    keep(holder, answer.lease)
    settle(holder, held)
    create_attempts(holder)
    write_profile(files, keys, profile)
    return profile, held


def _check(answer: Enrolled, keys: DeviceKeys) -> None:
    try:
        certificate = unseal(Certificate, answer.certificate, answer.identity)
    except Forged as error:
        raise EnrolmentFailed("nonsense", f"the certificate is not to be believed: {error}") from None
    mine = (answer.device, keys.public, keys.sealing_public)
    if (certificate.device, certificate.signing, certificate.sealing) != mine:
        raise EnrolmentFailed("nonsense", "the certificate is another device's")


def holder_of(files: DeviceFiles, keys: DeviceKeys, profile: Profile) -> Holder:
    """What the device's lease and PINs are opened with."""
    return Holder(files, keys, profile.device, profile.anchor)


def write_profile(files: DeviceFiles, keys: DeviceKeys, profile: Profile) -> None:
    """Keeps the profile; also after `crdtmed.trust.follow` moved its anchor."""
    write_signed(files.profile, keys, PROFILE_TAG, encode(profile))


def read_profile(files: DeviceFiles, keys: DeviceKeys) -> Profile:
    """The profile of an enrolled device; raises `EnrolmentFailed` ``not_enrolled`` or ``tampered``."""
    try:
        body = read_signed(files.profile, keys.public, PROFILE_TAG, MAX_SIGNED_VALUE_BYTES)
        profile = _decode_profile(body) if body is not None else None
    except (Tampered, Undecodable):
        says = f"{files.profile.name} was not written by this device: wipe it and enrol it again"
        raise EnrolmentFailed("tampered", says) from None
    if profile is None:
        raise EnrolmentFailed("not_enrolled", "enrol this device with a code from the operator")
    return profile
