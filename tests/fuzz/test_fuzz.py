"""Every input that once crashed a reader, and a short search from the good ones."""

from contextlib import suppress
from random import Random

import pytest

from tests.fuzz.__main__ import mutated
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

MUTATIONS = 150


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_reader_raises_its_own_error_alone(name: str) -> None:
    run, allowed = TARGETS[name]
    corpus, random = seeds(name), Random(name)
    for data in (*corpus, *(mutated(random.choice(corpus), corpus, random) for _ in range(MUTATIONS))):
        with suppress(*allowed):
            run(data)
