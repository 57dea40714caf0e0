"""Questions for a knowledge base: an order of one medicine for a patient who may have others."""

from typing import Any

from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.medication import MedicationRegister
from crdtmed.aggregates.patient import Allergy, Identifier, PatientRegister
from crdtmed.aggregates.prescription import PrescriptionRegister, PrescriptionStatus, SignedGroups
from crdtmed.aggregates.prescription_draft import Dose, Medication, Route, Supply, Timing
from relay.admission.facts import KnowledgeQuestion

DAILY = Timing(frequency=1, period="1", period_unit="d")
REF = "aaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaa"

FORMULARY = {
    each.code: each
    for each in (
        MedicationRegister("warf-5", "Warfarin 5 mg", "{tablet}", 1, ingredients=("warfarin",)),
        MedicationRegister("aspi-100", "Aspirin 100 mg", "{tablet}", 1, ingredients=("aspirin",), classes=("nsaid",)),
        MedicationRegister("ibup-400", "Ibuprofen", "{tablet}", 1, ingredients=("ibuprofen",), classes=("nsaid",)),
        MedicationRegister("para-500", "Paracetamol 500 mg", "{tablet}", 1, ingredients=("paracetamol",)),
        MedicationRegister("para-syr", "Paracetamol syrup", "mL", 1, ingredients=("paracetamol",)),
        MedicationRegister("para-cod", "Co-codamol", "{tablet}", 1, ingredients=("codeine", "paracetamol")),
        MedicationRegister("amox-500", "Amoxicillin", "{capsule}", 1, ingredients=("amoxicillin",)),
        MedicationRegister("mystery", "Mystery drops", "mL", 1),
    )
}  # fmt: skip


def order(
    code: str = "para-500", value: str = "500", unit: str = "mg", timing: Timing = DAILY, **more: Any
) -> SignedGroups:
    """A signed order; ``more`` are other groups of it."""
    held = FORMULARY.get(code)
    groups: dict[str, Any] = {
        "medication": Medication(code, held.display if held else "Something", None, None),
        "dose": Dose(Quantity(value, unit)),
        "route": Route("26643006", "Oral"),
        "timing": timing,
        "supply": Supply(21, "{tablet}", 0, "pharm"),
    }
    return SignedGroups(**(groups | more))


def in_force(
    prescription: str, groups: SignedGroups, status: PrescriptionStatus = PrescriptionStatus.ACTIVE
) -> PrescriptionRegister:
    """Another prescription of the patient."""
    return PrescriptionRegister(
        prescription, "p1", status, groups, "ana", REF, 1_780_000_000_000, "s1", 21, "{tablet}", "pharm"
    )


def question(
    groups: SignedGroups,
    *active: PrescriptionRegister,
    allergies: tuple[Allergy, ...] | None = (),
    name: str = "Maria Muster",
) -> KnowledgeQuestion:
    """What the relay asks when somebody signs ``groups``."""
    patient = PatientRegister(
        "p1", (Identifier("urn:mrn", "100001"),), name, "1950-03-01", ("ward",), 1, allergies
    )  # fmt: skip
    codes = {groups.medication.code, *(each.groups.medication.code for each in active)}
    medicines = {code: FORMULARY[code] for code in codes if code in FORMULARY}
    return KnowledgeQuestion(patient, 7, "rx1", b"d" * 32, groups, active, medicines)
