"""A question as FHIR R4 resources, for services that speak CDS Hooks; pure."""

from typing import Any

from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.patient import PatientRegister
from crdtmed.aggregates.prescription import PrescriptionStatus, SignedGroups
from crdtmed.aggregates.prescription_draft import Dose, Duration, Timing
from relay.admission.facts import KnowledgeQuestion

UCUM = "http://unitsofmeasure.org"
SNOMED = "http://snomed.info/sct"
FORMULARY = "urn:crdtmed:formulary"
ALLERGY = "urn:crdtmed:allergy"

Json = dict[str, Any]
"""JSON as `json` knows it; what is inside is FHIR's business, not the type checker's."""


class ExactNumber(str):
    """A canonical decimal that is to be written as a JSON number, digit for digit."""


def _quantity(quantity: Quantity) -> Json:
    return {
        "value": ExactNumber(quantity.value),
        "unit": quantity.unit,
        "system": UCUM,
        "code": quantity.unit,
    }


def _dose(dose: Dose) -> Json:
    if dose.range is not None:
        return {"doseRange": {"low": _quantity(dose.range.low), "high": _quantity(dose.range.high)}}
    return {"doseQuantity": _quantity(dose.quantity)} if dose.quantity is not None else {}


def _repeat(timing: Timing, duration: Duration | None) -> Json:
    parts: Json = {
        "frequency": timing.frequency,
        "period": ExactNumber(timing.period) if timing.period is not None else None,
        "periodUnit": timing.period_unit,
        "count": timing.count,
        "timeOfDay": [f"{time}:00" for time in timing.times] or None,
        "boundsDuration": _quantity(Quantity(duration.value, duration.unit)) if duration is not None else None,
    }
    return {name: value for name, value in parts.items() if value is not None}


def _as_needed(timing: Timing) -> Json:
    if timing.as_needed_reason is not None:
        return {"asNeededCodeableConcept": {"text": timing.as_needed_reason}}
    return {"asNeededBoolean": timing.as_needed}


def _limits(timing: Timing) -> Json:
    """What bounds a dose taken as needed.  FHIR R4 has no word for the shortest time between two doses: it is the
    period in which there may be one."""
    found: Json = {}
    if timing.max_dose is not None:
        found["maxDosePerAdministration"] = _quantity(timing.max_dose)
    limit = timing.max_per_period
    if limit is not None:
        most = limit.quantity or Quantity(str(limit.doses), "{dose}")
        found["maxDosePerPeriod"] = {"numerator": _quantity(most), "denominator": _quantity(limit.period)}
    elif timing.min_interval is not None:
        once = Quantity("1", "{dose}")
        found["maxDosePerPeriod"] = {"numerator": _quantity(once), "denominator": _quantity(timing.min_interval)}
    return found


def medication_request(
    prescription: str, patient: str, groups: SignedGroups, status: str, authored_by: str | None
) -> Json:
    """One MedicationRequest: ``status`` ``draft`` for the order asked about, else the prescription's."""
    dosage: Json = {
        "route": {"coding": [{"system": SNOMED, "code": groups.route.code, "display": groups.route.display}]},
        **_as_needed(groups.timing),
        **_limits(groups.timing),
        "doseAndRate": [_dose(groups.dose)],
    }
    repeat = _repeat(groups.timing, groups.duration)
    if repeat:
        dosage["timing"] = {"repeat": repeat}
    if groups.instructions is not None:
        dosage["patientInstruction"] = groups.instructions.text
    medicine = groups.medication
    request: Json = {
        "resourceType": "MedicationRequest",
        "id": prescription,
        "status": status,
        "intent": "order",
        "subject": {"reference": f"Patient/{patient}"},
        "medicationCodeableConcept": {
            "coding": [{"system": FORMULARY, "code": medicine.code, "display": medicine.display}],
            "text": medicine.display,
        },
        "dosageInstruction": [dosage],
        "dispenseRequest": {
            "quantity": _quantity(Quantity(str(groups.supply.quantity), groups.supply.unit)),
            "numberOfRepeatsAllowed": groups.supply.repeats,
        },
    }
    if groups.indication is not None:
        request["reasonCode"] = [{"text": groups.indication.text}]
    if authored_by is not None:
        request["requester"] = {"display": authored_by}
    return request


def patient_resource(register: PatientRegister) -> Json:
    """The Patient, with the identifiers and the birth date that the record has."""
    return {
        "resourceType": "Patient",
        "id": register.id,
        "identifier": [{"system": one.system, "value": one.value} for one in register.identifiers],
        "name": [{"text": register.name}],
        "birthDate": register.birth_date,
    }


def allergies_bundle(register: PatientRegister) -> Json | None:
    """The AllergyIntolerances, an empty bundle for none known; None where nobody recorded any answer."""
    if register.allergies is None:
        return None
    return bundle(
        [
            {
                "resourceType": "AllergyIntolerance",
                "id": f"{register.id}-{place}",
                "patient": {"reference": f"Patient/{register.id}"},
                "code": {"coding": [{"system": ALLERGY, "code": one.code, "display": one.display}]},
                **({"reaction": [{"manifestation": [{"text": one.reaction}]}]} if one.reaction is not None else {}),
            }
            for place, one in enumerate(register.allergies)
        ]
    )


def bundle(resources: list[Json]) -> Json:
    """A collection of resources."""
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": one} for one in resources],
    }


_STATUS = {PrescriptionStatus.ACTIVE: "active", PrescriptionStatus.ON_HOLD: "on-hold"}


def active_bundle(question: KnowledgeQuestion) -> Json:
    """The patient's other prescriptions in force."""
    return bundle(
        [
            medication_request(one.id, one.patient, one.groups, _STATUS[one.status], one.prescriber)
            for one in question.active
            if one.status in _STATUS
        ]
    )


def draft_bundle(question: KnowledgeQuestion) -> Json:
    """The order asked about, as the hook's ``draftOrders``."""
    return bundle([medication_request(question.prescription, question.patient.id, question.order, "draft", None)])
