"""The counts of the last hour: every event in its minute, however many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar, cast

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from support.status_examples import NOW, seen
from twisted.internet.defer import Deferred

from oneshotd.query import EventQueries, EventSeen, EventsPage, ScraperSeen
from oneshotd.web.status import hour as status_hour
from oneshotd.web.status.hour import MINUTE, MINUTES, OTHER, Hour, LastHour, type_of

T = TypeVar("T")


@define
class Log:
    """A log that is read page by page."""

    events_: list[EventSeen] = field(factory=list)
    pages: int = 0
    page: int = 1000

    def happen(self, seconds_ago: float, kind: str = "deploy", times: int = 1) -> None:
        for _ in range(times):
            self.events_.append(seen(len(self.events_) + 1, seconds_ago, kind))

    async def events(
        self,
        filters: Mapping[str, str],
        since: int | None = None,
        until: int | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> EventsPage:
        self.pages += 1
        assert limit <= 1000
        older = [event for event in reversed(self.events_) if before is None or event.seq < before]
        taken = older[: min(limit, self.page)]
        return EventsPage(events=tuple(taken), next=taken[-1].seq if len(older) > len(taken) else None)

    async def scrapers(self) -> list[ScraperSeen]:
        raise NotImplementedError


def now(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that does not wait."""
    results: list[T] = []
    Deferred.fromCoroutine(work).addCallback(results.append)
    (result,) = results
    return result


def totals(hour: Hour) -> dict[str, int]:
    return {kind: sum(counts) for kind, counts in hour.counts}


def test_an_event_stands_in_its_minute_under_its_type() -> None:
    log = Log()
    log.happen(3700, "too old")
    log.happen(59 * 60, "first")
    log.happen(65, "backup", times=2)
    log.happen(1, "backup")
    hour = now(LastHour(cast(EventQueries, log), 20).update(NOW))
    assert totals(hour) == {"backup": 3, "first": 1}
    assert dict(hour.counts)["backup"] == (0,) * 58 + (2, 1)
    assert dict(hour.counts)["first"] == (1,) + (0,) * 59
    assert (hour.since, hour.start, hour.events) == (hour.start, NOW // MINUTE * MINUTE - 59 * MINUTE, 4)


def test_an_event_without_a_type_stands_under_its_metric() -> None:
    assert type_of(seen(1, 0, None, note="x")) == "happened"


def test_what_is_known_is_not_read_again_and_what_is_past_goes() -> None:
    log = Log()
    log.happen(30)
    hour = LastHour(cast(EventQueries, log), 20)
    now(hour.update(NOW))
    log.happen(0)
    assert totals(now(hour.update(NOW))) == {"deploy": 2}
    assert totals(now(hour.update(NOW))) == {"deploy": 2}
    assert log.pages == 3
    assert [event.seq for event in hour.latest] == [2, 1]
    assert now(hour.update(NOW + 3_600_000)).counts == ()


def test_an_hour_with_many_events_is_counted_step_by_step() -> None:
    """The first update would read a million events, or the chart would show too few."""
    log = Log()
    for minute in range(50, 0, -1):
        log.happen(minute * 60, times=100)
    hour = LastHour(cast(EventQueries, log), 20)
    first = now(hour.update(NOW))
    assert log.pages <= 2
    assert 1000 <= first.events < 5000
    assert first.since > first.start
    looks = 0
    while (found := now(hour.update(NOW))).since > found.start:
        looks += 1
        assert looks < 10
    assert found.events == 5000


def test_a_flood_between_two_looks_costs_a_bounded_reading() -> None:
    log = Log()
    log.happen(600, "before")
    hour = LastHour(cast(EventQueries, log), 20)
    now(hour.update(NOW))
    log.happen(2, "flood", times=10_000)
    before = log.pages
    found = now(hour.update(NOW))
    assert log.pages - before <= status_hour.STEPS
    assert totals(found) == {"flood": 20 + (status_hour.STEPS - 1) * status_hour.STEP}
    assert found.since == NOW - 2000
    for _ in range(10):
        found = now(hour.update(NOW))
    assert totals(found) == {"flood": 10_000, "before": 1}


def test_types_without_end_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_hour, "MAX_TYPES", 5)
    log = Log()
    for n in range(40):
        log.happen(5, f"type {n}")
    found = now(LastHour(cast(EventQueries, log), 20).update(NOW))
    assert len(found.counts) <= 6
    assert totals(found)[OTHER] == 35


@given(
    batches=st.lists(
        st.lists(st.tuples(st.integers(0, 70), st.sampled_from("abc")), max_size=12), max_size=6
    ),
    page=st.integers(1, 7),
)
def test_in_the_end_every_event_is_counted_once(batches: list[list[tuple[int, str]]], page: int) -> None:
    """The counts are right for all events between two updates and all sizes of pages."""
    log = Log(page=page)
    hour = LastHour(cast(EventQueries, log), 5)
    ages = sorted((age for batch in batches for age, _ in batch), reverse=True)
    for batch in batches:
        for _, kind in batch:
            log.happen(ages.pop(0) * 60, kind)
        now(hour.update(NOW))
    for _ in range(80):
        found = now(hour.update(NOW))
    start = found.start
    expected = Counter(type_of(event) for event in log.events_ if event.at >= start)
    assert totals(found) == expected
    assert found.since == start
    assert all(len(counts) == MINUTES for _, counts in found.counts)
