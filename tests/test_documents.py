"""Documents: names that are read as they are built, segments by the relay's date, digests of content alone."""

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmed import documents
from crdtmed.contract import KINDS, Carrier, Kind, Policy
from crdtmed.documents import BadName, Document, DocumentKind, parse
from crdtmed.ids import is_scope_id
from crdtmed.limits import MAX_DOCUMENT_NAME_CHARS, SEGMENT_GRACE_MS
from crdtmed.updates import Root

SCOPE_IDS = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,31}", fullmatch=True)
DAYS = st.dates(date(1970, 1, 1), date(9999, 12, 31))
DAY_MS = 86_400_000

NAMES = st.one_of(
    st.sampled_from(["directory", "formulary"]),
    SCOPE_IDS.map(documents.patient),
    SCOPE_IDS.map(documents.drafts),
    SCOPE_IDS.map(documents.site),
    st.builds(lambda scope, day: documents.segment(f"patient/{scope}/log", day), SCOPE_IDS, DAYS),
    st.builds(lambda scope, day: documents.segment(f"site/{scope}/log", day), SCOPE_IDS, DAYS),
)


@pytest.mark.parametrize(
    ("name", "expected", "policy", "root", "target"),
    [
        ("directory", Document("directory", DocumentKind.DIRECTORY, "directory"), "server", Root.MAP, "directory"),
        ("formulary", Document("formulary", DocumentKind.FORMULARY, "formulary"), "server", Root.MAP, "formulary"),
        ("patient/p", Document("patient/p", DocumentKind.PATIENT, "patient/p"), "server", Root.MAP, "patient/p"),
        (
            "patient/p/drafts",
            Document("patient/p/drafts", DocumentKind.DRAFTS, "patient/p"),
            *("lww", Root.MAP, "patient/p/drafts"),
        ),
        (
            "patient/p/log/2026-01",
            Document("patient/p/log/2026-01", DocumentKind.PATIENT_LOG, "patient/p", "2026-01"),
            *("append", Root.ARRAY, "patient/p/log"),
        ),
        ("site/w", Document("site/w", DocumentKind.SITE, "site/w"), "server", Root.MAP, "site/w"),
        (
            "site/w/log/2028-02-29",
            Document("site/w/log/2028-02-29", DocumentKind.SITE_LOG, "site/w", "2028-02-29"),
            *("append", Root.ARRAY, "site/w/log"),
        ),
    ],
)
def test_each_shape_of_name(name: str, expected: Document, policy: str, root: Root, target: str) -> None:
    found = parse(name)
    assert found == expected
    assert found.policy.startswith(policy)
    assert (found.root, found.target) == (root, target)
    assert found.written_by_devices is (policy != "server")
    assert documents.is_target(target)


@given(NAMES)
def test_what_is_built_is_read(name: str) -> None:
    found = parse(name)
    assert found.name == name
    assert name.startswith(found.scope)
    assert found.scope.endswith(found.scope_id)
    assert documents.is_target(found.target)
    assert documents.is_target(name) is (found.segment is None)
    assert (found.root is Root.ARRAY) is (found.policy is Policy.APPEND_ONLY) is (found.segment is not None)


@pytest.mark.parametrize(
    "name",
    [
        *("", "patient", "patient/", "patient/P", "patient/p/", "patient/p/log", "patient/p/draft", "patient//drafts"),
        *("patient/p/log/2026", "patient/p/log/2026-13", "patient/p/log/2026-1", "patient/p/log/2026-01-01"),
        *("patient/p/log/2026-01\n", "patient/p\n", "site/w/drafts", "site/w/log/2026-01", "site/w/log/2026-02-30"),
        *("site/w/log/2027-02-29", "site/w/log/2026-01-01/x", "ward/w", "directory/x", "directory ", "Directory"),
        *("patient/p/log/٢٠٢٦-٠١", "site/../x", "site/" + "w" * 33, "x" * (MAX_DOCUMENT_NAME_CHARS + 1)),
    ],
)
def test_everything_else_names_no_document(name: str) -> None:
    with pytest.raises(BadName):
        parse(name)
    assert documents.is_target(name) is (name == "patient/p/log")


@given(st.text(max_size=80) | st.from_regex(r"(patient|site)/[a-z]{1,3}(/(drafts|log)(/\d{4}-\d\d(-\d\d)?)?)?"))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    with suppress(BadName):
        assert parse(text).name == text


@given(st.text(max_size=40).filter(lambda text: not is_scope_id(text)))
def test_a_bad_id_builds_no_name(text: str) -> None:
    for build in (documents.patient, documents.drafts, documents.site):
        with pytest.raises(BadName):
            build(text)


@pytest.mark.parametrize("text", ["p/drafts", "p/log/2026-01", "../site/w", ""])
def test_an_id_cannot_lead_into_another_document(text: str) -> None:
    for build in (documents.patient, documents.drafts, documents.site):
        with pytest.raises(BadName, match="is no id"):
            build(text)


