"""Enrolment: a code is good for one device, once, for an hour, and for few tries."""

import msgspec
import pytest

from crdtmed import keys as signing
from crdtmed.device.enrolment import request
from crdtmed.device.keyfile import new_keys
from crdtmed.limits import ENROLMENT_ATTEMPTS, ENROLMENT_CODE_S
from crdtmed.sealing import lease_info, read_database_keys
from crdtmed.signed import Certificate, Forged, Lease, unseal
from crdtmed.trust import read_directory
from crdtmed.wire.enrolment import ENROLMENT_PROOF_TAG, Enrolled, NotEnrolled, normal_code, proof_body
from relay.identity import enrolment, revocation, rows
from tests.relay.identity.setting import T0, TERMS, World, seeded, world


def give(setting: World, now_ms: int = T0) -> str:
    return enrolment.give_code(setting.db, TERMS, ("ward-a",), now_ms, setting.random).text


def answer_to(setting: World, code: str, now_ms: int = T0, seed: int = 77) -> Enrolled | NotEnrolled:
    keys = new_keys(seeded(seed))
    return setting.identity.enrol(setting.db, request(keys, code, "a tablet"), now_ms, setting.random)


def test_a_device_gets_a_certificate_a_key_to_pin_and_a_lease_that_it_can_open() -> None:
    setting = world()
    keys, answer = setting.enrol("ward-a")
    certificate = unseal(Certificate, answer.certificate, answer.identity)
    assert (certificate.device, certificate.signing, certificate.sealing) == (
        answer.device,
        keys.public,
        keys.sealing_public,
    )
    lease = unseal(Lease, answer.lease, answer.identity)
    info = lease_info(answer.device, lease.key_id, lease.serial, lease.until)
    held = read_database_keys(keys.open(lease.key, info, "the lease"))
    assert len(held.current) == 32
    assert held.previous is None
    directory = read_directory(setting.identity.directory(setting.db, T0), setting.anchor)
    assert directory.certificates == {answer.device: certificate}
    assert [key.public for key in directory.relay_keys] == [setting.ring.relay.public]


@pytest.mark.parametrize(
    "typed", [str.upper, lambda code: code.replace("-", " "), lambda code: f"  {code.replace('-', '')} "]
)
def test_a_code_is_read_as_people_type_it(typed: object) -> None:
    setting = world()
    assert callable(typed)
    assert isinstance(answer_to(setting, typed(give(setting))), Enrolled)


def test_digits_that_no_code_has_are_read_as_the_letters_they_look_like() -> None:
    assert normal_code("8O1l 0000-AAAA") == "boll-oooo-aaaa"


def test_a_code_serves_one_device() -> None:
    setting = world()
    code = give(setting)
    assert isinstance(answer_to(setting, code, seed=1), Enrolled)
    assert answer_to(setting, code, seed=2) == enrolment.CODE_WRONG


def test_a_code_lasts_its_time_and_no_longer() -> None:
    setting = world()
    end = T0 + ENROLMENT_CODE_S * 1_000
    assert answer_to(setting, give(setting), end) == enrolment.CODE_WRONG
    assert isinstance(answer_to(setting, give(setting), end - 1), Enrolled)


def wrong(code: str) -> str:
    """A code of the same name with another secret."""
    return code[:-1] + ("a" if code[-1] != "a" else "b")


def test_a_guess_costs_an_attempt_and_the_code_dies_of_them() -> None:
    setting = world()
    code = give(setting)
    for _ in range(ENROLMENT_ATTEMPTS):
        assert answer_to(setting, wrong(code)) == enrolment.CODE_WRONG
    assert answer_to(setting, code) == enrolment.CODE_WRONG


def test_a_mistyped_code_can_be_corrected() -> None:
    setting = world()
    code = give(setting)
    for _ in range(ENROLMENT_ATTEMPTS - 1):
        answer_to(setting, wrong(code))
    assert isinstance(answer_to(setting, code), Enrolled)


def test_an_answer_never_says_what_about_the_code_was_wrong() -> None:
    setting = world()
    code = give(setting)
    answers = [
        answer_to(setting, wrong(code)),
        answer_to(setting, "aaaa-aaaa-aaaa"),
        answer_to(setting, ""),
        answer_to(setting, "a" * 60),
        answer_to(setting, code, T0 + 10**10),
    ]
    assert set(answers) == {enrolment.CODE_WRONG}


def test_a_code_is_stored_only_hashed() -> None:
    setting = world()
    code = give(setting)
    dump = "\n".join(setting.db.iterdump()).lower()
    assert code[5:].replace("-", "") not in dump
    assert code[:4] in dump  # the name, which opens nothing


