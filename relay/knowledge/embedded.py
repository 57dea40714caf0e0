"""The embedded knowledge base: the rules of one snapshot, evaluated in the process."""

from collections.abc import Callable

from relay.admission.facts import KnowledgeAnswer, KnowledgeQuestion
from relay.knowledge.rules import evaluate
from relay.knowledge.snapshot import Snapshot


class EmbeddedKnowledge:
    """A `relay.knowledge.port.KnowledgeBase` over the snapshot in force, handed in at each question."""

    def __init__(self, current: Callable[[], Snapshot | None]) -> None:
        self._current = current

    @property
    def snapshot(self) -> str | None:
        found = self._current()
        return found.snapshot if found else None

    async def ask(self, question: KnowledgeQuestion) -> KnowledgeAnswer:
        return answer(self._current(), question)


def answer(snapshot: Snapshot | None, question: KnowledgeQuestion) -> KnowledgeAnswer:
    """What ``snapshot`` says to ``question``; without a snapshot, that nothing can be said."""
    if snapshot is None:
        says = "no knowledge-base snapshot is in force: the operator has to load one"
        return KnowledgeAnswer(question.position, question.digest, "", unavailable=says)
    cards = evaluate(snapshot, question)
    return KnowledgeAnswer(question.position, question.digest, snapshot.snapshot, cards)
