"""The one port to a knowledge base."""

from typing import Protocol

from relay.admission.facts import KnowledgeAnswer, KnowledgeQuestion


class KnowledgeBase(Protocol):
    """Something that judges an order.

    It never raises: down, slow or talking nonsense is an answer whose ``unavailable`` says so.  Nothing waits for it
    but the statement that asked.
    """

    async def ask(self, question: KnowledgeQuestion) -> KnowledgeAnswer:
        """The cards on this order, within `crdtmed.limits.KNOWLEDGE_TIMEOUT_MS`."""

    @property
    def snapshot(self) -> str | None:
        """The name of the snapshot that answers now, None before there is one."""
