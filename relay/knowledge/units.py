"""Units in which amounts of an ingredient can be compared."""

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final

_BASE: Final[Mapping[str, tuple[str, Decimal]]] = MappingProxyType(
    {
        "kg": ("g", Decimal("1e3")),
        "g": ("g", Decimal(1)),
        "mg": ("g", Decimal("1e-3")),
        "ug": ("g", Decimal("1e-6")),
        "ng": ("g", Decimal("1e-9")),
        "mol": ("mol", Decimal(1)),
        "mmol": ("mol", Decimal("1e-3")),
        "umol": ("mol", Decimal("1e-6")),
        "eq": ("eq", Decimal(1)),
        "meq": ("eq", Decimal("1e-3")),
        "[iU]": ("[iU]", Decimal(1)),
        "k[iU]": ("[iU]", Decimal("1e3")),
    }
)


def mass_unit(unit: str) -> tuple[str, Decimal] | None:
    """The base unit and factor of a UCUM unit that measures an ingredient itself; None for tablets, mL and others."""
    return _BASE.get(unit)


def in_base(value: Decimal, unit: str) -> tuple[Decimal, str] | None:
    """An amount in its base unit, None where it measures a product rather than an ingredient."""
    found = _BASE.get(unit)
    return (value * found[1], found[0]) if found else None
