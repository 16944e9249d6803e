"""Who is who to the daemon: names, addresses, proxies, and people who only look.

A failure shows as events that a server never got, because somebody else had taken them, or got twice.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from attrs import frozen
from support.daemon import BROWSER, Daemon
from support.debian_packages import fetch
from support.processes import free_port
from support.prometheus import Prometheus, scrape_config

pytestmark = pytest.mark.e2e

#: On this machine: any address of 127.0.0.0/8 is, and ::1 is the only one of IPv6.
PROXY, PROXY_6 = "127.0.0.9", "::1"
OUTSIDE = "127.0.0.2"

TIMEOUT = {"X-Prometheus-Scrape-Timeout-Seconds": "10"}
PROMETHEUS = {"User-Agent": "Prometheus/3.5.3", **TIMEOUT}
CURL = {"User-Agent": "curl/8.14.1", "Accept": "*/*"}
#: What a browser sends when somebody clicks a link of Prometheus' targets page.
CLICK = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "cross-site",
    "Upgrade-Insecure-Requests": "1",
}

NUMBERS = count(1)

_SEEN = re.compile(r'^oneshotd_scraper_last_seen_timestamp_seconds\{scraper="(.*)"\} ', re.MULTILINE)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind((PROXY_6, 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="there is no ::1 here")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """It believes the proxies."""
    with started(tmp_path_factory.mktemp("trusting"), PROXY, PROXY_6) as running:
        yield running


@pytest.fixture(scope="module")
def wary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """It believes nobody who is here."""
    with started(tmp_path_factory.mktemp("wary"), "2001:db8::/32") as running:
        yield running


def started(folder: Path, *trusted: str) -> Daemon:
    port = free_port()
    options = [f"--http=tcp:{port}:interface=127.0.0.1", f"--udp=127.0.0.1:{port}"]
    if has_ipv6():
        options.append(f"--http=tcp6:{port}:interface=\\:\\:1")
    options.append(f"--store=sqlite:{folder / 'oneshotd.sqlite'}")
    options += [f"--trusted-proxy={network}" for network in trusted]
    return Daemon(folder, options=options, port=port)


@frozen
class Answer:
    """What came of a read of /metrics."""

    text: str
    is_look: bool

    def has(self, name: str) -> bool:
        """Whether an event of this metric is in it."""
        return any(line.split(" ")[0] == name for line in self.text.splitlines())


def read(
    daemon: Daemon, source: str = "127.0.0.1", path: str = "/metrics", headers: Mapping[str, str] = PROMETHEUS
) -> Answer:
    """Read from this address of ours, on a connection of its own."""
    host = PROXY_6 if ":" in source else "127.0.0.1"
    line = http.client.HTTPConnection(host, daemon.port, timeout=10, source_address=(source, 0))
    with closing(line):
        line.request("GET", path, headers=dict(headers))
        with line.getresponse() as answer:
            body = answer.read().decode()
            assert answer.status == 200, body
            return Answer(body, answer.headers["Oneshotd-Look"] == "1")


def happened(daemon: Daemon) -> str:
    """Report an event of a metric that was never there before; its name."""
    name = f"event_{next(NUMBERS)}"
    request = urllib.request.Request(f"{daemon.url}/event?__name__={name}", method="POST")
    with BROWSER.open(request, timeout=10) as answer:
        assert answer.status == 200
    return name


def known(daemon: Daemon) -> set[str]:
    """The scrapers that the daemon waits for."""
    return set(_SEEN.findall(daemon.look()))


# ---- names and addresses ---------------------------------------------------------------------


def test_every_name_and_every_pair_of_address_and_product_gets_each_event_once(daemon: Daemon) -> None:
    """A curl on Prometheus' host takes nothing from it, nor does one server take from another."""
    readers = [
        ("127.0.0.1", "/metrics?scraper=ann", PROMETHEUS),
        ("127.0.0.1", "/metrics?scraper=bob", PROMETHEUS),
        ("127.0.0.1", "/metrics", PROMETHEUS),
        ("127.0.0.1", "/metrics", {"User-Agent": "vm_promscrape", **TIMEOUT}),
        ("127.0.0.1", "/metrics", CURL),
        ("127.0.0.3", "/metrics", PROMETHEUS),
        ("127.0.0.3", "/metrics", CURL),
    ]
    for source, path, headers in readers:
        read(daemon, source, path, headers)
    name = happened(daemon)
    assert [read(daemon, *reader).has(name) for reader in readers] == [True] * len(readers)
    assert [read(daemon, *reader).has(name) for reader in readers] == [False] * len(readers)


def test_an_upgrade_and_another_port_do_not_make_a_new_scraper(daemon: Daemon) -> None:
    """Else an upgrade of Prometheus would bring the last five minutes twice."""
    source = "127.0.0.4"
    name = happened(daemon)
    assert read(daemon, source, headers={**PROMETHEUS, "User-Agent": "Prometheus/2.42.0"}).has(name)
    assert not read(daemon, source, headers={**PROMETHEUS, "User-Agent": "Prometheus/3.5.3+ds1"}).has(name)


