"""Statements: exact bytes, signed; what is malformed has a reason, and sameness is by what was said."""

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed import keys, statement
from crdtmed.codec import encode
from crdtmed.contract import Kind
from crdtmed.limits import MAX_NUMBER, MAX_SEEN, MAX_STATEMENT_BYTES
from crdtmed.statement import BadStatement, SignedStatement, Statement
from tests.strategies import START_MS, Device, device, raw_values, statement_id, statements

AUTHOR = device(1)
NIL = msgspec.Raw(b"\xc0")


def plain(**changes: object) -> Statement:
    """A statement with some fields changed, whatever their types."""
    fields: dict[str, Any] = {
        "version": statement.VERSION,
        "kind": Kind.DRAFT_WRITE,
        "id": statement_id(1),
        "document": "patient/p-1/drafts",
        "device": AUTHOR.id,
        "number": 1,
        "grant": AUTHOR.grant,
        "stamp": START_MS << 16,
        "seen": (),
        "challenge": None,
        "content": NIL,
    }
    return Statement(**(fields | changes))


@given(statements())
def test_a_signed_statement_is_read_as_it_was_said(made: tuple[Statement, Device]) -> None:
    said, author = made
    signed = statement.sign(said, author.signer)
    assert statement.decode(signed.encoded) == signed == SignedStatement(said, signed.encoded)
    assert statement.verify(signed, author.signer.public)
    assert signed.signature + signed.body == signed.encoded
    assert len(signed.signature) == keys.SIGNATURE_BYTES
    assert signed.body == encode(said)


@given(statements(), st.data())
def test_a_changed_byte_is_refused_or_not_verified(made: tuple[Statement, Device], data: st.DataObject) -> None:
    said, author = made
    tampered = bytearray(statement.sign(said, author.signer).encoded)
    tampered[data.draw(st.integers(0, len(tampered) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        read = statement.decode(bytes(tampered))
    except BadStatement:
        return
    assert not statement.verify(read, author.signer.public)


@given(statements())
def test_another_key_or_tag_does_not_verify(made: tuple[Statement, Device]) -> None:
    said, author = made
    signed = statement.sign(said, author.signer)
    assert not statement.verify(signed, device(9).signer.public)
    assert not statement.verify(signed, b"no key")
    other_tag = author.signer.sign(b"crdtmed/register/1", signed.body) + signed.body
    assert not statement.verify(statement.decode(other_tag), author.signer.public)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(BadStatement):
        assert statement.decode(data).encoded == data


REF = f"{AUTHOR.id}.{statement_id(7)}"
LATER = f"{AUTHOR.id}.{statement_id(8)}"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": 2}, "version_unknown"),
        ({"version": 0}, "version_unknown"),
        ({"document": "ward/3"}, "document_unknown"),
        ({"document": "patient/p-1/log/2026-01"}, "document_unknown"),
        ({"document": "x" * 500}, "not_msgpack"),
        ({"kind": 0}, "not_msgpack"),
        ({"kind": 18}, "not_msgpack"),
        ({"id": "short"}, "not_msgpack"),
        ({"device": "AAAAAAAA"}, "not_msgpack"),
        ({"grant": "nobody"}, "not_msgpack"),
        ({"number": 0}, "not_msgpack"),
        ({"number": MAX_NUMBER + 1}, "not_msgpack"),
        ({"number": 1.0}, "not_msgpack"),
        ({"stamp": -1}, "not_msgpack"),
        ({"stamp": 2**63}, "not_msgpack"),
        ({"seen": (LATER, REF)}, "seen_unordered"),
        ({"seen": (REF, REF)}, "seen_unordered"),
        ({"seen": ("x",)}, "not_msgpack"),
        ({"seen": tuple(f"{AUTHOR.id}.{statement_id(at)}" for at in range(MAX_SEEN + 1))}, "not_msgpack"),
        ({"challenge": b"short"}, "not_msgpack"),
        ({"challenge": bytes(17)}, "not_msgpack"),
        ({"content": msgspec.Raw(b"\xcb" + bytes(8))}, "not_plain"),
        ({"content": msgspec.Raw(b"\x91" * 13 + b"\xc0")}, "too_deep"),
        ({"content": msgspec.Raw(b"\x82\xa1a\x01\xa1a\x01")}, "not_canonical"),
        ({"content": msgspec.Raw(b"\xc0\xc0")}, "not_msgpack"),
        ({"content": msgspec.Raw(encode(bytes(MAX_STATEMENT_BYTES)))}, "too_large"),
    ],
)
def test_each_broken_rule_has_its_reason_for_reader_and_signer(changes: dict[str, object], reason: str) -> None:
    bad = plain(**changes)
    with pytest.raises(BadStatement) as refused:
        statement.decode(bytes(64) + encode(bad))
    assert refused.value.reason == reason
    assert str(refused.value) == f"{reason}: {refused.value.says}"
    with pytest.raises(BadStatement) as refused:
        statement.sign(bad, AUTHOR.signer)
    assert refused.value.reason == reason


@pytest.mark.parametrize("size", [0, 1, 64])
def test_what_is_no_longer_than_a_signature_is_too_short(size: int) -> None:
    with pytest.raises(BadStatement) as refused:
        statement.decode(bytes(size))
    assert refused.value.reason == "too_short"


def test_a_body_with_a_field_more_or_less_is_refused() -> None:
    fields = msgspec.msgpack.decode(encode(plain()))
    for body in (fields[:-1], [*fields, None]):
        with pytest.raises(BadStatement) as refused:
            statement.decode(bytes(64) + encode(body))
        assert refused.value.reason == "not_msgpack"


def test_the_largest_statement_is_read() -> None:
    room = MAX_STATEMENT_BYTES - 64 - len(encode(plain(content=msgspec.Raw(encode(bytes(1_000))))))
    full = statement.sign(plain(content=msgspec.Raw(encode(bytes(1_000 + room)))), AUTHOR.signer)
    assert len(full.encoded) == MAX_STATEMENT_BYTES
    with pytest.raises(BadStatement, match="too_large"):
        statement.sign(plain(content=msgspec.Raw(encode(bytes(1_001 + room)))), AUTHOR.signer)


@given(statements(), statements())
def test_sameness_is_by_kind_document_seen_and_content(
    one: tuple[Statement, Device], other: tuple[Statement, Device]
) -> None:
    a, b = one[0], other[0]
    again = msgspec.structs.replace(
        a, number=b.number, grant=b.grant, stamp=b.stamp, challenge=b.challenge, content=msgspec.Raw(bytes(a.content))
    )
    assert statement.same(a, again)
    for part in ("kind", "document", "seen", "content"):
        changed = msgspec.structs.replace(a, **{part: getattr(b, part)})
        assert statement.same(a, changed) is (getattr(a, part) == getattr(b, part))


@given(raw_values(), raw_values())
def test_contents_are_the_same_where_their_bytes_are(one: msgspec.Raw, other: msgspec.Raw) -> None:
    assert statement.same(plain(content=one), plain(content=other)) is (bytes(one) == bytes(other))


def test_a_statement_names_itself_its_user_and_its_place_in_order() -> None:
    said = plain(stamp=77)
    assert said.ref == f"{AUTHOR.id}.{statement_id(1)}"
    assert said.user == "user1"
    assert said.order == (77, AUTHOR.id)
