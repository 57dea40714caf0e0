"""What a device that was away gets: what it lacks or the whole, of what its grants open."""

import msgspec
import pytest

from crdtmed import keys
from crdtmed.aggregates.patient import PatientRegister
from crdtmed.aggregates.reconciliation_session import HomeMedication
from crdtmed.documents import parse
from crdtmed.replica import Replica
from crdtmed.signed import DigestOf, DocumentDigests, Register, Signed, seal, unseal
from crdtmed.wire.frames import Want
from relay.batch import Batch
from relay.items import Task
from relay.reading import Reader, whole
from relay.registers import load_replica
from relay.storage.rebuild import RecordBroken
from tests.relay.service.commits import DRAFTS, base_of
from tests.relay.world import World


def reader(world: World) -> Reader:
    return Reader(world.record, world.identity, world.now, world.random)


def test_who_was_away_gets_what_it_lacks_or_the_whole() -> None:
    world = World()
    tablet = world.tablet()
    outcomes = [
        world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, tablet.dose("p1", "rx1", str(n + 1)))))
        for n in range(4)
    ]
    epoch = outcomes[0].changes[DRAFTS].epoch
    (answer,) = reader(world).answers(tablet.id, [Want(DRAFTS, epoch, 1)]).each
    assert answer.run is not None
    assert (answer.run.first, answer.position) == (2, 4)
    assert list(answer.run.updates) == [update for it in outcomes[1:] for update in it.changes[DRAFTS].updates]
    (answer,) = reader(world).answers(tablet.id, [Want(DRAFTS, epoch, 4)]).each
    assert answer.run is not None
    assert (answer.run.first, answer.run.updates) == (5, ())
    for want in (Want(DRAFTS, "", 0), Want(DRAFTS, "a" * 16, 2), Want(DRAFTS, epoch, 9)):
        answers = reader(world).answers(tablet.id, [want])
        (answer,) = answers.each
        assert answer.base is not None
        digests = unseal(DocumentDigests, answers.digests, world.ring.relay.public)
        held = Replica.load(DRAFTS, 1, answer.base.update, epoch, 4)
        assert digests.documents == (DigestOf(DRAFTS, epoch, 4, held.digest()),)


def test_documents_that_are_sent_together_share_one_signature_which_is_made_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    tablet = world.tablet()
    for turn in range(2):
        world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9 + turn, tablet.dose("p1", "rx1"))))
    read = reader(world)
    wants = [
        Want(document, "", 0) for document in ("directory", DRAFTS, "patient/p1", DRAFTS, "patient/p1/log/2026-05")
    ]
    first = read.answers(tablet.id, wants)
    listed = unseal(DocumentDigests, first.digests, world.ring.relay.public).documents
    whole = {answer.document: answer for answer in first.each if answer.base is not None}
    assert [digest.document for digest in listed] == list(whole) == ["directory", DRAFTS, "patient/p1"]
    for digest in listed:
        base = whole[digest.document].base
        assert base is not None
        held = Replica.load(digest.document, 1, base.update, base.epoch, base.position)
        assert (digest.epoch, digest.position, digest.content) == (base.epoch, base.position, held.digest())
    made: list[bytes] = []

    def counted(value: Signed, signer: keys.Signer) -> bytes:
        made.append(seal(value, signer))
        return made[-1]

    monkeypatch.setattr("relay.reading.seal", counted)
    assert read.answers(tablet.id, wants) == first
    assert not made
    assert read.digest(DRAFTS) == read.digest(DRAFTS) == made[0]
    assert len(made) == 1
    world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 20, tablet.dose("p1", "rx1"))))
    changed = unseal(DocumentDigests, read.answers(tablet.id, wants).digests, world.ring.relay.public).documents
    assert [digest.document for digest in changed if digest not in listed] == [DRAFTS]
    assert read.answers(tablet.id, wants[-1:]).digests == b""


def test_a_document_nothing_was_committed_to_is_up_to_date_at_nothing() -> None:
    world = World()
    tablet = world.tablet()
    (answer,) = reader(world).answers(tablet.id, [Want(DRAFTS, "", 0)]).each
    assert answer.run is not None
    assert (answer.run.epoch, answer.run.first, answer.run.updates) == ("", 1, ())


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("directory", None),
        ("formulary", None),
        ("site/ward-a", None),
        ("site/ward-a/log/2026-05-01", None),
        ("patient/p1/log/2026-05", None),
        ("site/elsewhere", "site_not_granted"),
        ("patient/nobody", "unknown_document"),
        ("patient/p2", "patient_not_in_care"),
        ("ward", "unknown_document"),
        ("patient/p1/drafts/more", "unknown_document"),
    ],
)
def test_a_device_gets_what_its_grants_open(document: str, code: str | None) -> None:
    world = World()
    tablet = world.tablet()

    def elsewhere(batch: Batch) -> None:
        register = batch.register("patient/p1", "patient")
        assert register is not None
        batch.put("patient/p2", msgspec.structs.replace(register, id="p2", care_sites=("elsewhere",)))

    world.task(elsewhere)
    (answer,) = reader(world).answers(tablet.id, [Want(document, "", 0)]).each
    assert answer.refused == code
    world.now_ms += 40 * 3_600_000  # the grant has lapsed
    (answer,) = reader(world).answers(tablet.id, [Want(document, "", 0)]).each
    assert (answer.refused is None) is (document in ("directory", "formulary"))