def test_a_named_scraper_that_moves_goes_on_where_it_was(daemon: Daemon) -> None:
    """A Prometheus that comes up on another host misses nothing and gets nothing twice."""
    path = "/metrics?scraper=moving"
    had = happened(daemon)
    assert read(daemon, "127.0.0.5", path).has(had)
    missed = happened(daemon)
    moved = read(daemon, "127.0.0.6", path)
    assert moved.has(missed) and not moved.has(had)
    for source in ("127.0.0.5", "127.0.0.6"):
        answer = read(daemon, source, path)
        assert not answer.has(missed) and not answer.has(had)


def test_an_unnamed_scraper_that_moves_is_a_newcomer(daemon: Daemon) -> None:
    """So the docs tell everybody to give it a name."""
    had = happened(daemon)
    assert read(daemon, "127.0.0.7").has(had)
    assert read(daemon, "127.0.0.8").has(had)


# ---- proxies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "headers", "address"),
    [
        (PROXY, {"X-Forwarded-For": "192.0.2.7"}, "192.0.2.7"),
        (PROXY, {"X-Forwarded-For": "2001:db8::1"}, "2001:db8::1"),
        (PROXY, {"X-Real-IP": "192.0.2.8"}, "192.0.2.8"),
        (PROXY, {"X-Forwarded-For": "203.0.113.66, 192.0.2.9"}, "192.0.2.9"),
        pytest.param(PROXY_6, {"X-Forwarded-For": "2001:DB8:0::2"}, "2001:db8::2", marks=needs_ipv6),
        pytest.param(PROXY_6, {"X-Forwarded-For": "::ffff:192.0.2.10"}, "192.0.2.10", marks=needs_ipv6),
        pytest.param(
            PROXY_6, {"X-Forwarded-For": f"[2001:db8::3]:4711, {PROXY}"}, "2001:db8::3", marks=needs_ipv6
        ),
        pytest.param(
            PROXY_6, {"X-Forwarded-For": "2001:db8::66, 2001:db8::4"}, "2001:db8::4", marks=needs_ipv6
        ),
        (OUTSIDE, {"X-Forwarded-For": "192.0.2.7"}, OUTSIDE),
        (OUTSIDE, {"X-Forwarded-For": f"192.0.2.7, {PROXY}"}, OUTSIDE),
        (OUTSIDE, {"X-Real-IP": "192.0.2.7"}, OUTSIDE),
    ],
)
def test_a_client_behind_trusted_proxies_is_known_by_its_own_address(
    daemon: Daemon, source: str, headers: dict[str, str], address: str
) -> None:
    """Scrapers behind a proxy are told apart, and only as far as a proxy of ours vouches for it."""
    product = f"case{next(NUMBERS)}"
    for _ in range(3):
        read(daemon, source, headers={**TIMEOUT, "User-Agent": f"{product}/1.0", **headers})
    assert {name for name in known(daemon) if product in name} == {f"{address} {product}"}


@pytest.mark.parametrize("source", [OUTSIDE, pytest.param(PROXY_6, marks=needs_ipv6)])
@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP"])
def test_a_forged_header_is_nothing_where_no_proxy_is_trusted(wary: Daemon, source: str, header: str) -> None:
    product = f"case{next(NUMBERS)}"
    for forged in ("192.0.2.7", "2001:db8::7", "127.0.0.1"):
        read(wary, source, headers={**TIMEOUT, "User-Agent": f"{product}/1.0", header: forged})
    assert {name for name in known(wary) if product in name} == {f"{source} {product}"}


def test_nobody_outside_takes_a_scrapers_events_by_its_address(daemon: Daemon) -> None:
    behind = {**PROMETHEUS, "X-Forwarded-For": "192.0.2.20"}
    read(daemon, PROXY, headers=behind)
    name = happened(daemon)
    read(daemon, OUTSIDE, headers=behind)
    read(daemon, OUTSIDE, headers={**PROMETHEUS, "X-Real-IP": "192.0.2.20"})
    assert read(daemon, PROXY, headers=behind).has(name)


# ---- people ----------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [CLICK, CURL], ids=["a click", "a curl"])
@pytest.mark.parametrize("path", ["/metrics?scraper=watched", "/metrics"])
def test_a_person_who_reads_a_scrapers_own_url_takes_nothing(
    daemon: Daemon, path: str, headers: dict[str, str]
) -> None:
    """Curiosity costs no Prometheus an event, not even with its own name or User-Agent."""
    if "scraper" not in path:
        headers = {**headers, "User-Agent": PROMETHEUS["User-Agent"]}
    # One delivery by which the daemon knows how this scraper asks.
    expected = happened(daemon)
    assert read(daemon, path=path).has(expected)
    name = happened(daemon)
    for _ in range(2):
        shown = read(daemon, path=path, headers=headers)
        assert shown.is_look and shown.has(name)
    scraped = read(daemon, path=path)
    assert scraped.has(name) and not scraped.is_look
    assert not read(daemon, path=path).has(name)


