"""Bytes that are nearly right."""

from random import Random

from hypothesis import strategies as st

from tests.updates.reference import uint

HUGE = (2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**64 - 1)


def mutate(random: Random, data: bytes, other: bytes) -> bytes:
    """``data`` with one to three of: a bit flipped, a byte set, stepped, moved or lost, cut short, spliced with
    ``other``, a piece twice, an integer padded or made huge."""
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        at = random.randrange(len(data) or 1)
        old = data[at] if data else 0
        match random.choice(["flip", "flip", "set", "step", "lose", "cut", "splice", "twice", "pad", "huge"]):
            case "flip":
                data = data[:at] + bytes([old ^ 1 << random.randrange(8)]) + data[at + 1 :]
            case "set":
                data = data[:at] + random.randbytes(random.randint(1, 2)) + data[at + 1 :]
            case "step":
                data = data[:at] + bytes([(old + random.choice([1, -1])) % 256]) + data[at + 1 :]
            case "lose":
                data = data[:at] + data[at + random.randint(1, 9) :]
            case "cut":
                data = data[:at]
            case "splice":
                data = data[:at] + other[random.randint(0, len(other)) :]
            case "twice":
                end = random.randint(at, len(data))
                data = data[:end] + data[at:end] + data[end:]
            case "pad":
                data = data[:at] + uint(old & 0x7F, random.randint(1, 3)) + data[at + 1 :]
            case _:
                data = data[:at] + uint(random.choice(HUGE)) + data[at + 1 :]
    return data


def mutated(valid: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Mutations of bytes of ``valid``."""
    return st.builds(lambda seed, data, other: mutate(Random(seed), data, other), st.integers(0, 2**64), valid, valid)
