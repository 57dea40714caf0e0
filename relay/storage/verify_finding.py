"""What the proof of a record finds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not follow: ``what`` is a stable code, ``where`` names it, ``says`` is for people."""

    what: str
    where: str
    says: str
