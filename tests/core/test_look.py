"""Which reads of /metrics are looks: with a wrong look a scraper gets the same events for ever, and
with a wrong scrape a person takes a scraper's events.

The header sets are those that the clients send.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.core.look import LookReason, look_reason
from oneshotd.core.origin import Origin
from oneshotd.core.scrape_request import ScrapeRequest, read_scrape_request
from oneshotd.errors import Refused

Headers = dict[str, str]

PROMETHEUS: Headers = {
    "User-Agent": "Prometheus/3.5.3+ds1",
    "Accept": "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    "Accept-Encoding": "gzip",
    "X-Prometheus-Scrape-Timeout-Seconds": "10",
}
OTEL: Headers = {**PROMETHEUS, "User-Agent": "otelcol-contrib/0.130.0"}
VICTORIAMETRICS: Headers = {
    "User-Agent": "vm_promscrape",
    "Accept": "text/plain;version=0.0.4;q=1,*/*;q=0.1",
    "Accept-Encoding": "gzip",
    "X-Prometheus-Scrape-Timeout-Seconds": "2.000",
}
TELEGRAF: Headers = {
    "User-Agent": "Telegraf/1.35.0 Go/1.24.3",
    "Accept": "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;"
    "q=0.7,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
    "Accept-Encoding": "gzip",
}
DATADOG: Headers = {
    "User-Agent": "Datadog Agent/7.50.0",
    "Accept": "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip, deflate",
    "Connection": "keep-alive",
}
NODE_FETCH: Headers = {
    "User-Agent": "node",
    "Accept": "*/*",
    "Accept-Language": "*",
    "Sec-Fetch-Mode": "cors",
    "Accept-Encoding": "gzip, deflate",
    "Connection": "keep-alive",
}
DENO_FETCH: Headers = {
    "User-Agent": "Deno/2.3.1",
    "Accept": "*/*",
    "Accept-Language": "*",
    "Accept-Encoding": "gzip,br",
}
JAVA_17: Headers = {
    "User-Agent": "Java/17.0.15",
    "Accept": "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
    "Connection": "keep-alive",
}
JAVA_21: Headers = {"User-Agent": "Java/21.0.7", "Accept": "*/*", "Connection": "keep-alive"}
CURL: Headers = {"User-Agent": "curl/8.14.1", "Accept": "*/*"}
WGET: Headers = {"User-Agent": "Wget/1.25.0", "Accept": "*/*", "Accept-Encoding": "identity"}
REQUESTS: Headers = {"User-Agent": "python-requests/2.32.3", "Accept": "*/*", "Accept-Encoding": "gzip"}
GO: Headers = {"User-Agent": "Go-http-client/1.1", "Accept-Encoding": "gzip"}

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
CHROMIUM = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36"
)
SAFARI = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/16.1 Safari/605.1.15"
)
NAVIGATION: Headers = {
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Encoding": "gzip, deflate",
    "Accept-Language": "en-US,en;q=0.5",
    "Upgrade-Insecure-Requests": "1",
}
TARGETS_PAGE = "http://prometheus.example:9090/"

SCRAPES: dict[str, Headers] = {
    "Prometheus": PROMETHEUS,
    "a library that names a browser": {"User-Agent": FIREFOX, "Accept": "*/*"},
    "a library that takes every language": {"User-Agent": FIREFOX, "Accept-Language": "*"},
    "the OpenTelemetry Collector": OTEL,
    "VictoriaMetrics": VICTORIAMETRICS,
    "Telegraf": TELEGRAF,
    "Datadog": DATADOG,
    "Node's fetch": NODE_FETCH,
    "Node's fetch for anything but a page": {**NODE_FETCH, "Sec-Fetch-Mode": "no-cors"},
    "Deno's fetch": DENO_FETCH,
    "Java's URLConnection": JAVA_17,
    "Java's URLConnection, newer": JAVA_21,
    "curl": CURL,
    "wget": WGET,
    "requests": REQUESTS,
    "Go": GO,
    "HTTP/1.0 without headers": {},
    "a client that takes no XHTML": {"Accept": "text/plain, application/xhtml+xml;q=0"},
    "a client that takes no HTML": {"Accept": "text/plain, text/html;q=0, text/html;q=0.0"},
    "types that only resemble XHTML": {"Accept": "application/xhtml+xml-like, x/application/xhtml+xml"},
    "XHTML in a quoted string": {"Accept": 'text/plain; note=", application/xhtml+xml"'},
    "headers that only resemble a browser's": {"X-Origin": "a", "X-Sec-Fetch-Site": "none"},
}
PAGE, BROWSER = LookReason.PAGE, LookReason.BROWSER
LOOKS: dict[str, tuple[Headers, LookReason]] = {
    "Firefox, HTTPS or localhost, address typed": (
        NAVIGATION
        | {
            "User-Agent": FIREFOX,
            "Sec-Fetch-Dest": "document",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Site": "none",
            "Sec-Fetch-User": "?1",
        },
        PAGE,
    ),
    "Chromium, HTTPS, click on the targets page": (
        NAVIGATION
        | {
            "User-Agent": CHROMIUM,
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-User": "?1",
            "Sec-Fetch-Dest": "document",
            "sec-ch-ua-platform": '"Linux"',
            "Referer": TARGETS_PAGE,
        },
        PAGE,
    ),
    "Chromium, HTTP, click on the targets page": (
        NAVIGATION
        | {
            "User-Agent": CHROMIUM,
            "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,"
            "image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7",
            "Referer": TARGETS_PAGE,
        },
        BROWSER,
    ),
    "Firefox, HTTP, click on the targets page": (
        NAVIGATION | {"User-Agent": FIREFOX, "Referer": TARGETS_PAGE, "Priority": "u=0, i"},
        BROWSER,
    ),
    "Safari, HTTP, address typed": (NAVIGATION | {"User-Agent": SAFARI}, BROWSER),
    "Safari, HTTP, behind a proxy that drops what it does not know": (
        {"User-Agent": SAFARI, "Accept": NAVIGATION["Accept"]},
        BROWSER,
    ),
    "another site's image over plain HTTP": (
        {
            "User-Agent": FIREFOX,
            "Accept": "image/avif,image/webp,image/png,*/*;q=0.5",
            "Accept-Language": "en-US,en;q=0.5",
            "Referer": "http://elsewhere.example/",
        },
        BROWSER,
    ),
    "a browser behind a proxy that rewrites Accept": (
        {"User-Agent": FIREFOX, "Accept": "*/*", "Upgrade-Insecure-Requests": "1"},
        BROWSER,
    ),
    "a browser in another spelling": ({"Accept": "*/*;q=0.1 , Application/XHTML+XML ; q=.9"}, BROWSER),
    "lynx": (
        {
            "User-Agent": "Lynx/2.9.2 libwww-FM/2.14",
            "Accept": "text/html, text/plain, text/sgml, text/css, application/xhtml+xml, */*;q=0.01",
        },
        BROWSER,
    ),
    "fetch in a page of the same site, HTTPS": (
        {
            "User-Agent": CHROMIUM,
            "Accept": "*/*",
            "Sec-Fetch-Site": "same-origin",
            "Sec-Fetch-Mode": "cors",
            "Sec-Fetch-Dest": "empty",
        },
        PAGE,
    ),
    "fetch in another site's page, HTTPS": (
        {
            "User-Agent": FIREFOX,
            "Accept": "*/*",
            "Origin": "https://example.net",
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": "cors",
            "Sec-Fetch-Dest": "empty",
        },
        PAGE,
    ),
    "fetch in another site's page, HTTP": (
        {"User-Agent": CHROMIUM, "Accept": "*/*", "Origin": "http://example.net"},
        PAGE,
    ),
    "fetch in a page that hides its origin": ({"User-Agent": CHROMIUM, "Origin": "null"}, PAGE),
    "a picture in another site's page, HTTPS": (
        {
            "User-Agent": FIREFOX,
            "Accept": "image/avif,image/webp,*/*;q=0.8",
            "Sec-Fetch-Dest": "image",
            "Sec-Fetch-Mode": "no-cors",
            "Sec-Fetch-Site": "cross-site",
        },
        PAGE,
    ),
}


def source(headers: Headers) -> Callable[[bytes], str | None]:
    lower = {name.lower(): value for name, value in headers.items()}
    return lambda name: lower.get(name.decode("ascii").lower())


def reason(
    headers: Headers, *, method: bytes = b"GET", look: bool = False, expected: bool = False
) -> LookReason | None:
    return look_reason(method=method, look_parameter=look, header=source(headers), timeout_expected=expected)


@pytest.mark.parametrize("client", SCRAPES)
def test_a_scraper_scrapes(client: str) -> None:
    """As a look it would get the same events with every scrape, for ever."""
    assert reason(SCRAPES[client]) is None


@pytest.mark.parametrize("client", LOOKS)
def test_a_browser_looks(client: str) -> None:
    """A click on a target's link, or a page somewhere, would take the scraper's events."""
    headers, expected = LOOKS[client]
    assert reason(headers) is expected


@pytest.mark.parametrize("client", SCRAPES)
def test_a_head_and_the_parameter_make_a_look_of_every_client(client: str) -> None:
    """A health check and a careful person take nothing."""
    assert reason(SCRAPES[client], method=b"HEAD") is LookReason.HEAD
    assert reason(SCRAPES[client], look=True) is LookReason.PARAMETER


@pytest.mark.parametrize("client", [CURL, TELEGRAF, NODE_FETCH, JAVA_17, {}])
def test_a_request_without_the_usual_timeout_header_looks(client: Headers) -> None:
    """A person's curl with a Prometheus' own URL takes nothing from it."""
    assert reason(client, expected=True) is LookReason.NO_TIMEOUT


@given(st.dictionaries(st.sampled_from(["Accept", "Origin", "Sec-Fetch-Mode"]), st.text(max_size=40)))
def test_no_header_is_an_error(headers: dict[str, str]) -> None:
    assert reason(headers) in (None, *LookReason)


def test_every_reason_has_words() -> None:
    """The page and the log say why a name gets only looks."""
    assert len({each.text for each in LookReason}) == len(LookReason)


# ---- the record of a request -----------------------------------------------------------------


def read(
    headers: Headers, *, method: bytes = b"GET", usual: str | None = None, **parameters: str
) -> ScrapeRequest:
    return read_scrape_request(
        method=method,
        parameters=parameters,
        header=source(headers),
        address="192.0.2.7",
        local="192.0.2.1",
        timeout_expected=lambda name: name == usual,
    )


def test_the_record_of_a_scrape() -> None:
    """What one reader finds in the request, everything behind it uses."""
    asked = read(PROMETHEUS, scraper="ann", limit="500", timestamps="event", usual="ann")
    assert (asked.visit.name, asked.visit.named, asked.visit.timed) == ("ann", True, True)
    assert (asked.wanted.limits.samples, asked.wanted.format.name, asked.wanted.several) == (
        500,
        "OPENMETRICS",
        True,
    )
    assert asked.wanted.timestamps is not None and asked.wanted.timestamps.value == "event"
    assert asked.origin == Origin(host="192.0.2.7", product="Prometheus")
    assert (asked.deadline, asked.look) == (10.0, None)


def test_the_record_of_a_look() -> None:
    """It is told apart by the identity's own habit, and by no other's."""
    assert read(CURL, scraper="ann", usual="ann").look is LookReason.NO_TIMEOUT
    assert read(CURL, scraper="bob", usual="ann").look is None
    assert read(CURL, scraper="bob", look="").look is LookReason.PARAMETER
    assert read(CURL, scraper="bob", look="1").look is LookReason.PARAMETER
    unnamed = read(CURL)
    assert (unnamed.visit.name, unnamed.visit.named, unnamed.deadline) == ("192.0.2.7 curl", False, 30.0)


@pytest.mark.parametrize("text", ["0", "no", "true", "2", " "])
def test_another_value_of_look_is_refused(text: str) -> None:
    """`look=0` would otherwise be read as its opposite."""
    with pytest.raises(Refused, match="look: expected"):
        read(CURL, look=text)


@pytest.mark.parametrize(("text", "own_only"), [(None, False), ("1", False), ("0", True)])
def test_events_can_be_left_out(text: str | None, own_only: bool) -> None:
    """A store that is pushed to would get the events of a scrape, too."""
    asked = read(PROMETHEUS) if text is None else read(PROMETHEUS, events=text)
    assert asked.own_only is own_only


def test_what_events_says() -> None:
    with pytest.raises(Refused, match="events: expected 0 or 1, got 'no'"):
        read(PROMETHEUS, events="no")
