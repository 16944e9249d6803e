"""The access policy."""

from __future__ import annotations

import pytest

from oneshotd.access.policy import AccessPolicy
from oneshotd.core.networks import Networks

NEAR = Networks.parse(["192.0.2.0/24", "unix"])


@pytest.mark.parametrize(
    ("address", "allowed"),
    [("192.0.2.7", True), ("::ffff:192.0.2.7", True), ("unix", True), ("198.51.100.7", False), ("", False)],
)
def test_emit_and_scrape_are_granted_apart(address: str, allowed: bool) -> None:
    """A client that may only send events would read those of others."""
    assert AccessPolicy(emit=NEAR).may_emit(address) is allowed
    assert AccessPolicy(emit=NEAR).may_scrape(address)
    assert AccessPolicy(scrape=NEAR).may_scrape(address) is allowed
    assert AccessPolicy(scrape=NEAR).may_emit(address)
