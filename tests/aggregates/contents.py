"""Generated content of every kind, well-formed by construction, for the tests of this directory."""

from typing import Final

from hypothesis import strategies as st
from msgspec.structs import replace

from crdtmed import statement
from crdtmed.aggregates.alert_override_record import Override, OverrideReason
from crdtmed.aggregates.conflict import TAKES_LOT, TAKES_QUANTITY, Action, BreakGlass, Resolve
from crdtmed.aggregates.content import CONTENT, Content
from crdtmed.aggregates.dispensing_event import Dispense
from crdtmed.aggregates.elements import TIME_UNIT_MS, Quantity, Range, decimal
from crdtmed.aggregates.medication_administration import Administer, Correct, OfDraft, OfPrescription, OfVerbal
from crdtmed.aggregates.prescription import Amend, Hold, Resume, Sign, Stop
from crdtmed.aggregates.prescription_draft import (
    TYPES,
    Dose,
    DraftStatus,
    DraftWrite,
    Duration,
    Group,
    GroupValue,
    Indication,
    Instructions,
    MaxPerPeriod,
    Medication,
    Route,
    Substitution,
    Supply,
    Timing,
)
from crdtmed.aggregates.reconciliation_session import Complete, Decision, HomeMedication, Open, Record
from crdtmed.aggregates.stock_item import Adjust, AdjustReason, Receipt
from crdtmed.contract import Kind
from tests.strategies import START_MS, Author, device, references, statement_id

texts = st.text("abcß漢 /-.\n", min_size=1, max_size=30).filter(lambda text: bool(text.strip()))
codes = st.text("abcXYZ019.:_-", min_size=1, max_size=20)
lots = st.text("ABC019-/", min_size=1, max_size=20)
scope_ids = st.text("abc019", min_size=1, max_size=8)
instants = st.integers(0, 2**47 - 1) | st.integers(START_MS, START_MS + 1_000)
units = st.sampled_from(["mg", "mL", "{tablet}", "[iU]"])
counts = st.integers(1, 500)
digests = st.binary(min_size=32, max_size=32)


def decimals(most: int = 999) -> st.SearchStrategy[str]:
    """Canonical decimals above zero."""
    parts = st.tuples(st.integers(0, most), st.sampled_from(["", ".5", ".25", ".001"]))
    return parts.map(lambda pair: f"{pair[0]}{pair[1]}").filter(lambda text: text != "0")


quantities = st.builds(Quantity, decimals(), units)
ranges = st.tuples(decimals(), decimals(), units).filter(lambda it: decimal(it[0]) < decimal(it[1]))
dose_ranges = ranges.map(lambda it: Range(Quantity(it[0], it[2]), Quantity(it[1], it[2])))
lengths = st.builds(Quantity, decimals(), st.sampled_from(["min", "h", "d", "wk"]))


@st.composite
def timings(draw: st.DrawFn) -> Timing:
    """Every shape of timing: a rate with or without times of the day, a count, as needed, with its limits."""
    shape = draw(st.sampled_from(["rate", "times", "count", "as needed"]))
    most = draw(
        st.none()
        | st.builds(MaxPerPeriod, lengths, counts, st.none() | quantities)
        | st.builds(MaxPerPeriod, lengths, st.none(), quantities)
    )
    needed = shape == "as needed" or draw(st.booleans())
    timing = Timing(
        as_needed=needed,
        as_needed_reason=draw(st.none() | texts) if needed else None,
        max_dose=draw(st.none() | quantities),
        max_per_period=most,
        min_interval=draw(st.none() | lengths),
    )
    match shape:
        case "rate":
            unit = draw(st.sampled_from(["h", "d", "wk", "mo", "a"]))
            frequency, period = draw(st.integers(1, 4)), draw(decimals(60).filter(lambda text: text != "0.001"))
            return replace(timing, frequency=frequency, period=period, period_unit=unit)
        case "times":
            times = sorted(draw(st.sets(st.sampled_from(["00:00", "08:00", "14:30", "23:59"]), min_size=1)))
            period = str(draw(st.integers(1, 9)))
            return replace(timing, frequency=len(times), period=period, period_unit="d", times=tuple(times))
        case "count":
            return replace(timing, count=draw(counts))
        case _:
            return timing


