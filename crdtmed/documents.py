"""Documents: their names, scopes, segments, roots and policies, and the digest of their content.

A document is one pycrdt ``Doc`` with one root and one policy; it is the unit of replication, of access and of
caching.  A statement names its *target*: a document, or a log without the segment that the relay's date picks.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from struct import Struct
from typing import Final

from crdtmed.contract import KINDS, Carrier, Kind, Policy
from crdtmed.ids import is_scope_id
from crdtmed.limits import KEPT_NAMES, MAX_DOCUMENT_NAME_CHARS, MAX_SCOPE_ID_CHARS, SEGMENT_GRACE_MS
from crdtmed.updates import Root

MAX_TARGET_CHARS: Final = MAX_SCOPE_ID_CHARS + len("patient//drafts")


class DocumentKind(StrEnum):
    """The seven shapes of documents."""

    DIRECTORY = "directory"
    FORMULARY = "formulary"
    PATIENT = "patient"
    DRAFTS = "drafts"
    PATIENT_LOG = "patient log"
    SITE = "site"
    SITE_LOG = "site log"


POLICY: Final[Mapping[DocumentKind, Policy]] = {
    DocumentKind.DIRECTORY: Policy.SERVER_AUTHORITATIVE,
    DocumentKind.FORMULARY: Policy.SERVER_AUTHORITATIVE,
    DocumentKind.PATIENT: Policy.SERVER_AUTHORITATIVE,
    DocumentKind.DRAFTS: Policy.LWW_DIFF,
    DocumentKind.PATIENT_LOG: Policy.APPEND_ONLY,
    DocumentKind.SITE: Policy.SERVER_AUTHORITATIVE,
    DocumentKind.SITE_LOG: Policy.APPEND_ONLY,
}


class BadName(ValueError):
    """A text names no document; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document's name taken apart.

    ``scope`` is ``patient/<id>``, ``site/<id>``, ``directory`` or ``formulary``; ``segment`` the month or day of a
    log, None elsewhere.  ``policy`` is how it merges; ``root`` what it is: logs are arrays, everything else is a map.
    ``target`` is what statements in it name: the log without its segment, else the document.  ``written_by_devices``:
    whether devices may write it; every other document is the relay's or the identity service's.
    """

    name: str
    kind: DocumentKind
    scope: str
    segment: str | None = None
    policy: Policy = field(init=False)
    root: Root = field(init=False)
    target: str = field(init=False)
    written_by_devices: bool = field(init=False)

    def __post_init__(self) -> None:
        put = object.__setattr__  # once a name: they are asked for with every update of thousands of documents
        policy = POLICY[self.kind]
        put(self, "policy", policy)
        put(self, "root", Root.ARRAY if policy is Policy.APPEND_ONLY else Root.MAP)
        put(self, "target", f"{self.scope}/log" if self.segment is not None else self.name)
        put(self, "written_by_devices", policy is not Policy.SERVER_AUTHORITATIVE)

    @property
    def scope_id(self) -> str:
        """The patient's or site's id; the name itself for directory and formulary."""
        return self.scope.partition("/")[2] or self.scope


_MONTH: Final = re.compile(r"^[0-9]{4}-(0[1-9]|1[0-2])\Z")
_DAY: Final = re.compile(r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])\Z")


def _is_day(text: str) -> bool:
    if not _DAY.match(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=KEPT_NAMES)
def parse(name: str) -> Document:
    """The document called ``name``; raises `BadName` for anything else, and for names over the limit."""
    if len(name) > MAX_DOCUMENT_NAME_CHARS:
        raise BadName(f"a document's name has at most {MAX_DOCUMENT_NAME_CHARS} characters, this has {len(name)}")
    if name in (DocumentKind.DIRECTORY, DocumentKind.FORMULARY):
        return Document(name, DocumentKind(name), name)
    parts = name.split("/")
    if len(parts) < 2 or parts[0] not in ("patient", "site") or not is_scope_id(parts[1]):
        raise BadName(f"{name!r} names no document: expected directory, formulary, patient/<id>… or site/<id>…")
    scope = f"{parts[0]}/{parts[1]}"
    match (parts[0], parts[2:]):
        case ("patient", []):
            return Document(name, DocumentKind.PATIENT, scope)
        case ("patient", ["drafts"]):
            return Document(name, DocumentKind.DRAFTS, scope)
        case ("patient", ["log", segment]) if _MONTH.match(segment):
            return Document(name, DocumentKind.PATIENT_LOG, scope, segment)
        case ("site", []):
            return Document(name, DocumentKind.SITE, scope)
        case ("site", ["log", segment]) if _is_day(segment):
            return Document(name, DocumentKind.SITE_LOG, scope, segment)
    raise BadName(
        f"{name!r} names no document of {scope}: a patient has drafts and log/<yyyy-mm>, a site log/<yyyy-mm-dd>"
    )


def patient(scope_id: str) -> str:
    """The name of a patient's document; raises `BadName` for a bad id."""
    return f"patient/{_scope_id(scope_id)}"


