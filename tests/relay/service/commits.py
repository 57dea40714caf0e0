"""Statements to commit, and what commits came to."""

from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.medication_administration import Administer, OfVerbal
from crdtmed.aggregates.stock_item import Receipt
from crdtmed.replica import Replica
from crdtmed.statement import SignedStatement
from crdtmed.verdict import Verdict, decode_verdict
from relay.items import Outcome
from relay.reading import whole
from tests.relay.world import Tablet, World

DRAFTS = "patient/p1/drafts"


def verdicts(outcome: Outcome, connection: int = 1) -> list[Verdict]:
    """What a commit has to say to a connection."""
    return [decode_verdict(data) for data in outcome.verdicts.get(connection, [])]


def fold(*outcomes: Outcome, document: str = DRAFTS) -> Replica:
    """What a subscriber of every commit has."""
    replica = Replica.open(document, 1)
    for outcome in outcomes:
        change = outcome.changes.get(document)
        if change is not None:
            assert change.first == replica.position + 1
            for update in change.updates:
                replica.apply(update)
                replica.position += 1
    return replica


def base_of(world: World, document: str) -> Replica:
    """A document as who has nothing of it gets it whole."""
    row = world.record.document(document)
    assert row is not None
    made = whole(world.record, row)
    replica = Replica.load(document, 1, made.update, row.epoch, row.position)
    assert replica.digest() == made.digest
    return replica


def given_dose(tablet: Tablet, patient: str = "p1") -> SignedStatement:
    """That a dose was given, on a doctor's word."""
    content = Administer(
        subject=OfVerbal("Dr. Example", "by telephone", "Amoxicillin 500 mg"),
        status="given",
        occurred_at=tablet.now(),
        site="ward-a",
        dose=Quantity("5", "mg"),
    )
    return tablet.say(content, f"patient/{patient}/log")


def receipt(tablet: Tablet, note: str, quantity: int = 10, lot: str = "L1") -> SignedStatement:
    """That a lot was received on the ward."""
    content = Receipt("Supplier", note, "amox-500", lot, "2030-01-01", quantity, "{capsule}", tablet.now())
    return tablet.say(content, "site/ward-a/log")
