"""Overrides of alerts: of an alert that this relay raised on this very draft, under the snapshot in force."""

from msgspec import structs

from crdtmed.aggregates.alert_override_record import AlertsRegister, Override
from crdtmed.aggregates.prescription import PrescriptionStatus
from crdtmed.reasons import AlertUnknown, Reason, SnapshotNotInForce
from relay.admission import claim
from relay.admission.conflicts import prescription, turned_down
from relay.admission.effects import Decision, Put, accept
from relay.admission.facts import FactsPort, Submission


def override(port: FactsPort, submission: Submission) -> Decision:
    """Judges an override; admitted, it stands in the log, and beside the alert for the next signature."""
    said, patient = submission.content, claim.scope_id(submission.statement.document, "patient")
    assert isinstance(said, Override), "the gates let nothing else through"
    assert patient is not None, "the gates let nothing else through"
    home = f"patient/{patient}"
    found = port.register(home, f"alerts/{said.prescription}")
    alerts = found if isinstance(found, AlertsRegister) else None
    reason = _snapshot(port, said, alerts) or _alert_unknown(port, patient, said, alerts)
    if reason is not None:
        return turned_down(port, submission, reason)
    if alerts is None or said.alert in {alert for alert, _ in alerts.overridden}:
        return accept()
    given = (*alerts.overridden, (said.alert, submission.ref))
    return accept(Put(home, structs.replace(alerts, overridden=given)))


def _snapshot(port: FactsPort, said: Override, alerts: AlertsRegister | None) -> Reason | None:
    """The snapshot named is in force, and the one that raised the alert."""
    now = port.snapshot_in_force()
    raised = alerts.snapshot if alerts is not None and alerts.digest == said.digest else now
    return None if said.snapshot == now == raised else SnapshotNotInForce(now or "")


def _alert_unknown(port: FactsPort, patient: str, said: Override, alerts: AlertsRegister | None) -> Reason | None:
    """The relay raised it on this digest, and there is still something to sign or to resume."""
    register = prescription(port, patient, said.prescription)
    waits = register is None or register.status is PrescriptionStatus.ON_HOLD
    raised = alerts is not None and alerts.digest == said.digest and said.alert in {card.id for card in alerts.cards}
    return None if waits and raised else AlertUnknown(said.alert)
