"""When a batch goes: who is waited for, and for how long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from support.ingest_driver import Rig
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from oneshotd.core.events import Group
from oneshotd.ingest import pipeline as module
from oneshotd.ingest.pipeline import Ingest
from oneshotd.store.interface import Conflict, Stored


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(str(tmp_path / "store"))
    yield made
    made.pump.get(made.real.close())


class Turns(Clock):
    """A clock whose calls of no delay wait for the next turn, as in a reactor."""

    def turn(self) -> None:
        for call in list(self.calls):
            if call.getTime() <= self.seconds():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)


@pytest.fixture
def turning(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Turns:
    """The clock of an intake in front of the rig's store."""
    clock = Turns()
    rig.intake = Ingest(rig.store, rig.telemetry, clock)
    rig.store.silent.add("append")
    return clock


def test_who_comes_within_the_next_turns_goes_along(rig: Rig, turning: Turns) -> None:
    """Two halves of the clients would take turns, and pay for twice as many commits."""
    for number in range(5):
        rig.submit(f"e{number}")
        for _ in range(module.QUIET_TURNS - 1):
            turning.turn()
        assert rig.store.calls == []
    for _ in range(module.QUIET_TURNS):
        turning.turn()
    assert rig.store.calls == ["append"]
    assert rig.log() == []
    rig.store.resume()
    assert rig.series() == [f"e{number}" for number in range(5)]


def test_a_batch_does_not_wait_for_the_end_of_a_flood(rig: Rig, turning: Turns) -> None:
    """Its first client would hear nothing as long as there is always another."""
    started = turning.seconds()
    while not rig.store.calls:
        rig.submit("e")
        turning.rightNow += module.MAX_GATHERING / 10
        turning.turn()
    assert turning.seconds() - started == pytest.approx(module.MAX_GATHERING)


def answered(rig: Rig, turning: Turns, clients: int, took: float) -> None:
    """So many clients have been answered by one commit, which took so long (seconds)."""
    for number in range(clients):
        rig.submit(f"first{number}")
    while not rig.store.calls:
        turning.turn()
    turning.rightNow += took
    rig.store.resume()
    rig.turn()
    rig.store.calls.clear()
    rig.store.silent.add("append")


def test_who_was_answered_is_waited_for_and_for_nobody_else(rig: Rig, turning: Turns) -> None:
    """A part of the clients would go ahead, or a batch that is whole would stand still."""
    answered(rig, turning, clients=3, took=0.001)
    for number in range(3):
        assert rig.store.calls == []
        rig.submit(f"e{number}")
        for _ in range(5 * module.QUIET_TURNS if number < 2 else 1):
            turning.rightNow += 0.00001
            turning.turn()
    assert rig.store.calls == ["append"]


def test_the_processor_is_given_away_while_somebody_is_expected(
    rig: Rig, turning: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client waited for the very processor on which the reactor was waiting for it, and everybody for a
    second commit; a lone event is not to wait for who makes other use of the processor."""
    given: list[int] = []
    monkeypatch.setattr("os.sched_yield", lambda: given.append(len(rig.store.calls)))
    answered(rig, turning, clients=2, took=0.001)
    assert given == []
    rig.submit("e")
    turning.turn()
    turning.turn()
    assert given == [0, 0]
    rig.submit("f")
    turning.turn()
    assert rig.store.calls == ["append"]
    assert given == [0, 0]


class Client:
    """Who waits for the store, and does not mind."""

    def begin(self) -> None:
        """Its answer is out."""

    def stored(self, now: float) -> None:
        """It had its answer."""

    def not_stored(self) -> None:
        """It is patient."""


def test_who_is_back_before_the_reactor_knows_is_expected_once(
    rig: Rig, turning: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was answered by the store's thread; the batch would wait for one more than there are."""
    asked: list[tuple[Callable[[], object], Deferred[list[Stored | Conflict]]]] = []

    def append(groups: Sequence[Group], at_once: Callable[[], object]) -> Deferred[list[Stored | Conflict]]:
        asked.append((at_once, Deferred()))
        return asked[-1][1]

    monkeypatch.setattr(rig.store, "append", append)
    rig.intake.take(["a"], Client())
    rig.intake.take(["b"], Client())
    while not asked:
        turning.turn()
    at_once, stored = asked.pop()
    turning.rightNow += 0.001
    at_once()
    rig.intake.take(["c"], Client())
    stored.callback([Stored(stored=2, first=1)])
    for _ in range(2 * module.QUIET_TURNS):
        turning.turn()
        assert not asked
    rig.intake.take(["d"], Client())
    turning.turn()
    assert len(asked) == 1


def test_who_does_not_come_again_costs_two_commits_at_most(rig: Rig, turning: Turns) -> None:
    """The others' answers would wait for one that nobody wants."""
    answered(rig, turning, clients=3, took=0.0005)
    rig.submit("e")
    started = turning.seconds()
    while not rig.store.calls:
        turning.turn()
        turning.rightNow += 0.0001
    assert turning.seconds() - started == pytest.approx(module.WORTH_COMMITS * 0.0005, abs=0.00011)


def test_the_reactor_does_not_spin_for_clients_that_never_come_again(rig: Rig, turning: Turns) -> None:
    """A few hundred events a second, from clients that send one now and then, took half a processor."""
    turns = 0
    for _ in range(module.NEXT_TRIAL - 1):
        answered(rig, turning, clients=2, took=0.002)
        rig.submit("e")
        while not rig.store.calls:
            turning.turn()
            turning.rightNow += 0.00001
            turns += 1
        rig.store.resume()
        rig.turn()
        rig.store.calls.clear()
        rig.store.silent.add("append")
    assert turns < 10 * module.NEXT_TRIAL


def test_who_was_answered_long_ago_is_not_expected(rig: Rig, turning: Turns) -> None:
    """Every tool's event would wait for those of a crowd that was here once."""
    answered(rig, turning, clients=3, took=0.001)
    turning.rightNow += 1.1 * module.RETURNING
    rig.submit("e")
    for _ in range(module.QUIET_TURNS):
        assert rig.store.calls == []
        turning.turn()
    assert rig.store.calls == ["append"]
