"""Queries of the API and the status page: complete, without repetition, in bounded time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.delivery_driver import Rig, with_events
from twisted.internet.defer import CancelledError, Deferred

from oneshotd import query as module
from oneshotd.admission import MAX_WAITING
from oneshotd.core.events import labels_of, metric_of
from oneshotd.errors import Refused, StoreUnavailable
from oneshotd.query import MAX_PAGE, STORE_TIMEOUT, EventQueries, EventSeen, EventsPage, ScraperSeen
from oneshotd.store.sqlite import lookback as recent_module


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "store")
    yield rig
    rig.stop()


def reading_of(rig: Rig) -> EventQueries:
    return EventQueries(rig.store, rig.telemetry, rig.clock)


def asked(reading: EventQueries, filters: dict[str, str] | None = None, **more: Any) -> Deferred[EventsPage]:
    return Deferred.fromCoroutine(reading.events(filters or {}, **more))


def page_of(
    rig: Rig, reading: EventQueries, filters: dict[str, str] | None = None, **more: Any
) -> EventsPage:
    return rig.pump.get(asked(reading, filters, **more))


def scrapers_of(rig: Rig) -> dict[str, ScraperSeen]:
    seen = rig.pump.get(Deferred.fromCoroutine(reading_of(rig).scrapers()))
    return {scraper.name: scraper for scraper in seen}


def test_an_event_is_shown_with_all_its_fields(rig: Rig) -> None:
    rig.append(('m{a="x\\"y",b="line\\nend"}', "1.5"), "other")
    last, first = page_of(rig, reading_of(rig)).events
    at = int(rig.time.wall * 1000)
    assert first == EventSeen(
        seq=1,
        at=at,
        series='m{a="x\\"y",b="line\\nend"}',
        metric="m",
        labels={"a": 'x"y', "b": "line\nend"},
        value="1.5",
    )
    assert last == EventSeen(seq=2, at=at, series="other", metric="other", labels={}, value=None)


def test_a_page_says_where_the_next_one_begins(rig: Rig) -> None:
    rig.append(*"abcde")
    reading = reading_of(rig)
    first = page_of(rig, reading, limit=2)
    assert ([event.seq for event in first.events], first.next) == ([5, 4], 4)
    second = page_of(rig, reading, limit=2, before=first.next)
    assert ([event.seq for event in second.events], second.next) == ([3, 2], 2)
    third = page_of(rig, reading, limit=2, before=second.next)
    assert ([event.seq for event in third.events], third.next) == ([1], None)


def wanted(series: str, where: dict[str, str]) -> bool:
    has = {**labels_of(series), "__name__": metric_of(series)}
    return all(has.get(name, "") == value for name, value in where.items())


BATCHES = st.lists(st.lists(st.sampled_from(["a", "b", 'm{x="1"}', 'm{x="2"}']), max_size=9), max_size=5)


@settings(max_examples=60)
@given(
    batches=BATCHES,
    meanwhile=BATCHES,
    limit=st.integers(1, 12),
    most=st.integers(1, 20),
    stretch=st.integers(1, 9),
    where=st.sampled_from([{}, {"__name__": "m"}, {"x": "2"}, {"x": ""}, {"x": "none"}]),
)
def test_paging_gives_every_event_once_while_others_arrive(
    batches: list[list[str]],
    meanwhile: list[list[str]],
    limit: int,
    most: int,
    stretch: int,
    where: dict[str, str],
) -> None:
    """A list of events would lack one, or have it twice."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_EXAMINED", most)
        patch.setattr(recent_module, "STRETCH_EVENTS", stretch)
        rig = Rig(Path(folder) / "store")
        try:
            for batch in filter(None, batches):
                rig.append(*batch)
            log = [series for batch in batches for series in batch]
            reading, seen = reading_of(rig), list[EventSeen]()
            before: int | None = None
            for turn in range(len(log) + 2):
                page = page_of(rig, reading, where, limit=limit, before=before)
                assert len(page.events) <= limit
                seen += page.events
                before = page.next
                if before is None:
                    break
                if turn < len(meanwhile) and meanwhile[turn]:
                    rig.append(*meanwhile[turn])
            assert before is None, "it has no end"
        finally:
            rig.stop()
    expected = [(seq, series) for seq, series in enumerate(log, 1) if wanted(series, where)]
    assert [(event.seq, event.series) for event in seen] == expected[::-1]


