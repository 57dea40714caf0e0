"""The flags of administrations that follow from orders and from one another.

A flag never judges: it puts something before people that the record alone would hide.  Everything is computed from
what was said to have happened (``occurred_at``), over all accounts that stand.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import tzinfo
from decimal import Decimal
from enum import StrEnum
from typing import Final, NamedTuple

from crdtmed.aggregates.elements import TIME_UNIT_MS, Quantity, decimal, time_ms
from crdtmed.aggregates.medication_administration import Administer, OfPrescription
from crdtmed.aggregates.prescription import PrescriptionRegister, PrescriptionStatus
from crdtmed.aggregates.prescription_draft import MaxPerPeriod, Timing
from crdtmed.aggregates.schedule import slots


class MarFlag(StrEnum):
    """What people are to see beside an entry, in this order."""

    REPORTED = "reported_not_accepted"
    NO_SIGNED_ORDER = "no_signed_order"
    SAME_SLOT = "same_slot"
    UNDER_INTERVAL = "under_interval"
    OVER_MAXIMUM = "over_maximum"
    MAXIMUM_UNCHECKED = "maximum_unchecked"
    AFTER_STOP = "after_stop"
    ON_HOLD = "on_hold"
    CLOCK_SUSPECT = "clock_suspect"
    COMPETING_CORRECTIONS = "competing_corrections"
    TARGET_MISSING = "target_missing"
    SAID_TWICE = "said_twice"


class Account(NamedTuple):
    """One account of what happened, and the entry that it stands for."""

    entry: str
    administration: Administer


_ENDED: Final = frozenset(
    {
        PrescriptionStatus.STOPPED,
        PrescriptionStatus.COMPLETED,
        PrescriptionStatus.SUPERSEDED,
        PrescriptionStatus.ENTERED_IN_ERROR,
    }
)


def computed_flags(
    accounts: Iterable[Account], prescriptions: Mapping[str, PrescriptionRegister], tz: tzinfo
) -> Mapping[str, frozenset[MarFlag]]:
    """By entry, the flags that follow from the orders and from the other entries; entries without any are left out.

    ``no_signed_order``: on a draft, on a spoken order, or on a prescription that is not at hand.  ``same_slot``: two
    entries for one scheduled instant of one prescription; where an account names none, it is the nearest.
    ``under_interval``: given sooner after another dose than the order allows.  ``over_maximum``: more at once, in a
    period or in all than it allows; ``maximum_unchecked`` where a missing dose or another unit hides that.
    ``after_stop`` and ``on_hold``: given after the order ended, or while it was on hold.
    """
    found: dict[str, set[MarFlag]] = defaultdict(set)
    by_prescription: dict[str, list[Account]] = defaultdict(list)
    for account in accounts:
        subject = account.administration.subject
        if isinstance(subject, OfPrescription) and subject.prescription in prescriptions:
            by_prescription[subject.prescription].append(account)
        else:
            found[account.entry].add(MarFlag.NO_SIGNED_ORDER)
    for name, of in by_prescription.items():
        register = prescriptions[name]
        given = sorted(
            (it for it in of if it.administration.status == "given"),
            key=lambda it: (it.administration.occurred_at, it.entry),
        )
        _same_slot(found, of, register, tz)
        _under_interval(found, given, register.groups.timing)
        _over_maximum(found, given, register.groups.timing)
        _after_end(found, given, register)
    return {entry: frozenset(flags) for entry, flags in found.items()}


def _same_slot(
    found: dict[str, set[MarFlag]], accounts: Sequence[Account], register: PrescriptionRegister, tz: tzinfo
) -> None:
    at_slot: dict[int, set[str]] = defaultdict(set)
    for entry, it in accounts:
        slot = it.slot_at if it.slot_at is not None else _nearest(register, it.occurred_at, tz)
        if slot is not None:
            at_slot[slot].add(entry)
    for entries in at_slot.values():
        if len(entries) > 1:
            for entry in entries:
                found[entry].add(MarFlag.SAME_SLOT)


def _nearest(register: PrescriptionRegister, at_ms: int, tz: tzinfo) -> int | None:
    """The scheduled instant nearest to ``at_ms``, the earlier of two; None where the order has none."""
    timing = register.groups.timing
    if timing.period is None or timing.period_unit is None:
        due = slots(timing, register.signed_at, tz, (register.signed_at, register.signed_at + 1))
        return due[0] if due else None
    # A day more than a period each way, since clocks may change in it, and months are longer than their mean.
    reach = int(decimal(timing.period) * TIME_UNIT_MS[timing.period_unit]) + 2 * TIME_UNIT_MS["d"]
    at = max(at_ms, register.signed_at)
    due = slots(timing, register.signed_at, tz, (at - reach, at + reach))
    return min(due, key=lambda slot: (abs(slot - at_ms), slot), default=None)


def _under_interval(found: dict[str, set[MarFlag]], given: Sequence[Account], timing: Timing) -> None:
    if timing.min_interval is None:
        return
    least = time_ms(timing.min_interval)
    for place, (entry, it) in enumerate(given):
        for other, before in reversed(given[:place]):
            if it.occurred_at - before.occurred_at >= least:
                break
            if other != entry:
                found[entry].add(MarFlag.UNDER_INTERVAL)
                break


def _over_maximum(found: dict[str, set[MarFlag]], given: Sequence[Account], timing: Timing) -> None:
    if timing.max_dose is not None:
        for entry, it in given:
            amount = _amount(it, timing.max_dose)
            if amount is None:
                found[entry].add(MarFlag.MAXIMUM_UNCHECKED)
            elif amount > decimal(timing.max_dose.value):
                found[entry].add(MarFlag.OVER_MAXIMUM)
    if timing.count is not None:
        for entry in list(dict.fromkeys(account.entry for account in given))[timing.count :]:
            found[entry].add(MarFlag.OVER_MAXIMUM)
    if timing.max_per_period is not None:
        _over_period(found, given, timing.max_per_period)


def _over_period(found: dict[str, set[MarFlag]], given: Sequence[Account], most: MaxPerPeriod) -> None:
    """Looks back one period from each dose; of an entry with competing accounts the larger amount counts, once."""
    period = time_ms(most.period)
    times = [account.administration.occurred_at for account in given]
    for place, (entry, it) in enumerate(given):
        within = given[bisect_right(times, it.occurred_at - period) : place + 1]
        amounts: dict[str, Decimal | None] = {}
        for other, dose in within:
            amount = _amount(dose, most.quantity) if most.quantity is not None else Decimal(0)
            held = amounts.get(other, Decimal(0))
            amounts[other] = None if amount is None or held is None else max(amount, held)
        known = sum((amount for amount in amounts.values() if amount is not None), Decimal(0))
        if most.doses is not None and len(amounts) > most.doses:
            found[entry].add(MarFlag.OVER_MAXIMUM)
        if most.quantity is not None and known > decimal(most.quantity.value):
            found[entry].add(MarFlag.OVER_MAXIMUM)
        elif None in amounts.values():
            found[entry].add(MarFlag.MAXIMUM_UNCHECKED)


def _amount(administration: Administer, in_unit_of: Quantity) -> Decimal | None:
    """How much was given, in the unit of a maximum; None where nobody said, or said it in another unit."""
    dose = administration.dose
    return decimal(dose.value) if dose is not None and dose.unit == in_unit_of.unit else None


def _after_end(found: dict[str, set[MarFlag]], given: Sequence[Account], register: PrescriptionRegister) -> None:
    since = register.status_at
    if since is None:
        return
    for entry, it in given:
        if it.occurred_at <= since:
            continue
        if register.status in _ENDED:
            found[entry].add(MarFlag.AFTER_STOP)
        elif register.status is PrescriptionStatus.ON_HOLD and not _over(register, it.occurred_at):
            found[entry].add(MarFlag.ON_HOLD)


def _over(register: PrescriptionRegister, at_ms: int) -> bool:
    """Whether a hold had come to its end."""
    return register.hold_until_ms is not None and at_ms >= register.hold_until_ms
