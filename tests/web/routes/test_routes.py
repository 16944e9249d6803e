"""The routes, with requests in bytes: ingest, scrape and health."""

from __future__ import annotations

import json

import pytest
from support.web_fakes import BODY, EXPOSITION, FakeServer, failures_logged, request
from twisted.internet.defer import Deferred

from oneshotd.core.events import Group, NewEvent
from oneshotd.core.identity import Visit
from oneshotd.errors import Refused, StoreUnavailable
from oneshotd.store.interface import Stored
from oneshotd.web.routes.health import COMMIT_OVERDUE_SECONDS

FORM = "Content-Type: application/x-www-form-urlencoded"
TEXT = "Content-Type: text/plain"
DEPLOY = 'events_to_metrics{type="deploy"}'


def stored(server: FakeServer) -> list[tuple[Group, str]]:
    return server.ingest.groups


# POST /event


@pytest.mark.parametrize(
    ("lines", "body", "event", "key"),
    [
        (["POST /event?type=deploy"], b"", NewEvent(DEPLOY), None),
        (["POST /event?type=deploy&value=37.5", TEXT], b"", NewEvent(DEPLOY, "37.5"), None),
        (["POST /event", FORM], b"type=deploy", NewEvent(DEPLOY), None),
        (["POST /event", FORM + "; charset=UTF-8"], b"type=deploy", NewEvent(DEPLOY), None),
        (["POST /event"], b"type=deploy", NewEvent(DEPLOY), None),
        (
            ["POST /event?type=deploy", FORM],
            b"version=1%2B1",
            NewEvent('events_to_metrics{type="deploy",version="1+1"}'),
            None,
        ),
        (["POST /event?type=deploy&__id__=a1"], b"", NewEvent(DEPLOY, key="a1"), None),
        (["POST /event?type=deploy", "Idempotency-Key: a1"], b"", NewEvent(DEPLOY), "a1"),
        (["POST /event?type=deploy", 'Idempotency-Key: "a1"'], b"", NewEvent(DEPLOY), "a1"),
        (["POST http://oneshot.example:8090/event?type=deploy"], b"", NewEvent(DEPLOY), None),
    ],
)
def test_an_event_goes_in_by_query_or_form(
    lines: list[str], body: bytes, event: NewEvent, key: str | None
) -> None:
    server = FakeServer()
    answer = server.ask(*lines, body=body)
    assert (answer.status, answer.text) == (200, "ok\n")
    assert stored(server) == [(Group(events=[event], key=key), "http")]


def test_ok_is_answered_after_the_commit_and_not_before() -> None:
    server = FakeServer()
    waiting: Deferred[Stored] = Deferred()
    server.ingest.waiting = waiting
    connection = server.connect()
    connection.protocol.dataReceived(request("POST /event?type=deploy"))
    assert connection.answers() == []
    waiting.callback(Stored(stored=1))
    (answer,) = connection.answers("POST")
    assert answer.text == "ok\n"


