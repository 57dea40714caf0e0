"""Out of service: the outbox goes into quarantine, and then everything is destroyed by whoever holds the keys."""

from collections.abc import Iterable, Iterator
from typing import Final

from crdtmed.device.engine_bases import Burst
from crdtmed.device.engine_core import Core
from crdtmed.device.engine_types import Alarm, Revoked
from crdtmed.device.outbox import Phase
from crdtmed.limits import MAX_HANDED_BYTES, MAX_HANDED_STATEMENTS
from crdtmed.signed import Forged, Revocation, unseal
from crdtmed.wire import frames as wire

_AROUND: Final = 5
"""Bytes that a frame spends on one statement beside the statement itself, at most."""


def revoked(core: Core, burst: Burst, frame: wire.Revoked) -> None:
    """The relay says that this device is out of service: true only if the identity key says so."""
    anchor = core.anchor
    if core.session is not None and core.welcomed_at is None:
        # It is told in place of the welcome, with which the engine would have followed the chain of identity keys.
        anchor = core.session.anchor
    try:
        revocation = unseal(Revocation, frame.revocation, anchor.identity)
    except Forged as error:
        _disbelieved(core, burst, "forged", f"a revocation of this device: {error.says}")
        return
    if revocation.device != core.ports.device:
        _disbelieved(core, burst, "misplaced", f"the relay sent the revocation of {revocation.device}")
        return
    core.revoked = True
    core.revocation = revocation
    core.grant = None
    chunks = _chunks(core) if frame.hand_over and not revocation.now else []
    core.hand_overs = len(chunks)
    if core.session is not None:
        for chunk in chunks:
            core.session.say(wire.HandOver(chunk))
    burst.events.append(Revoked(revocation, handed_over=not chunks))


def _disbelieved(core: Core, burst: Burst, code: str, says: str) -> None:
    """Nothing of it counts; but a conversation that it has closed to everything else would renew no lease any more."""
    burst.alarms.append(Alarm(code, says))
    if core.session is not None:
        core.session.leave(code, says)


def handed_over(core: Core, burst: Burst) -> None:
    """A part of the outbox is in quarantine now."""
    if core.hand_overs and core.revocation is not None:
        core.hand_overs -= 1
        if not core.hand_overs:
            burst.events.append(Revoked(core.revocation, handed_over=True))


def notice(core: Core) -> None:
    """The directory says that this device is out of service, and no frame did.

    The next conversation is to hand over what waits, if there is one: a relay that is restored meanwhile may have
    forgotten, and what the identity key has signed stands all the same.
    """
    revocation = core.directory.revocations.get(core.ports.device) if core.directory is not None else None
    if revocation is None or core.revoked:
        return
    core.revoked = True
    core.revocation = revocation
    core.grant = None
    core.tell(Revoked(revocation, handed_over=revocation.now or not _chunks(core)))
    if core.session is not None:
        core.session.leave("revoked", "the directory says that this device is out of service")


def _chunks(core: Core) -> list[tuple[bytes, ...]]:
    unsent = sorted(
        (item for item in core.outbox.items.values() if item.phase is not Phase.JUDGED),
        key=lambda item: item.said.number,
    )
    return list(in_frames(item.said.signed.encoded for item in unsent))


def in_frames(statements: Iterable[bytes]) -> Iterator[tuple[bytes, ...]]:
    """Statements that are handed over or back, in order, as many together as one frame takes."""
    chunk: list[bytes] = []
    size = 0
    for data in statements:
        if chunk and (size + len(data) > MAX_HANDED_BYTES or len(chunk) >= MAX_HANDED_STATEMENTS):
            yield tuple(chunk)
            chunk, size = [], 0
        chunk.append(data)
        size += len(data) + _AROUND
    if chunk:
        yield tuple(chunk)
