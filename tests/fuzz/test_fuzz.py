"""Every input that once crashed a reader, and a short search from the good ones."""

from contextlib import suppress
from random import Random

import pytest

from tests.fuzz.__main__ import mutated
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

MUTATIONS = 150
SLOW = {"store_file": 12, "store_rows": 12}
"""Targets that open a store for each input: so many mutations, and of their many seeds every sixth."""


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_reader_raises_its_own_error_alone(name: str) -> None:
    run, allowed = TARGETS[name]
    corpus, random, mutations = seeds(name), Random(name), SLOW.get(name, MUTATIONS)
    first = corpus[:: 6 if name in SLOW else 1]
    for data in (*first, *(mutated(random.choice(corpus), corpus, random) for _ in range(mutations))):
        with suppress(*allowed):
            run(data)
