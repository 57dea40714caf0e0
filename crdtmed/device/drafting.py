"""Drafting: groups written whole, what else was written at the same time, and confirming it."""

from collections.abc import Iterable
from dataclasses import dataclass

from crdtmed import documents
from crdtmed.aggregates.draft_view import DEPENDS, Drafts, DraftView, confirming, drafts_view
from crdtmed.aggregates.prescription import PrescriptionRegister
from crdtmed.aggregates.prescription_draft import (
    Dose,
    DraftStatus,
    DraftWrite,
    Duration,
    Group,
    GroupValue,
    Indication,
    Instructions,
    Medication,
    Route,
    Substitution,
    Supply,
    Timing,
    group_of,
)
from crdtmed.contract import Kind
from crdtmed.device.desk import Desk, require_care
from crdtmed.device.engine import Said
from crdtmed.device.engine_types import DeviceError, Utterance
from crdtmed.device.patient_view import patient_register
from crdtmed.device.views import kept
from crdtmed.ids import ref

_ORDER = {group: place for place, group in enumerate([Group.MEDICATION, *DEPENDS])}
"""Groups that rest on others are written after them, so that their author has seen what they rest on."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft of one patient, as it is worked on at a desk.  It is a handle: what it says is in `view`."""

    desk: Desk
    patient: str
    prescription: str

    async def exists(self) -> bool:
        """Whether anything was written in it."""
        return await self._view() is not None

    async def view(self) -> DraftView:
        """The draft as it stands: of each group the winner, what is concurrent, what is under review, its history.

        Raises `DeviceError` ``no_draft`` where nothing was written, ``not_held`` where the patient is not held.
        """
        view = await self._view()
        if view is None:
            raise DeviceError(
                "no_draft", f"patient {self.patient} has no draft {self.prescription} here", "write something first"
            )
        return view

    async def set(
        self,
        *,
        medication: Medication | None = None,
        dose: Dose | None = None,
        route: Route | None = None,
        timing: Timing | None = None,
        duration: Duration | None = None,
        supply: Supply | None = None,
        instructions: Instructions | None = None,
        indication: Indication | None = None,
        substitution: Substitution | None = None,
        status: DraftStatus | None = None,
    ) -> tuple[Said, ...]:
        """Writes groups, each whole, in one transaction; groups left out stay as they are (`clear` empties one).

        Raises `NotAllowed`, `crdtmed.aggregates.content.ContentError` naming the field, or `DeviceError`.
        """
        given = (medication, dose, route, timing, duration, supply, instructions, indication, substitution, status)
        values = [value for value in given if value is not None]
        return await self._write(
            [DraftWrite(self.prescription, group_of(value), value) for value in values], await self._view()
        )

    async def write(self, values: Iterable[GroupValue]) -> tuple[Said, ...]:
        """`set` for groups that come as a list."""
        writes = [DraftWrite(self.prescription, group_of(value), value) for value in values]
        return await self._write(writes, await self._view())

    async def clear(self, *groups: Group) -> tuple[Said, ...]:
        """Empties groups."""
        return await self._write([DraftWrite(self.prescription, group) for group in groups], await self._view())

    async def confirm(self, *groups: Group) -> tuple[Said, ...]:
        """Writes groups again as they are shown; named none, every group that waits for it.

        After it nothing of them is concurrent or under review.  Nothing is said where nothing waits.
        """
        view = await self.view()
        writes = confirming(view, groups)
        return await self._write(list(writes), view)

    async def discard(self) -> tuple[Said, ...]:
        """Marks the draft as entered in error: it can never be signed."""
        return await self.set(status=DraftStatus("entered-in-error"))

    async def _view(self) -> DraftView | None:
        engine, head, target = self.desk.engine, documents.patient(self.patient), documents.drafts(self.patient)

        async def make() -> Drafts:
            register, _ = await patient_register(engine, self.patient)
            written = await engine.statements(target)
            return drafts_view((entry.statement for entry in written), register)

        drafts = await kept(engine, f"drafts of {head}", head, {head, target, "directory"}.__contains__, make)
        return drafts.views.get(self.prescription)

    async def _write(self, writes: list[DraftWrite], view: DraftView | None) -> tuple[Said, ...]:
        if not writes:
            return ()
        engine = self.desk.engine
        register, _ = await patient_register(engine, self.patient)
        require_care(self.desk, self.patient, register.care_sites)
        seen = list(view.seen) if view is not None else []
        utterances = []
        for write in sorted(writes, key=lambda it: _ORDER.get(it.group, len(_ORDER))):
            name = engine.new_id()
            target = documents.drafts(self.patient)
            utterances.append(Utterance(Kind.DRAFT_WRITE, target, write, tuple(seen), name))
            seen.append(ref(engine.core.ports.device, name))
        return await engine.say_together(utterances)


def draft(desk: Desk, patient: str, prescription: str | None = None) -> Draft:
    """The draft ``prescription`` of a patient; a new one where None.  Nothing is written yet."""
    return Draft(desk, patient, prescription if prescription is not None else desk.engine.new_id())


async def start_amendment(desk: Desk, patient: str, prior: str) -> Draft:
    """A new draft with everything that the signed prescription ``prior`` says, to be changed and signed by `amend`."""
    _, registers = await patient_register(desk.engine, patient)
    register = registers.values.get(f"prescription/{prior}")
    if not isinstance(register, PrescriptionRegister):
        raise DeviceError("not_held", f"patient {patient} has no signed prescription {prior} here", "hold the patient")
    of = register.groups
    values: list[GroupValue | None] = [
        *(of.medication, of.dose, of.route, of.timing, of.supply),
        *(of.duration, of.instructions, of.indication, of.substitution),
    ]
    new = draft(desk, patient)
    await new.write(value for value in values if value is not None)
    return new
