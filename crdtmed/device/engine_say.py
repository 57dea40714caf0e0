"""Saying something: checked, numbered, signed, and durable in the outbox before anybody sees it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from crdtmed import clock, statement
from crdtmed.aggregates.conflict import Resolve
from crdtmed.aggregates.content import (
    Content,
    ContentError,
    decode_content,
    embedded,
    encode_content,
    kind_of,
    nature_of,
)
from crdtmed.contract import Capability, Kind, Nature, capability_of, needs_challenge
from crdtmed.device import engine_verify, store
from crdtmed.device.engine_core import Core, to_its_end
from crdtmed.device.engine_types import DeviceError, NeedsRelay, NotAllowed, Utterance
from crdtmed.device.session import Stage
from crdtmed.device.store import Said
from crdtmed.documents import carries, parse
from crdtmed.ids import ID_RANDOM_BYTES, STATEMENT_ID_BYTES, fresh_id, ref, statement_id
from crdtmed.limits import MAX_OUTBOX_STATEMENTS, MAX_STRUCTS_PER_UPDATE
from crdtmed.signed import Grant
from crdtmed.statement import SignedStatement, Statement
from crdtmed.trust import covers
from crdtmed.wire.frames import AskChallenges


@dataclass(frozen=True, slots=True)
class _Ready:
    """An utterance that was checked: its content's bytes, and the id it gets."""

    of: Utterance
    content: bytes
    id: str


async def say(core: Core, utterances: Sequence[Utterance]) -> tuple[str, ...]:
    """Says all of ``utterances`` in one transaction, and gives their references.

    When it returns they are durable.  Raises `NotAllowed`, `NeedsRelay`, `NotVerified`, `DeviceError`, `ContentError`,
    `crdtmed.statement.BadStatement` or `StoreError`, and then nothing of it was said.
    """
    grant = _may_say(core, utterances)
    ready = [_Ready(one, encode_content(one.content), one.id or _fresh(core)) for one in utterances]
    await engine_verify.require(core, utterances)
    challenges = await _challenges(core, [one for one in utterances if needs_challenge(one.kind)])
    # Once begun it runs to its end, whoever stops waiting for it: memory and disk move together.
    return await to_its_end(_commit(core, grant, ready, challenges))


def new_id(core: Core) -> str:
    """A fresh id for anything, be it a statement or what has a name of its own: random, so that no two devices meet."""
    return statement_id(core.ports.random_bytes(STATEMENT_ID_BYTES))


def _fresh(core: Core) -> str:
    """A fresh id for a statement, which its device's own id stands before."""
    return fresh_id(core.relay_now(), core.ports.random_bytes(ID_RANDOM_BYTES))


async def said_before(core: Core, one: Utterance) -> str | None:
    """The reference of what was said under this id before; None where it is fresh.

    Raises `DeviceError` ``key_reused`` where that was something else, as far as this store still has it.
    """
    name = ref(core.ports.device, one.id or "")
    item = core.outbox.items.get(name)
    signed = item.said.signed if item is not None else None
    if signed is None:
        for document in [document for document in core.rows if parse(document).target == one.target]:
            held = await core.hold(document)
            signed = signed or (held.statements().get(name) if held is not None else None)
    if signed is None:
        known = await core.ports.database.run(lambda connection: store.verdict_of(connection, name))
        return name if known is not None else None
    old = signed.statement
    same = (one.kind, one.target, tuple(sorted(set(one.seen))), encode_content(one.content))
    if (old.kind, old.document, old.seen, bytes(old.content)) != same:
        raise DeviceError("key_reused", f"the id {one.id} stands for another statement already", "use a fresh id")
    return name


async def _commit(core: Core, grant: Grant, ready: Sequence[_Ready], challenges: list[bytes]) -> tuple[str, ...]:
    async with core.saying:
        said: list[Said] = []
        number, stamp, now = core.number, core.stamp, core.ports.now_ms()
        for one in ready:
            number, stamp = number + 1, clock.next_stamp(stamp, core.relay_now())
            body = Statement(
                version=statement.VERSION,
                kind=one.of.kind,
                id=one.id,
                document=one.of.target,
                device=core.ports.device,
                number=number,
                grant=grant.id,
                stamp=stamp,
                seen=tuple(sorted(set(one.of.seen))),
                challenge=challenges.pop() if needs_challenge(one.of.kind) else None,
                content=msgspec.Raw(one.content),
            )
            said.append(Said(statement.sign(body, core.ports.signer), now, core.number + 1))
        await core.ports.database.run(lambda connection: store.append(connection, said, stamp))
        core.number, core.stamp = number, stamp
        for one_said in said:
            core.outbox.add(one_said).challenged = (core.conversation, now)
    for target in dict.fromkeys(one.of.target for one in ready):
        core.changed(target)
    core.wake()
    return tuple(item.ref for item in said)


