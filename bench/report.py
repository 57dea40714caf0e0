"""Tables: median with minimum and maximum over the rounds, and ratios of medians."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Runs = Sequence[Mapping[str, Any]]
"""What was measured: ``peer``, ``work``, ``round`` and either ``found`` (metric to number) or ``error``."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: a metric of a workload, what it is called, and the peers that it is compared with."""

    work: str
    metric: str
    says: str


ROWS: Final = (
    Row("w1", "rate_250", "W1 changes/s, 250 in flight"),
    Row("w1", "cpu_250", "W1 server CPU s per 1,000 changes, 250 in flight"),
    Row("w1", "rate_5", "W1 changes/s, 5 in flight"),
    Row("w1", "cpu_5", "W1 server CPU s per 1,000 changes, 5 in flight"),
    Row("w1", "p50_ms", "W1 at 50/s, p50 ms"),
    Row("w1", "p99_ms", "W1 at 50/s, p99 ms"),
    Row("w1", "load_busy_250", "W1 load process, share of its core, 250 in flight"),
    Row("w1", "cpu_50s", "W1 at 50/s, server CPU s per 1,000 changes"),
    Row("w1", "peak_mb", "W1 server peak memory, MB"),
    Row("w1+", "rate_250", "W1 on all cores: changes/s, 250 in flight"),
    Row("w1+", "cpu_250", "W1 on all cores: server CPU s per 1,000 changes, 250 in flight"),
    Row("w1+", "p50_ms", "W1 on all cores: at 50/s, p50 ms"),
    Row("w1+", "p99_ms", "W1 on all cores: at 50/s, p99 ms"),
    Row("w1+", "peak_mb", "W1 on all cores: server peak memory, MB"),
    Row("w2", "durable_ms", "W2 2,000 events: told durable, ms"),
    Row("w2", "second_ms", "W2 2,000 events: second device has all, ms"),
    Row("w2", "cpu", "W2 server CPU s"),
    Row("w2", "load_cpu", "W2 CPU s of both devices"),
    Row("w2+", "second_ms", "W2 on all cores: second device has all, ms"),
    Row("w2+", "cpu", "W2 on all cores: server CPU s"),
    Row("w2+", "main_cpu", "W2 on all cores: CPU s of the server's first process alone"),
    Row("w2c", "second_ms", "W2 with 5 % conflicts: second device has all, ms"),
    Row("w2c", "cpu", "W2 with 5 % conflicts: server CPU s"),
    Row("w3", "usable_ms", "W3 10,000 entries: usable, ms"),
    Row("w3", "verified_ms", "W3 10,000 entries: every author verified, ms"),
    Row("w3", "cpu", "W3 10,000 entries: server CPU s"),
    Row("w3", "load_cpu", "W3 10,000 entries: device CPU s, verification with it"),
    Row("w3b", "usable_ms", "W3 1,000 patients: usable, ms"),
    Row("w3b", "cpu", "W3 1,000 patients: server CPU s"),
    Row("w3b", "load_cpu", "W3 1,000 patients: device CPU s"),
    Row("w1", "up_change", "W4 bytes up per change at 50/s, all clients"),
    Row("w1", "down_change", "W4 bytes down per change and client at 50/s"),
    Row("w1", "down_merged", "W4 bytes down per change and client, 250 in flight"),
    Row("w1", "disk_change", "W4 bytes on disk per small change"),
    Row("w2", "up_event", "W4 bytes up per event of W2"),
    Row("w2", "down_event", "W4 bytes down per event of W2, both devices"),
    Row("w2", "disk_event", "W4 bytes on disk per event of W2"),
    Row("w5", "idle_kb", "W5 memory of an idle device, KB"),
    Row("w5", "idle_cpu_ms", "W5 CPU of an idle device, ms a minute"),
    Row("w5", "back_ms", "W5 1,000 devices back after a restart, ms"),
    Row("w5s", "admit_ratio", "W5 admission, 1 million statements to 10 thousand (CPU)"),
    Row("w5s", "subscribe_ratio", "W5 subscription, 1 million statements to 10 thousand"),
    Row("w5s", "start_ratio", "W5 start-up, 1 million statements to 10 thousand"),
    Row("w6", "commit_ms", "W6 commit of the disk (SQLCipher, FULL), p50 ms"),
    Row("w6", "write_p50_ms", "W6 write to durable and visible, p50 ms"),
    Row("w6", "write_p99_ms", "W6 write to durable and visible, p99 ms"),
    Row("w6", "view_ms", "W6 view of a draft with 20 writers, ms"),
    Row("w6", "view_again_ms", "W6 the same, nothing changed since, ms"),
    Row("w6", "open_ms", "W6 open a store of 50 patients and 10,000 entries, ms"),
    Row("w6", "memory_mb", "W6 memory of that device's process, MB"),
)


@dataclass(frozen=True, slots=True)
class Goal:
    """``ours`` is at most (or at least) ``factor`` times what ``peer`` has, of the same metric where none is named;
    a plain number where there is no peer."""

    says: str
    work: str
    metric: str
    peer: str | None
    factor: float
    at_least: bool = False
    against: str | None = None
    against_work: str | None = None


