"""What the verbs of a device work on: an engine, and what several of them ask of it."""

from typing import Protocol

from crdtmed.clock import Stamp, milliseconds
from crdtmed.device.engine import Engine
from crdtmed.device.engine_types import DeviceError, NotAllowed
from crdtmed.signed import Grant


class Desk(Protocol):
    """Whatever verbs are said at: a `crdtmed.device.device.Device`, or an engine by itself."""

    @property
    def engine(self) -> Engine:
        """The engine; raises `DeviceError` ``locked`` while the cache is."""


def now_ms(desk: Desk) -> int:
    """The relay's time as the device reckons it, in ms: when something that is said now happened."""
    return desk.engine.core.relay_now()


def signed_in(desk: Desk) -> Grant:
    """The grant of who is signed in; raises `NotAllowed`."""
    grant = desk.engine.core.grant
    if grant is None:
        raise NotAllowed("not_signed_in", "nobody is signed in on this device", "sign in, or unlock with a PIN")
    return grant


def require_site(desk: Desk, site: str) -> None:
    """Raises `NotAllowed` unless the grant of who is signed in names ``site``."""
    grant = signed_in(desk)
    if site not in grant.sites:
        raise NotAllowed(
            "site_not_granted", f"{grant.user} has no grant for site {site}", "let somebody of that site do it"
        )


def require_care(desk: Desk, patient: str, care_sites: tuple[str, ...]) -> None:
    """Raises `NotAllowed` unless the patient is in the care of a site of the grant."""
    grant = signed_in(desk)
    if not set(care_sites) & set(grant.sites):
        raise NotAllowed(
            "patient_not_in_care",
            f"patient {patient} is in the care of {', '.join(care_sites) or 'no site'}, not of a site of {grant.user}",
            "ask for the patient to be admitted to one of your sites",
        )


def missing(what: str, step: str) -> DeviceError:
    """An error for something that this device does not hold."""
    return DeviceError("not_held", f"this device does not hold {what}", step)


def said_at(stamp: int) -> int:
    """When a statement was said by its own account, ms."""
    return milliseconds(Stamp(stamp))