@pytest.mark.parametrize(
    ("lines", "body", "status", "reason", "says"),
    [
        (["POST /event?value=x"], b"", 400, "value", "value"),
        (["POST /event?a=%ff"], b"", 400, "encoding", "UTF-8"),
        (["POST /event", "Content-Type: application/json"], b'[{"a":1}]', 400, "syntax", "/events many"),
        (["POST /event", "Content-Type: application/json"], b'{"a b":1}', 400, "label", "'a b'"),
        (["POST /event?a=2", "Content-Type: application/json"], b'{"a":1}', 400, "label", "given twice"),
        (["POST /event", "Content-Type: application/x-ndjson"], b'{"a":1}', 415, "type", "json, got"),
        (["POST /event?export%20a=1"], b"", 400, "label", "' ' is none of letters"),
        (["POST /event", FORM], b"<13>Nov 27 web1 a: b=1", 400, "label", "this looks like syslog"),
        (["POST /events", TEXT], b"a=b\n<13>Nov 27 web1 a: b=1", 400, "label", "this looks like syslog"),
        (["POST /events", FORM], b"type=atype=b", 400, "syntax", "--data-binary"),
        (["POST /events", "Content-Type: application/json"], b'{"a":1}\n{"a":2}', 400, "syntax", "NDJSON"),
        (["POST /event", TEXT], b"type=deploy", 415, "type", "expected application/x-www-form-urlencoded"),
        (["POST /event", FORM, "Content-Encoding: gzip"], b"\x1f\x8b", 415, "type", "gzip"),
        (["POST /event?a=b&__id__=1", "Idempotency-Key: 1"], b"", 400, "key", "Idempotency-Key and __id__"),
        (["POST /event?a=b", "Idempotency-Key: 1", "Idempotency-Key: 1"], b"", 400, "key", "more than once"),
        (["POST /event?a=b", "Idempotency-Key:"], b"", 400, "key", "Idempotency-Key"),
        (["POST /events", TEXT], b"a=b\nvalue=x", 400, "value", "line 2"),
        (["POST /events", "Content-Type: application/json"], b"[{]", 400, "syntax", "JSON"),
        (["POST /events", "Content-Type: application/json"], b"[]", 400, "empty", "no event"),
        (["POST /events", TEXT], b"", 400, "empty", "no event"),
        (
            ["POST /events", "Content-Type: multipart/form-data; boundary=x"],
            b"--x--",
            415,
            "type",
            "multipart",
        ),
        (["POST /events", TEXT, "Idempotency-Key: k"], b"a=b\na=c&__id__=1", 400, "key", "Idempotency-Key"),
        (["POST /events", TEXT, FORM], b"a=b", 415, "type", "expected text/plain"),
    ],
)
def test_a_malformed_event_is_refused_in_one_line_and_counted(
    lines: list[str], body: bytes, status: int, reason: str, says: str
) -> None:
    server = FakeServer()
    answer = server.ask(*lines, body=body)
    assert answer.status == status
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert says in answer.text
    assert answer.text.count("\n") == 1
    assert server.telemetry.refusals == {reason: 1}
    assert stored(server) == []


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (Refused("the key was seen with other content", reason="conflict", status=422), 422, None),
        (Refused("too much is waiting", reason="busy", status=503), 503, "1"),
        (Refused("no space left", reason="store", status=503), 503, "5"),
        (StoreUnavailable("no space left"), 503, "5"),
    ],
)
def test_the_answer_tells_whether_and_when_to_retry(
    error: Exception, status: int, retry_after: str | None
) -> None:
    server = FakeServer()
    server.ingest.outcome = error
    answer = server.ask("POST /event?a=b")
    assert (answer.status, answer.headers["Retry-After"]) == (status, retry_after)
    assert str(error) in answer.text
    assert answer.phrase != "Unknown Status"
    assert sum(server.telemetry.refusals.values()) == 1


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ("POST /event", b'{"type":"deploy","value":2}'),
        ("POST /event?type=deploy", b'{"value":2}\n'),
        ("POST /event?type=deploy&value=2", b""),
        ("POST /events", b'{"type":"deploy","value":2}\n'),
    ],
)
def test_one_event_may_be_a_json_object(line: str, body: bytes) -> None:
    """Programs that speak JSON have an object at hand, not a form."""
    server = FakeServer()
    assert server.ask(line, "Content-Type: application/json; charset=utf-8", body=body).status == 200
    assert [list(group.events) for group, _ in stored(server)] == [[NewEvent(DEPLOY, "2")]]


# POST /events


@pytest.mark.parametrize(
    ("type_", "body"),
    [
        (TEXT, b"type=deploy\r\n\ntype=deploy&value=2\n"),
        (FORM, b"type=deploy\ntype=deploy&value=2"),
        ("X-None: 1", b"type=deploy\ntype=deploy&value=2"),
        ("Content-Type: application/x-ndjson", b'{"type":"deploy"}\n{"type":"deploy","value":2}\n'),
        (
            "content-type: Application/NDJSON; charset=utf-8",
            b'{"type":"deploy"}\n{"type":"deploy","value":2}',
        ),
        ("Content-Type: application/jsonlines", b'{"type":"deploy"}\n{"type":"deploy","value":2}'),
        ("Content-Type: application/json", b'[{"type":"deploy"},{"type":"deploy","value":2}]'),
    ],
)
def test_many_events_go_in_together_in_every_form(type_: str, body: bytes) -> None:
    server = FakeServer()
    answer = server.ask("POST /events", type_, "Idempotency-Key: k", body=body)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.text == '{"stored": 2, "duplicates": 0}\n'
    assert stored(server) == [(Group(events=[NewEvent(DEPLOY), NewEvent(DEPLOY, "2")], key="k"), "http_bulk")]


