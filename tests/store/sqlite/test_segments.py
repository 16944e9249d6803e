"""What is written into the log is read back, whatever text is in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.strategies import labels, metric_names

from oneshotd.core.events import Event, series_text
from oneshotd.store.sqlite.connection import is_corrupt, open_database
from oneshotd.store.sqlite.segments import RUN_BYTES, RUN_EVENTS, SEGMENT_EVENTS, LogWriter, read, seq_before

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
@settings(examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
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


def trickle(
    connection: sqlite3.Connection, count: int, text: str = "s{}", values: bool = False, step: int = 2
) -> list[Event]:
    """A commit for each event, some milliseconds apart; what a reader is to find."""
    log = LogWriter()
    for number in range(count):
        now = NOW + number * step
        log.add(text.format(number), str(number) if values else None, now)
        log.flush(connection, now, now)
    return [Event(n + 1, NOW + n * step, text.format(n), str(n) if values else None) for n in range(count)]


@pytest.mark.parametrize("values", [False, True])
def test_a_backlog_that_trickled_in_is_read_in_few_parts(
    connection: sqlite3.Connection, values: bool
) -> None:
    """A scrape of 9,000 events that came one a commit took four times as long as of the same in bodies."""
    written = trickle(connection, 2 * RUN_EVENTS + 1, values=values)
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    assert all_events(connection) == written
    connection.set_trace_callback(None)
    assert len(statements) < 20
    assert [len(part.series) for part in read(connection, 0)] == [RUN_EVENTS, RUN_EVENTS, 1]
    assert all_events(connection, RUN_EVENTS + 7) == written[RUN_EVENTS + 7 :]
    assert [len(part.series) for part in read(connection, 5, 10)][:2] == [10, 10]


@pytest.mark.parametrize("step", [0, -1])
def test_a_clock_that_stood_or_went_back_does_not_change_the_order(
    connection: sqlite3.Connection, step: int
) -> None:
    """Two values of one series would come in the wrong order."""
    written = trickle(connection, 100, step=step)
    assert all_events(connection) == written


def test_a_series_that_ran_ahead_of_the_clock_keeps_its_times(connection: sqlite3.Connection) -> None:
    """Two events of one series would have one time, and one of them would be lost."""
    trickle(connection, 50, text="same", step=0)
    assert [event.at - NOW for event in all_events(connection)] == list(range(50))


def test_large_events_are_not_read_many_at_once(connection: sqlite3.Connection) -> None:
    """One scrape would take hundreds of megabytes."""
    written = trickle(connection, 30, text="s{}" + "x" * (RUN_BYTES // 10))
    assert all_events(connection) == written
    assert max(len(part.series) for part in read(connection, 0)) <= 11


def test_a_gap_ends_a_run(connection: sqlite3.Connection) -> None:
    """After a file was replaced, seqs go on behind a gap: events would be shown under another's seq."""
    written = trickle(connection, 30)
    connection.execute("DELETE FROM segment WHERE first BETWEEN 11 AND 20 OR first < 3")
    assert all_events(connection) == written[2:10] + written[20:]
    assert all_events(connection, 15) == written[20:]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE segment SET total_size = 1 << 50 WHERE first = 5",
        "UPDATE segment SET total_size = -(1 << 50) WHERE first = 5",
        "UPDATE segment SET clock_at = 0 WHERE first = 10",
    ],
)
def test_a_wrong_figure_does_not_hide_events(connection: sqlite3.Connection, damage: str) -> None:
    """Events would be passed over in silence."""
    written = trickle(connection, 10)
    connection.execute(damage)
    assert [event.series for event in all_events(connection)] == [event.series for event in written]


@pytest.mark.parametrize("place", [1, 5, 10])
@pytest.mark.parametrize(
    "damage",
    [
        "count = 2",
        "count = 1 << 60",
        "count = 'x'",
        "total_size = 'x'",
        "series = series || char(10) || 'more'",
        "series = x'00ff'",
        "value = '1' || char(10) || '2'",
        "ats = x'00'",
        "ats = zeroblob(16)",
    ],
)
def test_damage_in_a_small_segment_is_found_or_changes_nothing(
    connection: sqlite3.Connection, damage: str, place: int
) -> None:
    """A scraper would get events that nobody sent, or the daemon would stop."""
    written = trickle(connection, 10)
    connection.execute(f"UPDATE segment SET {damage} WHERE first = ?", (place,))
    try:
        found = all_events(connection)
    except sqlite3.DatabaseError as error:
        if is_corrupt(error):
            return
        raise
    assert damage.startswith(("count", "total_size"))  # a figure that is not needed here
    assert found == written


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
