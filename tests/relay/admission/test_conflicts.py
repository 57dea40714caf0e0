"""Where a statement in conflict is kept."""

from crdtmed.verdict import Status
from tests.relay.admission.memory_port import Ward
from tests.relay.admission.stories import dispense, prescribed, stocked


def test_a_document_that_is_full_lists_no_conflict_and_the_operator_is_told_once() -> None:
    ward = Ward()
    prescribed(ward)
    stocked(ward, 5)
    ward.full.add("site/pharmacy")
    for _ in range(2):
        signed, decision = ward.do(dispense(10, out=True))
        assert (decision.status, decision.reason is not None) == (Status.CONFLICT, True)
        conflict = f"conflict/{signed.statement.ref}"
        assert ward.register("site/pharmacy", conflict) is None
        assert ward.register("patient/p-1", conflict) is not None, "the patient's document has room"
    assert [alarm.kind for alarm in ward.alarms] == ["document_full"]
