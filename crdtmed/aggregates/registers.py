"""The registers of every document that the relay writes: which model stands under which key.

A key is a word, or a word, a slash and what tells apart the registers of that word.  The directory holds
signed values of its own (`crdtmed.signed`), no models of this package.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from crdtmed.aggregates.alert_override_record import AlertsRegister
from crdtmed.aggregates.conflict import ConflictRegister, QuarantineRegister
from crdtmed.aggregates.content import ContentError, structural
from crdtmed.aggregates.dispensing_event import QueueEntry
from crdtmed.aggregates.elements import Problem
from crdtmed.aggregates.medication import MedicationRegister, medication_problems
from crdtmed.aggregates.patient import PatientRegister, patient_problems
from crdtmed.aggregates.prescription import PrescriptionRegister, prescription_problems
from crdtmed.aggregates.reconciliation_session import SessionRegister
from crdtmed.aggregates.site import SiteRegister, site_problems
from crdtmed.aggregates.stock_item import StockRegister, stock_problems
from crdtmed.codec import Undecodable, decoder, encode
from crdtmed.documents import DocumentKind
from crdtmed.limits import MAX_REGISTER_BYTES

RegisterValue = (
    MedicationRegister
    | PatientRegister
    | PrescriptionRegister
    | SessionRegister
    | AlertsRegister
    | SiteRegister
    | StockRegister
    | QueueEntry
    | ConflictRegister
    | QuarantineRegister
)

REGISTERS: Final[Mapping[DocumentKind, Mapping[str, type[RegisterValue]]]] = MappingProxyType(
    {
        DocumentKind.FORMULARY: {"item": MedicationRegister},
        DocumentKind.PATIENT: {
            "patient": PatientRegister,
            "prescription": PrescriptionRegister,
            "session": SessionRegister,
            "alerts": AlertsRegister,
            "conflict": ConflictRegister,
            "quarantine": QuarantineRegister,
        },
        DocumentKind.SITE: {
            "site": SiteRegister,
            "stock": StockRegister,
            "queue": QueueEntry,
            "conflict": ConflictRegister,
            "quarantine": QuarantineRegister,
        },
    }
)
"""By kind of document: the first word of a key, and the model under it."""

_PROBLEMS: Final[Mapping[type, Callable[[Any], tuple[Problem, ...]]]] = {
    MedicationRegister: medication_problems,
    PatientRegister: patient_problems,
    PrescriptionRegister: prescription_problems,
    SiteRegister: site_problems,
    StockRegister: stock_problems,
}
_DECODE: Final[Mapping[type, Callable[[bytes], RegisterValue]]] = {
    of: decoder(of, MAX_REGISTER_BYTES) for words in REGISTERS.values() for of in words.values()
}


def register_key(value: RegisterValue) -> str:
    """The key that a register stands under in its document."""
    match value:
        case MedicationRegister(code=code):
            return f"item/{code}"
        case PatientRegister():
            return "patient"
        case PrescriptionRegister(id=id):
            return f"prescription/{id}"
        case SessionRegister(id=id):
            return f"session/{id}"
        case AlertsRegister(prescription=prescription):
            return f"alerts/{prescription}"
        case SiteRegister():
            return "site"
        case StockRegister(item=item, lot=lot):
            return f"stock/{item}/{lot}"
        case QueueEntry(prescription=prescription):
            return f"queue/{prescription}"
        case ConflictRegister(ref=ref):
            return f"conflict/{ref}"
        case QuarantineRegister(ref=ref):
            return f"quarantine/{ref}"


def encode_register(value: RegisterValue) -> bytes:
    """The one encoding of a register's value; raises `ContentError` where it has problems."""
    data = encode(value)
    _decode(type(value), data)
    return data


def decode_register(kind: DocumentKind, key: str, data: bytes) -> RegisterValue:
    """The value of the register under ``key`` in a document of ``kind``; raises `ContentError` and nothing
    else.

    Strict: a key that the kind of document has, the model that belongs there, without problems, and the key
    being the value's own.
    """
    of = REGISTERS.get(kind, {}).get(key.partition("/")[0])
    if of is None:
        raise ContentError((Problem("", f"is under the key {key[:120]!r}, which a {kind} does not have"),))
    value = _decode(of, bytes(data))
    if register_key(value) != key:
        raise ContentError((Problem("", f"belongs under {register_key(value)!r}, it is under {key[:120]!r}"),))
    return value


def _decode(of: type[RegisterValue], data: bytes) -> RegisterValue:
    try:
        value = _DECODE[of](data)
    except Undecodable as error:
        raise ContentError((structural(error),)) from None
    judge = _PROBLEMS.get(of)
    found = judge(value) if judge is not None else ()
    if found:
        raise ContentError(found)
    return value
