"""What the label of a dispense says of it; how a label looks is in `tests.device.test_label`."""

import pytest

from crdtmed.aggregates.dispensing_event import Dispense
from crdtmed.device.dispensing_label import amount_text


@pytest.mark.parametrize(
    ("quantity", "unit", "text"),
    [
        (21, "{capsule}", "21 capsules"),
        (1, "{tablet}", "1 tablet"),
        (1_000, "[iU]", "1,000 units"),
        (10, "U", "10 units"),
        (250, "ug", "250 mcg"),
        (200, "mL", "200 mL"),
        (1_200, "{lancet}", "1,200 lancet"),
    ],
)
def test_the_amount_is_written_so_that_nobody_misreads_it(quantity: int, unit: str, text: str) -> None:
    assert amount_text(Dispense("rx-1", "p-1", "item", "L1", quantity, unit, True, 0)) == text
