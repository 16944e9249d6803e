"""Looks in front of a store: who gets them, for how long, and how it is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from support.delivery_driver import Rig, parsed, sums
from support.fake_store import logged
from support.web_fakes import House, request
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent

from oneshotd.core.identity import MAX_SCRAPERS, Visit
from oneshotd.core.look import LookReason
from oneshotd.core.scrape_request import Wanted
from oneshotd.metrics.looks import LAPSE_INTERVALS


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "store")
    yield made
    made.stop()


def test_a_scraper_without_the_header_that_takes_over_a_name_gets_its_events(rig: Rig) -> None:
    """A Telegraf in a Prometheus' place would get the same events with every scrape, for ever."""
    for _ in range(4):
        rig.append("a")
        assert rig.take("ann", timed=True) == {"a": 1}
        rig.delivery.learn(rig.census())
        rig.pass_time(15)
    rig.pass_time(LAPSE_INTERVALS * 15 - 15 - 1)
    assert rig.delivery.timed_before("ann")
    rig.pass_time(1)
    assert not rig.delivery.timed_before("ann")
    rig.append("b")
    assert rig.take("ann") == {"b": 1}
    rig.restart()
    assert not rig.delivery.timed_before("ann"), "a restart brings the looks back"
    rig.take("ann", timed=True)
    assert rig.delivery.timed_before("ann")


PROMETHEUS = ("User-Agent: Prometheus/3.5.3", "X-Prometheus-Scrape-Timeout-Seconds: 10")
TELEGRAF = (
    "User-Agent: Telegraf/1.35.0 Go/1.24.3",
    "Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;"
    "q=0.7,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
)
CURL = ("User-Agent: curl/8.14.1", "Accept: */*")


def read(rig: Rig, *headers: str) -> str:
    """A read of one name's URL, from the bytes of the request to those of the answer: look or scrape."""
    house = House(delivery=cast(Any, rig.delivery), clock=rig.clock)
    connection = house.connect()
    connection.protocol.dataReceived(request("GET /metrics?scraper=ann", *headers))
    rig.quiet()
    (answer,) = connection.answers("GET")
    for shipment, _ in house.sent:
        if shipment.awaits_receipt:
            shipment.delivered()
            shipment.final()
    rig.quiet()
    return "look" if answer.headers["Oneshotd-Look"] else f"scrape {sums(answer.body).total()}"


def test_a_telegraf_after_a_prometheus_under_the_same_name(rig: Rig) -> None:
    """As their requests come: the curl beside the Prometheus looks, the Telegraf after it scrapes."""
    for _ in range(3):
        rig.append("a")
        assert read(rig, *PROMETHEUS) == "scrape 1"
        rig.append("b")
        assert read(rig, *CURL) == read(rig, *TELEGRAF) == "look"
        assert read(rig, *PROMETHEUS) == "scrape 1"
        rig.delivery.learn(rig.census())
        rig.pass_time(15)
    rig.append("c")
    looks = 0
    while read(rig, *TELEGRAF) == "look":
        looks += 1
        assert looks < 50
        rig.pass_time(10)
    assert 3 <= looks <= 30
    assert read(rig, *TELEGRAF) == "scrape 0"
    rig.append("d")
    assert read(rig, *TELEGRAF) == "scrape 1"


def test_scrapes_that_come_keep_the_rule_even_where_nothing_is_delivered(rig: Rig) -> None:
    """A person's curl takes nothing while a slow Prometheus holds the delivery."""
    rig.take("ann", timed=True)
    rig.append("a")
    slow = rig.scrape("ann", timed=True)
    for _ in range(10):
        rig.pass_time(60)
        rig.scrape("ann", timed=True)
        assert rig.delivery.timed_before("ann")
    slow.returned(uncertain=False)
    rig.quiet()


def test_a_name_that_gets_only_looks_is_told_in_the_log_and_a_metric(rig: Rig) -> None:
    """Its operator sees the same events in every scrape and would never learn why."""
    visit = Visit(name="ann", named=True)
    with logged() as events:
        for _ in range(10):
            rig.pump.get(Deferred.fromCoroutine(rig.delivery.look(visit, Wanted(), LookReason.BROWSER)))
            rig.pass_time(15)
    said = [line for line in map(formatEvent, events) if "only looks" in line]
    assert said == [
        "ann gets only looks and no events: its requests carry Upgrade-Insecure-Requests or accept"
        " application/xhtml+xml, as a browser's do (1 with this reason)"
    ]
    (only,) = (
        sample
        for sample in parsed(rig.telemetry.render(rig.census())[0])
        if sample.name == "oneshotd_scraper_only_looks"
    )
    assert (only.labels, only.value) == ({"scraper": "ann", "reason": "browser"}, 10)
    rig.take("ann")
    assert rig.figures("oneshotd_scraper_only_looks") == {}


def test_a_named_scraper_is_served_although_a_crowd_came_once(rig: Rig) -> None:
    """200 one-off visitors would shut a new Prometheus out for as long as events are kept."""
    rig.append("a")
    for number in range(MAX_SCRAPERS):
        rig.take(f"192.0.2.7 visitor{number}")
    assert rig.take("192.0.2.8 Prometheus") == {}
    assert rig.scraped("too_many") == 1
    assert rig.take("ann", timed=True) == {"a": 1}
    rig.append("b")
    assert rig.take("ann", timed=True) == {"b": 1}
    rig.delivery.learn(rig.census())
    assert rig.delivery.timed_before("ann")
