"""Settings of all tests: how Hypothesis searches, and the seed that repeats a run."""

import os
import secrets

import pytest
from hypothesis import HealthCheck, settings

# No limit in any profile reads a clock: a busy machine must not fail a test.
# `deep` is for a long search by hand: --hypothesis-profile=deep.
settings.register_profile(
    "dev",
    deadline=None,
    max_examples=100,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("ci", parent=settings.get_profile("dev"), max_examples=60, database=None)
settings.register_profile("deep", parent=settings.get_profile("dev"), max_examples=2_000)

_SEED_OPTION = "hypothesis_seed"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Where none was named, takes profile `ci` if CI is set, else `dev`; and one seed for all workers."""
    if not config.getoption("hypothesis_profile"):
        config.option.hypothesis_profile = "ci" if os.environ.get("CI") else "dev"
    if config.getoption(_SEED_OPTION) is None:
        config.option.hypothesis_seed = str(secrets.randbits(32))


def pytest_report_header(config: pytest.Config) -> str:
    """Names what repeats this run's search."""
    return f"to repeat this search: --hypothesis-seed={config.getoption(_SEED_OPTION)}"
