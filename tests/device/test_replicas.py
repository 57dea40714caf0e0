"""What a base shows after each update is what it would show if it were read anew, whatever came in whatever order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crdtmed import signed, statement
from crdtmed.codec import encode
from crdtmed.contract import Kind
from crdtmed.device.replicas import fresh, load
from crdtmed.device.store import BaseRow
from crdtmed.policies.server_authoritative import newer
from crdtmed.replica import Replica
from crdtmed.signed import Forged, Register
from crdtmed.statement import BadStatement, SignedStatement, Statement
from crdtmed.updates import ItemId, Root, read_device_update, tombstoned, write_array_update, write_map_update

SITE = "site/w1"
DRAFTS = "patient/p1/drafts"
LOG = "patient/p1/log/2026-11"
READER = 1
KEYS = ("queue/a", "queue/b", "stock/a", "x")
Shown = dict[str, tuple[Register, bytes]]


@dataclass
class Anew:
    """The registers of a document, all of them read anew at each look."""

    raw: dict[str, bytes] = field(default_factory=dict)
    found: Shown = field(default_factory=dict)
    bad: set[bytes] = field(default_factory=set)

    def look(self, replica: Replica) -> dict[str, Register]:
        """What is shown now."""
        held = replica.map()
        self.found = {key: one for key, one in self.found.items() if key in held}
        for key, value in held.items():
            if self.raw.get(key) != value:
                self._take(key, value)
        self.raw = held
        return {key: register for key, (register, data) in self.found.items() if data not in self.bad}

    def _take(self, key: str, value: bytes) -> None:
        try:
            register = signed.read(Register, value)
        except Forged:
            return
        if (register.document, register.key) != (SITE, key):
            return
        if key not in self.found or newer(self.found[key][0], register):
            self.found[key] = (register, value)


def a_register(key: str, version: int, value: object, document: str = SITE) -> bytes:
    """A register as bytes; nobody looks at the signature here."""
    return bytes(64) + encode(Register(document, key, version, version, msgspec.Raw(encode(value))))


VALUES = st.one_of(
    st.tuples(st.just("good"), st.integers(1, 6), st.sampled_from([None, "v", "w"])),
    st.tuples(st.just("key"), st.integers(1, 6), st.just("v")),
    st.tuples(st.just("document"), st.integers(1, 6), st.just("v")),
    st.tuples(st.just("bytes"), st.integers(0, 3), st.none()),
)
WRITES = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), WRITES, st.lists(st.sampled_from(KEYS), max_size=2)),
        st.tuples(st.just("fork"), WRITES, WRITES),
        st.tuples(st.sampled_from(["look", "forged", "relay anew", "restart", "queue"]), st.none(), st.none()),
    ),
    max_size=25,
)


def value_for(key: str, of: tuple[str, int, object]) -> bytes:
    """The bytes that the relay writes under ``key``, right or wrong."""
    what, number, value = of
    match what:
        case "good":
            return a_register(key, number, value)
        case "key":
            return a_register(KEYS[(KEYS.index(key) + 1) % len(KEYS)], number, value)
        case "document":
            return a_register(key, number, value, "site/w2")
        case _:
            return bytes(60 + number)


@settings(max_examples=150, deadline=None)
@example([("write", {"x": ("good", 1, "v")}, []), ("look", None, None), ("write", {}, ["x"]), ("look", None, None)])
@example([("fork", {"x": ("good", 1, "v")}, {"x": ("good", 2, "w")}), ("write", {"x": ("good", 3, "v")}, [])])
@example(
    [
        ("write", {"x": ("good", 1, "v")}, []),
        ("look", None, None),
        ("fork", {"x": ("good", 2, "v")}, {"x": ("good", 3, "w")}),
        ("look", None, None),
        ("write", {}, ["x"]),
    ]
)
@given(STEPS)
def test_registers_are_what_they_were_if_read_anew(steps: Sequence[tuple[str, object, object]]) -> None:
    relay, held, anew = Replica.open(SITE, 50), fresh(READER, SITE), Anew()
    snapshot, updates, client = b"\x00\x00", list[bytes](), 50
    queue: dict[str, Register] = {}
    forked = False

    def arrives(update: bytes) -> None:
        if update:
            updates.append(update)
            held.applied(held.replica.apply(update))

    for what, one, other in [*steps, ("look", None, None), ("queue", None, None)]:
        if what == "write" and isinstance(one, Mapping) and isinstance(other, list):
            arrives(relay.change({key: value_for(key, of) for key, of in one.items()}, other))
        elif forked and what in ("fork", "relay anew"):
            continue  # no reader takes a snapshot in which a key was begun twice
        elif what == "fork" and isinstance(one, Mapping) and isinstance(other, Mapping):
            forked = True
            client += 1
            second = Replica.load(SITE, client, relay.snapshot(), "e", 0)
            first_says = relay.set({key: value_for(key, of) for key, of in one.items()})
            second_says = second.set({key: value_for(key, of) for key, of in other.items()})
            if second_says:
                relay.apply(second_says)
            arrives(first_says)
            arrives(second_says)
        elif what == "relay anew":
            client += 1
            relay = Replica.load(SITE, client, relay.snapshot(), "e", 0)
        elif what == "restart":
            if len(updates) % 2 and not forked:
                snapshot, updates = relay.snapshot(), []
            held, anew = load(READER, BaseRow(SITE, "e", 1, 0, 0), snapshot, updates), Anew(bad=anew.bad)
            for value in anew.bad:
                held.forged(value)
            assert held.changed_keys() is None
            anew.look(held.replica)
            queue = dict(held.registers())
        elif what == "queue":
            changed = held.changed_keys()
            for key in held.registers().keys() | queue.keys() if changed is None else changed:
                register = held.register(key)
                queue.pop(key, None)
                if register is not None:
                    queue[key] = register
            assert queue == anew.look(held.replica)
        else:
            expected = anew.look(held.replica)
            assert dict(held.registers()) == expected
            assert list(held.registers()) == sorted(expected)
            assert {key: held.register(key) for key in KEYS if key in expected} == expected
            assert {anew.found[key][1] for key in expected} <= held.unverified.keys()
            if what == "forged" and expected:
                value = anew.found[min(expected)][1]
                held.forged(value)
                anew.bad.add(value)
        assert held.replica.map() == relay.map()


def test_the_registers_are_one_object_until_something_changes() -> None:
    relay, held = Replica.open(SITE, 50), fresh(READER, SITE)
    held.applied(held.replica.apply(relay.set({"x": a_register("x", 1, "v")})))
    before = held.registers()
    assert held.registers() is before
    held.applied(held.replica.apply(relay.set({"x": a_register("x", 2, "v")})))
    assert held.registers() is not before
    assert before["x"].version == 1
    assert len(held.unverified) == 1, "what was replaced is shown no more"


def test_an_update_reads_the_registers_that_it_touches_and_no_others() -> None:
    relay, held = Replica.open(SITE, 50), fresh(READER, SITE)
    held.applied(held.replica.apply(relay.set({f"k{n}": a_register(f"k{n}", 1, "v") for n in range(50)})))
    held.registers()
    assert held.changed_keys() is None
    asked: list[str] = []
    value = held.replica.value

    def counted(key: str) -> bytes | None:
        asked.append(key)
        return value(key)

    held.replica.value = counted  # type: ignore[method-assign]  # to see what is looked at
    held.applied(held.replica.apply(relay.change({"k7": a_register("k7", 2, "w")}, ["k9"])))
    held.applied(held.replica.apply(relay.set({"k9": a_register("k9", 5, "w")})))
    held.registers()
    assert sorted(asked) == ["k7", "k9"]
    assert held.changed_keys() == {"k7", "k9"}
    assert held.changed_keys() == set()


# ---- statements -----------------------------------------------------------------------------------------------


def said(author: int, number: int, target: str, text: str) -> bytes:
    """A statement as bytes; nobody looks at the signature here."""
    of = Statement(
        statement.VERSION,
        Kind.ADMINISTER,
        f"aaaaaaaaaaaaaa{'ab'[author]}{'abc'[number]}",
        target,
        f"aaaaaaa{'ab'[author]}",
        number + 1,
        "ann/aaaaaaaa",
        number,
        (),
        None,
        msgspec.Raw(encode(text)),
    )
    return bytes(64) + encode(of)


SAYINGS = st.tuples(st.integers(0, 1), st.integers(0, 2), st.sampled_from(["t", "t", "u", "other", "none"]))
PUSHES = st.lists(
    st.one_of(
        st.tuples(
            st.just("push"), st.integers(0, 1), st.lists(st.tuples(SAYINGS, st.booleans()), min_size=1, max_size=3)
        ),
        st.tuples(st.sampled_from(["close", "look", "forged", "own"]), st.integers(0, 5), st.just([])),
    ),
    max_size=20,
)


def value_of(target: str, saying: tuple[int, int, str]) -> bytes:
    """The bytes of what was said, right or wrong."""
    author, number, text = saying
    if text == "none":
        return bytes(70 + number)
    return said(author, number, "patient/p2/log" if text == "other" else target, text)


def read_anew(replica: Replica, target: str, bad: set[bytes]) -> dict[str, SignedStatement]:
    """The statements that stand in a document."""
    found: dict[str, SignedStatement] = {}
    for value in sorted(replica.values(), reverse=True):
        try:
            one = statement.decode(value)
        except BadStatement:
            continue
        if one.statement.document == target and value not in bad:
            found[one.statement.ref] = one
    return found


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([DRAFTS, LOG]), PUSHES)
def test_statements_are_what_they_were_if_read_anew(
    name: str, steps: Sequence[tuple[str, int, list[tuple[tuple[int, int, str], bool]]]]
) -> None:
    relay, held = Replica.open(name, 50), fresh(READER, name)
    target, bad, updates = held.document.target, set[bytes](), list[bytes]()
    for what, number, sayings in [*steps, ("look", 0, [])]:
        if what == "push":
            values = [value_of(target, one) for one, _ in sayings]
            client, clock = 60 + number, relay.state_vector.get(60 + number, 0)
            if name == LOG:
                origin = ItemId(client, clock - 1) if clock else relay.last_item
                update = write_array_update(client, clock, origin, values)
            else:
                keys = [f"rx/dose/{one[0]}/{one[1]}" for one, _ in sayings]
                if len(set(keys)) < len(keys):
                    continue
                update = write_map_update(client, clock, list(zip(keys, values, strict=True)))
            kept = tombstoned(read_device_update(update, held.document.root), [keep for _, keep in sayings])
            relay.apply(kept)
            updates.append(kept)
            assert set(held.applied(held.replica.apply(kept))) <= set(values)
        elif what == "close" and held.document.root is Root.MAP:
            if update := relay.delete(list(relay.map())[number : number + 2]):
                updates.append(update)
                held.applied(held.replica.apply(update))
        elif what == "own":
            for value in list(held.unverified)[:number]:
                if len(value) > 100:
                    held.own(statement.decode(value))
                    assert value not in held.unverified
        else:
            expected = read_anew(held.replica, target, bad)
            assert dict(held.statements()) == expected
            assert {one.ref: one.signed for one in held.entries()} == expected
            assert held.entries() is held.entries()
            if what == "forged" and number < len(expected):
                value = sorted(one.encoded for one in expected.values())[number]
                held.forged(value)
                bad.add(value)
        assert sorted(held.replica.values()) == sorted(relay.values())
    anew = load(READER, BaseRow(name, "e", 1, 0, 0), b"\x00\x00", updates)
    anew.bad |= bad
    assert dict(anew.statements()) == dict(held.statements())
    assert anew.unverified.keys() >= set(relay.values())