def test_a_query_reads_a_bounded_part_of_the_log(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query without a match would block the store for the length of the log."""
    monkeypatch.setattr(module, "MAX_EXAMINED", 3000)
    for _ in range(10):
        rig.append(*["a"] * 1000)
    page = page_of(rig, reading_of(rig), {"none": "x"})
    assert page.events == ()
    assert page.next is not None
    assert 10_000 - 3000 - 2000 <= page.next <= 10_000 - 3000 + 1


def test_a_page_of_large_events_ends_early(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of a thousand events of the largest size would take 250 MB."""
    monkeypatch.setattr(module, "MAX_PAGE_TEXT", 10_000)
    monkeypatch.setattr(recent_module, "STRETCH_TEXT", 10_000)
    large = f'm{{a="{"x" * 3000}"}}'
    for _ in range(20):
        rig.append(large)
    reading, seen, before = reading_of(rig), list[int](), None
    for _ in range(20):
        page = page_of(rig, reading, limit=1000, before=before)
        assert 1 <= len(page.events) <= 8
        seen += [event.seq for event in page.events]
        before = page.next
        if before is None:
            break
    assert seen == list(range(20, 0, -1))


def test_appends_go_on_during_a_query(rig: Rig) -> None:
    """A query of a long log would block appends until its end."""
    for _ in range(10):
        rig.append(*["a"] * 2000)
    page = asked(reading_of(rig), {"none": "x"})
    rig.append("b")
    assert not page.called
    assert rig.pump.get(page) == EventsPage(events=(), next=None)


@pytest.mark.parametrize("limit", [0, -1, MAX_PAGE + 1])
def test_a_page_has_a_size(rig: Rig, limit: int) -> None:
    with pytest.raises(ValueError, match="limit: expected 1 to 1000"):
        page_of(rig, reading_of(rig), limit=limit)


def test_many_queries_wait_in_turn_and_the_last_are_refused(rig: Rig) -> None:
    rig.append("a")
    reading = reading_of(rig)
    crowd = [asked(reading) for _ in range(MAX_WAITING)]
    with pytest.raises(Refused, match="too many") as refused:
        page_of(rig, reading)
    assert refused.value.status == 503
    for waiting in crowd:
        assert len(rig.pump.get(waiting).events) == 1
    assert len(page_of(rig, reading).events) == 1


@pytest.mark.parametrize("method", ["recent", "census"])
def test_a_store_without_an_answer_is_not_waited_for(rig: Rig, method: str) -> None:
    """A page in a browser would load forever."""
    rig.append("a")
    reading = reading_of(rig)
    rig.store.silent.add(method)
    call = reading.events({}) if method == "recent" else reading.scrapers()
    waiting: Deferred[Any] = Deferred.fromCoroutine(call)
    rig.clock.advance(STORE_TIMEOUT)
    with pytest.raises(StoreUnavailable, match="no answer in 5 s"):
        rig.pump.get(waiting)
    rig.store.resume()
    rig.quiet()
    assert len(page_of(rig, reading).events) == 1
    assert rig.clock.getDelayedCalls() == []


def test_a_disconnected_client_makes_room_for_the_next(rig: Rig) -> None:
    rig.append("a")
    reading = reading_of(rig)
    rig.store.silent.add("recent")
    gone = asked(reading)
    gone.cancel()
    with pytest.raises(CancelledError):
        rig.pump.get(gone)
    rig.store.resume()
    assert len(page_of(rig, reading).events) == 1


def test_a_query_creates_no_scraper_and_consumes_nothing(rig: Rig) -> None:
    rig.append("a", "b")
    before = rig.census()
    page_of(rig, reading_of(rig))
    assert scrapers_of(rig) == {}
    assert rig.census() == before
    assert rig.take() == {"a": 1, "b": 1}


def test_a_scraper_is_shown_with_the_results_of_its_deliveries(rig: Rig) -> None:
    """The page would show a scraper as healthy that loses half of its events."""
    with_events(rig, "a", "b").returned(uncertain=True)
    rig.quiet()
    again = rig.scrape()
    again.delivered()
    rig.quiet()
    assert scrapers_of(rig)["ann"].in_flight
    again.revoked()
    rig.quiet()
    rig.take()
    rig.append("c")
    (ann,) = scrapers_of(rig).values()
    wall = int(rig.time.wall * 1000)
    assert (ann.name, ann.named, ann.live, ann.last_seen, ann.in_flight) == ("ann", True, True, wall, False)
    assert (ann.delivered, ann.returned, ann.revoked, ann.uncertain) == (4, 2, 2, 2)
    assert (ann.pending, ann.owed, ann.oldest_pending, ann.cursor, ann.answered) == (1, 0, wall, 2, 1)
    assert ann.lost == {}


def test_the_interval_of_a_scraper_is_measured(rig: Rig) -> None:
    """The page could not distinguish a late scraper from one with an interval of five minutes."""
    intervals = []
    for pause in (15, 15, 15, 15, 40, 15):
        rig.take()
        intervals.append(scrapers_of(rig)["ann"].interval)
        rig.pass_time(pause)
    rig.take()
    assert intervals[:3] == [None, None, None]  # a first visit is a stranger's
    assert scrapers_of(rig)["ann"].interval == 15


def test_scrapers_are_in_the_order_of_their_names(rig: Rig) -> None:
    for name in ("carl", "ann", "bob"):
        rig.take(name)
    assert list(scrapers_of(rig)) == ["ann", "bob", "carl"]
