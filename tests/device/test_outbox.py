"""The outbox in memory: what is sent next, in what order, and what waits for what."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed import statement
from crdtmed.aggregates.content import encode_content, kind_of
from crdtmed.aggregates.prescription import Hold, Stop
from crdtmed.aggregates.reconciliation_session import Complete
from crdtmed.device.outbox import Item, Outbox, Parcel, Phase, back_off
from crdtmed.device.store import Said
from crdtmed.limits import MAX_STRUCTS_PER_UPDATE, MAX_UPDATE_BYTES, PUSH_STATEMENTS, RETRY_FIRST_MS, RETRY_MOST_MS
from crdtmed.statement import Statement
from crdtmed.verdict import Status, Verdict
from tests.device.world import given as administration

ROOM = 1_000


def said(
    number: int, target: str = "patient/p1/log", content: object = None, bundle: int | None = None, pad: int = 0
) -> Said:
    """A statement with that number."""
    what = content if content is not None else administration(number)
    if pad:
        what = msgspec.structs.replace(what, note="x" * pad)  # type: ignore[type-var]  # an administration
    encoded = encode_content(what)  # type: ignore[arg-type]  # any content model
    name = f"{number:016d}".translate(str.maketrans("0189", "abcd"))
    kind = kind_of(what)  # type: ignore[arg-type]  # as above
    body = Statement(1, kind, name, target, "aaaaaaaa", number, "ann/aaaaaaaa", number, (), None, msgspec.Raw(encoded))
    signed = statement.SignedStatement(body, bytes(64) + msgspec.msgpack.encode(body))
    return Said(signed, number, number if bundle is None else bundle)


def today(item: Item) -> str | None:
    """Everything of a log goes into one segment."""
    return item.statement.document + "/2026-09" if item.statement.document.endswith("/log") else item.statement.document


def numbers(parcels: list[Parcel]) -> list[list[int]]:
    return [[item.said.number for item in parcel.items] for parcel in parcels]


def verdict(item: Item, status: Status = Status.ACCEPTED) -> Verdict:
    return Verdict(item.statement.ref, status, 0)


def filled(*many: Said) -> Outbox:
    outbox = Outbox()
    for one in many:
        outbox.add(one)
    return outbox


def test_statements_of_one_document_share_a_parcel_up_to_the_limit() -> None:
    outbox = filled(*(said(number) for number in range(1, 2 * PUSH_STATEMENTS + 3)))
    parcels = outbox.pick(0, ROOM, today)
    assert [len(parcel.items) for parcel in parcels] == [PUSH_STATEMENTS, PUSH_STATEMENTS, 2]
    assert [number for each in numbers(parcels) for number in each] == list(range(1, 2 * PUSH_STATEMENTS + 3))


def test_a_transaction_is_not_torn_while_it_fits() -> None:
    first = [said(number) for number in range(1, PUSH_STATEMENTS)]
    together = [said(number, bundle=PUSH_STATEMENTS) for number in range(PUSH_STATEMENTS, PUSH_STATEMENTS + 9)]
    parcels = filled(*first, *together, said(500)).pick(0, ROOM, today)
    assert [len(parcel.items) for parcel in parcels] == [PUSH_STATEMENTS + 8, 1]
    endless = filled(*(said(number, bundle=1) for number in range(1, 600)))
    assert max(len(parcel.items) for parcel in endless.pick(0, ROOM, today)) == MAX_STRUCTS_PER_UPDATE


def test_a_parcel_never_exceeds_the_size_of_an_update() -> None:
    parcels = filled(*(said(number, pad=2_000) for number in range(1, 300))).pick(0, ROOM, today)
    assert len(parcels) > 2
    for parcel in parcels:
        assert sum(len(item.said.signed.encoded) for item in parcel.items) < MAX_UPDATE_BYTES


def test_order_within_a_scope_is_kept_across_its_documents() -> None:
    outbox = filled(said(1), said(2, "patient/p1/drafts"), said(3), said(4, "patient/p2/log"), said(5))
    parcels = outbox.pick(0, ROOM, today)
    assert numbers(parcels) == [[1], [2], [3, 5], [4]]


def test_only_what_there_is_room_for_is_picked_and_the_rest_next() -> None:
    outbox = filled(*(said(number, f"patient/p{number}/log") for number in range(1, 6)))
    parcels = outbox.pick(0, 2, today)
    assert numbers(parcels) == [[1], [2]]
    for parcel in parcels:
        outbox.sent(parcel)
    assert outbox.in_flight == 2
    assert numbers(outbox.pick(0, 2, today)) == [[3], [4]]


def test_trouble_in_one_scope_never_blocks_another() -> None:
    outbox = filled(said(1), said(2), said(3, "patient/p2/log"))
    first = next(iter(outbox.items.values()))
    outbox.again(first, None, not_before=1_000)
    assert numbers(outbox.pick(0, ROOM, today)) == [[3]]
    assert outbox.next_due(0) == 1_000
    assert numbers(outbox.pick(1_000, ROOM, today)) == [[1, 2], [3]]


def test_what_awaits_another_statement_holds_up_nobody() -> None:
    outbox = filled(said(1), said(2), said(3))
    first = next(iter(outbox.items.values()))
    outbox.again(first, None, not_before=1_000, awaits="bbbbbbbb.aaaaaaaaaaaaaaaa")
    assert numbers(outbox.pick(0, ROOM, today)) == [[2, 3]]
    outbox.arrived(["cccccccc.aaaaaaaaaaaaaaaa"])
    assert numbers(outbox.pick(0, ROOM, today)) == [[2, 3]]
    outbox.arrived(["bbbbbbbb.aaaaaaaaaaaaaaaa"])
    assert numbers(outbox.pick(0, ROOM, today)) == [[1, 2, 3]]


def test_a_document_that_is_not_ready_holds_up_its_scope_alone() -> None:
    outbox = filled(said(1), said(2, "patient/p1/drafts"), said(3, "patient/p2/log"))
    picked = outbox.pick(0, ROOM, lambda item: None if item.statement.document == "patient/p1/log" else today(item))
    assert numbers(picked) == [[3]]


def test_a_request_waits_for_verdicts_on_everything_earlier_and_stop_and_hold_do_not() -> None:
    outbox = filled(
        said(1),
        said(2, "patient/p1", Complete("s1")),
        said(3, "patient/p1", Stop("rx1", "rash")),
        said(4, "patient/p1", Hold("rx2", "surgery")),
        said(5, "patient/p2", Complete("s2")),
    )
    parcels = outbox.pick(0, ROOM, today)
    assert numbers(parcels) == [[1], [3], [4], [5]]
    assert [parcel.document for parcel in parcels] == ["patient/p1/log/2026-09", None, None, None]
    for parcel in parcels:
        outbox.sent(parcel)
    assert not outbox.pick(0, ROOM, today)
    items = list(outbox.items.values())
    outbox.judged(items[0], verdict(items[0]))
    assert numbers(outbox.pick(0, ROOM, today)) == [[2]]


def test_a_flight_ends_with_the_last_of_its_verdicts() -> None:
    outbox = filled(said(1), said(2))
    (parcel,) = outbox.pick(0, ROOM, today)
    outbox.sent(parcel)
    one, two = parcel.items
    assert one.attempts == 1
    outbox.judged(one, verdict(one))
    assert outbox.in_flight == 1
    outbox.again(two, verdict(two, Status.RETRY), 0)
    assert outbox.in_flight == 0
    assert [one.phase, two.phase] == [Phase.JUDGED, Phase.WAITING]
    assert numbers(outbox.pick(0, ROOM, today)) == [[2]]
    outbox.remove(one.statement.ref)
    assert [item.said.number for item in outbox.of("patient/p1/log")] == [2]


def test_after_a_lost_conversation_everything_under_way_waits_again_in_order() -> None:
    outbox = filled(*(said(number) for number in range(1, 6)))
    for parcel in outbox.pick(0, ROOM, today):
        outbox.sent(parcel)
    third = list(outbox.items.values())[2]
    outbox.judged(third, verdict(third))
    assert len(outbox.all_again()) == 4
    assert outbox.in_flight == 0
    assert numbers(outbox.pick(0, ROOM, today)) == [[1, 2, 4, 5]]


def test_in_careful_mode_one_statement_is_under_way_at_a_time() -> None:
    outbox = filled(said(1), said(2), said(3, "patient/p2/log"))
    outbox.careful = True
    (parcel,) = outbox.pick(0, ROOM, today)
    assert numbers([parcel]) == [[1]]
    outbox.sent(parcel)
    assert not outbox.pick(0, ROOM, today)
    outbox.judged(parcel.items[0], verdict(parcel.items[0]))
    assert numbers(outbox.pick(0, ROOM, today)) == [[2]]


def test_a_busy_relay_gets_nothing_until_its_time() -> None:
    outbox = filled(said(1))
    outbox.not_before = 50
    assert not outbox.pick(49, ROOM, today)
    assert outbox.next_due(0) == 50
    assert numbers(outbox.pick(50, ROOM, today)) == [[1]]


def test_what_is_signed_again_takes_the_place_of_what_it_was() -> None:
    outbox = filled(said(1), said(2))
    item = next(iter(outbox.items.values()))
    again = Said(renumbered(item, 9), 1, 1)
    outbox.replace(item, again)
    assert numbers(outbox.pick(0, ROOM, today)) == [[2, 9]]
    assert len(outbox) == 2


def renumbered(item: Item, number: int) -> statement.SignedStatement:
    body = msgspec.structs.replace(item.statement, number=number)
    return statement.SignedStatement(body, bytes(64) + msgspec.msgpack.encode(body))


@given(st.integers(0, 200), st.floats(0, 1))
def test_the_delay_grows_is_bounded_and_spreads(attempts: int, fraction: float) -> None:
    delay = back_off(attempts, fraction)
    assert RETRY_FIRST_MS // 2 <= delay <= RETRY_MOST_MS
    assert back_off(attempts, 0.0) <= delay <= back_off(attempts, 1.0)
    assert back_off(attempts + 1, fraction) >= delay
    assert back_off(20, 0.0) == RETRY_MOST_MS // 2


@pytest.mark.parametrize("room", [1, 3, 16])
@given(data=st.data())
def test_whatever_comes_back_everything_is_sent_in_order_until_it_is_judged(room: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    places = st.sampled_from(["patient/p1/log", "patient/p1/drafts", "patient/p2/log"])
    targets = data.draw(st.lists(places, min_size=count, max_size=count))
    outbox = filled(*(said(number, target) for number, target in enumerate(targets, 1)))
    now = 0
    judged: list[int] = []
    flying: list[Parcel] = []
    for _ in range(200):
        if not outbox.items:
            break
        for parcel in outbox.pick(now, room - outbox.in_flight, today):
            sent = [item.said.number for item in parcel.items]
            assert sent == sorted(sent)
            outbox.sent(parcel)
            flying.append(parcel)
        assert outbox.in_flight <= room
        if not flying:
            now = outbox.next_due(now) or now + 1
            continue
        parcel = flying.pop(0)
        if data.draw(st.integers(0, 5)) == 0:
            outbox.all_again()
            flying.clear()
            continue
        for item in parcel.items:
            if data.draw(st.integers(0, 4)) == 0:
                outbox.again(item, verdict(item, Status.RETRY), now + data.draw(st.integers(0, 3)))
            else:
                outbox.judged(item, verdict(item))
                judged.append(item.said.number)
                outbox.remove(item.statement.ref)
    assert sorted(judged) == sorted(set(judged))
    if not outbox.items:
        assert sorted(judged) == list(range(1, count + 1))