def test_a_click_over_plain_http_takes_nothing(daemon: Daemon) -> None:
    """Browsers send no Sec-Fetch-* to a target that is neither HTTPS nor localhost."""
    headers = {name: value for name, value in CLICK.items() if not name.startswith("Sec-")}
    path = "/metrics?scraper=plain"
    name = happened(daemon)
    assert read(daemon, path=path, headers=headers).is_look
    assert read(daemon, path=path).has(name)


@pytest.mark.parametrize("client", ["node", "java"])
def test_a_library_that_resembles_a_browser_gets_each_event_once(daemon: Daemon, client: str) -> None:
    """It would get looks, and with each the same events again."""
    headers = {
        "node": {"User-Agent": "node", "Accept": "*/*", "Accept-Language": "*", "Sec-Fetch-Mode": "cors"},
        "java": {
            "User-Agent": "Java/17.0.15",
            "Accept": "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
        },
    }[client]
    name = happened(daemon)
    assert read(daemon, path=f"/metrics?scraper={client}", headers=headers).has(name)
    assert not read(daemon, path=f"/metrics?scraper={client}", headers=headers).has(name)


def test_the_parameter_look_takes_nothing(daemon: Daemon) -> None:
    path = "/metrics?scraper=careful"
    name = happened(daemon)
    assert read(daemon, path=f"{path}&look").is_look
    assert read(daemon, path=path).has(name)


def test_a_crowd_that_came_once_does_not_shut_a_named_scraper_out(tmp_path: Path) -> None:
    """200 visitors held all places for as long as events are kept."""
    with Daemon(tmp_path) as crowded:
        name = happened(crowded)
        for number in range(200):
            read(crowded, headers={"User-Agent": f"visitor{number}/1.0"})
        assert not read(crowded, headers={"User-Agent": "another/1.0"}).has(name)
        assert read(crowded, path="/metrics?scraper=ann").has(name)
        assert not read(crowded, path="/metrics?scraper=ann").has(name)
        assert "ann" in known(crowded)


def test_a_click_is_a_look_before_the_first_delivery_too(daemon: Daemon) -> None:
    """The targets page is looked at most when a scraper has just been set up."""
    path = "/metrics?scraper=fresh"
    name = happened(daemon)
    assert read(daemon, path=path, headers=CLICK).is_look
    assert "fresh" not in known(daemon)
    assert read(daemon, path=path).has(name)


# ---- real servers ----------------------------------------------------------------------------

TWO_JOBS = """\
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: one
    params: {{scraper: [ann/one]}}
    static_configs: [{{targets: ["{target}"]}}]
  - job_name: two
    params: {{scraper: [ann/two]}}
    static_configs: [{{targets: ["{target}"]}}]
"""


def test_two_jobs_and_two_servers_behind_one_address_get_all_and_a_click_nothing(tmp_path: Path) -> None:
    """Every dashboard of each shows what happened, and the links of its targets page are harmless."""
    binary = fetch("prometheus") / "usr/bin/prometheus"
    with Daemon(tmp_path / "daemon") as daemon:
        target = f"127.0.0.1:{daemon.port}"
        ann = Prometheus(binary, tmp_path / "ann", TWO_JOBS.format(target=target), name="ann")
        bob = Prometheus(binary, tmp_path / "bob", scrape_config("bob", target), name="bob")
        with ann, bob:
            first = happened(daemon)
            expected = {ann: {'job="one"': 1.0, 'job="two"': 1.0}, bob: {'job="oneshotd"': 1.0}}
            await_counts(first, expected)
            urls = [url for server in expected for url in scrape_urls(server)]
            assert len(urls) == 3

            # While nobody scrapes, so that there is something to take.
            for server in expected:
                server.stop()
            second = happened(daemon)
            for url in urls:
                asked = urllib.parse.urlsplit(url)
                for headers in (CLICK, CURL):
                    shown = read(daemon, path=f"{asked.path}?{asked.query}", headers=headers)
                    assert shown.is_look and shown.has(second)
            for server in expected:
                server.start()
            await_counts(second, expected)
            for server in expected:
                server.await_scrapes(2)
                for name in (first, second):
                    assert counts(server, name) == expected[server]
                assert server.unhealthy_targets() == []
        assert daemon.errors() == []


def await_counts(name: str, expected: Mapping[Prometheus, dict[str, float]]) -> None:
    for server, goal in expected.items():
        server.process.until(partial(has_counts, server, name, goal), 20, f"{name}: {goal}")


def has_counts(server: Prometheus, name: str, goal: dict[str, float]) -> bool:
    return counts(server, name) == goal


def counts(server: Prometheus, name: str) -> dict[str, float]:
    """Job -> how often it happened."""
    return server.by_labels(f"sum by (job) (sum_over_time({name}[10m]))")


def scrape_urls(server: Prometheus) -> list[str]:
    """The links of its targets page."""
    with BROWSER.open(f"{server.url}/api/v1/targets?state=active", timeout=10) as answer:
        targets = json.loads(answer.read())["data"]["activeTargets"]
    return [target["scrapeUrl"] for target in targets]
