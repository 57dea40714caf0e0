"""The contract's tables as Markdown, for documents that must not drift from the code."""

from collections.abc import Iterable, Sequence

from crdtmed.contract import CAPABILITIES, CONFLICT_RULES, KINDS, POLICIES, Offline

_OFFLINE = {
    Offline.CACHED: "yes, cached",
    Offline.QUEUED: "yes, queued",
    Offline.NEEDS_RELAY: "no: needs the relay",
}


def policies_table() -> str:
    """Each aggregate with its policy and the kinds of statement that are about it."""
    return _table(
        ("aggregate", "policy", "statements"),
        (
            (
                aggregate.value,
                f"`{policy.value}`",
                ", ".join(f"`{kind.label}`" for kind, rule in KINDS.items() if rule.aggregate is aggregate)
                or "none: read-only",
            )
            for aggregate, policy in POLICIES.items()
        ),
    )


def gates_table() -> str:
    """Each capability with the roles that have it, and whether it works without the relay."""
    return _table(
        ("what", "who", "without network", "why"),
        (
            (
                ", ".join(f"`{kind.label}`" for kind in row.kinds) or f"`{row.name}`",
                ", ".join(sorted(role.value for role in row.roles)) or row.why,
                _OFFLINE[row.offline],
                row.why if row.roles else "",
            )
            for row in CAPABILITIES
        ),
    )


def conflicts_table() -> str:
    """The contract's rules for conflicts, with what a person may choose."""
    return _table(
        ("when", "outcome", "a person chooses among"),
        ((rule.when, rule.outcome, ", ".join(f"`{action}`" for action in rule.actions)) for rule in CONFLICT_RULES),
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
