"""What holds for every test."""

import pytest
from hypothesis import settings

# No deadline: a machine that is busy with something else must not fail a test.
settings.register_profile("oneshotd", deadline=None)
# `make check` and the run with the oldest dependencies: what `make test` does with four times as many.
settings.register_profile("quick", deadline=None, max_examples=25)
settings.load_profile("oneshotd")

# The contract's files are no test modules by name, so pytest must be told to explain their asserts.
pytest.register_assert_rewrite(
    "support.store_backends",
    "store.contract_append",
    "store.contract_clock",
    "store.contract_delivery",
    "store.contract_keys",
    "store.contract_leases",
    "store.contract_looking",
    "store.contract_recent",
    "store.contract_upkeep",
)
