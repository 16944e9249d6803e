"""When a batch goes to the store: the rule as a table, and the pipeline's timer that follows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.ingest_driver import Rig

from oneshotd.core.events import NewEvent
from oneshotd.ingest.batching import DATAGRAM_INTERVAL, MAX_LIMIT, MIN_LIMIT, BatchRule

#: When the last commit ended, in all rows.
END = 100.0

#: Row: (seconds of the last commit, requests expected), (requests that wait, begin of the batch after the
#: last commit, latest arrival after it), when the batch is due after the last commit; None: at once.
Row = tuple[tuple[float, int], tuple[int, float, float], float | None]
ROWS: dict[str, Row] = {
    "no request is expected": ((0.0005, 0), (1, 0.0001, 0.0001), None),
    "as many as were answered": ((0.0005, 3), (3, 0.0001, 0.0007), None),
    "more than were answered": ((0.0005, 3), (4, 0.0001, 0.0007), None),
    "the first of three": ((0.0005, 3), (1, 0.0001, 0.0001), 0.0011),
    "the second of three": ((0.0005, 3), (2, 0.0001, 0.0004), 0.0014),
    "waited behind the commit": ((0.0005, 3), (2, 0.0, -0.0003), 0.001),
    "two commit times are beyond the limit": ((0.003, 3), (1, 0.0001, 0.0001), 0.0021),
    "arrivals that do not end": ((0.0005, 99), (9, 0.0001, 0.002), 0.0021),
    "the last commit is long ago": ((0.0005, 3), (1, 0.0021, 0.0021), None),
    "after a slow commit": ((0.2, 3), (2, 0.0, 0.01), 0.02),
    "after a slow commit, a long way": ((0.2, 3), (1, 0.019, 0.019), 0.039),
    "after a very slow commit": ((60.0, 3), (2, 0.0, 0.01), MAX_LIMIT),
    "datagrams soon after a commit": ((0.0005, 0), (0, 0.0001, 0.0001), DATAGRAM_INTERVAL),
    "datagrams while requests are expected": ((0.0005, 3), (0, 0.0001, 0.0001), DATAGRAM_INTERVAL),
    "datagrams long after a commit": ((0.0005, 3), (0, 1.0, 1.0), None),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_when_a_batch_is_due(row: Row) -> None:
    """Clients would split into two halves and pay for twice as many commits, or wait for nothing."""
    (seconds, expected), (requests, since, latest), due = row
    rule = BatchRule()
    rule.committed(at=END, seconds=seconds, expected=expected)
    found = rule.due(requests=requests, since=END + since, latest=END + latest)
    if due is None:
        assert found <= END + since
    else:
        assert found == pytest.approx(END + due, abs=1e-9)


def test_the_first_batch_of_all_is_due_at_once() -> None:
    for requests in (0, 1):
        assert BatchRule().due(requests=requests, since=5.0, latest=5.0) <= 5.0


_SECONDS = st.floats(0.0, 10.0)


@given(_SECONDS, st.integers(0, 100), st.integers(0, 100), _SECONDS, _SECONDS)
def test_no_event_waits_longer_than_the_limit(
    seconds: float, expected: int, requests: int, since: float, after: float
) -> None:
    """A client would wait for one that never returns."""
    rule = BatchRule()
    rule.committed(at=0.0, seconds=seconds, expected=expected)
    due = rule.due(requests=requests, since=since, latest=since + after)
    limit = max(MIN_LIMIT, DATAGRAM_INTERVAL, min(seconds / 10, MAX_LIMIT))
    assert due <= since + limit * (1 + 1e-9)  # 0.1 is not exactly a tenth


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(str(tmp_path / "store"))
    made.store.silent.add("append")
    yield made
    made.pump.get(made.real.close())


def answered(rig: Rig, clients: int, took: float) -> None:
    """Answer so many clients by one commit that takes so long (seconds)."""
    for number in range(clients):
        rig.submit(f"first{number}")
    rig.clock.advance(0)
    assert rig.store.calls == ["append"]
    rig.clock.advance(took)
    rig.store.resume()
    rig.settle()
    rig.store.calls.clear()
    rig.store.silent.add("append")


def until_committed(rig: Rig) -> float:
    """Pass time until the store is asked; returns the seconds."""
    started = rig.clock.seconds()
    while not rig.store.calls:
        rig.clock.advance(0.00005)
    return rig.clock.seconds() - started


def test_a_batch_waits_for_the_clients_that_were_answered_and_for_no_others(rig: Rig) -> None:
    """A part of the clients would go ahead, or a batch that is whole would stand still."""
    answered(rig, clients=3, took=0.001)
    for number in range(3):
        rig.clock.advance(0.0005)
        assert rig.store.calls == []
        rig.submit(f"e{number}")
    assert rig.store.calls == [], "what the same turn of the reactor brings goes along"
    rig.submit("f")
    rig.clock.advance(0)
    assert rig.store.calls == ["append"]
    rig.store.resume()
    rig.settle()
    assert rig.series()[3:] == ["e0", "e1", "e2", "f"]


def test_a_batch_does_not_wait_for_the_end_of_a_flood(rig: Rig) -> None:
    """Its first client would hear nothing as long as there is always another."""
    answered(rig, clients=99, took=0.001)
    started = rig.clock.seconds()
    while not rig.store.calls:
        rig.submit("e")
        rig.clock.advance(MIN_LIMIT / 10)
    assert rig.clock.seconds() - started == pytest.approx(MIN_LIMIT, abs=MIN_LIMIT / 9)


def test_a_client_that_does_not_return_costs_two_commits_at_most(rig: Rig) -> None:
    """The others' answers would wait for one that nobody wants."""
    answered(rig, clients=3, took=0.0005)
    rig.submit("e")
    assert until_committed(rig) == pytest.approx(2 * 0.0005, abs=0.00011)


