"""Malicious devices with valid keys: what they send is signed as it should be, and is what no honest device says.

A rogue speaks in the conversation that its device has open, or says things in its device's outbox that the device
itself would never let a person say.
"""

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final

from msgspec import Raw, msgpack

from crdtmed.clock import next_stamp
from crdtmed.contract import Kind
from crdtmed.device.engine_core import Core
from crdtmed.device.session import Stage
from crdtmed.ids import statement_id
from crdtmed.statement import Statement, sign
from crdtmed.updates import write_array_update, write_map_update
from crdtmed.wire import frames as wire
from tests.simulation.setting import PATIENTS
from tests.simulation.tablet import Tablet

Attack = Callable[[Tablet, Core, Random], Awaitable[bytes | None]]
"""Sends something; gives the statement's bytes that must never be accepted, or None."""


def _forged(core: Core, kind: Kind, document: str, content: Any, random: Random, **changed: Any) -> bytes:
    grant = core.grant.id if core.grant is not None else f"ana/{core.ports.device}"
    fields: dict[str, Any] = {
        "version": 1,
        "kind": kind,
        "id": statement_id(random.randbytes(10)),
        "document": document,
        "device": core.ports.device,
        "number": core.number + 1_000 + random.randrange(1_000),
        "grant": grant,
        "stamp": next_stamp(core.stamp, core.relay_now()),
        "seen": (),
        "challenge": None,
        "content": Raw(msgpack.encode(content)),
    }
    return sign(Statement(**(fields | changed)), core.ports.signer).encoded


def _say(core: Core, frame: wire.ToRelay) -> None:
    assert core.session is not None
    core.session.say(frame)
    core.wake()


async def sign_offline(tablet: Tablet, core: Core, random: Random) -> bytes | None:
    """A signature without a challenge."""
    content = {"prescription": f"d{random.randrange(9)}", "digest": b"\x01" * 32}
    raw = _forged(core, Kind.SIGN, f"patient/{random.choice(PATIENTS)}", content, random)
    _say(core, wire.Request(raw))
    return raw


async def adjust_offline(tablet: Tablet, core: Core, random: Random) -> bytes | None:
    """An adjustment with a challenge that nobody gave, by whoever is signed in."""
    content = {"item": "amox", "lot": "A1", "delta": 1_000, "reason": "count", "version_seen": 1}
    raw = _forged(core, Kind.ADJUST, "site/pharm/log", content, random, challenge=random.randbytes(16))
    name = f"site/pharm/log/{_today(core)}"
    _say(core, wire.Push(name, write_array_update(random.getrandbits(31) + 5, 0, None, [raw])))
    return raw


async def another_grant(tablet: Tablet, core: Core, random: Random) -> bytes | None:
    """A draft under a grant that was issued to another device."""
    content = {"prescription": "stolen", "group": "instructions", "value": {"group": "instructions", "text": "twice"}}
    raw = _forged(core, Kind.DRAFT_WRITE, "patient/p1/drafts", content, random, grant="ana/zzzzzzzz")
    key = f"stolen/instructions/{core.ports.device}/{msgpack.decode(raw[64:])[2]}"
    _say(core, wire.Push("patient/p1/drafts", write_map_update(random.getrandbits(31) + 5, 0, [(key, raw)])))
    return raw


async def another_author(tablet: Tablet, core: Core, random: Random) -> bytes | None:
    """A statement in another device's name; the conversation ends."""
    content = {"prescription": "p", "reason": "r"}
    raw = _forged(core, Kind.STOP, "patient/p1", content, random, device="aaaaaaaa")
    _say(core, wire.Request(raw))
    return raw


async def bad_signature(tablet: Tablet, core: Core, random: Random) -> bytes | None:
    """A statement that nobody signed; the conversation ends."""
    raw = _forged(core, Kind.STOP, "patient/p1", {"prescription": "p", "reason": "r"}, random)
    wrong = bytes(64) + raw[64:]
    _say(core, wire.Request(wrong))
    return wrong


async def wrong_key(tablet: Tablet, core: Core, random: Random) -> bytes | None:
    """A draft write under a key that would hide somebody else's; the conversation ends."""
    content = {"prescription": "mine", "group": "instructions", "value": {"group": "instructions", "text": "never"}}
    raw = _forged(core, Kind.DRAFT_WRITE, "patient/p1/drafts", content, random)
    key = f"mine/instructions/aaaaaaaa/{statement_id(random.randbytes(10))}"
    _say(core, wire.Push("patient/p1/drafts", write_map_update(random.getrandbits(31) + 5, 0, [(key, raw)])))
    return raw


async def somebody_elses_client(tablet: Tablet, core: Core, random: Random) -> bytes | None:
    """An update that goes on where another device's client stands; the conversation ends."""
    name = "patient/p1/drafts"
    held = core.held.get(name)
    own = {writer.client for writer in core.writers.values()}
    others = sorted(set(held.replica.state_vector) - own) if held is not None else []
    if held is None or not others:
        return None
    client = random.choice(others)
    content = {"prescription": "theirs", "group": "instructions", "value": None}
    raw = _forged(core, Kind.DRAFT_WRITE, name, content, random)
    key = f"theirs/instructions/{core.ports.device}/{msgpack.decode(raw[64:])[2]}"
    _say(core, wire.Push(name, write_map_update(client, held.replica.state_vector[client], [(key, raw)])))
    return None  # where the client is this device's own of an earlier day, it is in its right


async def nonsense(tablet: Tablet, core: Core, random: Random) -> bytes | None:
    """Bytes that are no update; the conversation ends."""
    _say(core, wire.Push("patient/p1/drafts", random.randbytes(random.randrange(1, 60))))
    return None


async def future_clock(tablet: Tablet, core: Core, random: Random) -> bytes | None:
    """An update that leaves a hole."""
    content = {"prescription": "late", "group": "instructions", "value": None}
    raw = _forged(core, Kind.DRAFT_WRITE, "patient/p2/drafts", content, random)
    key = f"late/instructions/{core.ports.device}/{msgpack.decode(raw[64:])[2]}"
    _say(core, wire.Push("patient/p2/drafts", write_map_update(random.getrandbits(31) + 5, 7, [(key, raw)])))
    return raw


async def hidden_stock(tablet: Tablet, core: Core, random: Random) -> bytes | None:
    """A receipt with content that no model has."""
    raw = _forged(core, Kind.RECEIPT, "site/pharm/log", {"item": "amox", "quantity": -5}, random)
    name = f"site/pharm/log/{_today(core)}"
    _say(core, wire.Push(name, write_array_update(random.getrandbits(31) + 5, 0, None, [raw])))
    return raw


def _today(core: Core) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(core.relay_now() / 1_000, UTC).date().isoformat()


ATTACKS: Final[dict[str, Attack]] = {
    "sign_offline": sign_offline,
    "adjust_offline": adjust_offline,
    "another_grant": another_grant,
    "another_author": another_author,
    "bad_signature": bad_signature,
    "wrong_key": wrong_key,
    "somebody_elses_client": somebody_elses_client,
    "nonsense": nonsense,
    "future_clock": future_clock,
    "hidden_stock": hidden_stock,
}


def can_attack(tablet: Tablet) -> bool:
    """Whether the device is in an open conversation."""
    if not tablet.works:
        return False
    session = tablet.engine.core.session
    return session is not None and session.stage is Stage.OPEN
