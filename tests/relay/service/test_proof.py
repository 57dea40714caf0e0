"""The proof that everything follows from the statements finds what does not."""

import pytest

from relay.reading import whole
from relay.storage.rebuild import RecordBroken
from tests.relay.service.commits import DRAFTS, receipt
from tests.relay.world import World


def busy_world() -> World:
    world = World()
    tablet = world.tablet()
    log = world.log("site/ward-a")
    world.commit(world.push(tablet, log, tablet.into_log(log, 9, receipt(tablet, "n1"), receipt(tablet, "n2"))))
    said = (tablet.dose("p1", "rx1", "5"), tablet.dose("p1", "rx1", "6", grant="vera/aaaaaaaa"))
    world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, *said)))
    assert world.verify().findings == ()
    return world


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        ("UPDATE statement SET data = zeroblob(length(data)) WHERE id = 1", "statement_unreadable"),
        ("UPDATE statement SET number = 99 WHERE id = 1", "statement_misfiled"),
        ("UPDATE statement SET status = 2 WHERE id = 1", "document_differs|movement_unfounded|verdict"),
        ("UPDATE statement SET status = 0 WHERE status = 2", "verdict_contradicts"),
        ("UPDATE statement SET clock = 5 WHERE id = 1", "document_broken"),
        ("UPDATE client SET clock = clock + 1", "document_broken"),
        ("DELETE FROM relay_change WHERE position = 2", "document_broken"),
        ("UPDATE register SET value = x'c0' WHERE key LIKE 'stock/%'", "register_differs"),
        ("DELETE FROM register WHERE key LIKE 'stock/%'", "register_missing"),
        ("UPDATE stock SET on_hand = on_hand + 1", "ledger_differs"),
        ("UPDATE movement SET delta = delta + 1 WHERE id = 1", "ledger_differs"),
        ("DELETE FROM movement WHERE id = 1", "movement_missing"),
    ],
)
def test_the_proof_names_what_does_not_follow(damage: str, code: str) -> None:
    world = busy_world()
    world.connection.execute("PRAGMA foreign_keys = OFF")
    world.connection.execute(damage)
    codes = {finding.what for finding in world.verify().findings}
    assert any(found.startswith(wanted) for found in codes for wanted in code.split("|")), codes


def test_the_proof_checks_every_signature() -> None:
    world = busy_world()
    (data,) = world.connection.execute("SELECT data FROM statement WHERE id = 1").fetchone()
    world.connection.execute("UPDATE statement SET data = ? WHERE id = 1", (bytes([data[0] ^ 1]) + data[1:],))
    assert {finding.what for finding in world.verify().findings} == {"statement_forged"}


def test_a_document_with_a_hole_is_refused_not_mended() -> None:
    world = busy_world()
    world.connection.execute("UPDATE statement SET clock = 7 WHERE clock = 1")
    row = world.record.document(DRAFTS)
    assert row is not None
    with pytest.raises(RecordBroken):
        whole(world.record, row)
