"""Queries of the API and the page: complete, each event once, and bounded in time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.delivery_driver import DeliveryDriver, with_events
from support.examples import examples
from twisted.internet.defer import CancelledError, Deferred

from oneshotd import query as module
from oneshotd.admission import MAX_WAITING
from oneshotd.core.events import Group, NewEvent, detail_text, labels_of, metric_of
from oneshotd.core.identity import Visit
from oneshotd.core.origin import Origin
from oneshotd.core.scrape_request import Wanted
from oneshotd.core.scraper_features import Timestamps
from oneshotd.core.way import Way
from oneshotd.errors import Refused, StoreUnavailable
from oneshotd.metrics.receivers import ReceiverUse
from oneshotd.query import MAX_PAGE, STORE_TIMEOUT, EventQueries, EventSeen, EventsPage, ScraperSeen
from oneshotd.store import log_page as recent_module


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[DeliveryDriver]:
    driver = DeliveryDriver(tmp_path / "store")
    yield driver
    driver.stop()


def queries_of(driver: DeliveryDriver) -> EventQueries:
    return EventQueries(driver.store, driver.telemetry, driver.clock)


def asked(queries: EventQueries, filters: dict[str, str] | None = None, **more: Any) -> Deferred[EventsPage]:
    return Deferred.fromCoroutine(queries.events(filters or {}, **more))


def page_of(
    driver: DeliveryDriver, queries: EventQueries, filters: dict[str, str] | None = None, **more: Any
) -> EventsPage:
    return driver.pump.get(asked(queries, filters, **more))


def scrapers_of(driver: DeliveryDriver) -> dict[str, ScraperSeen]:
    seen = driver.pump.get(Deferred.fromCoroutine(queries_of(driver).scrapers()))
    return {scraper.name: scraper for scraper in seen}


def test_an_event_is_shown_with_all_its_fields(driver: DeliveryDriver) -> None:
    driver.append(('m{a="x\\"y",b="line\\nend"}', "1.5"), "other")
    last, first = page_of(driver, queries_of(driver)).events
    at = int(driver.time.wall * 1000)
    assert first == EventSeen(
        seq=1,
        at=at,
        series='m{a="x\\"y",b="line\\nend"}',
        metric="m",
        labels={"a": 'x"y', "b": "line\nend"},
        value="1.5",
    )
    assert last == EventSeen(seq=2, at=at, series="other", metric="other", labels={}, value=None)


def test_an_event_is_shown_with_its_details(driver: DeliveryDriver) -> None:
    detailed = NewEvent("m", detail=detail_text({"text": "a\nb", "link": "\U0001f600"}))
    driver.pump.get(driver.store.append([Group(events=[NewEvent("m"), detailed])]))
    second, first = page_of(driver, queries_of(driver)).events
    assert (first.detail, second.detail) == ({}, {"link": "\U0001f600", "text": "a\nb"})


def test_a_page_of_long_details_is_short(driver: DeliveryDriver) -> None:
    """The memory of a page, and the answer, would be bounded by the number of events alone."""
    detailed = NewEvent("m", detail=detail_text({"text": "x" * 4000}))
    driver.pump.get(driver.store.append([Group(events=[detailed] * 600)]))
    page = page_of(driver, queries_of(driver), limit=1000)
    assert 200 < len(page.events) < 300 and page.next is not None


def test_a_page_names_the_start_of_the_next_one(driver: DeliveryDriver) -> None:
    driver.append(*"abcde")
    queries = queries_of(driver)
    first = page_of(driver, queries, limit=2)
    assert ([event.seq for event in first.events], first.next) == ([5, 4], 4)
    second = page_of(driver, queries, limit=2, before=first.next)
    assert ([event.seq for event in second.events], second.next) == ([3, 2], 2)
    third = page_of(driver, queries, limit=2, before=second.next)
    assert ([event.seq for event in third.events], third.next) == ([1], None)


def wanted(series: str, where: dict[str, str]) -> bool:
    has = {**labels_of(series), "__name__": metric_of(series)}
    return all(has.get(name, "") == value for name, value in where.items())


BATCHES = st.lists(st.lists(st.sampled_from(["a", "b", 'm{x="1"}', 'm{x="2"}']), max_size=9), max_size=5)


@examples(60)
@given(
    batches=BATCHES,
    meanwhile=BATCHES,
    limit=st.integers(1, 12),
    most=st.integers(1, 20),
    stretch=st.integers(1, 9),
    where=st.sampled_from([{}, {"__name__": "m"}, {"x": "2"}, {"x": ""}, {"x": "none"}]),
)
def test_paging_gives_every_event_once_while_events_arrive(
    batches: list[list[str]],
    meanwhile: list[list[str]],
    limit: int,
    most: int,
    stretch: int,
    where: dict[str, str],
) -> None:
    """A list of events would lack one, or have one twice."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_EXAMINED", most)
        patch.setattr(recent_module, "PAGE_EVENTS", stretch)
        driver = DeliveryDriver(Path(folder) / "store")
        try:
            for batch in filter(None, batches):
                driver.append(*batch)
            log = [series for batch in batches for series in batch]
            queries, seen = queries_of(driver), list[EventSeen]()
            before: int | None = None
            for turn in range(len(log) + 2):
                page = page_of(driver, queries, where, limit=limit, before=before)
                assert len(page.events) <= limit
                seen += page.events
                before = page.next
                if before is None:
                    break
                if turn < len(meanwhile) and meanwhile[turn]:
                    driver.append(*meanwhile[turn])
            assert before is None, "the pages have no end"
        finally:
            driver.stop()
    expected = [(seq, series) for seq, series in enumerate(log, 1) if wanted(series, where)]
    assert [(event.seq, event.series) for event in seen] == expected[::-1]


