"""The answer of ``/``; tests/e2e/test_status_page.py shows it in a real browser."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import pytest
from attrs import evolve
from support.fake_queries import FakeQueries
from support.page_reader import BROWSER, read
from support.status_examples import ANN, NOW, seen
from support.web_fakes import FakeServer
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred

from oneshotd.errors import Refused, StoreUnavailable
from oneshotd.metrics.receivers import ReceiverUse
from oneshotd.query import EventsPage, ScraperSeen
from oneshotd.web.status import page
from oneshotd.web.status.assets import ASSETS
from oneshotd.web.status.cache import Status


def inhabited() -> FakeServer:
    server = FakeServer()
    server.queries.known = [ANN]
    server.queries.page = EventsPage(events=(seen(7, 4), seen(6, 90, value="37.5")), next=None)
    return server


def test_a_terminal_gets_ten_lines_with_addresses_that_work_from_there() -> None:
    answer = FakeServer().ask("GET /", "Host: metrics.example:9999", "Accept: */*")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Vary"] == "Accept"
    assert len(answer.text.splitlines()) <= 10
    for door in ("/event?", "/events", "/metrics?scraper=NAME", "/healthz", "/readyz"):
        assert f"http://metrics.example:9999{door}" in answer.text


def test_a_browser_gets_the_scrapers_and_the_events() -> None:
    text = read(inhabited()).text
    for shown in (
        "All is well; every live scraper has everything",
        "ann",
        "15 s",
        "1,234",
        "37.5",
        "4 s ago",
    ):
        assert shown in text


def test_without_events_the_page_shows_how_to_begin() -> None:
    text = read(FakeServer()).text
    for shown in ("no scraper is live yet", "No scrapers yet", "No events held"):
        assert shown in text


def test_a_receiver_is_a_scraper_with_a_mark_and_its_last_error() -> None:
    """Somebody would look for the scrape of a store that is pushed to, or not see why it gets nothing."""
    server = FakeServer()
    use = ReceiverUse(name="ann", address="http://p:9090/w", state="retrying", trouble="HTTP 500 disk full")
    server.queries.known = [evolve(ANN, receiver=use, last_seen=NOW - 9_000_000)]
    page = read(server)
    assert "receiver" in page.text
    assert "HTTP 500 disk full" in page.text
    assert "has not scraped" not in page.text
    server = FakeServer()
    server.queries.known = [evolve(ANN, receiver=evolve(use, trouble=""))]
    assert "HTTP 500" not in read(server).text


def test_only_missed_events_are_marked() -> None:
    server = inhabited()
    assert not [kind for kind in read(server).classes() if "bad" in kind]
    server = inhabited()
    server.queries.known = [evolve(ANN, lost={"away": 3})]
    read_page = read(server)
    assert [kind for kind in read_page.classes() if "bad" in kind] == ["bad", "bad", "number bad"]
    assert "ann has missed 3 events for good: 3 because it did not scrape" in read_page.text


def test_an_events_holders_are_told() -> None:
    """An operator would look for a missing event on the wrong server."""
    server = inhabited()
    behind = evolve(ANN, name="bob", cursor=6, pending=1, oldest_pending=NOW - 4000)
    queued = evolve(ANN, name="cid", owed=1, pending=1, oldest_pending=NOW - 100_000)
    visitor = evolve(behind, name="curl", live=False)
    server.queries.known = [ANN, behind, queued, visitor]
    text = re.sub(r"\s+", " ", read(server).text)
    assert "1 of 3bob waits for itcid may still wait for it" in text
    assert "2 of 3cid may still wait for it" in text


def test_markup_in_names_and_labels_is_shown_and_not_obeyed() -> None:
    bad = '<script>alert("1")</script>&amp;'
    server = inhabited()
    server.queries.known = [evolve(ANN, name=bad)]
    server.queries.page = EventsPage(events=(seen(7, 4, kind=bad, note=bad),), next=None)
    read_page = read(server)
    scripts = [attributes for tag, attributes in read_page.elements if tag == "script"]
    assert [attributes["src"] for attributes in scripts] == [ASSETS["page.js"].address]
    assert read_page.text.count(bad) >= 3


def test_what_is_invisible_or_turns_text_around_is_spelled_out_and_what_is_long_is_cut() -> None:
    server = inhabited()
    events = (seen(7, 4, kind="\u202egnp.\x00\x1b", note="x" * 4096), seen(6, 4, kind="y" * 4096))
    server.queries.page = EventsPage(events=events, next=None)
    answer = server.ask("GET /", BROWSER)
    assert "\\u202egnp.\\x00\\x1b" in answer.text
    assert "x" * 97 not in answer.text
    assert "y" * 41 not in read(server).text


def test_the_page_is_bounded_however_much_there_is() -> None:
    """A page of 100 MB would take the browser down, and the daemon with it."""
    server = FakeServer()
    wide = {f"label_{n}" + "n" * 110: "<" * 4096 for n in range(64)}
    server.queries.page = EventsPage(events=tuple(seen(n, 1, **wide) for n in range(1000, 0, -1)), next=None)
    server.queries.known = [evolve(ANN, name=f"{n:03}" + "<" * 61, lost={"away": 1}) for n in range(200)]
    answer = server.ask("GET /", BROWSER)
    assert len(answer.body) < 400_000
    assert "And 150 scrapers more" in answer.text


def test_the_page_may_use_its_own_files_and_nothing_else() -> None:
    answer = FakeServer().ask("GET /", BROWSER)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Set-Cookie"] is None
    assert answer.text.startswith("<!DOCTYPE html>\n")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"


def test_its_files_are_kept_by_a_browser_until_they_change() -> None:
    """Each look would load them anew, or an upgrade would leave an old script in the browser."""
    html = FakeServer().ask("GET /", BROWSER).text
    for asset in ASSETS.values():
        assert f'"{asset.address}"' in html
        answer = FakeServer().ask(f"GET /{asset.address}")
        assert (answer.status, answer.body) == (200, asset.body)
        assert answer.headers["Content-Type"] == asset.content_type.decode()
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert FakeServer().ask(f"GET /assets/{asset.name}?old").headers["Cache-Control"] == "no-store"
    for path in ("/assets/shell.xml", "/assets/__init__.py", "/assets/..%2fpage.py", "/assets/"):
        assert FakeServer().ask(f"GET {path}").status == 404


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Host: metrics.example:9999", "metrics.example:9999"),
        ("Host: [2001:db8::1]:80", "[2001:db8::1]:80"),
        ("Host: [2001:db8::1%eth0]:80", "[2001:db8::1%eth0]:80"),
        ("Host: [2001:db8::1%25eth0]:80", "[2001:db8::1%eth0]:80"),
        ("Host:", "192.0.2.1:8090"),
    ],
)
def test_what_is_to_be_copied_has_the_address_in_the_browser(line: str, shown: str) -> None:
    server = FakeServer()
    connection = server.connect()
    connection.transport.hostAddr = IPv4Address("TCP", "192.0.2.1", 8090)
    text = connection.ask("GET /", BROWSER, line).text
    url = shown.replace("%", "%25")  # RFC 6874; Prometheus takes the address as it is
    assert f"http://{url}/event?type=deploy&amp;version=1.2" in text
    assert f'targets: ["{shown}"]' in text.replace("&quot;", '"')
    bare = shown.removesuffix(":80").rpartition(":")[0] if "[" not in shown else shown[1:-4]
    assert f"/dev/udp/{bare}/8091" in text


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (IPv6Address("TCP", "2001:db8::1", 8090), "[2001:db8::1]:8090"),
        (UNIXAddress("/run/oneshotd.sock"), "localhost:80"),
    ],
)
def test_without_a_host_the_listeners_own_address_is_shown(address: object, shown: str) -> None:
    connection = FakeServer().connect()
    connection.transport.hostAddr = address
    assert f"http://{shown}/event?" in connection.ask("GET /", "Host:").text


@pytest.mark.parametrize("host", ["a b", "a<b", 'a"b', "a:99999", "a:", "a/b", "ä", "[::1", "a;b", "$(id)"])
def test_a_host_that_is_none_is_refused_and_never_shown(host: str) -> None:
    """A link could make the page show a command that does something else."""
    answer = FakeServer().ask("GET /", BROWSER, f"Host: {host}")
    assert answer.status == 400
    assert host not in answer.text


def test_without_a_udp_port_none_is_shown() -> None:
    assert "/dev/udp/" not in read(FakeServer(udp_port=None)).text


def test_the_page_is_served_even_if_the_store_fails() -> None:
    """Operators open the page when something fails."""
    server = FakeServer()
    server.store.fault = server.queries.fault = StoreUnavailable("no space left")
    text = read(server).text
    assert "Not ready" in text
    assert "Not ready: store: no space left" in text
    assert "The store cannot be read now." in text


def test_the_page_is_served_to_concurrent_requests() -> None:
    server = FakeServer()
    server.queries.fault = Refused("too many are looking", reason="busy", status=503)
    assert "The store cannot be read now" in read(server).text


def test_a_head_request_gets_the_pages_length() -> None:
    server = FakeServer()
    whole, head = server.ask("GET /", BROWSER), server.ask("HEAD /", BROWSER)
    assert head.body == b""
    assert head.headers["Content-Length"] == str(len(whole.body))


# The living part alone, for the script.


def test_the_script_is_told_that_nothing_has_changed() -> None:
    server = inhabited()
    connection = server.connect()
    first = connection.ask("GET /live", BROWSER)
    etag = first.headers["ETag"]
    assert first.text.startswith('<div id="live"')
    assert f'data-etag="{etag}"'.replace('"W/"', '"W/&quot;').replace('""', '&quot;"') in first.text
    server.clock.advance(2)
    server.now += 2000
    same = connection.ask("GET /live", BROWSER, f"If-None-Match: {etag}")
    assert (same.status, same.body) == (304, b"")
    server.queries.known = [evolve(ANN, delivered=1235)]
    server.clock.advance(2)
    assert connection.ask("GET /live", BROWSER, f"If-None-Match: {etag}").status == 200


def test_a_hundred_browsers_cost_one_reading_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would keep the daemon from answering scrapers."""
    written = []

    async def write(status: Status) -> bytes:
        written.append(status)
        return b""

    monkeypatch.setattr(page, "render_live", write)
    server = inhabited()
    connection = server.connect()
    for _ in range(100):
        assert connection.ask("GET /live", BROWSER).status == 200
        assert connection.ask("GET /", BROWSER).status == 200
    assert len(server.queries.asked) == len(written) == 1
    server.clock.advance(1)
    connection.ask("GET /live", BROWSER)
    assert len(server.queries.asked) == len(written) == 2


