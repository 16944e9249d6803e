"""A delivery is made final in the store, however often the store has to be asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.delivery_driver import Rig, sums, with_events

from oneshotd.delivery.in_flight import FIRST_RETRY


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "store")
    yield rig
    rig.stop()


def test_a_release_that_the_store_refuses_is_repeated(rig: Rig) -> None:
    """The scraper would get no events until the lease ends."""
    first = with_events(rig, "a")
    rig.store.refuse("release")
    first.delivered()
    first.final()
    rig.quiet()
    assert rig.store.calls.count("release") == 1 and first.is_stuck
    rig.append("b")
    assert sums(rig.scrape().body) == {}
    rig.store.resume()
    rig.pass_time(FIRST_RETRY)
    assert rig.store.calls.count("release") == 2 and not first.is_stuck
    assert sums(rig.scrape().body) == {"b": 1}