def test_a_repeated_body_is_answered_as_the_first_time() -> None:
    server = FakeServer()
    server.ingest.outcome = Stored(stored=5, duplicates=2, again=True)
    answer = server.ask("POST /events", TEXT, "Idempotency-Key: k", body=b"a=b")
    assert json.loads(answer.text) == {"stored": 5, "duplicates": 2}


# GET /metrics

PROMETHEUS = (
    "User-Agent: Prometheus/3.5.3+ds1",
    "X-Prometheus-Scrape-Timeout-Seconds: 2",
    "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
)


@pytest.mark.parametrize(
    ("lines", "visit", "limit", "timeout"),
    [
        (["GET /metrics"], Visit(name="192.0.2.7 unknown"), None, 30.0),
        (["GET /metrics", "User-Agent: curl/8.1"], Visit(name="192.0.2.7 curl"), None, 30.0),
        (["GET /metrics", *PROMETHEUS], Visit(name="192.0.2.7 Prometheus", timed=True), None, 2.0),
        (
            ["GET /metrics?scraper=prom%2Da&limit=500", *PROMETHEUS],
            Visit(name="prom-a", named=True, timed=True),
            500,
            2.0,
        ),
        (["GET /metrics?x&x=1&x=2&scraper=a"], Visit(name="a", named=True), None, 30.0),
    ],
)
def test_a_scraper_is_identified_by_its_request(
    lines: list[str], visit: Visit, limit: int | None, timeout: float
) -> None:
    server = FakeServer()
    answer = server.ask(*lines)
    assert server.delivery.asked == [("scrape", visit, limit, timeout)]
    assert (answer.status, answer.headers["Content-Type"], answer.body) == (200, EXPOSITION, BODY)
    assert answer.headers["Content-Length"] == str(len(BODY))
    assert answer.headers["Oneshotd-Look"] is None
    assert [deadline for _, deadline in server.sent] == [timeout]


