"""Verdicts and reasons: one order, codes that are told apart, and bytes that are given again word for word."""

from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed import reasons
from crdtmed.codec import Undecodable, encode
from crdtmed.reasons import CODES, REASONS, RETRIES, OpenAlert, Reason, code_of
from crdtmed.verdict import FINAL, Flag, Status, Verdict, decode_verdict, encode_verdict
from tests.strategies import references

TEXTS = st.text(max_size=20)


def of_type(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type."""
    if hint is int:
        return st.integers(-(2**63), 2**63 - 1)
    if hint is str:
        return TEXTS
    if hint is bytes:
        return st.binary(max_size=20)
    if hint is OpenAlert:
        return st.builds(OpenAlert, TEXTS, TEXTS, TEXTS)
    assert get_origin(hint) is tuple, hint
    return st.lists(of_type(get_args(hint)[0]), max_size=3).map(tuple)


def reason_values(of: type[Any]) -> st.SearchStrategy[Any]:
    """Reasons of one type; where a field is a reference, they hold one."""
    hints = get_type_hints(of)
    fields = {
        name: references() if name in ("ref", "of", "by") else of_type(hints[name]) for name in of.__struct_fields__
    }
    return st.builds(of, **fields)


@pytest.mark.parametrize("of", REASONS, ids=CODES)
@given(st.data())
def test_every_reason_is_read_as_it_was_given(of: type[Any], data: st.DataObject) -> None:
    reason: Reason = data.draw(reason_values(of))
    verdict = Verdict(data.draw(references()), Status.REFUSED, 5, reason=reason)
    assert decode_verdict(encode_verdict(verdict)) == verdict
    assert verdict.code == code_of(reason) == CODES[REASONS.index(of)]


@given(st.data())
def test_every_verdict_is_read_as_it_was_given_and_has_one_encoding(data: st.DataObject) -> None:
    verdict = data.draw(
        st.builds(
            Verdict,
            references(),
            st.sampled_from(Status),
            st.integers(0, 2**47),
            document=st.sampled_from(["", "patient/p-1"]),
            epoch=st.sampled_from(["", "a" * 16]),
            position=st.integers(0, 2**53),
            reason=st.none() | st.sampled_from(REASONS).flatmap(reason_values),
            actions=st.lists(TEXTS, max_size=3).map(tuple),
            flags=st.lists(st.sampled_from(Flag), max_size=3).map(tuple),
        )
    )
    stored = encode_verdict(verdict)
    assert decode_verdict(stored) == verdict
    assert encode_verdict(decode_verdict(stored)) == stored


def test_codes_are_unique_and_in_the_order_of_the_list() -> None:
    assert len(set(CODES)) == len(CODES) == len(REASONS)
    assert set(get_args(Reason)) == set(REASONS)
    assert all(code == code.lower() and code.replace("_", "").isalpha() for code in CODES)
    assert set(CODES) > RETRIES


def test_every_reason_of_the_module_is_in_the_list() -> None:
    told = {
        of
        for of in vars(reasons).values()
        if isinstance(of, type) and issubclass(of, msgspec.Struct) and not of.__name__.startswith("_")
    }
    assert told - {OpenAlert} == set(REASONS)
    assert all(of.__doc__ for of in REASONS)


def place(of: type[Any]) -> int:
    return REASONS.index(of)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (reasons.KeyReused, reasons.ContentInvalid),
        (reasons.ContentInvalid, reasons.GrantUnknown),
        (reasons.GrantUnknown, reasons.RoleMissing),
        (reasons.UserWithdrawn, reasons.GrantNotInForce),
        (reasons.RoleMissing, reasons.NeedsChallenge),
        (reasons.NeedsChallenge, reasons.Awaits),
        (reasons.Awaits, reasons.DraftClosed),
        (reasons.DraftChanged, reasons.DraftIncomplete),
        (reasons.DraftIncomplete, reasons.DraftUnsettled),
        (reasons.DraftUnsettled, reasons.AlertsOpen),
        (reasons.PrescriptionStatus, reasons.OverAuthorised),
        (reasons.OverAuthorised, reasons.UnitMismatch),
        (reasons.UnitMismatch, reasons.LotUnknown),
        (reasons.LotUnknown, reasons.LotExpired),
        (reasons.LotExpired, reasons.StockShort),
    ],
    ids=lambda of: code_of(of) if not isinstance(of, type) else of.__name__,
)
def test_admission_looks_in_the_order_of_the_design(first: type[Any], then: type[Any]) -> None:
    assert place(first) < place(then)


@pytest.mark.parametrize("status", Status)
def test_three_outcomes_are_final(status: Status) -> None:
    verdict = Verdict("aaaaaaaa.aaaaaaaaaaaaaaaa", status, 0)
    assert verdict.final is (status in FINAL) is (status.value in ("accepted", "conflict", "refused"))
    assert verdict.code == ""


@pytest.mark.parametrize(
    "body",
    [
        {"ref": "aaaaaaaa.aaaaaaaaaaaaaaaa", "status": "maybe", "received_at": 0},
        {"ref": "aaaaaaaa", "status": "accepted", "received_at": 0},
        {"ref": "aaaaaaaa.aaaaaaaaaaaaaaaa", "status": "accepted", "received_at": 0, "reason": {"code": "no_code"}},
        {"ref": "aaaaaaaa.aaaaaaaaaaaaaaaa", "status": "accepted", "received_at": 0, "reason": {"code": "busy"}},
        {"ref": "aaaaaaaa.aaaaaaaaaaaaaaaa", "status": "accepted", "received_at": 0, "position": 0},
        {"ref": "aaaaaaaa.aaaaaaaaaaaaaaaa", "status": "accepted", "received_at": 0, "more": 1},
        {"ref": "aaaaaaaa.aaaaaaaaaaaaaaaa", "status": "accepted"},
    ],
    ids=["status", "reference", "code", "details", "default spelt out", "field", "field missing"],
)
def test_what_is_no_verdict_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(Undecodable):
        decode_verdict(encode(body))
