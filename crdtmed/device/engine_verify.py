"""Authors are verified behind what is shown: a snapshot is usable at once, and nothing is done to it before."""

import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from crdtmed import documents, keys, signed, statement
from crdtmed.aggregates.dispensing_event import Dispense
from crdtmed.contract import Kind
from crdtmed.device import store
from crdtmed.device.engine_core import DIRECTORY, Check, Core
from crdtmed.device.engine_types import NotVerified, Progress, Utterance
from crdtmed.device.outbox import scope_of
from crdtmed.device.replicas import Held, is_register_document
from crdtmed.device.store_database import Connection
from crdtmed.signed import Register

BATCH: Final = 512
"""Signatures that are checked before anything else gets its turn."""

_DRAFTS: Final = frozenset({Kind.SIGN, Kind.AMEND, Kind.OVERRIDE})
_HEAD: Final = frozenset(
    {
        Kind.SIGN,
        Kind.AMEND,
        Kind.RESUME,
        Kind.DISPENSE,
        Kind.ADJUST,
        Kind.RESOLVE,
        Kind.RECONCILIATION_RECORD,
        Kind.RECONCILIATION_COMPLETE,
    }
)
# Stop and hold are not here: they must never wait.  Nor are facts that build upon nothing that is shown.


def built_upon(core: Core, one: Utterance) -> list[str]:
    """The documents whose authors must be verified before this is said."""
    scope = scope_of(one.target)
    names = []
    if one.kind in _HEAD:
        names.append(scope)
    if one.kind in _DRAFTS:
        names.append(documents.drafts(scope.partition("/")[2]))
    if isinstance(one.content, Dispense):
        names.append(documents.patient(one.content.patient))
    if one.kind is Kind.CORRECT:
        names += [name for name in core.rows if name.startswith(f"{one.target}/")]
    return names


async def require(core: Core, utterances: Sequence[Utterance]) -> None:
    """Verifies now what these build upon; raises `NotVerified` where a certificate is not here yet."""
    for name in dict.fromkeys(name for one in utterances for name in built_upon(core, one)):
        held = await core.hold(name)
        if held is None:
            continue
        await verify_held(core, held)
        if held.unverified:
            raise NotVerified(
                "not_verified",
                f"{len(held.unverified)} entries of {name} are by devices whose certificates are not here yet",
                "connect, so that the directory comes",
            )


async def verify_all(core: Core, calm: Callable[[], Awaitable[None]] | None = None) -> None:
    """Verifies whatever is not, of the documents in memory; what is in a hurry comes between, where ``calm`` waits."""
    for held in list(core.held.values()):
        if held.to_verify and core.held.get(held.document.name) is held:
            await verify_held(core, held, calm)


async def verify_held(core: Core, held: Held, calm: Callable[[], Awaitable[None]] | None = None) -> None:
    """Verifies the authors of a document as far as their certificates are here."""
    if held.document.name == DIRECTORY:
        return
    done, total = 0, len(held.unverified)
    parked: set[bytes] = set()
    while True:
        if calm is not None:
            await calm()
        async with held.verifying:  # several may wait for the same document: each value is verified once
            checked = await _verify_some(core, held, parked)
        if not checked:
            break
        done += checked
        if total > BATCH:
            core.tell(Progress("verify", min(done, total), total))
    if not held.unverified and held.verified < held.replica.position:
        held.verified = held.replica.position
        core.newly_verified.add(held.document.name)


async def _verify_some(core: Core, held: Held, parked: set[bytes]) -> int:
    """Verifies a batch; gives how many it looked at.  Those whose key is not here yet are ``parked``."""
    await _read(core, held)
    values = list(itertools.islice((value for value in held.unverified if value not in parked), BATCH))
    if not values:
        return 0
    known: list[tuple[bytes, Check]] = []
    for value in values:
        check = _check(core, held, value)
        if check is None:
            parked.add(value)
        else:
            known.append((value, check))
    good = await core.ports.verify([check for _, check in known])
    for (value, check), holds in zip(known, good, strict=True):
        held.unverified.pop(value, None)
        if not holds and not _other_key(core, held, value, check):
            await _forged(core, held, value)
    return len(values)


def verified_lately(core: Core) -> list[tuple[str, str, int]]:
    """What was verified since the last time: documents with their epochs and positions.

    They are values, since the store is written on another thread while verifying goes on.
    """
    found = []
    for name in core.newly_verified:
        held = core.held.get(name)
        if held is not None:
            found.append((name, held.replica.epoch, held.verified))
    core.newly_verified.clear()
    return found


def keep_verified(verified: list[tuple[str, str, int]], connection: Connection) -> None:
    """Writes down what was verified; the caller's transaction carries it."""
    for name, epoch, position in verified:
        store.mark_verified(connection, name, epoch, position)


async def _read(core: Core, held: Held) -> None:
    """Reads a document as views do, and tells what is wrong with it."""
    if is_register_document(held.document):
        held.registers()
    elif held.unverified:
        held.statements()
    troubles, held.troubles = held.troubles, []
    for trouble in troubles:
        await core.alarm(trouble.code, trouble.says)


def _check(core: Core, held: Held, value: bytes) -> Check | None:
    """The signature to verify; None where the key is not here yet."""
    body, signature = value[keys.SIGNATURE_BYTES :], value[: keys.SIGNATURE_BYTES]
    if is_register_document(held.document):
        candidates = _relay_keys(core, value)
        return (candidates[0], signed.TAGS[Register], body, signature) if candidates else None
    try:
        device = (held.unverified.get(value) or statement.decode(value)).statement.device
    except statement.BadStatement:
        return (b"", statement.TAG, body, signature)
    if device == core.ports.device:
        return (core.ports.signer.public, statement.TAG, body, signature)
    certificate = core.directory.certificates.get(device) if core.directory is not None else None
    return (certificate.signing, statement.TAG, body, signature) if certificate is not None else None


def _relay_keys(core: Core, value: bytes) -> list[bytes]:
    """The relay keys that were in service when a register says that it was written, this relay's first."""
    try:
        at = signed.read(Register, value).at
    except signed.Forged:
        return [b""]
    known = list(core.directory.relay_keys) if core.directory is not None else []
    if core.relay is not None:
        known.insert(0, core.relay)
    return [key.public for key in known if key.since <= at and (key.retired_at is None or at <= key.retired_at)]


def _other_key(core: Core, held: Held, value: bytes, check: Check) -> bool:
    """Whether another relay key of the time holds where the first did not."""
    if not is_register_document(held.document):
        return False
    _, tag, body, signature = check
    return any(keys.verify(public, tag, body, signature) for public in _relay_keys(core, value)[1:])


async def _forged(core: Core, held: Held, value: bytes) -> None:
    held.forged(value)
    name = held.document.name
    what = "a register" if is_register_document(held.document) else _who(value)
    await core.alarm("forged", f"{name} holds {what} that is not signed by whom it names; it does not count")
    core.changed(name)


def _who(value: bytes) -> str:
    try:
        return f"the statement {statement.decode(value).statement.ref}"
    except statement.BadStatement:
        return "bytes"
