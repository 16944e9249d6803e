"""Looks in front of a store: which requests are looks, for how long, and how that is reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from support.delivery_driver import DeliveryDriver, parsed, sums
from support.fake_store import logged
from support.web_fakes import FakeServer, request
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent

from oneshotd.core.identity import MAX_SCRAPERS, Visit
from oneshotd.core.look import LookReason
from oneshotd.core.scrape_request import Wanted
from oneshotd.core.visits import LAPSE_INTERVALS
from oneshotd.metrics.receivers import ReceiverUse


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[DeliveryDriver]:
    made = DeliveryDriver(tmp_path / "store")
    yield made
    made.stop()


def test_a_scraper_without_the_header_that_takes_over_a_name_gets_its_events(driver: DeliveryDriver) -> None:
    """A Telegraf in a Prometheus' place would get the same events with every scrape, for ever."""
    for _ in range(4):
        driver.append("a")
        assert driver.take("ann", timed=True) == {"a": 1}
        driver.delivery.learn(driver.stats())
        driver.pass_time(15)
    driver.pass_time(LAPSE_INTERVALS * 15 - 15 - 1)
    assert driver.delivery.timed_before("ann")
    driver.pass_time(1)
    assert not driver.delivery.timed_before("ann")
    driver.append("b")
    assert driver.take("ann") == {"b": 1}
    driver.restart()
    assert not driver.delivery.timed_before("ann"), "a restart brings the looks back"
    driver.take("ann", timed=True)
    assert driver.delivery.timed_before("ann")


PROMETHEUS = ("User-Agent: Prometheus/3.5.3", "X-Prometheus-Scrape-Timeout-Seconds: 10")
TELEGRAF = (
    "User-Agent: Telegraf/1.35.0 Go/1.24.3",
    "Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;"
    "q=0.7,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
)
CURL = ("User-Agent: curl/8.14.1", "Accept: */*")


def read(driver: DeliveryDriver, *headers: str) -> str:
    """One request for a name's URL, from its bytes to the response: a look or a scrape."""
    server = FakeServer(delivery=cast(Any, driver.delivery), clock=driver.clock)
    connection = server.connect()
    connection.protocol.dataReceived(request("GET /metrics?scraper=ann", *headers))
    driver.quiet()
    (answer,) = connection.answers("GET")
    for delivery, _ in server.sent:
        if delivery.awaits_receipt:
            delivery.delivered()
            delivery.final()
    driver.quiet()
    return "look" if answer.headers["Oneshotd-Look"] else f"scrape {sums(answer.body).total()}"


def test_a_telegraf_after_a_prometheus_under_the_same_name(driver: DeliveryDriver) -> None:
    """A curl beside the Prometheus would take its events, or the Telegraf after it would get none."""
    for _ in range(3):
        driver.append("a")
        assert read(driver, *PROMETHEUS) == "scrape 1"
        driver.append("b")
        assert read(driver, *CURL) == read(driver, *TELEGRAF) == "look"
        assert read(driver, *PROMETHEUS) == "scrape 1"
        driver.delivery.learn(driver.stats())
        driver.pass_time(15)
    driver.append("c")
    looks = 0
    while read(driver, *TELEGRAF) == "look":
        looks += 1
        assert looks < 50
        driver.pass_time(10)
    assert 3 <= looks <= 30
    assert read(driver, *TELEGRAF) == "scrape 0"
    driver.append("d")
    assert read(driver, *TELEGRAF) == "scrape 1"


def test_scrapes_without_a_delivery_extend_the_habit(driver: DeliveryDriver) -> None:
    """A curl would take the events while the delivery to a slow Prometheus is in flight."""
    driver.take("ann", timed=True)
    driver.append("a")
    slow = driver.scrape("ann", timed=True)
    for _ in range(10):
        driver.pass_time(60)
        driver.scrape("ann", timed=True)
        assert driver.delivery.timed_before("ann")
    slow.returned(uncertain=False)
    driver.quiet()


def test_a_name_that_gets_only_looks_is_in_the_log_and_a_metric(driver: DeliveryDriver) -> None:
    """Its operator would see the same events in every scrape, without a reason."""
    visit = Visit(name="ann", named=True)
    with logged() as events:
        for _ in range(10):
            driver.pump.get(Deferred.fromCoroutine(driver.delivery.look(visit, Wanted(), LookReason.BROWSER)))
            driver.pass_time(15)
    said = [line for line in map(formatEvent, events) if "only looks" in line]
    assert said == [
        "ann gets only looks and no events: its requests carry Upgrade-Insecure-Requests, accept"
        " application/xhtml+xml, or name Mozilla/ and a language, as a browser's do (1 with this reason)"
    ]
    (only,) = (
        sample
        for sample in parsed(driver.telemetry.render(driver.stats())[0])
        if sample.name == "oneshotd_scraper_only_looks"
    )
    assert (only.labels, only.value) == ({"scraper": "ann", "reason": "browser"}, 10)
    driver.take("ann")
    assert driver.figures("oneshotd_scraper_only_looks") == {}


def test_a_named_scraper_is_served_after_many_visitors(driver: DeliveryDriver) -> None:
    """200 visitors would keep a new Prometheus out for as long as events are kept."""
    driver.append("a")
    for number in range(MAX_SCRAPERS):
        driver.take(f"192.0.2.7 visitor{number}")
    assert driver.take("192.0.2.8 Prometheus") == {}
    assert driver.scraped("too_many") == 1
    assert driver.take("ann", timed=True) == {"a": 1}
    driver.append("b")
    assert driver.take("ann", timed=True) == {"b": 1}
    driver.delivery.learn(driver.stats())
    assert driver.delivery.timed_before("ann")


def test_the_own_metrics_alone(driver: DeliveryDriver) -> None:
    """A scrape beside remote write would deliver events, or be kept a cursor."""
    driver.append("a")
    server = FakeServer(delivery=cast(Any, driver.delivery), clock=driver.clock)
    connection = server.connect()
    connection.protocol.dataReceived(request("GET /metrics?scraper=ann&events=0", *PROMETHEUS))
    driver.quiet()
    (answer,) = connection.answers("GET")
    assert answer.status == 200
    assert b"oneshotd_held_events 1.0" in answer.body
    assert sums(answer.body).total() == 0
    assert not driver.stats().scrapers
    assert driver.scraped("look") == driver.scraped("empty") == 0


def test_nobody_scrapes_under_the_name_of_a_receiver(driver: DeliveryDriver) -> None:
    """It would take events that the receiver never gets."""
    driver.append("a")
    use = ReceiverUse(name="ann", address="http://p/w", state="idle")
    driver.telemetry.receivers.report = lambda: [use]
    server = FakeServer(delivery=cast(Any, driver.delivery), clock=driver.clock)
    connection = server.connect()
    for query in ("", "&look", "&events=0"):
        connection.protocol.dataReceived(request(f"GET /metrics?scraper=ann{query}", *PROMETHEUS))
        driver.quiet()
    answers = connection.answers("GET", "GET", "GET")
    assert [answer.status for answer in answers] == [400, 200, 200]
    assert b"scraper: ann is a receiver of remote write" in answers[0].body
    assert not driver.stats().scrapers
