"""The ingest pipeline on a slow disk, and on a disk that leaves a commit in doubt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_store import TroubledStore, quiet
from support.thread_pump import ThreadPump
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from oneshotd.core.events import Group, NewEvent
from oneshotd.errors import Refused
from oneshotd.ingest.batching import LIMIT_PART, MAX_LIMIT
from oneshotd.ingest.pipeline import COMMIT_OVERDUE_SECONDS, Ingest
from oneshotd.metrics.registry import Telemetry
from oneshotd.store.interface import Stored
from oneshotd.store.sqlite.store import SQLiteStore


class Rig:
    """An ingest pipeline in front of a real store whose answers can be withheld."""

    def __init__(self, path: Path) -> None:
        self.clock, self.pump = Clock(), ThreadPump()
        self.real = SQLiteStore(str(path), self.pump)
        self.store, self.telemetry = TroubledStore(self.real), Telemetry()
        self.ingest = Ingest(self.store, self.telemetry, self.clock)
        self.answered: list[str] = []

    def submit(self, *names: str) -> None:
        for name in names:
            done = self.ingest.submit(Group(events=[NewEvent(name)]), "http")
            done.addCallbacks(lambda _, name=name: self.answered.append(name))

    def turn(self, seconds: float = 0.0) -> None:
        self.clock.advance(seconds)
        quiet(self.pump, self.real)

    def commits(self) -> int:
        return self.store.calls.count("append")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "store")
    yield rig
    rig.pump.get(rig.real.close())
    assert rig.clock.getDelayedCalls() == []


def test_after_a_slow_commit_the_next_batch_waits_for_the_answered_clients(rig: Rig) -> None:
    """Two halves of the clients would take turns, and each would wait for two commits."""
    rig.store.silent.add("append")
    rig.submit("a")
    rig.turn()
    rig.submit("b")  # while the disk is at work on the other
    rig.clock.advance(0.2)
    rig.store.resume()
    rig.turn()
    assert rig.answered == ["a"]
    rig.submit("a again")
    rig.turn(LIMIT_PART * 0.2)
    assert rig.answered == ["a", "b", "a again"]
    assert rig.commits() == 2


def test_the_first_client_to_return_waits_for_the_others(rig: Rig) -> None:
    """It alone in a commit would make all the others wait for two."""
    rig.store.silent.add("append")
    rig.submit("a", "b")
    rig.turn()
    rig.clock.advance(0.2)
    rig.store.resume()
    rig.turn()
    rig.submit("a again")
    rig.turn()
    rig.submit("b again")
    rig.turn(LIMIT_PART * 0.2)
    assert rig.answered == ["a", "b", "a again", "b again"]
    assert rig.commits() == 2


def test_the_wait_is_bounded_however_slow_the_commit_was(rig: Rig) -> None:
    """After a minute without a disk, service goes on at once."""
    rig.store.silent.add("append")
    rig.submit("a")
    rig.turn()
    rig.clock.advance(60.0)
    rig.store.resume()
    rig.turn()
    rig.submit("b")
    rig.turn(MAX_LIMIT)
    assert rig.answered == ["a", "b"]


def test_a_batch_in_doubt_does_not_keep_the_next_ones_waiting(rig: Rig) -> None:
    """They are to hear 503, and not to hang until the disk is back."""
    rig.store.silent.add("append")
    rig.submit("in doubt")
    rig.turn()
    rig.store.silent.clear()
    rig.store.refuse("append")
    later = refusals(rig.ingest.submit(Group(events=[NewEvent("later")]), "http"))
    rig.turn()
    assert later == []
    rig.turn(COMMIT_OVERDUE_SECONDS)
    rig.turn()
    assert later == [503]
    drained = ended(rig.ingest.drain())
    assert drained == []
    rig.store.resume()
    rig.turn()
    assert rig.answered == ["in doubt"]
    assert drained == [True]


def test_a_failing_store_shows_in_the_metric_at_once_and_so_does_its_recovery(rig: Rig) -> None:
    """An alert on `oneshotd_store_writable` would come after the next upkeep only."""
    rig.store.refuse("append")
    refused = refusals(rig.ingest.submit(Group(events=[NewEvent("a")]), "http"))
    rig.turn()
    assert refused == [503]
    assert not rig.telemetry.writable
    rig.telemetry.commit(0.1)
    assert rig.telemetry.writable


def refusals(answer: Deferred[Stored]) -> list[int]:
    """Its status, as soon as it is refused."""
    statuses: list[int] = []

    def failed(failure: Failure) -> None:
        assert isinstance(failure.value, Refused)
        statuses.append(failure.value.status)

    answer.addErrback(failed)
    return statuses


def ended(done: Deferred[None]) -> list[bool]:
    """Has a member as soon as it has fired."""
    fired: list[bool] = []
    done.addCallback(lambda _: fired.append(True))
    return fired
