"""State vectors: how far a document is, as pairs of a client and the clock behind its last value."""

from collections.abc import Mapping

from crdtmed.limits import MAX_CLIENT_ID, MAX_CLIENTS_PER_DOCUMENT, MAX_CLOCK
from crdtmed.updates.lib0 import Malformed, read_uint, write_uint


def read_state_vector(data: bytes) -> dict[int, int]:
    """The state vector in ``data``, in the encoding of Yjs (v1): a count, then pairs of client and clock.

    Clients come in any order, each once and with a clock above zero.  Raises `Malformed` and nothing else.
    """
    try:
        count, at = read_uint(data, 0, MAX_CLIENTS_PER_DOCUMENT)
        out: dict[int, int] = {}
        for _ in range(count):
            client_at = at
            client, at = read_uint(data, at, MAX_CLIENT_ID)
            if client in out:
                raise Malformed("duplicate_client", client_at)
            clock_at = at
            clock, at = read_uint(data, at, MAX_CLOCK)
            if clock == 0:
                raise Malformed("empty", clock_at)
            out[client] = clock
    except IndexError:
        raise Malformed("truncated", len(data)) from None
    if at != len(data):
        raise Malformed("trailing_bytes", at)
    return out


def write_state_vector(clocks: Mapping[int, int]) -> bytes:
    """The encoding of ``clocks`` that `read_state_vector` reads, clients descending.

    A client at clock zero is left out, for it says nothing.  Raises `ValueError` beyond the limits of the
    reader.
    """
    pairs = sorted(((client, clock) for client, clock in clocks.items() if clock != 0), reverse=True)
    if len(pairs) > MAX_CLIENTS_PER_DOCUMENT:
        raise ValueError(f"{len(pairs)} clients in one document: at most {MAX_CLIENTS_PER_DOCUMENT} are allowed")
    parts = [write_uint(len(pairs))]
    for client, clock in pairs:
        if not (0 <= client <= MAX_CLIENT_ID and 0 < clock <= MAX_CLOCK):
            raise ValueError(f"client {client} at clock {clock}: outside 0..{MAX_CLIENT_ID} and 0..{MAX_CLOCK}")
        parts.append(write_uint(client))
        parts.append(write_uint(clock))
    return b"".join(parts)