VALUES: Final[dict[Group, st.SearchStrategy[GroupValue]]] = {
    Group.MEDICATION: st.builds(Medication, codes, texts, st.none() | texts, st.none() | texts),
    Group.DOSE: st.builds(Dose, quantities) | st.builds(Dose, st.none(), dose_ranges),
    Group.ROUTE: st.builds(Route, codes, texts),
    Group.TIMING: timings(),
    Group.DURATION: st.builds(Duration, decimals(), st.sampled_from(sorted(TIME_UNIT_MS))),
    Group.SUPPLY: st.builds(Supply, counts, units, st.integers(0, 99), st.none() | scope_ids),
    Group.INSTRUCTIONS: st.builds(Instructions, texts),
    Group.INDICATION: st.builds(Indication, texts, st.none() | codes),
    Group.SUBSTITUTION: st.builds(Substitution, st.booleans(), st.none() | texts),
    Group.STATUS: st.builds(DraftStatus, st.sampled_from(["draft", "entered-in-error"])),
}


@st.composite
def draft_writes(draw: st.DrawFn) -> DraftWrite:
    """A write of any group, or one that clears it."""
    group = draw(st.sampled_from(Group))
    return DraftWrite(draw(scope_ids), group, draw(st.none() | VALUES[group]))


routes = st.builds(Route, codes, texts)
subjects = (
    st.builds(OfPrescription, scope_ids)
    | st.builds(OfDraft, scope_ids)
    | st.builds(OfVerbal, texts, texts, texts, st.none() | codes)
)


@st.composite
def administrations(draw: st.DrawFn, reenters: bool = True) -> Administer:
    """Given with or without a dose, or not given with a reason."""
    given = draw(st.booleans())
    return Administer(
        subject=draw(subjects),
        status="given" if given else "not-given",
        occurred_at=draw(instants),
        site=draw(scope_ids),
        status_reason=None if given else draw(texts),
        dose=draw(st.none() | quantities) if given else None,
        route=draw(st.none() | routes),
        slot_at=draw(st.none() | instants),
        note=draw(st.none() | texts),
        reenters=draw(st.none() | references()) if reenters else None,
    )


@st.composite
def corrections(draw: st.DrawFn) -> Correct:
    """An amendment with what is right instead, or an entry in error."""
    right = draw(st.none() | administrations(reenters=False))
    of, reason, reenters = draw(references()), draw(texts), draw(st.none() | references())
    return Correct(of, "amended" if right is not None else "entered-in-error", reason, right, reenters)


@st.composite
def adjustments(draw: st.DrawFn) -> Adjust:
    """An adjustment that moves something, or closes a shortage, or both."""
    reason = draw(st.sampled_from(AdjustReason))
    closes = draw(counts) if reason is AdjustReason.CLOSES_SHORTAGE else draw(st.integers(0, 9))
    return Adjust(
        item=draw(codes),
        lot=draw(lots),
        delta=draw(st.integers(-500, 500).filter(lambda delta: delta != 0 or closes != 0)),
        reason=reason,
        version_seen=draw(counts),
        corrects=draw(references()) if reason is AdjustReason.WRONG_RECEIPT else None,
        closes_shortage=closes,
        comment=draw(st.none() | texts),
    )


dates = st.dates().map(lambda day: day.isoformat())
receipts = st.builds(
    Receipt,
    *(texts, texts, codes, lots, dates, counts, units, instants),
    gtin=st.none() | st.text("0123456789", min_size=14, max_size=14),
    serial=st.none() | lots,
    reenters=st.none() | references(),
)
dispenses = st.builds(
    Dispense,
    *(scope_ids, scope_ids, codes, lots, counts, units, st.booleans(), instants),
    label_number=st.none() | counts,
    reenters=st.none() | references(),
)


