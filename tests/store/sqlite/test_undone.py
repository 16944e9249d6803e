"""What is true although the transaction that said so was undone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from attrs import evolve
from support.failing_connection import FrailSQLite, Trouble
from support.failing_database import Fault, FaultyBackend
from support.store_backends import group, series_of

from oneshotd.errors import StoreUnavailable

FULL = sqlite3.SQLITE_FULL


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[FaultyBackend]:
    backend = FaultyBackend(tmp_path)
    yield backend
    backend.disk.mend()
    backend.finish()


def test_a_scraper_is_not_away_because_upkeep_failed_after_its_visit(backend: FaultyBackend) -> None:
    """Else it is forgotten while it comes regularly, and what it has to come is lost."""
    backend.settle(backend.reserve("p"), delivered=False)
    backend.time.advance(3000)
    backend.settle(backend.reserve("p"), delivered=False)
    backend.append("a")
    backend.disk.fail(Fault("UPDATE state SET now_up"))  # the visits have been written by then
    with pytest.raises(StoreUnavailable):
        backend.prune()
    backend.time.advance(1000)
    assert backend.prune() == []
    assert backend.take("p") == ["a"]


def test_a_scraper_waits_for_no_lease_because_the_disk_was_full_when_its_delivery_became_final(
    backend: FaultyBackend,
) -> None:
    """The end of the delivery frees the log to be cut, and that is what failed."""
    backend.limits = evolve(backend.limits, max_events=2)
    backend.append("a", "b")
    reservation = backend.reserve("p")
    backend.append("c")
    backend.settle(reservation)
    backend.disk.fail(Fault("DELETE FROM segment", FULL))
    backend.release(reservation)
    with suppress(StoreUnavailable):
        backend.stats()  # it may have been in that transaction, too
    assert series_of(backend.reserve("p")) == ["c"]


@pytest.mark.parametrize("trouble", [Trouble.LOST, Trouble.DONE])
def test_nor_because_nothing_could_be_opened_at_that_moment(tmp_path: Path, trouble: Trouble) -> None:
    backend = FrailSQLite(tmp_path)
    backend.append("a")
    reservation = backend.reserve("p")
    backend.settle(reservation)
    backend.fail(trouble, after=0, lasting=True)
    in_doubt = backend.store.append([group("b", key="k")])
    in_doubt.addErrback(lambda failure: None)
    backend.wait([in_doubt])
    backend.release(reservation)
    with pytest.raises(StoreUnavailable):
        backend.stats()
    assert not in_doubt.called
    backend.mend()
    backend.append("b", key="k")
    assert series_of(backend.reserve("p")) == ["b"]
    backend.finish()


def test_a_live_scraper_is_no_visitor_because_a_failure_forgot_its_last_answer(
    backend: FaultyBackend,
) -> None:
    """An answer without events is not written by itself; the revocation must not count it twice."""
    visitor = "192.0.2.7 Prometheus"
    for _ in range(3):
        backend.take(visitor)
    reservation = backend.reserve(visitor)
    backend.settle(reservation)
    backend.disk.fail(Fault("UPDATE state SET now_up"))
    with pytest.raises(StoreUnavailable):
        backend.prune()
    backend.revoke(reservation)
    assert backend.status(visitor).live
