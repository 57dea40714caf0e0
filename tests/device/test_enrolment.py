"""Enrolling a device: what it checks of the answer, what it keeps, and over HTTP against a server on loopback."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from crdtmed.device.enrolment import (
    EnrolmentFailed,
    Post,
    Profile,
    enrol,
    holder_of,
    http_post,
    read_profile,
    write_profile,
)
from crdtmed.device.files import DeviceFiles
from crdtmed.device.keyfile import SoftwareKeys, new_keys
from crdtmed.device.lease import Held, at_start, state
from crdtmed.leasing import Open, Reading
from crdtmed.limits import MAX_ENROLLED_BYTES
from crdtmed.signed import Certificate, Lease, read, seal
from crdtmed.wire.enrolment import Enrolled, NotEnrolled, encode_message, read_answer, read_enrol
from relay.identity.enrolment import give_code
from tests.relay.identity.setting import T0, TERMS, World, seeded, world

URL = "wss://relay.example"
READING = Reading(T0 - 5_000, 77)


def relay(setting: World, change: Callable[[Enrolled], Enrolled | NotEnrolled | bytes] | None = None) -> Post:
    """A relay in this process; ``change`` is what happens to its answer on the way."""

    async def post(body: bytes) -> bytes:
        answer = setting.identity.enrol(setting.db, read_enrol(body), T0, setting.random)
        if change is not None and isinstance(answer, Enrolled):
            changed = change(answer)
            return changed if isinstance(changed, bytes) else encode_message(changed)
        return encode_message(answer)

    return post


def run(directory: Path, setting: World, post: Post, keys: SoftwareKeys | None = None) -> tuple[Profile, Held]:
    code = give_code(setting.db, TERMS, ("ward-a",), T0, setting.random).text.upper()
    keys = keys or new_keys(seeded(4))
    return asyncio.run(enrol(DeviceFiles(directory), keys, URL, code, "tablet 7", post, lambda: READING))


def test_an_enrolled_device_starts_without_the_relay(tmp_path: Path) -> None:
    setting = world()
    profile, held = run(tmp_path, setting, relay(setting))
    keys, files = new_keys(seeded(4)), DeviceFiles(tmp_path)
    assert read_profile(files, keys) == profile
    assert (profile.label, profile.url, profile.anchor) == ("tablet 7", URL, setting.anchor)
    found = at_start(holder_of(files, keys, profile), READING)
    assert isinstance(state(found, READING), Open)
    assert found.database == held.database


def test_a_refusal_is_passed_on_and_nothing_is_kept(tmp_path: Path) -> None:
    setting = world()
    with pytest.raises(EnrolmentFailed, match="ask the operator") as caught:
        asyncio.run(enrol(DeviceFiles(tmp_path), new_keys(seeded(4)), URL, "no", "x", relay(setting), lambda: READING))
    assert caught.value.code == "code_wrong"
    assert list(tmp_path.iterdir()) == []


def other_certificate(answer: Enrolled) -> Enrolled:
    """A relay that vouches for other keys than the device's, properly signed."""
    setting = world(8)
    certificate = read(Certificate, answer.certificate)
    forged = msgspec.structs.replace(certificate, signing=new_keys(seeded(9)).public)
    return msgspec.structs.replace(
        answer, identity=setting.ring.identity.public, certificate=seal(forged, setting.ring.identity)
    )


def other_lease(answer: Enrolled) -> Enrolled:
    return msgspec.structs.replace(answer, lease=world(8).enrol()[1].lease)


def other_identity(answer: Enrolled) -> Enrolled:
    return msgspec.structs.replace(answer, identity=world(8).ring.identity.public)


def other_device(answer: Enrolled) -> Enrolled:
    return msgspec.structs.replace(answer, device="aaaaaaaa")


def key_of_another(answer: Enrolled) -> Enrolled:
    """A lease for this device whose key is sealed to another one, signed by an identity key of the attacker's."""
    setting = world(8)
    lease = msgspec.structs.replace(read(Lease, setting.enrol()[1].lease), device=answer.device)
    certificate = read(Certificate, answer.certificate)
    return msgspec.structs.replace(
        answer,
        identity=setting.ring.identity.public,
        certificate=seal(certificate, setting.ring.identity),
        lease=seal(lease, setting.ring.identity),
    )


