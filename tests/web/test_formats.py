"""The answer to a scrape in bytes: with a wrong header a scraper drops the whole response."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from typing import Any

import pytest
from attrs import Factory, define
from support.web_fakes import (
    BODY,
    Connection,
    FakeDelivery,
    FakeServer,
    FakeShipment,
    failures_logged,
    request,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from oneshotd.core.identity import Visit
from oneshotd.core.look import LookReason
from oneshotd.core.negotiation import Format
from oneshotd.core.origin import Origin
from oneshotd.core.scrape_limits import ScrapeLimits
from oneshotd.core.scrape_request import Wanted
from oneshotd.core.scraper_features import Timestamps
from oneshotd.web.compression import LARGE, MIN_COMPRESSED_SIZE

TEXT, OPENMETRICS = Format.TEXT, Format.OPENMETRICS
GZIP = "Accept-Encoding: gzip"

#: Bodies that are just too small to be compressed, just large enough, and large enough for a thread.
WORTHY, HUGE = (BODY * (size // len(BODY) + 1) for size in (MIN_COMPRESSED_SIZE, LARGE))
SMALL = WORTHY[: MIN_COMPRESSED_SIZE - 1]
WORTHY = WORTHY[:MIN_COMPRESSED_SIZE]


@define
class Delivered(FakeShipment):
    """A delivery that records its outcome."""

    fate: list[str] = Factory(list)

    def returned(self, uncertain: bool, reset: bool = False) -> None:
        self.fate.append("uncertain" if uncertain else "returned")


@define
class Deliveries(FakeDelivery):
    """Answers with `body` in the wanted format, and records the requests."""

    body: bytes = BODY
    awaits_receipt: bool = True
    wanted: list[Wanted] = Factory(list)
    shipments: list[Delivered] = Factory(list)

    async def scrape(self, visit: Visit, wanted: Wanted, *, timeout: float, origin: Origin) -> FakeShipment:
        return self._shipment(wanted)

    async def look(self, visit: Visit, wanted: Wanted, reason: LookReason) -> FakeShipment:
        return self._shipment(wanted)

    def _shipment(self, wanted: Wanted) -> Delivered:
        self.wanted.append(wanted)
        made = Delivered(
            body=self.body, content_type=wanted.format.content_type, awaits_receipt=self.awaits_receipt
        )
        self.shipments.append(made)
        return made


class Threads(Clock):
    """A reactor and its thread pool; the test runs the thread's work."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Callable[[], None]] = []

    def getThreadPool(self) -> Threads:
        return self

    def callInThreadWithCallback(
        self, done: Callable[[bool, Any], None], work: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        def run() -> None:
            try:
                result = work(*args, **kwargs)
            except Exception:
                done(False, Failure())
            else:
                done(True, result)

        self.waiting.append(run)

    def callFromThread(self, work: Callable[..., Any], *args: Any) -> None:
        work(*args)

    def work(self) -> None:
        for run in self.waiting:
            run()
        self.waiting.clear()


def server(body: bytes = BODY, **facts: Any) -> tuple[FakeServer, Deliveries, Threads]:
    deliveries, threads = Deliveries(body=body, **facts), Threads()
    return FakeServer(delivery=deliveries, clock=threads), deliveries, threads


def raw(made: FakeServer, *lines: str) -> tuple[set[str], bytes]:
    """The lines of the answer's head, the date left out, and what follows it."""
    connection = made.connect()
    connection.protocol.dataReceived(request(*lines))
    head, _, body = connection.transport.value().partition(b"\r\n\r\n")
    found = head.decode("ascii").split("\r\n")
    assert len(found) == len({line.partition(":")[0].lower() for line in found}), "a header twice"
    (date,) = (line for line in found if line.startswith("Date: "))
    assert re.fullmatch(r"Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", date)
    return set(found) - {date}, body


# Headers, to the byte

HEAD = {
    "HTTP/1.1 200 OK",
    "Server: oneshotd",
    "X-Content-Type-Options: nosniff",
    "Cache-Control: no-store",
    "Vary: Accept, Accept-Encoding",
}


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text; version=1.0.0",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
    ],
)
def test_plain(accept: str, content_type: str) -> None:
    made, _, _ = server()
    head, body = raw(made, "GET /metrics?scraper=a", f"Accept: {accept}")
    assert head == HEAD | {f"Content-Type: {content_type}", f"Content-Length: {len(BODY)}"}
    assert body == BODY


