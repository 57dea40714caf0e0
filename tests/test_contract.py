"""The contract as data: complete in itself, and the same as the written contract where that is at hand."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from crdtmed.contract import (
    CAPABILITIES,
    CONFLICT_RULES,
    KINDS,
    POLICIES,
    Aggregate,
    Carrier,
    Kind,
    Nature,
    Offline,
    Policy,
    Role,
    capability_of,
    may_queue,
    needs_challenge,
)
from crdtmed.documents import POLICY, DocumentKind

ROOT = Path(__file__).resolve().parent.parent
WRITTEN = Path(os.environ.get("CRDTMED_SHARED", ROOT.parent / "shared")) / "sync-contract.md"

needs_written = pytest.mark.skipif(not WRITTEN.is_file(), reason="the written contract is not at hand")


def table(heading: str) -> Iterator[list[str]]:
    """The rows of the table whose first column has this heading, cell by cell."""
    rows = [line.strip().strip("|").split("|") for line in WRITTEN.read_text(encoding="utf-8").splitlines()]
    cells = [[cell.strip() for cell in row] for row in rows]
    start = next(at for at, row in enumerate(cells) if row[0] == heading and len(row) > 1)
    for row in cells[start + 2 :]:
        if len(row) < 2:
            return
        yield row


@needs_written
def test_every_aggregate_has_the_policy_that_the_contract_gives_it() -> None:
    assert {row[0]: row[1] for row in table("Aggregate")} == {str(name): str(of) for name, of in POLICIES.items()}


@needs_written
def test_what_the_contract_lets_be_done_offline_and_nothing_else_may_be_queued() -> None:
    written = {name: mode[0] for name, mode, *_ in table("Capability")}
    assert set(written.values()) == {"✅", "❌"}
    ours = {row.contract: "❌" if row.offline is Offline.NEEDS_RELAY else "✅" for row in CAPABILITIES if row.contract}
    assert ours == written


@needs_written
def test_reading_is_what_the_contract_calls_cached() -> None:
    cached = {name for name, mode, *_ in table("Capability") if "cached" in mode}
    assert cached == {row.contract for row in CAPABILITIES if row.offline is Offline.CACHED}


@needs_written
def test_the_conflict_rules_are_those_of_section_4() -> None:
    section = re.split(r"^\d+\. ", WRITTEN.read_text(encoding="utf-8"), flags=re.M)[4]
    assert section.startswith("Conflict Surfacing")
    assert len(re.findall(r"^- ", section, re.M)) == len(CONFLICT_RULES)
    assert all(word in section for word in ("switch lot", "partial-dispense", "cancel", "requeue", "entered-in-error"))
    assert CONFLICT_RULES[0].actions == ("switch_lot", "dispense_part", "cancel")
    assert CONFLICT_RULES[1].actions == ("restart_session",)
    assert "entered-in-error" in CONFLICT_RULES[1].outcome


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_one_capability_and_one_rule(kind: Kind) -> None:
    assert [row for row in CAPABILITIES if kind in row.kinds] == [capability_of(kind)]
    assert kind in KINDS
    assert may_queue(kind) is not needs_challenge(kind)


def test_only_what_the_design_says_needs_the_relay() -> None:
    assert {kind for kind in Kind if needs_challenge(kind)} == {
        Kind.SIGN,
        Kind.RESUME,
        Kind.AMEND,
        Kind.ADJUST,
        Kind.OVERRIDE,
    }


def test_every_aggregate_has_a_policy_and_statements_that_fit_it() -> None:
    assert set(POLICIES) == set(Aggregate)
    carried = {
        Policy.LWW_DIFF: {Carrier.DRAFTS},
        Policy.APPEND_ONLY: {Carrier.PATIENT_LOG, Carrier.SITE_LOG},
        # What the relay decides is asked of it, or sent as an event of which it keeps the sum.
        Policy.SERVER_AUTHORITATIVE: {Carrier.PATIENT_REQUEST, Carrier.SITE_LOG},
    }
    for kind, rule in KINDS.items():
        if rule.aggregate is not None:
            assert rule.carrier in carried[POLICIES[rule.aggregate]], kind
    written = {rule.aggregate for rule in KINDS.values()}
    assert set(Aggregate) - written == {Aggregate.MEDICATION}, "the formulary alone is read-only"


def test_documents_have_policies_of_the_contract() -> None:
    assert set(POLICY) == set(DocumentKind)
    assert set(POLICY.values()) == set(POLICIES.values()) == set(Policy)
    assert POLICY[DocumentKind.DRAFTS] is POLICIES[Aggregate.PRESCRIPTION_DRAFT]
    assert POLICY[DocumentKind.FORMULARY] is POLICIES[Aggregate.MEDICATION]
    assert (
        POLICY[DocumentKind.PATIENT] is POLICIES[Aggregate.PRESCRIPTION] is POLICIES[Aggregate.RECONCILIATION_SESSION]
    )
    assert POLICY[DocumentKind.SITE] is POLICIES[Aggregate.STOCK_ITEM]
    assert POLICY[DocumentKind.SITE_LOG] is POLICIES[Aggregate.DISPENSING_EVENT]
    assert POLICY[DocumentKind.PATIENT_LOG] is POLICIES[Aggregate.MEDICATION_ADMINISTRATION]
    assert POLICY[DocumentKind.PATIENT_LOG] is POLICIES[Aggregate.ALERT_OVERRIDE_RECORD]


def test_names_are_distinct_and_roles_are_used() -> None:
    assert max(Counter(row.name for row in CAPABILITIES).values()) == 1
    assert max(Counter(row.contract for row in CAPABILITIES if row.contract).values()) == 1
    assert set().union(*(row.roles for row in CAPABILITIES)) == set(Role)
    assert all(row.roles for row in CAPABILITIES if row.name not in ("read", "resolve"))


def test_the_numbers_on_the_wire_never_change() -> None:
    assert {kind.label: int(kind) for kind in Kind} == {
        "draft_write": 1,
        "sign": 2,
        "stop": 3,
        "hold": 4,
        "resume": 5,
        "amend": 6,
        "dispense": 7,
        "receipt": 8,
        "adjust": 9,
        "administer": 10,
        "correct": 11,
        "override": 12,
        "reconciliation_open": 13,
        "reconciliation_record": 14,
        "reconciliation_complete": 15,
        "resolve": 16,
        "break_glass": 17,
    }


def test_what_happened_is_a_fact() -> None:
    natures = {kind: rule.nature for kind, rule in KINDS.items()}
    facts = {kind for kind, nature in natures.items() if nature is Nature.FACT}
    assert facts == {Kind.RECEIPT, Kind.ADMINISTER, Kind.CORRECT, Kind.BREAK_GLASS}
    assert {kind for kind, nature in natures.items() if nature is Nature.BY_CONTENT} == {Kind.DISPENSE, Kind.RESOLVE}