def test_concurrent_requests_share_a_query_that_no_hang_up_cancels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = inhabited()
    asked: list[Deferred[list[ScraperSeen]]] = []

    async def slow() -> list[ScraperSeen]:
        asked.append(Deferred())
        return await asked[-1]

    monkeypatch.setattr(FakeQueries, "scrapers", lambda self: slow())
    site = server.site()
    first, second = server.connect(site), server.connect(site)
    for connection in (first, second):
        connection.protocol.dataReceived(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n")
    first.hang_up()
    assert len(asked) == 1
    asked[0].callback([ANN])
    (answer,) = second.answers("GET")
    assert "ann" in answer.text


def test_a_client_that_may_not_read_gets_no_page() -> None:
    server = FakeServer(allow_scrape=["198.51.100.0/24"])
    for door in ("/", "/live", "/" + ASSETS["page.css"].address):
        assert server.ask(f"GET {door}", BROWSER).status == 403


def test_a_proxy_may_serve_the_page_below_a_path() -> None:
    """Its style and its script would be missing, and it would show the state of when it was loaded."""
    html = FakeServer().ask("GET /", BROWSER).text
    links = re.findall(r"""(?:href|src|action)=["']([^"']*)["']""", html)
    assert len(links) >= 6
    for link in [*links, "live"]:
        path = urljoin("/below/", link).partition("#")[0]
        assert path.startswith("/below/"), link
        assert FakeServer().ask(f"GET {path.removeprefix('/below')}").status == 200
    script = FakeServer().ask("GET /" + ASSETS["page.js"].address).text
    assert re.findall(r"fetch\(([^,]*),", script) == ['new URL("live"', "where"]
    assert re.findall(r"new URL\(([^,]*),", script) == [
        '"live"',
        "`api/v1/try-hook/${encodeURIComponent(hook)}`",
    ]
    assert "url(" not in FakeServer().ask("GET /" + ASSETS["page.css"].address).text.replace("url(#", "")


@pytest.mark.parametrize(
    ("trusted", "prefix", "path"),
    [
        (["192.0.2.7"], "/one/shot", "/one/shot"),
        (["192.0.2.7"], "/oneshot/", "/oneshot"),
        (["192.0.2.7"], "", ""),
        (["192.0.2.7"], "/", ""),
        (["192.0.2.7"], "oneshot", ""),
        (["192.0.2.7"], '/"><script>', ""),
        (["192.0.2.7"], "//evil.example", ""),
        ([], "/oneshot", ""),
    ],
)
def test_commands_on_the_page_have_the_prefix_of_the_proxy(
    trusted: list[str], prefix: str, path: str
) -> None:
    """What is copied from the page would go to what else the proxy serves."""
    server = FakeServer(trusted=trusted)
    html = server.ask("GET /", BROWSER, f"X-Forwarded-Prefix: {prefix}").text
    assert f"http://oneshot.example:8090{path}/event?type" in html
    assert ("metrics_path: " in html) is bool(path)
    text = server.ask("GET /", f"X-Forwarded-Prefix: {prefix}").text
    assert f"http://oneshot.example:8090{path}/metrics" in text