@pytest.mark.parametrize("size", ["worthy", "huge"])
def test_zipped(size: str) -> None:
    """The length is that of what goes over the line: with another one the response is cut off, or
    the next one on this connection garbled."""
    plain = {"worthy": WORTHY, "huge": HUGE}[size]
    made, _, threads = server(plain)
    connection = made.connect()
    connection.protocol.dataReceived(request("GET /metrics?scraper=a", GZIP))
    assert len(threads.waiting) == (size == "huge"), "a large body would hold everybody up meanwhile"
    threads.work()
    sent = connection.transport.value()
    (answer,) = connection.answers("GET")
    assert gzip.decompress(answer.body) == plain
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert answer.headers["Content-Type"] == TEXT.content_type
    assert answer.headers["Vary"] == "Accept, Accept-Encoding"
    assert sent.endswith(answer.body)
    assert not connection.closed


@pytest.mark.parametrize(
    ("body", "headers", "zipped"),
    [
        (SMALL, [GZIP], False),
        (WORTHY, [GZIP], True),
        (WORTHY, ["Accept-Encoding: deflate, GZIP;q=0.5"], True),
        (WORTHY, ["Accept-Encoding: deflate", "Accept-Encoding: gzip"], True),
        (WORTHY, [], False),
        (WORTHY, ["Accept-Encoding: deflate, br"], False),
        (WORTHY, ["Accept-Encoding: gzip;q=0"], False),
        (WORTHY, ["Accept-Encoding: identity, gzip;q=0.5"], False),
        (WORTHY, ["Accept-Encoding: "], False),
    ],
)
def test_a_body_is_compressed_if_the_client_accepts_it_and_it_is_large_enough(
    body: bytes, headers: list[str], zipped: bool
) -> None:
    made, _, _ = server(body)
    answer = made.ask("GET /metrics?scraper=a", *headers)
    assert (answer.headers["Content-Encoding"] == "gzip") == zipped
    assert (gzip.decompress(answer.body) if zipped else answer.body) == body


def test_two_answers_in_one_connection_keep_apart() -> None:
    made, _, _ = server(WORTHY)
    connection = made.connect()
    for _ in range(2):
        connection.protocol.dataReceived(request("GET /metrics?scraper=a", GZIP))
    first, second = connection.answers("GET", "GET")
    assert gzip.decompress(first.body) == gzip.decompress(second.body) == WORTHY


# Looks


@pytest.mark.parametrize("headers", [[], [GZIP]])
@pytest.mark.parametrize("size", ["small", "worthy", "huge"])
def test_head_has_the_headers_of_get(headers: list[str], size: str) -> None:
    body = {"small": SMALL, "worthy": WORTHY, "huge": HUGE}[size]
    heads = {}
    for method in ("HEAD", "GET"):
        made, _, threads = server(body)
        connection = made.connect()
        connection.protocol.dataReceived(request(f"{method} /metrics?scraper=a", *headers))
        threads.work()
        (answer,) = connection.answers(method)
        heads[method] = {name: text for name, text in answer.headers.items() if name != "Date"}
        assert (answer.body == b"") == (method == "HEAD")
    assert heads["HEAD"].pop("Oneshotd-Look") == "1"
    assert heads["HEAD"] == heads["GET"]


def test_a_browser_gets_a_look_in_a_format_that_it_accepts() -> None:
    accept = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    made, _, _ = server(WORTHY)
    answer = made.ask("GET /metrics", accept, "Accept-Encoding: gzip, deflate, br, zstd")
    assert answer.headers["Oneshotd-Look"] == "1"
    assert answer.headers["Content-Type"] == TEXT.content_type
    assert gzip.decompress(answer.body) == WORTHY


# What is wanted

