"""Whole messages of a client, read straight off the line (RFC 6455, 5.2).

Nearly all that devices send are binary messages of one frame, which need none of what the library behind
`relay.socket` keeps for a frame: this reads them, and hands it everything else untouched.
"""

from dataclasses import dataclass
from typing import Final

from websockets.frames import apply_mask  # type: ignore[attr-defined]  # there it is the one in C, where there is one

_BINARY: Final = 0x82
"""A final frame of binary data, without extensions."""
_MASKED: Final = 0x80
_LONGEST_HEAD: Final = 14


@dataclass(slots=True)
class Messages:
    """Where a line stands between frames; payloads of more than ``most`` bytes are left to the library, which refuses
    them.

    ``owed`` is how much of a frame that the library has begun is still to come; ``held`` is a head that was cut off.
    """

    most: int
    owed: int = 0
    held: bytes = b""

    def take(self, data: bytes, whole: bool) -> tuple[list[bytes], bytes]:
        """The messages at the front of what came, and the rest, which is the library's.

        ``whole``: no message of several frames is under way, in which the next one would be out of place.
        """
        if self.held:
            data, self.held = self.held + data, b""
        taken: list[bytes] = []
        at = 0
        while whole and not self.owed and len(data) - at > 1:
            body, size = _head(data, at)
            end = body + size
            if data[at] != _BINARY or not data[at + 1] & _MASKED or size > self.most or end > len(data):
                break
            taken.append(apply_mask(data[body:end], data[body - 4 : body]))
            at = end
        return taken, self._rest(data, at) if at < len(data) else b""

    def _rest(self, data: bytes, first: int) -> bytes:
        """What is left for the library, up to where a head is cut off."""
        at = first + self.owed
        while at < len(data):
            body, size = _head(data, at)
            if body > len(data):
                self.held = data[at:]
                break
            at = body + size
        self.owed = max(0, at - len(data))
        return data[first : len(data) - len(self.held)]


def _head(data: bytes, at: int) -> tuple[int, int]:
    """Where the payload of the frame at ``at`` begins, and its size; behind the end where the head is not all there."""
    if at + 2 > len(data):
        return at + _LONGEST_HEAD, 0
    masked, size = data[at + 1] & _MASKED, data[at + 1] & 0x7F
    body = at + 2
    if size > 125:
        length = 2 if size == 126 else 8
        size = int.from_bytes(data[body : body + length], "big")
        body += length
    if masked:
        body += 4
    return body, size
