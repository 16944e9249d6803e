"""The warnings of the status page, and its chart."""

from __future__ import annotations

import re
from typing import Any

import pytest
from attrs import evolve
from support.status_examples import ANN, NOW
from twisted.internet.defer import Deferred
from twisted.web.template import flattenString

from oneshotd.core.look import LookReason
from oneshotd.metrics.looks import OnlyLooks
from oneshotd.query import ScraperSeen
from oneshotd.web.status.chart import MAX_ROWS, Row, rows, strip, words
from oneshotd.web.status.hour import MINUTE, OTHER, Hour
from oneshotd.web.status.wording import MAX_WARNINGS, count, short, shown, spoken, warnings

BOB = evolve(ANN, name="192.0.2.7 Prometheus")


def said(*scrapers: ScraperSeen, lost: dict[str, dict[str, int]] | None = None) -> list[str]:
    found = warnings(scrapers, now=NOW, hold=3600.0, problem=None, lost=lost or {})
    return [warning.text for warning in found]


@pytest.mark.parametrize(
    ("seconds", "table", "sentence"),
    [
        (-3, "0 s", "0 seconds"),
        (0.4, "0 s", "0 seconds"),
        (1, "1 s", "1 second"),
        (89, "89 s", "89 seconds"),
        (90, "2 min", "2 minutes"),
        (720, "12 min", "12 minutes"),
        (7199, "120 min", "120 minutes"),
        (7200, "2 h", "2 hours"),
        (200_000, "2 d", "2 days"),
    ],
)
def test_durations(seconds: float, table: str, sentence: str) -> None:
    assert (short(seconds), spoken(seconds)) == (table, sentence)


def test_numbers() -> None:
    assert [count(n, "event") for n in (0, 1, 1234)] == ["0 events", "1 event", "1,234 events"]


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("joão 部署 🎉", "joão 部署 🎉"),
        ("a\u202eb\u2066c\u200bd\ufeff", "a\\u202eb\\u2066c\\u200bd\\ufeff"),
        ("a\nb\tc\x00\x7f", "a\\nb\\tc\\x00\\x7f"),
        ("x" * 30, "x" * 30),
        ("x" * 31, "x" * 29 + "…"),
        ("\U000e0001" * 30, "\\U000e0001\\U000e0001\\U000e000…"),
    ],
)
def test_text_of_strangers_is_as_it_looks(text: str, visible: str) -> None:
    assert shown(text, 30) == visible


def test_without_a_problem_there_is_no_warning() -> None:
    assert said(ANN, BOB, evolve(ANN, live=False, last_seen=0)) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"last_seen": NOW - 720_000, "pending": 40},
            "192.0.2.7 Prometheus has not scraped for 12 minutes;"
            " its 40 events are kept for another 48 minutes.",
        ),
        (
            {"last_seen": NOW - 720_000, "pending": 1},
            "192.0.2.7 Prometheus has not scraped for 12 minutes;"
            " its 1 event is kept for another 48 minutes.",
        ),
        (
            {"last_seen": NOW - 720_000},
            "192.0.2.7 Prometheus has not scraped for 12 minutes; no events wait for it.",
        ),
        (
            {"last_seen": NOW - 3_700_000, "pending": 2},
            "192.0.2.7 Prometheus has not scraped for 62 minutes; its 2 events are about to be deleted.",
        ),
        (
            {"shared": True},
            "Two connections seem to share one identity, 192.0.2.7 Prometheus: give each its own name,"
            " ?scraper=NAME, or each gets only a part of the events.",
        ),
        (
            {"same_store": ("a", "b")},
            "192.0.2.7 Prometheus scrapes from the host to which events for a and b are sent: if that is one"
            " store, it has each event twice; let it scrape with events=0.",
        ),
        (
            {"owed": 31, "queueing": 1},
            "31 events of one series wait for 192.0.2.7 Prometheus: a scrape delivers one event of a series.",
        ),
        (
            {"owed": 1, "queueing": 2},
            "1 event of 2 series waits for 192.0.2.7 Prometheus: a scrape delivers one event of a series.",
        ),
        (
            {"lost": {"away": 1_200, "log full": 1}},
            "192.0.2.7 Prometheus has missed 1,201 events for good: 1,200 because it did not scrape for"
            " longer than events are kept and 1 because the log was full.",
        ),
        (
            {"lost": {"odd": 2}},
            "192.0.2.7 Prometheus has missed 2 events for good: 2 for the reason “odd”.",
        ),
        (
            {"lost": {"label_limit": 1}},
            "192.0.2.7 Prometheus has missed 1 event for good: 1 beyond its label_limit.",
        ),
        (
            {"own_beyond": ("body_size_limit", "label_limit")},
            "The daemon's own metrics alone do not fit into the body_size_limit and the label_limit of"
            " 192.0.2.7 Prometheus: some of them are left out of its responses.",
        ),
        (
            {"lost": {"refused by scraper": 3}},
            "192.0.2.7 Prometheus has missed 3 events for good: 3 because it resets each response with"
            " them (the log names their series).",
        ),
    ],
)
def test_each_problem_has_a_warning(change: dict[str, Any], text: str) -> None:
    assert said(ANN, evolve(BOB, **change)) == [text]


