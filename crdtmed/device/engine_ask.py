"""What a device asks the relay for a person, and how it says that it stands."""

import asyncio

from crdtmed.device.engine_core import Core
from crdtmed.device.engine_types import DeviceError, NotAllowed, Report
from crdtmed.device.session import Stage
from crdtmed.wire import frames as wire


async def sign_in(core: Core, user: str, password: str, pin: str | None) -> bytes:
    """The signed `Grant` of a user who signs in with the relay; ``pin`` becomes the one that opens grants offline.

    Raises `NotAllowed` with the relay's code, or `DeviceError` ``needs_relay`` where it is not there.
    """
    frame = await _asked(core, "sign_in", wire.SignIn(user, password, pin))
    if isinstance(frame, wire.SignedIn):
        return frame.grant
    code = frame.code if isinstance(frame, wire.SignInFailed) else "no_answer"
    raise NotAllowed(code, f"{user} could not sign in", "check the user name and the password")


async def roster(core: Core, site: str) -> tuple[wire.SealedGrant, ...]:
    """The grants issued ahead for a site on this device; raises `DeviceError` where the relay is not there."""
    frame = await _asked(core, "roster", wire.AskRoster(site))
    return frame.grants if isinstance(frame, wire.Roster) else ()


async def _asked(core: Core, what: str, frame: wire.ToRelay) -> wire.ToDevice:
    session = core.session
    if session is None or session.stage is not Stage.OPEN:
        raise DeviceError("needs_relay", f"{what} needs the relay, and this device is not connected", "connect")
    answer: asyncio.Future[wire.ToDevice] = asyncio.get_running_loop().create_future()
    core.answers.setdefault(what, []).append(answer)
    session.say(frame)
    core.wake()
    try:
        return await answer
    except ConnectionError as error:
        raise DeviceError("needs_relay", f"{what}: {error}", "connect and try again") from None


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
