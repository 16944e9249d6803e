"""The habit of the timeout header, and identities that get only looks."""

from __future__ import annotations

import pytest

from oneshotd.core.identity import Visit
from oneshotd.core.look import LookReason
from oneshotd.metrics.looks import MAX_NAMES, MAX_REPORTED, LookHistory, TimeoutHabits

PROMETHEUS, TELEGRAF = Visit(name="ann", named=True, timed=True), Visit(name="ann", named=True)
NO_TIMEOUT, PAGE, BROWSER = LookReason.NO_TIMEOUT, LookReason.PAGE, LookReason.BROWSER


# ---- the timeout header ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "lasts"), [(None, 300.0), (1.0, 60.0), (12.0, 60.0), (15.0, 75.0), (300.0, 1500.0)]
)
def test_the_habit_lapses_after_several_intervals(interval: float | None, lasts: float) -> None:
    """A Telegraf that replaces a Prometheus would get no events, or a curl beside it would take them."""
    habits = TimeoutHabits()
    assert not habits.expects_header("ann", interval, 0)
    habits.delivered(PROMETHEUS, 100)
    habits.arrived(PROMETHEUS, 200)
    assert habits.expects_header("ann", interval, 200 + lasts - 0.1)
    assert not habits.expects_header("ann", interval, 200 + lasts)
    assert not habits.expects_header("bob", interval, 200)


def test_a_prometheus_after_an_outage_has_its_habit_again() -> None:
    """After an outage a curl would take events from the Prometheus."""
    habits = TimeoutHabits()
    habits.delivered(PROMETHEUS, 0)
    assert not habits.expects_header("ann", 10, 100)
    habits.arrived(PROMETHEUS, 100)
    assert habits.expects_header("ann", 10, 101)


def test_a_request_with_the_header_starts_no_habit_before_it_is_delivered() -> None:
    habits = TimeoutHabits()
    habits.arrived(PROMETHEUS, 0)
    assert not habits.expects_header("ann", 10, 1)


def test_a_delivery_without_the_header_ends_the_habit() -> None:
    """Older figures of the store would turn the scrapes into looks again."""
    habits = TimeoutHabits()
    habits.delivered(PROMETHEUS, 0)
    habits.delivered(TELEGRAF, 100)
    habits.learn({"ann"}, ["ann"], 101)
    habits.arrived(TELEGRAF, 102)
    assert not habits.expects_header("ann", 10, 103)


def test_the_habit_before_a_restart_is_learnt_from_the_store() -> None:
    habits = TimeoutHabits()
    habits.learn({"ann", "bob"}, ["ann"], 1000)
    assert habits.expects_header("ann", None, 1299) and not habits.expects_header("bob", None, 1000)
    habits.learn({"ann", "bob"}, ["ann"], 1200)
    assert not habits.expects_header("ann", None, 1300), "each reading of the store renews it"
    habits.learn({"bob"}, [], 1200)
    assert not habits.expects_header("ann", None, 1200)


# ---- identities that get only looks ----------------------------------------------------------


def look(history: LookHistory, visit: Visit, reason: LookReason, count: int, every: float) -> list[int]:
    """Look `count` times from second 0 on; return at which looks (from 1) the identity was reported."""
    return [
        number + 1 for number in range(count) if history.looked(visit, reason, number * every) is not None
    ]


def test_a_name_that_gets_only_looks_is_reported_once() -> None:
    history = LookHistory()
    assert look(history, TELEGRAF, NO_TIMEOUT, 10, 10) == [7]
    (only,) = history.only(95)
    assert (only.name, only.reason, only.looks, only.seconds) == ("ann", NO_TIMEOUT, 10, 90)
    (sample,) = history.collect().samples
    assert (sample.labels, sample.value) == ({"scraper": "ann", "reason": "no_timeout_header"}, 10)


def test_a_few_looks_are_a_person() -> None:
    """A person who opens a target's link several times in a minute would be reported."""
    history = LookHistory()
    assert look(history, TELEGRAF, BROWSER, 20, 3) == []
    assert look(history, Visit(name="bob", named=True), BROWSER, 4, 60) == []
    assert look(history, Visit(name="eve", named=True), BROWSER, 20, 400) == []


def test_a_scrape_resets_the_count() -> None:
    history = LookHistory()
    look(history, TELEGRAF, NO_TIMEOUT, 10, 10)
    history.scraped("ann")
    assert history.only(91) == [] and history.collect().samples == []
    history.scraped("unknown")


@pytest.mark.parametrize(
    ("visit", "reason"),
    [
        (TELEGRAF, LookReason.HEAD),
        (TELEGRAF, LookReason.PARAMETER),
        (Visit(name="192.0.2.7 Mozilla"), BROWSER),
        (Visit(name="192.0.2.7 Mozilla"), PAGE),
    ],
)
def test_looks_on_purpose_are_not_reported(visit: Visit, reason: LookReason) -> None:
    """A monitor that asks for looks, or a page left open in a browser, would cause warnings for ever."""
    assert look(LookHistory(), visit, reason, 50, 10) == []


@pytest.mark.parametrize("visit", [Visit(name="192.0.2.7 Java"), Visit(name="a Mozilla", named=True)])
def test_a_library_without_a_name_is_reported_too(visit: Visit) -> None:
    assert look(LookHistory(), visit, BROWSER, 50, 30) == [5]


def test_an_identity_that_stops_looking_is_forgotten() -> None:
    """The warning would stay after its cause has gone."""
    history = LookHistory()
    look(history, TELEGRAF, NO_TIMEOUT, 11, 60)
    assert len(history.only(600 + 299)) == 1
    assert history.only(600 + 300) == []


def test_names_are_bounded() -> None:
    """Invented names would fill the memory and the response."""
    history = LookHistory()
    for turn in range(7):
        for number in range(2 * MAX_NAMES if turn == 0 else MAX_NAMES):
            history.looked(Visit(name=f"n{number}", named=True), PAGE, turn * 20)
    assert len(history.only(120)) <= MAX_NAMES
    assert len(history.collect().samples) <= MAX_REPORTED
    assert MAX_REPORTED < MAX_NAMES