def test_lost_events_of_a_removed_scraper_are_shown_for_a_day() -> None:
    """The page would say that all is well as soon as the scraper is given up."""
    assert said(ANN, lost={"gone": {"away": 7}, "ann": {"away": 0}}) == [
        "gone has missed 7 events for good: 7 because it did not scrape for longer than events are kept."
        " No events are kept for it any more."
    ]


@pytest.mark.parametrize(
    ("interval", "seconds", "late"),
    [
        (1.0, 59, False),
        (1.0, 61, True),
        (60.0, 179, False),
        (60.0, 181, True),
        (None, 299, False),
        (None, 301, True),
    ],
)
def test_a_scraper_is_late_by_its_own_interval(interval: float | None, seconds: int, late: bool) -> None:
    """A slow scraper would be an alarm at every look, a quick one be missed for long."""
    scraper = evolve(ANN, interval=interval, last_seen=NOW - seconds * 1000)
    assert bool(said(scraper)) == late


def test_the_worst_stands_first_and_the_list_ends() -> None:
    many = [evolve(ANN, name=f"s{n}", last_seen=NOW - 720_000) for n in range(199)]
    found = warnings(
        [*many, evolve(ANN, lost={"away": 1})], now=NOW, hold=3600.0, problem="store: full", lost={}
    )
    assert len(found) == MAX_WARNINGS
    assert found[0].text == "Not ready: store: full"
    assert found[1].text.startswith("ann has missed 1 event")
    assert "200 scrapers are known" in found[2].text
    assert [warning.bad for warning in found] == [True] * 3 + [False] * 9
    assert found[-1].text == f"And {199 - 8} more warnings."


# The picture.


def hour(*counts: tuple[str, tuple[int, ...]], since: int = 0) -> Hour:
    start = NOW // MINUTE * MINUTE - 59 * MINUTE
    return Hour(start=start, counts=counts, since=start + since)


def drawn(row: Row, of: Hour, highest: int) -> str:
    results: list[bytes] = []
    flat: Deferred[bytes] = flattenString(None, strip(row, of, highest, "words"))
    flat.addCallback(results.append)
    return results[0].decode()


def bars(*minutes: int) -> tuple[int, ...]:
    return tuple(minutes) + (0,) * (60 - len(minutes))


def test_a_bar_stands_in_its_minute_and_one_event_beside_a_thousand_is_seen() -> None:
    svg = drawn(Row(kind="a", counts=bars(1, 0, 1000)), hour(), 1000)
    heights = {int(x): float(height) for x, height in re.findall(r"M(\d+) 24v-([\d.]+)h8", svg)}
    assert heights.keys() == {1, 21}
    assert heights[21] == 24
    assert 4 < heights[1] < 6


def test_the_number_of_marks_does_not_grow_with_the_events() -> None:
    """A flood would make the page as large as itself."""
    crowd = hour(*((f"type {n:03}", (10_000,) * 60) for n in range(400)), (OTHER, (1,) * 60))
    found = rows(crowd)
    assert len(found) == MAX_ROWS + 1
    assert (found[-1].kind, found[-1].others) == (None, 393)
    assert found[-1].counts == [392 * 10_000 + 1] * 60
    assert len("".join(drawn(row, crowd, 3_920_001) for row in found)) < 20_000


def test_the_part_that_is_not_counted_yet_is_shaded() -> None:
    assert 'width="300"' in drawn(Row(kind="a", counts=bars()), hour(since=30 * MINUTE), 1)
    assert "uncounted" not in drawn(Row(kind="a", counts=bars()), hour(), 1)


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        (bars(), "no events"),
        (bars(0, 3), "3 events, at 01"),
        (bars(0, 1, 0, 1), "2 events between 01 and 03"),
        (bars(0, 1, 0, 1200), "1,201 events between 01 and 03, most at 03: 1,200"),
    ],
)
def test_the_picture_in_words(counts: tuple[int, ...], text: str) -> None:
    clock = [f"{minute:02}" for minute in range(60)]
    assert words(Row(kind="a", counts=counts), hour(), clock) == text


def test_a_name_that_gets_only_looks_needs_a_look() -> None:
    """The person who set it up finds the reason, whether the scraper is known or not."""
    only = OnlyLooks(name="gate", reason=LookReason.NO_TIMEOUT, looks=1_200, seconds=7_200)
    found = warnings([ANN], now=NOW, hold=3600.0, problem=None, lost={}, only_looks=[only])
    assert [warning.text for warning in found] == [
        "gate gets only looks and no events, 1,200 in 2 hours: its requests lack"
        " X-Prometheus-Scrape-Timeout-Seconds, which another scraper under this name sends."
    ]


def test_a_crowd_of_visitors_leaves_room_for_names() -> None:
    """At the maximum, further scrapers are refused only if all known ones are live."""
    visitors = [evolve(ANN, name=f"192.0.2.7 v{n}", named=False, live=False) for n in range(199)]
    assert "those with a name replace visitors" in said(ANN, *visitors)[0]
    assert "further ones get no events" in said(*(evolve(ANN, name=f"s{n}") for n in range(200)))[0]
