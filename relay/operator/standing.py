"""Registers as they stand, across all documents."""

from collections.abc import Iterator

from crdtmed.aggregates.registers import RegisterValue, decode_register
from crdtmed.documents import DocumentKind, parse
from crdtmed.policies.server_authoritative import NIL
from relay.storage.port import Record


def standing_registers(record: Record, word: str) -> Iterator[tuple[str, RegisterValue]]:
    """The registers ``word/…`` of all patients and sites, each with its document, withdrawn ones left out."""
    for row in record.registers_everywhere(word):
        kind = parse(row.document).kind
        if kind in (DocumentKind.PATIENT, DocumentKind.SITE) and row.value != NIL:
            yield row.document, decode_register(kind, row.key, row.value)
