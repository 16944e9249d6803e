"""Checks before a route answers: address, page, path and method."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.web_fakes import FakeServer
from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

TIMED = "X-Prometheus-Scrape-Timeout-Seconds: 2"

# Networks


@pytest.mark.parametrize(
    ("lines", "emit", "scrape"),
    [
        (["POST /event?a=b"], 200, None),
        (["POST /events"], 200, None),
        (["GET /metrics"], None, 200),
        (["HEAD /metrics"], None, 200),
        (["GET /"], None, 200),
        (["GET /", "Accept: text/html"], None, 200),
        (["GET /healthz"], None, None),
        (["GET /readyz"], None, None),
    ],
)
def test_each_list_of_networks_guards_its_own_endpoints(
    lines: list[str], emit: int | None, scrape: int | None
) -> None:
    body = b"a=b" if lines[0] == "POST /events" else b""
    near, far = "192.0.2.0/24", "198.51.100.0/24"
    assert FakeServer(allow_emit=[near], allow_scrape=[near]).ask(*lines, body=body).status == 200
    assert FakeServer(allow_emit=[far]).ask(*lines, body=body).status == (403 if emit else 200)
    assert FakeServer(allow_scrape=[far]).ask(*lines, body=body).status == (403 if scrape else 200)


def test_a_refused_address_is_told_which_one_it_was() -> None:
    server = FakeServer(allow_emit=["198.51.100.0/24"])
    answer = server.ask("POST /event?a=b")
    assert answer.text == "192.0.2.7 may not send events\n"
    assert server.telemetry.refusals == {"forbidden": 1}
    assert server.ingest.groups == []


@pytest.mark.parametrize(
    ("trusted", "header", "client"),
    [
        ([], "X-Forwarded-For: 198.51.100.9", "192.0.2.7"),
        (["192.0.2.7"], "X-Forwarded-For: 203.0.113.1, 198.51.100.9", "198.51.100.9"),
        (["192.0.2.7"], "X-Real-IP: 198.51.100.9", "198.51.100.9"),
    ],
)
def test_a_forwarded_address_counts_from_trusted_proxies_only(
    trusted: list[str], header: str, client: str
) -> None:
    server = FakeServer(trusted=trusted)
    server.ask("GET /metrics", header)
    assert server.delivery.asked[0][1].name == f"{client} unknown"


@pytest.mark.parametrize(
    ("lists", "header", "emit", "scrape"),
    [
        ({}, [], 200, "unix"),
        ({}, ["X-Forwarded-For: 198.51.100.9"], 200, "unix"),
        ({"allow_emit": ["192.0.2.0/24"]}, [], 403, "unix"),
        ({"allow_emit": ["unix"], "allow_scrape": ["unix"]}, [], 200, "unix"),
        ({"allow_scrape": ["192.0.2.0/24"]}, [], 200, None),
        ({"trusted": ["unix"]}, ["X-Forwarded-For: 198.51.100.9"], 200, "198.51.100.9"),
        ({"trusted": ["unix"]}, ["X-Real-IP: 198.51.100.9"], 200, "198.51.100.9"),
        (
            {"trusted": ["unix"], "allow_emit": ["198.51.100.0/24"], "allow_scrape": ["198.51.100.0/24"]},
            ["X-Forwarded-For: 198.51.100.9"],
            200,
            "198.51.100.9",
        ),
        (
            {"trusted": ["unix"], "allow_emit": ["unix"]},
            ["X-Forwarded-For: 198.51.100.9"],
            403,
            "198.51.100.9",
        ),
    ],
)
def test_a_unix_socket_is_trusted_and_admitted_by_name(
    lists: dict[str, Any], header: list[str], emit: int, scrape: str | None
) -> None:
    """Behind a proxy at a UNIX socket all unnamed scrapers were one, and shared their events."""
    server = FakeServer(peer=UNIXAddress(b""), **lists)
    assert server.ask("POST /event?a=b", *header).status == emit
    server.ask("GET /metrics", *header)
    assert [visit.name for _, visit, *_ in server.delivery.asked] == ([f"{scrape} unknown"] if scrape else [])


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        (IPv6Address("TCP", "::ffff:192.0.2.7", 40000), "192.0.2.7 unknown"),
        (IPv6Address("TCP", "2001:db8::7", 40000), "2001:db8::7 unknown"),
        (UNIXAddress(b""), "unix unknown"),
        (UNIXAddress(None), "unix unknown"),
    ],
)
def test_a_scraper_has_one_name_whatever_the_socket(peer: IAddress, name: str) -> None:
    server = FakeServer(peer=peer)
    server.ask("GET /metrics")
    assert server.delivery.asked[0][1].name == name


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 200),
        (["Sec-Fetch-Site: same-origin"], 200),
        (["Sec-Fetch-Site: none"], 200),
        (["Sec-Fetch-Site: same-origin", "Origin: https://behind-a-proxy.example"], 200),
        (["Sec-Fetch-Site: cross-site"], 403),
        (["Sec-Fetch-Site: same-site"], 403),
        (["Sec-Fetch-Site: cross-site", "Origin: http://oneshot.example:8090"], 403),
        (["Origin: http://oneshot.example:8090"], 200),
        (["Origin: HTTP://OneShot.example:8090"], 200),
        (["Origin: http://oneshot.example"], 403),
        (["Origin: http://oneshot.example:3000"], 403),
        (["Origin: http://evil.example"], 403),
        (["Origin: null"], 403),
        (["Origin:"], 403),
        (["Origin: http://oneshot.example:8090", "Origin: http://evil.example"], 403),
        (["Host: oneshot.example", "Origin: http://oneshot.example:80"], 200),
        (["Host: oneshot.example:443", "Origin: https://oneshot.example"], 200),
        (["Host: [::1]:8090", "Origin: http://[::1]:8090"], 200),
        (["Host:", "Origin: null"], 403),
    ],
)
def test_another_sites_page_cannot_send_events_from_a_visitors_browser(
    headers: list[str], status: int
) -> None:
    server = FakeServer()
    assert server.ask("POST /event?a=b", *headers).status == status
    assert len(server.ingest.groups) == (status == 200)


# Wrong paths and wrong methods


@pytest.mark.parametrize(
    "target",
    ["/nothing", "/event/", "/metrics/", "/metrics//", "/Metrics", "/metrics%00", "/%2e%2e/x", "/index.html"],
)
def test_a_wrong_address_is_a_404_in_text_and_no_redirect(target: str) -> None:
    answer = FakeServer().ask(f"GET {target}")
    assert (answer.status, answer.headers["Location"]) == (404, None)
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert target not in answer.text


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/event?a=b", {"POST"}),
        ("/events", {"POST"}),
        ("/metrics", {"GET", "HEAD"}),
        ("/", {"GET", "HEAD"}),
        ("/healthz", {"GET", "HEAD"}),
        ("/readyz", {"GET", "HEAD"}),
    ],
)
def test_every_other_method_is_a_405_that_says_which_ones_there_are(path: str, allowed: set[str]) -> None:
    server = FakeServer()
    for method in {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"} - allowed:
        answer = server.ask(f"{method} {path}", TIMED)
        assert answer.status == 405, method
        assert {name.strip() for name in answer.headers["Allow"].split(",")} == allowed | {"OPTIONS"}
        assert (answer.body == b"") == (method == "HEAD")
    answer = server.ask(f"OPTIONS {path}", TIMED)
    assert (answer.status, answer.body) == (200, b"")
    assert {name.strip() for name in answer.headers["Allow"].split(",")} == allowed | {"OPTIONS"}
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
    assert server.telemetry.refusals == {}
    assert server.ingest.groups == []
    assert server.delivery.asked == []


@pytest.mark.parametrize("target", ["/", "*"])
def test_the_check_that_haproxy_makes_by_itself_is_answered(target: str) -> None:
    """``option httpchk`` without more; HAProxy would call the daemon down."""
    server = FakeServer()
    connection = server.connect()
    connection.protocol.dataReceived(f"OPTIONS {target} HTTP/1.0\r\n\r\n".encode())
    (answer,) = connection.answers("OPTIONS")
    assert (answer.status, answer.headers["Allow"]) == (200, "GET, HEAD, OPTIONS")
    assert connection.closed


def test_a_browser_that_asks_first_gets_no_permission() -> None:
    """Else another site's page could send events."""
    answer = FakeServer().ask(
        "OPTIONS /event", "Origin: http://evil.example", "Access-Control-Request-Method: POST"
    )
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize(
    ("accept", "type_"),
    [
        ("application/json", "application/json; charset=utf-8"),
        ("text/html, application/json;q=0.9", "application/json; charset=utf-8"),
        ("application/json;q=0", "text/plain; charset=utf-8"),
        ("*/*", "text/plain; charset=utf-8"),
        ("text/html", "text/plain; charset=utf-8"),
    ],
)
@pytest.mark.parametrize("line", ["POST /event?value=x", "GET /nothing", "PUT /event", "POST /events"])
def test_a_client_that_accepts_json_gets_its_errors_in_it(accept: str, type_: str, line: str) -> None:
    answer = FakeServer().ask(line, f"Accept: {accept}")
    assert answer.headers["Content-Type"] == type_
    if "json" in type_:
        assert list(json.loads(answer.text)) == ["error"]