GOALS: Final = (
    Goal("W1 rate, 250 in flight, of Jazz", "w1", "rate_250", "jazz", 1.0, at_least=True),
    Goal("W1 rate, 250 in flight, of the bare broadcast", "w1", "rate_250", "bare", 0.9, at_least=True),
    Goal("the same on all cores, of Jazz", "w1+", "rate_250", "jazz", 1.0, at_least=True),
    Goal("the same on all cores, of the bare broadcast", "w1+", "rate_250", "bare", 0.9, at_least=True),
    Goal("W1 CPU, 250 in flight, of Jazz", "w1", "cpu_250", "jazz", 1.5),
    Goal("the same on all cores", "w1+", "cpu_250", "jazz", 1.5),
    Goal("W1 CPU, 5 in flight, of Jazz", "w1", "cpu_5", "jazz", 0.4),
    Goal("W1 p50 at 50/s, of the bare broadcast", "w1", "p50_ms", "bare", 3.0),
    Goal("the same on all cores", "w1+", "p50_ms", "bare", 3.0),
    Goal("W1 p50 at 50/s, of Jazz", "w1", "p50_ms", "jazz", 1.0),
    Goal("W1 p99 at 50/s, of Jazz", "w1", "p99_ms", "jazz", 1.0),
    Goal("W2 second device, of Jazz", "w2", "second_ms", "jazz", 1.5),
    Goal("the same on all cores", "w2+", "second_ms", "jazz", 1.5),
    Goal("W2 with conflicts, of without", "w2c", "second_ms", "ours", 1.2, against_work="w2"),
    Goal("W3 entries usable, of Jazz", "w3", "usable_ms", "jazz", 0.5),
    Goal("W3 entries verified, of Jazz usable", "w3", "verified_ms", "jazz", 4.0, against="usable_ms"),
    Goal("W3 documents, of Hocuspocus", "w3b", "usable_ms", "hocuspocus", 0.2),
    Goal("W3 documents, of Jazz", "w3b", "usable_ms", "jazz", 0.5),
    Goal("W4 up per change at 50/s, of Jazz", "w1", "up_change", "jazz", 0.6),
    Goal("W4 down per change at 50/s, of Jazz", "w1", "down_change", "jazz", 0.6),
    Goal("W4 up per event, of Jazz", "w2", "up_event", "jazz", 0.6),
    Goal("W4 down per event, of Jazz", "w2", "down_event", "jazz", 0.6),
    Goal("W4 disk per change, of Jazz", "w1", "disk_change", "jazz", 0.6),
    Goal("W4 disk per event, of Jazz", "w2", "disk_event", "jazz", 0.6),
    Goal("W5 memory of an idle device, KB", "w5", "idle_kb", None, 40.0),
    Goal("W5 1,000 devices back, ms", "w5", "back_ms", None, 10_000.0),
    Goal("W5 admission, 1 million to 10 thousand", "w5s", "admit_ratio", None, 1.3),
    Goal("W5 subscription, 1 million to 10 thousand", "w5s", "subscribe_ratio", None, 1.3),
    Goal("W5 start-up, 1 million to 10 thousand", "w5s", "start_ratio", None, 1.3),
    Goal("W6 write, of a commit", "w6", "write_p50_ms", "ours", 3.0, against="commit_ms"),
    Goal("W6 view of a draft, ms", "w6", "view_ms", None, 1.0),
    Goal("W6 open, ms", "w6", "open_ms", None, 300.0),
)


def values(runs: Runs, peer: str, work: str, metric: str) -> list[float]:
    """What a peer's rounds found."""
    return [
        run["found"][metric]
        for run in runs
        if (run["peer"], run["work"]) == (peer, work) and metric in run.get("found", {})
    ]


def number(value: float) -> str:
    """Three digits that count."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def cell(found: Sequence[float]) -> str:
    """Median (least to most)."""
    if not found:
        return ""
    middle = number(statistics.median(found))
    return middle if len(found) == 1 else f"{middle} ({number(min(found))} to {number(max(found))})"


def table(runs: Runs) -> str:
    """The table of everything that was measured, in Markdown."""
    peers = list(dict.fromkeys(run["peer"] for run in runs))
    others = [peer for peer in peers if peer != "ours"]
    head = ["median (min to max)", *peers, *(f"ours / {peer}" for peer in others)]
    lines = [_line(head), "|---|" + "---:|" * (len(head) - 1)]
    for row in ROWS:
        found = {peer: values(runs, peer, row.work, row.metric) for peer in peers}
        if not any(found.values()):
            continue
        ratios = [_ratio(found.get("ours", []), found[peer]) for peer in others]
        lines.append(_line([row.says, *(cell(found[peer]) for peer in peers), *ratios]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    if not ours or not theirs or not statistics.median(theirs):
        return ""
    return f"{statistics.median(ours) / statistics.median(theirs):.2f}"


def goals(runs: Runs) -> str:
    """Which goals this run met; those that it did not measure are left out."""
    lines = [_line(["goal", "wanted", "found", "met"]), "|---|---:|---:|---|"]
    for goal in GOALS:
        ours = values(runs, "ours", goal.work, goal.metric)
        if goal.peer is None:
            base = 1.0
        else:
            theirs = values(runs, goal.peer, goal.against_work or goal.work, goal.against or goal.metric)
            base = statistics.median(theirs) if theirs else 0.0
        if not ours or not base:
            continue
        found = statistics.median(ours) / base
        met = found >= goal.factor if goal.at_least else found <= goal.factor
        sign = "at least" if goal.at_least else "at most"
        lines.append(_line([goal.says, f"{sign} {number(goal.factor)}", number(found), "yes" if met else "**no**"]))
    return "\n".join(lines)
