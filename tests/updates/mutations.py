"""Bytes that are nearly right."""

from hypothesis import strategies as st

from tests.updates.reference import uint


@st.composite
def mutated(draw: st.DrawFn, valid: st.SearchStrategy[bytes]) -> bytes:
    """Valid bytes with one to three of: a bit flipped, a byte set, cut short, spliced with others, a padded
    integer.
    """
    data = draw(valid)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["flip", "set", "cut", "splice", "repeat", "inflate", "huge"])):
            case "flip":
                data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :] if data else data
            case "set":
                data = data[:at] + draw(st.binary(min_size=1, max_size=2)) + data[at + 1 :]
            case "cut":
                data = data[:at]
            case "splice":
                other = draw(valid)
                data = data[:at] + other[draw(st.integers(0, len(other))) :]
            case "repeat":
                end = draw(st.integers(at, len(data)))
                data = data[:end] + data[at:end] + data[end:]
            case "inflate":
                # A one-byte integer said in more bytes; where it was none, this is one more random change.
                head = data[at : at + 1] or b"\x00"
                data = data[:at] + uint(head[0] & 0x7F, draw(st.integers(1, 3))) + data[at + 1 :]
            case _:
                data = (
                    data[:at]
                    + uint(draw(st.sampled_from([2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**64 - 1])))
                    + data[at + 1 :]
                )
    return data