def drafts(scope_id: str) -> str:
    """The name of the drafts of a patient; raises `BadName` for a bad id."""
    return f"patient/{_scope_id(scope_id)}/drafts"


def site(scope_id: str) -> str:
    """The name of a site's document; raises `BadName` for a bad id."""
    return f"site/{_scope_id(scope_id)}"


def _scope_id(text: str) -> str:
    if not is_scope_id(text):
        raise BadName(f"{text!r} is no id of a patient or site: expected 1 to {MAX_SCOPE_ID_CHARS} of a-z 0-9 . _ -")
    return text


def log_of(scope: str) -> str:
    """The log of a patient or a site, as statements name it."""
    if parse(scope).kind not in (DocumentKind.PATIENT, DocumentKind.SITE):
        raise BadName(f"{scope!r} has no log")
    return f"{scope}/log"


def segment(log: str, day: date) -> str:
    """The document that holds entries of ``log`` pushed on ``day`` (the relay's UTC date)."""
    scope = log.removesuffix("/log")
    name = f"{log}/{day:%Y-%m}" if scope.startswith("patient/") else f"{log}/{day.isoformat()}"
    return parse(name).name


def utc_date(now_ms: int) -> date:
    """The UTC date of a time in milliseconds."""
    return datetime.fromtimestamp(now_ms / 1000, UTC).date()


def open_segments(log: str, now_ms: int) -> tuple[str, ...]:
    """The segments of ``log`` that take entries at ``now_ms``: today's first, and for ten minutes the one before."""
    today = segment(log, utc_date(now_ms))
    before = segment(log, utc_date(max(0, now_ms - SEGMENT_GRACE_MS)))
    return (today,) if before == today else (today, before)


def recent_segments(log: str, now_ms: int, days: int) -> tuple[str, ...]:
    """The segments of ``log`` that cover the last ``days`` days up to today, oldest first."""
    return _segments_until(log, utc_date(now_ms), days)


@lru_cache(maxsize=KEPT_NAMES)
def _segments_until(log: str, today: date, days: int) -> tuple[str, ...]:
    segment(log, today)  # raises for what is no log
    return tuple([f"{log}/{part}" for part in _parts_until(log.startswith("patient/"), today, days)])


@lru_cache(maxsize=64)
def _parts_until(monthly: bool, today: date, days: int) -> tuple[str, ...]:
    log = "patient/p/log" if monthly else "site/s/log"
    names = [segment(log, today - timedelta(days=back)) for back in range(days, -1, -1)]
    return tuple(dict.fromkeys(name.rpartition("/")[2] for name in names))


@lru_cache(maxsize=KEPT_NAMES)
def is_target(name: str) -> bool:
    """Whether a statement may name ``name``: a document without segment, or a log."""
    try:
        if name.endswith("/log"):
            return parse(name.removesuffix("/log")).kind in (DocumentKind.PATIENT, DocumentKind.SITE)
        return parse(name).segment is None
    except BadName:
        return False


def carries(kind: Kind, target: str) -> bool:
    """Whether a statement of this kind belongs to ``target``."""
    is_log = target.endswith("/log")
    scope_kind = target.partition("/")[0]
    match KINDS[kind].carrier:
        case Carrier.DRAFTS:
            return scope_kind == "patient" and target.endswith("/drafts")
        case Carrier.PATIENT_LOG:
            return scope_kind == "patient" and is_log
        case Carrier.SITE_LOG:
            return scope_kind == "site" and is_log
        case Carrier.SCOPE_LOG:
            return is_log
        case Carrier.PATIENT_REQUEST:
            return scope_kind == "patient" and target.count("/") == 1
        case Carrier.DEVICE_REQUEST:
            return target == DocumentKind.DIRECTORY


def is_request(kind: Kind) -> bool:
    """Whether statements of this kind travel bare, as requests, rather than in a document's update."""
    return KINDS[kind].carrier in (Carrier.PATIENT_REQUEST, Carrier.DEVICE_REQUEST)


_LENGTH: Final = Struct(">I").pack


def map_digest(content: Mapping[str, bytes]) -> bytes:
    """SHA-256 of a map's content: count, then keys in code-point order, each with its value, all length-prefixed."""
    sha = hashlib.sha256(b"map" + len(content).to_bytes(8, "big"))
    for key in sorted(content):
        raw = key.encode()
        sha.update(len(raw).to_bytes(4, "big") + raw + len(content[key]).to_bytes(4, "big") + content[key])
    return sha.digest()


def array_digest(content: Iterable[bytes]) -> bytes:
    """SHA-256 of a log's content: its entries in byte order, length-prefixed; position carries no meaning."""
    entries = sorted(content)
    sha = hashlib.sha256(b"array" + len(entries).to_bytes(8, "big"))
    for start in range(0, len(entries), 1_024):
        sha.update(b"".join([part for one in entries[start : start + 1_024] for part in (_LENGTH(len(one)), one)]))
    return sha.digest()