def test_a_call_examines_a_part_of_the_log_only(
    driver: DeliveryDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query without a match would occupy the store for as long as it takes to read the log."""
    monkeypatch.setattr(module, "MAX_EXAMINED", 3000)
    for _ in range(10):
        driver.append(*["a"] * 1000)
    page = page_of(driver, queries_of(driver), {"none": "x"})
    assert page.events == ()
    assert page.next is not None
    assert 10_000 - 3000 - 2000 <= page.next <= 10_000 - 3000 + 1


def test_a_page_of_large_events_ends_early(driver: DeliveryDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand events of the largest kind would take a quarter of a gigabyte."""
    monkeypatch.setattr(module, "MAX_PAGE_TEXT", 10_000)
    monkeypatch.setattr(recent_module, "PAGE_TEXT", 10_000)
    large = f'm{{a="{"x" * 3000}"}}'
    for _ in range(20):
        driver.append(large)
    queries, seen, before = queries_of(driver), list[int](), None
    for _ in range(20):
        page = page_of(driver, queries, limit=1000, before=before)
        assert 1 <= len(page.events) <= 8
        seen += [event.seq for event in page.events]
        before = page.next
        if before is None:
            break
    assert seen == list(range(20, 0, -1))


def test_appends_go_on_during_a_query(driver: DeliveryDriver) -> None:
    """A query of a long log would stop the ingest until its end."""
    for _ in range(10):
        driver.append(*["a"] * 2000)
    page = asked(queries_of(driver), {"none": "x"})
    driver.append("b")
    assert not page.called
    assert driver.pump.get(page) == EventsPage(events=(), next=None)


@pytest.mark.parametrize("limit", [0, -1, MAX_PAGE + 1])
def test_the_size_of_a_page_is_bounded(driver: DeliveryDriver, limit: int) -> None:
    with pytest.raises(ValueError, match="limit: expected 1 to 1000"):
        page_of(driver, queries_of(driver), limit=limit)


def test_queries_run_one_at_a_time_and_too_many_are_refused(driver: DeliveryDriver) -> None:
    driver.append("a")
    queries = queries_of(driver)
    crowd = [asked(queries) for _ in range(MAX_WAITING)]
    with pytest.raises(Refused, match="too many") as refused:
        page_of(driver, queries)
    assert refused.value.status == 503
    for waiting in crowd:
        assert len(driver.pump.get(waiting).events) == 1
    assert len(page_of(driver, queries).events) == 1


@pytest.mark.parametrize("method", ["recent", "stats"])
def test_a_store_without_an_answer_is_a_timeout(driver: DeliveryDriver, method: str) -> None:
    """A browser would load the page for ever."""
    driver.append("a")
    queries = queries_of(driver)
    driver.store.silent.add(method)
    call = queries.events({}) if method == "recent" else queries.scrapers()
    waiting: Deferred[Any] = Deferred.fromCoroutine(call)
    driver.clock.advance(STORE_TIMEOUT)
    with pytest.raises(StoreUnavailable, match="no answer in 5 s"):
        driver.pump.get(waiting)
    driver.store.resume()
    driver.quiet()
    assert len(page_of(driver, queries).events) == 1
    assert driver.clock.getDelayedCalls() == []


def test_a_cancelled_query_leaves_the_queue(driver: DeliveryDriver) -> None:
    driver.append("a")
    queries = queries_of(driver)
    driver.store.silent.add("recent")
    gone = asked(queries)
    gone.cancel()
    with pytest.raises(CancelledError):
        driver.pump.get(gone)
    driver.store.resume()
    assert len(page_of(driver, queries).events) == 1


def test_a_query_registers_no_scraper_and_takes_no_event(driver: DeliveryDriver) -> None:
    driver.append("a", "b")
    before = driver.stats()
    page_of(driver, queries_of(driver))
    assert scrapers_of(driver) == {}
    assert driver.stats() == before
    assert driver.take() == {"a": 1, "b": 1}


def test_a_scraper_is_shown_with_the_counts_of_its_events(driver: DeliveryDriver) -> None:
    """The page would show no fault of a scraper that loses half of its events."""
    with_events(driver, "a", "b").returned(uncertain=True)
    driver.quiet()
    again = driver.scrape()
    again.delivered()
    driver.quiet()
    assert scrapers_of(driver)["ann"].in_flight
    again.revoked()
    driver.quiet()
    driver.take()
    driver.append("c")
    (ann,) = scrapers_of(driver).values()
    wall = int(driver.time.wall * 1000)
    assert (ann.name, ann.named, ann.live, ann.last_seen, ann.in_flight) == ("ann", True, True, wall, False)
    assert (ann.delivered, ann.returned, ann.revoked, ann.uncertain) == (4, 2, 2, 2)
    assert (ann.pending, ann.owed, ann.oldest_pending, ann.cursor, ann.answered) == (1, 0, wall, 2, 1)
    assert ann.lost == {}


def test_the_interval_of_a_scraper_is_known_from_its_scrapes(driver: DeliveryDriver) -> None:
    """A late scraper could not be told from one that scrapes every five minutes."""
    intervals = []
    for pause in (15, 15, 15, 15, 40, 15):
        driver.take()
        intervals.append(scrapers_of(driver)["ann"].interval)
        driver.pass_time(pause)
    driver.take()
    assert intervals[:3] == [None, None, None]  # at its first scrape it is an unknown scraper
    assert scrapers_of(driver)["ann"].interval == 15


def test_the_way_of_a_scraper_is_that_of_its_last_response(driver: DeliveryDriver) -> None:
    """`oneshotctl audit` would count other samples than there are."""
    driver.take("ann")
    event = Wanted(timestamps=Timestamps.EVENT)
    asked = driver.delivery.scrape(Visit(name="eve", named=True), event, timeout=10.0)
    driver.pump.get(Deferred.fromCoroutine(asked))
    driver.take("r")
    driver.telemetry.receivers.report = lambda: [ReceiverUse(name="r", address="http://r/", state="idle")]
    found = scrapers_of(driver)
    assert {name: each.way for name, each in found.items()} == {
        "ann": Way.SCRAPE,
        "eve": Way.EVENT,
        "r": Way.PUSH,
    }
    driver.restart()
    assert {each.way for each in scrapers_of(driver).values()} == {None}


def test_a_scraper_at_the_host_of_a_receiver_is_reported_while_it_scrapes(driver: DeliveryDriver) -> None:
    """Each event would be twice in a store that is scraped and pushed to, and nobody would know why."""
    driver.telemetry.receivers.report = lambda: [
        ReceiverUse(name=name, address="http://r/", state="idle", host=host)
        for name, host in {"r": "192.0.2.7", "s": "192.0.2.8", "new": ""}.items()
    ]
    for _ in range(2):
        for name, host in {"ann": "192.0.2.7", "bob": "192.0.2.9", "r": "192.0.2.7"}.items():
            asked = driver.delivery.scrape(
                Visit(name=name, named=True),
                Wanted(),
                timeout=10.0,
                origin=Origin(host=host, product="Prometheus"),
            )
            driver.pump.get(Deferred.fromCoroutine(asked))
        driver.quiet()
    assert {name: each.same_store for name, each in scrapers_of(driver).items()} == {
        "ann": ("r",),
        "bob": (),
        "r": (),
    }
    driver.pass_time(299)
    assert scrapers_of(driver)["ann"].same_store == ("r",)
    driver.pass_time(2)
    assert scrapers_of(driver)["ann"].same_store == (), "it was given up"


def test_the_longest_lag_of_a_scraper_is_that_of_its_slowest_event(driver: DeliveryDriver) -> None:
    """`oneshotctl audit` would take late samples for repeated ones."""
    driver.append("a")
    driver.pass_time(12)
    driver.append("b")
    assert [scraper.longest_lag for scraper in scrapers_of(driver).values()] == []
    driver.take()
    since = int(driver.time.wall * 1000)
    driver.pass_time(15)
    driver.append("c")
    driver.pass_time(3)
    driver.take()
    (ann,) = scrapers_of(driver).values()
    assert (ann.longest_lag, ann.lag_since) == (12.0, since)
    driver.take("bob")
    assert scrapers_of(driver)["bob"].longest_lag == 30.0


def test_scrapers_are_sorted_by_name(driver: DeliveryDriver) -> None:
    for name in ("carl", "ann", "bob"):
        driver.take(name)
    assert list(scrapers_of(driver)) == ["ann", "bob", "carl"]
