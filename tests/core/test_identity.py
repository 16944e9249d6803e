"""Identities: if these fail, a scraper gets another's events, or a person consumes a scraper's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.core.identity import (
    MAX_PENDING,
    Visit,
    forwarded_client,
    identify,
    scrape_deadline,
)
from oneshotd.core.sampling.plan import Caps
from oneshotd.errors import Refused

PROXIES = {"127.0.0.1", "10.0.0.1", "10.0.0.2", "2001:db8::1", "unix"}


@pytest.mark.parametrize("name", ["prom-1", "A.b_c:d@e/f", "x" * 64, "0"])
def test_a_given_name_is_the_identity(name: str) -> None:
    """A scraper with a name stays itself wherever it comes from."""
    visit = identify(scraper=name, user_agent=b"Prometheus/3.5.3", address="192.0.2.7", timed=True)
    assert visit == Visit(name=name, named=True, timed=True)


@pytest.mark.parametrize("name", ["", " ", "a b", "a\n", "x" * 65, "ü", "a,b", "a%20b", "\ud800", "x" * 9999])
def test_what_is_no_name_is_refused(name: str) -> None:
    """The operator reads in one short line what is wrong with `?scraper=`."""
    with pytest.raises(Refused) as caught:
        identify(scraper=name, user_agent=None, address="192.0.2.7", timed=False)
    assert (caught.value.reason, caught.value.status) == ("query", 400)
    assert caught.value.text.startswith("scraper: expected 1 to 64 characters")
    assert len(caught.value.text) < 200 and caught.value.text.isprintable()


PRODUCTS: list[tuple[bytes | None, str]] = [
    (b"Prometheus/3.5.3+ds1", "Prometheus"),
    (b"vm_promscrape", "vm_promscrape"),
    (b"curl/7.88", "curl"),
    (b" curl/8.0 ", "curl"),
    (b"Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101", "Mozilla"),
    (b"Datadog Agent/7.50", "Datadog"),
    (b"Go-http-client/1.1", "Go-http-client"),
    (b"OpenTelemetry\tCollector", "OpenTelemetry"),
    (b"x" * 40 + b"/1", "x" * 40),
    (b"x" * 41 + b"/1", "x" * 40),
    (None, "unknown"),
    (b"", "unknown"),
    (b"/1.0", "unknown"),
    (b"(comment)", "unknown"),
    (b"a<b>", "unknown"),
    (b'"quoted"/1', "unknown"),
    (b"Prom\xc3\xa9theus/1", "unknown"),
    (b"\xff\xfe", "unknown"),
]


@pytest.mark.parametrize(("user_agent", "product"), PRODUCTS)
def test_unnamed_scrapers_are_told_apart_by_address_and_product(
    user_agent: bytes | None, product: str
) -> None:
    """A curl on the Prometheus host steals nothing, and an upgrade of Prometheus is no newcomer."""
    visit = identify(scraper=None, user_agent=user_agent, address="192.0.2.7", timed=False)
    assert visit == Visit(name=f"192.0.2.7 {product}")


@given(st.none() | st.binary(max_size=60), st.sampled_from(["192.0.2.7", "2001:db8::7"]))
def test_no_unnamed_identity_can_be_given_as_a_name(user_agent: bytes | None, address: str) -> None:
    """Nobody gets at an unnamed scraper's events by naming himself like it."""
    name = identify(scraper=None, user_agent=user_agent, address=address, timed=False).name
    assert name.isprintable() and len(name) <= len(address) + 41
    with pytest.raises(Refused):
        identify(scraper=name, user_agent=None, address=address, timed=False)