@pytest.mark.parametrize(
    "change",
    [
        *(other_certificate, other_lease, other_identity, other_device, key_of_another),
        *(lambda _: b"", lambda _: b"<html>", lambda answer: encode_message(answer)[:-1]),
        lambda answer: encode_message(answer) + b"\x00",
    ],
)
def test_an_answer_that_does_not_fit_is_not_taken(
    tmp_path: Path, change: Callable[[Enrolled], Enrolled | bytes]
) -> None:
    setting = world()
    with pytest.raises(EnrolmentFailed) as caught:
        run(tmp_path, setting, relay(setting, change))
    assert caught.value.code == "nonsense"
    assert not DeviceFiles(tmp_path).profile.exists()
    assert not DeviceFiles(tmp_path).lease.exists()


def test_enrolling_again_after_a_lost_answer_gives_the_same_device(tmp_path: Path) -> None:
    setting = world()

    async def lost(body: bytes) -> bytes:
        await relay(setting)(body)
        raise EnrolmentFailed("unreachable", "the answer was lost")

    with pytest.raises(EnrolmentFailed):
        run(tmp_path, setting, lost)
    profile, _ = run(tmp_path, setting, relay(setting))
    assert [row[0] for row in setting.db.execute("SELECT device FROM identity_device")] == [profile.device]


def test_a_profile_that_was_changed_is_not_believed(tmp_path: Path) -> None:
    """Pinning another identity key would hand the device to another relay."""
    setting = world()
    profile, _ = run(tmp_path, setting, relay(setting))
    keys, files = new_keys(seeded(4)), DeviceFiles(tmp_path)
    with pytest.raises(EnrolmentFailed, match="not_enrolled"):
        read_profile(DeviceFiles(tmp_path / "other"), keys)
    attacker = new_keys(seeded(5))
    write_profile(files, attacker, msgspec.structs.replace(profile, anchor=world(8).anchor))
    with pytest.raises(EnrolmentFailed, match="tampered"):
        read_profile(files, keys)


# ---- over HTTP ---------------------------------------------------------------------------------------------------


async def serving(answer: bytes, ask: Callable[[str], Awaitable[bytes]]) -> tuple[bytes, bytes]:
    """What ``ask`` gets from a server that answers ``answer`` to one request, and what that request was."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        asked.append(head + await reader.readexactly(length))
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        served.set()

    served = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        return await ask(f"ws://127.0.0.1:{port}"), b"".join(asked)
    finally:
        await asyncio.wait_for(served.wait(), 20)
        server.close()
        await server.wait_closed()


def http(body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}Connection: close\r\n\r\n".encode() + body


def test_the_request_goes_to_enrol_and_its_secret_is_in_the_body_only() -> None:
    got, asked = asyncio.run(serving(http(b"answer"), lambda url: http_post(url)(b"the secret code")))
    assert got == b"answer"
    head, body = asked.split(b"\r\n\r\n")
    assert head.startswith(b"POST /enrol HTTP/1.1\r\n")
    assert body == b"the secret code"
    assert b"secret" not in head


def test_an_endless_answer_is_cut_off() -> None:
    with pytest.raises(EnrolmentFailed, match="more than"):
        asyncio.run(serving(http(b"x" * (MAX_ENROLLED_BYTES + 1)), lambda url: http_post(url)(b"x")))


def test_a_redirect_is_not_followed() -> None:
    answer = http(b"", "302 Found", "Location: http://relay.example/enrol\r\n")
    got, _ = asyncio.run(serving(answer, lambda url: http_post(url)(b"x")))
    assert got == b""


def test_a_relay_that_is_not_there_is_said_to_be_unreachable() -> None:
    async def ask() -> None:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        await http_post(f"ws://127.0.0.1:{port}")(b"x")

    with pytest.raises(EnrolmentFailed, match="unreachable"):
        asyncio.run(ask())


def self_signed(directory: Path) -> ssl.SSLContext:
    """TLS with a certificate for 127.0.0.1 that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "server.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem")
    return context


def test_a_certificate_that_nobody_vouches_for_ends_it_before_the_code_is_sent(tmp_path: Path) -> None:
    async def ask() -> int:
        reached = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal reached
            reached += 1
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=self_signed(tmp_path))
        async with server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(EnrolmentFailed, match="unreachable"):
                await http_post(f"wss://127.0.0.1:{port}")(b"the secret code")
        return reached

    assert asyncio.run(ask()) == 0


def test_answers_are_read_strictly() -> None:
    refused = NotEnrolled("busy", "later")
    assert read_answer(encode_message(refused)) == refused
