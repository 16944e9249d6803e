"""A change of modes never gives a sample a time before those that the scraper has."""

from __future__ import annotations

from oneshotd.core.events import Pending
from oneshotd.core.sampling.mode import NO_HISTORY, TimestampHistory, plan_next
from oneshotd.core.sampling.plan import Caps, Plan
from oneshotd.core.scraper_features import Timestamps

NOW = 1_700_000_000_000


def respond(
    wanted: Timestamps, history: TimestampHistory, *ats: int, now: int = NOW
) -> tuple[Plan, TimestampHistory]:
    count = len(ats)
    pending = Pending(
        seqs=range(1, count + 1), series=["a"] * count, values=[None] * count, ats=ats, end=count
    )
    return plan_next(pending, Caps(), wanted=wanted, several=True, history=history, now_ms=now, shown={})


def test_the_time_of_the_scrape_is_remembered() -> None:
    planned, history = respond(Timestamps.SCRAPE, NO_HISTORY, NOW - 5)
    assert planned.samples[0].at is None
    assert history == TimestampHistory(event_time=False, latest=NOW)


def test_an_empty_response_shows_no_time() -> None:
    assert respond(Timestamps.SCRAPE, NO_HISTORY)[1] == NO_HISTORY


def test_a_new_scraper_gets_the_events_own_times() -> None:
    planned, history = respond(Timestamps.EVENT, NO_HISTORY, NOW - 5)
    assert planned.samples[0].at == NOW - 5
    assert history.event_time
    assert history.latest == NOW - 5


def test_the_first_event_times_are_after_the_last_scrape() -> None:
    planned, history = respond(Timestamps.EVENT, TimestampHistory(latest=NOW - 1000), NOW - 2000)
    assert planned.samples[0].at == NOW
    assert history.floor > NOW


def test_scrape_time_waits_until_all_event_times_have_passed() -> None:
    ahead = TimestampHistory(event_time=True, latest=NOW + 10)
    assert respond(Timestamps.SCRAPE, ahead, NOW)[1].event_time
    assert not respond(Timestamps.SCRAPE, ahead, NOW, now=NOW + 11)[1].event_time