def test_two_that_compare_the_same_code_at_once_make_one_device() -> None:
    setting = world()
    code = give(setting)
    checks = [
        setting.identity.enrol_begin(setting.db, request(new_keys(seeded(seed)), code, "x"), T0) for seed in (5, 6)
    ]
    answers = []
    for check in checks:
        assert not isinstance(check, NotEnrolled)
        answers.append(setting.identity.enrol_finish(setting.db, check, check.matches(), T0, setting.random))
    assert [type(answer) for answer in answers] == [Enrolled, NotEnrolled]


@pytest.mark.parametrize("field", ["label", "signing", "sealing", "code", "protocol"])
def test_what_the_keys_did_not_sign_is_refused(field: str) -> None:
    setting = world()
    code = give(setting)
    asked = request(new_keys(seeded(3)), code, "a tablet")
    other = request(new_keys(seeded(4)), give(setting), "another")
    changed = msgspec.structs.replace(asked, **{field: 7 if field == "protocol" else getattr(other, field)})
    answer = setting.identity.enrol(setting.db, changed, T0, setting.random)
    assert isinstance(answer, NotEnrolled)
    assert answer.code == ("protocol" if field == "protocol" else "proof_wrong")


def test_a_proof_under_another_tag_is_none() -> None:
    setting = world()
    keys = new_keys(seeded(3))
    asked = request(keys, give(setting), "a tablet")
    body = proof_body(asked.protocol, asked.code, asked.label, asked.signing, asked.sealing)
    assert signing.verify(keys.public, ENROLMENT_PROOF_TAG, body, asked.signature)
    changed = msgspec.structs.replace(asked, signature=keys.sign(b"crdtmed/other/1", body))
    answer = setting.identity.enrol(setting.db, changed, T0, setting.random)
    assert isinstance(answer, NotEnrolled)
    assert answer.code == "proof_wrong"


def test_a_lost_answer_is_given_again_for_a_new_code() -> None:
    setting = world()
    keys, first = setting.enrol("ward-a")
    _, second = setting.enrol("ward-a", keys=keys)
    assert second.device == first.device
    assert second.certificate == first.certificate
    assert len(rows.devices(setting.db)) == 1


def test_the_code_that_is_answered_says_for_which_sites_and_the_request_under_which_name() -> None:
    """The operator took the wrong ward, the answer was lost, and the next code is for the right one."""
    setting = world()
    keys, first = setting.enrol("ward-a")
    code = enrolment.give_code(setting.db, TERMS, ("pharmacy",), T0, setting.random)
    second = setting.identity.enrol(setting.db, request(keys, code.text, "till"), T0 + 1, setting.random)
    assert isinstance(second, Enrolled)
    assert second.device == first.device
    (row,) = rows.devices(setting.db)
    assert (row.sites, row.label) == ("pharmacy", "till")
    assert unseal(Certificate, second.certificate, second.identity).label == "till"
    directory = read_directory(setting.identity.directory(setting.db, T0 + 1), setting.anchor)
    assert directory.certificates[second.device].label == "till"


@pytest.mark.parametrize("used", ["heard of", "revoked", "other sealing key"])
def test_keys_that_were_used_never_enrol_again(used: str) -> None:
    setting = world()
    keys, first = setting.enrol("ward-a")
    asked = request(keys, give(setting), "a tablet")
    if used == "heard of":
        lease = unseal(Lease, first.lease, first.identity)
        setting.renew(first.device, T0 + 1, lease=lease.serial)
    elif used == "revoked":
        revocation.revoke(setting.db, setting.ring, first.device, "lost", False, T0)
    else:
        sealing = new_keys(seeded(9)).sealing_public
        body = proof_body(asked.protocol, asked.code, asked.label, asked.signing, sealing)
        asked = msgspec.structs.replace(asked, sealing=sealing, signature=keys.sign(ENROLMENT_PROOF_TAG, body))
    answer = setting.identity.enrol(setting.db, asked, T0, setting.random)
    assert isinstance(answer, NotEnrolled)


def test_a_code_for_a_site_that_nobody_knows_is_not_given() -> None:
    setting = world()
    with pytest.raises(ValueError, match="no site 'moon'"):
        enrolment.give_code(setting.db, TERMS, ("moon",), T0, setting.random)


def test_a_certificate_of_another_relay_is_not_believed() -> None:
    mine, other = world(1), world(2)
    _, answer = other.enrol("ward-a")
    with pytest.raises(Forged):
        unseal(Certificate, answer.certificate, mine.ring.identity.public)


def test_no_secret_shows_when_something_is_printed() -> None:
    setting = world()
    code = give(setting)
    check = setting.identity.enrol_begin(setting.db, request(new_keys(seeded(3)), code, "x"), T0)
    shown = repr(check) + repr(setting.ring) + repr(setting.identity)
    assert code[5:9] not in shown
    assert setting.ring.master.hex() not in shown
    assert repr(setting.ring.master) not in shown
