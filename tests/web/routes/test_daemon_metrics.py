"""``GET /metrics/daemon``: the figures of one daemon, whoever asks and however often."""

from __future__ import annotations

import gzip

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from support.web_fakes import FakeServer

OPENMETRICS = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
SCRAPER = "X-Prometheus-Scrape-Timeout-Seconds: 10"


@pytest.mark.parametrize(
    "path",
    [
        "/metrics/daemon",
        "/metrics/daemon?scraper=ann",
        "/metrics/daemon?scraper=no+such+name&limit=0&sample_limit=1&look=x&timestamps=never",
    ],
)
def test_no_scraper_is_known_by_it_and_nothing_is_delivered(path: str) -> None:
    """A job with the parameters of the other one would take its events, or be refused."""
    server = FakeServer()
    answer = server.ask(f"GET {path}", SCRAPER)
    assert answer.status == 200
    assert server.delivery.asked == []
    names = {family.name for family in parse_text(answer.text)}
    assert {"oneshotd_build_info", "oneshotd_commit_seconds", "process_cpu_seconds"} <= names
    assert "oneshotd_held_events" not in names


def test_it_is_answered_in_the_format_that_is_asked_for() -> None:
    """A Prometheus of version 3 discards what has no content type, or the wrong one."""
    server = FakeServer()
    text = server.ask("GET /metrics/daemon")
    assert text.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    strict = server.ask("GET /metrics/daemon", OPENMETRICS)
    assert strict.headers["Content-Type"].startswith("application/openmetrics-text")
    assert list(parse_openmetrics(strict.text))
    packed = server.ask("GET /metrics/daemon", "Accept-Encoding: gzip")
    assert gzip.decompress(packed.body).startswith(b"# HELP process_")


def test_addresses_that_may_not_scrape_may_not_read_it() -> None:
    server = FakeServer(allow_scrape=["10.0.0.0/8"])
    assert server.ask("GET /metrics/daemon").status == 403


def test_nothing_can_be_posted_to_it() -> None:
    assert FakeServer().ask("POST /metrics/daemon").status == 405
