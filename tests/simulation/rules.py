"""The rules once more, written from the contract and the design, to hold the software against.

Statements are as their bytes say; kinds are their numbers on the wire.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import msgpack

from tests.simulation.setting import CARE, STAFF, STOCK
from tests.simulation.witness import Statement, Witness, read

DRAFT_WRITE, SIGN, STOP, HOLD, RESUME, AMEND, DISPENSE, RECEIPT, ADJUST = range(1, 10)
ADMINISTER, CORRECT, OVERRIDE, OPEN, RECORD, COMPLETE, RESOLVE, BREAK_GLASS = range(10, 18)

MAY: Final[dict[int, set[str]]] = {
    **{kind: {"prescriber"} for kind in (DRAFT_WRITE, SIGN, STOP, HOLD, RESUME, AMEND, OVERRIDE)},
    DISPENSE: {"pharmacist"},
    RECEIPT: {"pharmacist", "stock_clerk"},
    ADJUST: {"stock_supervisor"},
    **{kind: {"nurse", "prescriber"} for kind in (ADMINISTER, CORRECT)},
    **{kind: {"prescriber", "pharmacist", "nurse"} for kind in (OPEN, RECORD, COMPLETE, BREAK_GLASS)},
}
"""Who may say what."""
ONLINE: Final = (SIGN, RESUME, AMEND, ADJUST, OVERRIDE)
"""What may not be said offline."""
AS_JUDGED: Final = ("switch_lot", "dispense_part", "try_again")
AS_GIVEN: Final = ("confirm_as_given", "confirm_as_separate")


def bottom(one: Statement) -> tuple[Statement, Any]:
    """What a resolution is about in the end, and its content with the lots and quantities that were chosen."""
    if one.kind != RESOLVE:
        return one, one.content
    inner, content = bottom(read(one.content["statement"]))
    changed = {field: one.content[field] for field in ("lot", "quantity") if one.content.get(field) is not None}
    return inner, {**content, **changed}


def ledger(
    accepted: Sequence[Statement], registers: Mapping[str, Mapping[str, Any]], *, complete: bool
) -> Iterator[str]:
    """What was accepted, in the order of the record, adds up to the stock and the prescriptions that the relay shows.

    ``complete``: every statement on record is known here; else only what cannot depend on the others is compared.
    """
    stock: defaultdict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for key, quantity in STOCK.items():
        stock[key][0] = quantity
    given: defaultdict[str, int] = defaultdict(int)
    strict: dict[str, int] = {}
    for one in accepted:
        if one.kind not in (DISPENSE, RECEIPT, ADJUST, RESOLVE) or not one.document.startswith("site/"):
            continue
        inner, content = bottom(one)
        action = one.content["action"] if one.kind == RESOLVE else "try_again"
        if "lot" not in content:
            continue  # nothing that a resolution can make count
        key = (one.document.split("/")[1], content["item"], content["lot"])
        lot = stock[key]
        if inner.kind == DISPENSE and action in (*AS_JUDGED, *AS_GIVEN, "lost"):
            if action in AS_JUDGED and lot[0] < content["quantity"]:
                yield f"{one.ref} dispensed {content['quantity']} of {key}, of which {lot[0]} were on hand"
            taken = min(lot[0], content["quantity"])
            lot[0] -= taken
            lot[1] += content["quantity"] - taken
            if action != "lost":
                given[content["prescription"]] += content["quantity"]
            if action in AS_JUDGED:
                strict[content["prescription"]] = given[content["prescription"]]
        elif inner.kind == RECEIPT and action in (*AS_JUDGED, *AS_GIVEN):
            lot[0] += content["quantity"]
        elif inner.kind == ADJUST and one.kind == ADJUST:
            lot[0] += content["delta"]
            lot[1] -= content.get("closes_shortage", 0)
        if min(lot) < 0:
            yield f"{one.ref} took {key} to {lot}"
    if complete:
        yield from _compared(stock, given, strict, registers)


def _compared(
    stock: Mapping[tuple[str, str, str], Sequence[int]],
    given: Mapping[str, int],
    strict: Mapping[str, int],
    registers: Mapping[str, Mapping[str, Any]],
) -> Iterator[str]:
    for (site, item, lot), (on_hand, shortage) in stock.items():
        shown = registers.get(f"site/{site}", {}).get(f"stock/{item}/{lot}") or {}
        if (shown.get("on_hand", 0), shown.get("shortage", 0)) != (on_hand, shortage):
            yield f"{lot} of {item}: {on_hand} on hand and {shortage} short add up, the relay shows {shown}"
    orders = {
        key.removeprefix("prescription/"): value
        for name, held in registers.items()
        for key, value in held.items()
        if key.startswith("prescription/") and value is not None
    }
    for name, value in orders.items():
        if value["dispensed"] != given.get(name, 0):
            yield f"prescription {name}: {given.get(name, 0)} were dispensed, the relay shows {value['dispensed']}"
        if strict.get(name, 0) > value["authorised"]:
            yield f"prescription {name}: {strict[name]} were dispensed of {value['authorised']} authorised"


def gates(
    accepted: Iterable[Statement],
    registers: Mapping[str, Mapping[str, Any]],
    witness: Witness,
    received: Mapping[str, int],
) -> Iterator[str]:
    """Nobody said what they may not say, and what needs the relay was said to it, within a minute, once."""
    spent: dict[bytes, str] = {}
    for one in accepted:
        user = one.grant.partition("/")[0]
        roles, sites = STAFF.get(user, ((), ()))
        inner, _ = bottom(one)
        if not MAY[inner.kind] & {str(role) for role in roles}:
            yield f"{one.ref} (kind {inner.kind}) was accepted of {user}, who may not say it"
        scope, _, name = one.document.partition("/")
        name = name.partition("/")[0]
        if scope == "site" and name not in sites:
            yield f"{one.ref} was accepted of {user} at {name}"
        if scope == "patient" and not set(sites) & {*CARE[name], *_dispensed_at(registers, name)}:
            yield f"{one.ref} was accepted of {user}, who does not care for {name}"
        if one.kind not in ONLINE:
            continue
        given = witness.challenges.get(one.challenge or b"")
        if given is None or given[0] != one.device:
            yield f"{one.ref} (kind {one.kind}) was accepted without a challenge of the relay"
        elif (age := witness.used.get(one.challenge or b"", received[one.ref]) - given[1]) >= 60_000:
            # When it was back at the relay is what counts: the knowledge base may take its time after that.
            yield f"{one.ref} (kind {one.kind}) was accepted with a challenge that came back {age} ms old"
        elif one.challenge is not None and spent.setdefault(one.challenge, one.ref) != one.ref:
            yield f"{one.ref} and {spent[one.challenge]} were accepted with one challenge"


def _dispensed_at(registers: Mapping[str, Mapping[str, Any]], patient: str) -> Iterator[str]:
    for key, value in registers.get(f"patient/{patient}", {}).items():
        if key.startswith("prescription/") and value is not None:
            yield value["site"]


def drafts(written: Sequence[Statement]) -> set[tuple[str, ...]]:
    """Of every draft and group: the winner, and in order whatever is concurrent with it and says something else."""
    found: set[tuple[str, ...]] = set()
    here = {one.ref: one for one in written}
    for name in {one.content["prescription"] for one in written}:
        mine = {ref: one for ref, one in here.items() if one.content["prescription"] == name}
        pasts = {ref: _past(ref, mine) for ref in mine}
        for group in {one.content["group"] for one in mine.values()}:
            writes = [one for one in mine.values() if one.content["group"] == group]
            heads = [
                one for one in writes if not any(one.ref in pasts[other.ref] for other in writes if other is not one)
            ]
            first = max(heads, key=lambda one: (one.stamp, one.device, one.number, one.ref))
            value = msgpack.encode(first.content.get("value"))
            others = sorted(one.ref for one in heads if msgpack.encode(one.content.get("value")) != value)
            found.add((name, group, first.ref, *others))
    return found


def _past(ref: str, of: Mapping[str, Statement]) -> set[str]:
    """Everything that the author of a write had seen, by way of what they had seen too."""
    past: set[str] = set()
    waiting = list(of[ref].seen)
    while waiting:
        seen = waiting.pop()
        if seen not in past:
            past.add(seen)
            waiting.extend(of[seen].seen if seen in of else ())
    return past
