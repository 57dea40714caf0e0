"""A ward out of a seed: beds, patients, medicines and orders; the same seed gives the same ward.

Names are made of parts and belong to nobody.  Doses are plausible for the medicines named, so that the knowledge base
has something to say; nothing here is advice.
"""

import random
from types import MappingProxyType
from typing import Final

from crdtmed.aggregates.elements import Quantity
from crdtmed.aggregates.medication import MedicationRegister, Pack
from crdtmed.aggregates.patient import Allergy, Identifier, PatientRegister
from crdtmed.aggregates.prescription_draft import Dose, Duration, Group, GroupValue, Medication, Route, Supply, Timing
from crdtmed.ward.plan import PHARMACY, WARD, Plan, Source
from crdtmed.ward.reading import Order

FIRST: Final = (
    "Ada",
    "Bo",
    "Cleo",
    "Dag",
    "Edda",
    "Finn",
    "Greta",
    "Hauke",
    "Ilse",
    "Jun",
    "Kaya",
    "Leo",
    "Mara",
    "Nils",
)
LAST: Final = (
    "Alder",
    "Birch",
    "Cedar",
    "Dogwood",
    "Elm",
    "Fir",
    "Ginkgo",
    "Hazel",
    "Ivy",
    "Juniper",
    "Larch",
    "Maple",
)
ORAL: Final = Route("26643006", "Oral")

_MEDICINES: Final = (
    ("para-500", "Paracetamol 500 mg tablet", "paracetamol", "", "500", 1000, 3),
    ("amox-500", "Amoxicillin 500 mg tablet", "amoxicillin", "penicillins", "500", 500, 3),
    ("warf-5", "Warfarin 5 mg tablet", "warfarin", "anticoagulants", "5", 5, 1),
    ("asa-100", "Aspirin 100 mg tablet", "aspirin", "nsaids", "100", 100, 1),
    ("metf-850", "Metformin 850 mg tablet", "metformin", "", "850", 850, 2),
    ("bisop-5", "Bisoprolol 5 mg tablet", "bisoprolol", "beta-blockers", "5", 5, 1),
    ("panto-40", "Pantoprazole 40 mg tablet", "pantoprazole", "proton-pump-inhibitors", "40", 40, 1),
    ("ibu-400", "Ibuprofen 400 mg tablet", "ibuprofen", "nsaids", "400", 400, 3),
)
"""Code, name, ingredient, class, strength in mg, usual dose in mg, times a day."""

KNOWLEDGE: Final = {
    "format": "crdtmed-knowledge/1",
    "snapshot": "exercise-1",
    "source": "rules of the exercise",
    "interactions": [
        {
            "between": ["warfarin", "aspirin"],
            "severity": "critical",
            "summary": "Warfarin with aspirin: risk of bleeding",
        },
        {
            "between": ["warfarin", "ibuprofen"],
            "severity": "critical",
            "summary": "Warfarin with ibuprofen: risk of bleeding",
        },
    ],
    "allergy_classes": [
        {
            "allergy": "penicillin",
            "ingredients": ["amoxicillin"],
            "classes": ["penicillins"],
            "severity": "critical",
            "summary": "Allergy to penicillin is recorded",
        }
    ],
    "duplicate_classes": [{"class": "nsaids", "severity": "warning", "summary": "Two anti-inflammatory medicines"}],
    "dose_ceilings": [
        {
            "ingredient": "paracetamol",
            "per_day": {"value": "4", "unit": "g"},
            "severity": "critical",
            "summary": "More than 4 g of paracetamol in a day",
        }
    ],
}
"""The snapshot of rules that a day is played under."""


def medicines() -> tuple[MedicationRegister, ...]:
    """The formulary of the generated ward; each has one pack, under a GTIN of its own."""
    return tuple(
        MedicationRegister(
            code=code,
            display=display,
            counting_unit="{tablet}",
            version=1,
            form="tablet",
            strength=f"{strength} mg",
            ingredients=(ingredient,),
            classes=(class_,) if class_ else (),
            packs=(Pack(_gtin(place), 20),),
        )
        for place, (code, display, ingredient, class_, strength, _, _) in enumerate(_MEDICINES)
    )


def _gtin(place: int) -> str:
    """A GTIN-14 with its check digit, in a range that is kept for examples (GS1 prefix 952)."""
    body = f"0952000000{place:03d}"
    total = sum(int(digit) * (3 if at % 2 == 0 else 1) for at, digit in enumerate(body))
    return body + str(-total % 10)


def generate(seed: int, beds: int) -> Plan:
    """A ward of so many beds, all taken, each with two or three orders."""
    rng = random.Random(seed)  # noqa: S311  # a ward out of a seed, no secret
    patients, orders = [], list[Order]()
    for bed in range(1, beds + 1):
        number = f"{seed % 1000:03d}{bed:04d}"
        allergies = rng.choice(((), (), (), (Allergy("penicillin", "Penicillin", "rash"),), None))
        patients.append(
            PatientRegister(
                f"bed-{bed}",
                (Identifier("urn:exercise:mrn", number),),
                f"{rng.choice(FIRST)} {rng.choice(LAST)}",
                f"{rng.randint(1930, 2005)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
                (WARD, PHARMACY),
                1,
                allergies,
            )
        )
        safe = [each for each in _MEDICINES if each[0] not in ("warf-5", "asa-100", "ibu-400", "amox-500")]
        for code, display, _, _, strength, milligrams, times in rng.sample(safe, rng.randint(2, 3)):
            orders.append(_order(len(orders) + 1, f"bed-{bed}", code, display, strength, milligrams, times, rng))
    stock = {code: 40 * beds for code, *_ in _MEDICINES}
    source = Source("generated ward", len(orders), len(orders), {}, {})
    return Plan((source,), tuple(patients), medicines(), stock, tuple(orders))


def _order(
    number: int, patient: str, code: str, display: str, strength: str, milligrams: int, times: int, rng: random.Random
) -> Order:
    days = rng.choice((3, 5, 7))
    tablets = days * times * (milligrams // int(strength))
    groups: dict[Group, GroupValue] = {
        Group.MEDICATION: Medication(code, display, "tablet", f"{strength} mg"),
        Group.DOSE: Dose(quantity=Quantity(str(milligrams), "mg")),
        Group.ROUTE: ORAL,
        Group.TIMING: Timing(frequency=times, period="1", period_unit="d"),
        Group.DURATION: Duration(str(days), "d"),
        Group.SUPPLY: Supply(tablets, "{tablet}", rng.choice((0, 0, 1)), PHARMACY),
    }
    return Order(number, str(number), patient, MappingProxyType(groups))
