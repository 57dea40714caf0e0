"""What a site's document says of the site itself (FHIR Location)."""

from typing import Annotated

from msgspec import Meta

from crdtmed.aggregates.elements import Model, Problem, ShortText, text_problems
from crdtmed.ids import ScopeId
from crdtmed.limits import MAX_ZONE_CHARS


class SiteRegister(Model, frozen=True):
    """A ward or a pharmacy; ``time_zone`` is an IANA name (``Europe/Berlin``), in which scheduled times are
    meant."""

    id: ScopeId
    name: ShortText
    address: ShortText
    time_zone: Annotated[str, Meta(pattern=rf"\A[A-Za-z0-9_+/-]{{1,{MAX_ZONE_CHARS}}}\Z")]


def site_problems(register: SiteRegister) -> tuple[Problem, ...]:
    """What is wrong with a site's register."""
    return (*text_problems("name", register.name), *text_problems("address", register.address))
