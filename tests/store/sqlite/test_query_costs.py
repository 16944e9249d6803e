"""What a scrape, an append and upkeep ask of the file costs the same beside a short and a long log.

Held twice: by the plan of every statement that is run (`EXPLAIN QUERY PLAN`), and by the number
of instructions of SQLite's virtual machine, which is exact where a measured time is not.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.store_backends import SettableClock

from oneshotd.core.batches import SeriesBatch
from oneshotd.core.events import End, Group, NewEvent, Start, StateChange
from oneshotd.core.filters import Selection
from oneshotd.core.identity import Visit
from oneshotd.store.limits import Limits
from oneshotd.store.sqlite.connection import open_database
from oneshotd.store.sqlite.figures import stats
from oneshotd.store.sqlite.ledger import Ledger
from oneshotd.store.sqlite.lookback import recent
from oneshotd.store.sqlite.retention import make_room, prune

SCRAPERS = 10
SHORT, LONG = 300, 3000
DETAIL = '{"text":"x"}'
STATES: list[StateChange] = [Start(event=0, key="new", seconds=60.0), End(event=0, key="state 7")]


class Log:
    """A ledger on a file with a log of commits of one event, and scrapers with pending events."""

    def __init__(self, folder: Path, commits: int) -> None:
        self.time = SettableClock()
        self.visitors = 0
        self.connection = open_database(str(folder / f"{commits}.sqlite"))
        self.ledger = Ledger(Limits(max_keys=commits, max_states=commits), self.time.clock)
        self.ledger.load(self.connection)
        self.in_transaction(lambda: self.fill(commits))

    def in_transaction(self, work: Callable[[], object]) -> None:
        """Run this as the store's thread does."""
        self.connection.execute("BEGIN IMMEDIATE")
        self.ledger.begin()
        work()
        self.ledger.flush()
        make_room(self.ledger)
        self.connection.execute("COMMIT")

    def fill(self, commits: int) -> None:
        """Segments of one event with a key of its own, and scrapers that stand in the last part of the
        log, where a scan from the old end comes last."""
        for number in range(commits):
            event = NewEvent(f's{{n="{number}"}}', None, f"key {number}", DETAIL)
            states = [Start(event=0, key=f"state {number}", seconds=3600.0)]
            self.ledger.append([Group(events=[event], states=states)])
            self.ledger.flush()
        for number in range(SCRAPERS):
            token = self.ledger.reserve(visit(number), 60.0, 1).token
            assert token is not None
            self.ledger.settle(token, True, commits - 100 + number, (), ())
            self.ledger.release(token)

    def scrape(self) -> None:
        """A scrape that is delivered, and the stats that go with it."""
        reservation = self.ledger.reserve(visit(0), 60.0, 20)
        assert reservation.token is not None
        pending = reservation.pending
        self.ledger.settle(reservation.token, True, pending.seqs[-1], pending.seqs[:5], ())
        self.ledger.revoke(reservation.token)
        stats(self.ledger)

    def first_scrape(self) -> None:
        """A scrape of a scraper that was never seen before."""
        self.visitors += 1
        self.ledger.reserve(Visit(name=f"new {self.visitors}", named=True), 60.0, 20)


def visit(number: int) -> Visit:
    return Visit(name=f"scraper {number}", named=True)


#: Everything that is asked while the daemon works.
WORK: dict[str, Callable[[Log], object]] = {
    "stats": lambda log: stats(log.ledger),
    "scrape": Log.scrape,
    "first scrape": Log.first_scrape,
    "look": lambda log: log.ledger.look(visit(0), 20),
    "append": lambda log: log.ledger.append([Group(events=SeriesBatch(['s{n="new"}']))]),
    "append with keys": lambda log: log.ledger.append([Group(events=[NewEvent("s", None, "a new key")])]),
    "append with a detail": lambda log: log.ledger.append([Group(events=[NewEvent("s", detail=DETAIL)])]),
    "append with a state": lambda log: log.ledger.append([Group(events=[NewEvent("s")], states=STATES)]),
    "check": lambda log: log.ledger.write_time(),
    "prune": lambda log: prune(log.ledger),
    "recent": lambda log: recent(log.ledger, Selection(), None, 20),
}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Log, Log]]:
    folder = tmp_path_factory.mktemp("logs")
    logs = Log(folder, SHORT), Log(folder, LONG)
    for log in logs:
        log.in_transaction(lambda log=log: prune(log.ledger))  # type: ignore[misc]
    yield logs
    for log in logs:
        log.connection.close()


def statements(log: Log, work: Callable[[Log], object]) -> list[str]:
    """What is run, with its values."""
    found: list[str] = []
    log.connection.set_trace_callback(found.append)
    try:
        log.in_transaction(lambda: work(log))
    finally:
        log.connection.set_trace_callback(None)
    kinds = ("SELECT", "INSERT", "UPDATE", "DELETE")
    return [text for text in found if text.startswith(kinds)]


def scans(connection: sqlite3.Connection, statement: str) -> list[str]:
    """Where its plan walks a table or an index that grows with the log, or sorts."""
    # From one end, in the order of an index, until the reader has enough.
    in_order = set(re.findall(r"FROM (\w+) ORDER BY", statement))
    found = []
    for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {statement}"):
        walked = re.match(r"SCAN (segment|key|owed|detail|keyed_state)\b", step)
        if (walked and walked[1] not in in_order) or ("TEMP B-TREE" in step and "FROM loss" not in statement):
            found.append(step)
    return found


@pytest.mark.parametrize("name", WORK)
def test_no_statement_walks_the_log_or_the_keys(logs: tuple[Log, Log], name: str) -> None:
    """Each scrape beside a large log would keep all appends waiting."""
    log = logs[0]
    walks = {text: found for text in statements(log, WORK[name]) if (found := scans(log.connection, text))}
    assert walks == {}


def test_the_rule_sees_a_walk(logs: tuple[Log, Log]) -> None:
    """The rule above would hold for any statement."""
    for statement in (
        "SELECT clock_at FROM segment WHERE first > 5 - count ORDER BY first LIMIT 1",
        "SELECT count(*) FROM key",
        "SELECT first FROM segment ORDER BY up",
        "DELETE FROM key WHERE key IN (SELECT key FROM key WHERE stored = 1)",
    ):
        assert scans(logs[0].connection, statement), statement


def instructions(log: Log, work: Callable[[Log], object]) -> int:
    """Instructions of SQLite's virtual machine that the work takes, commit included."""
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 0

    log.connection.set_progress_handler(count, 1)
    try:
        log.in_transaction(lambda: work(log))
    finally:
        log.connection.set_progress_handler(None, 1)
    return counted


@pytest.mark.parametrize("name", WORK)
def test_the_work_does_not_grow_with_the_log(logs: tuple[Log, Log], name: str) -> None:
    """A daemon would become slower with every event that it holds."""
    short, long = (instructions(log, WORK[name]) for log in logs)
    # The binary search for a newcomer's window takes a few steps more.
    assert long <= 1.1 * short + 200, (short, long)


def test_stats_cost_a_scraper_with_pending_events_a_look_up(logs: tuple[Log, Log]) -> None:
    """With 200 scrapers each scrape would take the store's thread for milliseconds."""
    log = logs[1]
    pending = [status for status in stats(log.ledger).scrapers if status.pending]
    assert len(pending) >= SCRAPERS
    assert instructions(log, lambda log: stats(log.ledger)) <= 60 * len(pending) + 60
