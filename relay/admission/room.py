"""Documents that have little room left: what is still listed there, and what the operator is told, once."""

from collections.abc import Iterable

from crdtmed.aggregates.registers import RegisterValue
from crdtmed.limits import MAX_RELAY_UPDATE_BYTES
from relay.admission.effects import Alarm, Effect, Note, Put
from relay.admission.facts import FactsPort


def listed(port: FactsPort, home: str, register: RegisterValue, device: str) -> Iterable[Effect]:
    """Lists a register in a patient's or site's document, or tells that this is full, of the device that came first."""
    if not port.is_full(home):
        yield Put(home, register)
        return
    says = f"{home} is full: what comes into conflict there, or is quarantined, is on record and listed no more"
    yield from _once(
        port, "full", home, Alarm("document_full", device, f"{says}; see whether a device fills it, and revoke that")
    )


def large(port: FactsPort, name: str, size: int) -> Iterable[Effect]:
    """Tells that a document of so many bytes grows out of its limit."""
    says = f"{name} has {size} bytes, and at {MAX_RELAY_UPDATE_BYTES} no device takes it any more"
    yield from _once(
        port, "large", name, Alarm("document_large", "", f"{says}; let another take its place before then")
    )


def _once(port: FactsPort, what: str, name: str, alarm: Alarm) -> Iterable[Effect]:
    if port.note(what, name) is None:
        yield Note(what, name, b"")
        yield alarm