# peer, X-Forwarded-For headers, X-Real-Ip, the client
FORWARDED: list[Any] = [
    pytest.param("192.0.2.7", [], None, "192.0.2.7", id="no proxy"),
    pytest.param("::ffff:192.0.2.7", [], None, "192.0.2.7", id="the IPv4 address of a dual-stack socket"),
    pytest.param(
        "192.0.2.7", ["198.51.100.1"], "198.51.100.1", "192.0.2.7", id="an untrusted client claims another"
    ),
    pytest.param("127.0.0.1", [], None, "127.0.0.1", id="the proxy itself"),
    pytest.param(
        "::ffff:127.0.0.1", ["198.51.100.1"], None, "198.51.100.1", id="a proxy on a dual-stack socket"
    ),
    pytest.param("127.0.0.1", ["198.51.100.1"], None, "198.51.100.1", id="one proxy"),
    pytest.param("127.0.0.1", ["203.0.113.9, 198.51.100.1"], None, "198.51.100.1", id="a client that claims"),
    pytest.param("127.0.0.1", ["198.51.100.1, 10.0.0.1,10.0.0.2"], None, "198.51.100.1", id="three proxies"),
    pytest.param("127.0.0.1", ["198.51.100.1", "10.0.0.1"], None, "198.51.100.1", id="a header a proxy"),
    pytest.param("127.0.0.1", ["10.0.0.1, 10.0.0.2"], None, "10.0.0.1", id="a proxy scrapes by itself"),
    pytest.param("127.0.0.1", ["198.51.100.1, unknown"], None, "127.0.0.1", id="garbage at once"),
    pytest.param("127.0.0.1", ["198.51.100.1, 1.2.3, 10.0.0.1"], None, "10.0.0.1", id="garbage further on"),
    pytest.param(
        "127.0.0.1", ["10.0.0.300"], "198.51.100.1", "127.0.0.1", id="garbage, and the other header"
    ),
    pytest.param("127.0.0.1", [", 198.51.100.1 ,, "], None, "198.51.100.1", id="empty list elements"),
    pytest.param("127.0.0.1", ["192.0.2.1:4711"], None, "192.0.2.1", id="IPv4 with port"),
    pytest.param("127.0.0.1", ["[2001:db8::9]:80"], None, "2001:db8::9", id="IPv6 with port"),
    pytest.param("127.0.0.1", ["[2001:db8::9]"], None, "2001:db8::9", id="IPv6 in brackets"),
    pytest.param("127.0.0.1", ["2001:DB8:0::9"], None, "2001:db8::9", id="IPv6 in another spelling"),
    pytest.param("127.0.0.1", ["198.51.100.1, [2001:db8::1]:80"], None, "198.51.100.1", id="an IPv6 proxy"),
    pytest.param("127.0.0.1", ["::ffff:198.51.100.1"], None, "198.51.100.1", id="a mapped hop"),
    pytest.param("127.0.0.1", ["198.51.100.1, ::ffff:10.0.0.1"], None, "198.51.100.1", id="a mapped proxy"),
    pytest.param("127.0.0.1", ["fe80::9%a b"], None, "fe80::9", id="a zone, which may hold anything"),
    pytest.param("127.0.0.1", ["[::1"], None, "127.0.0.1", id="half a bracket"),
    pytest.param("127.0.0.1", ["192.0.2.1:"], None, "127.0.0.1", id="a colon without a port"),
    pytest.param("127.0.0.1", [], "198.51.100.1", "198.51.100.1", id="X-Real-Ip"),
    pytest.param(
        "127.0.0.1", [" "], " 198.51.100.1:80 ", "198.51.100.1", id="X-Real-Ip beside an empty list"
    ),
    pytest.param("127.0.0.1", ["192.0.2.1"], "198.51.100.1", "192.0.2.1", id="the list before X-Real-Ip"),
    pytest.param("127.0.0.1", [], "me", "127.0.0.1", id="X-Real-Ip is garbage"),
    pytest.param("unix", ["198.51.100.1"], None, "198.51.100.1", id="a proxy at a UNIX socket"),
    pytest.param("unix", [], "198.51.100.1", "198.51.100.1", id="X-Real-Ip at a UNIX socket"),
    pytest.param("unix", [], None, "unix", id="a UNIX socket without a proxy"),
    pytest.param("127.0.0.1", ["198.51.100.1, unix:"], None, "198.51.100.1", id="nginx at a UNIX socket"),
    pytest.param("127.0.0.1", ["unix:"], None, "unix", id="a client of nginx's own UNIX socket"),
]


@pytest.mark.parametrize(("peer", "x_forwarded_for", "x_real_ip", "client"), FORWARDED)
def test_the_client_behind_proxies(
    peer: str, x_forwarded_for: list[str], x_real_ip: str | None, client: str
) -> None:
    """A client could take another's identity by headers, or all clients behind a proxy share one."""
    assert forwarded_client(peer, x_forwarded_for, x_real_ip, PROXIES) == client


@given(st.lists(st.text(max_size=12)), st.none() | st.text(max_size=12))
def test_headers_of_strangers_count_for_nothing(x_forwarded_for: list[str], x_real_ip: str | None) -> None:
    """Whatever they write, their address stays what the connection says."""
    assert forwarded_client("192.0.2.7", x_forwarded_for, x_real_ip, PROXIES) == "192.0.2.7"


@given(st.text(max_size=20))
def test_what_a_client_writes_does_not_reach_past_its_proxy(claim: str) -> None:
    """A trusted proxy appends what it saw; all that the client put before it is ignored."""
    assert forwarded_client("127.0.0.1", [claim, "198.51.100.1"], claim, PROXIES) == "198.51.100.1"


DEADLINES: list[tuple[bytes | None, float]] = [
    (b"10", 10.0),
    (b"2.000", 2.0),
    (b" 9.5 ", 9.5),
    (b"0.2", 1.0),
    (b"0", 1.0),
    (b"1", 1.0),
    (b"120", 120.0),
    (b"121", 120.0),
    (b"1" * 300, 120.0),
    (None, 30.0),
    (b"", 30.0),
    (b"-1", 30.0),
    (b"nan", 30.0),
    (b"inf", 30.0),
    (b"-inf", 30.0),
    (b"10s", 30.0),
    (b"\xff", 30.0),
    (b"1,5", 30.0),
]


@pytest.mark.parametrize(("header", "seconds"), DEADLINES)
def test_the_deadline_of_a_scrape(header: bytes | None, seconds: float) -> None:
    """Too short and a delivery is taken back unread, too long and a dead scraper blocks itself."""
    assert scrape_deadline(header) == seconds


@given(st.binary(max_size=8) | st.floats().map(lambda number: str(number).encode()))
def test_the_deadline_is_bounded(header: bytes) -> None:
    """No header keeps a delivery open for ever."""
    assert 1 <= scrape_deadline(header) <= 120


def test_a_scraper_owed_its_fill_still_gets_to_the_log() -> None:
    """Otherwise one series that queues would keep everything else from a scraper."""
    assert Caps().owed < MAX_PENDING
