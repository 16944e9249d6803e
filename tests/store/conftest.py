"""The contract's files are no test modules by name, so pytest must be told to explain their asserts."""

import pytest

pytest.register_assert_rewrite(
    "store.backend",
    "store.contract_append",
    "store.contract_delivery",
    "store.contract_keys",
    "store.contract_leases",
    "store.contract_looking",
    "store.contract_upkeep",
)
