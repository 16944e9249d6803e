"""The token bucket: what it grants, and how long a client has to wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.access.token_bucket import TokenBucket

rates = st.floats(min_value=0.001, max_value=1e6)
bursts = st.floats(min_value=1, max_value=1e4)
starts = st.floats(min_value=0, max_value=1e7)
#: Seconds since the call before, and the tokens that are asked for.
calls = st.lists(st.tuples(st.floats(min_value=0, max_value=100), st.integers(1, 500)), max_size=40)


@given(rates, bursts, starts, calls)
def test_the_mean_rate_holds(rate: float, burst: float, start: float, calls: list[tuple[float, int]]) -> None:
    """A sender would get more events in than its rule allows, by the sizes of its bodies."""
    bucket = TokenBucket(rate=rate, burst=burst)
    now, taken, largest = start, 0, 0
    for pause, n in calls:
        now += pause
        if bucket.take(n, now) == 0:
            taken += n
            largest = max(largest, n)
        # The last grant may leave a debt that its successors pay.
        assert taken <= burst + (now - start + len(calls) * 1e-5) * rate * (1 + 1e-9) + largest


@given(rates, bursts, starts, calls)
def test_a_wait_of_that_long_is_enough(
    rate: float, burst: float, start: float, calls: list[tuple[float, int]]
) -> None:
    """A client that obeys Retry-After would be refused again, for ever perhaps."""
    bucket = TokenBucket(rate=rate, burst=burst)
    now = start
    for pause, n in calls:
        now += pause
        wait = bucket.take(n, now)
        assert wait >= 0
        if wait:
            assert bucket.take(n, now) == wait  # a refusal takes nothing
            now += wait
            assert bucket.take(n, now) == 0


@given(rates, bursts, starts, calls)
def test_some_are_taken_without_debt(
    rate: float, burst: float, start: float, calls: list[tuple[float, int]]
) -> None:
    """One datagram socket read in a large portion would shut its senders out for minutes."""
    bucket = TokenBucket(rate=rate, burst=burst)
    now, total = start, 0
    for pause, n in calls:
        now += pause
        taken = bucket.take_some(n, now)
        total += taken
        assert 0 <= taken <= n
        assert total <= burst + (now - start + len(calls) * 1e-5) * rate * (1 + 1e-9) + 1e-6
        assert bucket.wait(now) <= 1 / rate + 1e-5  # a whole token comes within its time


def test_a_large_body_passes_and_is_paid_for() -> None:
    """A body of more events than a second may have could never be sent."""
    bucket = TokenBucket(rate=10, burst=10)
    assert bucket.take(100, 0.0) == 0
    assert bucket.take(1, 5.0) == pytest.approx(4.1)
    assert bucket.take(1, 9.2) == 0


def test_what_was_given_back_can_be_taken() -> None:
    """A sender whose events the store refused would be limited for events that were never stored."""
    bucket = TokenBucket(rate=1, burst=2)
    assert bucket.take(2, 0.0) == 0
    assert bucket.take(1, 0.0) == 1.0
    bucket.give_back(2)
    assert bucket.take(2, 0.0) == 0
    assert bucket.take(1, 0.0) == 1.0


@given(bursts, st.integers(1, 100))
def test_an_idle_bucket_is_full_and_no_more(burst: float, n: int) -> None:
    """A sender that was silent for a year would have the events of the year at once."""
    bucket = TokenBucket(rate=1.0, burst=burst)
    bucket.take(n, 0.0)
    assert bucket.take_some(10**6, 1e7) <= burst


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0.5)])
def test_a_bucket_without_tokens_is_a_fault(rate: float, burst: float) -> None:
    """A rule of rate 0 would divide by zero at the first event, not at the start."""
    with pytest.raises(ValueError, match="must be"):
        TokenBucket(rate=rate, burst=burst)