def test_the_longest_names_fit() -> None:
    assert len(documents.drafts("p" * 32)) <= documents.MAX_TARGET_CHARS
    assert len(documents.segment("patient/" + "p" * 32 + "/log", date(2026, 1, 1))) <= MAX_DOCUMENT_NAME_CHARS
    assert len(documents.segment("site/" + "p" * 32 + "/log", date(2026, 1, 1))) <= MAX_DOCUMENT_NAME_CHARS


@pytest.mark.parametrize(("scope", "log"), [("patient/p", "patient/p/log"), ("site/w", "site/w/log")])
def test_patients_and_sites_have_logs(scope: str, log: str) -> None:
    assert documents.log_of(scope) == log
    assert documents.is_target(log)


@pytest.mark.parametrize("scope", ["directory", "formulary", "patient/p/drafts", "patient/p/log/2026-01", "ward"])
def test_nothing_else_has_a_log(scope: str) -> None:
    with pytest.raises(BadName):
        documents.log_of(scope)
    assert not documents.is_target(f"{scope}/log")


@given(st.integers(0, 253_402_300_799_999), st.sampled_from(["patient/p/log", "site/w/log"]))
def test_entries_go_into_the_segment_of_today_and_shortly_of_yesterday(now: int, log: str) -> None:
    today = datetime.fromtimestamp(now // 1000, UTC).date()
    assert documents.utc_date(now) == today
    found = documents.open_segments(log, now)
    assert found[0] == documents.segment(log, today)
    before = documents.segment(log, documents.utc_date(max(0, now - SEGMENT_GRACE_MS)))
    assert found[1:] == (() if before == found[0] else (before,))


@pytest.mark.parametrize(
    ("after_midnight", "expected"),
    [
        (-1, ["2026-02-28"]),
        (0, ["2026-03-01", "2026-02-28"]),
        (SEGMENT_GRACE_MS - 1, ["2026-03-01", "2026-02-28"]),
        (SEGMENT_GRACE_MS, ["2026-03-01"]),
    ],
)
def test_yesterdays_segment_stays_open_for_ten_minutes(after_midnight: int, expected: list[str]) -> None:
    now = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp() * 1000) + after_midnight
    assert list(documents.open_segments("site/w/log", now)) == [f"site/w/log/{day}" for day in expected]
    months = list(dict.fromkeys(day[:7] for day in expected))
    assert list(documents.open_segments("patient/p/log", now)) == [f"patient/p/log/{month}" for month in months]


@given(
    st.integers(400 * DAY_MS, 200_000 * DAY_MS), st.integers(0, 400), st.sampled_from(["patient/p/log", "site/w/log"])
)
def test_recent_segments_cover_the_days_oldest_first(now: int, days: int, log: str) -> None:
    found = documents.recent_segments(log, now, days)
    today = documents.utc_date(now)
    assert set(found) == {documents.segment(log, today - timedelta(days=back)) for back in range(days + 1)}
    assert list(found) == sorted(found)
    assert found[-1] == documents.open_segments(log, now)[0]


FITS = {
    Carrier.DRAFTS: {"patient/p/drafts"},
    Carrier.PATIENT_LOG: {"patient/p/log"},
    Carrier.SITE_LOG: {"site/w/log"},
    Carrier.SCOPE_LOG: {"patient/p/log", "site/w/log"},
    Carrier.PATIENT_REQUEST: {"patient/p"},
    Carrier.DEVICE_REQUEST: {"directory"},
}
TARGETS = ("directory", "formulary", "patient/p", "patient/p/drafts", "patient/p/log", "site/w", "site/w/log")


@pytest.mark.parametrize("kind", Kind)
def test_a_statement_belongs_where_its_kind_is_carried(kind: Kind) -> None:
    assert {target for target in TARGETS if documents.carries(kind, target)} == FITS[KINDS[kind].carrier]
    in_document = KINDS[kind].carrier not in (Carrier.PATIENT_REQUEST, Carrier.DEVICE_REQUEST)
    assert documents.is_request(kind) is not in_document


@given(st.dictionaries(st.text(max_size=4), st.binary(max_size=4), max_size=4), st.randoms(use_true_random=False))
def test_content_has_one_digest_whatever_the_order(content: dict[str, bytes], random: Random) -> None:
    items = list(content.items())
    random.shuffle(items)
    assert documents.map_digest(dict(items)) == documents.map_digest(content)
    entries = list(content.values())
    random.shuffle(entries)
    assert documents.array_digest(entries) == documents.array_digest(content.values())


MAPS = st.dictionaries(st.sampled_from(["a", "b", "ab", "é"]), st.sampled_from([b"", b"a", b"ab", b"\0"]), max_size=3)
LOGS = st.lists(st.sampled_from([b"", b"a", b"b", b"ab", b"\0"]), max_size=4)


@given(MAPS, MAPS, LOGS, LOGS)
def test_digests_are_equal_exactly_for_equal_content(
    one: dict[str, bytes], other: dict[str, bytes], log: list[bytes], second: list[bytes]
) -> None:
    assert (documents.map_digest(one) == documents.map_digest(other)) is (one == other)
    assert (documents.array_digest(log) == documents.array_digest(second)) is (sorted(log) == sorted(second))
    assert documents.map_digest(one) != documents.array_digest(log)
    assert len(documents.map_digest(one)) == len(documents.array_digest(log)) == 32