@pytest.mark.parametrize(
    "lines",
    [
        ["HEAD /metrics?scraper=a"],
        ["GET /metrics?scraper=a&look"],
        ["GET /metrics?scraper=a", "Accept: text/html,application/xhtml+xml,*/*;q=0.8"],
        ["GET /metrics?scraper=a", "Accept: text/html", "Accept: application/xhtml+xml"],
        ["GET /metrics?scraper=a", "Upgrade-Insecure-Requests: 1"],
        ["GET /metrics?scraper=a", "Sec-Fetch-Mode: navigate"],
        ["GET /metrics?scraper=a", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"],
        ["GET /metrics?scraper=a", "Origin: https://grafana.example"],
        ["GET /metrics?scraper=timed"],
    ],
)
def test_a_look_takes_no_events_from_the_scraper(lines: list[str]) -> None:
    server = FakeServer()
    server.delivery.timed.add("timed")
    answer = server.ask(*lines)
    assert [what for what, *_ in server.delivery.asked] == ["look"]
    assert server.sent == []
    assert (answer.status, answer.headers["Oneshotd-Look"]) == (200, "1")
    assert answer.headers["Content-Length"] == str(len(BODY))
    assert answer.body == (b"" if lines[0].startswith("HEAD") else BODY)


@pytest.mark.parametrize(
    "line",
    [
        "Sec-Fetch-Mode: cors",
        "Accept: text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
        "Accept: text/plain, text/html;q=0",
    ],
    ids=["Node's fetch", "Java's URLConnection", "a client that takes no HTML"],
)
def test_a_library_that_resembles_a_browser_gets_its_events(line: str) -> None:
    """A look at every scrape would show the same events again and again, and deliver none."""
    server = FakeServer()
    answer = server.ask("GET /metrics?scraper=a", line)
    assert [what for what, *_ in server.delivery.asked] == ["scrape"]
    assert answer.headers["Oneshotd-Look"] is None


@pytest.mark.parametrize(
    "query",
    [
        "scraper=",
        "scraper=a b",
        "scraper=%ff",
        "limit=-1",
        "limit=x",
        "label_limit=2",
        "body_size_limit=10XB",
        "label_limit=30&label_limit=30",
        "scraper=a&scraper=a",
        "limit=1&limit=1",
        "look=0",
        "look&look",
    ],
)
def test_a_scrape_configuration_with_a_mistake_fails_loudly(query: str) -> None:
    server = FakeServer()
    answer = server.ask(f"GET /metrics?{query.replace(' ', '+')}")
    assert answer.status == 400
    assert server.delivery.asked == []
    assert server.telemetry.refusals == {"query": 1}


def test_a_scrape_that_cannot_be_served_is_no_empty_answer() -> None:
    server = FakeServer()
    server.delivery.fault = StoreUnavailable("I/O error")
    assert server.ask("GET /metrics").status == 503


def test_half_a_scrape_is_cut_off_and_never_filled_up_with_an_error() -> None:
    server = FakeServer(send_fault=RuntimeError("a bug"))
    connection = server.connect()
    with failures_logged() as logged:
        connection.protocol.dataReceived(request("GET /metrics"))
    assert connection.transport.disconnected
    assert connection.transport.value().endswith(b"\r\n\r\n" + BODY[:5])
    assert len(logged) == 1


# Health


def test_a_ready_daemon_answers_200() -> None:
    server = FakeServer()
    assert server.ask("GET /healthz").text == "ok\n"
    assert server.ask("GET /readyz").text == "ok\n"


def test_a_daemon_that_starts_or_stops_lives_but_is_not_ready() -> None:
    server = FakeServer(unready="stopping")
    assert server.ask("GET /healthz").status == 200
    answer = server.ask("GET /readyz")
    assert (answer.status, answer.text) == (503, "stopping\n")
    assert answer.headers["Retry-After"] is not None


def test_a_warning_is_shown_and_leaves_the_daemon_ready() -> None:
    """A load balancer would take out a daemon that works; or nobody would see the warning."""
    server = FakeServer(warned=["a file is not used"])
    answer = server.ask("GET /readyz")
    assert (answer.status, answer.text) == (200, "ok\nwarning: a file is not used\n")
    assert "A file is not used." in server.ask("GET /live").text


def test_a_full_disk_is_the_reason_that_readyz_gives() -> None:
    server = FakeServer()
    server.store.fault = StoreUnavailable("no space left")
    answer = server.ask("GET /readyz")
    assert (answer.status, answer.text) == (503, "store: no space left\n")


def test_an_ingest_that_does_not_move_is_no_readiness() -> None:
    """A load balancer would go on sending to a daemon that answers no POST."""
    server = FakeServer()
    server.ingest.waited = COMMIT_OVERDUE_SECONDS
    assert server.ask("GET /readyz").status == 200
    server.ingest.waited += 0.5
    answer = server.ask("GET /readyz")
    assert answer.status == 503
    assert answer.text == "ingest: events have been waiting for the disk for 10 s\n"
    assert "Not ready: ingest" in server.ask("GET /", "Accept: text/html").text


def test_a_probe_is_answered_even_if_the_store_hangs() -> None:
    server = FakeServer()
    server.store.silent = True
    connection = server.connect()
    connection.protocol.dataReceived(request("GET /readyz"))
    assert connection.answers() == []
    server.clock.advance(5)
    (answer,) = connection.answers("GET")
    assert (answer.status, answer.text) == (503, "store: no answer in 5 s\n")


# Hanging up


def test_a_tool_that_hangs_up_is_no_error_in_the_log() -> None:
    server = FakeServer()
    server.ingest.waiting = Deferred()
    connection = server.connect()
    with failures_logged() as logged:
        connection.protocol.dataReceived(request("POST /event?a=b"))
        connection.hang_up()
    assert logged == []
    assert len(stored(server)) == 1


def test_a_connection_serves_one_request_after_the_other() -> None:
    """Also if they arrive at once, with bodies and refusals between them."""
    server = FakeServer()
    connection = server.connect()
    connection.protocol.dataReceived(
        request("POST /event?n=1")
        + request("POST /event", "Content-Type: x/y", body=b"GET / HTTP/1.1\r\n\r\n")
        + request("POST /events", body=b"n=2\nn=3")
        + request("HEAD /metrics")
        + request("GET /healthz")
    )
    server.clock.advance(0)  # one in a turn of the reactor
    answers = connection.answers("POST", "POST", "POST", "HEAD", "GET")
    assert [answer.status for answer in answers] == [200, 415, 200, 200, 200]
    assert not connection.closed
