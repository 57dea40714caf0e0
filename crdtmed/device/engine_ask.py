"""What a device asks the relay for a person, and how it says that it stands."""

import asyncio
from typing import Final

from crdtmed.device import engine_subset
from crdtmed.device.engine_core import Core
from crdtmed.device.engine_types import DeviceError, NotAllowed, Report
from crdtmed.device.session import Stage
from crdtmed.signed import Forged, Grant, read
from crdtmed.wire import frames as wire

SIGN_IN: Final = "sign_in "
ROSTER: Final = "roster "


async def sign_in(core: Core, user: str, password: str, pin: str | None) -> bytes:
    """The signed `Grant` of a user who signs in with the relay; ``pin`` becomes the one that opens grants offline.

    Raises `NotAllowed` with the relay's code, or `DeviceError` ``needs_relay`` where it is not there.
    """
    frame = await _asked(core, SIGN_IN + user, wire.SignIn(user, password, pin))
    if isinstance(frame, wire.SignedIn):
        engine_subset.ask_again(core)  # it may open what nobody's grant opened before
        return frame.grant
    code = frame.code if isinstance(frame, wire.SignInFailed) else "no_answer"
    raise NotAllowed(code, f"{user} could not sign in", "check the user name and the password")


async def roster(core: Core, site: str) -> tuple[wire.SealedGrant, ...]:
    """The grants issued ahead for a site on this device; raises `DeviceError` where the relay is not there."""
    frame = await _asked(core, ROSTER + site, wire.AskRoster(site))
    return frame.grants if isinstance(frame, wire.Roster) else ()


async def _asked(core: Core, what: str, frame: wire.ToRelay) -> wire.ToDevice:
    session = core.session
    if session is None or session.stage is not Stage.OPEN:
        raise DeviceError(
            "needs_relay", f"{what.split()[0]} needs the relay, and this device is not connected", "connect"
        )
    answer: asyncio.Future[wire.ToDevice] = asyncio.get_running_loop().create_future()
    core.answers.setdefault(what, []).append(answer)
    session.say(frame)
    core.wake()
    try:
        return await answer
    except ConnectionError as error:
        raise DeviceError("needs_relay", f"{what.split()[0]}: {error}", "connect and try again") from None


def answered(core: Core, frame: wire.SignedIn | wire.SignInFailed | wire.Roster) -> None:
    """Hands an answer to whoever asked first about that user or site, or to nobody where they have gone.

    Another person's answer is no answer: who is signed in as somebody else acts in their name.
    """
    match frame:
        case wire.SignInFailed(user=user):
            about = SIGN_IN + user
        case wire.Roster(site=site):
            about = ROSTER + site
        case wire.SignedIn(grant=grant):
            try:
                about = SIGN_IN + read(Grant, grant).user
            except Forged:
                return
    waiting = core.answers.get(about, [])
    if waiting:
        first = waiting.pop(0)
        if not waiting:
            del core.answers[about]
        if not first.done():
            first.set_result(frame)


def report(core: Core) -> Report:
    """How the device stands, from memory."""
    session = core.session
    return Report(
        device=core.ports.device,
        connected=session is not None and session.stage is Stage.OPEN,
        revoked=core.revoked,
        user=core.grant.user if core.grant is not None else None,
        outbox=len(core.outbox),
        inbox=core.inbox_open,
        documents=len(core.rows),
        behind=session.behind if session is not None else 0,
        unverified=sum(len(held.unverified) for held in core.held.values()),
        relay_ms=core.relay_now(),
        synced_at=min((core.synced_at(name) for name in core.rows), default=None),
        directory_stale=core.directory is None or core.directory.is_stale(core.relay_now()),
        last_number=core.number,
    )
