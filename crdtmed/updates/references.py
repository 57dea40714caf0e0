"""Whether what an update refers to exists, and in an order in which it can be applied."""

from collections.abc import Mapping
from heapq import heappop, heappush
from typing import TypeAlias

from crdtmed.updates.lib0 import Malformed

Spans: TypeAlias = Mapping[int, tuple[int, int]]
"""Of each client in the update, its first clock and the clock behind its last."""
Link: TypeAlias = tuple[int, int, int, int, int]
"""The item (client, clock) comes after the item (client, clock) of another client; said at this byte."""
Deleted: TypeAlias = tuple[int, int, int, int]
"""Deleted clocks: client, first clock, length; said at this byte."""


def check_references(spans: Spans, links: list[Link], known: Mapping[int, int] | None) -> None:
    """Raises `Malformed` where a link leads nowhere (``dangling_origin``) or round in a circle (``cycle``).

    Without ``known`` a link out of the update is taken to be known.  Links come in the order of the update.
    """
    inner: dict[int, list[Link]] = {}
    for link in links:
        client, _, origin_client, origin_clock, at = link
        if known is not None and origin_clock < known.get(origin_client, 0):
            continue
        span = spans.get(origin_client)
        if span is not None and span[0] <= origin_clock < span[1]:
            inner.setdefault(client, []).append(link)
        elif known is not None:
            raise Malformed("dangling_origin", at)
    _check_no_cycle(inner)


def check_deletes(spans: Spans, deletes: list[Deleted], known: Mapping[int, int] | None) -> None:
    """Raises `Malformed` (``dangling_delete``) where a clock is deleted that is neither known nor in the
    update.
    """
    if known is None:
        return
    for client, clock, length, at in deletes:
        end = max(known.get(client, 0), spans[client][1] if client in spans else 0)
        if clock + length > end:
            raise Malformed("dangling_delete", at)


def _check_no_cycle(inner: Mapping[int, list[Link]]) -> None:
    """Applies the items in thought: each client goes on until one of its items waits for another client's."""
    done: dict[int, int] = dict.fromkeys(inner, 0)  # links of each client whose items are applied
    waiting: dict[int, list[tuple[int, int]]] = {}  # client waited for → heap of (clock waited for, client that waits)
    ready = list(inner)
    while ready:
        client = ready.pop()
        links = inner[client]
        index = done[client]
        while index < len(links):
            _, _, origin_client, origin_clock, _ = links[index]
            blocking = inner.get(origin_client)
            at = done.get(origin_client, 0)
            if blocking is not None and at < len(blocking) and blocking[at][1] <= origin_clock:
                heappush(waiting.setdefault(origin_client, []), (origin_clock, client))
                break
            index += 1
        done[client] = index
        heap = waiting.get(client)
        while heap and (index == len(links) or heap[0][0] < links[index][1]):
            ready.append(heappop(heap)[1])
    for client, links in inner.items():
        if done[client] < len(links):
            raise Malformed("cycle", links[done[client]][4])
