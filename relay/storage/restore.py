"""A database taken from a backup, made ready to serve: a new epoch for every document."""

from collections.abc import Callable
from typing import Final

from crdtmed.ids import to_text
from relay.storage.port import Record

EPOCH_BYTES: Final = 10
"""What an epoch is drawn from, of a new document as of one that was restored."""


def new_epochs(record: Record, now_ms: int, random: Callable[[int], bytes]) -> int:
    """Gives every document a fresh epoch, in a transaction of its own; how many they were.

    What the backup lacks then comes back from the devices: an epoch that they do not know makes them hand back the
    statements of their bases and take them anew.  Verdicts that were given keep the epoch they were given at.
    """
    record.begin()
    try:
        count = record.renew_epochs(iter(lambda: to_text(random(EPOCH_BYTES)), None))
        record.add_audit(now_ms, "restored", "operator", f"{count} documents have a new epoch")
        record.commit()
    except BaseException:
        record.rollback()
        raise
    return count