def test_what_is_answered_together_is_what_each_would_be_told_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.commit.COMPACT_AFTER", 3)
    monkeypatch.setattr("relay.reading.SMALL_BYTES", 300)
    world = World()
    tablet = world.tablet()
    names = [f"patient/q{number}" for number in range(150)]

    def admit(batch: Batch) -> None:
        register = batch.register("patient/p1", "patient")
        assert isinstance(register, PatientRegister)
        for number, name in enumerate(names):
            sites = ("elsewhere",) if number % 7 == 3 else register.care_sites
            home = tuple(HomeMedication(str(at), f"{at * at * 7919:0100}") for at in range(20 if number == 21 else 0))
            put = msgspec.structs.replace(register, id=f"q{number}", care_sites=sites, home_medications=home)
            batch.put(name, put)

    def change(batch: Batch) -> None:
        for name in names[::5]:
            if name in names[::10]:
                batch.withdraw(name, "patient")
            else:
                register = batch.register(name, "patient")
                assert isinstance(register, PatientRegister)
                batch.put(name, msgspec.structs.replace(register, name="Another Name"))

    world.task(admit)
    for _ in range(4):
        world.task(change)
    world.commit(world.push(tablet, DRAFTS, tablet.into_drafts(DRAFTS, 9, tablet.dose("p1", "rx1"))))
    wants = [
        Want(f"{name}{end}", "", 0)
        for name in (*names, "patient/nobody", "site/ward-a", "site/elsewhere", "patient/p1", "ward", "patient/")
        for end in ("", "/drafts", "/log/2026-05")
    ]
    wants += [wants[0], wants[100]]
    together = reader(world).answers(tablet.id, wants)
    alone = [reader(world).answers(tablet.id, [want]).each for want in wants]
    assert together.each == tuple(each for (each,) in alone)
    assert reader(world).refusals(tablet.id, [want.document for want in wants]) == {
        answer.document: answer.refused for answer in together.each if answer.refused is not None
    }
    kinds = [(answer.base is not None, answer.refused) for answer in together.each]
    assert {(True, None), (False, None), (False, "unknown_document"), (False, "patient_not_in_care")} <= set(kinds)


def test_a_long_catch_up_comes_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    tablet = world.tablet()
    wants = [Want(document, "", 0) for document in ("directory", "formulary", "patient/p1", "site/ward-a")]
    monkeypatch.setattr("relay.reading.CHUNK_BYTES", 1)
    read = reader(world)
    assert [answer.document for answer in read.answers(tablet.id, wants).each] == ["directory"]
    monkeypatch.undo()
    assert [answer.document for answer in read.answers(tablet.id, wants).each] == [want.document for want in wants]


def test_a_document_of_one_change_is_that_change_and_of_more_what_they_make() -> None:
    world = World()
    name = "patient/p7"
    world.patient("p7")
    row = world.record.document(name)
    assert row is not None
    ((_, change),) = world.record.changes(row.id, 0, row.position)
    assert whole(world.record, row).update == change
    for position in (1, 2):
        assert world.record.documents()[name] == position
        assert base_of(world, name).digest() == load_replica(world.record, parse(name), 2).digest()
        world.task(lambda batch: batch.withdraw(name, "patient"))
    world.record.connection.execute("DELETE FROM relay_change")
    with pytest.raises(RecordBroken):
        whole(world.record, row)


def test_a_relays_document_is_compacted_and_its_last_changes_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.commit.COMPACT_AFTER", 4)
    world = World()
    tablet = world.tablet()
    name = "patient/p1"
    outcomes = []
    for turn in range(9):

        def rename(batch: Batch, turn: int = turn) -> None:
            register = batch.register(name, "patient")
            assert isinstance(register, PatientRegister)
            batch.put(name, msgspec.structs.replace(register, name=f"Name {turn}", version=turn + 2))

        outcomes.append(world.commit(Task(0, rename)))
        if turn % 3 == 0:
            world.live.drop()  # the relay writes on under another client id
    row = world.record.document(name)
    assert row is not None
    assert 0 < row.floor < row.snapshot_position <= row.position == 10
    assert [at for at, _ in world.record.changes(row.id, 0, 99)] == list(range(row.floor + 1, 11))
    (behind, near) = (Want(name, row.epoch, row.floor - 1), Want(name, row.epoch, row.floor))
    answers = reader(world).answers(tablet.id, [behind, near]).each
    assert answers[0].base is not None
    assert answers[1].run is not None
    assert len(answers[1].run.updates) == 10 - row.floor
    sealed = base_of(world, name).map()["patient"]
    assert unseal(Register, sealed, world.ring.relay.public).version == 10
    assert world.verify().findings == ()
