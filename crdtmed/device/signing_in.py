"""Who is signed in: with the relay by password, or without it by the PIN that opens a grant issued ahead."""

import asyncio
from contextlib import suppress
from typing import Final

from crdtmed.aggregates.conflict import BreakGlass
from crdtmed.codec import Undecodable, decoder, encode
from crdtmed.contract import Kind
from crdtmed.device import lease, pin
from crdtmed.device.desk import Desk, signed_in
from crdtmed.device.engine import Engine, Said
from crdtmed.device.engine_types import DeviceError, NotAllowed
from crdtmed.device.life import Life
from crdtmed.leasing import CannotStretch, Locked, break_glass, relay_time
from crdtmed.limits import MAX_SIGNED_VALUE_BYTES
from crdtmed.sealing import PIN_COST, Cost
from crdtmed.signed import Forged, Grant
from crdtmed.trust import NotForHere, covers, read_grant
from crdtmed.wire.frames import SealedGrant

SEALED: Final = "sealed grant"
"""Under which the store keeps grants that were issued ahead, by user."""
SITE: Final = "roster site"
"""Under which the store keeps the sites whose rosters are fetched."""
_decode_sealed = decoder(SealedGrant, MAX_SIGNED_VALUE_BYTES)


async def sign_in(life: Life, engine: Engine, user: str, password: str, new_pin: str | None) -> Grant:
    """Signs a user in with the relay, and fetches the grants issued ahead for the sites of the grant.

    Raises `NotAllowed` with the relay's code, `DeviceError` ``needs_relay`` where it is not there.
    """
    data = await engine.sign_in(user, password, new_pin)
    try:
        grant = read_grant(data, life.profile.anchor, life.profile.device)
    except (Forged, NotForHere) as error:
        raise NotAllowed("not_for_here", f"the relay's grant is not to be used: {error}", "report this") from None
    if grant.user != user:
        raise NotAllowed("not_for_here", f"the relay gave a grant of {grant.user}, not of {user}", "report this")
    pin.reset(life.holder, user)
    engine.use(grant)
    for site in grant.sites:
        await engine.keep(SITE, site, b"")
    with suppress(DeviceError):  # the relay went away again: they are fetched the next time it is there
        await refresh_rosters(engine)
    return grant


async def refresh_rosters(engine: Engine) -> int:
    """Keeps the grants issued ahead on this device for the sites of everybody who signed in here; gives how many.

    Raises `DeviceError` where the relay is not there.
    """
    count = 0
    for site in sorted(await engine.kept(SITE)):
        for one in await engine.roster(site):
            await engine.keep(SEALED, one.user, encode(one))
            count += 1
    return count


async def users(engine: Engine) -> tuple[tuple[str, str], ...]:
    """Who can be unlocked by a PIN here: user and name."""
    found = []
    for user, data in sorted((await engine.kept(SEALED)).items()):
        try:
            found.append((user, _decode_sealed(data).name))
        except Undecodable:
            continue
    return tuple(found)


async def unlock(life: Life, engine: Engine, user: str, typed: str, cost: Cost = PIN_COST) -> Grant:
    """Signs a user in by PIN, with or without a relay.

    Raises `crdtmed.device.pin.PinRefused`, or `NotAllowed` ``no_grant`` where no grant was issued ahead here.
    """
    data = (await engine.kept(SEALED)).get(user)
    if data is None:
        raise NotAllowed(
            "no_grant",
            f"no grant of {user} was issued ahead on this device",
            "sign in online with a password and a PIN",
        )
    try:
        sealed = _decode_sealed(data)
    except Undecodable as error:
        raise NotAllowed("no_grant", f"the grant of {user} cannot be read: {error.says}", "sign in online") from None
    now = engine.core.relay_now()
    grant, _ = await asyncio.to_thread(pin.open_grant, life.holder, sealed, typed, now, cost)
    engine.use(grant)
    return grant


async def stretch(life: Life, desk: Desk, reason: str) -> Said:
    """Break-glass: the lease runs longer, once, by the hours that it grants; said with its reason for the operator.

    Raises `DeviceError` ``cannot_stretch`` outside the last hour of the lease, or for a role that may not.
    """
    grant = signed_in(desk)
    if not covers(grant, desk.engine.core.relay_now()):
        raise NotAllowed("grant_not_in_force", f"the grant of {grant.user} has lapsed", "let somebody else do it")
    reading = life.clock.reading()
    roles = frozenset(grant.roles)
    if isinstance(life.lease_state(), Locked) or life.held.base is None:
        raise DeviceError("cannot_stretch", "the cache is locked", "connect: only the relay can open it again")
    try:
        mark = break_glass(life.held.mark, relay_time(life.held.base, reading), roles)
        said = await desk.engine.say(Kind.BREAK_GLASS, "directory", BreakGlass(reason, mark.until_ms))
        life.held = lease.stretch(life.holder, life.held, reading, roles)
    except CannotStretch as error:
        raise DeviceError("cannot_stretch", str(error), "connect the device to its relay") from None
    life.warned_s = None
    return said
