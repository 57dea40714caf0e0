"""That nothing is lost: where every statement that was confirmed to a person is in the end, whoever said it.

Who is out of service, has lost the key of their store or had an older copy of it put back may lose what the rules below
name, and nothing else.  So may a restored relay: it gets back what devices hold, and nobody holds a refusal.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.witness import PLACES, Statement, read

if TYPE_CHECKING:
    from tests.simulation.history import History
    from tests.simulation.tablet import Tablet

FACTS: Final = (8, 10, 11, 17)
"""Receipt, administration, correction, broken glass; a dispense and its resolution where it was handed over."""
WRITTEN: Final = (1, 7, 8, 9, 10, 11, 12, 16)
"""What devices write into documents; everything else asks the relay to change registers."""
AUTHORS_OWN: Final = (1, 2, 3, 4, 5, 6, 13, 14, 15, 17)
"""What its author keeps after it was accepted, as it may be in no document: requests, writes of drafts that close."""

Rows = dict[str, tuple[int, int]]


def happened(one: Statement) -> bool:
    """Whether a statement says what happened in the world."""
    if one.kind == 16:
        return happened(read(one.content["statement"])) and one.content["action"] not in ("cancel", "discard")
    return one.kind in FACTS or (one.kind == 7 and bool(one.content.get("handed_over")))


def statements(values: Any) -> list[Statement]:
    """The statements in the values of a document that devices write; none in one of registers."""
    found = []
    for raw in values.values() if isinstance(values, dict) else values:
        try:
            found.append(read(raw))
        except (ValueError, TypeError):
            return []
    return found


def holders(it: "History", documents: Callable[["Tablet"], dict[str, Any]]) -> dict[str, frozenset[str]]:
    """Of what a relay that was just restored lacks: the devices that have it to hand back, by reference.

    ``documents`` reads what a device that works holds; what is switched off just now does not count.
    """
    lacking = {ref: one for ref, one in it.witness.said.items() if it.witness.row(ref) is None}
    found: dict[str, set[str]] = {ref: set() for ref in lacking}
    for tablet in it.tablets.values():
        if not tablet.works or tablet.id in it.revoked:
            continue
        held = documents(tablet)
        has = {one.ref for name, values in held.items() if written(name) for one in statements(values)}
        has |= {key.partition("/")[2] for key in _registers(held)}
        for ref, one in lacking.items():
            told = it.witness.verdict(ref)
            accepted = told is not None and told["status"] == "accepted"
            own = one.device == tablet.id and one.kind in AUTHORS_OWN and accepted and ref not in it.aged
            if ref in has or own:
                found[ref].add(tablet.id)
    return {ref: frozenset(have) for ref, have in found.items()}


def nothing_lost(it: "History", rows: Rows, documents: dict[str, Any]) -> None:
    """What was confirmed to a person is on record, facts are shown, and what was accepted is in its document once."""
    connection = it._reading()
    assert connection is not None
    quarantine = {ref: bytes(data) for ref, data in connection.execute("SELECT ref, data FROM quarantine").fetchall()}
    inside = set(_embedded(one for ref, one in it.witness.said.items() if ref in rows))
    shown = _registers(documents)
    gone = {each.id: each for each in it.tablets.values() if each.wiped_at is not None or each.lost}
    for ref, one in it.witness.said.items():
        if ref in rows:
            _judged(it, one, rows[ref][0], shown)
        elif ref in quarantine:
            if happened(one) and f"quarantine/{ref}" not in shown:
                it.witness.complain(f"{ref} (kind {one.kind}) is in quarantine, and nobody is shown it")
        elif ref not in inside and not _may_be_gone(it, one, gone.get(one.device)):
            era, told = it.witness.told(ref)
            it.witness.complain(
                f"{ref} (kind {one.kind}) was confirmed to a person, and the relay does not have it: "
                f"told in era {era}: {told}, then held by {sorted(it.holders.get(ref, ()))}"
            )
    _once(it, rows, documents)


def _judged(it: "History", one: Statement, status: int, shown: set[str]) -> None:
    """It is on record: a fact is accepted, or in a conflict that people are shown."""
    if status == 2 and happened(one):
        it.witness.complain(f"{one.ref} (kind {one.kind}) happened, and was refused: {it.witness.verdict(one.ref)}")
    if status == 1 and happened(one) and not {f"conflict/{ref}" for ref in _tells_of(one)} & shown:
        told = it.witness.verdict(one.ref)
        it.witness.complain(f"{one.ref} (kind {one.kind}) is in conflict, and nobody is shown it: {told}")


def _may_be_gone(it: "History", one: Statement, gone: "Tablet | None") -> bool:
    """Whether the contract lets this be neither on record nor in quarantine.  Each line is one way."""
    witness, ref = it.witness, one.ref
    era, told = witness.told(ref)
    if ref in witness.excused:
        return True  # an older copy of its device's store was put back before it was sent
    if told is not None and era < it.relay.restores:
        if told["status"] == "refused" or (told["status"] == "conflict" and not happened(one)):
            return True  # an intention that did not come to be: its author's inbox has it, whole, and nobody else
        return not any(it.still_has(each) for each in it.holders.get(ref, ()))  # nobody is left to hand it back
    if gone is None or told is not None:
        return False  # who is still there still sends it, and what was judged in this era is on record
    if gone.lost or gone.id in it.stolen:
        return True  # the store's key is gone, or a device that was stolen is wiped without handing over
    # It may hand its outbox over.  What was taken is in quarantine; without an answer it is wiped all the same.
    if ref not in witness.taken:
        return True
    # A quarantine that was lost with a backup comes back from whoever was shown a fact in it.
    return witness.taken[ref] < it.relay.restores and not any(it.still_has(each) for each in it.holders.get(ref, ()))


def _once(it: "History", rows: Rows, documents: dict[str, Any]) -> None:
    witness = it.witness
    places = Counter(one.ref for name, values in documents.items() if written(name) for one in statements(values))
    for ref, (status, _) in rows.items():
        if places[ref] > 1:
            witness.complain(f"{ref} is in its document {places[ref]} times")
        one = witness.said.get(ref)
        if status == 0 and one is not None and one.kind in WRITTEN and not places[ref]:
            witness.complain(f"{ref} (kind {one.kind}) was accepted, and is in no document")
        if PLACES[status] != "accepted" and places[ref]:
            witness.complain(f"{ref} was not accepted, and is in a document")
    for ref in places:
        if ref not in rows:
            witness.complain(f"{ref} is in a document, and not on record")


def _registers(documents: dict[str, Any]) -> set[str]:
    return {
        key
        for values in documents.values()
        if isinstance(values, dict)
        for key in values
        if key.startswith(("conflict/", "quarantine/"))
    }


def _embedded(said: Iterable[Statement]) -> Iterable[str]:
    """What resolutions carry in them: that is on record with them."""
    for one in said:
        if one.kind == 16:
            yield from _tells_of(one)


def _tells_of(one: Statement) -> set[str]:
    """A statement, and whatever it resolves: while that is in conflict, people see it there."""
    return {one.ref} | (_tells_of(read(one.content["statement"])) if one.kind == 16 else set())


def written(name: str) -> bool:
    """Whether devices write a document."""
    return "/log/" in name or name.endswith("/drafts")