OLD = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
TRIXIE = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
SID = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("agent", "accept", "format", "several"),
    [
        ("Prometheus/2.42.0+ds", OLD, OPENMETRICS, True),
        ("Prometheus/2.52.0", TRIXIE, OPENMETRICS, False),
        ("Prometheus/2.53.3+ds1", TRIXIE, OPENMETRICS, True),
        ("Prometheus/3.5.3+ds1", SID, OPENMETRICS, True),
        ("vm_promscrape", "text/plain;version=0.0.4;q=1,*/*;q=0.1", TEXT, False),
        ("curl/8.14.1", "*/*", TEXT, False),
        ("anything", "application/openmetrics-text;version=2.0.0", TEXT, False),
        ("anything", "application/json", TEXT, False),
        ("anything", ";;q=x,,\xff", TEXT, False),
        ("anything", "", TEXT, False),
        (None, None, TEXT, False),
    ],
)
def test_each_scraper_gets_its_language(
    agent: str | None, accept: str | None, format: Format, several: bool
) -> None:
    """With a 406 it would lose events that it could have read."""
    made, deliveries, _ = server()
    lines = [f"User-Agent: {agent}"] * (agent is not None) + [f"Accept: {accept}"] * (accept is not None)
    answer = made.ask("GET /metrics?scraper=a", *lines)
    assert (answer.status, answer.headers["Content-Type"]) == (200, format.content_type)
    assert deliveries.wanted == [Wanted(format=format, several=several)]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", Wanted()),
        ("?timestamps=event", Wanted(timestamps=Timestamps.EVENT)),
        ("?timestamps=scrape", Wanted(timestamps=Timestamps.SCRAPE)),
        ("?limit=100", Wanted(limits=ScrapeLimits(samples=100))),
        ("?label_limit=30&extra_labels=2", Wanted(limits=ScrapeLimits(labels=30, extra_labels=2))),
        ("?body_size_limit=10MB", Wanted(limits=ScrapeLimits(body=10 * 2**20 - 1))),
    ],
)
def test_a_scrape_configuration_chooses_the_timestamps(query: str, wanted: Wanted) -> None:
    made, deliveries, _ = server()
    assert made.ask(f"GET /metrics{query}").status == 200
    assert deliveries.wanted == [wanted]


@pytest.mark.parametrize("query", ["timestamps=", "timestamps=EVENT", "timestamps=event&timestamps=scrape"])
def test_timestamps_that_are_neither_fail_loudly(query: str) -> None:
    made, deliveries, _ = server()
    answer = made.ask(f"GET /metrics?{query}")
    assert (answer.status, deliveries.wanted) == (400, [])
    assert "timestamps" in answer.text


# Trouble while a large body is compressed


def compressing(**facts: Any) -> tuple[FakeServer, Deliveries, Threads, Connection]:
    made, deliveries, threads = server(HUGE, **facts)
    connection = made.connect()
    connection.protocol.dataReceived(request("GET /metrics?scraper=a", GZIP))
    assert threads.waiting and connection.transport.value() == b""
    return made, deliveries, threads, connection


@pytest.mark.parametrize(("awaits_receipt", "fate"), [(True, ["returned"]), (False, [])])
def test_a_client_that_hangs_up_meanwhile_gets_the_events_with_the_next_scrape(
    awaits_receipt: bool, fate: list[str]
) -> None:
    """Otherwise they would be reserved for ever, and this scraper would get no others."""
    made, deliveries, threads, connection = compressing(awaits_receipt=awaits_receipt)
    with failures_logged() as logged:
        connection.hang_up()
        (shipment,) = deliveries.shipments
        assert shipment.fate == fate
        threads.work()  # a thread cannot be stopped
    assert (shipment.fate, made.sent, logged) == (fate, [], [])


def test_a_failure_of_the_compression_loses_no_events(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(gzip, "compress", fail)
    made, deliveries, threads, connection = compressing()
    with failures_logged() as logged:
        threads.work()
    (answer,) = connection.answers("GET")
    assert answer.status == 500
    assert answer.headers["Content-Encoding"] is None
    assert (deliveries.shipments[0].fate, made.sent, len(logged)) == (["returned"], [], 1)
