"""What is written into the log is read back, whatever text is in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import labels, metric_names

from oneshotd.core.event import Event, series_text
from oneshotd.store.database import open_database
from oneshotd.store.segments import SEGMENT_EVENTS, LogWriter, read, seq_before

NOW = 1_700_000_000_000

SERIES = st.builds(lambda name, pairs: series_text(name, pairs.items()), metric_names(), labels())
VALUES = st.sampled_from([None, None, "0", "37.5", "NaN", "+Inf", "-Inf", "1e+30", "-0"])
BATCHES = st.lists(st.lists(st.tuples(SERIES, VALUES), max_size=8), max_size=6)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_database(str(tmp_path / "oneshotd.sqlite"))
    yield connection
    connection.close()


def all_events(connection: sqlite3.Connection, after: int = 0) -> list[Event]:
    return [event for segment in read(connection, after) for event in segment.events()]


def write(connection: sqlite3.Connection, *batches: list[tuple[str, str | None]]) -> LogWriter:
    """A commit for each batch, a second of up-time apart; what has no values goes in by its column."""
    log = LogWriter()
    for number, batch in enumerate(batches):
        if not any(value for _, value in batch):
            log.add_all([series for series, _ in batch], NOW)
        else:
            for series, value in batch:
                log.add(series, value, NOW)
        log.flush(connection, number * 1000, NOW)
    return log


@given(batches=BATCHES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_what_goes_in_comes_out_from_any_place(
    connection: sqlite3.Connection, batches: list[list[tuple[str, str | None]]]
) -> None:
    connection.execute("BEGIN")
    try:
        log = write(connection, *batches)
        written = [event for batch in batches for event in batch]
        held = all_events(connection)
        assert [(event.series, event.value) for event in held] == written
        assert [event.seq for event in held] == list(range(1, len(written) + 1))
        assert log.next == len(written) + 1
        for after in range(len(written) + 2):
            assert all_events(connection, after) == held[after:]
        for series in {event.series for event in held}:
            times = [event.at for event in held if event.series == series]
            assert all(before < later for before, later in pairwise(times))
    finally:
        connection.execute("ROLLBACK")


@pytest.mark.parametrize(
    "count", [SEGMENT_EVENTS - 1, SEGMENT_EVENTS, SEGMENT_EVENTS + 1, 3 * SEGMENT_EVENTS]
)
def test_a_commit_of_any_length(connection: sqlite3.Connection, count: int) -> None:
    write(connection, [(f"s{number}", str(number)) for number in range(count)])
    held = all_events(connection)
    assert [event.series for event in held] == [f"s{number}" for number in range(count)]
    assert [event.seq for event in held] == list(range(1, count + 1))


def test_nothing_is_written_for_nothing(connection: sqlite3.Connection) -> None:
    write(connection, [], [("a", None)], [])
    assert connection.execute("SELECT count(*) FROM segment").fetchone()[0] == 1


def test_a_log_is_gone_on_with_where_it_ends(connection: sqlite3.Connection) -> None:
    before = write(connection, [("a", None)] * 3, [("b", "1")])
    log = LogWriter()
    log.load(connection, 0, 0, NOW)
    assert (log.next, log.total_size, log.latest_at) == (before.next, before.total_size, before.latest_at)
    log.add("a", None, NOW)
    log.add("b", None, NOW)
    log.flush(connection, 5000, NOW)
    assert [event.at - NOW for event in all_events(connection)] == [0, 1, 2, 0, 3, 1]


def test_what_was_not_written_is_forgotten(connection: sqlite3.Connection) -> None:
    log = write(connection, [("a", None)])
    log.add("a", None, NOW)
    log.load(connection, 0, 0, NOW)
    log.flush(connection, 0, NOW)
    assert len(all_events(connection)) == 1
    assert log.next == 2


def test_many_series_ahead_of_the_clock_are_remembered_until_their_time_has_passed(
    connection: sqlite3.Connection,
) -> None:
    log = write(connection, [(f"s{number % 1500}", None) for number in range(3000)])
    for number in range(1500):
        log.add(f"s{number}", None, NOW)
    log.flush(connection, 0, NOW)
    log.add("s7", None, NOW + 5)
    log.flush(connection, 0, NOW + 5)
    times = [event.at - NOW for event in all_events(connection) if event.series == "s7"]
    assert times == [0, 1, 2, 5]


@pytest.mark.parametrize(
    ("up", "seq"), [(-1, 0), (0, 0), (1, 2), (1000, 2), (1001, 3), (2000, 3), (2001, 6), (9999, 6)]
)
def test_the_last_seq_before_a_time(connection: sqlite3.Connection, up: int, seq: int) -> None:
    log = write(connection, [("a", None)] * 2, [("b", None)], [("c", None)] * 3)
    assert seq_before(connection, up, 0, log.next - 1) == seq
    connection.execute("DELETE FROM segment WHERE first <= 2")
    assert seq_before(connection, up, 2, log.next - 1) == max(seq, 2)
