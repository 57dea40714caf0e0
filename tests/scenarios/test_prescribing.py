"""Signing with cards and an override, stopping, holding, and what the relay does when its knowledge base is away."""

from pathlib import Path

import pytest

from crdtmed.aggregates.alert_override_record import OverrideReason, open_cards
from crdtmed.aggregates.conflict import Action
from crdtmed.device.engine_types import DeviceError, NeedsRelay, NotAllowed, State
from relay.knowledge.embedded import EmbeddedKnowledge
from relay.operator.loading import KNOWLEDGE_FILE
from tests.scenarios.hospital import PARACETAMOL, Hospital, mg, ordered, play, signed, told


def test_a_critical_card_stops_the_signature_until_it_is_overridden(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("tablet", "ana", patients=["p2"])
        draft = await ordered(ana, "p2")
        it.name(draft.prescription, "rx")
        await it.settled("ana", "signs amoxicillin for a patient with penicillin allergy", ana.sign(draft))
        await it.synced()
        alerts = (await ana.patient("p2")).alerts[draft.prescription]
        (card,) = open_cards(alerts)
        it.line(f"the card says: {card.summary}")
        with pytest.raises(DeviceError, match="alert_unknown"):
            await ana.override("p2", draft.prescription, "none", OverrideReason.WILL_MONITOR)
        reason = OverrideReason.TOLERATED_BEFORE
        await it.settled("ana", "overrides it", ana.override("p2", draft.prescription, card.id, reason))
        await it.settled("ana", "signs again", ana.sign(draft))
        await it.synced()
        view = await ana.patient("p2")
        (prescription,) = view.prescriptions
        assert len(prescription.register.overrides) == 1
        it.line(f"the prescription is {prescription.status} under {prescription.register.snapshot}, with its override")
        told(
            """
            ana signs amoxicillin for a patient with penicillin allergy: refused (alerts_open)
            the card says: allergy to penicillin
            ana overrides it: accepted
            ana signs again: accepted
            the prescription is active under 2026-11, with its override
            """,
            it,
        )

    play(tmp_path, story)


def test_what_needs_the_relay_is_not_queued_and_what_must_not_wait_does_not(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("tablet", "ana", patients=["p1"])
        ben = await it.device("tablet-2", "ben", patients=["p1"])
        rx = await signed(it, ana, "p1")
        draft = await ordered(ana, "p1", medication=PARACETAMOL, units=20, unit="{tablet}")
        await it.synced()
        await ana.disconnect()
        with pytest.raises(NeedsRelay):
            await ana.sign(draft)
        with pytest.raises(NeedsRelay):
            await ana.resume("p1", rx, "why not")
        assert not ana.outbox(), "nothing of it was queued"
        stopped = await it.queued("ana, offline,", "stops it", ana.stop("p1", rx, "rash"))
        it.line(f"her tablet shows it {(await ana.patient('p1')).prescription(rx).status}")  # type: ignore[union-attr]  # it is there once this is reached
        await it.settled("ben", "holds it meanwhile", ben.hold_prescription("p1", rx, "surgery"))
        await ana.connect()
        await stopped.settled()
        await it.synced()
        found = (await ben.patient("p1")).prescription(rx)
        assert found is not None
        it.line(f"ben sees it {found.status}, because of: {found.register.status_reason}")
        await it.settled("ben", "resumes it", ben.resume("p1", rx, "surgery is over"))
        told(
            """
            ana, offline, stops it: pending
            her tablet shows it active, stop pending
            ben holds it meanwhile: accepted
            ben sees it stopped, because of: rash
            ben resumes it: conflict (prescription_status), discard
            """,
            it,
        )

    play(tmp_path, story)


def test_without_a_knowledge_base_nothing_is_signed_and_everything_else_goes_on(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("tablet", "ana", patients=["p1"])
        rx = await signed(it, ana, "p1")
        (it.settings.folder / KNOWLEDGE_FILE).unlink()
        assert it.service is not None
        assert isinstance(it.service.knowledge, EmbeddedKnowledge)
        draft = await ordered(ana, "p1", medication=PARACETAMOL, units=20, unit="{tablet}")
        await it.settled("ana", "signs paracetamol", ana.sign(draft))
        await it.settled("ana", "stops the first", ana.stop("p1", rx, "done"))
        told(
            """
            ana signs paracetamol: refused (knowledge_unavailable)
            ana stops the first: accepted
            """,
            it,
        )

    play(tmp_path, story)


def test_roles_and_sites_are_checked_before_anything_is_queued(tmp_path: Path) -> None:
    async def story(it: Hospital) -> None:
        nia = await it.device("tablet", "nia", patients=["p1"])
        for what, doing in (
            ("drafts", nia.draft("p1").set(dose=mg("5"))),
            ("stops", nia.stop("p1", "aaaaaaaaaaaaaaaa", "no")),
            ("dispenses", nia.dispense("p1", "rx", lot="A1", quantity=1, site="pharm", item="amox-500")),
            ("adjusts", nia.adjust("pharm", "amox-500", "A1", -1, reason="lost")),  # type: ignore[arg-type]  # it is there once this is reached
        ):
            with pytest.raises(DeviceError) as caught:
                await doing
            it.line(f"nia {what}: {caught.value.code}")
        nia.sign_out()
        with pytest.raises(NotAllowed, match="not_signed_in"):
            await nia.open_reconciliation("p1")
        assert not nia.outbox()
        told(
            """
            nia drafts: role_missing
            nia stops: not_held
            nia dispenses: role_missing
            nia adjusts: site_not_granted
            """,
            it,
        )

    play(tmp_path, story)


@pytest.mark.parametrize("word", ["stop", "hold"])
def test_a_stop_carried_out_on_the_amendment_is_shown_there_while_it_waits(tmp_path: Path, word: str) -> None:
    async def story(it: Hospital) -> None:
        ana = await it.device("tablet-1", "ana", patients=["p1"])
        ben = await it.device("tablet-2", "ben", patients=["p1"])
        old = await signed(it, ana, "p1")
        await ben.disconnect()
        ask = ben.stop if word == "stop" else ben.hold_prescription
        asked = await ask("p1", old, "a rash")
        draft = await ana.start_amendment("p1", old)
        await draft.set(dose=mg("250"))
        amending = await ana.amend(draft, old, "less will do")
        assert await amending.settled() is State.ACCEPTED
        await ben.connect()
        assert await asked.settled() is State.CONFLICT
        await it.synced()
        (entry,) = await ben.inbox()
        await ben.disconnect()
        resolving = await ben.resolve(entry, Action.STOP_SUCCESSOR)
        view = await ben.patient("p1")
        shown = {one.register.id: one.status for one in view.prescriptions}
        assert shown == {old: "superseded", draft.prescription: f"active, {word} pending"}
        (pending,) = view.prescription(draft.prescription).waiting  # type: ignore[union-attr]  # it was shown just now
        assert pending.ref == resolving.ref
        await ben.connect()
        assert await resolving.settled() is State.ACCEPTED
        await it.synced()
        shown = {one.register.id: one.status for one in (await ben.patient("p1")).prescriptions}
        assert shown == {old: "superseded", draft.prescription: "stopped" if word == "stop" else "on-hold"}

    play(tmp_path, story)
