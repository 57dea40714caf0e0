"""Whether what is counted follows from what was accepted: the ledger, its sums, what was dispensed of each order."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from crdtmed.aggregates.content import ContentError
from crdtmed.aggregates.prescription import PrescriptionRegister
from crdtmed.aggregates.stock_item import MovementType
from crdtmed.statement import SignedStatement
from relay.storage.port import Record
from relay.storage.verify_counts import Count, Lot, Moved, agrees, count_of
from relay.storage.verify_finding import Finding

OPERATOR_PREFIX: Final = "operator."
"""What the operator brought in begins so: the books as they were opened, which no device has said."""
SHORTAGE: Final = frozenset({MovementType.SHORTAGE, MovementType.SHORTAGE_CLOSED})

Orders = Mapping[tuple[str, str], PrescriptionRegister]
"""The registers of signed prescriptions, by patient and prescription."""


def counts_of(accepted: Mapping[str, SignedStatement]) -> tuple[dict[str, Count], list[Finding]]:
    """What each accepted statement counts, in the order of the record."""
    counts: dict[str, Count] = {}
    findings: list[Finding] = []
    for ref, signed in accepted.items():
        try:
            count = count_of(signed)
        except ContentError as error:
            findings.append(Finding("accepted_unreadable", ref, f"it was accepted, and cannot be read: {error}"))
            continue
        if count is not None:
            counts[ref] = count
    return counts, findings


def ledger(
    record: Record, accepted: Mapping[str, SignedStatement], counts: Mapping[str, Count]
) -> tuple[int, list[Finding]]:
    """How many movements there are, and what is wrong: sums that differ, and statements that did not move what they
    say, once."""
    moved: dict[str, list[Moved]] = defaultdict(list)
    sums: dict[Lot, tuple[int, int]] = {}
    findings: list[Finding] = []
    for _, site, item, lot, kind, delta, by, _ in record.movements():
        key = (site, item, lot)
        moved[by].append((key, kind, delta))
        here, lacking = sums.get(key, (0, 0))
        here, lacking = (here, lacking + delta) if kind in SHORTAGE else (here + delta, lacking)
        if here < 0 or lacking < 0:
            says = f"{by} left {here} on hand and {lacking} short"
            findings.append(Finding("ledger_below_zero", "/".join(key), says))
        sums[key] = (here, lacking)
    for site, item, lot, stands, lacks in record.all_stock():
        key = (site, item, lot)
        if sums.pop(key, (0, 0)) != (stands, lacks):
            findings.append(Finding("ledger_differs", "/".join(key), "its movements do not add up to its sums"))
    findings.extend(Finding("ledger_differs", "/".join(key), "it has movements and no sums") for key in sums)
    findings.extend(_moves(moved, accepted, counts))
    return sum(map(len, moved.values())), findings


def _moves(
    moved: Mapping[str, list[Moved]], accepted: Mapping[str, SignedStatement], counts: Mapping[str, Count]
) -> Iterator[Finding]:
    for by, rows in moved.items():
        if by in accepted and not agrees(counts.get(by), rows):
            told = ", ".join(f"{kind} {delta} of {'/'.join(lot)}" for lot, kind, delta in rows)
            yield Finding("movement_wrong", by, f"it says {_words(counts.get(by))}, and the ledger has {told}")
        elif by not in accepted and not by.startswith(OPERATOR_PREFIX):
            yield Finding("movement_unfounded", by, "it moved stock and was not accepted")
    for ref, count in counts.items():
        if ref not in moved and not agrees(count, ()):
            yield Finding("movement_missing", ref, f"it says {_words(count)}, and moved nothing")


def _words(count: Count | None) -> str:
    if count is None:
        return "nothing of stock"
    closes = f", {count.closes} of its shortage closed" if count.closes else ""
    return f"{count.type.value} {count.delta} of {'/'.join(count.lot)}{closes}"


def dispensed(
    accepted: Mapping[str, SignedStatement], counts: Mapping[str, Count], orders: Orders
) -> Iterator[Finding]:
    """What was dispensed of each signed prescription is the sum of what was counted for it, within what it authorises.

    A person who confirms what was given goes beyond that, and may do so before there is a prescription.
    """
    order_of = {ref: number for number, ref in enumerate(accepted)}
    totals: dict[tuple[str, str], int] = defaultdict(int)
    said: dict[bytes, str] = {}
    for ref, count in counts.items():
        first = said.setdefault(count.of, ref)
        if first != ref and not count.confirmed:
            yield Finding("counted_twice", ref, f"{first} has counted the same statement, and nobody confirmed another")
        if count.dispensed is None:
            continue
        order = orders.get(count.dispensed)
        if order is None or order_of.get(order.signed_by, len(order_of)) > order_of[ref]:
            if not count.confirmed:
                says = f"it dispenses for {'/'.join(count.dispensed)}, which was not signed by then"
                yield Finding("dispensed_unfounded", ref, says)
            continue
        totals[count.dispensed] -= count.delta
        total = totals[count.dispensed]
        if total > order.authorised and not count.confirmed:
            says = f"with it {total} of {'/'.join(count.dispensed)} are dispensed, {order.authorised} are authorised"
            yield Finding("over_authorised", ref, f"{says}, and nobody confirmed that it was given")
    for key, order in orders.items():
        if order.dispensed != totals[key]:
            says = f"it says that {order.dispensed} were dispensed, what was accepted comes to {totals[key]}"
            yield Finding("dispensed_differs", "/".join(key), says)
