"""What is fuzzed: every reader of bytes or text that come from elsewhere, and the one error that it may raise."""

from collections.abc import Callable
from datetime import date
from typing import Any, Final

from crdtmed import statement
from crdtmed.aggregates.content import ContentError, decode_content
from crdtmed.compression import BadCompression, decompress
from crdtmed.contract import Kind
from crdtmed.gs1 import Gs1Error, parse_scan
from crdtmed.replica import Replica, ReplicaBroken
from crdtmed.updates import Malformed, Root, read_device_update, read_state_vector
from crdtmed.verdict import decode_verdict
from crdtmed.wire.enrolment import BadEnrolment, read_answer, read_enrol
from crdtmed.wire.frames import BadFrame, read_from_device, read_from_relay
from relay.imports import ImportRefused, read_formulary, read_patients, read_stock
from relay.knowledge.snapshot import BadSnapshot, read_snapshot
from tests.fuzz.stores import damaged_file, damaged_rows

Target = Callable[[bytes], Any]


def _applied(name: str) -> Target:
    """A relay's update into an empty document, and everything that is read of it then."""

    def run(data: bytes) -> None:
        replica = Replica.open(name, 7)
        replica.apply(data)
        replica.values()
        replica.digest()
        replica.snapshot()

    return run


def _content(data: bytes) -> None:
    for kind in Kind:
        try:
            decode_content(kind, data)
        except ContentError:
            continue


def _scan(data: bytes) -> None:
    parse_scan(data.decode("utf-8", "replace"), today=date(2026, 5, 28))


TARGETS: Final[dict[str, tuple[Target, tuple[type[Exception], ...]]]] = {
    "device_update_map": (lambda data: read_device_update(data, Root.MAP), (Malformed,)),
    "device_update_array": (lambda data: read_device_update(data, Root.ARRAY), (Malformed,)),
    "relay_update_map": (_applied("patient/p1"), (Malformed, ReplicaBroken)),
    "relay_update_array": (_applied("patient/p1/log/2026-05"), (Malformed, ReplicaBroken)),
    "state_vector": (read_state_vector, (Malformed,)),
    "statement": (statement.decode, (statement.BadStatement,)),
    "content": (_content, ()),
    "verdict": (decode_verdict, (ValueError,)),
    "compressed": (lambda data: decompress(data, 65_536), (BadCompression,)),
    "frame_from_device": (read_from_device, (BadFrame,)),
    "frame_from_relay": (read_from_relay, (BadFrame,)),
    "enrol": (read_enrol, (BadEnrolment,)),
    "enrol_answer": (read_answer, (BadEnrolment,)),
    "gs1": (_scan, (Gs1Error,)),
    "formulary": (read_formulary, (ImportRefused,)),
    "patients": (read_patients, (ImportRefused,)),
    "stock": (read_stock, (ImportRefused,)),
    "knowledge": (read_snapshot, (BadSnapshot,)),
    "store_file": (damaged_file, ()),
    "store_rows": (damaged_rows, ()),
}
"""By name: the reader, and what it raises for bytes that are wrong; anything else is a crash."""
