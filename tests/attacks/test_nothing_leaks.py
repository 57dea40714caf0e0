"""No secret, token or clinical value in logs, errors or process arguments."""

import argparse
import asyncio
import io
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from crdtmed import cli_parser as device_parser
from crdtmed.aggregates.prescription_draft import Instructions
from crdtmed.device.device import Device
from crdtmed.device.engine_types import DeviceError
from crdtmed.device.enrolment import EnrolmentFailed, request
from crdtmed.device.keyfile import KeyFileError, new_keys
from crdtmed.device.pin import PinRefused
from crdtmed.wire import frames
from relay import cli_parser as relay_parser
from relay.logs import JsonLines
from tests.relay.identity.setting import seeded
from tests.scenarios.hospital import PASSPHRASE, Hospital, ordered, play

CLINICAL = ("Amoxicillin", "penicillin", "Maria Muster", "1950-03-01", "take with Zwieback", "amox-500")


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """Everything that anybody logs meanwhile at any level, formatted as the relay does and as plain text."""
    text = io.StringIO()
    handlers = [logging.StreamHandler(text), logging.StreamHandler(text)]
    handlers[0].setFormatter(JsonLines())
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.DEBUG)
    for handler in handlers:
        root.addHandler(handler)
    try:
        yield text
    finally:
        root.setLevel(before)
        for handler in handlers:
            root.removeHandler(handler)


async def failing(errors: list[str], error: type[Exception], doing: Callable[[], object]) -> None:
    """Does something that must fail, and keeps what a log of the failure would hold."""
    try:
        result = doing()
        if asyncio.iscoroutine(result):
            await result
    except error:
        errors.append(traceback.format_exc(limit=0))
        return
    raise AssertionError("it did not fail")


def test_a_day_of_work_and_mistakes_leaves_no_secret_behind(tmp_path: Path) -> None:
    errors: list[str] = []
    secrets = [PASSPHRASE, "password-of-ana", "pin-ana", "wrong password 77", "wrong pin 88", "not the passphrase"]

    async def story(it: Hospital) -> None:
        code = await asyncio.to_thread(it._code, ["ward"])
        secrets.append(code)
        device = await it.device("tablet", "ana", patients=["p1"], sites=["ward"], key_file=True)
        draft = await ordered(device, "p1")
        await draft.set(instructions=Instructions("take with Zwieback"))
        await it.synced("tablet")
        said = await device.sign(draft)
        await said.settled()
        await failing(errors, DeviceError, lambda: device.sign_in("ana", "wrong password 77"))
        await failing(errors, PinRefused, lambda: device.unlock("ana", "wrong pin 88"))
        await failing(errors, KeyFileError, lambda: Device.open(it.folder / "tablet", "not the passphrase"))
        await failing(
            errors,
            EnrolmentFailed,
            lambda: Device.enrol(
                it.folder / "x", PASSPHRASE, url=f"ws://127.0.0.1:{it.port}", code=code[:-1] + "?", label="x"
            ),
        )
        keys = device._life.held.database
        assert keys is not None
        secrets.extend((keys.current.hex(), repr(keys.current)[2:-1]))
        service = it.service
        assert service is not None
        secrets.extend((service.identity.ring.master.hex(), repr(service.identity.ring.master)[2:-1]))
        errors.append(
            repr(device._life.held) + repr(service.identity) + repr(device.status()) + repr(draft.prescription)
        )
        await it.revoke(device, "lost")
        await asyncio.wait_for(device.until(lambda: device._life.wiped), 20)

    with logged() as text:
        logging.getLogger("a test").info("that this is seen shows that the rest would be")
        play(tmp_path, story)
    everything = text.getvalue() + "\n".join(errors)
    assert "that this is seen" in everything
    assert len(errors) == 5
    found = [secret for secret in (*secrets, *CLINICAL) if secret in everything]
    assert found == []
    assert "BINARY" not in everything, "a library wrote down the bytes of frames"


def test_frames_and_requests_that_hold_secrets_do_not_print_them() -> None:
    shown = repr(frames.SignIn("ana", "the password", "the pin")) + repr(
        request(new_keys(seeded(1)), "abcd-efgh-ijkl", "x")
    )
    assert "ana" in shown
    for secret in ("the password", "the pin", "abcd", "efgh", "ijkl"):
        assert secret not in shown


def options(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    """Every option and word of a command line, with its command."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from ((f"{name} {command}".strip(), found) for command, found in options(below))
        else:
            yield "", action


@pytest.mark.parametrize("build", [device_parser.build_parser, relay_parser.build_parser], ids=["device", "relay"])
def test_no_secret_can_be_given_as_an_argument(build: Callable[[], argparse.ArgumentParser]) -> None:
    """Arguments are read by whoever lists processes; secrets come from a prompt or from a file that is named."""
    suspicious = ("pass", "pin", "secret", "token", "code")
    found = list(options(build()))
    assert len(found) > 20
    for command, action in found:
        named = any(word in action.dest for word in suspicious)
        takes_a_value = action.nargs != 0
        if named and takes_a_value:
            assert action.dest.endswith("_file"), f"{command} {action.dest}: read it from a file or a prompt"
