"""An order's dosage as text, by ISMP's rules (`crdtmed.dose_text`), from the typed groups."""

from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.prescription import SignedGroups
from crdtmed.aggregates.prescription_draft import Dose, Duration, Route, Timing
from crdtmed.dose_text import Amount, sig_text


def directions(groups: SignedGroups) -> str:
    """What a signed order says to do, in one sentence: *Take 5 mg by mouth 2 times a day*.

    Instructions to the patient are a text of their own and not in it.  Raises `ValueError` naming a unit or number
    that has no safe text.
    """
    return dosage_text(groups.dose, groups.route, groups.timing, groups.duration)


def dosage_text(dose: Dose, route: Route, timing: Timing, duration: Duration | None = None) -> str:
    """As `directions`, from single groups, so that a draft can be shown too."""
    low = dose.quantity if dose.range is None else dose.range.low
    if low is None:
        raise ValueError("the dose has neither quantity nor range; write one of them")
    most = timing.max_per_period
    return sig_text(
        dose=Amount(low.value, low.unit),
        dose_high=_amount(dose.range.high) if dose.range is not None else None,
        route=route.code,
        route_display=route.display,
        frequency=timing.frequency,
        period=timing.period,
        period_unit=timing.period_unit,
        times=timing.times,
        count=timing.count,
        as_needed=timing.as_needed,
        as_needed_reason=timing.as_needed_reason,
        max_dose=_amount(timing.max_dose),
        max_doses=most.doses if most is not None else None,
        max_quantity=_amount(most.quantity) if most is not None else None,
        max_period=_amount(most.period) if most is not None else None,
        min_interval=_amount(timing.min_interval),
        duration=Amount(duration.value, duration.unit) if duration is not None else None,
    )


def _amount(quantity: Quantity | None) -> Amount | None:
    return Amount(quantity.value, quantity.unit) if quantity is not None else None