def signed_again(
    core: Core,
    of: SignedStatement,
    *,
    number: int | None = None,
    stamp: int | None = None,
    challenge: bytes | None = None,
) -> SignedStatement:
    """The same statement (kind, id, document, seen, content) under another number, stamp or challenge."""
    old = of.statement
    body = Statement(
        old.version,
        old.kind,
        old.id,
        old.document,
        old.device,
        old.number if number is None else number,
        old.grant,
        old.stamp if stamp is None else stamp,
        old.seen,
        old.challenge if challenge is None else challenge,
        old.content,
    )
    return statement.sign(body, core.ports.signer)


# ---- checks ---------------------------------------------------------------------------------------------------


def _may_say(core: Core, utterances: Sequence[Utterance]) -> Grant:
    if core.revoked:
        raise NotAllowed("revoked", "this device is out of service", "use another device")
    grant = core.grant
    if grant is None:
        raise NotAllowed("not_signed_in", "nobody is signed in on this device", "sign in first")
    if not 0 < len(utterances) <= MAX_STRUCTS_PER_UPDATE:
        raise DeviceError(
            "too_many", f"{len(utterances)} statements at once, 1..{MAX_STRUCTS_PER_UPDATE} are allowed", "split them"
        )
    if len(core.outbox) + len(utterances) > MAX_OUTBOX_STATEMENTS:
        raise DeviceError(
            "outbox_full", f"{len(core.outbox)} statements wait for the relay", "connect, so that they are sent"
        )
    ids = [one.id for one in utterances if one.id is not None]
    for given in ids:
        if ids.count(given) > 1 or ref(core.ports.device, given) in core.outbox.items:
            raise DeviceError("key_reused", f"the id {given} stands for another statement already", "use a fresh id")
    for one in utterances:
        _check(core, grant, one)
    return grant


def _check(core: Core, grant: Grant, one: Utterance) -> None:
    if kind_of(one.content) is not one.kind:
        raise DeviceError(
            "wrong_content", f"{type(one.content).__name__} is no content of {one.kind.label}", "pass the kind's model"
        )
    if not carries(one.kind, one.target):
        raise DeviceError(
            "wrong_document", f"{one.kind.label} does not belong to {one.target}", "name the document of this kind"
        )
    row = _row_of(one.kind, one.content)
    if row.roles and not row.roles & set(grant.roles):
        needed = ", ".join(sorted(row.roles))
        raise NotAllowed(
            "role_missing", f"{one.kind.label} needs the role {needed}", "let somebody with that role do it"
        )
    # What happened is written down even when a grant has just lapsed: the relay keeps it, as a conflict.
    if nature_of(one.kind, one.content) is Nature.INTENTION and not covers(grant, core.relay_now()):
        raise NotAllowed("grant_not_in_force", f"the grant {grant.id} is not in force now", "sign in again")


def _row_of(kind: Kind, content: Content) -> Capability:
    """The gate row: of a resolution, that of the statement which it resolves, to the bottom."""
    while isinstance(content, Resolve):
        inner = embedded(content).statement
        kind = inner.kind
        if kind is not Kind.RESOLVE:
            break
        content = _inner(inner)
    return capability_of(kind)


def _inner(inner: Statement) -> Content:
    try:
        return decode_content(inner.kind, bytes(inner.content))
    except ContentError as error:
        raise DeviceError("content_invalid", f"what it resolves is not readable: {error}", "read its reason") from None


async def _challenges(core: Core, needing: Sequence[Utterance]) -> list[bytes]:
    """A fresh challenge of the relay for each; raises `NeedsRelay` at once where it is not there."""
    return [await challenge(core, one.kind) for one in needing]


async def challenge(core: Core, kind: Kind) -> bytes:
    """A fresh challenge of the relay; raises `NeedsRelay` where it is not there, or goes away meanwhile."""
    session = core.session
    if session is None or session.stage is not Stage.OPEN:
        raise NeedsRelay(kind, "this device is not connected")
    coming: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    core.challenges.append(coming)
    session.say(AskChallenges(1))
    core.wake()
    try:
        return await coming
    except ConnectionError as error:
        raise NeedsRelay(kind, str(error)) from None
