"""Time as the store has it: nothing ages while no daemon runs, and no time comes twice."""

from __future__ import annotations

import pytest
from support.store_backends import SettableClock

from oneshotd.store.clock import Clock, Times


@pytest.fixture
def time() -> SettableClock:
    return SettableClock()


def test_up_time_is_the_steady_clocks_and_the_wall_clock_has_no_part_in_it(time: SettableClock) -> None:
    times = Times(time.clock)
    assert times.up() == 0
    time.monotonic += 1.5
    time.wall -= 1000
    assert times.up() == 1500


def test_up_time_goes_on_from_what_was_on_disk(time: SettableClock) -> None:
    times = Times(time.clock)
    time.monotonic += 2
    times.resume(10_000, 0)
    assert times.up() == 10_000
    time.monotonic += 1
    assert times.up() == 11_000


def test_a_rolled_back_transaction_does_not_set_up_time_back(time: SettableClock) -> None:
    times = Times(time.clock)
    times.resume(10_000, 0)
    time.monotonic += 5
    times.resume(10_000, 0)
    assert times.up() == 15_000


def test_the_time_of_acceptance_never_runs_backwards(time: SettableClock) -> None:
    times = Times(time.clock)
    first = times.at()
    time.wall -= 60
    assert times.at() == first == 1_700_000_000_000
    time.wall += 60.5
    assert times.at() == first + 500


def test_nor_over_a_restart(time: SettableClock) -> None:
    times = Times(time.clock)
    times.resume(0, 1_700_000_123_456)
    assert times.at() == 1_700_000_123_456
    times.resume(0, 5)
    assert times.at() == 1_700_000_123_456


def test_without_a_clock_it_is_the_machines() -> None:
    assert Times(Clock()).at() > 1_700_000_000_000