def test_a_client_that_was_answered_long_ago_is_not_expected(rig: Rig) -> None:
    """The event of a tool would wait for the clients of a crowd that is gone."""
    answered(rig, clients=3, took=0.001)
    rig.clock.advance(1.1 * MIN_LIMIT)
    rig.submit("e")
    rig.clock.advance(0)
    assert rig.store.calls == ["append"]


def test_the_reactor_sleeps_while_a_batch_gathers(rig: Rig) -> None:
    """A few hundred events a second, from clients that send one now and then, took half a processor."""
    answered(rig, clients=2, took=0.001)
    rig.submit("e")
    [call] = (call for call in rig.clock.getDelayedCalls())
    assert call.getTime() == pytest.approx(rig.clock.seconds() + 0.002)


def test_clients_that_waited_behind_a_commit_go_with_those_that_it_answered(rig: Rig) -> None:
    """Two halves of the clients would take turns for ever."""
    rig.submit("a")
    rig.clock.advance(0)
    rig.submit("b")
    rig.clock.advance(0.001)
    rig.store.resume()
    rig.settle()
    rig.clock.advance(0.0005)
    assert rig.store.calls == ["append"]
    rig.submit("a again")
    rig.settle()
    assert rig.store.calls == ["append", "append"]
    assert rig.series() == ["a", "b", "a again"]


def test_a_flood_of_datagrams_does_not_cost_a_commit_in_each_turn(rig: Rig) -> None:
    """A commit takes the processor from reading the socket, whose buffer overflows."""
    rig.store.silent.clear()
    for _ in range(100):
        rig.ingest.submit_nowait([NewEvent("e")], "udp")
        rig.clock.advance(DATAGRAM_INTERVAL / 10)
        rig.settle()
    assert 10 <= len(rig.store.calls) <= 12


def test_a_request_does_not_wait_with_the_datagrams(rig: Rig) -> None:
    """Its client would wait longer than beside no datagram."""
    answered(rig, clients=1, took=0.001)
    rig.ingest.submit_nowait([NewEvent("e")], "udp")
    rig.clock.advance(0)
    assert rig.store.calls == []
    rig.submit("f")
    rig.clock.advance(0)
    assert rig.store.calls == ["append"]
