"""The limit of failed attempts of an address."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from oneshotd.access import failed_attempts
from oneshotd.access.failed_attempts import BURST, SECONDS_PER_ATTEMPT, FailedAttempts, attempts_key
from oneshotd.errors import Refused


def is_blocked(attempts: FailedAttempts, address: str) -> bool:
    refused = None
    try:
        attempts.check(address)
    except Refused as error:
        refused = error
    if refused is None:
        return False
    assert (refused.status, refused.reason) == (429, "rate")
    assert refused.retry_after is not None and 1 <= refused.retry_after <= BURST * SECONDS_PER_ATTEMPT
    return True


def test_an_address_has_to_wait_after_a_burst() -> None:
    """A guesser would try thousands of passwords in a minute."""
    clock = Clock()
    attempts = FailedAttempts(clock)
    for _ in range(BURST):
        assert not is_blocked(attempts, "192.0.2.7")
        attempts.failed("192.0.2.7")
    assert is_blocked(attempts, "192.0.2.7")
    assert not is_blocked(attempts, "192.0.2.8")
    clock.advance(SECONDS_PER_ATTEMPT)
    assert not is_blocked(attempts, "192.0.2.7")
    attempts.failed("192.0.2.7")
    assert is_blocked(attempts, "192.0.2.7")


def test_the_wait_that_is_told_is_enough() -> None:
    """A client that obeys Retry-After would be refused again."""
    clock = Clock()
    attempts = FailedAttempts(clock)
    for _ in range(BURST):
        attempts.failed("192.0.2.7")
    with pytest.raises(Refused) as refused:
        attempts.check("192.0.2.7")
    assert refused.value.retry_after is not None
    clock.advance(refused.value.retry_after)
    assert not is_blocked(attempts, "192.0.2.7")


def test_a_few_mistakes_now_and_then_block_nobody() -> None:
    """A person who mistypes once a day would be locked out after ten days."""
    clock = Clock()
    attempts = FailedAttempts(clock)
    for _ in range(10 * BURST):
        attempts.failed("192.0.2.7")
        assert not is_blocked(attempts, "192.0.2.7")
        clock.advance(SECONDS_PER_ATTEMPT * 2)


def test_a_network_of_ipv6_shares_its_attempts() -> None:
    """A guesser with one IPv6 network would have as many attempts as it has addresses."""
    attempts = FailedAttempts(Clock())
    for number in range(BURST):
        attempts.failed(f"2001:db8:0:1::{number:x}")
    assert is_blocked(attempts, "2001:db8:0:1:ffff::")
    assert not is_blocked(attempts, "2001:db8:0:2::1")


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("unix", "unix"),
        ("2001:db8::7", "2001:db8::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
    ],
)
def test_what_shares_attempts(address: str, key: str) -> None:
    """Clients that have nothing in common would lock each other out."""
    assert attempts_key(address) == key


def test_the_table_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guesser with many addresses would use up the memory."""
    monkeypatch.setattr(failed_attempts, "MAX_ADDRESSES", 100)
    attempts = FailedAttempts(Clock())
    for _ in range(BURST):
        attempts.failed("192.0.2.7")
    for number in range(1000):
        attempts.failed(f"198.51.{number // 250}.{number % 250}")
        attempts.failed("192.0.2.7")
    assert len(attempts) == 100
    assert is_blocked(attempts, "192.0.2.7"), "who goes on failing is not forgotten"