@st.composite
def overrides(draw: st.DrawFn) -> Override:
    """An override, with the comment that *other* needs."""
    reason = draw(st.sampled_from(OverrideReason))
    comment = draw(texts) if reason is OverrideReason.OTHER else draw(st.none() | texts)
    return Override(draw(scope_ids), draw(digests), draw(codes), reason, draw(codes), comment)


@st.composite
def home_medications(draw: st.DrawFn) -> tuple[HomeMedication, ...]:
    """Home medicines under keys that differ."""
    keys = draw(st.lists(codes, max_size=4, unique=True))
    return tuple(HomeMedication(key, draw(texts), draw(st.none() | codes), draw(st.none() | texts)) for key in keys)


@st.composite
def openings(draw: st.DrawFn) -> Open:
    """An opening, with or without sessions that it restarts."""
    session = draw(scope_ids)
    restarts = draw(st.sets(scope_ids.filter(lambda name: name != session), max_size=3))
    return Open(session, tuple(sorted(restarts)), draw(home_medications()))


@st.composite
def resolutions(draw: st.DrawFn) -> Resolve:
    """A resolution of a signed statement, with the lot and quantity that its action takes."""
    kind = draw(st.sampled_from([Kind.DISPENSE, Kind.ADMINISTER, Kind.RECEIPT]))
    of: dict[Kind, st.SearchStrategy[Content]] = {
        Kind.DISPENSE: dispenses,
        Kind.ADMINISTER: administrations(),
        Kind.RECEIPT: receipts,
    }
    content = draw(of[kind])
    action = draw(st.sampled_from(Action))
    lot = draw(lots) if action is Action.SWITCH_LOT else draw(st.none() | lots) if action in TAKES_LOT else None
    quantity = None
    if action is Action.DISPENSE_PART or (action in TAKES_QUANTITY and draw(st.booleans())):
        quantity = draw(counts)
    return Resolve(signed(kind, content).encoded, action, lot, quantity, draw(st.none() | texts))


def signed(kind: Kind, content: Content, number: int = 1) -> statement.SignedStatement:
    """A statement of the first device with this content, in a document of its scope."""
    scope = "site/ward-3" if kind in (Kind.DISPENSE, Kind.RECEIPT, Kind.ADJUST) else "patient/p-1"
    return Author(device(1), 0).say(START_MS, kind, f"{scope}/log", statement_id(number), (), content)


CONTENTS: Final[dict[Kind, st.SearchStrategy[Content]]] = {
    Kind.DRAFT_WRITE: draft_writes(),
    Kind.SIGN: st.builds(Sign, scope_ids, digests),
    Kind.STOP: st.builds(Stop, scope_ids, texts),
    Kind.HOLD: st.builds(Hold, scope_ids, texts, st.none() | instants),
    Kind.RESUME: st.builds(Resume, scope_ids, texts),
    Kind.AMEND: st.builds(Amend, scope_ids.map(lambda name: f"new-{name}"), digests, scope_ids, texts),
    Kind.DISPENSE: dispenses,
    Kind.RECEIPT: receipts,
    Kind.ADJUST: adjustments(),
    Kind.ADMINISTER: administrations(),
    Kind.CORRECT: corrections(),
    Kind.OVERRIDE: overrides(),
    Kind.RECONCILIATION_OPEN: openings(),
    Kind.RECONCILIATION_RECORD: st.builds(Record, scope_ids, codes, st.sampled_from(Decision), st.none() | texts),
    Kind.RECONCILIATION_COMPLETE: st.builds(Complete, scope_ids),
    Kind.RESOLVE: resolutions(),
    Kind.BREAK_GLASS: st.builds(BreakGlass, texts, instants),
}


@st.composite
def contents(draw: st.DrawFn) -> tuple[Kind, Content]:
    """Content of any kind."""
    kind = draw(st.sampled_from(Kind))
    return kind, draw(CONTENTS[kind])


assert set(CONTENTS) == set(CONTENT) == set(Kind), "every kind is generated"
assert set(VALUES) == set(TYPES) == set(Group), "every group is generated"
